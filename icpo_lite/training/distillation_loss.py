"""How a teacher's word on the sampled tokens becomes a loss: one entry of `MODES` for each KL.

The KL is KL(student ‖ teacher) of the next token, at the states that the student itself has come
to (`distillation_alpha` turns it round). `sampled_token` knows the sampled token alone: its
log-ratio is an unbiased estimate of the KL, and sg(log π − log π_T) · log π has the KL's gradient
on average. The others have it exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from icpo_lite.policy.kernels.divergence import token_divergence
from icpo_lite.policy.logprobs import lm_head_options
from icpo_lite.training.loss import Mean

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.policy.logprobs import LogprobOptions
    from icpo_lite.recipe.distillation_sections import DistillationKeys

#: Off-policy, a token counts at most so many times (TRL's distillation_is_clip).
MOST_RATIO = 2.0


@dataclass(frozen=True)
class Taught:
    """What the teacher says of a batch, before its first update.

    mask [B, T-1]: tokens that are taught. logps, weights [B, T-1]: the teacher's log-probs of them
    and how much each counts. hidden [N, D]: the teacher's states of them, row by row, where needed.
    """

    mask: Tensor
    logps: Tensor
    weights: Tensor
    hidden: Tensor | None

    def count(self, rows: Tensor, kept: Tensor) -> int:
        """Taught tokens of some rows that carry loss."""
        return int((self.mask[rows] & kept).sum())

    def of(self, rows: Tensor, kept: Tensor) -> Lesson:
        """What it says of some rows' tokens under kept [b, t]."""
        width = kept.shape[1]
        mask = self.mask[rows, :width] & kept
        hidden = None
        if self.hidden is not None:
            place = (self.mask.flatten().cumsum(0) - 1).view_as(self.mask)[rows, :width]
            hidden = self.hidden[place[mask]]
        logps, weights = (x[rows, :width][mask] for x in (self.logps, self.weights))
        return Lesson(mask, mask[kept], logps, weights, hidden)


class Lesson(NamedTuple):
    """What a teacher says of a micro-batch: n taught tokens of those under its loss mask.

    mask [b, t]: where they stand; among: … among the tokens under the loss mask. logps, weights
    [n], hidden [n, D] as in `Taught`.
    """

    mask: Tensor
    among: Tensor
    logps: Tensor
    weights: Tensor
    hidden: Tensor | None


class Student(NamedTuple):
    """The taught tokens of a micro-batch, one entry each.

    logps [n], with a gradient; old [n]: those that sampled, None where they are the same; teacher
    [n]: the teacher's; hidden, teacher_hidden [n, D]: the states, where the mode reads them.
    """

    logps: Tensor
    old: Tensor | None
    teacher: Tensor
    hidden: Tensor | None
    teacher_hidden: Tensor | None


@dataclass(frozen=True)
class Mode:
    """value: (student, keys, options of lm_head) -> (what is minimised, the KL that is told), [n].

    reads_hidden: whether it takes hidden states of both.
    """

    value: Callable[[Student, DistillationKeys, dict[str, Any]], tuple[Tensor, Tensor]]
    reads_hidden: bool


def _sampled_token(
    student: Student, keys: DistillationKeys, head: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    gap = (student.logps - student.teacher).detach()
    if student.old is None:
        return gap * student.logps, gap
    ratio = (student.logps - student.old).detach().clamp(-20, 20).exp().clamp(max=MOST_RATIO)
    return ratio * gap * student.logps, gap


def _divergence(
    student: Student, keys: DistillationKeys, head: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    assert student.hidden is not None
    assert student.teacher_hidden is not None
    top = keys.distillation_topk if keys.distillation_mode == "topk_logits" else None
    alpha = keys.distillation_alpha
    value = token_divergence(student.hidden, student.teacher_hidden, alpha=alpha, top=top, **head)
    return value, value.detach()


MODES: dict[str, Mode] = {
    "sampled_token": Mode(_sampled_token, reads_hidden=False),
    "topk_logits": Mode(_divergence, reads_hidden=True),
    "full_logits": Mode(_divergence, reads_hidden=True),
}


def _likelihood(gap: Tensor, mask: Tensor) -> Tensor:
    """min(1, exp(mean over tokens of log π_T − log π)): 1 where the teacher agrees, then less."""
    return ((gap * mask).sum(-1) / mask.sum(-1).clamp(min=1)).clamp(max=0.0).exp()


def _agreement(gap: Tensor, mask: Tensor) -> Tensor:
    """The share of tokens that the teacher finds at least half as likely as the model."""
    return ((gap >= -math.log(2)) & mask).sum(-1) / mask.sum(-1).clamp(min=1)


def _all_alike(gap: Tensor, mask: Tensor) -> Tensor:
    return torch.ones_like(gap[:, 0])


def prefix_weights(teacher: Tensor, sampled: Tensor, mask: Tensor) -> Tensor:
    """How much each token counts [M, T]: min(1, product over earlier tokens of π_T / π) (ours).

    What a teacher says after words that it would not have said is no word on the conversation.
    """
    gap = _gap(teacher, sampled, mask)
    return (gap.cumsum(-1) - gap).clamp(max=0.0).exp().to(teacher.dtype)


def _gap(teacher: Tensor, sampled: Tensor, mask: Tensor) -> Tensor:
    """log π_T − log π under the mask, 0 elsewhere and where a sampler tells none."""
    return (teacher - sampled).masked_fill(~mask, 0.0).nan_to_num(nan=0.0)


#: Ours: MAIGO's abstract names such a weight and not its formula.
RELIABILITY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "likelihood": _likelihood,
    "agreement": _agreement,
    "none": _all_alike,
}


def reliability(name: str, teacher: Tensor, sampled: Tensor, mask: Tensor) -> Tensor:
    """How much each reply counts [M], from log-probs [M, T] of its tokens under the mask.

    teacher: on the cleaned view; sampled: the model's own, in the conversation. A sampler that
    tells none counts as the teacher.
    """
    return RELIABILITY[name](_gap(teacher, sampled, mask), mask).to(teacher.dtype)


def distillation_loss(
    lesson: Lesson,
    policy: Policy,
    keys: DistillationKeys,
    own: tuple[Tensor, Tensor | None, *tuple[Tensor, ...]],
    count: int,
    options: LogprobOptions,
) -> tuple[Tensor, dict[str, Mean]]:
    """distill_weight · Σ w · KL / count over a micro-batch's taught tokens, and what is told of it.

    own: the student's log-probs [b, t], those that sampled, None where they are the same, and its
    hidden states [n, D] where the mode reads them, of the tokens under the loss mask. count: taught
    tokens of the whole mini-batch, so that micro-batches add up to it.
    """
    logps, old, *hidden = own
    mode = MODES[keys.distillation_mode]
    student = Student(
        logps[lesson.mask],
        None if old is None else old[lesson.mask],
        lesson.logps,
        hidden[0][lesson.among] if mode.reads_hidden else None,
        lesson.hidden,
    )
    read = {"temperature": options.temperature, "chunk_rows": options.chunk_rows}
    value, kl = mode.value(student, keys, {**lm_head_options(policy), **read})
    weights = lesson.weights.to(value.dtype)
    number = lesson.mask.sum()
    return keys.distill_weight * (weights * value).sum() / count, {
        "distill/kl": Mean(kl.sum(), number),
        "distill/reliability": Mean(weights.sum(), number),
    }
