"""A question that shows where something is missing: "What number is missing here: Al has ___ pens?"

It asks for the fact in which the words beside its gap stand around a number. The words of the
question's own are enough to tell: no likeness is weighed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Shard

_GAP = re.compile(r"_{2,}")
_WORD = re.compile(r"[\w’']+")
#: Words on each side of a gap that are compared, and how many of them tell a fact from others.
_BESIDE, _TELLING = 4, 3


def gap_points_at(question: str, removed: Sequence[Shard], given: Sequence[Shard]) -> str | None:
    """ "removed", "given" or "elsewhere", by the fact that a question's gap is in; None without."""
    gap = _GAP.search(question)
    if gap is None:
        return None
    if _GAP.search(question, gap.end()):
        return "elsewhere"  # it asks for several numbers at once
    before, after = _words(question[: gap.start()]), _words(question[gap.end() :])
    for name, shards in (("removed", removed), ("given", given)):
        if any(_stands_in(before, after, shard.text) for shard in shards):
            return name
    return "elsewhere"


def _stands_in(before: Sequence[str], after: Sequence[str], fact: str) -> bool:
    """Whether one of a fact's numbers has the words of a gap on both its sides."""
    for mention in numbers(fact):
        left, right = _words(fact[: mention.start]), _words(fact[mention.end :])
        same = _common(before[::-1], left[::-1]), _common(after, right)
        wanted = min(len(left), _BESIDE), min(len(right), _BESIDE)
        if sum(same) >= _TELLING and all(n >= min(w, 2) for n, w in zip(same, wanted, strict=True)):
            return True
    return False


def _common(words: Sequence[str], others: Sequence[str]) -> int:
    """How many words two texts begin with alike, up to the bound."""
    pairs = zip(words[:_BESIDE], others[:_BESIDE], strict=False)
    return sum(itertools.takewhile(bool, (a == b for a, b in pairs)))


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
