"""The row operation as one Triton kernel: a program a row, two reads, one write in place.

The first read keeps an online log-sum-exp; the second writes dz over the logits. A row is read
twice rather than held: a vocabulary of 152k is 608 KB in fp32, no register file holds it. There is
no `tl.dot`: Triton has no tensor-core instructions for sm75, so the matmuls stay with the library.

Importing this module needs triton; TRITON_INTERPRET=1, set before, runs it on a CPU.
"""

# mypy: disable-error-code="no-untyped-def"
# (Triton reads annotations of kernel parameters as its own types.)
from __future__ import annotations

import torch
import triton
import triton.language as tl

from icpo_lite.policy.kernels.logprob_reference import FLOOR as _FLOOR
from icpo_lite.policy.kernels.logprob_torch import SMALLEST_SIZE, RowResult, RowTask

#: Elements of a row that a program holds at a time, and its warps: 8 fp32 a thread. Compiled for
#: sm75 to sm90 this neither spills nor uses a stack frame.
TILE = 2048
WARPS = 8

FLOOR = tl.constexpr(_FLOOR)
#: Where the running maximum starts: −inf would make −inf − (−inf) of a row that begins with −inf.
LOWEST = tl.constexpr(-3.0e38)


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
def _expm1(x):
    """e^x − 1 for x ≤ 0; a polynomial above −0.5, where the subtraction cancels."""
    series = 0.0011646069 * x + 0.0082385419
    series = series * x + 0.0416500308
    series = series * x + 0.1666656435
    series = series * x + 0.5
    return tl.where(x > -0.5, x + x * x * series, tl.exp(x) - 1.0)


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
    smallest,
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

    # First read. e^(z − top) and e^(z − top)·(z − top) are summed lane by lane, under one running
    # maximum; when it rises by r, the first sum s shrinks by e^−r, the second loses r·s before.
    top = tl.full([], LOWEST, tl.float32)
    total = tl.zeros([TILE], tl.float32)
    moment = tl.zeros([TILE], tl.float32)
    for start in range(0, vocabulary, TILE):
        columns = start + tl.arange(0, TILE)
        z, damping = _z_at(
            logits_ptr, bias_ptr, columns, width, vocabulary, inner, outer, BIAS, CAP
        )
        higher = tl.maximum(top, tl.max(z, 0))
        fall = top - higher
        shrink = tl.exp(fall)
        below = tl.maximum(z - higher, FLOOR)
        weight = tl.exp(below)
        moment = (moment + total * fall) * shrink + weight * below
        total = total * shrink + weight
        top = higher
    partition = tl.sum(total, 0)
    log_partition = tl.log(partition)
    logp = target_z - top - log_partition
    entropy = log_partition - tl.sum(moment, 0) / partition
    tl.store(logp_ptr + row, logp)
    tl.store(entropy_ptr + row, entropy)

    # Second read, and the write in its place.
    if WANT_DZ:
        minus_gap = _expm1(logp)
        size = 1.0
        entropy_size = 1.0
        factor = 1.0
        entropy_factor = 1.0
        if BOOST:
            size = tl.maximum(-minus_gap, smallest)
            entropy_size = tl.maximum(entropy, smallest)
            factor = boost / size
            entropy_factor = boost / entropy_size
        tl.store(size_ptr + row, -slope * size)
        tl.store(entropy_size_ptr + row, -slope * entropy_size)
        dz_ptr += row.to(tl.int64) * dz_stride
        dh_ptr += row.to(tl.int64) * dh_stride
        for start in range(0, vocabulary, TILE):
            columns = start + tl.arange(0, TILE)
            z, damping = _z_at(
                logits_ptr, bias_ptr, columns, width, vocabulary, inner, outer, BIAS, CAP
            )
            log_p = tl.maximum(z - top - log_partition, FLOOR)
            p = tl.exp(log_p)
            # 16-bit dz of this tile lands on fp32 logits of this or an earlier one: every warp
            # must have read them.
            tl.debug_barrier()
            dz = tl.where(columns == target, minus_gap, p) * damping * factor
            tl.store(dz_ptr + columns, dz.to(dz_ptr.dtype.element_ty), mask=columns < width)
            if WANT_DH:
                dh = p * (log_p + entropy) * damping * entropy_factor
                tl.store(dh_ptr + columns, dh.to(dh_ptr.dtype.element_ty), mask=columns < width)


def triton_rows(logits: torch.Tensor, task: RowTask) -> RowResult:
    """`torch_rows` in one launch. The row padding of logits, dz and dh belongs to the kernel."""
    rows, vocabulary = logits.shape
    result = RowResult(*(logits.new_empty(rows) for _ in RowResult._fields))
    transform = task.transform
    inner, outer = transform.slope, 1.0
    if transform.softcap is not None:
        inner = (transform.scale or 1.0) / transform.softcap
        outer = transform.softcap / transform.temperature
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
            SMALLEST_SIZE,
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
