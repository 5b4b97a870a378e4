"""From a batch to new LoRA weights: gradients in micro-batches, one optimizer step a mini-batch.

Where memory runs out, an update is taken back and made again with less at once; one whose
log-probs, loss or gradient are not finite numbers is skipped.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icpo_lite.core.errors import NumericsError, OutOfMemory
from icpo_lite.core.oom import RowLimit, Say, Size, Snapshot, first_not_finite
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs, kept_hidden_states
from icpo_lite.policy.optimizer import make_optimizer
from icpo_lite.training.batch import Batch, mini_batches
from icpo_lite.training.distillation import Distiller, Views
from icpo_lite.training.distillation_loss import distillation_loss
from icpo_lite.training.group_losses import LOSSES_OF_GROUPS, compared
from icpo_lite.training.learned_batch import LearnedBatch
from icpo_lite.training.loss import (
    Mean,
    Normalizer,
    Peak,
    loss_normalizer,
    mean_metrics,
    part_normalizer,
    policy_loss,
)
from icpo_lite.training.loss_scale import growth_interval as growth_interval
from icpo_lite.training.loss_scale import loss_scaler
from icpo_lite.training.reply_shaping import TokenShaping
from icpo_lite.training.token_weights import (
    corrects,
    high_entropy_tokens,
    off_policy_rows,
    product,
    sampling_correction,
    sampling_mismatch,
    select_tokens,
)
from icpo_lite.training.without_gradient import Told, without_gradient

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.recipe.objective_sections import LossKeys


class Updater:
    """Makes optimizer steps of batches; what lives on between them is `state`, weights aside.

    logprobs: how log-probs are computed. limit: how many rows fit into memory at once. engine: who
    samples; distiller: who says what a teacher thinks of the samples; the trainer says so.
    """

    def __init__(
        self,
        policy: Policy,
        recipe: Recipe,
        logprobs: LogprobOptions,
        limit: RowLimit,
        say: Say,
    ) -> None:
        self.policy, self.recipe, self.logprobs = policy, recipe, logprobs
        self.limit, self.say = limit, say
        self.engine = "native"
        self.distiller: Distiller | None = None
        self.shaping = TokenShaping(recipe)
        self.step = self._skipped = self._skipped_in_a_row = 0
        self._stepping = False
        self.optimizer = make_optimizer(
            policy.trainable(),
            recipe.optim,
            lr=recipe.learning_rate,
            betas=(recipe.adam_beta1, recipe.adam_beta2),
            eps=recipe.adam_epsilon,
            weight_decay=recipe.weight_decay,
        )
        self.scaler = loss_scaler(policy, recipe)

    def update(
        self,
        batch: Batch,
        loss: LossKeys,
        learning_rate: float,
        step: int = 0,
        views: Views | None = None,
    ) -> dict[str, float]:
        """num_iterations passes over the batch, num_mini_batches optimizer steps in each.

        loss: the objective of this step. step: steps made before, for messages and for which
        tokens are drawn. views: the batch's replies as a teacher reads them. Where memory runs out,
        all of it is taken back and made again with less at once. Returns the step's metrics.
        """
        self.step = step
        found = {"loss": 0.0, "grad_norm": 0.0, "updates": 0.0}
        if len(batch):
            steps = self.recipe.num_iterations * self.recipe.num_mini_batches
            # One optimizer step alone is the last thing that an update does: what ran out of
            # memory before it has changed no weight. The first one makes the optimizer's state.
            undo = self.undo(whole=steps > 1 or not self.optimizer.state)
            found = self.limit.run(
                lambda size: self._updates(batch, loss, learning_rate, size, views),
                min(self.recipe.per_device_train_batch_size or len(batch), len(batch)),
                undo,
            )
        if self.distiller is not None and views is not None:
            self.distiller.follow()
        skipped, self._skipped = self._skipped, 0
        trained = float(batch.loss_mask.sum())
        return {**found, "skipped_updates": float(skipped), "tokens/trained": trained}

    def undo(self, *, whole: bool = True) -> Callable[[], None]:
        """What takes back, bit for bit, all updates and random numbers from now on.

        whole: False where no optimizer step will have been made. Weights and moments then are not
        copied, half a gigabyte at 7B; should a step have begun all the same, the run ends.
        """
        before = Snapshot(self.policy.trainable(), self.optimizer, whole=whole)
        self._stepping = False
        scale, skips = dict(self.scaler.state_dict()), (self._skipped, self._skipped_in_a_row)

        def restore() -> None:
            if self._stepping and not whole:
                raise OutOfMemory(
                    "memory ran out within the optimizer's step, which cannot be taken back; start "
                    "again from the last checkpoint, with per_device_train_batch_size="
                    f"{max((self.recipe.per_device_train_batch_size or 2) // 2, 1)}"
                )
            before.restore()
            # The old one remembers a step half done.
            self.scaler = loss_scaler(self.policy, self.recipe)
            self.restore_scale(scale)
            self._skipped, self._skipped_in_a_row = skips

        return restore

    def restore_scale(self, state: Mapping[str, Any]) -> None:
        """The loss scale of a checkpoint; empty when saved in a dtype that needs none."""
        if state:
            self.scaler.load_state_dict(dict(state))

    def _updates(
        self,
        batch: Batch,
        loss: LossKeys,
        learning_rate: float,
        size: Size,
        views: Views | None,
    ) -> dict[str, float]:
        recipe = self.recipe
        none = {"loss": 0.0, "grad_norm": 0.0, "updates": 0.0}
        try:
            learned = self._learned(batch.to(self.policy.device.torch_device), loss, size, views)
        except NumericsError as error:
            self._skip(str(error))
            return none
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

        parts: list[dict[str, Mean | Peak]] = []
        done: list[tuple[float, float]] = []
        dealt = mini_batches(batch.group, recipe.num_mini_batches) * recipe.num_iterations
        for number, rows in enumerate(dealt):
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

    def _learned(
        self, batch: Batch, loss: LossKeys, size: Size, views: Views | None = None
    ) -> LearnedBatch:
        """The batch with all that must be known before its first update."""
        recipe = self.recipe
        mask = batch.loss_mask
        if recipe.mask_truncated_completions:
            mask = mask & ~batch.truncated[:, None]
        old = old_entropy = ref = taught = None
        # With one update per batch the sampling policy is the one being updated: ratio 1.
        on_policy = recipe.num_iterations * recipe.num_mini_batches == 1
        by_entropy = recipe.top_entropy_quantile < 1 or self.shaping.by_entropy
        if not on_policy or loss.selects_tokens or by_entropy:
            old, old_entropy, _ = self._without_grad(batch, size)
        if loss.needs_reference:
            with self.policy.reference():
                ref = self._without_grad(batch, size).logps
        options = _chunked(self.logprobs, size)
        if views is not None and self.distiller is not None and loss.distills:
            taught = self.distiller.taught(views, options, size)
        logprobs = options.but(entropy_grad=loss.entropy_coef != 0)
        scale = self.shaping.scale(old_entropy, mask)
        return LearnedBatch(batch, mask, old, old_entropy, ref, loss, logprobs, size, scale, taught)

    def _optimizer_step(
        self, learned: LearnedBatch, rows: Tensor, number: int, parts: list[dict[str, Mean | Peak]]
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
                self.policy.trainable(), self.recipe.max_grad_norm, norm
            )
            self._stepping = True
            self.scaler.step(self.optimizer)
            self._stepping = False
        # In float16 an overflow halves the scale: that is how it is found.
        self.scaler.update()
        if not finite:
            self._skip(
                f"gradient: NaN or infinity first in {first_not_finite(named) or 'its norm'}"
            )
            return None
        parts += found
        self._skipped_in_a_row = 0
        return loss, float(norm)

    def _gradient(
        self, learned: LearnedBatch, rows: Tensor, number: int
    ) -> tuple[float, list[dict[str, Mean | Peak]]]:
        """Adds up the gradient of some rows, micro-batch by micro-batch: (loss, metrics).

        Micro-batches larger than what fits are computed in parts, which changes no sum.
        """
        recipe, loss, total = self.recipe, learned.loss, 0.0
        if loss.loss_type in LOSSES_OF_GROUPS:
            learned, total = self._compared(learned, rows, number)
        keep = self.logprobs.shared_prompts
        at_once = recipe.per_device_train_batch_size
        micros = list(learned.batch.rows(rows).micro_batches(at_once, keep_groups=keep))
        masks = [learned.mask[rows[piece], : m.loss_mask.shape[1]] for piece, m in micros]
        normalizer = loss_normalizer(loss, masks, recipe.max_completion_length)
        selected, weights = self._chosen_tokens(learned, rows, number)
        count = learned.taught.count(rows, learned.mask[rows]) if learned.taught else 0
        metrics, drops = [], recipe.drop_zero_variance
        for (piece, whole), mask in zip(micros, masks, strict=True):
            for index, teaches in learned.with_and_without_gradient(whole, rows[piece], drops):
                for part, micro in whole.rows(index).micro_batches(
                    learned.size.rows, keep_groups=keep
                ):
                    here = index[part]
                    kept = mask[here, : micro.loss_mask.shape[1]]
                    with contextlib.nullcontext() if teaches else torch.no_grad():
                        some, found = self._backward(
                            learned,
                            micro,
                            kept,
                            rows[piece[here]],
                            part_normalizer(normalizer, loss, kept, mask),
                            _part(weights, piece[here], kept.shape[1]),
                            _part(selected, piece[here], kept.shape[1]),
                            count,
                        )
                    total += some
                    metrics.append(found)
        return total, metrics

    def _backward(
        self,
        learned: LearnedBatch,
        micro: Batch,
        kept: Tensor,
        index: Tensor,
        normalizer: Normalizer,
        weights: Tensor | None,
        selected: Tensor | None,
        count: int,
    ) -> tuple[float, dict[str, Mean | Peak]]:
        """Forward and backward of what is computed at once; `index` are its rows of the batch.

        count: tokens of the mini-batch that a teacher speaks of.
        """
        loss, old, ref, width = learned.loss, learned.old, learned.ref, kept.shape[1]
        inputs = (micro.input_ids, micro.attention_mask, kept)
        states = []
        if learned.taught is not None and learned.taught.hidden is not None:
            states = [kept_hidden_states(self.policy, *inputs, learned.logprobs.shared_prompts)]
        logps, entropy = completion_logprobs(self.policy, *inputs, learned.logprobs, *states)
        corrected, mismatch = self._corrected(logps, old, index, micro, kept)
        near = self._off_policy_mask(logps, micro, kept)
        out = policy_loss(
            logps,
            None if old is None else old[index, :width],
            micro.advantages,
            kept,
            loss,
            normalizer=normalizer,
            ref_logps=None if ref is None else ref[index, :width],
            entropy=entropy if loss.entropy_coef else entropy.detach(),
            weights=product(weights, corrected, near),
            selected=selected,
            demonstrations=micro.demonstrations,
            entropy_scale=None if learned.scale is None else learned.scale[index, :width],
        )
        total, told = out.loss, out.metrics | mismatch
        if learned.taught is not None and count:
            lesson = learned.taught.of(index, kept)
            before = None if old is None else old[index, :width]
            added, taught = distillation_loss(
                lesson, self.policy, loss, (logps, before, *states), count, learned.logprobs
            )
            total, told = total + added, {**told, **taught}
        value = float(total.detach())
        if not math.isfinite(value):
            raise NumericsError(f"loss: {value}; expected a finite number")
        if torch.is_grad_enabled():
            self.scaler.scale(total).backward()
        return value, told

    def _skip(self, why: str) -> None:
        """Counts an update that was not made. Raises NumericsError where going on is no use."""
        self.optimizer.zero_grad(set_to_none=True)
        weights: list[tuple[str, Tensor | None]] = list(self.policy.trainable_named())
        if bad := first_not_finite(weights):
            raise NumericsError(f"weights: NaN or infinity in {bad}; found through {why}")
        self._skipped += 1
        # Down to a loss scale of 1, float16 overflows are its way of finding the scale.
        looking = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if "gradient" in why and looking:
            self.say(f"step {self.step + 1}: update skipped, loss scale lowered: {why}")
            return
        self._skipped_in_a_row += 1
        most = self.recipe.max_skipped_updates
        if self._skipped_in_a_row >= most:
            raise NumericsError(
                f"{self._skipped_in_a_row} updates in a row were skipped (max_skipped_updates: "
                f"{most}), the last because of {why}"
            )
        self.say(f"step {self.step + 1}: update skipped: {why}")

    def _chosen_tokens(
        self, learned: LearnedBatch, rows: Tensor, number: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Of one mini-batch's rows: tokens that Clip-Cov or KL-Cov acts on, and token weights.

        Both are chosen over the whole mini-batch, so that micro-batches do not change them.
        """
        recipe = self.recipe
        mask = learned.mask[rows]
        selected = weights = None
        if learned.old is not None and learned.loss.selects_tokens:
            draw = torch.Generator().manual_seed(
                recipe.seed * 1_000_003 + self.step * 1_009 + number
            )
            advantages = learned.batch.advantages[rows]
            selected = select_tokens(learned.loss, learned.old[rows], advantages, mask, draw)
        share = recipe.top_entropy_quantile
        if learned.old_entropy is not None and share < 1:
            weights = high_entropy_tokens(learned.old_entropy[rows], mask, share)
        shaped = self.shaping.weights(
            learned.batch.advantages[rows], learned.old_entropy, rows, mask, self.step
        )
        return selected, weights if shaped is None else shaped

    def _compared(
        self, learned: LearnedBatch, rows: Tensor, number: int
    ) -> tuple[LearnedBatch, float]:
        """The batch with what a loss of groups makes of its rows' advantages, and that loss."""
        batch, loss = learned.batch.rows(rows), learned.loss
        width = batch.loss_mask.shape[1]
        at = learned.ref if loss.loss_type == "copg" else learned.old
        now, before = (None if x is None else x[rows, :width] for x in (learned.old, at))
        if before is not None and (number or now is None):
            now = self._without_grad(batch, learned.size).logps
        slopes, value = compared(batch, now, before, learned.mask[rows, :width], loss)
        advantages = learned.batch.advantages.clone()
        advantages[rows] = slopes[:, None].expand(-1, advantages.shape[1])
        return replace(learned, batch=replace(learned.batch, advantages=advantages)), value

    def _corrected(
        self, logps: Tensor, old: Tensor | None, index: Tensor, micro: Batch, mask: Tensor
    ) -> tuple[Tensor | None, dict[str, Mean | Peak]]:
        """Weights for where sampling and training log-probs differ, and by how much they do.

        Demonstrations were not sampled: they weigh 1 and are not counted.
        """
        recipe, shown = self.recipe, micro.demonstrations[:, None]
        # On the first update the weights are still those that sampled.
        own = logps.detach() if old is None else old[index, : mask.shape[1]]
        weights = None
        if corrects(recipe, self.engine):
            weights = sampling_correction(own, micro.sampled_logps, mask, recipe)
            weights = weights.masked_fill(shown, 1.0)
        return weights, sampling_mismatch(own, micro.sampled_logps, mask & ~shown, weights)

    def _off_policy_mask(self, logps: Tensor, micro: Batch, mask: Tensor) -> Tensor | None:
        """0 for disliked rows that the policy has left behind (`off_policy_rows`) [b, 1]."""
        if (threshold := self.recipe.off_policy_mask_threshold) is None:
            return None
        near = off_policy_rows(logps, micro.sampled_logps, micro.advantages, mask, threshold)
        return near.masked_fill(micro.demonstrations[:, None], 1.0)

    def _without_grad(self, batch: Batch, size: Size) -> Told:
        """What the current weights say of the batch, in micro-batches."""
        return without_gradient(self.policy, batch, _chunked(self.logprobs, size), size.rows)


def _chunked(options: LogprobOptions, size: Size) -> LogprobOptions:
    """The op's options, in smaller chunks where memory asked for them."""
    return options if size.chunk_rows is None else options.but(chunk_rows=size.chunk_rows)


def _part(values: Tensor | None, piece: Tensor, width: int) -> Tensor | None:
    """A micro-batch's part of a mini-batch's values [b, T-1]."""
    return None if values is None else values[piece, :width]
