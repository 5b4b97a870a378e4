"""What changes over a run, as pure functions: learning rate, fraction of `q*`, entropy coefficient.

A schedule that learns from what was measured keeps its memory in a `State`, a dictionary of
numbers that goes into a checkpoint as it is: `state = schedule.start()`, `schedule.value(step,
state)`, `state = schedule.update(state, measured)`. Schedules themselves never change.

Steps count from 0 here: `step` is the number of updates already made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from icpo_lite.core.errors import RecipeError
from icpo_lite.recipe.objective_sections import LossKeys

Kind = Literal["linear", "cosine", "constant"]
State = dict[str, float]


def lr_factor(
    step: int,
    max_steps: int,
    kind: Kind = "linear",
    warmup_steps: int = 0,
    min_ratio: float = 0.0,
) -> float:
    """What `learning_rate` is multiplied with for the update after `step` updates.

    Warm-up rises as 1/w, 2/w, ... 1 over the first w updates, so that none is wasted on a rate
    of 0. From the update after it, at factor 1, the factor falls towards `min_ratio`, which
    it would reach at `max_steps`, one past the last update (as in transformers).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if kind == "constant":
        return 1.0
    progress = min((step - warmup_steps) / max(max_steps - warmup_steps, 1), 1.0)
    if kind == "linear":
        fall = 1 - progress
    elif kind == "cosine":
        fall = (1 + math.cos(math.pi * progress)) / 2
    else:
        raise ValueError(f"expected linear, cosine or constant, found {kind!r}")
    return min_ratio + (1 - min_ratio) * fall


# -- fraction of underspecified prompts, or the weight of their reward ----------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """What a step showed; None where it held no prompt of that kind.

    clarification_rate: of the replies to `q*` that asked. accuracy: of those to `q` that were
    right. over_asking_rate: of those to `q` that asked.
    """

    clarification_rate: float | None = None
    accuracy: float | None = None
    over_asking_rate: float | None = None


class Schedule(Protocol):
    """A number for each step: the fraction of `q*`, or a factor of its reward."""

    def start(self) -> State:
        """The state before the first step."""
        ...

    def value(self, step: int, state: Mapping[str, float]) -> float:
        """The number for the step after `step` updates."""
        ...

    def update(self, state: Mapping[str, float], measured: Measured) -> State:
        """The state after a step that showed `measured`."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """The same number at every step."""

    level: float

    def start(self) -> State:
        return {}

    def value(self, step: int, state: Mapping[str, float]) -> float:
        return self.level

    def update(self, state: Mapping[str, float], measured: Measured) -> State:
        return dict(state)


@dataclass(frozen=True, slots=True)
class Linear:
    """From `first` at step 0 to `last` at step `over_steps`, then `last`."""

    first: float
    last: float
    over_steps: int

    def start(self) -> State:
        return {}

    def value(self, step: int, state: Mapping[str, float]) -> float:
        progress = min(step / max(self.over_steps, 1), 1.0)
        return self.first + (self.last - self.first) * progress

    def update(self, state: Mapping[str, float], measured: Measured) -> State:
        return dict(state)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Raised while the policy asks too little, lowered as soon as its solving suffers.

    After each step, on running means of what was measured (weight `smoothing` on the past):
    lowered by `step_size` when accuracy is below `keep_accuracy` times its best (counted once
    the mean spans 1 / (1 - smoothing) steps: one lucky step is no standard), or over-asking
    above `max_over_asking`; otherwise raised by `step_size` when the clarification rate is below
    `target`, lowered when it is above `target` + `slack`; always within [low, high]. Solving goes
    first because too much pressure to ask destroys it (RLAAR's sweep, arXiv 2510.18731: at a
    pressure of 0.5 abstention is best and the score falls from 72 to 27).
    """

    initial: float
    low: float
    high: float
    target: float = 0.8
    slack: float = 0.1
    keep_accuracy: float = 0.95
    max_over_asking: float = 0.05
    step_size: float = 0.02
    smoothing: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.initial <= self.high:
            raise RecipeError(
                "expected 0 <= low <= initial <= high in an adaptive schedule, found "
                f"low {self.low:g}, initial {self.initial:g}, high {self.high:g}"
            )

    def start(self) -> State:
        return {"value": self.initial}

    def value(self, step: int, state: Mapping[str, float]) -> float:
        return state["value"]

    def update(self, state: Mapping[str, float], measured: Measured) -> State:
        now = dict(state)
        for name in ("clarification_rate", "accuracy", "over_asking_rate"):
            found = getattr(measured, name)
            if found is not None:
                before = now.get(name, found)
                now[name] = self.smoothing * before + (1 - self.smoothing) * found
        if measured.accuracy is not None:
            now["steps"] = now.get("steps", 0.0) + 1
            if now["steps"] * (1 - self.smoothing) > 1 - 1e-9:
                now["best_accuracy"] = max(now.get("best_accuracy", 0.0), now["accuracy"])
        now["value"] = min(max(now["value"] + self._move(now), self.low), self.high)
        return now

    def _move(self, now: Mapping[str, float]) -> float:
        suffers = now.get("accuracy", 0.0) < self.keep_accuracy * now.get("best_accuracy", 0.0)
        if suffers or now.get("over_asking_rate", 0.0) > self.max_over_asking:
            return -self.step_size
        asks = now.get("clarification_rate")
        if asks is None or self.target <= asks <= self.target + self.slack:
            return 0.0
        return self.step_size if asks < self.target else -self.step_size


#: Name in a recipe → the schedule, and which of its fields is the level that the run starts with.
SCHEDULES: dict[str, tuple[type[Constant] | type[Linear] | type[Adaptive], str]] = {
    "constant": (Constant, "level"),
    "linear": (Linear, "first"),
    "adaptive": (Adaptive, "initial"),
}


def split_prompts(fraction: float, prompts: int, carried: float) -> tuple[int, float]:
    """How many of a step's `prompts` are underspecified, and what is carried to the next step.

    The rounding error is carried on (start with 0), so that over many steps the mean is
    `fraction` to within 1/prompts, whatever it is: 30 % of 8 prompts is 2, 2, 3, 2, 3.
    """
    wanted = fraction * prompts + carried
    # The tiny term takes back what float sums lose: 0.1 · 10 carried ten times must give whole
    # prompts.
    count = min(max(math.floor(wanted + 1e-9), 0), prompts)
    return count, wanted - count


# -- entropy coefficient ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EntropyTarget:
    """An entropy coefficient that is steered to a target (Skywork-OR1, arXiv 2505.22312).

    After each step the coefficient goes up by
    `entropy_coef_delta` when the measured entropy is at or below
    `entropy_target`, else down, within [entropy_coef_min, entropy_coef_max]; it is applied only
    while the last measured entropy is at or below the target. It starts at `entropy_coef`.
    """

    keys: LossKeys

    @property
    def target(self) -> float:
        assert self.keys.entropy_target is not None  # made only where there is one
        return self.keys.entropy_target

    def start(self) -> State:
        return {"coef": self.keys.entropy_coef}

    def coefficient(self, state: Mapping[str, float]) -> float:
        """`entropy_coef` of the next step; 0 before anything was measured."""
        return state["coef"] if state.get("entropy", math.inf) <= self.target else 0.0

    def update(self, state: Mapping[str, float], entropy: float) -> State:
        """entropy: mean over the tokens of the step, in nats."""
        keys = self.keys
        move = keys.entropy_coef_delta if entropy <= self.target else -keys.entropy_coef_delta
        coefficient = min(max(state["coef"] + move, keys.entropy_coef_min), keys.entropy_coef_max)
        return {"coef": coefficient, "entropy": entropy}
