"""What a sentence says beside its main fact → a sentence of its own.

Prices of each, what each of the things is like, what somebody named in passing did: "5 boxes at $6
each" becomes "The boxes cost $6 each." The things are named again with "the", because the other
sentence counts them.

The tables: written by hand and changed while q* of GSM8K's training half were read (seven draws of
200; the last held 1 faulty one), so figures on that half are of data that the author has seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from icpo_lite.core.numbers import NumberMention
from icpo_lite.core.sentences import entities, is_plural
from icpo_lite.core.words import bag
from icpo_lite.data.clause_words import (
    BASE,
    COLLECTIVE,
    ENTANGLED,
    FINITE,
    VERB,
    counted,
)
from icpo_lite.data.unit_words import MEASURES, TIMES

_MONEY = (
    r"(?P<price>[$£€] ?[\d.,]*\d(?: dollars)?|[\d.,]*\d (?:dollars?|cents|euros)"
    r"|[a-z]+ (?:dollars|cents))"
)
_EACH = r"(?:each|apiece|a piece|per (?P<per>[a-z]+))"
_AT_PRICE = re.compile(
    r"(?: (?:at|for)(?: (?:a|the) (?:price|cost|rate) of)?"
    r"|,? (?:that|which)(?: each)? (?:costs?|sells? for|sold for)|,? (?:each )?costing"
    rf"|,? priced at) {_MONEY} {_EACH}(?P<rest>.*)$"
)


def price_of_each(whole: str) -> list[str]:
    """ "He buys 5 boxes of tea at $6 each." → "He buys 5 boxes of tea.", "The boxes … cost …"."""
    match = _AT_PRICE.search(whole)
    noun = _thing_before(whole, match.start()) if match else ""
    if match is None or not noun:
        return []
    sells = re.search(r"\b(?:sell|sells|sold|selling)\b", whole[: match.start()])
    verb = ("sell for" if sells else "cost") if _is_plural(noun) else "costs"
    rest = match["rest"]
    each = "each" if not match["per"] else f"per {match['per']}"
    if unit := re.match(r" ([a-z]+)(?=[.,]|$)", rest):  # "$5 each liter"
        each, rest = f"per {unit[1]}", rest[unit.end() :]
    price = f"The {noun} {verb} {match['price']} {each}"
    return [whole[: match.start()] + rest, price]


def _is_plural(noun: str) -> bool:
    return is_plural(noun.split(" of ")[0].rsplit(" ", 1)[-1])


_NO_THING = re.compile(
    r"[,;.$]|\b(?:and|or|for|in|on|at|to|from|by|more|than|with|per|a|each|every|that|which|who)\b"
)


def _thing_before(whole: str, end: int) -> str:
    """The noun phrase that ends at `end` and is counted: "boxes of drinks"."""
    marks = [m for m in counted(whole) if m.end < end]
    if not marks or marks[-1].kind != "cardinal":
        return ""
    noun = whole[marks[-1].end : end].strip()
    if not noun or len(noun.split()) > 5 or _holds_verb(noun):
        return ""
    if noun.startswith("of ") or _NO_THING.search(noun):
        return ""
    if marks[-1].unit in TIMES | MEASURES and " of " not in noun:
        return ""
    return noun


def _holds_verb(noun: str) -> bool:
    """Whether a verb stands inside of a noun phrase; "boxes of drinks" ends in a noun."""
    found = (v for v in FINITE.finditer(noun) if v.end() < len(noun))
    return any(not noun[: v.start()].endswith("of ") for v in found)


_RELATIVE = re.compile(
    r",? (?:(?:that|which|who) (?P<each>each )?(?P<verb>[a-z]+)"
    r"|(?P<with>with|containing|weighing|holding|measuring|costing)) (?P<what>.*)$"
)
_AS_VERB = {
    "with": "have",
    "containing": "contain",
    "weighing": "weigh",
    "holding": "hold",
    "measuring": "measure",
    "costing": "cost",
}
_ITS_VERB = re.compile(rf"(?:{VERB}|{BASE}|can)$")


def _relatives(whole: str) -> Iterator[re.Match[str]]:
    """The relative clauses of a sentence, also those inside of one."""
    at = 0
    while match := _RELATIVE.search(whole, at):
        yield match
        at = match.start() + 1


def what_each_is_like(whole: str) -> list[str]:
    """ "He has 8 mice, who each have 6 pups." → "He has 8 mice.", "The mice each have 6 pups."."""
    for match in _relatives(whole):
        noun = _thing_before(whole, match.start())
        what = match["what"]
        if not noun or not counted(what):
            continue
        if not _is_plural(noun) or re.search(r",|;|\band\b|^each\b", what):
            return []
        if ENTANGLED.search(what):
            return []
        if match["with"] and not re.search(r"\b(?:each|apiece|per|in it|in them)\b", what):
            return []
        verb = match["verb"] or _AS_VERB[match["with"]]
        if not _ITS_VERB.match(verb):
            return []
        return [whole[: match.start()], f"The {noun} {match['each'] or ''}{verb} {what}"]
    return []


def who_did(whole: str) -> list[str]:
    """ "… as his friend Scott, who won 4 awards." → "… Scott.", "Scott won 4 awards."."""
    match = re.search(rf"\b(?P<name>[A-Z][a-z]+),? who (?={VERB}\b)", whole)
    if match is None or not any(e.text.endswith(match["name"]) for e in entities(whole)):
        return []
    rest = whole[match.end() :]
    if "," in rest:
        return []
    return [whole[: match.end("name")], f"{match['name']} {rest}"]


_EACH_OF_THEM = re.compile(
    r"(?P<count>\d[\d,]*|[A-Z][a-z]+(?:-[a-z]+)?) (?P<noun>(?:[a-z’'-]+ ){1,4}?)(?P<rest>each .*)$"
)
_PAST = re.compile(
    r"each (?:[a-z]+ed|had|bought|gave|got|ate|spent|paid|made|was|were|took|won|sold)\b"
)


def how_many_each(whole: str) -> list[str]:
    """ "Ten boys each buy 20 pens." → "There are ten boys.", "The boys each buy 20 pens."."""
    match = _EACH_OF_THEM.match(whole)
    marks = counted(whole)
    if match is None or not marks or (marks[0].start, marks[0].end) != match.span("count"):
        return []
    noun = match["noun"].strip()
    if not is_plural(noun.rsplit(" ", 1)[-1]) and not noun.endswith("people"):
        return []
    there = "There were" if _PAST.match(match["rest"]) else "There are"
    count = match["count"][0].lower() + match["count"][1:]
    return [f"{there} {count} {noun}", f"The {noun} {match['rest']}"]


_SPAN = re.compile(
    r" (?:(?:for|over|during) (?:a total of |the (?:next|past|last) |the )?[\w,.-]+(?: and a half)?"
    r" (?:hours?|days?|weeks?|months?|years?|minutes?)"
    r"|at (?:an? )?(?:constant |average |steady )?(?:speed |rate )?(?:of )?[\d.]+"
    r" (?:mph|miles per hour|miles an hour|km/h|kilometers per hour)"
    r"|\w+ (?:days|times|hours|nights) (?:a|per|each|every) (?:day|week|month|year))"
)


def by_span(whole: str) -> list[str]:
    """ "They ride at 5 mph for 7 hours." → "They ride at 5 mph.", "They ride for 7 hours."."""
    found = [m for m in _SPAN.finditer(whole) if counted(m[0])]
    if COLLECTIVE.search(whole) or len(found) < 2:
        return []
    base, tail = whole[: found[0].start()], whole[found[-1].end() :].strip(" .!")
    between = any(a.end() != b.start() for a, b in pairwise(found))
    if tail or between or counted(base) or not FINITE.search(base):
        return []
    return [base + m[0] for m in found]


_UNSURE = re.compile(
    r"\b(?:than|as many|as much|respectively|ratio|between|if|unless|until|or|out of|not|never|no"
    r"|both|equal|equally|total|sum|average|combined|difference|rest|remaining|more|less|fewer"
    r"|other|another|either|divided|split|and|times|twice|half|double|per|each|every|that|which"
    r"|who|when|where|while|but)\b|[:;,]",
    re.IGNORECASE,
)
_CIRCUMSTANCE = re.compile(
    r" (?:in|for|over|within|during|to|into|with|among)(?: the (?:next|last|past|first)| a| his"
    r"| her| their| only| about)? (?=[$\d]|[a-z-]+ (?:[a-z-]+ ){0,2}?[a-z]+)"
)
_DISTANCE = bag("mil kilometer km meter metr foot yard inch")
_GOT = re.compile(
    r"\b(?:spends?|spent|pays?|paid|earns?|earned|makes?|made|receives?|received|gets?|got|saves?"
    r"|saved|raised|won|wins|collects?|collected) $"
)
_NO_MORE = re.compile(r"\b(?:the|his|her|their|its|an?|first|last|next|past|all|of|by) $")


def with_circumstance(whole: str) -> list[str]:
    """ "Joy reads 8 pages in 20 minutes." → "Joy reads 8 pages.", "Joy reads the pages in …"."""
    marks = counted(whole)
    if len(marks) != 2 or _UNSURE.search(whole):
        return []
    first, second = marks
    known = _known_again(whole, first)
    verbs = [v.start() for v in FINITE.finditer(whole)]
    phrase = _CIRCUMSTANCE.match(whole, _end_of_thing(whole, first))
    if not known or phrase is None or not verbs or verbs[-1] > first.start:
        return []
    if second.start - phrase.start() > 24 or _FINITE_BEFORE_END.search(whole, second.end):
        return []
    return [whole[: phrase.start()], whole[: first.start] + known + whole[phrase.start() :]]


_FINITE_BEFORE_END = re.compile(rf"\b{VERB}\b")


def _end_of_thing(whole: str, mention: NumberMention) -> int:
    stuff = re.compile(
        r" of (?!the\b|his\b|her\b)[a-z-]+(?: [a-z-]+)??(?= (?:in|for|over|to|into)\b)"
    )
    match = stuff.match(whole, mention.unit_end)
    return match.end() if match else mention.unit_end


def _known_again(whole: str, mention: NumberMention) -> str:
    """How a second sentence names what the first has counted: "the pages", "the distance"."""
    if _NO_MORE.search(whole, 0, mention.start) or mention.start == 0:
        return ""
    if mention.kind == "money":
        return "the money" if _GOT.search(whole, 0, mention.start) else ""
    if mention.kind != "cardinal" or mention.value < 2:
        return ""
    noun = whole[mention.end : _end_of_thing(whole, mention)].strip()
    if mention.unit in _DISTANCE and " " not in noun:
        return "the distance"
    if mention.unit in TIMES | MEASURES:
        _, _, stuff = noun.partition(" of ")
        return f"the {stuff}" if stuff else ""
    known = noun and not noun.startswith(("of ", "-")) and _is_plural(noun)
    return f"the {noun}" if known else ""
