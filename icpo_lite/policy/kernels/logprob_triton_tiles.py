"""The tile operation in Triton: one tile of a row's logits joins what earlier tiles left.

A program a row. The first read finds the tile's maximum, the second writes e^s over the logits and
adds to the row's sums; s = z − a reference that only moves when a tile exceeds it by more than
RISE, so that what was summed before is seldom rescaled. The target is left out, as everywhere.
"""

# mypy: disable-error-code="no-untyped-def"
# (Triton reads annotations of kernel parameters as its own types.)
from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from icpo_lite.policy.kernels.logits import LogitTransform
from icpo_lite.policy.kernels.logprob_torch import LOWEST
from icpo_lite.policy.kernels.logprob_triton import (
    TILE,
    WARPS,
    _floored,
    _z_at,
    transform_numbers,
)

#: e^s stays below e^RISE = 55, which fp16 holds times its boost.
RISE = 4.0
#: Lifts fp16's e^s: 55 · 2^10 is below its end at 65504, and the smallest it holds is 6e-11.
TILE_BOOST = 2.0**10
#: Columns of the sum [R, D] that a program rescales.
COLUMNS = 1024


class TileState(NamedTuple):
    """Numbers of a row of logits while its tiles go by, each [R] in fp32."""

    top: torch.Tensor  # the reference that s is measured from
    rest: torch.Tensor  # Σ e^s of the tokens but the target
    moment: torch.Tensor  # Σ e^s · s of them
    target: torch.Tensor  # z_y, once its tile has come
    damping: torch.Tensor  # 1 − tanh² at the target
    shrink: torch.Tensor  # by what the last tile shrank what was summed before it

    @classmethod
    def start(cls, rows: int, device: torch.device) -> TileState:
        starts = (LOWEST, 0.0, 0.0, float("nan"), 1.0, 1.0)
        return cls(*(torch.full((rows,), start, device=device) for start in starts))


@triton.jit
def _tile_kernel(
    logits_ptr,  # fp32 [R, width]; columns from `vocabulary` on are padding
    weight_ptr,  # e^s, on the logits' memory, narrower elements at the same row starts
    targets_ptr,
    bias_ptr,
    top_ptr,
    rest_ptr,
    moment_ptr,
    target_ptr,
    damping_ptr,
    shrink_ptr,
    first,  # the vocabulary's number of column 0
    vocabulary,  # of this tile
    width,  # row stride of the logits
    weight_stride,
    inner,
    outer,
    boost,
    rise,
    BIAS: tl.constexpr,
    CAP: tl.constexpr,
    WANT_WEIGHT: tl.constexpr,
    TILE: tl.constexpr,
):
    row = tl.program_id(0)
    logits_ptr += row.to(tl.int64) * width
    bias_ptr += first
    target = tl.load(targets_ptr + row) - first
    if (target >= 0) & (target < vocabulary):
        target_z, target_damping = _z_at(
            logits_ptr, bias_ptr, target, width, vocabulary, inner, outer, BIAS, CAP
        )
        tl.store(target_ptr + row, target_z)
        tl.store(damping_ptr + row, target_damping)

    highest = tl.full([TILE], float("-inf"), tl.float32)
    for start in range(0, vocabulary, TILE):
        columns = start + tl.arange(0, TILE)
        z, damping = _z_at(
            logits_ptr, bias_ptr, columns, width, vocabulary, inner, outer, BIAS, CAP
        )
        highest = tl.maximum(highest, tl.where(columns == target, float("-inf"), z))
    peak = tl.max(highest, 0)
    before = tl.load(top_ptr + row)
    top = tl.where(peak > before + rise, peak, before)
    fall = before - top

    total = tl.zeros([TILE], tl.float32)
    moment = tl.zeros([TILE], tl.float32)
    weight_ptr += row.to(tl.int64) * weight_stride
    for start in range(0, vocabulary, TILE):
        columns = start + tl.arange(0, TILE)
        z, damping = _z_at(
            logits_ptr, bias_ptr, columns, width, vocabulary, inner, outer, BIAS, CAP
        )
        below = _floored(tl.where(columns == target, float("-inf"), z) - top)
        weight = tl.exp(below)
        moment += weight * below
        total += weight
        if WANT_WEIGHT:
            # 16-bit e^s of this tile lands on fp32 logits of this or an earlier one: every warp
            # must have read them.
            tl.debug_barrier()
            lifted = (weight * damping * boost).to(weight_ptr.dtype.element_ty)
            tl.store(weight_ptr + columns, lifted, mask=columns < width)

    shrink = tl.exp(fall)
    rest = tl.load(rest_ptr + row)
    moved = (tl.load(moment_ptr + row) + rest * fall) * shrink
    tl.store(moment_ptr + row, moved + tl.sum(moment, 0))
    tl.store(rest_ptr + row, rest * shrink + tl.sum(total, 0))
    tl.store(top_ptr + row, top)
    tl.store(shrink_ptr + row, shrink)


@triton.jit
def _rescale_kernel(sum_ptr, shrink_ptr, hidden, stride, COLUMNS: tl.constexpr):
    """Rows of the sum that a higher reference shrinks; the others are not touched."""
    row = tl.program_id(0)
    shrink = tl.load(shrink_ptr + row)
    if shrink != 1.0:
        columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        place = sum_ptr + row.to(tl.int64) * stride + columns
        inside = columns < hidden
        tl.store(place, tl.load(place, mask=inside, other=0.0) * shrink, mask=inside)


def triton_tile(
    logits: torch.Tensor,  # [R, words] fp32, raw
    weight: torch.Tensor | None,  # [R, words] on the same memory; None: forward only
    targets: torch.Tensor,  # [R]
    bias: torch.Tensor | None,  # [V]
    transform: LogitTransform,
    first: int,
    boost: float,
    state: TileState,
) -> None:
    """Add the tile that begins at word `first` to the state; write boost · (1 − tanh²) · e^s."""
    words = logits.shape[1]
    inner, outer = transform_numbers(transform)
    written = logits if weight is None else weight
    _tile_kernel[(len(logits),)](
        logits,
        written,
        targets,
        logits if bias is None else bias,
        *state,
        first,
        words,
        logits.stride(0),
        written.stride(0),
        inner,
        outer,
        boost,
        RISE,
        BIAS=bias is not None,
        CAP=transform.softcap is not None,
        WANT_WEIGHT=weight is not None,
        TILE=min(TILE, triton.next_power_of_2(words)),
        num_warps=WARPS,
        enable_fp_fusion=True,
    )


def rescale(total: torch.Tensor, state: TileState) -> None:
    """total [R, D] *= shrink, row by row."""
    columns = min(COLUMNS, triton.next_power_of_2(total.shape[1]))
    grid = (len(total), triton.cdiv(total.shape[1], columns))
    _rescale_kernel[grid](
        total, state.shrink, total.shape[1], total.stride(0), COLUMNS=columns, num_warps=4
    )
