"""Log-probs and their unit gradient by tiles of rows and words, for a GPU (see `layout`).

For the rows of a tile the whole vocabulary goes by, tile after tile, and with the target left out

    d logp_y/dh = (1 − p_y)·slope·[(1 − tanh²)_y W_y − Σ_v e^(s_v)·(1 − tanh²)_v W_v / Σ_v e^(s_v)],

whose sum is an fp32 matrix [R, D] that a rising reference rescales. Both terms in the brackets are
of lm_head's size, and 1 − p_y is a number of its own: nothing is lost where p_y is near 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from icpo_lite.policy.kernels import layout
from icpo_lite.policy.kernels.chunks import free_bytes
from icpo_lite.policy.kernels.logits import LogitTransform, project, pull_back_onto
from icpo_lite.policy.kernels.logprob_torch import against_others

#: Rows whose targets' rows of lm_head are widened at a time.
TARGET_ROWS = 512


class TiledRun(NamedTuple):
    """What K kept rows give; direction and size as in `logprob._UnitGradient`."""

    logp: torch.Tensor  # [K]
    entropy: torch.Tensor  # [K]
    direction: torch.Tensor | None  # [K, D]
    size: torch.Tensor  # [K]


def run_tiles(
    hidden: torch.Tensor,  # [N, D]
    keep: torch.Tensor | None,  # [K] row numbers; None: all N
    weight: torch.Tensor,  # [V, D]
    targets: torch.Tensor,  # [K]
    bias: torch.Tensor | None,  # [V]
    transform: LogitTransform,
    *,
    rows: int | None,
    grad: bool,
) -> TiledRun:
    """All tiles; `rows` of them at once, None: from free memory."""
    kept, width = len(targets), weight.shape[1]
    at_once = rows or layout.tile_rows(kept, width, free_bytes(hidden.device))
    buffers = _Buffers.allocate(min(at_once, kept), weight, hidden, grad)
    logp, entropy, size = (hidden.new_empty(kept, dtype=torch.float32) for _ in range(3))
    direction = hidden.new_empty(kept, width) if grad else None
    for start in range(0, kept, max(1, at_once)):
        here = slice(start, min(kept, start + at_once))
        block = hidden[here] if keep is None else hidden[keep[here]]
        out = None if direction is None else direction[here]
        found = _rows(block, weight, targets[here], bias, transform, buffers, out)
        logp[here], entropy[here], size[here] = found
    return TiledRun(logp, entropy, direction, size)


class _Buffers(NamedTuple):
    """Memory of one tile and of the sum, used again for every block of rows."""

    logits: torch.Tensor  # [R, words] fp32, rows may be padded
    weight: torch.Tensor | None  # the same memory in the dtype that meets lm_head
    total: torch.Tensor | None  # [R, D] fp32

    @classmethod
    def allocate(
        cls, rows: int, weight: torch.Tensor, hidden: torch.Tensor, grad: bool
    ) -> _Buffers:
        words = min(layout.TILE_WORDS, len(weight))
        stride = -(-words // 64) * 64
        memory = torch.empty(rows, stride, dtype=torch.float32, device=hidden.device)
        # Only a GPU multiplies 16-bit numbers into an fp32 sum.
        narrow = hidden.dtype if hidden.is_cuda else torch.float32
        total = None
        if grad:
            total = torch.empty(rows, weight.shape[1], dtype=torch.float32, device=hidden.device)
        return cls(memory[:, :words], memory.view(narrow)[:, :words] if grad else None, total)


def _rows(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None,
    transform: LogitTransform,
    buffers: _Buffers,
    out: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(log-probs, entropies, sizes) of a block of rows; fills `out` [R, D] with the directions."""
    from icpo_lite.policy.kernels.logprob_triton_tiles import (
        TILE_BOOST,
        TileState,
        rescale,
        triton_tile,
    )

    count, words = len(hidden), buffers.logits.shape[1]
    boost = TILE_BOOST if hidden.dtype == torch.float16 else 1.0
    state = TileState.start(count, hidden.device)
    total = None if buffers.total is None else buffers.total[:count].zero_()
    for first in range(0, len(weight), words):
        tile = weight[first : first + words]
        logits = buffers.logits[:count, : len(tile)]
        lifted = None if buffers.weight is None else buffers.weight[:count, : len(tile)]
        project(hidden, tile, out=logits)
        triton_tile(logits, lifted, targets, bias, transform, first, boost, state)
        if total is not None and lifted is not None:
            rescale(total, state)
            pull_back_onto(lifted, tile, total)
    row = against_others(state.target, state.top, state.rest, state.moment)
    if out is not None and total is not None:
        _directions(total, weight, targets, state.rest * boost, state.damping, out)
    size = row.gap * transform.slope
    return row.logp.float(), row.entropy.float(), size.float()


def _directions(
    total: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    rest: torch.Tensor,
    damping: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """out = damping · W_y − total / rest, rounded once; without other tokens the sum is 0."""
    total.div_(-rest.masked_fill(rest == 0, torch.inf)[:, None])
    for start in range(0, len(total), TARGET_ROWS):
        rows = slice(start, start + TARGET_ROWS)
        total[rows].addcmul_(weight[targets[rows]].to(total.dtype), damping[rows, None])
        out[rows] = total[rows].to(out.dtype)
