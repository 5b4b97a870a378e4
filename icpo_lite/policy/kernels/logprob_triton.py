"""The row operation as one Triton kernel: a program a row, two reads, one write in place.

The first read keeps an online log-sum-exp of all tokens but the target, and the numbers follow
from both as in `logprob_torch`; the second read writes dz over the logits. A row is read twice
rather than held: a vocabulary of 152k is 608 KB in fp32, no register file holds it. There is no
`tl.dot`: Triton has no tensor-core instructions for sm75, so the matmuls stay with the library.

Importing this module needs triton; TRITON_INTERPRET=1, set before, runs it on a CPU.
"""

# mypy: disable-error-code="no-untyped-def"
# (Triton reads annotations of kernel parameters as its own types.)
from __future__ import annotations

import torch
import triton
import triton.language as tl

from icpo_lite.policy.kernels.logits import LogitTransform
from icpo_lite.policy.kernels.logprob_reference import FLOOR as _FLOOR
from icpo_lite.policy.kernels.logprob_torch import LOWEST as _LOWEST
from icpo_lite.policy.kernels.logprob_torch import RowResult, RowTask

#: Elements of a row that a program holds at a time, and its warps: 8 fp32 a thread. Compiled for
#: sm75 to sm90 this neither spills nor uses a stack frame.
TILE = 2048
WARPS = 8

FLOOR = tl.constexpr(_FLOOR)
LOWEST = tl.constexpr(_LOWEST)


@triton.jit
def _tanh(x):
    """Odd polynomial below 0.6, where 1 − 2/(e^2x + 1) cancels; 1.3 rounding errors at most."""
    z = x * x
    series = -0.0062763901 * z + 0.0211162157
    series = series * z - 0.0538751371
    series = series * z + 0.1333292425
    series = series * z - 0.3333333135
    magnitude = tl.abs(x)
    # e^2|x| overflows to inf above 44, and 2/inf is the right 0.
    far = 1.0 - 2.0 / (tl.exp(2.0 * magnitude) + 1.0)
    return tl.where(magnitude < 0.6, x + x * z * series, tl.where(x < 0, -far, far))


@triton.jit
def _log1p(x):
    """log(1 + x) for 0 ≤ x ≤ 1: the quotient makes good what 1 + x rounds off."""
    whole = 1.0 + x
    gained = tl.where(whole == 1.0, 1.0, whole - 1.0)
    return tl.where(whole == 1.0, x, tl.log(whole) * (x / gained))


@triton.jit
def _log_sigmoid(x):
    """−log(1 + e^−x)."""
    return tl.minimum(x, 0.0) - _log1p(tl.exp(-tl.abs(x)))


@triton.jit
def _floored(s):
    """s, or FLOOR where it is lower, so that 0 · s is 0; NaN stays."""
    return tl.where(s < FLOOR, FLOOR, s)


@triton.jit
def _against_others(target_z, top, rest, moment):
    """log p_y, 1 − p_y, its logarithm, H, and log R: `logprob_torch.against_others` in fp32."""
    log_rest = tl.log(rest)
    odds = target_z - top - log_rest
    odds = tl.where(target_z == float("inf"), float("nan"), odds)
    logp = _log_sigmoid(odds)
    log_gap = _log_sigmoid(-odds)
    gap = tl.exp(log_gap)
    spread = (log_rest - moment / rest - log_gap) * gap
    entropy = tl.where(gap == 0.0, 0.0, spread) - tl.exp(logp) * _floored(logp)
    return logp, gap, log_gap, entropy, log_rest


@triton.jit
def _z_at(
    logits_ptr,
    bias_ptr,
    columns,
    width,
    vocabulary,
    inner,
    outer,
    BIAS: tl.constexpr,
    CAP: tl.constexpr,
):
    """z, −inf in the padding, and the softcap's derivative at some columns of a row.

    The mask is the padded width, a multiple of a vector load, whatever the vocabulary; what is
    read from the padding is then replaced.
    """
    raw = tl.load(logits_ptr + columns, mask=columns < width, other=0.0)
    if BIAS:
        raw += tl.load(bias_ptr + columns, mask=columns < vocabulary, other=0.0)
    if CAP:
        tanh = _tanh(raw * inner)
        z = tanh * outer
        damping = 1.0 - tanh * tanh
    else:
        z = raw * inner
        damping = tl.zeros_like(z) + 1.0
    return tl.where(columns < vocabulary, z, float("-inf")), damping


@triton.jit
def _row_kernel(
    logits_ptr,  # fp32 [C, width]; columns from V on are padding
    dz_ptr,  # may lie on the logits' memory, narrower elements at the same row starts
    dh_ptr,
    targets_ptr,
    bias_ptr,
    logp_ptr,
    entropy_ptr,
    size_ptr,
    entropy_size_ptr,
    vocabulary,
    width,  # row stride of the logits
    dz_stride,
    dh_stride,
    inner,
    outer,
    slope,
    boost,
    BIAS: tl.constexpr,
    CAP: tl.constexpr,
    WANT_DZ: tl.constexpr,
    WANT_DH: tl.constexpr,
    BOOST: tl.constexpr,
    TILE: tl.constexpr,
):
    row = tl.program_id(0)
    logits_ptr += row.to(tl.int64) * width
    target = tl.load(targets_ptr + row)
    target_z, _target_damping = _z_at(
        logits_ptr, bias_ptr, target, width, vocabulary, inner, outer, BIAS, CAP
    )

    # First read. e^s and e^s·s are summed lane by lane, s = z − top, under one running maximum;
    # when it rises by r, the first sum R shrinks by e^−r, the second loses r·R before.
    top = tl.full([], LOWEST, tl.float32)
    total = tl.zeros([TILE], tl.float32)
    moment = tl.zeros([TILE], tl.float32)
    for start in range(0, vocabulary, TILE):
        columns = start + tl.arange(0, TILE)
        z, damping = _z_at(
            logits_ptr, bias_ptr, columns, width, vocabulary, inner, outer, BIAS, CAP
        )
        z = tl.where(columns == target, float("-inf"), z)
        higher = tl.maximum(top, tl.max(z, 0))
        fall = top - higher
        shrink = tl.exp(fall)
        below = _floored(z - higher)
        weight = tl.exp(below)
        moment = (moment + total * fall) * shrink + weight * below
        total = total * shrink + weight
        top = higher
    rest = tl.sum(total, 0)
    logp, gap, log_gap, entropy, log_rest = _against_others(target_z, top, rest, tl.sum(moment, 0))
    tl.store(logp_ptr + row, logp)
    tl.store(entropy_ptr + row, entropy)

    # Second read, and the write in its place: e^s / R and −1 for the target, times 1 − p_y as size.
    if WANT_DZ:
        none = rest == 0.0
        share = tl.where(none, 0.0, boost / tl.where(none, 1.0, rest))
        constant = tl.where(gap == 0.0, 0.0, log_gap - log_rest + entropy)
        safe_gap = tl.where(gap == 0.0, 1.0, gap)
        own = tl.where(gap == 0.0, 0.0, tl.exp(logp) * (logp + entropy) / safe_gap)
        entropy_size = gap
        entropy_share = 1.0
        if BOOST:
            entropy_size = entropy
            entropy_share = tl.where(gap == 0.0, 0.0, gap / tl.where(gap == 0.0, 1.0, entropy))
        tl.store(size_ptr + row, -slope * gap)
        tl.store(entropy_size_ptr + row, -slope * entropy_size)
        dz_ptr += row.to(tl.int64) * dz_stride
        dh_ptr += row.to(tl.int64) * dh_stride
        for start in range(0, vocabulary, TILE):
            columns = start + tl.arange(0, TILE)
            z, damping = _z_at(
                logits_ptr, bias_ptr, columns, width, vocabulary, inner, outer, BIAS, CAP
            )
            below = _floored(z - top)
            q = tl.exp(below) * share
            # 16-bit dz of this tile lands on fp32 logits of this or an earlier one: every warp
            # must have read them.
            tl.debug_barrier()
            dz = tl.where(columns == target, -boost, q) * damping
            tl.store(dz_ptr + columns, dz.to(dz_ptr.dtype.element_ty), mask=columns < width)
            if WANT_DH:
                dh = tl.where(columns == target, own * boost, q * (below + constant))
                dh = dh * damping * entropy_share
                tl.store(dh_ptr + columns, dh.to(dh_ptr.dtype.element_ty), mask=columns < width)


def transform_numbers(transform: LogitTransform) -> tuple[float, float]:
    """(inner, outer): z = inner · l, or outer · tanh(inner · l) with a softcap."""
    if transform.softcap is None:
        return transform.slope, 1.0
    inner = (transform.scale or 1.0) / transform.softcap
    return inner, transform.softcap / transform.temperature


def triton_rows(logits: torch.Tensor, task: RowTask) -> RowResult:
    """`torch_rows` in one launch. The row padding of logits, dz and dh belongs to the kernel."""
    rows, vocabulary = logits.shape
    result = RowResult(*(logits.new_empty(rows) for _ in RowResult._fields))
    transform = task.transform
    inner, outer = transform_numbers(transform)
    dz = logits if task.dz is None else task.dz
    dh = logits if task.dh is None else task.dh
    if rows:
        _row_kernel[(rows,)](
            logits,
            dz,
            dh,
            task.targets,
            logits if task.bias is None else task.bias,
            *result,
            vocabulary,
            logits.stride(0),
            dz.stride(0),
            dh.stride(0),
            inner,
            outer,
            transform.slope,
            task.boost or 1.0,
            BIAS=task.bias is not None,
            CAP=transform.softcap is not None,
            WANT_DZ=task.dz is not None,
            WANT_DH=task.dh is not None,
            BOOST=task.boost is not None,
            TILE=min(TILE, triton.next_power_of_2(vocabulary)),
            num_warps=WARPS,
            enable_fp_fusion=True,
        )
    return result
