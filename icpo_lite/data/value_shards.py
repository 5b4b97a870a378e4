"""Shards and certified removals of requests whose gold answer names its values.

A function call names its arguments, a query what it compares a column with, a program the numbers
and texts that it works with (`data/gold_values.py`). Where such a value stands in the request once,
it is a fact of its own: the request goes on without it, or with "a certain year" in its place, and
the fact says what it is ("The year is 2014.").

    actions   *Out of reach*: the call must get the value, and nothing left states it. *Visibly
              incomplete*: the function, which the prompt shows, requires the argument and has no
              default for it.
    database  *Out of reach*: the gold query compares a column with the value. *Visibly incomplete*:
              "a certain country" stands in the request, and nothing says which.
    code      *Out of reach*: the reference solution works with the value, and the examples, which
              would give it away, go with it. *Visibly incomplete*: as for database.

What else a request holds is split into its sentences; the examples of a code task are a fact too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from icpo_lite.core.numbers import numbers
from icpo_lite.core.questions import is_request
from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Certificate, Problem, Shard
from icpo_lite.core.words import is_plural, stem
from icpo_lite.data.certificate import GAPS, Removal, implied
from icpo_lite.data.code_text import CodeText, read_code_text, signature_line
from icpo_lite.data.deletions import Cut, Edit, apply
from icpo_lite.data.gold_values import GoldValue, gold_values
from icpo_lite.data.sharding import (
    MAX_CHARACTERS,
    FactShard,
    RejectedError,
    Sharding,
    shard_by_rules,
)

#: A request needs a question and one fact; word problems need more (`sharding.MIN_SHARDS`).
MIN_VALUE_SHARDS = 2


@dataclass(frozen=True, slots=True)
class ValueSharding(Sharding):
    """Shards with the removals that are certified, and why other facts have none."""

    removals: tuple[Removal, ...] = ()
    refused: tuple[str, ...] = ()


def sharding_by_rules(problem: Problem) -> Sharding:
    """The shards of a problem by its task's rules. Raises RejectedError with a reason."""
    if problem.task == "math":
        return shard_by_rules(problem.question)
    return shard_by_values(problem)


def shard_problem(problem: Problem) -> Problem:
    """The problem with its shards by rules; one that has shards already stays as it is.

    Raises RejectedError with the reason.
    """
    if problem.shards:
        return problem
    return replace(problem, shards=sharding_by_rules(problem).shards)


def shard_by_values(problem: Problem) -> ValueSharding:
    """The shards of an actions, database or code problem. Raises RejectedError with a reason."""
    text = problem.question
    if len(text) > MAX_CHARACTERS:
        raise RejectedError("too long", f"{len(text)} characters")
    code = read_code_text(text) if problem.task == "code" else None
    found, refused = _found(problem, code)
    left = apply(text, [f.cut for f in found])
    question, told, examples = _rest(left, code)
    facts = [
        FactShard(Shard(i, f.statement), (), (f.cut,)) for i, f in enumerate(found, start=1)
    ]
    for words in (*told, *([examples] if examples else [])):
        facts.append(FactShard(Shard(len(facts) + 1, words), (), ()))
    shards = (Shard(0, question, is_question=True), *(f.shard for f in facts))
    if len(shards) < MIN_VALUE_SHARDS:
        raise RejectedError("too few facts", "no value of the gold answer stands in the request")
    removals, more = _removals(problem, code, found, facts)
    mentions = numbers(text)
    return ValueSharding(
        shards, tuple(facts), mentions, question, tuple(removals), (*refused, *more)
    )


# ------------------------------------------------------------------------------- values in the text


@dataclass(frozen=True, slots=True)
class _Found:
    """A value where it stands. noun: what the request calls it. cut: leaves the request readable."""

    gold: GoldValue
    surface: str
    noun: str
    cut: Cut
    gap: str

    @property
    def statement(self) -> str:
        """The fact as a sentence of its own: "The year is 2014."."""
        said = self.surface.strip().rstrip(".")
        if len(self.noun) <= 2:
            return f"Take {self.noun} = {said}."
        plural = is_plural(self.noun.split()[-1]) and " of " not in self.noun
        if plural and not re.search(r",|\band\b", said):
            return f"The {self.noun}: {said}."
        return f"The {self.noun} {'are' if plural else 'is'} {said}."


def _found(problem: Problem, code: CodeText | None) -> tuple[list[_Found], list[str]]:
    """The values that stand in the request exactly once, in its order, without overlaps."""
    text = problem.question
    forbidden = code.example_spans if code else ()
    places: dict[tuple[int, int], list[GoldValue]] = {}
    refused = []
    for gold in gold_values(problem):
        if gold.optional:
            refused.append("not required by the function")
            continue
        span = _place(text, gold, forbidden, len(code.opening) if code else 0)
        if span is None:
            refused.append("not said once in the request")
        elif code and _tabulated(text, *span, gold):
            refused.append("one of several that a reader can guess")
        else:
            places.setdefault(span, []).append(gold)
    found: list[_Found] = []
    last = 0
    for (start, end), golds in sorted(places.items(), key=lambda item: item[0]):
        if len({g.noun for g in golds}) > 1 or start < last:
            refused.append("one value for two things")
            continue
        one = _cut(text, start, end, golds[0], problem.task)
        if one is not None and one.cut.edits[0].start < last:
            one = _gap_cut(text, start, end, golds[0])
        if one is None or one.cut.edits[0].start < last:
            refused.append("no fluent cut")
            continue
        if any(one.noun == other.noun for other in found):
            refused.append("one name for two values")
            continue
        found.append(one)
        last = one.cut.edits[0].end
    return found, refused


#: What a program answers by itself where nothing else is said.
_EVERYDAY = frozenset({"yes", "no", "true", "false", "none"})


def _tabulated(text: str, start: int, end: int, gold: GoldValue) -> bool:
    """Whether a value stands in an enumeration or a table, or is a text without quotes.

    Such a value follows from the others ("1, 3, 5, 7, 9") or from what everybody knows.
    """
    if _is_word(gold):
        return not _quoted(text, start) or gold.values[0].lower() in _EVERYDAY
    near = text[max(0, start - 3) : start], text[end : end + 3]
    return "," in near[0] or near[1].startswith(",") or bool(re.search(r"\n\s*[<>=]*\s*$|\|", near[0]))


def _place(
    text: str, gold: GoldValue, forbidden: Sequence[tuple[int, int]], after: int
) -> tuple[int, int] | None:
    """Where one of a value's forms stands, if it and no other form stands in the request once."""
    spans: set[tuple[int, int]] = set()
    for value in gold.values:
        spans.update(
            s
            for s in _spans(text, value)
            if s[0] >= after and not any(a <= s[0] < b for a, b in forbidden)
        )
    outer = [s for s in spans if not any(o != s and o[0] <= s[0] and s[1] <= o[1] for o in spans)]
    return outer[0] if len(outer) == 1 else None


def _spans(text: str, value: Any) -> Iterator[tuple[int, int]]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield from _number_spans(text, value)
    elif isinstance(value, str) and value.strip():
        for match in re.finditer(_words_pattern(value), text, re.IGNORECASE):
            yield match.span()
    elif isinstance(value, list | tuple) and value:
        yield from _list_spans(text, value)


def _number_spans(text: str, value: float) -> Iterator[tuple[int, int]]:
    try:
        wanted = Fraction(str(value))
    except ValueError:  # infinite, or no number
        return
    for m in numbers(text):
        if m.kind == "ordinal" and not re.match(r" century\b| grade\b| floor\b", text[m.end :]):
            continue  # "1st June" is no number of rooms
        if re.match(r":\d", text[m.end :]) or re.search(r"\d:$", text[max(0, m.start - 2) : m.start]):
            continue  # a time of day is one value
        scale = 100 if m.kind == "percent" else 1
        if wanted in (m.value, m.value * scale):
            yield m.start, m.end


def _words_pattern(value: str) -> str:
    inner = r"\s+".join(re.escape(word) for word in value.split())
    return rf"(?<![\w.]){inner}(?!\w)"


_BETWEEN_ITEMS = r"[\"'\s]*,?[\"'\s]*(?:and[\"'\s]+)?"


def _list_spans(text: str, values: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """ "[5, 3, 4]", "flour, sugar and eggs"."""
    items = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return
        written = f"{value:g}" if isinstance(value, float) else str(value)
        items.append(r"\s+".join(re.escape(word) for word in written.split()))
        if isinstance(value, float) and value.is_integer():
            items[-1] += r"(?:\.0+)?"
    if not all(items) or len(items) > MOST_ITEMS:
        return
    pattern = rf"[\[({{]?[\"']?(?<![\w.]){_BETWEEN_ITEMS.join(items)}(?!\w)[\"']?[\])}}]?"
    for match in re.finditer(pattern, text, re.IGNORECASE):
        opens, closes = match[0][:1] in "[({", match[0][-1:] in "])}"
        yield match.start() + (opens and not closes), match.end() - (closes and not opens)


#: A longer list is data, and nothing that a user is asked for.
MOST_ITEMS = 20

# --------------------------------------------------------------------------------------------- cuts

_PREPOSITIONS = (
    r"(?:in|at|for|from|to|of|on|by|with|using|about|near|into|as|via|through|under|within|during"
    r"|named|called|titled|starring|against|around|towards?)"
)
_FOLLOWING = _PREPOSITIONS.replace("|of", "")
_BEFORE = re.compile(rf"\s{_PREPOSITIONS}\s+(?:the\s+|a\s+|an\s+)?[\"'`]?$", re.IGNORECASE)
_AFTER = re.compile(
    rf"[\"'`]?(?:\s*(?:[,;:?!]|\.(?!\d)|$)|\s+(?={_FOLLOWING}\b|(?:if|when|that|which|who|whose|while|where"
    r"|assuming|given|after|before|over|without|and then)\b))",
    re.IGNORECASE,
)
_NAMED = re.compile(r"(?P<lead>(?:^|[\s(,])(?:and\s+)?)(?P<name>\w+)\s*=\s*$")
_MODIFIES = re.compile(r"[\"'`]?\s+(?=[a-z]{3,})(?!(?:and|or|are|was|were|has|have|had|will|would|can|could|should"
    rf"|is|if|who|that|which|when|than|then|but|not|{_PREPOSITIONS}|after|before|over|between|without"
    r"|where|while)\b)")
_DETERMINER = re.compile(r"\b(?:an?|the|his|her|its|my|our|your|their|this|that|each|every)\s+$", re.I)


def _cut(text: str, start: int, end: int, gold: GoldValue, task: str) -> _Found | None:
    """The way in which the value goes: deleted where the function misses it, else a gap."""
    if task == "actions" and gold.required:
        phrase_end = _with_unit(text, start, end)
        before = _BEFORE.search(text, max(0, start - 24), start)
        after = _AFTER.match(text, phrase_end)
        if before and after and not _holds_fast(text, before.start(), after.end()):
            quote = re.compile(r"[\"'`]?").match(text, phrase_end)
            stop = quote.end() if quote else phrase_end
            return _deleted(text, start, end, gold, before.start(), stop)
        if phrase_end > end and not _is_word(gold) and _MODIFIES.match(text, phrase_end):
            if not is_plural(text[end:phrase_end].strip()):
                return _deleted(text, start, end, gold, start, phrase_end + 1)  # "a 150 meter fall"
        named = _NAMED.search(text, max(0, start - 40), start)
        if named:
            return _deleted(text, start, end, gold, *_listed(text, named.start("name"), end))
        if _is_modifier(text, start, end, gold):
            return _deleted(text, start, end, gold, start, end + 1)
    return _gap_cut(text, start, end, gold)


def _listed(text: str, start: int, end: int) -> tuple[int, int]:
    """An item of "a=1, b=-3, c=2" with the comma that goes with it."""
    if after := re.compile(r",\s*(?:and\s+)?").match(text, end):
        return start, after.end()
    before = re.compile(r",?\s*(?:and\s+)?$").search(text, max(0, start - 8), start)
    return (before.start() if before else start), end


def _holds_fast(text: str, start: int, end: int) -> bool:
    """Whether what stands around a phrase needs it: "the time is | under 30 minutes", "between A
    and B", "in Sydney, Australia"."""
    clings = re.search(rf"\b(?:is|are|was|were|be|{_PREPOSITIONS}|and|or|than)$", text[max(0, start - 12) : start], re.I)
    place = re.match(r",\s+[A-Z]", text[end - 1 : end + 4])
    return bool(clings or place) or _in_a_pair(text, start)


def _is_modifier(text: str, start: int, end: int, gold: GoldValue) -> bool:
    """Whether a word can go from before its noun: "Thai" in "Thai food"."""
    surface = text[start:end]
    if not _is_word(gold) or _quoted(text, start) or len(surface.split()) > 2:
        return False
    if re.match(r"(?:an?|the)\b", surface, re.I) or re.search(r"\b(?:and|or)\s+$", text[max(0, start - 5) : start]):
        return False
    return bool(_MODIFIES.match(text, end)) and not re.match(r"\s+\w+(?:ed|ing)\b", text[end:])


def _is_word(gold: GoldValue) -> bool:
    return isinstance(gold.values[0], str)


def _quoted(text: str, start: int) -> bool:
    return text[start - 1 : start] in ("'", '"', "`")


def _in_a_pair(text: str, at: int) -> bool:
    """Whether the phrase is an end of "between A and B"."""
    return bool(re.search(r"\b(?:between|both)\b[^.?!]{0,80}$", text[max(0, at - 90) : at], re.I))


_UNIT = re.compile(
    r"[\s-]?(?:(?:square|cubic)\s)?(?:°\s?[CF]?|%|[a-zA-Z]{1,3}(?:[²³]|\^\d|/[a-zA-Z]+(?:\^\d)?)?(?!\w)"
    r"|[a-zA-Z]+/[a-z]+(?:\^\d)?"
    r"|(?:degrees?(?:\s(?:Celsius|Fahrenheit|C|F)\b)?|(?:kilo|centi|milli)?(?:met(?:er|re)|gram|lit(?:er|re))s?"
    r"|miles?|feet|foot|inch(?:es)?|pounds?|ounces?|hours?|minutes?|seconds?|days?|weeks?|months?|years?"
    r"|units?|amperes?|amps?|volts?|joules?|newtons?|coulombs?|ohms?|kelvin|hertz|watts?)\b)",
    re.IGNORECASE,
)
_NO_UNITS = frozenset(
    "in at to of on by as is am an and the for if or but so its it has was can may per who how via "
    "are do did not all my me we you he she i a be us".split()
)


def _with_unit(text: str, start: int, end: int) -> int:
    """Behind the unit that a number carries ("6cm", "10 units")."""
    if not re.search(r"\d$|\w$", text[start:end]):
        return end
    mention = next((m for m in numbers(text) if m.start == start and m.end == end), None)
    if mention is None:
        return end
    if mention.unit_end > end and is_plural(text[end : mention.unit_end].split()[-1]):
        if len(text[end : mention.unit_end].split()) == 1:
            return mention.unit_end
    unit = _UNIT.match(text, end)
    if unit and unit[0].strip().lower() not in _NO_UNITS:
        return unit.end()
    return end


def _deleted(
    text: str, start: int, end: int, gold: GoldValue, cut_start: int, cut_end: int
) -> _Found:
    unit_end = _with_unit(text, start, end)
    noun, surface = gold.noun, text[start:unit_end]
    cut = Cut("value", (Edit(cut_start, cut_end),), gold.noun)
    return _Found(gold, surface, noun, cut, "")


def _gap_cut(text: str, start: int, end: int, gold: GoldValue) -> _Found | None:
    """ "older than 20" → "older than a certain age"; None where no gap can stand."""
    if re.search(r"\bhow (?:many|much)\s+$", text[max(0, start - 12) : start], re.IGNORECASE):
        return None
    noun, stop = _gap_noun(text, start, end, gold)
    surface = text[start:end]
    if _RANKED.search(text, max(0, start - 24), start) and noun.startswith("number of "):
        cut = Cut("gap", (Edit(start, end, "few"),), "few")
        return _Found(gold, surface, noun, cut, "few")
    begin = start
    if _quoted(text, start) and text[end : end + 1] == text[start - 1]:
        begin, stop = start - 1, max(stop, end + 1)
    called = re.sub(r"\s+\d+$", "", noun)
    begin, stop = _with_own_name(text, begin, stop, called)
    if determiner := _DETERMINER.search(text, max(0, begin - 8), begin):
        begin = determiner.start()
    gap = f"a certain {called}"
    if " of " not in called and is_plural(called.split()[-1]):
        gap = f"certain {called}"
    return _Found(gold, surface, noun, Cut("gap", (Edit(begin, stop, gap),), gap), gap)


def _with_own_name(text: str, start: int, end: int, noun: str) -> tuple[int, int]:
    """The stretch with the noun that stands before or behind the value: "year 300", "red color"."""
    own = {stem(word) for word in noun.split() if word not in ("of", "the", "to", "from")}
    after = re.compile(r"[\s-]+([A-Za-z]+)\b").match(text, end)
    while after and stem(after[1]) in own:
        end = after.end()
        after = re.compile(r"[\s-]+([A-Za-z]+)\b").match(text, end)
    before = re.compile(r"([A-Za-z]+)\s+(?:id\s+|called\s+|named\s+)?$", re.I).search(text, max(0, start - 40), start)
    while before and stem(before[1]) in own:
        start = before.start(1)
        before = re.compile(r"([A-Za-z]+)\s+$").search(text, max(0, start - 40), start)
    return start, end


#: Words before a count that "a certain number of" cannot follow: "the next 5 years".
_RANKED = re.compile(r"\b(?:top|first|last|bottom|next|past|previous|most|best|worst|\w+est)\s+$", re.I)


def _gap_noun(text: str, start: int, end: int, gold: GoldValue) -> tuple[str, int]:
    """What stands for the value, and where the words that it replaces end."""
    mention = next((m for m in numbers(text) if m.start == start and m.end == end), None)
    noun = gold.noun if len(gold.noun) > 2 else ("number" if mention else "value")
    if mention is None:
        return noun, end
    if mention.kind == "money":
        return "amount", max(end, mention.unit_end)
    if mention.kind == "percent":
        return "percentage", end
    if mention.unit_end > end and is_plural(text[end : mention.unit_end].split()[-1]):
        return f"number of {text[end : mention.unit_end].strip(' -')}", mention.unit_end
    stop = _with_unit(text, start, end)
    if stop > end:
        return f"number of {text[end:stop].strip(' -')}", stop
    return noun, end


# ----------------------------------------------------------------------- what else is said, removals


def _rest(left: str, code: CodeText | None) -> tuple[str, list[str], str]:
    """(question, other sentences, examples) of a request without its values."""
    if code is None or not code.opening:
        spoken = [s.text for s in sentences(left)]
        asking = [s for s in spoken if s.endswith("?") or is_request(s)] or spoken[:1]
        return " ".join(asking), [s for s in spoken if s not in asking], ""
    parts = read_code_text(left)
    spoken = [s.text for s in sentences(parts.prose)]
    signature = signature_line(parts.opening)
    intent = spoken[0] if spoken else "It has no description yet."
    before = parts.opening[: parts.opening.rfind("def ")].strip()
    told = spoken[1:]
    if before:
        told = [f"This code stands before it:\n```python\n{before}\n```", *told]
    shown = re.sub(r"\A[^\n]*examples?\W*\n", "", parts.examples, flags=re.IGNORECASE)
    examples = f"For example:\n{shown}" if shown else ""
    return f"Write the Python function `{signature}`. {intent}", told, examples


def _removals(
    problem: Problem, code: CodeText | None, found: Sequence[_Found], facts: Sequence[FactShard]
) -> tuple[list[Removal], list[str]]:
    removals, refused = [], []
    for one, fact in zip(found, facts, strict=False):
        result = _certified(problem, code, one, fact)
        if isinstance(result, Removal):
            removals.append(result)
        else:
            refused.append(result)
    return removals, refused


def _certified(
    problem: Problem, code: CodeText | None, one: _Found, fact: FactShard
) -> Removal | str:
    """The certified removal of a value, or the reason why there is none."""
    cut = one.cut
    if code is not None and code.example_spans:
        if not code.whole:
            return "examples among the words give it away"
        shown = tuple(Edit(start, end) for start, end in code.example_spans)
        cut = replace(cut, edits=(*cut.edits, *shown))
    left = apply(problem.question, [cut])
    hints = f"{left}\n{problem.columns.get('evidence') or ''}"
    if any(next(_spans(hints, value), None) for value in one.gold.values):
        return "given away by the words left"
    slot = one.gold.required or one.gap
    if not slot:
        return "not visibly incomplete"
    incomplete = GAPS["value" if one.gold.required else "gap"].format(slot=slot)
    at = next((m for m in numbers(problem.question) if m.surface == one.surface), None)
    if problem.task == "code" and at is not None and implied(at, left, []):
        return "implied by the words left"
    evidence = f"{one.surface!r} enters {one.gold.needed} and nothing left gives it"
    certificate = Certificate("numbers", evidence, incomplete)
    return Removal(fact, cut, left, certificate, additive=False)
