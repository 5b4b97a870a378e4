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
              would give it away, go with it. *Visibly incomplete*: as for database. Where no value
              can go, a condition (`code_conditions`) or another requirement may
              (`code_requirements`); a request that could not keep its task lacks nothing.

What else a request holds is split into its sentences; the examples of a code task are a fact too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from icpo_lite.core.numbers import numbers
from icpo_lite.core.questions import is_request
from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Certificate, Problem, Shard
from icpo_lite.data.certificate import GAPS, Removal, implied
from icpo_lite.data.code_conditions import condition_removal
from icpo_lite.data.code_descriptions import description_removal
from icpo_lite.data.code_requirements import requirement_removal
from icpo_lite.data.code_text import (
    CodeText,
    read_code_text,
    signature_line,
    single_examples,
)
from icpo_lite.data.gold_values import GoldValue, gold_values
from icpo_lite.data.shard_checks import RejectedError
from icpo_lite.data.sharding import (
    MAX_CHARACTERS,
    FactShard,
    Sharding,
    shard_by_rules,
)
from icpo_lite.data.text_edits import Cut, Edit, apply
from icpo_lite.data.value_cuts import SaidValue, cut_value, is_quoted, is_word
from icpo_lite.data.value_places import spans_of

#: Tasks whose gold answers name their values.
VALUE_TASKS = frozenset({"actions", "code", "database"})

#: A request needs a question and one fact; word problems need more (`shard_checks.MIN_SHARDS`).
MIN_VALUE_SHARDS = 2


@dataclass(frozen=True, slots=True)
class ValueSharding(Sharding):
    """Shards with the removals that are certified, and why other facts have none."""

    removals: tuple[Removal, ...] = ()
    refused: tuple[str, ...] = ()


def sharding_by_rules(problem: Problem) -> Sharding:
    """The shards of a problem by its task's rules. Raises RejectedError with a reason."""
    if problem.task in VALUE_TASKS:
        return shard_by_values(problem)
    return shard_by_rules(problem.question)


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
    left = apply(text, _together([f.cut for f in found]))
    question, told, examples = _rest(left, code)
    facts = [FactShard(Shard(i, f.statement), (), (f.cut,)) for i, f in enumerate(found, start=1)]
    for words in (*told, *examples):
        facts.append(FactShard(Shard(len(facts) + 1, words), (), ()))
    shards = (Shard(0, question, is_question=True), *(f.shard for f in facts))
    shown = tuple(f.shard for f in facts[len(facts) - len(examples) :])
    removals, more = _removals(problem, code, found, facts, shown)
    described = None
    if code is not None and not removals:
        described = (
            condition_removal(problem, code)
            or requirement_removal(problem, code)
            or description_removal(problem, code)
        )
    if described is not None:
        plain, removal = described
        return ValueSharding(plain.shards, plain.facts, plain.mentions, plain.question, (removal,))
    if len(shards) < MIN_VALUE_SHARDS:
        raise RejectedError("too few facts", "no value of the gold answer stands in the request")
    mentions = numbers(text)
    return ValueSharding(
        shards, tuple(facts), mentions, question, tuple(removals), (*refused, *more)
    )


# ------------------------------------------------------------------------------- values in the text


def _found(problem: Problem, code: CodeText | None) -> tuple[list[SaidValue], list[str]]:
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
    found: list[SaidValue] = []
    last = 0
    for (start, end), golds in sorted(places.items(), key=lambda item: item[0]):
        if len({g.noun for g in golds}) > 1 or start < last:
            refused.append("one value for two things")
            continue
        one = cut_value(text, start, end, golds[0], problem.task)
        if one is None:
            refused.append("no fluent cut")
            continue
        if any(one.noun == other.noun for other in found):
            refused.append("one name for two values")
            continue
        found.append(one)
        last = one.cut.edits[0].end
    return found, refused


def _together(cuts: Sequence[Cut]) -> list[Cut]:
    """Cuts of neighbours as one text takes them: what two of them would take goes once."""
    out: list[Cut] = []
    for cut in cuts:
        (edit,) = cut.edits
        start = max(edit.start, out[-1].edits[0].end if out else 0)
        out.append(replace(cut, edits=(replace(edit, start=start, end=max(edit.end, start)),)))
    return out


#: What a program answers by itself where nothing else is said.
_EVERYDAY = frozenset({"yes", "no", "true", "false", "none"})


def _tabulated(text: str, start: int, end: int, gold: GoldValue) -> bool:
    """Whether a value stands in an enumeration or a table, or is a text without quotes.

    Such a value follows from the others ("1, 3, 5, 7, 9") or from what everybody knows.
    """
    if is_word(gold):
        return not is_quoted(text, start) or gold.values[0].lower() in _EVERYDAY
    near = text[max(0, start - 3) : start], text[end : end + 3]
    return (
        "," in near[0] or near[1].startswith(",") or bool(re.search(r"\n\s*[<>=]*\s*$|\|", near[0]))
    )


def _place(
    text: str, gold: GoldValue, forbidden: Sequence[tuple[int, int]], after: int
) -> tuple[int, int] | None:
    """Where one of a value's forms stands, if it and no other form stands in the request once."""
    spans: set[tuple[int, int]] = set()
    for value in gold.values:
        spans.update(
            s
            for s in spans_of(text, value)
            if s[0] >= after and not any(a <= s[0] < b for a, b in forbidden)
        )
    outer = [s for s in spans if not any(o != s and o[0] <= s[0] and s[1] <= o[1] for o in spans)]
    return outer[0] if len(outer) == 1 else None


# ---------------------------------------------------------------------- what else is said, removals


def _rest(left: str, code: CodeText | None) -> tuple[str, list[str], list[str]]:
    """(question, other sentences, examples) of a request without its values."""
    if code is None or not code.opening:
        spoken = [s.text for s in sentences(left)]
        asking = [s for s in spoken if s.endswith("?") or is_request(s)] or spoken[:1]
        return " ".join(asking), [s for s in spoken if s not in asking], []
    parts = read_code_text(left)
    spoken = [s.text for s in sentences(parts.prose)]
    signature = signature_line(parts.opening)
    intent = spoken[0] if spoken else "It has no description yet."
    before = parts.opening[: parts.opening.rfind("def ")].strip()
    told = spoken[1:]
    if before:
        told = [f"This code stands before it:\n```python\n{before}\n```", *told]
    examples = [f"For example:\n{one}" for one in single_examples(parts.examples, parts.name)]
    return f"Write the Python function `{signature}`. {intent}", told, examples


def _removals(
    problem: Problem,
    code: CodeText | None,
    found: Sequence[SaidValue],
    facts: Sequence[FactShard],
    shown: tuple[Shard, ...],
) -> tuple[list[Removal], list[str]]:
    removals, refused = [], []
    for one, fact in zip(found, facts, strict=False):
        result = _certified(problem, code, one, fact, shown)
        if isinstance(result, Removal):
            removals.append(result)
        else:
            refused.append(result)
    return removals, refused


def _certified(
    problem: Problem,
    code: CodeText | None,
    one: SaidValue,
    fact: FactShard,
    examples: tuple[Shard, ...],
) -> Removal | str:
    """The certified removal of a value, or the reason why there is none.

    examples: the shards that show them, where there are any; they go with the value.
    """
    cut = one.cut
    along: tuple[Shard, ...] = ()
    if code is not None and code.example_spans:
        if not code.whole:
            return "examples among the words give it away"
        shown = tuple(Edit(start, end) for start, end in code.example_spans)
        cut = replace(cut, edits=(*cut.edits, *shown))
        along = examples
    left = apply(problem.question, [cut])
    hints = f"{left}\n{problem.columns.get('evidence') or ''}"
    if any(next(spans_of(hints, value), None) for value in one.gold.values):
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
    return Removal(fact, cut, left, certificate, additive=False, along=along)
