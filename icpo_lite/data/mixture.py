"""Several data sets in one recipe: each read as if it were alone, drawn from by its weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from icpo_lite.core.types import Problem, Prompt
from icpo_lite.data.sources import name_of

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

Item = TypeVar("Item", Prompt, Problem)


@dataclass(frozen=True, slots=True)
class Member:
    """One data set: its name, its weight, and the recipe as if there were no other."""

    name: str
    weight: float
    recipe: Recipe


def members(recipe: Recipe) -> list[Member]:
    """The data sets of a recipe, none of them with the name of another."""
    if not recipe.datasets:
        return [Member("", 1.0, recipe)]
    found: list[Member] = []
    for number, block in enumerate(recipe.datasets, start=1):
        name = name_of(block.path)
        if any(name == other.name for other in found):
            name = f"{name}-{number}"
        alone = recipe.said_at("dataset_name", f"datasets.{number - 1}.path").model_copy(
            update={
                "dataset_name": block.path,
                "dataset_config": block.name,
                "dataset_train_split": block.split,
                "columns": block.columns,
                "task": block.task or recipe.task,
                "datasets": (),
            }
        )
        found.append(Member(name, block.weight, alone))
    return found


def weights(recipe: Recipe) -> dict[str, float]:
    """The weight of each data set by its name; {} where there is one."""
    return {member.name: member.weight for member in members(recipe)} if recipe.datasets else {}


def named(member: Member, prompts: Iterable[Prompt]) -> list[Prompt]:
    """Prompts under their data set's name, so that ids of several sets stay apart."""
    if not member.name:
        return list(prompts)
    return [
        replace(
            prompt,
            prompt_id=f"{member.name}/{prompt.prompt_id}",
            problem_id=f"{member.name}/{prompt.problem_id}",
            dataset=member.name,
        )
        for prompt in prompts
    ]


def shares(counts: Sequence[Member], total: int) -> list[int]:
    """How many of `total` each data set gives, by weight, each at least one."""
    whole = sum(member.weight for member in counts)
    given, said, before = [], 0.0, 0
    for member in counts:
        said += member.weight
        place = round(total * said / whole)
        given.append(max(place - before, 1))
        before = place
    return given


class WeightedOrder:
    """Which data set the k-th draw takes: always the one that is furthest behind its weight."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._taken = dict.fromkeys(weights, 0)
        self._order: list[tuple[str, int]] = []

    def at(self, position: int) -> tuple[str, int]:
        """The data set of a draw, and how often it was drawn from before."""
        while len(self._order) <= position:
            name = min(self._weights, key=lambda n: (self._taken[n] + 1) / self._weights[n])
            self._order.append((name, self._taken[name]))
            self._taken[name] += 1
        return self._order[position]
