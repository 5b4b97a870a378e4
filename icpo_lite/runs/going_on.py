"""Whether a run directory may be gone on with, and whether anything is left to do in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.console import Display
from icpo_lite.core.errors import RecipeError, RunDirectoryError
from icpo_lite.core.paths import is_run
from icpo_lite.runs.checkpoint import discard_later, latest_checkpoint, require_named, step_of
from icpo_lite.runs.result import judged_as, judged_with
from icpo_lite.runs.run_directory import RunDirectory, finished_summary

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

#: Keys that may differ on a resume: how long, how often, where and on what, not what is learned
#: from. (max_steps also stretches the learning rate's decay over what is left.)
FREE_TO_CHANGE = frozenset(
    {
        *("max_steps", "save_steps", "save_total_limit", "logging_steps", "log_completions_steps"),
        *("output_dir", "resume_from_checkpoint", "compare"),
        *("backend", "device", "dtype", "per_device_train_batch_size", "gradient_checkpointing"),
        *("attn_implementation", "evaluation", "endpoint", "stop_on"),
        *("report_to", "hub_model_id", "completions_total_limit"),
        *("save_minutes", "mirror_dir", "rehearse", "max_skipped_updates"),
        *("eval_steps", "eval_dataset_name", "eval_split", "eval_problems", "eval_runs"),
        *("eval_settings", "metric_for_best_model", "greater_is_better"),
        *("load_best_model_at_end", "early_stopping_patience"),
    }
)
ADAPTER = "adapter_model.safetensors"


def resolved(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"gradient_accumulation_steps"})


def require_own_place(recipe: Recipe) -> None:
    """Raises RecipeError where a run would write over a file that is no run's.

    Such as the recipe itself, lying in the folder that it names as its output_dir.
    """
    folder = Path(recipe.output_dir)
    if folder.exists() and not folder.is_dir():
        raise RecipeError(
            f"{recipe.where('output_dir')}: output_dir: expected a folder for the run, found the "
            f"file {folder}; name a new folder"
        )
    if is_run(folder) or not folder.is_dir():
        return
    if (folder / "lock").exists() or (folder / "run.json").exists():
        return  # a run that was ended while it began
    names = (
        "recipe.yaml",
        "metrics.jsonl",
        "finished",
        "adapter_config.json",
        ADAPTER,
        "README.md",
    )
    for name in names:
        if (folder / name).exists():
            raise RecipeError(
                f"{recipe.where('output_dir')}: output_dir: expected a new folder or a run "
                f"directory, found {folder / name}, which no run wrote and this one would write "
                "over; name a new folder"
            )


def begin_anew(run: RunDirectory) -> None:
    """Take back what an earlier run left here: `resume_from_checkpoint: false` asks for it."""
    run.clear_finished()
    discard_later(run.path, 0)
    (run.path / "warm_up.json").unlink(missing_ok=True)
    for place in ("eval", "eval-base"):
        shutil.rmtree(run.path / place, ignore_errors=True)


def steps_done(folder: Path) -> int | None:
    """The steps of a finished run; None where it is not finished, or does not say."""
    steps = (finished_summary(folder) or {}).get("steps")
    return steps if isinstance(steps, int) else None


def nothing_left(run: RunDirectory, recipe: Recipe, compared: Mapping[str, Recipe]) -> bool:
    done, steps = run.finished, steps_done(run.path)
    if done is None or steps is None or steps < recipe.max_steps:
        return False
    if not (run.path / ADAPTER).is_file():
        return False  # the last checkpoint holds it
    awaited = [other for name, other in compared.items() if name not in done.get("left_out", ())]
    if not all((Path(other.output_dir) / "finished").is_file() for other in awaited):
        return False
    asked = judged_with(recipe) | {"steps": steps}
    return not recipe.evaluation.enabled or judged_as(run.path / "eval") == asked


def check_changes(
    run: RunDirectory, recipe: Recipe, display: Display, *, resume_anyway: bool
) -> None:
    """Show what differs from the recipe that this directory was trained with.

    Raises RunDirectoryError when a key that decides what is learned has changed. A finished run
    is held to that although its checkpoints are gone: its result is not another recipe's.
    """
    if latest_checkpoint(run.path).path is None and run.finished is None:
        return
    changes = run.recipe_changes(resolved(recipe))
    for key, (before, now) in changes.items():
        display.message(f"changed since this run began: {key}: {before} -> {now}")
    breaking = [key for key in changes if key.partition(".")[0] not in FREE_TO_CHANGE]
    if breaking and not resume_anyway:
        raise RunDirectoryError(
            f"{run.path} was trained with another {', '.join(breaking)}; set output_dir to a new "
            "directory, undo the change, or pass --resume-anyway"
        )


def check_length(folder: Path, recipe: Recipe, *, extend: bool) -> None:
    """Raises RunDirectoryError where max_steps does not fit the steps that were made already.

    A finished run is trained further only where that is asked for: its learning rate has decayed
    to the end that max_steps said, and what was judged and reported is its result.
    """
    asked, done = recipe.max_steps, steps_done(folder)
    newest = latest_checkpoint(folder).path
    if done is not None and asked > done:
        if not extend:
            raise RunDirectoryError(
                f"{folder} is finished after {done} steps, max_steps asks for {asked}; pass "
                "--extend (extend=True) to train it further, or set output_dir to a new directory"
            )
        if newest is None:
            raise RunDirectoryError(
                f"{folder} is finished after {done} steps and its checkpoints are gone, from which "
                f"the steps to {asked} would go on; set output_dir to a new directory, or "
                "resume_from_checkpoint=false to begin anew in this one"
            )
    wish = recipe.resume_from_checkpoint
    if isinstance(wish, str):
        require_named(Path(wish))
    begun = Path(wish) if isinstance(wish, str) else newest
    if done is None and begun is not None and step_of(begun) > asked:
        raise RunDirectoryError(
            f"{begun} has made {step_of(begun)} steps, max_steps asks for {asked}; set "
            f"max_steps={step_of(begun)} or more, or resume_from_checkpoint to an earlier "
            "checkpoint"
        )
    if done is not None and newest is None and not (folder / ADAPTER).is_file():
        raise RunDirectoryError(
            f"{folder} is finished, but its adapter and its checkpoints are gone; set output_dir "
            "to a new directory, or resume_from_checkpoint=false to train it anew"
        )
