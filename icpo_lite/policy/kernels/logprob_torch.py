"""The row operation in plain torch: what happens to a chunk of logits between the two matmuls.

The target stands against all other tokens. With s = z − max of the others, R = Σ e^s and
M = Σ e^s·s over the others, and x = s_y − log R, the target's odds are e^x:

    log p_y = −log(1 + e^−x),    1 − p_y = 1 / (1 + e^x),    p_v = (1 − p_y)·e^(s_v) / R,
    H = −p_y log p_y + (1 − p_y)·(−log(1 − p_y) + log R − M/R).

Nothing cancels, so that 1 − p_y, and all that is proportional to it, keeps its digits where p_y is
near 1; exponentials are summed and divided, since torch.log_softmax adds 150,000 of them up to 2e-5
wrong on a CPU. The few numbers of a row are float64.

A block of rows goes through every step before the next one is touched: main memory sees each
logit once, and the scratch space is a block, not a second chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import logsigmoid

from icpo_lite.policy.kernels.logits import LogitTransform
from icpo_lite.policy.kernels.logprob_reference import FLOOR

#: What a block of rows may take: on a CPU the last level of cache, and few enough parallel regions
#: (a busy machine pays for each); on a GPU few launches matter more. And at most this share of
#: the chunk, so that scratch space stays small beside it.
BLOCK_BYTES = {"cpu": 16 << 20, "cuda": 32 << 20}
BLOCK_SHARE = 8

#: Where a maximum starts: −inf would make −inf − (−inf) of a row whose other tokens are all −inf.
LOWEST = -3.0e38


class RowTask(NamedTuple):
    """What to do with a chunk of raw logits [C, V]."""

    targets: torch.Tensor  # [C], each within 0..V-1
    bias: torch.Tensor | None  # [V], in the logits' dtype
    transform: LogitTransform
    dz: torch.Tensor | None  # [C, V], may lie on the logits' memory; None: forward only
    dh: torch.Tensor | None  # [C, V], apart from the logits; None: no entropy gradient
    boost: float | None  # the largest |dz| to aim at (fp16); None: dz as it is


class RowResult(NamedTuple):
    """One number a row; `size` and `entropy_size` turn the buffers into gradients (see below)."""

    logp: torch.Tensor  # [C]
    entropy: torch.Tensor  # [C], nats
    size: torch.Tensor  # [C]
    entropy_size: torch.Tensor  # [C]


def torch_rows(logits: torch.Tensor, task: RowTask) -> RowResult:
    """Log-prob and entropy of raw logits l [C, V], which are overwritten; fills dz and dh.

    d logp/dl = size · dz and dH/dl = entropy_size · dh. Without a boost, dz is e^s for the others
    and −R for the target, dh the same multiple R/(1 − p_y) of p·(log p + H), both times 1 − tanh²:
    what would be divided for a whole row is left to the sizes. With a boost, dz is that divided by
    R, and dh is p·(log p + H) divided by H, so that the boost bounds them; the sizes take the rest.
    What is small as a whole thus never sinks below the smallest fp16 number. The caller divides by
    the boost after its matmul.
    """
    rows, vocabulary = logits.shape
    result = RowResult(*(logits.new_empty(rows) for _ in RowResult._fields))
    block_bytes = BLOCK_BYTES["cuda" if logits.is_cuda else "cpu"]
    cached = block_bytes // max(1, vocabulary * logits.element_size())
    block = max(1, min(cached, rows // BLOCK_SHARE))
    # Allocated once: a fresh block for every step would cost more in page faults than the step.
    scratch = logits.new_empty(min(block, rows), vocabulary)
    for start in range(0, rows, block):
        here = slice(start, min(rows, start + block))
        narrowed = task._replace(
            targets=task.targets[here],
            dz=None if task.dz is None else task.dz[here],
            dh=None if task.dh is None else task.dh[here],
        )
        part = _block(logits[here], narrowed, scratch[: here.stop - here.start])
        for whole, piece in zip(result, part, strict=True):
            whole[here] = piece
    return result


class AgainstOthers(NamedTuple):
    """What the three numbers of a row give, [C] or [C, 1] in float64."""

    logp: torch.Tensor  # log p_y
    gap: torch.Tensor  # 1 − p_y, also its smallest values
    entropy: torch.Tensor
    log_gap: torch.Tensor


def against_others(
    target: torch.Tensor, top: torch.Tensor, rest: torch.Tensor, moment: torch.Tensor
) -> AgainstOthers:
    """From z_y, the reference that s is measured from, R and M, as the docstring above has it."""
    rest, moment = rest.double(), moment.double()
    log_rest = rest.log()
    odds = target.double() - top.double() - log_rest
    odds = odds.masked_fill(target == torch.inf, torch.nan)  # an overflow is no certainty
    logp, log_gap = logsigmoid(odds), logsigmoid(-odds)
    gap, p_y = log_gap.exp(), logp.exp()
    spread = (log_rest - moment / rest - log_gap) * gap
    entropy = spread.masked_fill(gap == 0, 0.0) - p_y * logp.clamp_min(FLOOR)
    return AgainstOthers(logp, gap, entropy, log_gap)


def _block(logits: torch.Tensor, task: RowTask, scratch: torch.Tensor) -> RowResult:
    target = task.targets[:, None]
    z, damping = _transformed(logits, task)
    z_y = z.gather(1, target)
    z.scatter_(1, target, -torch.inf)
    top = z.amax(1, keepdim=True).clamp_min_(LOWEST)
    shifted = torch.sub(z, top, out=scratch).clamp_(min=FLOOR)
    weight = torch.exp(shifted, out=z)  # 0 for the target
    rest = weight.sum(1, keepdim=True)
    weighted = shifted.mul_(weight)
    moment = weighted.sum(1, keepdim=True)
    row = against_others(z_y, top, rest, moment)
    size, entropy_size = _sizes(row, rest, task)
    if task.dh is not None:
        # p_v (log p_v + H) with log p_v = s + log(1 − p_y) − log R
        constant = (row.log_gap - rest.double().log() + row.entropy).masked_fill(row.gap == 0, 0.0)
        weighted.addcmul_(weight, constant.to(weight.dtype))
        own = row.logp.exp() * (row.logp + row.entropy) * rest / row.gap
        weighted.scatter_(1, target, own.masked_fill(row.gap == 0, 0.0).to(weight.dtype))
        _store(weighted, damping, row.gap / (rest * row.entropy), task, task.dh)
    if task.dz is not None:
        _store(weight.scatter_(1, target, -rest), damping, 1.0 / rest, task, task.dz)
    slope = -task.transform.slope
    columns = (row.logp, row.entropy, size * slope, entropy_size * slope)
    return RowResult(*(column.squeeze(1).to(logits.dtype) for column in columns))


def _sizes(
    row: AgainstOthers, rest: torch.Tensor, task: RowTask
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the values of dz and dh are to be multiplied by, 0 where there are no others."""
    if task.boost is not None:
        return row.gap, row.entropy
    share = (row.gap / rest).masked_fill(rest == 0, 0.0)
    return share, share


def _transformed(logits: torch.Tensor, task: RowTask) -> tuple[torch.Tensor, torch.Tensor | None]:
    """z and the softcap's derivative 1 − tanh²; one of them lies in the logits' memory."""
    transform = task.transform
    if task.bias is not None:
        logits.add_(task.bias)
    if transform.softcap is None:
        return (logits if transform.slope == 1.0 else logits.mul_(transform.slope)), None
    tanh = logits.mul_((transform.scale or 1.0) / transform.softcap).tanh_()
    z = tanh * (transform.softcap / transform.temperature)
    return z, tanh.square_().neg_().add_(1.0)


def _store(
    values: torch.Tensor,
    damping: torch.Tensor | None,
    share: torch.Tensor,
    task: RowTask,
    out: torch.Tensor,
) -> None:
    """Into `out`; with a boost, times the share of the row's size that bounds its values by 1."""
    if damping is not None:
        values.mul_(damping)
    if task.boost is not None:
        bounded = (task.boost * share).to(values.dtype)
        values.mul_(bounded.masked_fill(~bounded.isfinite(), 0.0))
    if out.dtype != values.dtype or out.data_ptr() != values.data_ptr():
        out.copy_(values.to(out.dtype))  # first cast, then copied: the two may overlap
