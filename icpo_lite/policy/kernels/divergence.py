"""`token_divergence`: how far a student's next-token distribution p is from its teacher's q.

Both share one frozen lm_head, so that a teacher is kept as its hidden states [N, D] and never as
logits. alpha is TRL's `distillation_alpha`: 1 is KL(p ‖ q), 0 is KL(q ‖ p), and in between, with
m = (1 − alpha) p + alpha q, it is (1 − alpha) KL(p ‖ m) + alpha KL(q ‖ m). As in `kernels.logprob`
the gradient for the student's hidden state is formed while a chunk of logits is there, and kept
instead of it:

    d/dh = Σ_v p_v (f_v − Σ_u p_u f_u) · dz_v/dl_v · W_v,
    f = log p − log q at alpha 1, −q/p at 0, (1 − alpha)(log p − log m) between.

With `top` the k likeliest tokens of the student stand alone and all others are one token, on both
sides: at most the whole divergence, and equal to it where k reaches the vocabulary. The teacher has
no gradient.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from icpo_lite.core.errors import NumericsError, UsageError
from icpo_lite.policy.kernels.chunks import auto_chunk_rows
from icpo_lite.policy.kernels.logits import LogitTransform, logits_dtype, project, pull_back
from icpo_lite.policy.kernels.logprob import UnitGradient, scaled_rows
from icpo_lite.policy.kernels.logprob_reference import FLOOR

#: Blocks of logits [C, V] that stand at once where the log-prob op has one: log p, log q, p, q, m,
#: f, the gradient and what is between; the plain KL is formed in place. A chunk has so many fewer
#: rows, and takes no more memory (measured).
BLOCKS, PLAIN_BLOCKS = 10, 4
#: Probability below which a sum of many tokens counts as none.
_NOTHING = 1e-30


class _Job(NamedTuple):
    """Everything about a call but the student's hidden states."""

    teacher: Tensor  # [N, D]
    weight: Tensor  # [V, D]
    bias: Tensor | None  # [V], in the logits' dtype
    transform: LogitTransform
    alpha: float
    top: int | None
    chunk_rows: int | Literal["auto"]

    @property
    def is_plain(self) -> bool:
        """A KL over the whole vocabulary of logits that nothing caps."""
        whole = self.top is None and self.transform.softcap is None
        return whole and self.alpha in (0.0, 1.0)


def token_divergence(
    hidden: Tensor,  # [N, D]
    teacher: Tensor,  # [N, D]
    weight: Tensor,  # [V, D]
    *,
    bias: Tensor | None = None,  # [V]
    temperature: float = 1.0,
    softcap: float | None = None,
    scale: float | None = None,
    alpha: float = 1.0,
    top: int | None = None,
    chunk_rows: int | Literal["auto"] = "auto",
) -> Tensor:
    """The divergence of each row in nats, [N] fp32 (float64 for float64).

    Differentiable for `hidden` alone.

    The distributions are those of `kernels.logprob.token_logprobs`. Raises UsageError for tensors
    that do not fit together, NumericsError where a divergence is NaN.
    """
    if hidden.shape != teacher.shape or hidden.ndim != 2 or hidden.dtype != teacher.dtype:
        raise UsageError(
            f"expected hidden states of student and teacher [N, D] alike, found "
            f"{list(hidden.shape)} {hidden.dtype} and {list(teacher.shape)} {teacher.dtype}"
        )
    job = _Job(
        teacher.detach(),
        weight.detach(),
        None if bias is None else bias.detach().to(logits_dtype(hidden.dtype)),
        LogitTransform(temperature, softcap, scale),
        alpha,
        None if top is None or top >= len(weight) else top,
        chunk_rows,
    )
    found: Tensor = _TokenDivergence.apply(hidden, job)
    if bool(found.detach().isnan().any()):
        raise NumericsError(
            "divergence: expected numbers, found NaN from the model or its teacher; use dtype: "
            "bfloat16 or float32, or a lower learning_rate"
        )
    return found


class _TokenDivergence(torch.autograd.Function):
    """The unit gradient is formed in forward; backward scales its rows."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, job: _Job) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            value, direction, size = _chunked(hidden, job, wants_grad=wanted)
        ctx.save_for_backward(direction, size)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return scaled_rows([(UnitGradient(*ctx.saved_tensors), grad)]), None


def _chunked(
    hidden: Tensor, job: _Job, *, wants_grad: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(value [N], direction [N, D], size [N]): d value/dh is size · direction, row by row."""
    wide, vocabulary = logits_dtype(hidden.dtype), len(job.weight)
    value = hidden.new_empty(len(hidden), dtype=wide)
    direction = torch.empty_like(hidden) if wants_grad else None
    size = torch.empty_like(value) if wants_grad else None
    rows = job.chunk_rows
    if rows == "auto":
        rows = auto_chunk_rows(len(hidden), vocabulary * wide.itemsize, hidden.device)
    at_once = max(1, rows // (PLAIN_BLOCKS if job.is_plain else BLOCKS))
    for start in range(0, len(hidden), at_once):
        here = slice(start, start + at_once)
        own, slope = _log_probs(hidden[here], job)
        value[here], dz = _pulled(own, _log_probs(job.teacher[here], job)[0], job)
        if direction is not None and size is not None:
            dz.mul_(slope)
            size[here] = dz.abs().amax(1).clamp_min(torch.finfo(wide).tiny)
            dz.div_(size[here][:, None])  # what is small as a whole must not sink in 16 bits
            narrow = dz.to(hidden.dtype) if hidden.is_cuda else dz
            pull_back(narrow, job.weight, 1.0, out=direction[here])
    return value, direction, size


def _log_probs(hidden: Tensor, job: _Job) -> tuple[Tensor, Tensor | float]:
    """(log p [C, V], dz/dl): the softmax's logarithm, and the slope of what stands before it."""
    logits = hidden.new_empty(len(hidden), len(job.weight), dtype=logits_dtype(hidden.dtype))
    project(hidden, job.weight, out=logits)
    if job.bias is not None:
        logits.add_(job.bias)
    slope: Tensor | float = job.transform.slope
    if job.transform.softcap is not None:
        tanh = torch.tanh(logits * ((job.transform.scale or 1.0) / job.transform.softcap))
        slope = (1.0 - tanh.square()) * slope
    return job.transform.apply(logits).log_softmax(1), slope


def _pulled(own: Tensor, other: Tensor, job: _Job) -> tuple[Tensor, Tensor]:
    """(value [C], d value/dz [C, V]) from log p and log q."""
    if job.top is None:
        return _compared(own.clamp_min_(FLOOR), other.clamp_min_(FLOOR), job.alpha)
    kept = own.topk(job.top, dim=1).indices
    p = own.exp()
    rest = [x.scatter(1, kept, 0.0).sum(1, keepdim=True) for x in (p, other.exp())]
    mine, theirs = (
        torch.cat([x.gather(1, kept).clamp_min(FLOOR), r.clamp_min(_NOTHING).log()], dim=1)
        for x, r in zip((own, other), rest, strict=True)
    )
    value, pull = _compared(mine, theirs, job.alpha)
    # A token of the rest is pulled by its share of what the rest is pulled.
    outside = pull[:, -1:] / rest[0].clamp_min(_NOTHING)
    return value, p.mul_(outside).scatter_(1, kept, pull[:, :-1])


def _compared(own: Tensor, other: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(value [C], p (f − Σ p f) [C, K]) of distributions given by their logarithms [C, K].

    Both are overwritten.
    """
    if alpha == 0.0:
        q, f = other.exp(), other.sub_(own)
        return f.mul_(q).sum(1), own.exp_().sub_(q)
    p = own.exp()
    if alpha == 1.0:
        f = own.sub_(other)
        value = torch.mul(p, f, out=other).sum(1)
        return value, f.sub_(value[:, None]).mul_(p)
    q = other.exp()
    mixed = torch.logaddexp(own + math.log1p(-alpha), other + math.log(alpha))
    f = (1.0 - alpha) * (own - mixed)
    value = (p * f).sum(1) + alpha * (q * (other - mixed)).sum(1)
    return value, p * (f - (p * f).sum(1, keepdim=True))
