"""From a recipe to a finished run directory: prepare, train, judge, compare.

The same call starts a run, resumes an interrupted one, and says so when it is done.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from icpo_lite.core.console import Display
from icpo_lite.core.device import require_one_process
from icpo_lite.core.diagnostics import Watch
from icpo_lite.core.errors import (
    Halted,
    IcpoError,
    Interrupted,
    NumericsError,
    OutOfMemory,
    RunDirectoryError,
)
from icpo_lite.core.files import read_metrics, write_atomically
from icpo_lite.core.oom import empty_cache
from icpo_lite.core.outputs import require_writable
from icpo_lite.policy.cpu import set_threads
from icpo_lite.policy.start_adapter import with_own_keys
from icpo_lite.recipe import compared_recipes
from icpo_lite.runs.checkpoint import latest_checkpoint, step_of, write_together
from icpo_lite.runs.checkpoint_manager import CheckpointManager, bring_back, mirror_of
from icpo_lite.runs.comparison_runs import ComparisonRuns
from icpo_lite.runs.completion_rows import completion_rows, most_telling
from icpo_lite.runs.going_on import (
    begin_anew,
    check_changes,
    check_length,
    nothing_left,
    require_own_place,
    resolved,
    steps_done,
)
from icpo_lite.runs.model_card import run_card
from icpo_lite.runs.result import judge_run_and_base, show_result
from icpo_lite.runs.run_directory import RunDirectory
from icpo_lite.runs.session import Session, on_cpu, prepare_session
from icpo_lite.runs.signals import StopRequest, interrupting_signals, stop_signals
from icpo_lite.runs.trackers import Tracking, start_tracking
from icpo_lite.training.dry_run import dry_run, wanted
from icpo_lite.training.warm_up import WarmUp

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


#: Takes what the run says once its terminal is gone.
LOG = "console.log"


def train(
    recipe: Recipe,
    display: Display | None = None,
    *,
    resume_anyway: bool = False,
    extend: bool = False,
    threads: int | None = None,
) -> Path:
    """Train, save, judge and compare as the recipe says: `icpo_lite.train`, which says more."""
    shown = display or Display(total=recipe.max_steps, every=recipe.logging_steps)
    try:
        with interrupting_signals():
            return _train(recipe, shown, _Leave(resume_anyway, extend), threads)
    except KeyboardInterrupt as error:
        raise Interrupted(_interruption(recipe)) from error
    finally:
        shown.close()


@dataclass(frozen=True)
class _Leave:
    """What the user allows beyond a plain resume: see `train`."""

    resume_anyway: bool
    extend: bool


def _train(recipe: Recipe, display: Display, leave: _Leave, threads: int | None) -> Path:
    require_one_process()
    recipe = with_own_keys(recipe)
    folder = Path(recipe.output_dir)
    require_own_place(recipe)
    require_writable(folder)
    with contextlib.ExitStack() as stack:
        # An existing directory is locked before the model is loaded, so that a second process
        # cannot take the first one's memory; a new one is made when nothing can be wrong any more.
        mirror = mirror_of(recipe)
        mirrored = mirror is not None and mirror.is_dir()
        known = folder.is_dir() or (mirrored and recipe.resume_from_checkpoint is not False)
        run = stack.enter_context(RunDirectory(folder)) if known else None
        compared = compared_recipes(recipe)
        resumes = leave.extend or latest_checkpoint(folder).path is not None
        if run is not None:
            display.goes_on_in(run.path / LOG)
            for line in run.notes:
                display.message(f"note: {line}")
            bring_back(recipe, display.message)
            if recipe.resume_from_checkpoint is False:
                begin_anew(run)
        recipe = _dated(recipe, run)
        day = {"chat_template_date": recipe.chat_template_date}
        compared = {name: other.model_copy(update=day) for name, other in compared.items()}
        if run is not None:
            check_changes(run, recipe, display, resume_anyway=leave.resume_anyway)
            check_length(run.path, recipe, extend=leave.extend)
        for other in () if resumes else compared.values():
            check_length(Path(other.output_dir), other, extend=leave.extend)
        if run is not None and nothing_left(run, recipe, compared):
            display.message(f"This run is done: {folder}. Its result:")
            if (steps_done(run.path) or 0) > recipe.max_steps:
                display.message(f"note: it has made {steps_done(run.path)} steps, not max_steps")
            if not (run.path / "README.md").exists():
                _write_card(recipe, run)
            show_result(recipe, display)
            return folder
        share = max((os.cpu_count() or 1) // (1 + len(compared)), 1)
        session = prepare_session(recipe, display, threads or share)
        if run is None:
            run = stack.enter_context(RunDirectory(folder))
            display.goes_on_in(run.path / LOG)
        run.write_recipe(resolved(recipe))
        idle = _idle(compared, session, display)
        compared = {name: other for name, other in compared.items() if name not in idle}
        comparisons = ComparisonRuns(compared, display, extend=resumes, threads=threads)
        stack.callback(comparisons.stop)
        with stop_signals() as stop:
            manager = _train_steps(session, run, display, stop, comparisons)
        if stop.requested:  # in the last step, which leaves no other to end before
            raise _interrupted(recipe, display, stop)
        if recipe.evaluation.enabled:
            judge_run_and_base(session, folder, display)
        done_steps = session.trainer.done_steps
        manager.let_go()
        del session
        empty_cache()
        for name in compared:
            if not comparisons.started(name):
                comparisons.start(name, threads or os.cpu_count() or 1)
            comparisons.wait(name)
        early = {"stopped_early": done_steps} if done_steps < recipe.max_steps else {}
        left_out = {"left_out": idle} if idle else {}
        run.mark_finished(steps=recipe.max_steps, **early, **left_out)
        _write_card(recipe, run)
        manager.mirror()
        show_result(recipe, display)
    return folder


def _write_card(recipe: Recipe, run: RunDirectory) -> None:
    """The run's README: what a repository shows where the folder is put into one."""
    write_atomically(run.path / "README.md", run_card(recipe, run.path).encode())


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
    session: Session,
    run: RunDirectory,
    display: Display,
    stop: StopRequest,
    comparisons: ComparisonRuns,
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
    if (steps_done(run.path) or recipe.max_steps) < recipe.max_steps:
        run.clear_finished()  # more steps were asked for
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
        recipe.report_to, run.path, run.run_info(), resolved(recipe), display.message
    )
    try:
        if not manager.ended_before:
            _steps_left(session, manager, run, tracking, display, stop, comparisons)
    except (Interrupted, Halted):
        raise
    except (Exception, SystemExit) as error:
        display.close()
        if not isinstance(error, NumericsError | OutOfMemory | RunDirectoryError):
            manager.rescue()
        if not isinstance(error, IcpoError):
            raise
        # A step's number is its own, also where what follows it fails, such as its checkpoint.
        inside = trainer.phase or not trainer.done_steps
        at = f"step {trainer.done_steps + 1}" if inside else f"after step {trainer.done_steps}"
        raise type(error)(f"{at}: {error}; {_last_good(run.path)}") from error
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
    comparisons: ComparisonRuns,
) -> None:
    recipe, trainer = session.recipe, session.trainer
    left = recipe.max_steps - trainer.done_steps
    if left > 0 and wanted(recipe.rehearse, session.policy.device.torch_device):
        for line in dry_run(trainer).lines(left):
            display.message(line)
    if not trainer.done_steps:
        _warm_up(session, run, display, stop)
    rows, watch = run.metrics(), Watch(paid=recipe.pays)
    manager.remember()
    for report in trainer.steps():
        judged: dict[str, float] = {}
        best = False
        try:
            judged, best = _small_evaluation(session, manager, report.step, display)
        finally:  # the step was made, whatever its evaluation comes to
            rows.append({"step": report.step, **report.metrics, **judged})
            run.append_metrics(rows[-1])
            run.write_completions(report.step, completion_rows(report.groups))
        tracking.log(report.step, rows[-1])
        display.step(report)
        _beside(session, comparisons, display)
        every = recipe.log_completions_steps
        if every and report.step % every == 0:
            display.example(most_telling(report.groups, report.step // every))
        findings = watch.new(rows)
        for finding in findings:
            display.message(f"note: {finding.text}")
        last = trainer.done or manager.ended
        halt = [f for f in findings if f.name in recipe.stop_on and not last]
        if stop.requested or halt or last or best or manager.due(report.step):
            manager.save(report.step)
            # Not before: a resume goes on from here, and takes back what was sampled after it.
            run.prune_completions(recipe.completions_total_limit)
        if halt:
            display.close()
            raise Halted(
                f"stopped after step {report.step} of {recipe.max_steps}, as stop_on asks at "
                f"{halt[0].name}: {halt[0].text}; saved in {run.path}; take the name out of "
                "stop_on to go on from there"
            )
        if stop.requested and not last:
            raise _interrupted(recipe, display, stop)
        if manager.ended:
            display.message(
                f"Stopped after step {report.step} of {recipe.max_steps}: "
                f"{manager.best.stale} evaluations without a new best "
                f"{manager.best.metric} (early_stopping_patience)."
            )
            return
        manager.remember()


def _beside(session: Session, comparisons: ComparisonRuns, display: Display) -> None:
    """After the first step on a CPU the runs to compare with are started, where memory holds them
    too; after each further one they are looked at. With none beside it, this run takes all cores.
    """
    if not on_cpu(session):  # one GPU holds one run at a time
        return
    if comparisons.asked:
        comparisons.look()
    elif not comparisons.start_beside(torch.get_num_threads()):
        display.message(set_threads(session.policy.causal_lm, comparisons.threads))


def _interrupted(recipe: Recipe, display: Display, stop: StopRequest) -> Interrupted:
    """What a wish to stop ends a run with once its step is made and saved."""
    display.close()
    told = _interruption(recipe)
    if stop.signal in ("SIGHUP", "SIGQUIT"):  # nobody may be there to read it
        display.record(f"{told} ({stop.signal})")
    return Interrupted(told)


def _interruption(recipe: Recipe) -> str:
    """How every interruption is told, whenever it comes: after which step, and what is saved."""
    folder = Path(recipe.output_dir).resolve()
    rows, newest = read_metrics(folder), latest_checkpoint(folder).path
    saved = step_of(newest) if newest else 0
    # Where something is saved, its step is the one that counts: what came after it is made again.
    done = saved or (rows[-1]["step"] if rows else 0)
    if not done:
        return f"interrupted before step 1 of {recipe.max_steps}; the same command begins anew"
    kept = f"saved in {folder}" if saved == done else _last_good(folder)
    next_time = "goes on from there" if saved else "begins anew"
    return (
        f"interrupted after step {done} of {recipe.max_steps}, {kept}; the same command {next_time}"
    )


def _warm_up(session: Session, run: RunDirectory, display: Display, stop: StopRequest) -> None:
    """What the model does before it is trained, and SFT where it hardly asks.

    It is not saved by itself: an interrupted one is made again, and comes out the same.
    """
    recipe = session.recipe
    if not recipe.share_underspecified and recipe.share_schedule["name"] == "constant":
        return
    if recipe.warm_up_steps in ("auto", 0) and not recipe.pays:
        return  # no question is rewarded that it would have to come upon first
    warm_up = WarmUp(session.trainer, session.prompts)
    for line in warm_up.run():
        display.message(line)
        if stop.requested:
            raise _interrupted(recipe, display, stop)
    run.write_warm_up(warm_up.record)


def _last_good(folder: Path) -> str:
    found = latest_checkpoint(folder).path
    return f"the last good checkpoint is {found}" if found else "no checkpoint yet"


def _small_evaluation(
    session: Session, manager: CheckpointManager, step: int, display: Display
) -> tuple[dict[str, float], bool]:
    """Figures of a small evaluation where one is due, and whether they are the best so far."""
    small = session.small
    if small is None or not small.due(step):
        return {}, False
    small.engine = session.trainer.sampling.engine
    figures = small.run(session.policy, session.judge, display.message)
    value = figures[f"eval/{small.metric}"]
    best = manager.judged(step, value, greater_is_better=small.greater_is_better)
    so_far = "the best so far" if best else f"best {manager.best.value:.1f}"
    display.message(f"evaluated after step {step}: {small.metric} {value:.1f}, {so_far}")
    return figures, best


def _dated(recipe: Recipe, run: RunDirectory | None) -> Recipe:
    """With the day that chat templates write: the recipe's, else that on which this run began.

    A resume on another day would else train on other prompts.
    """
    if recipe.chat_template_date is not None:
        return recipe
    began = run.recipe_value("chat_template_date") if run is not None else None
    return recipe.model_copy(update={"chat_template_date": began or date.today().isoformat()})
