"""The training loop: one step reads top to bottom in `Trainer.step`.

    draw prompts -> sample, judge, reward -> select -> advantages -> batch -> update -> report

Values are passed from call to call. What lives on between steps: the weights, the optimizer, and
what `Trainer.state` gives (step number, prompt cursor, loss scale, schedules).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from icpo_lite.core.oom import RowLimit, Say, Size, quiet
from icpo_lite.core.types import (
    Group,
    Judge,
    Prompt,
    RewardChange,
    RewardRule,
    StepReport,
    TrainerState,
)
from icpo_lite.policy.logprobs import LogprobOptions
from icpo_lite.policy.prompt_packing import why_not_shared
from icpo_lite.recipe.objective_sections import GROUP_LOSSES
from icpo_lite.rollout.engines.registry import ENGINES
from icpo_lite.rollout.groups import judge_groups, reward_groups, sample_groups
from icpo_lite.rollout.noise import SamplingOptions
from icpo_lite.training.advantage_rules import Advantages
from icpo_lite.training.batch import collate
from icpo_lite.training.conversations import Conversations
from icpo_lite.training.credit import credited, moves
from icpo_lite.training.demonstrations import join_demonstrations
from icpo_lite.training.distillation import Distiller
from icpo_lite.training.dynamic_sampling import (
    as_learned,
    learnable_groups,
    refilled_groups,
    teaches,
)
from icpo_lite.training.logged_groups import LoggedReplies
from icpo_lite.training.reply_shaping import ReplyShaping
from icpo_lite.training.segments import Segments
from icpo_lite.training.step_metrics import (
    conversation_metrics,
    group_metrics,
    memory_gb,
    sampled_tokens,
)
from icpo_lite.training.step_plan import Plan, Schedules
from icpo_lite.training.updater import Updater

if TYPE_CHECKING:
    from icpo_lite.data.prompt_pool import PromptPool
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe


@dataclass(frozen=True)
class Chosen:
    """What a recipe leaves to the machine.

    sampling, logprobs: how replies and log-probs are computed here. tried: which of `engine` and
    `share_prompts` were chosen by timing them. update_rows: responses of an update that fit at
    once; None for all.
    """

    sampling: SamplingOptions
    logprobs: LogprobOptions
    tried: tuple[str, ...] = ()
    update_rows: int | None = None


@dataclass(frozen=True)
class Later:
    """What prompts become after `step` steps, by prompt id: themselves, and their token ids."""

    step: int
    prompts: Mapping[str, Prompt]
    ids: Mapping[str, Sequence[int]]


class Trainer:
    """Trains a policy's LoRA weights by group sampling, as the recipe says; keeps nothing on disk.

        trainer = Trainer.from_recipe(load_recipe("tiny", max_steps=20))
        for report in trainer.steps():
            print(report.step, report.metrics["reward"])

    prompt_ids: token ids of every prompt that `pool` holds, by prompt id. change: adds the user's
    own rewards (`core.types.RewardChange`). say: takes a line on what was changed on the way.
    later: prompts that change on the way. A step raises NumericsError after max_skipped_updates
    in a row, OutOfMemory where a single row does not fit, GraderError where a grader is at fault.
    """

    def __init__(
        self,
        policy: Policy,
        pool: PromptPool,
        prompt_ids: Mapping[str, Sequence[int]],
        judge: Judge,
        reward: RewardRule,
        recipe: Recipe,
        chosen: Chosen,
        change: RewardChange | None = None,
        say: Say = quiet,
        later: Later | None = None,
    ) -> None:
        self.policy, self.pool, self.prompt_ids = policy, pool, prompt_ids
        self.later = later
        self.judge, self.reward, self.change = judge, reward, change
        self.recipe, self.tried = recipe, chosen.tried
        self.sampling_limit, update_limit = _limits(recipe, say)
        if chosen.update_rows is not None:
            update_limit.found = Size(chosen.update_rows)
        self.sampling = chosen.sampling.but(limit=self.sampling_limit)
        self.updater = Updater(policy, recipe, chosen.logprobs, update_limit, say)
        self.updater.engine = self.sampling.engine
        self.distiller = Distiller(policy, recipe, pool) if recipe.distill != "none" else None
        self.updater.distiller = self.distiller
        self.schedules = Schedules(recipe)
        self.talks = Conversations(recipe) if recipe.rollout == "conversation" else None
        self.advantages, self.shaping = Advantages(recipe), ReplyShaping(recipe)
        self.segments, self.logged = Segments.of(recipe), LoggedReplies.of(recipe)
        self.done_steps = self.sampled_tokens = 0
        # Where a step stands: weights and optimizer move while "updating" alone.
        self.phase: Literal["", "sampling", "updating"] = ""

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Trainer:
        """A trainer of what the recipe names: `train` without run directory and evaluation.

        Raises RecipeError, DataError, ModelError and DeviceError as `train` does.
        """
        from icpo_lite.training.from_recipe import trainer_of

        return trainer_of(recipe)

    def steps(self) -> Iterator[StepReport]:
        """Run what is left of the run, a report after each step; the caller logs and saves."""
        while not self.done:
            yield self.step()

    @property
    def done(self) -> bool:
        """Whether `max_steps`, or `max_sampled_tokens`, is reached."""
        most = self.recipe.max_sampled_tokens
        spent = most is not None and self.sampled_tokens >= most
        return spent or self.done_steps >= self.recipe.max_steps

    @property
    def planned_step(self) -> int:
        """Steps made, as schedules count them: by tokens where these end the run."""
        if (most := self.recipe.max_sampled_tokens) is None:
            return self.done_steps
        return int(self.recipe.max_steps * self.sampled_tokens / most)

    def step(self) -> StepReport:
        """One step: new samples from the current policy and the updates made of them."""
        started = time.monotonic()
        self.phase = "sampling"
        plan = self.schedules.at(self.planned_step)
        prompts = self.pool.draw(self.recipe.prompts_per_step, plan.share_underspecified)
        groups, chosen, refills = self.select(self.rollout(prompts))
        sampled = time.monotonic()
        weighed = self.weighed(chosen, plan.underspecified_weight)
        learned = self.shaping.kept(self.counted(weighed), self.done_steps)
        batch = collate(learned, self.policy.pad_id)
        self.phase = "updating"
        views = self.distiller.views(learned) if self.distiller else None
        update = self.updater.update(batch, plan.loss, plan.learning_rate, self.done_steps, views)
        self.done_steps += 1
        metrics = {**self._shown(groups, learned), **update, "refills": float(refills)}
        metrics |= self._costs(plan, groups, sampled - started, time.monotonic() - started)
        self.schedules.move(metrics)
        self.sampling = self.heated()
        told = as_learned(groups, chosen, weighed)
        metrics |= self.pool.saw(told)
        self.phase = ""
        return StepReport(self.done_steps, metrics, tuple(told))

    def rollout(self, prompts: Sequence[Prompt], first_place: int = 0) -> list[Group]:
        """New samples of each prompt, judged and rewarded; demonstrations beside them.

        first_place: prompts that this step has sampled before.
        """
        ids_of = self.prompt_ids
        if self.later and self.done_steps >= self.later.step:
            prompts, ids_of = [self.later.prompts[p.prompt_id] for p in prompts], self.later.ids
        ids = [ids_of[p.prompt_id] for p in prompts]
        if self.talks is not None:
            talked = self.talks.sampled(
                self.policy, prompts, ids, self.judge, self.sampling, self.done_steps, first_place
            )
            return self.talks.rewarded(talked, self.reward, self.change, self.progress)
        if self.logged is not None:
            step = self.done_steps
            return self._values(self.logged.groups(self.policy, prompts, ids, step, first_place))
        groups = sample_groups(
            self.policy,
            prompts,
            ids,
            num_generations=self.recipe.num_generations,
            options=self.sampling,
            seed=self.recipe.seed,
            step=self.done_steps,
            first_place=first_place,
        )
        if self.recipe.demonstrations != "none":
            groups = join_demonstrations(groups, self.policy, self.recipe.max_completion_length)
        return self._values(groups)

    def longest_reply(self, prompt_length: int) -> int:
        """Tokens that may follow a prompt of so many: one reply, or a whole conversation."""
        one = self.sampling.max_new_tokens
        if self.talks is None:
            return one
        talked = self.talks.longest(self.policy, self.pool, one)
        return max(one, min(talked, self.policy.max_positions - prompt_length))

    def select(self, groups: list[Group]) -> tuple[list[Group], list[Group], int]:
        """(all groups sampled, those of the step, refills): flat ones are refilled, if at all."""
        recipe = self.recipe
        gate = recipe.hpt_gate if recipe.demonstrations == "hpt" else None
        if not recipe.dynamic_sampling:
            spread = recipe.min_reward_spread
            return groups, learnable_groups(groups, spread=spread, hpt_gate=gate), 0
        return refilled_groups(
            groups,
            lambda q, q_star, place: self.rollout(self.pool.draw_kinds(q, q_star), place),
            wanted=recipe.prompts_per_step,
            max_refills=recipe.max_refills,
            keep_share=recipe.keep_share,
            spread=recipe.min_reward_spread,
            hpt_gate=gate,
        )

    def weighed(self, groups: list[Group], underspecified_weight: float) -> list[Group]:
        """The groups with what their replies, turns and tokens are learned with."""
        weighed = self.advantages(groups, underspecified_weight)
        weighed = credited(weighed, self.recipe, underspecified_weight)
        weighed = self.shaping(weighed, underspecified_weight)
        if self.segments is None:
            return weighed
        return self.segments.credited(
            weighed,
            self.policy,
            self._values,
            self.sampling,
            self.done_steps,
            underspecified_weight,
        )

    def _values(self, groups: list[Group]) -> list[Group]:
        """Sampled groups, judged and rewarded."""
        judged = judge_groups(groups, self.judge)
        return reward_groups(judged, self.reward, self.change, self.progress)

    @property
    def progress(self) -> TrainerState:
        """Where the run stands, for rewards that go by it."""
        return TrainerState(self.planned_step, self.recipe.max_steps)

    def heated(self) -> SamplingOptions:
        """How the next replies are drawn: by the entropies of the last ones, where HAPO is on."""
        shaping = self.updater.shaping
        if not shaping.tau:
            return self.sampling
        return self.sampling.but(entropy_tau=shaping.tau, entropy_stats=shaping.stats)

    def counted(self, groups: list[Group]) -> list[Group]:
        """The groups that losses are averaged over.

        Flat ones go, where they go, after advantages are made: a batch's std is of all groups. And
        not where a term of the loss needs no advantage. Conversations of equal rewards may have
        turns that differ.
        """
        recipe = self.recipe
        terms = recipe.moves_without_advantage or recipe.entropy_target
        terms = terms or recipe.loss_type in GROUP_LOSSES or recipe.distill != "none"
        if recipe.dynamic_sampling or recipe.count_zero_variance or terms:
            return groups
        if _moves_flat_groups(recipe):
            return [group for group in groups if moves(group)]
        return [group for group in groups if teaches(group, recipe.min_reward_spread)]

    def _shown(self, groups: Sequence[Group], learned: Sequence[Group]) -> dict[str, float]:
        """What the samples say, as metrics."""
        shown = group_metrics(groups, learned, self.recipe.min_reward_spread)
        if self.talks is not None:
            shown |= conversation_metrics(groups)
            shown |= self.talks.move(shown, self.pool)
        return shown

    def _costs(
        self, plan: Plan, groups: Sequence[Group], sampling: float, seconds: float
    ) -> dict[str, float]:
        """The step's schedules, time and memory as metrics."""
        self.sampled_tokens += sampled_tokens(groups)
        failures = self.sampling_limit.times + self.updater.limit.times
        self.sampling_limit.times = self.updater.limit.times = 0
        return {
            "out_of_memory": float(failures),
            "schedule/share_underspecified": plan.share_underspecified,
            "schedule/underspecified_weight": plan.underspecified_weight,
            "learning_rate": plan.learning_rate,
            **({"distill/weight": plan.loss.distill_weight} if self.distiller else {}),
            "tokens/sampled": float(sampled_tokens(groups)),
            "tokens_per_second": sampled_tokens(groups) / seconds,
            "sampling_seconds": sampling,
            "step_seconds": seconds,
            "memory_gb": memory_gb(self.policy.device.torch_device),
        }

    # --------------------------------------------------------------------------- checkpoints

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside weights and optimizer, as JSON."""
        return {
            "step": self.done_steps,
            "sampled_tokens": self.sampled_tokens,
            "pool": self.pool.state,
            "scaler": self.updater.scaler.state_dict(),
            "schedules": self.schedules.states,
            "conversations": self.talks.state if self.talks else {},
            **{name: kept for name, kept in self._memories().items() if kept},
            "threads": torch.get_num_threads(),
            "tried": {
                "engine": self.sampling.engine,
                "share_prompts": self.updater.logprobs.shared_prompts,
            },
            "limits": {
                "on": self._limits_hold_on(),
                "sampling": self.sampling_limit.state(),
                "update": self.updater.limit.state(),
            },
        }

    def _memories(self) -> dict[str, dict[str, Any]]:
        """What rules of advantages and tokens remember, where they do."""
        return {"advantages": self.advantages.state, "token_weights": self.updater.shaping.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; weights and optimizer are restored by the caller."""
        self.done_steps = int(state["step"])
        self.sampled_tokens = int(state.get("sampled_tokens", 0))
        self.pool.restore(state["pool"])
        self.schedules.states = {**self.schedules.states, **state.get("schedules", {})}
        if self.talks is not None:
            self.talks.restore(state.get("conversations", {}))
        # What was the fastest when the run began stays: another choice rounds differently. Not
        # so where it cannot run any more: backend and device may change.
        kept = {
            name: choice
            for name, choice in state.get("tried", {}).items()
            if name in self.tried and _can_run(self.policy, name, choice)
        }
        updater = self.updater
        self.sampling = self.sampling.but(engine=kept.get("engine", self.sampling.engine))
        updater.engine = self.sampling.engine
        shared = kept.get("share_prompts", updater.logprobs.shared_prompts)
        updater.logprobs = updater.logprobs.but(shared_prompts=shared)
        updater.restore_scale(state["scaler"])
        self.advantages.restore(state.get("advantages", {}))
        updater.shaping.restore(state.get("token_weights", {}))
        self.sampling = self.heated()
        limits = state.get("limits", {})
        if limits.get("on") == self._limits_hold_on():
            self.sampling_limit.restore(limits["sampling"])
            updater.limit.restore(limits["update"])

    def _limits_hold_on(self) -> list[Any]:
        return [self.policy.device.name, self.recipe.per_device_train_batch_size]


def _moves_flat_groups(recipe: Recipe) -> bool:
    """Whether replies of equal rewards may have advantages other than 0."""
    by_spread = recipe.advantage["name"] in ("group", "gdpo")
    return recipe.credit != "trajectory" or not by_spread or recipe.segments["name"] != "none"


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _can_run(policy: Policy, name: str, choice: Any) -> bool:
    """Whether a choice of `engine` or `share_prompts` suits this policy."""
    if name == "engine":
        return choice in ENGINES and ENGINES[choice].unfit(policy) is None
    return not choice or why_not_shared(policy) is None


def _limits(recipe: Recipe, say: Say) -> tuple[RowLimit, RowLimit]:
    """What sampling and updates learn about the memory, and what to say where it is too small."""
    shorter = f"max_completion_length={recipe.max_completion_length // 2}"
    resort = shorter if recipe.load_in_4bit else "load_in_4bit=true"
    recompute = resort if recipe.gradient_checkpointing else "gradient_checkpointing=true"
    return (
        RowLimit("sampling", last_resort=resort, say=say),
        RowLimit(
            "update",
            key="per_device_train_batch_size",
            chunks=True,
            last_resort=recompute,
            say=say,
        ),
    )
