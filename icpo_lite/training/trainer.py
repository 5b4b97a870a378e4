"""The training loop: one step reads top to bottom in `Trainer.step`.

    draw prompts -> sample, judge, reward -> refill -> advantages -> batch -> update -> report

Values are passed from call to call. What lives on between steps: the weights, the optimizer, and
what `Trainer.state` gives (step number, prompt cursor, loss scale, schedules).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icpo_lite.core.errors import NumericsError
from icpo_lite.core.oom import RowLimit, Say, Size, Snapshot, first_not_finite, quiet
from icpo_lite.core.types import Group, Prompt, RewardChange, RewardRule, StepReport
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs
from icpo_lite.policy.optimizer import make_optimizer
from icpo_lite.policy.prompt_packing import why_not_shared
from icpo_lite.rollout.engines.registry import ENGINES
from icpo_lite.rollout.groups import judge_groups, reward_groups, sample_groups
from icpo_lite.rollout.sampler import SamplingOptions
from icpo_lite.training.advantages import ScaleRewards, advantage_groups
from icpo_lite.training.batch import Batch, collate
from icpo_lite.training.demonstrations import HybridPolicy, join_demonstrations
from icpo_lite.training.dynamic_sampling import as_learned, refilled_groups, teaching_groups
from icpo_lite.training.loss import (
    LossConfig,
    Mean,
    Normalizer,
    Peak,
    loss_normalizer,
    mean_metrics,
    part_normalizer,
    policy_loss,
)
from icpo_lite.training.schedules import (
    Constant,
    EntropyTarget,
    Kind,
    Measured,
    Schedule,
    State,
    lr_factor,
)
from icpo_lite.training.step_metrics import group_metrics, memory_gb, sampled_tokens
from icpo_lite.training.token_weights import (
    SamplingCorrection,
    high_entropy_tokens,
    off_policy_rows,
    sampling_mismatch,
    select_tokens,
)

if TYPE_CHECKING:
    from icpo_lite.data.prompt_pool import PromptPool
    from icpo_lite.policy.load import Policy
    from icpo_lite.rewards.judge import Judge


@dataclass(frozen=True)
class TrainSettings:
    """What one step does; fields are recipe keys of the same names.

    micro_batch: completions computed at once (`per_device_train_batch_size`); None is all.
    max_skipped_updates: of updates that were not finite numbers, in a row.
    share, weight: of underspecified prompts, and of their advantages, over the run.
    entropy_target: steers `loss.entropy_coef`; None leaves it as it is.
    tried: which of `engine` and `share_prompts` were chosen by timing them here.
    """

    max_steps: int
    prompts_per_step: int
    num_generations: int
    share: Schedule
    sampling: SamplingOptions
    loss: LossConfig
    learning_rate: float
    lr_scheduler_type: Kind = "linear"
    min_lr_ratio: float = 0.0
    warmup_steps: int = 0
    weight_decay: float = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    max_skipped_updates: int = 5
    optim: str = "adamw_torch"
    num_iterations: int = 1
    num_mini_batches: int = 1
    micro_batch: int | None = None
    scale_rewards: ScaleRewards = "group"
    drop_zero_variance: bool = True
    dynamic_sampling: bool = False
    max_refills: int = 3
    keep_share: bool = True
    mask_truncated_completions: bool = False
    correction: SamplingCorrection | None = None
    weight: Schedule = field(default_factory=lambda: Constant(1.0))
    entropy_target: EntropyTarget | None = None
    top_entropy_quantile: float = 1.0
    off_policy_mask_threshold: float | None = None
    demonstrations: HybridPolicy = "none"
    hpt_gate: float = 0.0
    tried: tuple[str, ...] = ()
    seed: int = 0
    logprobs: LogprobOptions = field(default_factory=LogprobOptions)


@dataclass(frozen=True)
class _Learned:
    """What all updates made of one batch share: it, and what was computed before the first.

    mask, old, old_entropy, ref [B, T-1]: tokens that carry loss; their log-probs and entropies
    under the weights that sampled, and log-probs without LoRA; None where nobody reads them.
    """

    batch: Batch
    mask: Tensor
    old: Tensor | None
    old_entropy: Tensor | None
    ref: Tensor | None
    loss: LossConfig
    logprobs: LogprobOptions
    size: Size


class Trainer:
    """Trains a policy's LoRA weights by group sampling.

    prompt_ids: token ids of every prompt that `pool` holds, by prompt id. change: adds the user's
    own rewards (`rollout.RewardChange`). say: takes a line on what was mended on the way.
    """

    def __init__(
        self,
        policy: Policy,
        pool: PromptPool,
        prompt_ids: Mapping[str, Sequence[int]],
        judge: Judge,
        reward: RewardRule,
        settings: TrainSettings,
        change: RewardChange | None = None,
        say: Say = quiet,
    ) -> None:
        self.policy, self.pool, self.prompt_ids = policy, pool, prompt_ids
        self.judge, self.reward, self.change = judge, reward, change
        self.say = say
        self.sampling_limit, self.update_limit = _limits(policy, settings, say)
        sampling = replace(settings.sampling, limit=self.sampling_limit)
        self.settings = replace(settings, sampling=sampling)
        self.done_steps = 0
        self.skipped = self.skipped_in_a_row = 0
        self.schedules: dict[str, State] = {
            "share": settings.share.start(),
            "weight": settings.weight.start(),
            "entropy": settings.entropy_target.start() if settings.entropy_target else {},
        }
        self.optimizer = make_optimizer(
            policy.trainable(),
            settings.optim,
            lr=settings.learning_rate,
            betas=settings.adam_betas,
            eps=settings.adam_epsilon,
            weight_decay=settings.weight_decay,
        )
        self.scaler = _scaler(policy)

    @property
    def share(self) -> float:
        """The share of underspecified prompts that the next step draws."""
        return self.settings.share.value(self.done_steps, self.schedules["share"])

    def steps(self) -> Iterator[StepReport]:
        """Run what is left of `max_steps`, a report after each; the caller logs and saves."""
        while self.done_steps < self.settings.max_steps:
            yield self.step()

    def step(self) -> StepReport:
        """One step: new samples from the current policy and the updates made of them."""
        s, step, started = self.settings, self.done_steps, time.monotonic()
        share = self.share
        weight = s.weight.value(step, self.schedules["weight"])

        prompts = self.pool.draw(s.prompts_per_step, share)
        groups = self._rewarded(prompts)
        gate = s.hpt_gate if s.demonstrations == "hpt" else None
        refills = 0
        if s.dynamic_sampling:
            groups, chosen, refills = refilled_groups(
                groups,
                lambda q, q_star, place: self._rewarded(self.pool.draw_kinds(q, q_star), place),
                wanted=s.prompts_per_step,
                max_refills=s.max_refills,
                keep_share=s.keep_share,
                hpt_gate=gate,
            )
        else:
            keep_flat = not s.drop_zero_variance or s.loss.beta > 0
            chosen = teaching_groups(groups, keep_flat=keep_flat, hpt_gate=gate)
        chosen = advantage_groups(chosen, s.scale_rewards, weight)
        sampled = time.monotonic()
        batch = collate(chosen, self.policy.pad_id)
        lr = s.learning_rate * lr_factor(
            step, s.max_steps, s.lr_scheduler_type, s.warmup_steps, s.min_lr_ratio
        )
        update = self.update(batch, lr)

        self.done_steps = step + 1
        seconds = time.monotonic() - started
        metrics = {
            **group_metrics(groups, chosen),
            **update,
            "refills": float(refills),
            "schedule/share_underspecified": share,
            "schedule/underspecified_weight": weight,
            "learning_rate": lr,
            "tokens_per_second": sampled_tokens(groups) / seconds,
            "sampling_seconds": sampled - started,
            "step_seconds": seconds,
            "memory_gb": memory_gb(self.policy.device.torch_device),
        }
        self._move_schedules(metrics)
        return StepReport(self.done_steps, metrics, tuple(as_learned(groups, chosen)))

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside weights and optimizer, as JSON."""
        return {
            "step": self.done_steps,
            "pool": self.pool.state,
            "scaler": self.scaler.state_dict(),
            "schedules": self.schedules,
            "tried": {
                "engine": self.settings.sampling.engine,
                "share_prompts": self.settings.logprobs.share_prompts,
            },
            "limits": {
                "on": self._limits_hold_on(),
                "sampling": self.sampling_limit.state(),
                "update": self.update_limit.state(),
            },
        }

    def _limits_hold_on(self) -> list[Any]:
        return [self.policy.device.name, self.settings.micro_batch]

    def restore(self, state: Mapping[str, Any]) -> None:
        self.done_steps = int(state["step"])
        self.pool.restore(state["pool"])
        self.schedules = {**self.schedules, **state.get("schedules", {})}
        # What was the fastest when the run began stays: another choice rounds differently. Not
        # so where it cannot run any more: backend and device may change.
        kept = {
            name: choice
            for name, choice in state.get("tried", {}).items()
            if name in self.settings.tried and _can_run(self.policy, name, choice)
        }
        self.settings = replace(
            self.settings,
            sampling=replace(self.settings.sampling, **_only(kept, "engine")),
            logprobs=replace(self.settings.logprobs, **_only(kept, "share_prompts")),
        )
        if state["scaler"]:  # empty when saved in a dtype that needs no scale
            self.scaler.load_state_dict(state["scaler"])
        limits = state.get("limits", {})
        if limits.get("on") == self._limits_hold_on():
            self.sampling_limit.restore(limits["sampling"])
            self.update_limit.restore(limits["update"])

    def undo(self) -> Callable[[], None]:
        """What takes back, bit for bit, all updates and random numbers from now on."""
        before = Snapshot(self.policy.trainable(), self.optimizer)
        scale, skips = dict(self.scaler.state_dict()), (self.skipped, self.skipped_in_a_row)

        def restore() -> None:
            before.restore()
            self.scaler = _scaler(self.policy)  # the old one remembers a step half done
            if scale:
                self.scaler.load_state_dict(scale)
            self.skipped, self.skipped_in_a_row = skips

        return restore

    # ------------------------------------------------------------------- what is learned from

    def _rewarded(self, prompts: Sequence[Prompt], first_place: int = 0) -> list[Group]:
        """New samples of each prompt, judged and rewarded; demonstrations beside them."""
        s = self.settings
        groups = sample_groups(
            self.policy,
            prompts,
            [self.prompt_ids[p.prompt_id] for p in prompts],
            num_generations=s.num_generations,
            options=s.sampling,
            seed=s.seed,
            step=self.done_steps,
            first_place=first_place,
        )
        if s.demonstrations != "none":
            groups = join_demonstrations(groups, self.policy, s.sampling.max_new_tokens)
        return reward_groups(judge_groups(groups, self.judge), self.reward, self.change)

    def _move_schedules(self, metrics: Mapping[str, float]) -> None:
        """What this step showed, for schedules that go by it."""
        s = self.settings
        measured = Measured(
            metrics.get("clarification_rate"),
            metrics.get("accuracy"),
            metrics.get("over_asking_rate"),
        )
        now = self.schedules
        self.schedules = {
            "share": s.share.update(now["share"], measured),
            "weight": s.weight.update(now["weight"], measured),
            "entropy": s.entropy_target.update(now["entropy"], metrics["entropy"])
            if s.entropy_target and "entropy" in metrics
            else now["entropy"],
        }

    # --------------------------------------------------------------------------------- updates

    def update(self, batch: Batch, lr: float) -> dict[str, float]:
        """num_iterations passes over the batch, num_mini_batches optimizer steps in each.

        Where memory runs out, all of it is taken back and done again with less at once.
        """
        if not len(batch):
            return {"loss": 0.0, "grad_norm": 0.0, "updates": 0.0, **self._mishaps()}
        out = self.update_limit.run(
            lambda size: self._updates(batch, lr, size),
            min(self.settings.micro_batch or len(batch), len(batch)),
            self.undo(),
        )
        return {**out, **self._mishaps()}

    def _mishaps(self) -> dict[str, float]:
        """How often this step ran out of memory and how many updates it skipped."""
        times = self.sampling_limit.times + self.update_limit.times
        self.sampling_limit.times = self.update_limit.times = 0
        skipped, self.skipped = self.skipped, 0
        return {"out_of_memory": float(times), "skipped_updates": float(skipped)}

    def _updates(self, batch: Batch, lr: float, size: Size) -> dict[str, float]:
        s = self.settings
        none = {"loss": 0.0, "grad_norm": 0.0, "updates": 0.0}
        try:
            learned = self._learned(batch.to(self.policy.device.torch_device), size)
        except NumericsError as error:
            self._skip(str(error))
            return none
        for group in self.optimizer.param_groups:
            group["lr"] = lr

        parts: list[dict[str, Mean | Peak]] = []
        done: list[tuple[float, float]] = []
        mini_batches = _mini_batches(batch.group, s.num_mini_batches) * s.num_iterations
        for number, rows in enumerate(mini_batches):
            made = self._optimizer_step(learned, rows.to(learned.mask.device), number, parts)
            done += [made] if made else []
        if not done:
            return none
        losses, norms = zip(*done, strict=True)
        return {
            "loss": sum(losses) / len(losses),
            **mean_metrics(parts),
            "entropy_coef": learned.loss.entropy_coef,
            "grad_norm": sum(norms) / len(norms),
            "updates": float(len(norms)),
        }

    def _learned(self, batch: Batch, size: Size) -> _Learned:
        """The batch with all that must be known before its first update."""
        s, loss = self.settings, self.settings.loss
        if s.entropy_target:
            coefficient = s.entropy_target.coefficient(self.schedules["entropy"])
            loss = replace(loss, entropy_coef=coefficient)
        mask = batch.loss_mask
        if s.mask_truncated_completions:
            mask = mask & ~batch.truncated[:, None]
        old = old_entropy = ref = None
        # With one update per batch the sampling policy is the one being updated: ratio 1.
        on_policy = s.num_iterations * s.num_mini_batches == 1
        if not on_policy or loss.selects_tokens or s.top_entropy_quantile < 1:
            old, old_entropy = self._without_grad(batch, size)
        if loss.beta > 0:
            with self.policy.adapter_off():
                ref, _ = self._without_grad(batch, size)
        logprobs = replace(_chunked(s.logprobs, size), entropy_grad=loss.entropy_coef != 0)
        return _Learned(batch, mask, old, old_entropy, ref, loss, logprobs, size)

    def _optimizer_step(
        self, learned: _Learned, rows: Tensor, number: int, parts: list[dict[str, Mean | Peak]]
    ) -> tuple[float, float] | None:
        """One clipped AdamW step on some rows: (loss, gradient norm); metrics go to `parts`.

        number: updates tried on this batch before. None where something was not a finite number:
        the weights then stay as they are.
        """
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss, found = self._gradient(learned, rows, number)
        except NumericsError as error:
            self._skip(str(error))
            return None
        self.scaler.unscale_(self.optimizer)
        named = [(name, p.grad) for name, p in self.policy.trainable_named()]
        grads = [grad for _, grad in named if grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        finite = bool(torch.isfinite(norm))
        if finite:
            torch.nn.utils.clip_grads_with_norm_(
                self.policy.trainable(), self.settings.max_grad_norm, norm
            )
            self.scaler.step(self.optimizer)
        # In float16 an overflow halves the scale: that is how it is found.
        self.scaler.update()
        if not finite:
            self._skip(
                f"gradient: NaN or infinity first in {first_not_finite(named) or 'its norm'}"
            )
            return None
        parts += found
        self.skipped_in_a_row = 0
        return loss, float(norm)

    def _gradient(
        self, learned: _Learned, rows: Tensor, number: int
    ) -> tuple[float, list[dict[str, Mean | Peak]]]:
        """Adds up the gradient of some rows, micro-batch by micro-batch: (loss, metrics).

        Micro-batches larger than what fits are computed in parts, which changes no sum.
        """
        s, loss = self.settings, learned.loss
        keep = s.logprobs.share_prompts
        micros = list(learned.batch.rows(rows).micro_batches(s.micro_batch, keep_groups=keep))
        masks = [learned.mask[rows[piece], : m.loss_mask.shape[1]] for piece, m in micros]
        normalizer = loss_normalizer(loss, masks)
        selected, weights = self._chosen_tokens(learned, rows, number)
        total, metrics = 0.0, []
        for (piece, whole), mask in zip(micros, masks, strict=True):
            for part, micro in whole.micro_batches(learned.size.rows, keep_groups=keep):
                kept = mask[part, : micro.loss_mask.shape[1]]
                some, found = self._backward(
                    learned,
                    micro,
                    kept,
                    rows[piece[part]],
                    part_normalizer(normalizer, loss, kept, mask),
                    _part(weights, piece[part], kept.shape[1]),
                    _part(selected, piece[part], kept.shape[1]),
                )
                total += some
                metrics.append(found)
        return total, metrics

    def _backward(
        self,
        learned: _Learned,
        micro: Batch,
        kept: Tensor,
        index: Tensor,
        normalizer: Normalizer,
        weights: Tensor | None,
        selected: Tensor | None,
    ) -> tuple[float, dict[str, Mean | Peak]]:
        """Forward and backward of what is computed at once; `index` are its rows of the batch."""
        loss, old, ref, width = learned.loss, learned.old, learned.ref, kept.shape[1]
        logps, entropy = completion_logprobs(
            self.policy, micro.input_ids, micro.attention_mask, kept, learned.logprobs
        )
        corrected, mismatch = self._corrected(logps, old, index, micro, kept)
        near = self._near_policy(logps, micro, kept)
        out = policy_loss(
            logps,
            None if old is None else old[index, :width],
            micro.advantages,
            kept,
            loss,
            normalizer=normalizer,
            ref_logps=None if ref is None else ref[index, :width],
            entropy=entropy if loss.entropy_coef else entropy.detach(),
            weights=_product(weights, corrected, near),
            selected=selected,
            demonstrations=micro.demonstrations,
        )
        value = float(out.loss.detach())
        if not math.isfinite(value):
            raise NumericsError(f"loss: {value}; expected a finite number")
        self.scaler.scale(out.loss).backward()
        return value, {**out.metrics, **mismatch}

    def _skip(self, why: str) -> None:
        """Counts an update that was not made. Raises NumericsError where going on is no use."""
        self.optimizer.zero_grad(set_to_none=True)
        weights: list[tuple[str, Tensor | None]] = list(self.policy.trainable_named())
        if bad := first_not_finite(weights):
            raise NumericsError(f"weights: NaN or infinity in {bad}; found through {why}")
        self.skipped += 1
        # Down to a loss scale of 1, float16 overflows are its way of finding the scale.
        looking = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if "gradient" in why and looking:
            self.say(f"step {self.done_steps + 1}: update skipped, loss scale lowered: {why}")
            return
        self.skipped_in_a_row += 1
        most = self.settings.max_skipped_updates
        if self.skipped_in_a_row >= most:
            raise NumericsError(
                f"{self.skipped_in_a_row} updates in a row were skipped (max_skipped_updates: "
                f"{most}), the last because of {why}"
            )
        self.say(f"step {self.done_steps + 1}: update skipped: {why}")

    def _chosen_tokens(
        self, learned: _Learned, rows: Tensor, number: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Of one mini-batch's rows: tokens that Clip-Cov or KL-Cov acts on, and token weights.

        Both are chosen over the whole mini-batch, so that micro-batches do not change them.
        """
        s = self.settings
        mask = learned.mask[rows]
        selected = weights = None
        if learned.old is not None and learned.loss.selects_tokens:
            draw = torch.Generator().manual_seed(
                s.seed * 1_000_003 + self.done_steps * 1_009 + number
            )
            advantages = learned.batch.advantages[rows]
            selected = select_tokens(learned.loss, learned.old[rows], advantages, mask, draw)
        if learned.old_entropy is not None and s.top_entropy_quantile < 1:
            weights = high_entropy_tokens(learned.old_entropy[rows], mask, s.top_entropy_quantile)
        return selected, weights

    def _corrected(
        self, logps: Tensor, old: Tensor | None, index: Tensor, micro: Batch, mask: Tensor
    ) -> tuple[Tensor | None, dict[str, Mean | Peak]]:
        """Weights for where sampling and training log-probs differ, and by how much they do.

        Demonstrations were not sampled: they weigh 1 and are not counted.
        """
        correction, shown = self.settings.correction, micro.demonstrations[:, None]
        # On the first update the weights are still those that sampled.
        own = logps.detach() if old is None else old[index, : mask.shape[1]]
        weights = None
        if correction is not None:
            weights = correction.weights(own, micro.sampled_logps, mask).masked_fill(shown, 1.0)
        return weights, sampling_mismatch(own, micro.sampled_logps, mask & ~shown, weights)

    def _near_policy(self, logps: Tensor, micro: Batch, mask: Tensor) -> Tensor | None:
        """0 for disliked rows that the policy has left behind (`loss.off_policy_rows`) [b, 1]."""
        if (threshold := self.settings.off_policy_mask_threshold) is None:
            return None
        near = off_policy_rows(logps, micro.sampled_logps, micro.advantages, mask, threshold)
        return near.masked_fill(micro.demonstrations[:, None], 1.0)

    @torch.no_grad()
    def _without_grad(self, batch: Batch, size: Size) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies [B, T-1] under the current weights, in micro-batches."""
        s, shape, device = self.settings, batch.loss_mask.shape, batch.loss_mask.device
        logps, entropies = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        options = _chunked(s.logprobs, size)
        for piece, micro in batch.micro_batches(size.rows, keep_groups=options.share_prompts):
            some, entropy = completion_logprobs(
                self.policy, micro.input_ids, micro.attention_mask, micro.loss_mask, options
            )
            logps[piece, : some.shape[1]] = some
            entropies[piece, : some.shape[1]] = entropy
        return logps, entropies


def _scaler(policy: Policy) -> torch.amp.GradScaler:
    """float16 gradients vanish or overflow without a scale; other dtypes have the range."""
    half = policy.device.dtype is torch.float16
    return torch.amp.GradScaler(policy.device.torch_device.type, enabled=half)


def _can_run(policy: Policy, name: str, choice: Any) -> bool:
    """Whether a choice of `engine` or `share_prompts` suits this policy."""
    if name == "engine":
        return choice in ENGINES and ENGINES[choice].unfit(policy) is None
    return not choice or why_not_shared(policy) is None


def _limits(policy: Policy, settings: TrainSettings, say: Say) -> tuple[RowLimit, RowLimit]:
    """What sampling and updates learn about the memory, and what to say where it is too small."""
    shorter = f"max_completion_length={settings.sampling.max_new_tokens // 2}"
    resort = shorter if policy.spec.load_in_4bit else "load_in_4bit=true"
    recompute = resort if policy.spec.gradient_checkpointing else "gradient_checkpointing=true"
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


def _chunked(options: LogprobOptions, size: Size) -> LogprobOptions:
    """The op's options, in smaller chunks where memory asked for them."""
    return options if size.chunk_rows is None else replace(options, chunk_rows=size.chunk_rows)


def _mini_batches(group_B: Tensor, count: int) -> list[Tensor]:
    """Row numbers of each mini-batch; groups stay whole, and at most one mini-batch a group.

    Groups are dealt out in turn, since a step's complete prompts come before its underspecified
    ones and each mini-batch should hold both.
    """
    groups = [torch.nonzero(group_B == g).flatten() for g in group_B.unique().tolist()]
    return [torch.cat(groups[i::count]) for i in range(min(count, len(groups)))]


def _product(*weights: Tensor | None) -> Tensor | None:
    """Factors of the policy term multiplied, [b, T-1] or [b, 1]; None where all are 1."""
    some = [w for w in weights if w is not None]
    return math.prod(some[1:], start=some[0]) if some else None


def _part(values: Tensor | None, piece: Tensor, width: int) -> Tensor | None:
    """A micro-batch's part of a mini-batch's values [b, T-1]."""
    return None if values is None else values[piece, :width]


def _only(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: values[name]} if name in values else {}
