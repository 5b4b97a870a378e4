"""Lists of a sentence → a sentence for each member.

"Emily catches 4 trout, 3 catfish, and 5 bluegills at the lake." gives three sentences. A list is
taken apart only where each member reads alone: it has a noun, or takes that of its neighbours, and
what stands behind the last member is its own or plainly everybody's.

The tables: written by hand and changed while q* of GSM8K's training half were read (seven draws of
200; the last held 1 faulty one), so figures on that half are of data that the author has seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.sentences import is_plural
from icpo_lite.core.words import bag
from icpo_lite.data.clause_words import (
    BASE,
    COLLECTIVE,
    FINITE,
    NO_VERBS,
    SEPARATOR,
    counted,
    cut_at,
    has_verb,
    merged,
)
from icpo_lite.data.unit_words import MEASURES, TIMES

_ABOUT = (
    r"about|only|exactly|at least|at most|approximately|almost|nearly|just|over|around"
    r"|an additional"
)
_BEFORE_NUMBER = re.compile(rf"\b(?:{_ABOUT}|the|all|his|her|their) $")
_NUMBER_OPENS = re.compile(rf"(?:(?:{_ABOUT}) )?")
_OTHER_OPENS = re.compile(r"(?:an?|the|his|her|their|some|several|many|no) ")
_BINDS = re.compile(r"\b(?:of|by|from|between|than|every|per|to|least|most|minus|plus|times) $")
_SHARED_TAIL = re.compile(
    r" (?:in|on|at|for|from|to|during|yesterday|today|this|last|every|each (?:day|week|month|year)"
    r"|daily|left|with (?:him|her|them)|into|inside|near|by|as)\b"
)
_OWN_TAIL = re.compile(
    r" (?:in|on|at|for|from|to|of|with|during|that|who|which|per|each|worth|costing|weighing|last"
    r"|this|yesterday|[a-z]+ing|the (?:first|second|third|fourth|fifth|last|next)"
    r"|an? (?:day|week|month|year|hour))\b"
)
_PLURAL_VERB = re.compile(rf"(?<=[a-z]s )(?:each )?{BASE}\b")
#: Members of a list without a number: "2 cats, and a ferret".
_WITHOUT_NUMBER = re.compile(
    r",? (?:and|plus|as well as) (?:an?|the|his|her|some|one|1) (?:[a-z-]+ ?){1,4}$"
    r"|, (?:an?|one|1) (?:[a-z-]+ ?){1,3}(?=,|$)"
)
_STUFF = re.compile(r"^ of (?!the\b|his\b|her\b|their\b)[a-z]+(?: [a-z]+)??(?=[ ,.]|$)")
_OF_WHAT = re.compile(r" of (?:[a-z’']+ )?[a-z]+(?= )")


def by_member(whole: str) -> list[str]:
    """ "Ann has 3 cats and 2 dogs at home." → "Ann has 3 cats at home.", and the dogs alike."""
    marks = counted(whole)
    if COLLECTIVE.search(whole) or not marks:
        return []
    adverb = _BEFORE_NUMBER.search(whole, 0, marks[0].start)
    start = adverb.start() if adverb else marks[0].start
    prefix, body = whole[:start], whole[start:].rstrip(".! ")
    if re.search(r"\b(?:than|as)\b", prefix):
        return []
    ends = marks[0].end - start
    places = [m for m in SEPARATOR.finditer(body, ends) if _opens_member(body, m.end())]
    segments = [_joined_well(s) for s in merged(cut_at(body, places), bare=True)]
    if len(segments) < 2 or (prefix and (_BINDS.search(prefix) or not FINITE.search(prefix))):
        return []
    predicate = ""
    if not prefix:
        segments[-1], predicate = _subject_and_predicate(segments[-1])
        if not predicate or counted(predicate):
            return []
        verb = predicate.split(maxsplit=1)[0]
        if any(re.search(rf"\b{re.escape(verb)}\b", segment) for segment in segments[:-1]):
            return []  # "25% wear glasses and 40% wear lenses": each has its own
    return [prefix + member + predicate for member in _members(segments)]


def _joined_well(segment: str) -> str:
    """ "48 teachers, 1 principal" → "48 teachers and 1 principal"."""
    if SEPARATOR.search(segment) and not re.search(r" (?:and|plus) ", segment):
        return re.sub(r", (?=(?:an?|one|1) [a-z]+$)", " and ", segment)
    return segment


def _subject_and_predicate(segment: str) -> tuple[str, str]:
    """ "4 girls are in class" → ("4 girls", " are in class")."""
    verb = FINITE.search(segment) or _PLURAL_VERB.search(segment)
    if verb is None or verb[0] in NO_VERBS or not verb.start():
        return segment, ""
    return segment[: verb.start() - 1], segment[verb.start() - 1 :]


def _opens_member(text: str, at: int) -> bool:
    lead = _NUMBER_OPENS.match(text, at)
    start = lead.end() if lead else at
    return any(m.start == start for m in numbers(text)) or bool(_OTHER_OPENS.match(text, at))


def _members(segments: Sequence[str]) -> list[str]:
    """The members of a list as they read alone; none where one of them cannot."""
    found = [counted(s)[0] for s in segments]
    # "dirt bikes" are things, though "bikes" may be a verb.
    if any(has_verb(s[: m.start] + s[m.unit_end :]) for s, m in zip(segments, found, strict=True)):
        return []
    if any(not _says_of_what(s, m) for s, m in zip(segments, found, strict=True)):
        return _shares(segments, found)
    nouns = [s[m.end : m.unit_end] for s, m in zip(segments, found, strict=True)]
    if found[0].kind == "cardinal" and not nouns[0].strip():
        return []
    tails = [s[m.unit_end :] for s, m in zip(segments, found, strict=True)]
    shared = _shared_tail(tails, found)
    if shared is None:
        return []
    last = len(segments) - 1
    return [
        s[: m.end] + _noun(noun, nouns, m) + tail + (shared if i < last else "")
        for i, (s, m, noun, tail) in enumerate(zip(segments, found, nouns, tails, strict=True))
    ]


def _shared_tail(tails: Sequence[str], found: Sequence[NumberMention]) -> str | None:
    """What the last member ends in and all mean; None where nobody can tell whose it is."""
    rests = [_WITHOUT_NUMBER.sub("", t) for t in tails]
    own = [bool(_OWN_TAIL.match(r)) for r in rests]
    measured = [
        m.kind == "money"
        or not m.unit
        or (m.unit in TIMES | MEASURES and not rest.startswith(" of "))
        for m, rest in zip(found, rests, strict=True)
    ]
    if any(measured) and not all(own):
        return None
    rests = [
        r if measure else _STUFF.sub("", r) for r, measure in zip(rests, measured, strict=True)
    ]
    whole = [m.kind in ("multiple", "fraction", "percent") for m in found]
    rests = ["" if done or " than " in r else r for r, done in zip(rests, whole, strict=True)]
    if not any(r.strip() for r in rests[:-1]) and rests[-1].strip():
        return rests[-1] if _SHARED_TAIL.match(rests[-1]) and not counted(rests[-1]) else None
    if any(r.strip() and not o for r, o in zip(rests[:-1], own[:-1], strict=True)):
        return None
    return ""


_COMPARED = re.compile(
    r"(?: times)? (?:as (?:many|much) [A-Za-z].* as [A-Za-z]|(?:more|fewer|less) .* than )"
)
_OF_A_WHOLE = re.compile(r" (?:of (?:the|his|her|their|its|all)\b|discount|off|tax)")


def _says_of_what(segment: str, mention: NumberMention) -> bool:
    """Whether "twice as many" or "20%" says of what, so that it can stand alone."""
    after = segment[mention.end :]
    if mention.kind == "multiple" or re.match(r" times\b", after):
        return bool(_COMPARED.match(after))
    if mention.kind in ("percent", "fraction"):
        return bool(_COMPARED.match(after) or _OF_A_WHOLE.match(after))
    return mention.kind in ("cardinal", "money")


def _shares(segments: Sequence[str], found: Sequence[NumberMention]) -> list[str]:
    """ "30% of his money on food, 15% on rent" → each share with what it is a share of."""
    what = _OF_WHAT.match(segments[0], found[0].end)
    if what is None or found[0].kind not in ("percent", "fraction"):
        return []
    tails = [s[m.end :] for s, m in zip(segments, found, strict=True)]
    goes = re.compile(r" (?:on|in|to|for|at|goes|went)\b| of ")
    if any(m.kind != found[0].kind for m in found) or not all(goes.match(t) for t in tails):
        return []
    return [
        s if tail.startswith(" of ") else s[: m.end] + what[0] + tail
        for s, m, tail in zip(segments, found, tails, strict=True)
    ]


def _noun(noun: str, nouns: Sequence[str], mention: NumberMention) -> str:
    """The noun of a member; "11 to Caleb" takes that of the first, "2 large" that of the last."""
    if mention.kind != "cardinal":
        return noun
    if not noun.strip():
        return nouns[0]
    last = nouns[-1].rsplit(" ", 1)[-1]
    if noun.strip() in _ADJECTIVES and is_plural(last):
        return f"{noun} {last}"
    return noun


_ADJECTIVES = bag(
    "large small medium big little tall short long red blue green yellow white black brown pink "
    "purple orange grey gray gold silver new old hot cold full empty adult"
)
_NOT_IN_NOUN = r"(?!for\b|at\b|on\b|and\b|to\b|in\b|of\b|that\b|which\b)"
_PRICED = re.compile(
    rf"(?:(?:an?|the|his|her|one|each"
    rf"|every) )?(?:{_NOT_IN_NOUN}[a-zA-Z’'-]+ ){{1,5}}(?:of [a-z]+ )?"
    r"(?P<how>for|at|worth|on|in|to|from|that costs?|that is|which costs?|costing|is|are|with) "
    r"(?:only |about )?(?=[$£€\d]|[a-z]+ (?:dollars|cents|hours|minutes|pounds))"
)
#: "was selling bags for $4", "can iron a blouse in 5 minutes": what all things of the list share.
_MAIN_VERB = re.compile(
    r"(?:(?:is|are|was|were|has been|had been) [a-z]+ing|(?:can|could|will|would|must|should|may"
    r"|needs? to|wants? to|has to|have to|had to) [a-z]+) "
)
_PARTICLE = re.compile(r"(?:to [a-z]+ |up |out )?")


def by_thing(whole: str) -> list[str]:
    """ "They sell small bags for $4 and large bags for $6." → each kind with its own number."""
    marks = counted(whole)
    if COLLECTIVE.search(whole) or not marks:
        return []
    verbs = [v for v in FINITE.finditer(whole, 0, marks[0].start) if v[0] not in NO_VERBS]
    if not verbs or counted(whole[: verbs[0].end()]):
        return []
    main = _MAIN_VERB.match(whole, verbs[0].start())
    at = main.end() if main else verbs[0].end() + 1
    after = _PARTICLE.match(whole, at)
    start = after.end() if after else at
    first = _PRICED.match(whole, start)
    if first is None:
        return []
    how = first["how"].rstrip("s")
    places = [
        m
        for m in SEPARATOR.finditer(whole, marks[0].end)
        if (item := _PRICED.match(whole, m.end())) and item["how"].rstrip("s") == how
    ]
    starts = [start, *(m.end() for m in places)]
    ends = [*(m.start() for m in places), len(whole)]
    items = [whole[a:b] for a, b in zip(starts, ends, strict=True)]
    if len(items) < 2 or any(len(counted(i)) != 1 or has_verb(i) for i in items):
        return []
    return [whole[:start] + item for item in items]
