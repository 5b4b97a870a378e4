"""RLAAR's curriculum: into how many pieces an instruction comes (arXiv 2510.18731).

A conversation of K pieces opens with one and tells the rest in K - 1 turns, several facts a turn
where there are more. K rises by one when the mean reward is back at `reach` times the start's; once
that happens at the most pieces that any prompt can come in, K is drawn uniformly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from icpo_lite.core.errors import RecipeError

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

CURRICULA = ("none", "rlaar")


class RlaarOptions(BaseModel):
    """The numbers of the curriculum."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: int = Field(2, ge=2, description="pieces at the start")
    reach: float = Field(0.8, gt=0, description="share of the start's mean reward that raises them")
    steps: int = Field(
        5, ge=1, description="steps over which a mean is taken: the start's, and each later one"
    )


@dataclass
class ShardCurriculum:
    """Where the curriculum stands.

    level: pieces now; `most` of any prompt once drawn uniformly. start: mean reward of the first
    steps, None until it is known. total, count: of the rewards that the next mean is taken over.
    """

    options: RlaarOptions
    level: int
    uniform: bool = False
    start: float | None = None
    total: float = 0.0
    count: int = 0

    def pieces(self, random: Random) -> int:
        """Pieces of one conversation."""
        return random.randint(self.options.first, self.level) if self.uniform else self.level

    def saw(self, reward: float, most: int) -> None:
        """One step's mean reward. most: pieces that any prompt can come in."""
        if self.uniform:
            return
        self.total, self.count = self.total + reward, self.count + 1
        if self.count < self.options.steps:
            return
        mean = self.total / self.count
        if self.start is None:
            self.start = mean
        if mean >= self.options.reach * self.start:
            self.uniform = self.level >= most
            self.level = min(self.level + 1, max(most, self.level))
        self.total, self.count = 0.0, 0

    @property
    def state(self) -> dict[str, Any]:
        """All but the options, as JSON."""
        return {
            "level": self.level,
            "uniform": self.uniform,
            "start": self.start,
            "total": self.total,
            "count": self.count,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.level, self.uniform = int(state["level"]), bool(state["uniform"])
        self.start = state["start"]
        self.total, self.count = float(state["total"]), int(state["count"])


def shard_curriculum(recipe: Recipe) -> ShardCurriculum | None:
    """The curriculum that the recipe names, at its start; None for none.

    Raises RecipeError, with the key's line.
    """
    name = recipe.shard_curriculum.get("name")
    if name not in CURRICULA:
        raise RecipeError(
            f"{recipe.where('shard_curriculum')}: shard_curriculum: expected a name among "
            f"{', '.join(CURRICULA)}, found {name!r}"
        )
    if name == "none":
        return None
    options = recipe.bind("shard_curriculum", RlaarOptions, skip=["name"])
    return ShardCurriculum(options, options.first)
