"""From a recipe to a finished run directory: prepare, train, judge, compare.

The same call starts a run, resumes an interrupted one, and says so when it is done.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from icpo_lite.core.console import Display
from icpo_lite.core.diagnostics import Watch
from icpo_lite.core.errors import (
    Halted,
    Interrupted,
    NumericsError,
    OutOfMemory,
    RunDirectoryError,
)
from icpo_lite.core.oom import empty_cache
from icpo_lite.recipe import compared_recipes
from icpo_lite.runs.checkpoint import discard_later, latest_checkpoint, write_together
from icpo_lite.runs.checkpoint_manager import CheckpointManager, bring_back, mirror_of
from icpo_lite.runs.comparison_runs import ComparisonRuns
from icpo_lite.runs.completion_rows import completion_rows, most_telling
from icpo_lite.runs.result import judge_run_and_base, judged_as, judged_with, show_result
from icpo_lite.runs.run_directory import RunDirectory
from icpo_lite.runs.session import Session, on_cpu, prepare_session
from icpo_lite.runs.signals import StopRequest, stop_signals
from icpo_lite.runs.trackers import Tracking, start_tracking
from icpo_lite.training.dry_run import dry_run, wanted

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
        *("report_to", "hub_model_id"),
        *("save_minutes", "mirror_dir", "rehearse", "max_skipped_updates"),
        *("eval_steps", "eval_dataset_name", "eval_split", "eval_problems", "eval_runs"),
        *("eval_settings", "metric_for_best_model", "greater_is_better"),
        *("load_best_model_at_end", "early_stopping_patience"),
    }
)


def train(
    recipe: Recipe,
    display: Display | None = None,
    *,
    resume_anyway: bool = False,
    threads: int | None = None,
) -> Path:
    """Train, save, judge and compare as the recipe says; returns the run directory.

        train(load_recipe("tiny", max_steps=20))

    display: where progress is shown, None for the terminal. threads: of torch on a CPU; None
    shares the cores among this run and those compared with it. The same call resumes a run that
    was interrupted. Works in a script, a thread or a notebook: a signal ends the run after its
    step where this is the main thread.

    Raises Interrupted once the work is saved after SIGINT or SIGTERM, and any other IcpoError
    with the last whole checkpoint named.
    """
    shown = display or Display(total=recipe.max_steps, every=recipe.logging_steps)
    try:
        return _train(recipe, shown, resume_anyway, threads)
    finally:
        shown.close()


def _train(recipe: Recipe, display: Display, resume_anyway: bool, threads: int | None) -> Path:
    folder = Path(recipe.output_dir)
    with contextlib.ExitStack() as stack:
        # An existing directory is locked before the model is loaded, so that a second process
        # cannot take the first one's memory; a new one is made when nothing can be wrong any more.
        mirror = mirror_of(recipe)
        mirrored = mirror is not None and mirror.is_dir()
        known = folder.is_dir() or (mirrored and recipe.resume_from_checkpoint is not False)
        run = stack.enter_context(RunDirectory(folder)) if known else None
        compared = compared_recipes(recipe)
        if run is not None:
            for line in run.notes:
                display.message(f"note: {line}")
            bring_back(recipe, display.message)
            if recipe.resume_from_checkpoint is False:
                _begin_anew(run)
        recipe = _dated(recipe, run)
        day = {"chat_template_date": recipe.chat_template_date}
        compared = {name: other.model_copy(update=day) for name, other in compared.items()}
        if run is not None:
            _check_changes(run, recipe, display, resume_anyway)
        if run is not None and _nothing_left(run, recipe, compared):
            display.message(f"This run is done: {folder}. Its result:")
            show_result(recipe, display)
            return folder
        share = max((os.cpu_count() or 1) // (1 + len(compared)), 1)
        session = prepare_session(recipe, display, threads or share)
        if run is None:
            run = stack.enter_context(RunDirectory(folder))
        run.write_recipe(_resolved(recipe))
        idle = _idle(compared, session, display)
        compared = {name: other for name, other in compared.items() if name not in idle}
        comparisons = ComparisonRuns(compared, display)
        stack.callback(comparisons.stop)
        if on_cpu(session):
            for name in compared:
                comparisons.start(name, torch.get_num_threads())
        with stop_signals() as stop:
            manager = _train_steps(session, run, display, stop)
        if recipe.evaluation.enabled:
            judge_run_and_base(session, folder, display)
        alone, done_steps = not on_cpu(session), session.trainer.done_steps
        manager.let_go()
        del session
        if alone:
            empty_cache()
        for name in compared:
            if alone:  # one GPU holds one of them at a time
                comparisons.start(name, torch.get_num_threads())
            comparisons.wait(name)
        early = {"stopped_early": done_steps} if done_steps < recipe.max_steps else {}
        left_out = {"left_out": idle} if idle else {}
        run.mark_finished(steps=recipe.max_steps, **early, **left_out)
        manager.mirror()
        show_result(recipe, display)
    return folder


def _idle(compared: Mapping[str, Recipe], session: Session, display: Display) -> list[str]:
    """The runs to compare with that would learn nothing here, with a word on why.

    One that trains on complete prompts alone needs gold answers, and sets of asking may have none.
    """
    idle = [n for n, r in compared.items() if not (session.graded or r.share_underspecified)]
    for name in idle:
        display.message(
            f"{name} is left out: it trains on complete prompts alone, and none of this corpus "
            "has a gold answer"
        )
    return idle


def _train_steps(
    session: Session, run: RunDirectory, display: Display, stop: StopRequest
) -> CheckpointManager:
    """Resume or begin, run the steps that are left, log and save them."""
    recipe, trainer, policy, small = (
        session.recipe,
        session.trainer,
        session.policy,
        session.small,
    )
    metric = small.metric if small else ""
    manager = CheckpointManager(recipe, policy, trainer, run.path, metric, display.message)
    resumed = manager.restore()
    for line in run.cut_after(resumed):
        display.message(line)
    run.write_run_info(
        seed=recipe.seed,
        command=sys.argv,
        step=resumed,
        model=recipe.model_name_or_path,
        device=policy.device.name,
        dtype=str(policy.device.dtype),
    )
    if resumed:
        display.message(f"Resumed after step {resumed} of {recipe.max_steps}.")
    tracking = start_tracking(
        recipe.report_to, run.path, run.run_info(), _resolved(recipe), display.message
    )
    try:
        if not manager.ended_before:
            _steps_left(session, manager, run, tracking, display, stop)
    except (NumericsError, OutOfMemory, RunDirectoryError) as error:
        display.close()
        found = latest_checkpoint(run.path).path
        last_good = f"the last good checkpoint is {found}" if found else "no checkpoint yet"
        raise type(error)(f"step {trainer.done_steps + 1}: {error}; {last_good}") from error
    finally:
        tracking.close()
    display.close()
    if recipe.load_best_model_at_end and manager.best.step:
        manager.load_best()
    write_together(run.path, policy.save_adapter)
    return manager


def _steps_left(
    session: Session,
    manager: CheckpointManager,
    run: RunDirectory,
    tracking: Tracking,
    display: Display,
    stop: StopRequest,
) -> None:
    recipe, trainer = session.recipe, session.trainer
    left = recipe.max_steps - trainer.done_steps
    if left > 0 and wanted(recipe.rehearse, session.policy.device.torch_device):
        for line in dry_run(trainer).lines(left):
            display.message(line)
    rows, watch = run.metrics(), Watch()
    for report in trainer.steps():
        judged, best = _small_evaluation(session, manager, report.step, display)
        rows.append({"step": report.step, **report.metrics, **judged})
        run.append_metrics(rows[-1])
        tracking.log(report.step, {**report.metrics, **judged})
        run.write_completions(report.step, completion_rows(report.groups))
        display.step(report)
        every = recipe.log_completions_steps
        if every and report.step % every == 0:
            display.example(most_telling(report.groups, report.step // every))
        findings = watch.new(rows)
        for finding in findings:
            display.message(f"note: {finding.text}")
        last = report.step == recipe.max_steps or manager.ended
        halt = [f for f in findings if f.name in recipe.stop_on and not last]
        if stop.requested or halt or last or best or manager.due(report.step):
            manager.save(report.step)
        if halt:
            display.close()
            raise Halted(
                f"stopped after step {report.step} of {recipe.max_steps}, as stop_on asks at "
                f"{halt[0].name}: {halt[0].text}; saved in {run.path}; take the name out of "
                "stop_on to go on from there"
            )
        if stop.requested and not last:
            display.close()
            raise Interrupted(
                f"interrupted after step {report.step} of {recipe.max_steps}, saved in "
                f"{run.path}; the same command goes on from there"
            )
        if manager.ended:
            display.message(
                f"Stopped after step {report.step} of {recipe.max_steps}: "
                f"{manager.best.stale} evaluations without a new best "
                f"{manager.best.metric} (early_stopping_patience)."
            )
            return


def _small_evaluation(
    session: Session, manager: CheckpointManager, step: int, display: Display
) -> tuple[dict[str, float], bool]:
    """Figures of a small evaluation where one is due, and whether they are the best so far."""
    small = session.small
    if small is None or not small.due(step):
        return {}, False
    figures = small.run(session.policy, session.judge, display.message)
    value = figures[f"eval/{small.metric}"]
    best = manager.judged(step, value, greater_is_better=small.greater_is_better)
    so_far = "the best so far" if best else f"best {manager.best.value:.1f}"
    display.message(f"evaluated after step {step}: {small.metric} {value:.1f}, {so_far}")
    return figures, best


def _resolved(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"gradient_accumulation_steps"})


def _dated(recipe: Recipe, run: RunDirectory | None) -> Recipe:
    """With the day that chat templates write: the recipe's, else that on which this run began.

    A resume on another day would else train on other prompts.
    """
    if recipe.chat_template_date is not None:
        return recipe
    began = run.recipe_value("chat_template_date") if run is not None else None
    return recipe.model_copy(update={"chat_template_date": began or date.today().isoformat()})


def _begin_anew(run: RunDirectory) -> None:
    """Take back what an earlier run left here: `resume_from_checkpoint: false` asks for it."""
    run.clear_finished()
    discard_later(run.path, 0)
    for place in ("eval", "eval-base"):
        shutil.rmtree(run.path / place, ignore_errors=True)


def _nothing_left(run: RunDirectory, recipe: Recipe, compared: Mapping[str, Recipe]) -> bool:
    done = run.finished
    if done is None or int(done.get("steps", 0)) < recipe.max_steps:
        return False
    awaited = [other for name, other in compared.items() if name not in done.get("left_out", ())]
    if not all((Path(other.output_dir) / "finished").is_file() for other in awaited):
        return False
    asked = judged_with(recipe) | {"steps": int(done["steps"])}
    return not recipe.evaluation.enabled or judged_as(run.path / "eval") == asked


def _check_changes(
    run: RunDirectory, recipe: Recipe, display: Display, resume_anyway: bool
) -> None:
    """Show what differs from the recipe that this directory was trained with.

    Raises RunDirectoryError when a key that decides what is learned has changed.
    """
    if latest_checkpoint(run.path).path is None:
        return
    changes = run.recipe_changes(_resolved(recipe))
    for key, (before, now) in changes.items():
        display.message(f"changed since this run began: {key}: {before} -> {now}")
    breaking = [key for key in changes if key.partition(".")[0] not in FREE_TO_CHANGE]
    if breaking and not resume_anyway:
        raise RunDirectoryError(
            f"{run.path} was trained with another {', '.join(breaking)}; set output_dir to a new "
            "directory, undo the change, or pass --resume-anyway"
        )
