"""The comparison table at the end of a run: judged here, read from the other runs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.console import Display
from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.core.files import read_json
from icpo_lite.core.next_step import next_line
from icpo_lite.evaluation.compare import show_comparison
from icpo_lite.evaluation.judging import JudgingOptions, judge_policy
from icpo_lite.evaluation.settings import settings_for
from icpo_lite.evaluation.table import judged_problems
from icpo_lite.recipe import compared_recipes
from icpo_lite.rollout.from_recipe import sampling_options
from icpo_lite.runs.session import Session

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


def judge_run_and_base(session: Session, folder: Path, display: Display) -> None:
    """Judge this run, then the base, on the same problems with the same noise."""
    recipe = session.recipe
    settings = settings_for(session.problems, recipe.evaluation.settings)
    options = JudgingOptions(
        block=recipe.evaluation.model_copy(update={"settings": settings}),
        sampling=sampling_options(
            recipe,
            temperature=recipe.evaluation.temperature,
            engine=session.trainer.sampling.engine,
        ),
        system=recipe.served_system_prompt,
        ask_cost=recipe.served_ask_cost,
        facts=judged_with(recipe),
    )
    for name, place, off in (("run", folder / "eval", False), ("base", folder / "eval-base", True)):
        if judged_as(place) == judged_with(recipe):
            continue
        with session.policy.adapter_off() if off else contextlib.nullcontext():
            judge_policy(
                name,
                session.policy,
                session.judge,
                session.problems,
                options,
                place,
                display.message,
            )
        display.message(f"Judged {'the base' if off else 'this run'}: {place / 'eval.json'}")


def judged_with(recipe: Recipe) -> dict[str, Any]:
    """What a judgement depends on beside the weights; one that differs is made anew."""
    return {"steps": recipe.max_steps, **recipe.evaluation.model_dump(mode="json")}


def judged_as(place: Path) -> dict[str, Any] | None:
    """What the judgement in `place` was made with, None where there is none."""
    try:
        facts = _summary(place / "eval.json").get("judged_with")
    except (FileNotFoundError, RunDirectoryError):  # none, or half of one: it is made anew
        return None
    return dict(facts) if isinstance(facts, dict) and facts else None


def _summary(path: Path) -> dict[str, Any]:
    """The figures in an eval.json. Raises RunDirectoryError when it cannot be read."""
    try:
        return dict(read_json(path.read_text()))
    except (ValueError, TypeError) as error:
        raise RunDirectoryError(
            f"{path}: expected figures as JSON, found {error}; delete the file and run this again"
        ) from None


def show_result(recipe: Recipe, display: Display) -> None:
    """The comparison table from what the runs' directories hold, and where things lie."""
    folder = Path(recipe.output_dir)
    places = {"base": folder / "eval-base"}
    places |= {n: Path(r.output_dir) / "eval" for n, r in compared_recipes(recipe).items()}
    own = "icpo" if recipe.share_underspecified else "run"
    places[own] = folder / "eval"
    found = {n: p / "eval.json" for n, p in places.items() if (p / "eval.json").is_file()}
    summaries = {name: _summary(path) for name, path in found.items()}
    if own in summaries:
        options = summaries[own]["judged_with"]
        display.message(
            f"\n{judged_problems(summaries[own])} {_part(recipe, options['split'])} x "
            f"{options['runs']} runs, temperature {options['temperature']:g}; points with 95 % "
            "intervals over problems"
        )
        show_comparison(summaries, own, display)
    display.message(f"\nAdapter, metrics, completions and conversations: {folder}")
    display.to_type(next_line("report", folder, also=("chat", folder)))


def _part(recipe: Recipe, split: str) -> str:
    """Which problems the table is of."""
    held_out = recipe.eval_holdout and recipe.evaluation.dataset_name is None
    return "kept back from training" if held_out else f"of the {split} split"
