"""Problems that are kept back from training, and those of the evaluation that training has seen.

`eval_holdout` splits a corpus by problem: a hash of the text says on which side it lies, so that it
stays there whatever else the corpus holds, in any order, and equal problems stay together. Where
small evaluations choose a checkpoint from the same hold-out, they get one half and the table the
other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icpo_lite.core.types import Problem, Prompt

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Part:
    """The problems whose hash, from 0 to 1, lies from `low` on and below `high`."""

    low: float
    high: float

    def holds(self, text: str) -> bool:
        return self.low <= place_of_text(text) < self.high

    def problems(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        return (p for p in problems if self.holds(problem_text(p)))

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Those of the problems inside; a problem lies where its first prompt does."""
        first: dict[str, str] = {}
        for prompt in prompts:
            first.setdefault(prompt.problem_id, prompt.text)
        inside = {name for name, text in first.items() if self.holds(text)}
        return [prompt for prompt in prompts if prompt.problem_id in inside]


def place_of_text(text: str) -> float:
    """From 0 to 1, the same for texts that differ in case and white space alone."""
    plain = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=7).digest()) / 2**56


def problem_text(problem: Problem) -> str:
    """All that a problem says, as the user's words."""
    if problem.prompts:
        return problem.prompts[0].text
    said = [m.content for m in problem.opening if m.role == "user"]
    return "\n".join([*said, problem.question])


def trained_part(recipe: Recipe) -> Part:
    """What is left to train on."""
    return Part(recipe.eval_holdout, 1.0)


def judged_part(recipe: Recipe, split: str) -> Part | None:
    """What is judged where no data are named: the hold-out, or its half; None where there is none.

    split: the one that would be judged of data with splits; that of small evaluations gets the
    first half of what they share with the table.
    """
    if not recipe.eval_holdout:
        return None
    small = recipe.eval_steps is not None and recipe.eval_dataset_name is None
    if not (small and recipe.evaluation.enabled and recipe.evaluation.dataset_name is None):
        return Part(0.0, recipe.eval_holdout)
    half = recipe.eval_holdout / 2
    return Part(0.0, half) if split == recipe.eval_split else Part(half, recipe.eval_holdout)
