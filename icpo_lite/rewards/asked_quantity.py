"""What kind of thing a question wants told, and how well what a fact tells answers it.

A question about a colour is never met by a number, nor one about minutes by a price: before words
are compared, the sorts of quantity must fit.

The tables: written by hand as ordinary English. tests/claims/question_targets.py measures what is
built on them, by questions of which one half was held back: recall 0.909, precision 0.926; both
halves and the tables are by one author.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from icpo_lite.core.words import bag, is_plural, stem
from icpo_lite.rewards.quantity_words import (
    COLLECTIVES,
    COMPARED,
    HOW,
    MUCH,
    NAMED,
    NO_QUANTITY,
    PEOPLE,
    UNITS,
    VERBS,
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a question wants, or a fact tells.

    sorts: that it may have; empty where the words do not say. nouns: stems of what is counted.
    measurable: False for a question that wants no quantity at all. compared: whether it is a
    difference of two ("how many more", "5 fewer than"). phrase: the words of what is counted
    ("grey cats"), as written. stuff: stems of what it is made of ("layers of paint"). sized:
    whether a size is asked for that may be of any sort ("how big"); of_many: of something that is
    many things, such as a class.
    """

    sorts: frozenset[str] = frozenset()
    nouns: frozenset[str] = frozenset()
    measurable: bool = True
    compared: bool = False
    phrase: str = ""
    stuff: frozenset[str] = frozenset()
    sized: bool = False
    of_many: bool = False


COMPARES = re.compile(
    r"\b(?:more|fewer|less|older|younger|taller|shorter|longer|heavier|lighter|faster|slower"
    r"|bigger|larger|smaller|higher|lower|cheaper|warmer|colder|farther|further|greater)\b"
    r"(?=[^.?!]{0,60}\bthan\b)|\bdifference\b|\bby how (?:much|many)\b|\bexceeds?\b"
    r"|\bhow (?:much|many) (?:more|fewer|less)\b(?!\s+(?:information|detail))"
    rf"|\bhow much (?:{'|'.join(COMPARED)})\b",
    re.IGNORECASE,
)
#: "Which", "who" and "when" ask at the head of a question; elsewhere they lead in a clause.
_SIZED = re.compile(r"\bhow (?:big|large|small)\b|\bsize\b", re.IGNORECASE)
_ASKING = re.compile(
    r"\bhow\s+(?P<how>[a-z]+)|\bhow\b|\b(?P<wh>what(?:'s)?\b"
    r"|(?:(?<=know )|(?<=tell me )|(?<=and )|(?<=: )|(?<=specify )|(?<=clarify )|^\W*)"
    r"(?:which|who(?:m|se|'s)?|where|why|when)\b)",
    re.IGNORECASE,
)
#: "…, in minutes?"
_IN_UNITS = re.compile(
    r"\bin (percent|dollars|cents|seconds|minutes|hours|days|weeks|months|years|miles|feet|meters"
    r"|inches|kilometers|pounds|kilograms|grams|ounces|gallons|liters|mph)\W*$",
    re.IGNORECASE,
)
#: "…, in problems?"
_IN_NOUNS = re.compile(r",\s*(?:counted )?in (?:number of )?([a-z]+s)\W*$", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z$%][A-Za-z'-]*")
_AUXILIARY = bag(
    "do does did is are was were be will would can could should has have had must might may 's"
)
ENDS_NOUN = bag(
    "of in on at to for from by with without that which who when if before after during since "
    "until than per between among and or but so left did she he they it we you i into as each "
    "every while because off inside outside behind under"
)
_SKIPPED = bag("the a an his her its their our your my this these those more less fewer")


@lru_cache(maxsize=16384)
def wanted(question: str) -> Quantity:
    """What a question, or a request without a question mark, wants told."""
    text = question.replace("’", "'")
    compared = bool(COMPARES.search(text))
    if in_units := _IN_UNITS.search(text):
        return Quantity(UNITS[stem(in_units[1])], compared=compared)
    if in_nouns := _IN_NOUNS.search(text):
        return Quantity(frozenset({"count"}), frozenset({stem(in_nouns[1])}), compared=compared)
    found = [_after(text, match) for match in _ASKING.finditer(text)]
    if not found or not any(f.measurable for f in found):
        return _without_interrogative(text, compared) if not found else Quantity(measurable=False)
    kept = [f for f in found if f.measurable]
    sorts = frozenset[str]().union(*(f.sorts for f in kept))
    if any(not f.sorts for f in kept):
        sorts = frozenset()
    nouns = frozenset[str]().union(*(f.nouns for f in kept))
    return Quantity(
        sorts,
        nouns,
        compared=compared,
        phrase=" ".join(f.phrase for f in kept),
        stuff=frozenset[str]().union(*(f.stuff for f in kept)),
        sized=bool(_SIZED.search(text)),
        of_many=any(stem(word) in COLLECTIVES for word in WORD.findall(text)),
    )


def _without_interrogative(text: str, compared: bool) -> Quantity:
    """Of "please give me the price" and "does she like tea?", which wants no quantity."""
    if named := _named_anywhere(text):
        return replace(_number_of(named, text), compared=compared)
    return Quantity(measurable=not text.rstrip().endswith("?"))


def _number_of(named: frozenset[str], text: str) -> Quantity:
    """Sorts of a noun that names a quantity; "the number of hours" is a time."""
    nouns = _counted(text) if "count" in named else frozenset()
    units = frozenset[str]().union(*(UNITS.get(n, frozenset()) for n in nouns))
    return Quantity(units or named, nouns)


def _after(text: str, match: re.Match[str]) -> Quantity:
    """What one "how …", "what …" of a question asks for."""
    rest = text[match.end() :]
    if match["wh"]:
        return _after_what(match["wh"].lower().strip(" \"'(*-"), rest)
    how = (match["how"] or "").lower()
    if how == "many":
        return _after_many(rest)
    if how == "much":
        by = text[: match.start()].rstrip().lower().endswith("by")
        return Quantity() if by else _after_much(rest)
    if how in HOW:
        sorts = HOW[how] - ({"time"} if how in _SPEEDS and not _ENDS.search(rest) else set())
        return Quantity((len(sorts) > 4 and _named_anywhere(rest)) or sorts)
    return Quantity()


#: "How fast did he finish" asks for a time, "how fast did he go" for none.
_SPEEDS = bag("fast quickly")
_ENDS = re.compile(
    r"\b(?:finish|complete|solve|clean|fill|empty|get|be done|run the)", re.IGNORECASE
)
_TIMES_AS = re.compile(r"\s*times\s+(?:as|more|larger|bigger|older|heavier|greater)\b", re.I)


def _after_many(rest: str) -> Quantity:
    if _TIMES_AS.match(rest):
        return Quantity(frozenset({"factor"}))
    nouns = _noun_phrase(rest)
    if not nouns:
        return Quantity(frozenset({"count"}))
    if nouns[-1] == "tim":
        return Quantity(frozenset({"frequency", "factor", "count"}), frozenset({"tim"}))
    if sorts := UNITS.get(nouns[-1]):
        more = {"age"} if nouns[-1] == "year" else set()
        return Quantity(sorts | more, frozenset({nouns[-1]}))
    return Quantity(
        frozenset({"count"}),
        frozenset({nouns[-1]}),
        phrase=_phrase_words(rest),
        stuff=_made_of(rest),
    )


_MADE_OF = re.compile(r"\s*(?:[a-z'-]+ ){1,3}?of ([a-z]+)", re.IGNORECASE)


def _made_of(rest: str) -> frozenset[str]:
    """Of "how many layers of paint": paint; nothing for "how many of the kids"."""
    match = _MADE_OF.match(rest)
    made = match and match[1].lower() not in _SKIPPED and not rest.lstrip().startswith("of ")
    return frozenset({stem(match[1].lower())}) if match and made else frozenset()


def _after_much(rest: str) -> Quantity:
    words = [w.lower() for w in WORD.findall(rest)][:12]
    if words and words[0] in COMPARED:
        return Quantity(COMPARED[words[0]])
    nouns = _noun_phrase(rest)
    for noun in reversed(nouns):
        if noun in NAMED:
            return Quantity(NAMED[noun])
    if nouns:
        return Quantity(
            frozenset(["volume", "weight", "amount", "length", "area", "count", "share"]),
            frozenset({nouns[-1]}),
        )
    if "worth" in words:
        return Quantity(frozenset({"money"}))
    for word in words:
        if sorts := VERBS.get(stem(word)):
            return Quantity(sorts - {"count"})
    if words[:1] == ["of"] or " of " in f" {' '.join(words[:4])} ":
        return Quantity(MUCH | {"factor", "count"})
    return Quantity(MUCH)


def _phrase_words(rest: str) -> str:
    """The words right behind "how many", up to a verb or a preposition."""
    words: list[str] = []
    for word in WORD.findall(rest)[:8]:
        if word.lower() in _AUXILIARY or word.lower() in ENDS_NOUN:
            break
        words.append(word)
    return " ".join(words)


def _noun_phrase(rest: str) -> list[str]:
    """Stems of the noun phrase that stands right behind "how many"."""
    found: list[str] = []
    words = WORD.findall(rest)[:8]
    if words[:1] and words[0].lower() == "of":
        words = words[1:]
    for word in words:
        low = word.lower()
        if low in _AUXILIARY or low in ENDS_NOUN:
            break
        if low in _SKIPPED or low in ("total", "other", "additional"):
            continue
        found.append(stem(low))
        if is_plural(low) and not rest.lower().lstrip().startswith(low + " and"):
            nxt = words[words.index(word) + 1 : words.index(word) + 2]
            if not nxt or not is_plural(nxt[0].lower()):
                break
    return found


def _after_what(wh: str, rest: str) -> Quantity:
    if wh in ("when",):
        return Quantity(frozenset({"clock", "time"}))
    if wh[:3] == "who" or wh in ("where", "why"):
        return Quantity(measurable=False)
    words = [w.lower() for w in WORD.findall(rest)][:16]
    if wh == "what" and words[:1] == ["time"]:
        return Quantity(frozenset({"clock"}))
    behind_is = wh == "what's" or bool(
        words and words[0] in ("is", "are", "was", "were", "will", "would")
    )
    if (
        words and words[0] in ("do", "does", "did", "has", "have", "had", "can", "could", "should")
    ) or (words[:1] == ["will"] and words[1:2] != ["be"]):
        for word in words:
            if sorts := VERBS.get(stem(word)):
                return Quantity(sorts)
        return Quantity(measurable=False)
    return _of_noun(words, rest, behind_is=behind_is)


def _of_noun(words: list[str], rest: str, *, behind_is: bool) -> Quantity:
    """Of "what [is the] <noun phrase>": the sort that its noun names."""
    phrase: list[str] = []
    asks_verb = False
    for word in words:
        if behind_is and not phrase and word in ENDS_NOUN:
            return Quantity(measurable=False)  # "what was inside the box"
        if word in ("is", "are", "was", "were", "will", "would", "be") and not phrase:
            continue
        if word in _AUXILIARY or (word in ENDS_NOUN and phrase):
            asks_verb = word in _AUXILIARY
            break
        if word not in _SKIPPED:
            phrase.append(stem(word.removesuffix("'s")))
    if behind_is and (not phrase or phrase[0] in ENDS_NOUN):
        return Quantity(measurable=False)
    if any(p in NO_QUANTITY for p in phrase[-2:]):
        return Quantity(measurable=False)
    for noun in phrase:
        if noun == "siz" and not behind_is:
            return Quantity(NAMED[noun] - {"count", "money", "time"})
        if noun in NAMED:
            if noun in _COUNTS and phrase.index(noun) > 0:
                return Quantity(frozenset({"count"}))  # "the word count of the text"
            if len(NAMED[noun]) > 4 and (closer := _named_anywhere(rest, besides=noun)):
                return Quantity(closer)
            return _number_of(NAMED[noun], rest)
    if phrase and phrase[-1] in UNITS:
        return Quantity(UNITS[phrase[-1]] | ({"age"} if phrase[-1] == "year" else set()))
    if behind_is:
        return Quantity()
    verbs = (VERBS[stem(word)] for word in words[:6] if stem(word) in VERBS)
    sorts = None if asks_verb else next(verbs, None)  # "what Julie spent", not "what dish is made"
    return Quantity(sorts) if sorts else Quantity(measurable=False)


_COUNTS = frozenset({stem("count"), stem("tally")})
_NUMBER_OF = re.compile(
    r"\b(?:number|count|counts|quantity|amount|total|tally)\s+(?:of|for)\s+([^?.,;]*)", re.I
)


def _counted(text: str) -> frozenset[str]:
    """Of "the number of red apples that …": what is counted."""
    match = _NUMBER_OF.search(text)
    nouns = _noun_phrase(match[1]) if match else []
    return frozenset(nouns[-1:])


def _named_anywhere(text: str, besides: str = "") -> frozenset[str]:
    """The sorts of the first noun of a text that names a quantity."""
    for word in WORD.findall(text):
        noun = stem(word.removesuffix("'s"))
        if noun != besides and (sorts := NAMED.get(noun)):
            return sorts
    return frozenset()


# ----------------------------------------------------------------------------------------- fit

#: Nouns that stand for whatever is counted.
_GENERIC = frozenset(stem(w) for w in bag("piece item unit thing one object"))


def _same_noun(one: str, other: str) -> bool:
    """Equal, or one the head of the other: "room" and "bedroom"."""
    short, long = sorted((one, other), key=len)
    return one == other or (len(short) >= 4 and long.endswith(short))


def fit(question: Quantity, fact: Quantity, known: frozenset[str]) -> float:
    """How well a fact's quantity answers a question's: 1 well, 0.5 perhaps, 0 unsaid, -1 never.

    known: stems of all nouns of the problem; a noun that is one of them means itself, another
    may be a synonym.
    """
    vague = len(question.sorts) > 4
    if not fact.measurable:  # no number answers "how many"; anything else may be anything
        return -1.0 if question.sorts and not vague else 0.0
    if not question.measurable:
        return -1.0
    if not question.sorts:
        return 0.0
    if not question.sorts & fact.sorts:
        return -1.0
    if vague and question.sized:
        if fact.sorts == {"count"} and not question.of_many:
            return -1.0
        if question.sorts & fact.sorts == {"money"}:
            return 0.2
    if (
        question.stuff
        and fact.stuff
        and question.stuff <= known
        and not question.stuff & fact.stuff
    ):
        return -1.0  # cups of tea are none of coffee
    nouns = question.nouns - _GENERIC
    if not fact.nouns and "count" in fact.sorts and nouns & known:
        return 0.6
    if not nouns:
        return 1.0 if len(question.sorts) <= 2 else 0.5
    if any(_same_noun(a, b) for a in nouns for b in fact.nouns):
        counts = question.sorts == {"count"} and fact.sorts == {"count"}
        return 0.3 if counts and nouns <= fact.stuff else 1.0  # wheels are not their rows
    if question.nouns & PEOPLE and fact.nouns & PEOPLE and not (question.nouns & known):
        return 0.8
    if question.stuff & fact.nouns and not question.nouns & known:
        return 0.8  # "layers of paint" are its coats
    if all(n in UNITS for n in question.nouns):
        return 0.3 if question.nouns & known else 0.6
    return -1.0 if question.nouns & known and fact.nouns else 0.2
