"""Questions that share a removed fact's words and still ask for another quantity.

Likeness alone (`fact_likeness`) lets them pass: "How many cupcakes are in each batch?" has every
word of "She made 4 batches of cupcakes". Each test here knows one way in which a question misses:
another time, what was added to what is there, the whole of a part, the other side of a comparison,
what one of the counted things holds, a thing of another name. Each speaks only where both texts say
it; where one of them is silent, likeness decides.

The tables: written by hand as ordinary English. tests/claims/question_targets.py measures what is
built on them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import lru_cache

from icpo_lite.core.numbers import numbers
from icpo_lite.core.words import bag, is_plural, stem
from icpo_lite.rewards.fact_reading import Asked, Fact, Frame
from icpo_lite.rewards.near_events import (
    added,
    at_first,
    done,
    first,
    main,
    opposite,
    other_time,
    purse,
    rate,
    whole,
)
from icpo_lite.rewards.quantity_words import PEOPLE, UNITS
from icpo_lite.rewards.subject_keys import RELATIONS, SORT_TAGS, keys, names, same_thing

#: Tags of time and of amount: a speaker may add them to any question.
_LOOSE = frozenset(
    f"~{tag}"
    for tag in bag("time day week month year now first start left all more plain trip work")
)
_WORD = re.compile(r"[A-Za-z][A-Za-z']*")


def near_miss(question: str, asked: Asked, fact: Fact, frame: Frame) -> str:
    """How a question that is like a fact misses its number, in a word or two; "" where it may not.

    fact: a removed one, with its text (`Fact.text`, `Fact.said`).
    """
    kinds = (name for name, misses in _KINDS.items() if misses(question, asked, fact, frame))
    return next(kinds, "")


# --------------------------------------------------------- the other side, what one of them holds

_COMES_IN = re.compile(
    r"\b(?:earn(?:s|ed|ings?)?|income|salary|wages?|revenue|profits?|takings|proceeds|paycheck)\b",
    re.I,
)
_GOES_OUT = re.compile(
    r"\b(?:spen[dt]s?|spending|costs?|price[sd]?|expenses?|fees?|bills?)\b", re.I
)


def _other_flow(question: str, _asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "What does she earn?" against "She spent $133"."""
    flows = ((_COMES_IN, _GOES_OUT), (_GOES_OUT, _COMES_IN))
    return any(
        hers.search(question)
        and its.search(fact.said)
        and not (its.search(question) or hers.search(fact.said))
        for hers, its in flows
    )


_ALL_OF_THEM = re.compile(r"\b(?:altogether|in total|in all|overall|all told)\b", re.IGNORECASE)


def _all_of_them(question: str, asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "How many balls altogether?" against "Al has 3 more than Bo", "There are 10 red balls"."""
    if not _ALL_OF_THEM.search(question) or _ALL_OF_THEM.search(fact.text):
        return False
    if fact.tells.compared and not asked.quantity.compared:
        return True
    if fact.tells.sorts == {"money"} and fact.each:
        return True  # "$2 a dozen" is no sum
    hers, its = _modified(question), _modified(fact.said)
    others = [_modified(other.said) for other in frame.readable]
    return any(
        noun not in hers and any(o[noun] - its[noun] for o in others if noun in o)
        for noun in asked.quantity.nouns & its.keys()
    )


_THAN = re.compile(r"\bthan\b", re.IGNORECASE)
_PRONOUN = re.compile(r"\b(?:he|she|they)\b", re.IGNORECASE)
_AS_OTHERS = re.compile(
    r"\b(?:times|twice|half|double|as|of) (?:the |as )?(?:\w+ ){0,3}?"
    r"(?:price|amount|number|as|what|that)\b(?: of| that)?",
    re.IGNORECASE,
)


def _other_side(question: str, asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "How many points did John score?" against "Grant scored 10 more than John"."""
    if asked.quantity.compared or "factor" in asked.quantity.sorts & fact.tells.sorts:
        return False
    if not fact.tells.compared:
        return _of_others(question, asked, fact, frame)
    parts = _THAN.split(fact.said, maxsplit=1)
    if len(parts) < 2:
        return False
    people, others = (names(part) & frame.people for part in parts)
    if asked.people & (people | others):
        return not asked.people & people
    mine, theirs = (keys(part) - SORT_TAGS for part in parts)
    return bool(mine - theirs) and not asked.about & (mine - theirs)


def _of_others(question: str, asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "How many did Bob buy?" against "Alice bought 36 for nine times the price that Bob paid"."""
    match = _AS_OTHERS.search(fact.said)
    if match is None or _PRONOUN.search(question):
        return False
    mine, theirs = (
        frozenset(n for n in names(part) & frame.people if "'" not in n)
        for part in (fact.said[: match.start()], fact.said[match.end() :])
    )
    hers = asked.people & theirs and not asked.people & mine
    return bool(mine and hers)


_OF_TWO = re.compile(
    r"\bthan\b|\b(?:difference|gap|margin|exceeds?|out(?:scor|number|weigh|sold|sell|earn)\w*)\b",
    re.I,
)


def _difference(question: str, asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How many more than Mari did Kendra make?" against "Mari made 8"."""
    told = fact.tells
    if not asked.quantity.compared or told.compared or told.sorts & _RELATIVE:
        return False
    return bool(_OF_TWO.search(question))


_RELATIVE = frozenset({"share", "factor"})


def _derived(_question: str, asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "How much is a treadmill?" against "A bike is $700", where it costs twice as much as a bike.

    A given statement tells what is asked by its relation to something else.
    """
    if asked.quantity.sorts & _RELATIVE:
        return False
    mine = _subject(fact.said)
    relations = (f for f in frame.readable if f.tells.compared or f.tells.sorts & _RELATIVE)
    return (
        bool(mine)
        and not mine & asked.about
        and any(
            subject and subject <= asked.about and not subject & fact.clause
            for subject in (_subject(other.said) for other in relations)
        )
    )


#: "It took him twice as long" has no subject that could be told apart.
_LIGHT = _LOOSE | {stem("take"), stem("go"), stem("come")}


@lru_cache(maxsize=16384)
def _subject(statement: str) -> frozenset[str]:
    """Keys of the first word of a statement that says something."""
    found = (keys(word) - SORT_TAGS - RELATIONS - _LIGHT for word in _WORD.findall(statement))
    return next(filter(None, found), frozenset())


_IN_EACH = re.compile(r"\b(?:each|per|every|an? single|one)\s+([a-z]+)", re.IGNORECASE)


#: "How many peas fit into one pod?", of pods that nobody spoke of.
_HOLDS = re.compile(
    r"\b(?:per|(?:in|on|off|from|of|into|to|inside) (?:each|every|one|an?|a single))"
    r" (?!of\b)([a-z]{3,})"
    r"|\b(?:does|do|can|will) (?:each|every|one|an?|a single) ([a-z]{3,}) "
    r"(?:hold|have|contain|fit|carry|take)\b",
    re.IGNORECASE,
)
#: What a rate may be told by: each of these is a time.
_TIMES = frozenset(stem(w) for w in bag("visit trip time occasion turn round session go order"))


def _content(question: str, asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "How many cupcakes are in each batch?" against "She made 4 batches of cupcakes"."""
    wants = asked.quantity.nouns
    if not wants or wants & PEOPLE or not fact.tells.nouns - fact.tells.stuff:
        return False
    strange = (
        {stem((m[1] or m[2]).lower()) for m in _HOLDS.finditer(question)} - UNITS.keys() - PEOPLE
    )
    if not fact.each and strange - frame.nouns - _TIMES:
        return True
    holders = {stem(m[1].lower()) for m in _IN_EACH.finditer(question)} - UNITS.keys()
    return any(
        holder in fact.tells.nouns - fact.tells.stuff
        and not any(same_thing(holder, noun) for noun in wants)
        for holder in holders
    )


_TOGETHER = re.compile(r"[A-Z]\w+(?:(?:, [A-Z]\w+(?: [A-Z]\w+)?)*,)? and (?:[A-Z]\w+)")
_STOP = re.compile(r"[.?!]\s")
_BOTH = re.compile(r"\b(?:both|all|they|their|total|together|altogether|combined)\b", re.I)
_AND = re.compile(r"\s+([a-z]+) and ([a-z]+)\b(?! (?:the|an?|his|her|their|them|it|to|\d+)\b)")


def _one_of_them(question: str, asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "How many cats has Al?" against "Al has 12 cats and dogs", "Al and Bo have 12 cats"."""
    own = [number for number in numbers(fact.text) if number.value in fact.own]
    for two in filter(None, (_AND.match(fact.text, number.end) for number in own)):
        pair = {stem(two[1]), stem(two[2])}
        both = is_plural(two[1]) and is_plural(two[2])
        if both and len(asked.quantity.nouns & pair) == 1 and not pair <= _stems(question):
            return True
    if fact.each or fact.tells.compared or _BOTH.search(question):
        return False
    owners = _TOGETHER.search(fact.text, 0, own[0].start) if own else None
    if owners and _STOP.search(fact.text, owners.end(), own[0].start):
        return False
    everybody = names(owners[0]) & frame.people if owners else frozenset[str]()
    return bool(asked.people & everybody) and not everybody <= asked.people


_MEAN = re.compile(r"\b(?:average[ds]?|averaging|mean|typical(?:ly)?)\b", re.IGNORECASE)


def _mean(question: str, _asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How long did the last one take?" against "The last three took 35 seconds on average"."""
    if _MEAN.search(question):
        return not _MEAN.search(fact.text)
    return bool(_MEAN.search(fact.said) and _ONE_OF_A_ROW.search(question))


_ONE_OF_A_ROW = re.compile(
    r"\bthe (?:first|second|third|last|slowest|fastest|best|worst)\b", re.IGNORECASE
)


_FOR_EACH = re.compile(r"\b(?:each|per|every)\s+([a-z]+)", re.IGNORECASE)
_OF_EACH = re.compile(r"\b(?:each|every|one|per)\b", re.IGNORECASE)


def _of_several(question: str, _asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How much wood do two birdhouses take?" against "Each birdhouse takes 7 pieces"."""
    if _OF_EACH.search(question):
        return False
    holders = {stem(m[1].lower()) for m in _FOR_EACH.finditer(fact.said)} - UNITS.keys()
    return any(n.value > 1 and stem(n.unit.lower()) in holders for n in numbers(question) if n.unit)


# ----------------------------------------------------------------------- a thing of another name

_OTHER_WORDS = 2


def _other_thing(question: str, asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "How much was the video game?" against "He gets $10 a week"; two words of a given fact."""
    about = asked.about & keys(main(question))
    strange = about - fact.everything - SORT_TAGS - RELATIONS - _LOOSE - frame.people
    named = any(len(strange & other.everything) >= _OTHER_WORDS for other in frame.readable)
    return named or _other_modifier(question, fact, frame)


_DIGITS = re.compile(r"\d")


def _other_number(question: str, asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "For how long at 25 mph?" against "He drives at 30 mph for 3 hours"; 25 is of another fact.

    Numbers in words name too many things: "the second round", "one of the jars".
    """
    if not asked.numbers or not _DIGITS.search(question):
        return False
    written = {n.value for n in numbers(question) if _DIGITS.search(n.surface)}
    its = fact.own | fact.beside | {n.value for n in numbers(fact.text)}
    return bool((written & frame.stated) - its)


def _other_modifier(question: str, fact: Fact, frame: Frame) -> bool:
    """ "How many green balls?" against "It has 30 red balls": one noun, two words before it."""
    hers, its = _modified(question), _modified(fact.text)
    words, asked = _stems(fact.text), _stems(question)
    return any(
        modifier in frame.nouns and modifier not in words and not its.get(noun, asked) & asked
        for noun, modifiers in hers.items()
        for modifier in modifiers
    )


@lru_cache(maxsize=16384)
def _stems(text: str) -> frozenset[str]:
    return frozenset(stem(word.lower()) for word in _WORD.findall(text))


@lru_cache(maxsize=16384)
def _modified(text: str) -> dict[str, frozenset[str]]:
    """Noun → the words of content right before it, as stems."""
    found: dict[str, frozenset[str]] = {}
    words = [word.removesuffix("'s") for word in _WORD.findall(text)]
    for name, noun in itertools.pairwise(words):
        before, word = name.lower(), noun.lower()
        if name[0].isupper() and not noun[0].isupper():
            continue  # "did Samanta invite"
        if keys(before) - SORT_TAGS - RELATIONS - _LOOSE and keys(word):
            found[stem(word)] = found.get(stem(word), frozenset()) | {stem(before)}
    return found


_KINDS: dict[str, Callable[[str, Asked, Fact, Frame], bool]] = {
    "another time": other_time,
    "what was added": added,
    "the start": at_first,
    "what was done": done,
    "the whole": whole,
    "the other side": _other_side,
    "what comes in or goes out": _other_flow,
    "what is in the purse": purse,
    "the opposite": opposite,
    "the first": first,
    "a difference": _difference,
    "all of them": _all_of_them,
    "a rate": rate,
    "told by a relation": _derived,
    "what one holds": _content,
    "one of them": _one_of_them,
    "a mean": _mean,
    "of several": _of_several,
    "another number": _other_number,
    "another thing": _other_thing,
}
