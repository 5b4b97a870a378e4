"""eva's choice, online: which fact a problem lacks, by how much rewards differed without it.

A problem comes in its turn, and with it one of its underspecified prompts, each without other
facts. With s the spread of a prompt's rewards in its group, which makes it informative (arXiv
2411.00062):

    S <- (1 - rate) S + rate s,    p(prompt) ~ exp(S / tau)

s is their standard deviation, or with spread: gap the largest less the smallest; eva's public code
offers both (reward_var, reward_gap). That code draws once, by s as a share of all (ours: over the
run, by S). A prompt that was not tried yet counts as the mean of those that were (ours). eva also
evolves new prompts out of the informative ones; here they are the certified removals of one
problem.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean, pstdev
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from icpo_lite.core.types import Group, Intent, Prompt
from icpo_lite.data.prompt_pool import PromptPool


class EvaOptions(BaseModel):
    """The numbers of the choice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variants: int = Field(4, ge=2, description="underspecified prompts of a problem at most")
    rate: float = Field(0.5, gt=0, le=1, description="how fast a prompt's spread follows a step's")
    tau: float = Field(0.1, gt=0, description="how far spread decides; high is uniform")
    spread: Literal["std", "gap"] = Field(
        "std", description="of a group's rewards: standard deviation, or largest less smallest"
    )


def with_variants(
    prompts: Sequence[Prompt], more: Callable[[int], Sequence[Prompt]], count: int
) -> list[Prompt]:
    """The prompts, and beside each `q*` up to `count - 1` others that lack other facts.

    more: the prompts that another draw makes, by its number from 1 on.
    """
    under = [p for p in prompts if p.intent is Intent.UNDERSPECIFIED]
    seen = {(p.problem_id, _lacks(p)) for p in under}
    added: list[Prompt] = []
    for number in range(1, count):
        for prompt in more(number):
            key = (prompt.problem_id, _lacks(prompt))
            if prompt.intent is Intent.UNDERSPECIFIED and key not in seen:
                seen.add(key)
                added.append(replace(prompt, prompt_id=f"{prompt.prompt_id}/{number}"))
    known = {p.problem_id for p in under}
    return [*prompts, *(p for p in added if p.problem_id in known)]


def _lacks(prompt: Prompt) -> tuple[int, ...]:
    return tuple(sorted(shard.shard_id for shard in prompt.removed))


class SpreadPool(PromptPool):
    """A pool that draws problems in order, and of each the underspecified prompt by its spread."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        options: EvaOptions,
        *,
        seed: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.options, self._of = options, seed
        self._variants: dict[tuple[str, str], list[Prompt]] = defaultdict(list)
        first: list[Prompt] = []
        for prompt in prompts:
            if prompt.intent is Intent.UNDERSPECIFIED:
                self._variants[_problem(prompt)].append(prompt)
                if len(self._variants[_problem(prompt)]) > 1:
                    continue
            first.append(prompt)
        super().__init__(first, seed=seed, weights=weights)
        self.spreads: dict[str, float] = {}
        self._made = 0

    def __iter__(self) -> Iterator[Prompt]:
        yield from (p for p in super().__iter__() if p.intent is Intent.COMPLETE)
        for variants in self._variants.values():
            yield from variants

    @property
    def state(self) -> dict[str, Any]:
        """The base's cursor, the spreads so far, and how many choices were made."""
        return {**super().state, "spreads": dict(self.spreads), "made": self._made}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.spreads = {name: float(value) for name, value in state["spreads"].items()}
        self._made = int(state["made"])

    def chances(self, prompts: Sequence[Prompt]) -> list[float]:
        """The probability of each of a problem's underspecified prompts."""
        new = fmean(self.spreads.values()) if self.spreads else 0.0
        worth = [self.spreads.get(p.prompt_id, new) for p in prompts]
        sizes = [math.exp((value - max(worth)) / self.options.tau) for value in worth]
        return [size / sum(sizes) for size in sizes]

    def draw_kinds(self, complete: int, underspecified: int) -> list[Prompt]:
        """So many prompts of each kind, complete ones first."""
        drawn = super().draw_kinds(complete, underspecified)
        return [self._chosen(p) if p.intent is Intent.UNDERSPECIFIED else p for p in drawn]

    def _chosen(self, first: Prompt) -> Prompt:
        variants = self._variants[_problem(first)]
        random = Random(f"eva/{self._of}/{self._made}")
        self._made += 1
        return random.choices(variants, self.chances(variants))[0]

    def saw(self, groups: Sequence[Group]) -> dict[str, float]:
        """What a step's groups say of their prompts; the mean spread so far is told."""
        rate = self.options.rate
        for group in groups:
            if group.prompt.intent is not Intent.UNDERSPECIFIED:
                continue
            name, rewards = group.prompt.prompt_id, group.rewards
            gap = self.options.spread == "gap"
            found = max(rewards) - min(rewards) if gap else pstdev(rewards)
            before = self.spreads.get(name, found)
            self.spreads[name] = (1 - rate) * before + rate * found
        return {"curriculum/spread": fmean(self.spreads.values())} if self.spreads else {}


def _problem(prompt: Prompt) -> tuple[str, str]:
    return prompt.dataset, prompt.problem_id
