"""What kind of thing a question wants told: a price, a time, a count of something, no quantity.

The tables: written by hand as ordinary English. tests/claims/question_targets.py measures what is
built on them, by questions of which one part was held back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from icpo_lite.core.words import bag, is_plural, stem
from icpo_lite.rewards.idioms import plain
from icpo_lite.rewards.noun_phrases import (
    AUXILIARY,
    COUNTS,
    ENDS_NOUN,
    SKIPPED,
    WORD,
    counted,
    made_of,
    named_anywhere,
    noun_phrase,
    phrase_words,
)
from icpo_lite.rewards.quantity_words import (
    COLLECTIVES,
    COMPARED,
    HOW,
    LONG_IN,
    MUCH,
    NAMED,
    NO_QUANTITY,
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
    many things, such as a class. beside: stems of what other numbers of the fact's clause count.
    """

    sorts: frozenset[str] = frozenset()
    nouns: frozenset[str] = frozenset()
    measurable: bool = True
    compared: bool = False
    phrase: str = ""
    stuff: frozenset[str] = frozenset()
    sized: bool = False
    of_many: bool = False
    beside: frozenset[str] = frozenset()


COMPARES = re.compile(
    r"\b(?:more|fewer|less|older|younger|taller|shorter|longer|heavier|lighter|faster|slower"
    r"|bigger|larger|smaller|higher|lower|cheaper|warmer|colder|farther|further|greater)\b"
    r"(?=[^.?!]{0,60}\bthan\b)|\bdifference\b|\bgap\b|\bmargin\b"
    r"|\bhow far (?:behind|ahead|above|below|apart|short)\b"
    r"|\bcompared (?:with|to)\b|\b(?:next|relative) to (?=the|[A-Z])"
    r"|\bout(?:scor|number|weigh|sell|sold|pac|run|ran|did|do|earn)\w*|\bby how (?:much|many)\b"
    r"|\bexceeds?\b"
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
    r"|inches|kilometers|pounds|kilograms|grams|ounces|gallons|liters|mph)(?:\W*$|,)",
    re.IGNORECASE,
)
#: "In what year was she born?" wants no number of years.
_WHICH_DATE = re.compile(r"\b(?:in|on) (?:what|which) (?:year|month|day|week|season)\b", re.I)
#: "…, in problems?"
_IN_NOUNS = re.compile(
    r"(?:,\s*|^\W*how (?:long|thick|big|large|full)\b[^?,]{3,60} )(?:counted )?in (?:number of )?"
    r"([a-z]+s)\W*$",
    re.IGNORECASE,
)
#: "The cumulonimbus count — what is it?"
_WHAT_IS_IT = re.compile(
    r"(?<=[,:;.—–-]) *\bwhat(?:'s| is| are| was| were) (?:it|that|this|they|those)\W*$",
    re.IGNORECASE,
)
#: "And Michael?"
_WHAT_ABOUT = re.compile(
    r"\W*(?:and |but )?(?:(?:what|how) about [^?,]{1,40}|and (?!how\b|what\b|w|do|does|did|is|are)"
    r"[^?,]{1,30})\?\W*$",
    re.IGNORECASE,
)


@lru_cache(maxsize=16384)
def wanted(question: str) -> Quantity:
    """What a question, or a request without a question mark, wants told."""
    text = plain(question.replace("’", "'"))
    text = _WHAT_IS_IT.sub("", text)
    compared = bool(COMPARES.search(text))
    if _WHICH_DATE.search(text):
        return Quantity(frozenset({"clock"}))
    if in_units := _IN_UNITS.search(text):
        return Quantity(UNITS[stem(in_units[1])], compared=compared)
    if in_nouns := _IN_NOUNS.search(text):
        return Quantity(frozenset({"count"}), frozenset({stem(in_nouns[1])}), compared=compared)
    if _WHAT_ABOUT.match(text):
        return Quantity()
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
        of_many=_of_many(text),
    )


def _of_many(text: str) -> bool:
    return any(stem(word) in COLLECTIVES for word in WORD.findall(text))


def _without_interrogative(text: str, compared: bool) -> Quantity:
    """Of "please give me the price" and "does she like tea?", which wants no quantity."""
    if named := named_anywhere(text):
        return replace(_number_of(named, text), compared=compared)
    return Quantity(measurable=bool(_TELLS.search(text)) or not text.rstrip().endswith("?"))


#: "Could you be more precise about the cookies?" wants whatever is to be told of them.
_TELLS = re.compile(
    r"\byou (?:please )?(?:be (?:a (?:bit|little) )?more (?:precise|specific|exact|explicit|clear)"
    r"|clarify|specify)\b",
    re.IGNORECASE,
)


#: The size of many things is their number: "the size of the group of students".
_SIZE_OF = re.compile(r"\bsizes? of (?:[a-z]+ ){1,2}?([a-z]{4,}s|people|children)\b", re.IGNORECASE)


def _number_of(named: frozenset[str], text: str) -> Quantity:
    """Sorts of a noun that names a quantity; "the number of hours" is a time."""
    if (many := _SIZE_OF.search(text)) and is_plural(many[1].lower()):
        return Quantity(frozenset({"count"}), frozenset({stem(many[1].lower())}))
    nouns = counted(text) if "count" in named else frozenset()
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
    if how in _LONG and (long := _how_long(rest, how)):
        return long
    if how == "far" and (apart := _how_far(rest)):
        return apart
    if how in HOW:
        sorts = HOW[how] - ({"time"} if how in _SPEEDS and not _ENDS.search(rest) else set())
        return Quantity((len(sorts) > 4 and named_anywhere(rest, besides=_PARTS)) or sorts)
    return Quantity()


#: "How fast did he finish" asks for a time, "how fast did he go" for none.
_SPEEDS = bag("fast quickly rapidly swiftly")
_ENDS = re.compile(
    r"\b(?:finish|complete|solve|clean|fill|empty|get|be done|run the|open|unlock|break"
    r"|paint|wash|assemble|build|mow|repair|fix|cook|bake)",
    re.IGNORECASE,
)
_LASTS = re.compile(
    r"^(?:[^?.,;]{0,40} )?(?:take|takes|took|taken|cost|last|lasts|lasted|spend|spends|spent|need"
    r"|needed"
    r"|wait|waited|stay|stayed|work|worked|sleep|slept|ago)\b",
    re.IGNORECASE,
)
_IS_LONG = re.compile(
    r"^\W*(?:is|are|was|were|will) (?:the|this|that|his|her|its|their|our|your|an?|each|every"
    r"|[a-z]+'s?)?([^?.,;]*)",
    re.IGNORECASE,
)


#: "How big is the dirty part" wants no share.
_PARTS = frozenset({stem("part"), stem("portion"), stem("share")})
#: What may be asked of a book and mean its pages.
_LONG = bag("long thick big large")


def _how_far(rest: str) -> Quantity | None:
    """Of "how far": days, where something is "off"; points, where somebody is "behind"."""
    if _BEHIND.match(rest):
        return Quantity(frozenset({"count", "length", "time", "age", "money", "weight"}))
    return Quantity(frozenset({"time", "age", "length"})) if _OFF.match(rest) else None


_BEHIND = re.compile(r"\s*(?:behind|ahead|above|below|short)\b", re.IGNORECASE)
_OFF = re.compile(r"\s*(?:off|away|along|into the future)\b", re.IGNORECASE)


def _how_long(rest: str, how: str) -> Quantity | None:
    """Of "how long": a time, where something takes it; pages, of a book; None where both may be."""
    if how == "long" and _LASTS.search(rest):
        return Quantity(frozenset({"time"}))
    subject = _IS_LONG.search(rest)
    words = WORD.findall(subject[1]) if subject else []
    for word in words[:4]:
        if word.lower() in ENDS_NOUN:
            break
        if parts := LONG_IN.get(stem(word)):
            return Quantity(HOW["long"] | {"count"}, parts)
    return None


_TIMES_AS = re.compile(
    r"\s*times\s+(?:(?:as|more|larger|bigger|older|younger|heavier|greater|longer|taller|faster"
    r"|the (?:number|amount|size|age|length|weight|price|cost)|that of)\b|[a-z]+['’]s? )",
    re.IGNORECASE,
)
#: "How many of the students" may be told as a share of them.
_SOME_OF = re.compile(
    r"\s*of (?:the|these|those|them|his|her|their|its|our|my|all)\b", re.IGNORECASE
)


_PRONOUNS = bag("them those these us")


def _after_many(rest: str) -> Quantity:
    if _TIMES_AS.match(rest):
        return Quantity(frozenset({"factor"}))
    nouns = noun_phrase(rest)
    if not nouns:
        return Quantity(frozenset({"count"}))
    if nouns[-1] == "tim":
        return Quantity(frozenset({"frequency", "factor", "count"}), frozenset({"tim"}))
    if sorts := UNITS.get(nouns[-1]):
        more = {"age"} if nouns[-1] == "year" else set()
        return Quantity(sorts | more, frozenset({nouns[-1]}))
    return Quantity(
        frozenset({"count", "share"} if _SOME_OF.match(rest) else {"count"}),
        frozenset({nouns[-1]}) - _PRONOUNS - {"one"},
        phrase=phrase_words(rest),
        stuff=made_of(rest),
    )


#: "How much fuller is this one than that one": any comparative.
_BESIDES = re.compile(r"\bthan\b|\bcompared (?:with|to)\b|\b(?:next|relative) to\b", re.IGNORECASE)
#: What "how much" itself does.
_INTRANSITIVE = bag("fits goes went comes came remains remained fell gets got costs makes")


def _after_much(rest: str) -> Quantity:
    words = [w.lower() for w in WORD.findall(rest)][:12]
    if words and words[0] in COMPARED:
        return Quantity(COMPARED[words[0]])
    if words and words[0].endswith("er") and _BESIDES.search(rest):
        return Quantity(COMPARED["bigger"], compared=True)
    nouns = [] if words[:1] and words[0] in _INTRANSITIVE else noun_phrase(rest)
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


def _after_what(wh: str, rest: str) -> Quantity:
    if wh in ("when",):
        return Quantity(frozenset({"clock", "time"}))
    if wh[:3] == "who" or wh in ("where", "why"):
        return Quantity(measurable=False)
    words = [w.lower() for w in WORD.findall(rest)][:16]
    if (
        wh == "what"
        and words[:1] == ["time"]
        and not _LASTS.search(rest)
        and not _TIME_FOR.search(rest)
    ):
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
        if _GETS_FOR.search(rest):
            return Quantity(frozenset({"money"}))
        return Quantity(measurable=bool(_WITH_WHAT.search(rest)))
    if _WITH_WHAT.search(rest):
        return Quantity()
    return _of_noun(words, rest, behind_is=behind_is)


#: "What does she get for an hour?"
_GETS_FOR = re.compile(r"\b(?:get|receive|want|ask|take home) (?:for|per|each|every|an?)\b", re.I)
#: "What was she left with?"
_WITH_WHAT = re.compile(
    r"\b(?:left|leave|start|started|begin|began|end up|ended up|finish|finished|come away|came away"
    r"|set out|start out|started out|started off|start off) with\b",
    re.IGNORECASE,
)
#: "What size was her collection" is no size of shoes.
_SIZE_IS = re.compile(r" *sizes? (?:is|are|was|were|did|does|do|will) ", re.I)


#: "What's the game called?"
_CALLED = re.compile(r"\b(?:called|named|titled)\W*$", re.IGNORECASE)
#: "What was his first batch of bottles?"
_OF_MANY = re.compile(r"\bof (?:[a-z]+ ){0,2}?([a-z]{3,}s|people|children)\b", re.IGNORECASE)
_TIME_FOR = re.compile(r"\b(?:for|to) [a-z]+ing\b", re.IGNORECASE)
#: "What was he paid?"
_DONE_TO = frozenset(stem(verb) for verb in bag("paid charged billed owed"))


def _of_noun(words: list[str], rest: str, *, behind_is: bool) -> Quantity:
    """Of "what [is the] <noun phrase>": the sort that its noun names."""
    phrase: list[str] = []
    asks_verb = False
    if behind_is and (paid := next((VERBS[s] for s in map(stem, words) if s in _DONE_TO), None)):
        return Quantity(paid)
    for word in words:
        if behind_is and not phrase and word in ("that", "this"):
            continue
        if behind_is and not phrase and word in ENDS_NOUN:
            return Quantity(measurable=False)  # "what was inside the box"
        if word in ("is", "are", "was", "were", "will", "would", "be") and not phrase:
            continue
        if word in AUXILIARY or (word in ENDS_NOUN and phrase):
            asks_verb = word in AUXILIARY
            break
        if word not in SKIPPED:
            phrase.append(stem(word.removesuffix("'s")))
    if _CALLED.search(rest) or (behind_is and (not phrase or phrase[0] in ENDS_NOUN)):
        return Quantity(measurable=False)
    if any(p in NO_QUANTITY for p in phrase[-2:]) and phrase[-1] not in NAMED:
        return Quantity(measurable=False)
    for noun in phrase:
        if noun == "siz" and not behind_is and not (_SIZE_IS.match(rest) and _of_many(rest)):
            return Quantity(NAMED[noun] - {"count", "money", "time"})
        if noun in NAMED:
            if noun in COUNTS and phrase.index(noun) > 0:
                return Quantity(frozenset({"count"}))  # "the word count of the text"
            if len(NAMED[noun]) > 4 and (closer := named_anywhere(rest, besides=frozenset({noun}))):
                return Quantity(closer)
            return _number_of(NAMED[noun], rest)
    if phrase and phrase[-1] in COLLECTIVES and (many := _OF_MANY.search(rest)):
        return Quantity(frozenset({"count"}), frozenset({stem(many[1].lower())}))
    if phrase and phrase[-1] in UNITS:
        return Quantity(UNITS[phrase[-1]] | ({"age"} if phrase[-1] == "year" else set()))
    if behind_is:
        return Quantity()
    verbs = (VERBS[stem(word)] for word in words[:6] if stem(word) in VERBS)
    sorts = None if asks_verb else next(verbs, None)  # "what Julie spent", not "what dish is made"
    return Quantity(sorts) if sorts else Quantity(measurable=False)
