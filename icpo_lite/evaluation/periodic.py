"""Small evaluations while training: which checkpoint is best, and when more steps are no use."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.oom import RowLimit, Say, same_random_numbers
from icpo_lite.data.named_data import require_data
from icpo_lite.data.system_prompts import openings
from icpo_lite.evaluation.judging import CPU_ROWS
from icpo_lite.evaluation.problems import (
    read_evaluation_problems,
    require_judgeable,
    trains_on,
)
from icpo_lite.evaluation.runner import evaluate
from icpo_lite.evaluation.settings import settings_for
from icpo_lite.rewards.from_recipe import choose_shard
from icpo_lite.rollout.engines.fitting_rows import GPU_ROWS, prefix_memory
from icpo_lite.rollout.from_recipe import sampling_options
from icpo_lite.rollout.groups import PolicyTalker

if TYPE_CHECKING:
    from icpo_lite.core.types import Problem
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.rewards.judge import Judge

#: Figures of which less is better.
LESS_IS_BETTER = frozenset({"U", "turns", "lucky", "over_asking_rate", "non_answer_rate"})
_RATES = {
    "underspecified": ("clarification_rate", "non_answer_rate", "targeted_rate"),
    "full": ("over_asking_rate",),
}
_OF_A_SETTING = ("P", "U", "lucky", "turns")


def figure_names(settings: Sequence[str]) -> list[str]:
    """The figures that evaluations in these settings give."""
    names = [f"{s}/{f}" for s in settings if s != "underspecified" for f in _OF_A_SETTING]
    rates = [rate for s in settings for rate in _RATES.get(s, ())]
    return [*(["P"] if names else []), *names, *rates]


def figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """An evaluation's summary as flat numbers, in points; P is the mean over settings."""
    out: dict[str, float] = {}
    for setting, found in summary["settings"].items():
        for name in _OF_A_SETTING:
            value = found[name]
            out[f"{setting}/{name}"] = float(value if name == "turns" else value["value"])
    if means := [value for name, value in out.items() if name.endswith("/P")]:
        out["P"] = sum(means) / len(means)
    rates = {name: rate for name, rate in summary["rates"].items() if rate is not None}
    return out | {name: float(rate["value"]) for name, rate in rates.items()}


class SmallEvaluation:
    """`eval_steps` of a recipe: the policy as it is, on a few problems that are not the table's.

    Raises RecipeError when metric_for_best_model is not among its figures, and where there is no
    problem to judge on.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        require_data(recipe, "eval_dataset_name", recipe.eval_dataset_name)
        self.problems: list[Problem] = read_evaluation_problems(
            recipe.eval_dataset_name,
            recipe,
            split=recipe.eval_split,
            count=recipe.eval_problems,
            seed=0,
            left_out=(left_out := Counter[str]()),
        )
        require_judgeable(self.problems, recipe, "eval_steps", left_out)
        self._settings = settings_for(self.problems, recipe.eval_settings)
        names = figure_names(self._settings)
        self.metric = recipe.metric_for_best_model.removeprefix("eval/").removeprefix("eval_")
        if self.metric not in names:
            raise RecipeError(
                f"{recipe.where('metric_for_best_model')}: metric_for_best_model: expected one of "
                f"{', '.join(names)}, found {self.metric!r}"
            )
        greater = recipe.greater_is_better
        by_name = self.metric.rpartition("/")[2] not in LESS_IS_BETTER
        self.engine = "auto"  # the one that samples in training, once it is chosen
        self.greater_is_better = by_name if greater is None else greater

    @property
    def warning(self) -> str:
        """A line where the problems are also trained on, else ""."""
        if not trains_on(self._recipe, self._recipe.eval_dataset_name, self._recipe.eval_split):
            return ""
        return (
            "eval_steps judges on problems that are trained on; set eval_dataset_name to a file "
            "that is not, or eval_holdout: 0.1 to keep a tenth back"
        )

    def due(self, step: int) -> bool:
        return step % (self._recipe.eval_steps or 1) == 0 or step == self._recipe.max_steps

    def run(self, policy: Policy, judge: Judge, say: Say) -> dict[str, float]:
        """Figures by their names in metrics.jsonl, which begin with `eval/`.

        Noise is keyed by the problem and the run, the same at every step, so that two checkpoints
        differ by their weights alone; the training's own random numbers stay as they are.
        """
        recipe, started = self._recipe, time.monotonic()
        on_cpu = policy.device.torch_device.type == "cpu"
        rows = CPU_ROWS if on_cpu else GPU_ROWS
        options = sampling_options(
            recipe,
            temperature=recipe.evaluation.temperature,
            max_rows=rows,
            engine=self.engine,
            memory=prefix_memory(policy),
            limit=RowLimit("evaluation", say=say),
        )
        with same_random_numbers():
            result = evaluate(
                "eval",
                PolicyTalker(policy, options),
                judge,
                self.problems,
                choose=choose_shard,
                settings=self._settings,
                runs=recipe.eval_runs,
                seed=0,
                max_turns=recipe.evaluation.max_turns,
                system=openings(recipe.served_system_prompt, recipe.served_ask_cost),
                tell=say,
            )
        found = {f"eval/{name}": value for name, value in figures(result.summary).items()}
        return {**found, "eval/seconds": time.monotonic() - started}
