"""Judge models side by side: the same problems, the same noise, one table."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.console import Display
from icpo_lite.core.errors import UsageError
from icpo_lite.core.files import write_atomically
from icpo_lite.core.next_step import next_line
from icpo_lite.core.oom import empty_cache
from icpo_lite.core.outputs import Kind, check_output, holds
from icpo_lite.core.paths import at_home
from icpo_lite.core.types import Intent
from icpo_lite.data.contamination import seen_line_of, trained_texts
from icpo_lite.evaluation.judging import (
    JudgingOptions,
    judge_policy,
    judging_engine,
    require_server,
)
from icpo_lite.evaluation.kept_evaluation import REPLIES
from icpo_lite.evaluation.problems import read_evaluation_problems, trains_on
from icpo_lite.evaluation.request import EvaluationRequest
from icpo_lite.evaluation.runner import require_problems
from icpo_lite.evaluation.serving import require_servable
from icpo_lite.evaluation.settings import settings_for
from icpo_lite.evaluation.table import comparison_rows, data_rows, differences, fitting, remarks
from icpo_lite.policy.from_recipe import find_model
from icpo_lite.rewards.from_recipe import bind_judge
from icpo_lite.rollout.sampler import SamplingOptions

if TYPE_CHECKING:
    from icpo_lite.core.types import Problem
    from icpo_lite.recipe import Recipe

#: Conversations a problem and setting, where nobody says how many; of a data set that has many
#: prompts of its own one reply to each says as much about its rates.
RUNS, GIVEN_RUNS = 8, 1
#: Tokens of the longest reply where neither a recipe nor the user says how many.
SHORT_REPLY = 48
#: Under a table whose columns a newcomer has not met.
_LEGEND = (
    "P: mean score; A90: what the 90th of 100 runs of a problem scores; U: by how much the 10th "
    "scores less; `icpo-lite docs evaluation` says more"
)
#: What an evaluation leaves in its folder, also where it was interrupted.
JUDGED = Kind(
    "an earlier evaluation",
    holds("comparison.json", "*/eval.json", "*/conversations.partial.jsonl", f"*/{REPLIES}"),
    folder=True,
)


def named_models(model: str, compare: str) -> dict[str, str]:
    """Name → run or model, the judged one first; `base` alone means the judged one's base.

    Raises UsageError for a part that is neither `base` nor NAME=PATH.
    """
    folder = Path(model).expanduser()
    models = {folder.resolve().name or folder.name or model: model}
    for part in filter(None, (p.strip() for p in compare.split(","))):
        name, _, path = part.partition("=")
        if part != "base" and not path:
            raise UsageError(f"--compare: expected base or NAME=RUN, separated by commas: {part!r}")
        if "/" in name or name in (".", ".."):
            raise UsageError(
                f"--compare: expected a plain name before =, found {name!r}; change it"
            )
        if name in models:
            raise UsageError(f"--compare: {name!r} names two models; give each a name of its own")
        models[name] = path
    return models


@dataclass(frozen=True)
class Prepared:
    """What is judged and how, before any model is loaded."""

    problems: Sequence[Problem]
    options: JudgingOptions


def prepare_judging(
    asked: EvaluationRequest,
    recipe: Recipe | None,
    place: Path,
    inputs: Sequence[str],
    display: Display,
) -> Prepared:
    """All that can be wrong without a model is looked at; says what is judged.

    recipe: that of the first model. place: the folder of the results. inputs: runs and models that
    are read.
    """
    check_output(place, JUDGED, inputs=(*inputs, *asked.data))
    chosen = _judged_problems(asked, recipe, display)
    options = _options(asked, recipe, chosen)
    require_problems(chosen)
    require_server(options)
    require_servable(chosen, options.serve_as)
    return Prepared(chosen, options)


def finish_judging(summaries: Mapping[str, Any], first: str, place: Path, display: Display) -> None:
    """Show the table of all models, write its figures, say what comes next."""
    show_comparison(summaries, first, display)
    write_atomically(place / "comparison.json", f"{json.dumps(summaries, indent=2)}\n".encode())
    display.message(f"\nFigures and conversations: {place}")
    inside = place.name.startswith("eval-") and _is_trained(place.parent)
    display.to_type(next_line("report", place.parent if inside else place))


def judge_models(
    models: Mapping[str, str],
    asked: EvaluationRequest,
    *,
    display: Display,
    output: Path | None = None,
    adapter_off: bool = False,
) -> dict[str, Any]:
    """Judge every model on the same problems, print one table, write the results.

    adapter_off: judge the bases of the models, as their runs are judged.
    Results go to `output`, by default `eval-<split>` inside the first model's run directory, else
    `runs/eval-<name>`.
    """
    first = next(iter(models))
    # All that can be wrong without a model is looked at before one is loaded.
    found = {name: find_model(path or models[first]) for name, path in models.items()}
    place = output or _default_place(models[first], asked.block.split)
    own = found[first].recipe
    prepared = prepare_judging(asked, own, place, list(models.values()), display)
    summaries: dict[str, Any] = {}
    for name, path in models.items():
        policy = found[name].load(asked.said("device"))
        # One judge for all: that of the first model's recipe.
        judge = bind_judge(
            own,
            policy,
            name=asked.keys.get("judge"),
            allow_code_execution=asked.said("allow_code_execution"),
        )
        with policy.adapter_off() if adapter_off or not path else contextlib.nullcontext():
            options = prepared.options
            engine, why = judging_engine(policy, own, options, prepared.problems)
            display.message(f"{name} is sampled by {why}")
            sampling = options.sampling.but(engine=engine)
            openings_from = "" if adapter_off else path
            summaries[name] = judge_policy(
                name,
                policy,
                judge,
                prepared.problems,
                replace(options, openings_from=openings_from, sampling=sampling),
                place / name,
                display.message,
            )
        display.message(f"judged {name}")
        on_cpu = policy.device.torch_device.type == "cpu"
        del policy, judge  # before the next one is loaded: two do not fit on one card
        if not on_cpu or len(summaries) < len(models):
            empty_cache()
    finish_judging(summaries, first, place, display)
    return summaries


def _judged_problems(
    asked: EvaluationRequest, recipe: Recipe | None, display: Display
) -> list[Problem]:
    """The problems to judge on; says what was left out and what they are."""
    split = asked.block.split
    named = [str(at_home(name)) if name.startswith("~") else name for name in asked.data]
    data = named or (recipe.evaluation.dataset_name if recipe else None) or None
    if trains_on(recipe, data, split):
        display.message(
            "warning: these problems were trained on; give others with --data or --split"
        )
    left_out: Counter[str] = Counter()
    found = read_evaluation_problems(
        data,
        recipe,
        split=split,
        count=asked.count("problems"),
        seed=asked.said("seed"),
        left_out=left_out,
    )
    if recipe is not None and not trains_on(recipe, data, split):
        seen = seen_line_of(found, trained_texts(recipe), "this evaluation")
        if seen:
            display.message(f"warning: {seen}")
    code = sum(p.task == "code" for p in found)
    allowed = asked.key("allow_code_execution", recipe)
    if code and code < len(found) and not allowed:
        found = [p for p in found if p.task != "code"]
        left_out["leave to run generated code: --allow-code-execution"] += code
    if left_out:
        reasons = "; ".join(f"{n} rows, expected {reason}" for reason, n in left_out.most_common())
        display.message(f"left out: {reasons}")
    tasks = Counter(p.task for p in found)
    kinds = "" if len(tasks) < 2 else f" ({', '.join(f'{n} {t}' for t, n in tasks.items())})"
    given = [p for problem in found for p in problem.prompts]
    counts = Counter(p.intent for p in given)
    said = ", ".join(f"{counts[intent]} {intent} prompts" for intent in Intent) if given else ""
    held_out = recipe is not None and not data and recipe.eval_holdout > 0
    part = "kept back from training" if held_out else f"of the {split} split"
    what = f"{said} as the data has them" if given else part
    display.message(
        f"{len(found)} problems{kinds} {what} x {_runs(asked, found)} runs, "
        f"temperature {asked.block.temperature:g}; points with 95 % intervals over problems"
    )
    return found


def _runs(asked: EvaluationRequest, problems: Sequence[Problem]) -> int:
    """Conversations a problem and setting: one reply to each of many prompts, else eight."""
    return asked.count("runs") or (GIVEN_RUNS if any(p.prompts for p in problems) else RUNS)


def _settings(asked: EvaluationRequest, problems: Sequence[Problem]) -> tuple[str, ...]:
    settings = settings_for(problems, asked.settings)
    if refused := [s for s in asked.settings if s not in settings]:
        raise UsageError(
            f"--settings: expected some of {', '.join(settings)} for a data set that has complete "
            f"and insufficient prompts of its own, found {refused[0]}; leave it out"
        )
    return asked.settings or settings


def _options(
    asked: EvaluationRequest, recipe: Recipe | None, problems: Sequence[Problem]
) -> JudgingOptions:
    played = {"settings": _settings(asked, problems), "runs": _runs(asked, problems)}
    block = asked.block.model_copy(update=played)
    length = asked.key("max_completion_length", recipe, otherwise=SHORT_REPLY)
    served = recipe.served_system_prompt if recipe else None
    system = asked.keys.get("system_prompt", served)
    ask_cost = asked.ask_cost
    if ask_cost is None and recipe is not None:
        ask_cost = recipe.served_ask_cost
    return JudgingOptions(
        block=block,
        sampling=SamplingOptions(length, block.temperature),
        noise_seed=asked.said("seed"),
        system=system,
        ask_cost=ask_cost,
        user=asked.user,
        user_server=asked.key("endpoint", recipe),
        ask_threshold=asked.ask_threshold,
        serve_as=asked.serve_as,
        facts={
            "data": list(asked.data),
            "split": block.split,
            "problems": len(problems),
            "settings": list(block.settings),
            "runs": block.runs,
            "temperature": block.temperature,
            "max_new_tokens": length,
            "max_turns": block.max_turns,
            "system": system,
            "ask_cost": ask_cost,
            "user": asked.user,
            "ask_threshold": asked.ask_threshold,
            "serve_as": asked.serve_as,
            "seed": asked.said("seed"),
            "judge": asked.key("judge", recipe),
            "grading": recipe.grading if recipe else {},
        },
    )


def show_comparison(summaries: Mapping[str, Any], of: str, display: Display) -> None:
    """The table of all models, and the paired differences of one against the others."""
    for name, summary in summaries.items():
        title, listed = data_rows(name, summary)
        if listed:  # data sets with prompts of their own
            for header, rows in fitting(title, listed, display.console.width):
                display.table(header, rows)
    for header, rows in fitting(*comparison_rows(summaries), display.console.width):
        display.table(header, rows)
    if any(summary.get("settings") for summary in summaries.values()):
        display.message(_LEGEND)
    for line in (*remarks(summaries), *differences(summaries, of)):
        display.message(line)


def _default_place(model: str, split: str) -> Path:
    folder = Path(model)
    if _is_trained(folder):
        return folder / f"eval-{split}"
    return Path("runs") / f"eval-{folder.name.replace(':', '-')}"


def _is_trained(folder: Path) -> bool:
    """Whether a folder is a run or an adapter."""
    return any((folder / name).is_file() for name in ("recipe.yaml", "adapter_config.json"))
