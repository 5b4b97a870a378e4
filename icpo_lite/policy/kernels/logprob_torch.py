"""The row operation in plain torch: what happens to a chunk of logits between the two matmuls.

A block of rows goes through every step before the next one is touched: main memory sees each
logit once, and the scratch space is a block, not a second chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from icpo_lite.policy.kernels.logits import LogitTransform
from icpo_lite.policy.kernels.logprob_reference import FLOOR

#: What a block of rows may take: on a CPU the last level of cache, and few enough parallel regions
#: (a busy machine pays for each); on a GPU few launches matter more. And at most this share of
#: the chunk, so that scratch space stays small beside it.
BLOCK_BYTES = {"cpu": 16 << 20, "cuda": 32 << 20}
BLOCK_SHARE = 8

#: Below this, 1 − p_y and H are rounding noise and no measure of how large a row of dz is.
SMALLEST_SIZE = 2.0**-17


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

    d logp/dl = size · dz and dH/dl = entropy_size · dh, where without a boost
    dz = (p − 1[v = y])·(1 − tanh²), dh = p·(log p + H)·(1 − tanh²) and both sizes are −scale/T.
    With a boost, dz is divided by 1 − p_y and dh by H, which bound them, and multiplied by the
    boost; the size takes what was divided. What is small as a whole thus never sinks below the
    smallest fp16 number. The caller divides by the boost after its matmul.
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


def _block(logits: torch.Tensor, task: RowTask, scratch: torch.Tensor) -> RowResult:
    """By exp, sum and quotient: torch.log_softmax adds 150,000 exponentials up to 2e-5 wrong.

    With s = z − max z: log p = s − log Σ exp s, and H = log Σ exp s − Σ p·s.
    """
    target = task.targets[:, None]
    z, damping = _transformed(logits, task)
    shifted = torch.sub(z, z.amax(1, keepdim=True), out=scratch)
    shifted_y = shifted.gather(1, target)
    shifted.clamp_(min=FLOOR)
    p = torch.exp(shifted, out=z)
    total = p.sum(1, keepdim=True)
    p.div_(total)
    weighted = shifted.mul_(p)
    mean = weighted.sum(1, keepdim=True)
    logp_y = shifted_y - total.log()
    entropy = total.log() - mean
    minus_gap = torch.expm1(logp_y)  # p_y − 1, exact also where p_y is near 1
    size = _size(-minus_gap, task)
    entropy_size = _size(entropy, task)
    if task.dh is not None:
        # p·(log p + H) = p·(s − Σ p·s)
        _store(weighted.addcmul_(p, -mean), damping, entropy_size, task, task.dh)
    if task.dz is not None:
        _store(p.scatter_(1, target, minus_gap), damping, size, task, task.dz)
    slope = -task.transform.slope
    columns = (logp_y, entropy, size * slope, entropy_size * slope)
    return RowResult(*(column.squeeze(1) for column in columns))


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


def _size(bound: torch.Tensor, task: RowTask) -> torch.Tensor:
    return torch.ones_like(bound) if task.boost is None else bound.clamp_min(SMALLEST_SIZE)


def _store(
    values: torch.Tensor,
    damping: torch.Tensor | None,
    size: torch.Tensor,
    task: RowTask,
    out: torch.Tensor,
) -> None:
    if damping is not None:
        values.mul_(damping)
    if task.boost is not None:
        values.mul_(task.boost / size)
    if out.dtype != values.dtype or out.data_ptr() != values.data_ptr():
        out.copy_(values.to(out.dtype))  # first cast, then copied: the two may overlap
