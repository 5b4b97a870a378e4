"""Judge models side by side: the same problems, the same noise, one table."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from icpo_lite.binding import (
    bind_judge,
    choose_shard,
    load_model,
    read_evaluation_problems,
    trains_on,
)
from icpo_lite.display import Display
from icpo_lite.errors import UsageError
from icpo_lite.evaluation.evaluate import (
    comparison_rows,
    differences,
    evaluate,
    write_evaluation,
)
from icpo_lite.evaluation.settings import SETTINGS
from icpo_lite.policy.sampling import SamplingOptions
from icpo_lite.rollout import PolicyTalker

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.rewards.judge import Judge
    from icpo_lite.types import Problem

#: Conversations that are sampled at once on a CPU, where memory is not what limits them.
CPU_ROWS = 512
#: … and on a GPU when no recipe says what fits.
GPU_ROWS = 64


@dataclass(frozen=True)
class JudgingOptions:
    """How a model is judged; `sampling` without its `max_rows`, which the device decides.

    facts: written into eval.json as `judged_with`.
    """

    settings: tuple[str, ...]
    runs: int
    sampling: SamplingOptions
    seed: int = 0
    max_turns: int | None = None
    system: str | None = None
    gpu_rows: int = GPU_ROWS
    facts: Mapping[str, Any] = field(default_factory=dict)


def judge_policy(
    name: str,
    policy: Policy,
    judge: Judge,
    problems: Sequence[Problem],
    options: JudgingOptions,
    place: Path,
) -> dict[str, Any]:
    """Judge one policy and write eval.json and conversations.jsonl into `place`."""
    on_cpu = policy.device.torch_device.type == "cpu"
    rows = CPU_ROWS if on_cpu else options.gpu_rows
    result = evaluate(
        name,
        PolicyTalker(policy, replace(options.sampling, max_rows=rows)),
        judge,
        problems,
        choose=choose_shard,
        settings=options.settings,
        runs=options.runs,
        seed=options.seed,
        max_turns=options.max_turns,
        system=options.system,
    )
    result = replace(result, summary={**result.summary, "judged_with": dict(options.facts)})
    write_evaluation(result, place)
    return dict(result.summary)


def named_models(model: str, compare: str) -> dict[str, str]:
    """Name → run or model, the judged one first; `base` alone means the judged one's base.

    Raises UsageError for a part that is neither `base` nor NAME=PATH.
    """
    models = {Path(model).name or model: model}
    for part in filter(None, (p.strip() for p in compare.split(","))):
        name, separator, path = part.partition("=")
        if part == "base":
            models["base"] = ""
        elif not separator or not path:
            raise UsageError(f"--compare: expected base or NAME=RUN, separated by commas: {part!r}")
        elif name in models:
            raise UsageError(f"--compare: {name!r} names two models; give each a name of its own")
        else:
            models[name] = path
    return models


def judge_models(
    models: Mapping[str, str],
    *,
    display: Display,
    data: str | None,
    split: str,
    settings: Sequence[str],
    problems: int,
    runs: int,
    temperature: float,
    max_new_tokens: int | None,
    device: str,
    seed: int,
    output: Path | None,
) -> dict[str, Any]:
    """Judge every model on the same problems, print one table, write the results.

    settings: empty for all.

    Results go to `output`, by default `eval-<split>` inside the first model's run directory, else
    `runs/eval-<name>`.
    """
    first = next(iter(models))
    place = output or _default_place(models[first], split)
    summaries: dict[str, Any] = {}
    chosen: list[Problem] = []
    for name, path in models.items():
        policy, recipe = load_model(path or models[first], device=device)
        if not chosen:
            own = recipe
            if trains_on(recipe, data, split):
                display.message(
                    "warning: these problems were trained on; give others with --data or --split"
                )
            chosen = read_evaluation_problems(data, recipe, split=split, count=problems, seed=seed)
            default = recipe.max_completion_length if recipe else 48
            options = JudgingOptions(
                settings=tuple(settings) or tuple(SETTINGS),
                runs=runs,
                sampling=SamplingOptions(max_new_tokens or default, temperature),
                seed=seed,
                system=recipe.system_prompt if recipe else None,
                gpu_rows=recipe.prompts_per_step * recipe.num_generations if recipe else GPU_ROWS,
            )
            display.message(
                f"{len(chosen)} problems of the {split} split x {runs} runs, temperature "
                f"{temperature:g}; points with 95 % intervals over problems"
            )
        # One judge for all: that of the first model's recipe.
        with policy.adapter_off() if not path else contextlib.nullcontext():
            summaries[name] = judge_policy(
                name, policy, bind_judge(own, policy), chosen, options, place / name
            )
        display.message(f"judged {name}")
        del policy  # before the next one is loaded: two do not fit on one card
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    show_comparison(summaries, first, display)
    (place / "comparison.json").write_text(json.dumps(summaries, indent=2) + "\n")
    display.message(f"\nFigures and conversations: {place}")
    return summaries


def show_comparison(summaries: Mapping[str, Any], of: str, display: Display) -> None:
    """The table of all models, and the paired differences of one against the others."""
    display.table(*comparison_rows(summaries))
    for line in differences(summaries, of):
        display.message(line)


def _default_place(model: str, split: str) -> Path:
    folder = Path(model)
    if (folder / "recipe.yaml").is_file():
        return folder / f"eval-{split}"
    return Path("runs") / f"eval-{folder.name.replace(':', '-')}"
