"""The experiment with a model: it solves a problem whole, and not without what was removed.

Where nothing shows which facts an answer needs, this alone makes a certificate (level `tested`); a
certificate that has other evidence keeps its level and gets the experiment beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from icpo_lite.core.types import Certificate, Generator, Message, Problem
from icpo_lite.data.certificate import Removal
from icpo_lite.data.solution_equations import last_number

#: Whether a reply answers a problem rightly.
Grade = Callable[[Problem, str], bool]
#: Tokens of the longest reply that is waited for.
LONGEST_REPLY = 512


@dataclass(frozen=True, slots=True)
class Pair:
    """A problem and what is left of its question without `removals`."""

    problem: Problem
    left: str
    removals: tuple[Removal, ...]


def tried_pairs(
    pairs: Sequence[Pair],
    generator: Generator,
    grade: Grade,
    *,
    samples: int,
    tolerance: float,
    seed: int,
) -> list[tuple[Removal, ...] | str]:
    """Of each pair its removals, with what was seen in their certificates, or why it fell.

    samples: of the model on either question. tolerance: share of those on the rest that may come
    to the answer by luck.
    """
    if not pairs:
        return []
    chats = [
        [*pair.problem.opening, Message("user", text)]
        for pair in pairs
        for text in (pair.problem.question, pair.left)
    ]
    replies = generator.generate(chats, n=samples, max_new_tokens=LONGEST_REPLY, seed=seed)
    return [
        _judged(pair, replies[2 * i], replies[2 * i + 1], grade, tolerance)
        for i, pair in enumerate(pairs)
    ]


def _judged(
    pair: Pair, whole: Sequence[str], left: Sequence[str], grade: Grade, tolerance: float
) -> tuple[Removal, ...] | str:
    right_whole = sum(grade(pair.problem, reply) for reply in whole)
    right_left = sum(grade(pair.problem, reply) for reply in left)
    proven = all(removal.certificate.level != "none" for removal in pair.removals)
    if right_left > tolerance * len(left):
        return "the solver reached the answer without it"
    if not proven and not right_whole:
        return "the solver cannot solve the whole problem"
    if not proven and len(left) > 1 and len({last_number(reply) for reply in left}) == 1:
        return "the solver's answers without it agree"
    note = f"solver right {right_whole}/{len(whole)} with it, {right_left}/{len(left)} without"
    return tuple(_noted(removal, note) for removal in pair.removals)


def _noted(removal: Removal, note: str) -> Removal:
    old = removal.certificate
    level = "tested" if old.level == "none" else old.level
    evidence = "; ".join(part for part in (old.out_of_reach, note) if part)
    return replace(removal, certificate=Certificate(level, evidence, old.incomplete))
