"""Answers without a solution: which numbers of the question does the answer need?

An answer-only corpus shows no equations, so that they are searched: every way of one or two
operations over the question's own numbers, each used at most once, that comes to the gold answer. A
percentage or a fraction also stands for what it leaves or comes on top, and the days of a week or
the minutes of an hour help where the question speaks of them. A number that enters every way found
is needed (level `solver`). Two equal numbers stand in for one another, so that neither enters every
way; nor is any needed where the answer itself stands in the question. A long problem may come to
its answer by chance, and then the ways differ: what they share is little or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

from icpo_lite.core.numbers import NumberMention
from icpo_lite.data.solution_equations import Need, to_number

#: More numbers make so many ways that some come to any answer.
MOST_NUMBERS = 10
#: Words from which on a text beside an answer may be its working.
_WORKED_WORDS = 8
_ANSWER = re.compile(r"####[^\n]*|\\boxed\{[^{}]*\}|\$")


def _words(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE) for pattern in patterns)


#: Words that a question holds all of, and the number that everybody supplies with them.
_UNITS = (
    (_words("weeks?|weekly", "days?|daily"), 7),
    (_words("years?|yearly|annual(?:ly)?", "months?|monthly"), 12),
    (_words("years?|yearly|annual(?:ly)?", "weeks?|weekly"), 52),
    (_words("hours?|hourly", "minutes?"), 60),
    (_words("minutes?", "seconds?"), 60),
    (_words("days?|daily", "hours?|hourly"), 24),
    (_words("feet|foot", "inch(?:es)?"), 12),
    (_words("yards?", "feet|foot"), 3),
    (_words("dozens?"), 12),
    (_words("cents?"), 100),
)

#: What is said wherever a corpus that asking is to be learned from lets nothing lack.
NONE_LACKS = (
    "the corpus holds no underspecified prompt, and none could be made of it, so that asking "
    "cannot be trained: give worked solutions (a column `solution`, or equations before "
    "`#### 72`); or let a model try each pair (augment: {verify: 4}; --verify 4 --model NAME); "
    "or give rows that say what lacks (insufficient_question, answerable, vague)"
)


@dataclass(frozen=True, slots=True)
class _Way:
    """A value that numbers make: which (one bit each), and how."""

    value: Fraction
    numbers: int
    text: str


def is_bare(solution: str) -> bool:
    """Whether a solution says no more than the answer."""
    rest = _ANSWER.sub(" ", solution)
    return "=" not in rest and len(re.findall(r"[^\W\d_]{2,}", rest)) < _WORKED_WORDS


def needs_by_search(
    question: str, answer: object, mentions: Sequence[NumberMention]
) -> Mapping[int, Need] | None:
    """Numbers that enter every way to the answer, by index into `mentions`; None without a way."""
    gold = to_number(answer)
    if gold is None or not 2 <= len(mentions) <= MOST_NUMBERS:
        return None
    if any(mention.value == gold for mention in mentions):
        return {}
    ways = [way for way in _ways(question, mentions) if way.value == gold]
    if not ways:
        return None
    shared = reduce(int.__and__, (way.numbers for way in ways))
    shown = min((way.text for way in ways), key=len)
    own = (1 << len(mentions)) - 1
    kinds = {way.numbers & own for way in ways}
    among = "the only way" if len(kinds) == 1 else f"each of {len(kinds)} ways"
    evidence = f"{among} of one or two operations that gives the answer, {shown}={gold}"
    return {
        index: Need("solver", additive=_only_added(index, ways, mentions, gold), equation=evidence)
        for index in range(len(mentions))
        if shared >> index & 1
    }


def _only_added(
    index: int, ways: Sequence[_Way], mentions: Sequence[NumberMention], gold: Fraction
) -> bool:
    """Whether the number is a term of a sum in every way, never a factor."""
    surface = str(mentions[index].value)
    return not any(
        re.search(rf"[*/(]{re.escape(surface)}\b|\b{re.escape(surface)}[*/)]", way.text)
        for way in ways
    )


def _ways(question: str, mentions: Sequence[NumberMention]) -> Iterator[_Way]:
    """All that one and two operations make of the numbers."""
    alone = [way for i, mention in enumerate(mentions) for way in _readings(mention, 1 << i)]
    units = [value for words, value in _UNITS if all(w.search(question) for w in words)]
    alone += [
        _Way(Fraction(value), 1 << len(mentions) + i, str(value)) for i, value in enumerate(units)
    ]
    pairs = [
        way
        for i, left in enumerate(alone)
        for right in alone[i + 1 :]
        if not left.numbers & right.numbers
        for way in _made(left, right)
    ]
    yield from pairs
    for left in pairs:
        for right in alone:
            if not left.numbers & right.numbers:
                yield from _made(left, right)


def _readings(mention: NumberMention, bit: int) -> Iterator[_Way]:
    """A number; of a share also what it leaves; of a percentage also what it comes to on top."""
    value = mention.value
    yield _Way(value, bit, str(value))
    if 0 < value < 1 and mention.kind in ("percent", "fraction"):
        yield _Way(1 - value, bit, f"(1-{value})")
    if mention.kind == "percent" and value < 1:
        yield _Way(1 + value, bit, f"(1+{value})")


def _made(left: _Way, right: _Way) -> Iterator[_Way]:
    """All that one operation makes of two."""
    both = left.numbers | right.numbers
    a, b = _in_brackets(left), _in_brackets(right)
    yield _Way(left.value + right.value, both, f"{left.text}+{right.text}")
    yield _Way(left.value - right.value, both, f"{left.text}-{b}")
    yield _Way(right.value - left.value, both, f"{right.text}-{a}")
    yield _Way(left.value * right.value, both, f"{a}*{b}")
    if right.value:
        yield _Way(left.value / right.value, both, f"{a}/{b}")
    if left.value:
        yield _Way(right.value / left.value, both, f"{b}/{a}")


def _in_brackets(way: _Way) -> str:
    whole = way.text.startswith("(") and way.text.find(")") == len(way.text) - 1
    return way.text if whole or not re.search(r"[-+*/]", way.text) else f"({way.text})"
