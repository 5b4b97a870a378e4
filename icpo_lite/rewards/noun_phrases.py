"""The noun phrases of a question: what is counted, what it is made of, which noun names a quantity.

The tables: written by hand as ordinary English. tests/claims/question_targets.py measures what is
built on them.
"""

from __future__ import annotations

import re

from icpo_lite.core.words import bag, is_plural, stem
from icpo_lite.rewards.quantity_words import NAMED

WORD = re.compile(r"[A-Za-z$%][A-Za-z'-]*")
AUXILIARY = bag(
    "do does did is are was were be will would can could should has have had must might may 's"
)
ENDS_NOUN = bag(
    "of in on at to for from by with without that which who when if before after during since "
    "until than per between among and or but so left did she he they it we you i into as each "
    "every while because off inside outside behind under"
)
SKIPPED = bag("the a an his her its their our your my this these those more less fewer")


MADE_OF = re.compile(r"\s*(?:[a-z'-]+ ){1,3}?of ([a-z]+)", re.IGNORECASE)


def made_of(rest: str) -> frozenset[str]:
    """Of "how many layers of paint": paint; nothing for "how many of the kids"."""
    match = MADE_OF.match(rest)
    made = match and match[1].lower() not in SKIPPED and not rest.lstrip().startswith("of ")
    return frozenset({stem(match[1].lower())}) if match and made else frozenset()


def phrase_words(rest: str) -> str:
    """The words right behind "how many", up to a verb or a preposition."""
    words: list[str] = []
    for word in WORD.findall(rest)[:8]:
        if word.lower() in AUXILIARY or word.lower() in ENDS_NOUN:
            break
        words.append(word)
    return " ".join(words)


#: Verbs right behind a noun that are no part of it: "how much wood goes into one".
_GOES = bag("go goes went come comes came get gets got fit fits remain remains")


def noun_phrase(rest: str) -> list[str]:
    """Stems of the noun phrase that stands right behind "how many"."""
    found: list[str] = []
    words = WORD.findall(rest)[:8]
    if words[:1] and words[0].lower() == "of":
        words = words[1:]
    for at, word in enumerate(words):
        low = word.lower()
        if low in AUXILIARY or low in ENDS_NOUN or low in _GOES:
            break
        after = words[at + 1 : at + 2]
        if found and low.endswith("ed") and not (after and is_plural(after[0].lower())):
            break
        if low in SKIPPED or low in ("total", "other", "additional"):
            continue
        found.append(stem(low))
        if is_plural(low) and not rest.lower().lstrip().startswith(low + " and"):
            nxt = words[words.index(word) + 1 : words.index(word) + 2]
            if not nxt or not is_plural(nxt[0].lower()):
                break
    return found


COUNTS = frozenset({stem("count"), stem("tally")})
_NUMBER_OF = re.compile(
    r"\b(?:number|count|counts|quantity|amount|total|tally)\s+(?:of|for)\s+([^?.,;]*)", re.I
)


#: "The marble count"; not "the exact count".
_COUNT = re.compile(r"\b([a-z]+) (?:count|tally)\b", re.I)
_NO_NOUN = frozenset(
    stem(w)
    for w in bag(
        "the a an his her its their our your my total exact final head full whole current initial "
        "original starting first last correct actual overall right precise daily weekly what that"
    )
)


def counted(text: str) -> frozenset[str]:
    """Of "the number of red apples that …": what is counted."""
    before = _COUNT.search(text)
    if before and stem(before[1].lower()) not in _NO_NOUN:
        return frozenset({stem(before[1].lower())})
    match = _NUMBER_OF.search(text)
    return frozenset(noun_phrase(match[1])[-1:]) if match else frozenset()


def named_anywhere(text: str, besides: frozenset[str] = frozenset()) -> frozenset[str]:
    """The sorts of the first noun of a text that names a quantity."""
    for word in WORD.findall(text):
        noun = stem(word.removesuffix("'s"))
        if noun not in besides and (sorts := NAMED.get(noun)):
            return sorts
    return frozenset()
