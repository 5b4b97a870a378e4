"""From a recipe to a finished run directory: prepare, train, judge, compare.

The same call starts a run, resumes an interrupted one, and says so when it is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from icpo_lite.core.console import Display
from icpo_lite.core.diagnostics import Watch, tokenizer_warning
from icpo_lite.core.errors import IcpoError, NumericsError, OutOfMemory, RunDirectoryError
from icpo_lite.core.oom import empty_cache
from icpo_lite.core.types import Group, Intent, Problem, Trajectory
from icpo_lite.data.from_recipe import corpus_needs_model, training_prompts
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.evaluation.compare import JudgingOptions, judge_policy, show_comparison
from icpo_lite.evaluation.periodic import SmallEvaluation
from icpo_lite.evaluation.problems import evaluation_problems, judges_on_training_rows
from icpo_lite.policy.load import Policy, load_policy, prepare
from icpo_lite.policy.logprobs import check_impl
from icpo_lite.recipe import compared_recipes
from icpo_lite.rewards.from_recipe import bind_judge, bind_reward, bind_reward_change
from icpo_lite.rollout.from_recipe import sampling_options
from icpo_lite.rollout.groups import encode_prompts
from icpo_lite.runs.checkpoint import discard_later, latest_checkpoint, write_together
from icpo_lite.runs.checkpoint_manager import Keeper, bring_back, mirror_of
from icpo_lite.runs.comparison_runs import ComparisonRuns
from icpo_lite.runs.run_directory import RunDirectory
from icpo_lite.runs.signals import StopRequest, stop_signals
from icpo_lite.runs.trackers import Tracking, require_trackers, start_tracking
from icpo_lite.training.dry_run import rehearse, wanted
from icpo_lite.training.from_recipe import tried
from icpo_lite.training.reward_check import check_reward
from icpo_lite.training.trainer import Trainer

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe
    from icpo_lite.rewards.judge import Judge

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


class Interrupted(IcpoError):
    """The run was asked to stop and has saved its work."""

    exit_code = 130


class Halted(IcpoError):
    """A finding that the recipe's `stop_on` names has ended the run, its work saved."""


def train(
    recipe: Recipe,
    display: Display,
    *,
    resume_anyway: bool = False,
    threads: int | None = None,
) -> Path:
    """Train, save, judge and compare as the recipe says; returns the run directory.

    threads: of torch on a CPU; None shares the cores among this run and those compared with it.

    Raises Interrupted once the work is saved after SIGINT or SIGTERM, and any other IcpoError
    with the last whole checkpoint named.
    """
    folder = Path(recipe.output_dir)
    with contextlib.ExitStack() as stack:
        # An existing directory is locked before the model is loaded, so that a second process
        # cannot take the first one's memory; a new one is made when nothing can be wrong any more.
        mirror = mirror_of(recipe)
        mirrored = mirror is not None and mirror.is_dir()
        known = folder.is_dir() or (mirrored and recipe.resume_from_checkpoint is not False)
        run = stack.enter_context(RunDirectory(folder)) if known else None
        rivals = compared_recipes(recipe)
        if run is not None:
            for line in run.notes:
                display.message(f"note: {line}")
            bring_back(recipe, display.message)
            if recipe.resume_from_checkpoint is False:
                _begin_anew(run)
            _check_changes(run, recipe, display, resume_anyway)
        if run is not None and _nothing_left(run, recipe, rivals):
            display.message(f"This run is done: {folder}. Its result:")
            _show_result(recipe, display)
            return folder
        share = max((os.cpu_count() or 1) // (1 + len(rivals)), 1)
        session = _prepare(recipe, display, threads or share)
        if run is None:
            run = stack.enter_context(RunDirectory(folder))
        run.write_recipe(_resolved(recipe))
        comparisons = ComparisonRuns(rivals, display)
        stack.callback(comparisons.stop)
        if _on_cpu(session):
            for name in rivals:
                comparisons.start(name, torch.get_num_threads())
        with stop_signals() as stop:
            keeper = _train_steps(session, run, display, stop)
        if recipe.evaluation.enabled:
            _judge_self_and_base(session, folder, display)
        on_cpu, done_steps = _on_cpu(session), session.trainer.done_steps
        keeper.let_go()
        del session
        if not on_cpu:
            empty_cache()
        for name in rivals:
            if not on_cpu:  # one GPU holds one of them at a time
                comparisons.start(name, torch.get_num_threads())
            comparisons.wait(name)
        early = {"stopped_early": done_steps} if done_steps < recipe.max_steps else {}
        run.mark_finished(steps=recipe.max_steps, **early)
        keeper.mirror()
        _show_result(recipe, display)
    return folder


@dataclass(frozen=True)
class _Session:
    """What is loaded for one run."""

    recipe: Recipe
    policy: Policy
    trainer: Trainer
    judge: Judge
    problems: Sequence[Problem]
    small: SmallEvaluation | None


def _on_cpu(session: _Session) -> bool:
    return session.policy.device.torch_device.type == "cpu"


def _prepare(recipe: Recipe, display: Display, threads: int) -> _Session:
    """Load everything, cheapest first, so that a mistake is found before the model is loaded."""
    require_trackers(recipe.report_to)
    prepare(recipe)  # before a user's reward functions import transformers, which unsloth patches
    reward, change = bind_reward(recipe), bind_reward_change(recipe)
    policy = load_policy(recipe, threads=threads) if corpus_needs_model(recipe) else None
    prompts, corpus = training_prompts(recipe, policy)
    problems = evaluation_problems(recipe) if recipe.evaluation.enabled else []
    small = SmallEvaluation(recipe) if recipe.eval_steps else None
    policy = policy or load_policy(recipe, threads=threads)
    prompt_ids = encode_prompts(
        policy, prompts, recipe.max_prompt_length, recipe.max_completion_length
    )
    judge = bind_judge(recipe, policy)
    report = check_reward(prompts, judge, reward, change=change)
    report.require_ok()
    impl, checked = check_impl(policy, max(prompt_ids.values(), key=len))
    chosen, sampled, shared = tried(recipe, policy, prompt_ids, impl)
    pool = PromptPool(prompts, seed=recipe.seed)
    moves = recipe.share_schedule["name"] != "constant"
    pool.require(0.5 if moves else recipe.share_underspecified)  # what moves takes both kinds
    trainer = Trainer(
        policy, pool, prompt_ids, judge, reward, recipe, chosen, change, display.message
    )
    measured = {"log-probs": checked, "sampling": sampled, "a prompt": shared}
    display.header(_facts(recipe, policy, corpus, measured))
    unknown = tokenizer_warning(prompt_ids, policy.tokenizer.unk_token_id)
    seen = ""
    if judges_on_training_rows(recipe):
        seen = (
            "the evaluation judges on problems that are trained on; set evaluation.dataset_name "
            "to a file that is not"
        )
    for warning in filter(None, [*report.warnings, unknown, seen, small.warning if small else ""]):
        display.message(f"warning: {warning}")
    return _Session(recipe, policy, trainer, judge, problems, small)


def _facts(
    recipe: Recipe, policy: Policy, corpus: str, measured: dict[str, str]
) -> dict[str, str | list[str]]:
    trainable, total = policy.parameter_counts()
    weights = "4-bit NF4, double quantisation" if recipe.load_in_4bit else "not quantised"
    rivals = ", ".join(recipe.compare) or "base"
    return {
        "recipe": f"{recipe.path.name} -> {recipe.output_dir}",
        "model": f"{recipe.model_name_or_path}, {weights}",
        "device": f"{policy.device.name}, {str(policy.device.dtype).removeprefix('torch.')}",
        "backend": str(policy.backend),
        "trained": f"LoRA r {recipe.lora_r}, {trainable:,} of {total:,} weights",
        "prompts": corpus,
        "objective": f"{recipe.loss_type}, reward {recipe.reward['name']}, "
        f"{recipe.share_underspecified:.0%} underspecified",
        "a step": f"{recipe.prompts_per_step} prompts x {recipe.num_generations} responses, "
        f"{_counted(recipe.num_iterations * recipe.num_mini_batches, 'update')} of "
        f"{_counted(recipe.gradient_accumulation_steps or 1, 'micro-batch')}",
        **measured,
        "compared": f"with base and {rivals}" if recipe.compare else "with base",
        "note": list(policy.notes),
    }


def _counted(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("h") else "s")
    return f"{number} {noun if number == 1 else plural}"


def _train_steps(
    session: _Session, run: RunDirectory, display: Display, stop: StopRequest
) -> Keeper:
    """Resume or begin, run the steps that are left, log and save them."""
    recipe, trainer, policy, small = (
        session.recipe,
        session.trainer,
        session.policy,
        session.small,
    )
    metric = small.metric if small else ""
    keeper = Keeper(recipe, policy, trainer, run.path, metric, display.message)
    resumed = keeper.restore()
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
        if not keeper.ended_before:
            _steps_left(session, keeper, run, tracking, display, stop)
    except (NumericsError, OutOfMemory, RunDirectoryError) as error:
        display.close()
        found = latest_checkpoint(run.path).path
        last_good = f"the last good checkpoint is {found}" if found else "no checkpoint yet"
        raise type(error)(f"step {trainer.done_steps + 1}: {error}; {last_good}") from error
    finally:
        tracking.close()
    display.close()
    if recipe.load_best_model_at_end and keeper.standing.step:
        keeper.load_best()
    write_together(run.path, policy.save_adapter)
    return keeper


def _steps_left(
    session: _Session,
    keeper: Keeper,
    run: RunDirectory,
    tracking: Tracking,
    display: Display,
    stop: StopRequest,
) -> None:
    recipe, trainer = session.recipe, session.trainer
    left = recipe.max_steps - trainer.done_steps
    if left > 0 and wanted(recipe.rehearse, session.policy.device.torch_device):
        for line in rehearse(trainer).lines(left):
            display.message(line)
    rows, watch = run.metrics(), Watch()
    for report in trainer.steps():
        judged, best = _small_evaluation(session, keeper, report.step, display)
        rows.append({"step": report.step, **report.metrics, **judged})
        run.append_metrics(rows[-1])
        tracking.log(report.step, {**report.metrics, **judged})
        run.write_completions(report.step, _completion_rows(report.groups))
        display.step(report)
        every = recipe.log_completions_steps
        if every and report.step % every == 0:
            display.example(_most_telling(report.groups, report.step // every))
        findings = watch.new(rows)
        for finding in findings:
            display.message(f"note: {finding.text}")
        last = report.step == recipe.max_steps or keeper.ended
        halt = [f for f in findings if f.name in recipe.stop_on and not last]
        if stop.requested or halt or last or best or keeper.due(report.step):
            keeper.save(report.step)
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
        if keeper.ended:
            display.message(
                f"Stopped after step {report.step} of {recipe.max_steps}: "
                f"{keeper.standing.stale} evaluations without a new best "
                f"{keeper.standing.metric} (early_stopping_patience)."
            )
            return


def _small_evaluation(
    session: _Session, keeper: Keeper, step: int, display: Display
) -> tuple[dict[str, float], bool]:
    """Figures of a small evaluation where one is due, and whether they are the best so far."""
    small = session.small
    if small is None or not small.due(step):
        return {}, False
    figures = small.run(session.policy, session.judge, display.message)
    value = figures[f"eval/{small.metric}"]
    best = keeper.judged(step, value, greater_is_better=small.greater_is_better)
    so_far = "the best so far" if best else f"best {keeper.standing.value:.1f}"
    display.message(f"evaluated after step {step}: {small.metric} {value:.1f}, {so_far}")
    return figures, best


def _completion_rows(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    for group in groups:
        advantages = group.advantages or (None,) * len(group.trajectories)
        for trajectory, advantage in zip(group.trajectories, advantages, strict=True):
            yield {**_completion_row(trajectory), "advantage": advantage}


def _completion_row(trajectory: Trajectory) -> dict[str, Any]:
    prompt, reply = trajectory.prompt, trajectory.reply
    assert reply.verdict is not None
    assert reply.reward is not None
    return {
        "prompt_id": prompt.prompt_id,
        "problem_id": prompt.problem_id,
        "intent": str(prompt.intent),
        "prompt": [{"role": m.role, "content": m.content} for m in prompt.messages],
        "removed": [s.text for s in prompt.removed],
        "removed_ids": [s.shard_id for s in prompt.removed],
        "completion": reply.content,
        "tokens": len(reply.token_ids),
        "stop_reason": reply.stop_reason,
        "response_type": str(reply.verdict.response_type),
        "correct": reply.verdict.correct,
        "reward": reply.reward.total,
        "rewards": dict(reply.reward.components),
    }


def _most_telling(groups: Sequence[Group], turn: int) -> Group:
    """The group whose rewards differ most, an underspecified and a complete prompt in turn."""
    wanted = (Intent.UNDERSPECIFIED, Intent.COMPLETE)[(turn - 1) % 2]
    some = [g for g in groups if g.prompt.intent is wanted] or list(groups)
    return max(some, key=lambda g: max(g.rewards) - min(g.rewards))


# ------------------------------------------------------------------------------ judging, rivals


def _judge_self_and_base(session: _Session, folder: Path, display: Display) -> None:
    """Judge this run, then the base, on the same problems with the same noise."""
    recipe = session.recipe
    options = JudgingOptions(
        settings=recipe.evaluation.settings,
        runs=recipe.evaluation.runs,
        sampling=sampling_options(recipe, temperature=recipe.evaluation.temperature),
        max_turns=recipe.evaluation.max_turns,
        system=recipe.system_prompt,
        gpu_rows=recipe.prompts_per_step * recipe.num_generations,
        facts=judged_with(recipe),
    )
    for name, place, off in (("run", folder / "eval", False), ("base", folder / "eval-base", True)):
        if _judged(place) == judged_with(recipe):
            continue
        with session.policy.adapter_off() if off else contextlib.nullcontext():
            judge_policy(name, session.policy, session.judge, session.problems, options, place)
        display.message(f"Judged {'the base' if off else 'this run'}: {place / 'eval.json'}")


def judged_with(recipe: Recipe) -> dict[str, Any]:
    """What a judgement depends on beside the weights; one that differs is made anew."""
    return {"steps": recipe.max_steps, **recipe.evaluation.model_dump(mode="json")}


def _judged(place: Path) -> dict[str, Any] | None:
    """What the judgement in `place` was made with, None where there is none."""
    try:
        facts = json.loads((place / "eval.json").read_text()).get("judged_with")
    except (FileNotFoundError, ValueError):  # none, or half of one: it is made anew
        return None
    return dict(facts) if facts else None


def _summary(path: Path) -> dict[str, Any]:
    """The figures in an eval.json. Raises RunDirectoryError when it cannot be read."""
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise RunDirectoryError(
            f"{path}: expected figures as JSON, found {error}; delete the file and run this again"
        ) from None


def _show_result(recipe: Recipe, display: Display) -> None:
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
            f"\n{options['problems']} problems of the {options['split']} split x "
            f"{options['runs']} runs, temperature {options['temperature']:g}; points with 95 % "
            "intervals over problems"
        )
        show_comparison(summaries, own, display)
    display.message(f"\nAdapter, metrics, completions and conversations: {folder}")


# ---------------------------------------------------------------------------- resuming, signals


def _resolved(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"gradient_accumulation_steps"})


def _begin_anew(run: RunDirectory) -> None:
    """Take back what an earlier run left here: `resume_from_checkpoint: false` asks for it."""
    run.clear_finished()
    discard_later(run.path, 0)
    for place in ("eval", "eval-base"):
        shutil.rmtree(run.path / place, ignore_errors=True)


def _nothing_left(run: RunDirectory, recipe: Recipe, rivals: Mapping[str, Recipe]) -> bool:
    done = run.finished
    if done is None or int(done.get("steps", 0)) < recipe.max_steps:
        return False
    if not all((Path(rival.output_dir) / "finished").is_file() for rival in rivals.values()):
        return False
    asked = judged_with(recipe) | {"steps": int(done["steps"])}
    return not recipe.evaluation.enabled or _judged(run.path / "eval") == asked


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
