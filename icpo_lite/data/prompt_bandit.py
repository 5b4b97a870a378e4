"""SEC's curriculum: a bandit that draws the prompts from which there is most to learn.

An arm is a task, a kind of prompt and a number of shards (of a complete prompt all, of an
underspecified one those that it lacks). After each step, with r the mean |advantage| of an arm's
replies (arXiv 2505.14970):

    Q <- (1 - rate) Q + rate r,    p(arm) ~ exp(Q / tau)

Drawing by p leaves the share of `q*` to the bandit; here each kind keeps its own, as the recipe
has it, unless `fixed_share` is false (ours: a bandit that likes `q*` best teaches needless asking).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from icpo_lite.core.types import Group, Intent, Prompt
from icpo_lite.data.prompt_pool import PromptPool

Arm = tuple[str, Intent, int]


class SecOptions(BaseModel):
    """The numbers of the bandit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(0.5, gt=0, le=1, description="how fast an arm's worth follows a step's")
    tau: float = Field(0.5, gt=0, description="how far worth decides; high is uniform")
    fixed_share: bool = Field(True, description="whether share_underspecified still holds")


def arm_of(prompt: Prompt) -> Arm:
    """What a prompt counts as."""
    shards = prompt.removed if prompt.intent is Intent.UNDERSPECIFIED else prompt.shards
    return prompt.task, prompt.intent, len(shards)


class BanditPool(PromptPool):
    """A pool that draws each prompt from an arm, every arm in the order of a pool of its own."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        options: SecOptions,
        *,
        seed: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(prompts, seed=seed, weights=weights)
        by_arm: dict[Arm, list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            by_arm[arm_of(prompt)].append(prompt)
        self.options, self._of = options, seed
        self._arms = {
            arm: PromptPool(by_arm[arm], seed=seed, weights=weights) for arm in sorted(by_arm)
        }
        self.worth = dict.fromkeys(self._arms, 0.0)
        self._made = 0

    def __iter__(self) -> Iterator[Prompt]:
        for pool in self._arms.values():
            yield from pool

    @property
    def state(self) -> dict[str, Any]:
        """The base's cursor, each arm's, what each arm is worth, and how many were drawn."""
        arms = {_name(arm): pool.state for arm, pool in self._arms.items()}
        worth = {_name(arm): value for arm, value in self.worth.items()}
        return {**super().state, "arms": arms, "worth": worth, "made": self._made}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        for arm, pool in self._arms.items():
            pool.restore(state["arms"][_name(arm)])
            self.worth[arm] = float(state["worth"][_name(arm)])
        self._made = int(state["made"])

    def chances(self, intent: Intent | None = None) -> dict[Arm, float]:
        """The probability of each arm, of one kind of prompt or of both."""
        arms = [arm for arm in self._arms if intent in (None, arm[1])]
        most = max(self.worth[arm] for arm in arms)
        sizes = {arm: math.exp((self.worth[arm] - most) / self.options.tau) for arm in arms}
        whole = sum(sizes.values())
        return {arm: size / whole for arm, size in sizes.items()}

    def draw_kinds(self, complete: int, underspecified: int) -> list[Prompt]:
        """So many prompts of each kind, complete ones first; of both without fixed_share."""
        if self.options.fixed_share:
            kinds: list[Intent | None] = [Intent.COMPLETE] * complete
            kinds += [Intent.UNDERSPECIFIED] * underspecified
        else:
            kinds = [None] * (complete + underspecified)
        drawn = [self._one(kind) for kind in kinds]
        return sorted(drawn, key=lambda p: p.intent is Intent.UNDERSPECIFIED)

    def _one(self, kind: Intent | None) -> Prompt:
        chances = self.chances(kind)
        random = Random(f"sec/{self._of}/{self._made}")
        self._made += 1
        (arm,) = random.choices(list(chances), list(chances.values()))
        under = arm[1] is Intent.UNDERSPECIFIED
        return self._arms[arm].draw_kinds(int(not under), int(under))[0]

    def saw(self, groups: Sequence[Group]) -> dict[str, float]:
        """What a step's groups, flat ones with advantages of 0, say of their arms."""
        sums: dict[Arm, float] = defaultdict(float)
        rows: Counter[Arm] = Counter()
        for group in groups:
            arm = arm_of(group.prompt)
            sums[arm] += sum(abs(a) for a in group.advantages or ())
            rows[arm] += len(group.trajectories)
        for arm, count in rows.items():
            rate = self.options.rate
            self.worth[arm] = (1 - rate) * self.worth[arm] + rate * sums[arm] / count
        return {f"curriculum/{_name(arm)}": value for arm, value in self.worth.items()}


def _name(arm: Arm) -> str:
    task, intent, shards = arm
    return f"{task}/{intent}/{shards}"
