"""What a recipe's schedules say for each step: kinds of prompt, learning rate, entropy bonus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from icpo_lite.core.errors import RecipeError
from icpo_lite.recipe import Recipe
from icpo_lite.recipe.objective_sections import LossKeys
from icpo_lite.training.schedules import (
    SCHEDULES,
    EntropyTarget,
    Measured,
    Schedule,
    State,
    lr_factor,
)


@dataclass(frozen=True)
class Plan:
    """One step's numbers; `loss` is the objective with the step's own entropy_coef."""

    share_underspecified: float
    underspecified_weight: float
    learning_rate: float
    loss: LossKeys


class Schedules:
    """All that moves over a run. `states` is what they remember, as JSON for a checkpoint."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.loss = recipe, LossKeys.of(recipe)
        self.fraction = schedule(recipe, "share_schedule", recipe.share_underspecified)
        self.weight = schedule(recipe, "weight_schedule", recipe.underspecified_weight)
        self.entropy = EntropyTarget(self.loss) if recipe.entropy_target is not None else None
        self.states: dict[str, State] = {
            "share": self.fraction.start(),
            "weight": self.weight.start(),
            "entropy": self.entropy.start() if self.entropy else {},
        }

    def at(self, step: int) -> Plan:
        """The numbers of the step after `step` updates."""
        recipe, loss = self.recipe, self.loss
        if self.entropy:
            coefficient = self.entropy.coefficient(self.states["entropy"])
            loss = loss.model_copy(update={"entropy_coef": coefficient})
        factor = lr_factor(
            step, recipe.max_steps, recipe.lr_scheduler_type, recipe.warmup, recipe.min_lr_ratio
        )
        return Plan(
            self.fraction.value(step, self.states["share"]),
            self.weight.value(step, self.states["weight"]),
            recipe.learning_rate * factor,
            loss,
        )

    def move(self, metrics: Mapping[str, float]) -> None:
        """What a step showed, for schedules that go by it."""
        measured = Measured(
            metrics.get("clarification_rate"),
            metrics.get("accuracy"),
            metrics.get("over_asking_rate"),
        )
        now = self.states
        self.states = {
            "share": self.fraction.update(now["share"], measured),
            "weight": self.weight.update(now["weight"], measured),
            "entropy": self.entropy.update(now["entropy"], metrics["entropy"])
            if self.entropy and "entropy" in metrics
            else now["entropy"],
        }


def schedule(recipe: Recipe, key: str, start: float) -> Schedule:
    """How a number moves over the run, from `start` on, as the block under `key` says.

    Raises RecipeError, with the key's line.
    """
    block: Mapping[str, Any] = getattr(recipe, key)
    if block.get("name") not in SCHEDULES:
        raise RecipeError(
            f"{recipe.where(key)}: {key}: expected a name among {', '.join(SCHEDULES)}, found "
            f"{block.get('name')!r}"
        )
    kind, level = SCHEDULES[block["name"]]
    defaults: dict[str, Any] = {level: start}
    if block["name"] == "linear":
        defaults["over_steps"] = recipe.max_steps
    return recipe.bind(key, kind, skip=["name"], **defaults)
