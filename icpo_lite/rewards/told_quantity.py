"""What kind of thing the numbers of a fact tell: a price, a time, a count of something."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.words import stem
from icpo_lite.rewards.asked_quantity import COMPARES, ENDS_NOUN, WORD, Quantity
from icpo_lite.rewards.quantity_words import NAMED, UNITS


def _stuff_words(clause: str, number: NumberMention) -> set[str]:
    """Of "3 cups of hot coffee": what it is that the nouns behind the number are made of."""
    of = _OF.match(clause, number.unit_end)
    return {stem(w) for w in of[1].split() if w.lower() not in ENDS_NOUN} if of else set()


def _noun_words(clause: str, number: NumberMention) -> set[str]:
    """Of "4 adult patients" and "3 cups of coffee": all nouns that the number counts."""
    if hyphened := _HYPHENED.match(clause, number.end):
        return {stem(hyphened[1])}
    words = {stem(w) for w in WORD.findall(clause[number.end : number.unit_end])}
    words |= _stuff_words(clause, number)
    if not words and _TIMES.match(clause, number.end):
        words.add("tim")
    return words


_TIMES = re.compile(r" times\b", re.I)
_HYPHENED = re.compile(r"-([a-z]+)", re.I)
_OF = re.compile(r" of (?:(?:the|his|her|their|its|these|those) )?([a-z]+(?: [a-z]+)?)", re.I)
_SPEED = re.compile(
    r"\b(?:mph|kph|km/h"
    r"|(?:miles?|km|kilometers?|feet|meters?) (?:per|an?|each) (?:hour|second|minute))\b",
    re.IGNORECASE,
)
_OFTEN = re.compile(
    r"\b(?:twice|once)\b[^.,;]{0,20}\b(?:an?|per|each|every) (?:day|week|month|year|hour|night)"
    r"|\btimes?\b",
    re.IGNORECASE,
)
_AGED = re.compile(
    r"\b(?:ages?|aged|old|older|younger|turns?|birthday|brother|sister|years?)\b", re.I
)
_OLDER = re.compile(r"\b(?:older|younger|age|as old)\b", re.IGNORECASE)
_TIMES_AS_MANY = re.compile(r"\b(?:times|twice|half) as many ([a-z]+)", re.IGNORECASE)
_CLOCK = re.compile(r"\b\d{1,2}(?::\d\d)? ?(?:[ap]\.?m\b|o'clock)", re.I)
_WEIGHS = re.compile(r"\bweigh", re.I)


#: People whose names are quantities, or their units, where they begin with a small letter.
_NAMES = frozenset({"Bill", "Penny", "Mark", "Grant", "Miles", "Max", "Dollar", "Price", "Rich"})


@lru_cache(maxsize=16384)
def told(clause: str, sentence: str, of: frozenset[Fraction]) -> Quantity:
    """What the numbers of a fact are.

    clause: the part of the fact that holds them, sentence: the whole of it. of: values of the
    numbers that count; others in the clause are beside the point.
    """
    sorts: set[str] = set()
    nouns: set[str] = set()
    stuff: set[str] = set()
    for number in numbers(clause):
        if number.kind == "ordinal" or number.value not in of:
            continue
        counted = _noun_words(clause, number)
        nouns |= counted
        stuff |= _stuff_words(clause, number)
        if number.kind == "money":
            sorts.add("money")
        elif number.kind in ("percent", "fraction"):
            sorts |= {"share", "factor"}
        elif number.kind == "multiple":
            sorts |= {"factor", "frequency"}
        else:
            units = {u for noun in counted for u in UNITS.get(noun, ())}
            sorts |= units - ({"money"} if "count" in units else set()) or {"count"}
            if "tim" in counted:
                sorts |= {"factor", "frequency"}
    nouns -= {"", "$", "%"}
    if not sorts:
        return Quantity(measurable=False)
    if _SPEED.search(clause):
        sorts |= {"speed"}
        sorts.discard("length")
    if _OFTEN.search(clause):
        sorts |= {"frequency"}
    if many := _TIMES_AS_MANY.search(clause):
        sorts |= {"count"}
        nouns.add(stem(many[1]))
    if "factor" in sorts and _OLDER.search(clause):
        sorts |= {"age"}
    if "time" in sorts and _AGED.search(sentence):
        sorts |= {"age"}
    if _CLOCK.search(clause):
        sorts |= {"clock"}
    if _WEIGHS.search(clause):
        sorts |= {"weight"}
    words = WORD.findall(clause)
    for before, word in zip(["", *words], words, strict=False):
        named = NAMED.get(stem(word), frozenset()) if word not in _NAMES else frozenset()
        if len(named) == 1 and sorts == {"count"} and before.lower() != "for":
            sorts |= named
    return Quantity(
        frozenset(sorts),
        frozenset(nouns),
        compared=bool(COMPARES.search(clause)),
        stuff=frozenset(stuff),
    )
