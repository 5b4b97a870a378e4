"""`token_logprobs`: log-prob and entropy of given tokens straight from hidden states.

With a frozen lm_head W, logits l = h Wᵀ and z the scaled and capped logits, the gradient of a
token's log-prob for its hidden state is

    d logp/dh = Σ_v (1[v = y] − p_v) · dz_v/dl_v · W_v,

and does not depend on the loss. It is formed while the logits are there, row chunk by row chunk,
and kept instead of them: backward only scales rows. Any loss in plain torch on [N] vectors then
costs two matmul passes (2·N·D·V operations each) and one chunk of logits; without gradient, one.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from icpo_lite.core.errors import DeviceError, NumericsError, UsageError
from icpo_lite.policy.kernels.chunks import auto_chunk_rows
from icpo_lite.policy.kernels.layout import card_of, suits_tiles
from icpo_lite.policy.kernels.logits import LogitTransform, logits_dtype, project, pull_back
from icpo_lite.policy.kernels.logprob_reference import reference_logprobs
from icpo_lite.policy.kernels.logprob_tiled import run_tiles
from icpo_lite.policy.kernels.logprob_torch import RowResult, RowTask, torch_rows

Impl = Literal["auto", "tiled", "triton", "torch", "reference"]
RowOp = Callable[[torch.Tensor, RowTask], RowResult]

#: The largest |dz| in an fp16 buffer (65504 is fp16's end; the rest is room for rounding).
FP16_BOOST = 2.0**14
#: Turing, the oldest GPU that the kernel has been compiled for.
OLDEST_CAPABILITY = (7, 5)
#: Up to here the rows are one chunk of the whole vocabulary, which reads lm_head once anyway.
FEWEST_TILED = 512
#: Rows scaled at a time in backward: bounds the fp32 products where torch materialises them.
BACKWARD_ROWS = 4096

ENTROPY_REFUSAL = (
    "a loss reached entropy, whose gradient was not formed: call token_logprobs with "
    "entropy_grad=True, or use entropy.detach() where entropy is only watched"
)


def token_logprobs(
    hidden: torch.Tensor,  # [N, D]
    weight: torch.Tensor,  # [V, D]
    targets: torch.Tensor,  # [N], int64
    *,
    bias: torch.Tensor | None = None,  # [V]
    temperature: float = 1.0,
    softcap: float | None = None,
    scale: float | None = None,
    ignore_index: int = -100,
    chunk_rows: int | Literal["auto"] = "auto",
    impl: Impl = "auto",
    entropy_grad: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(target) and entropy in nats under softmax(z), both [N] fp32 (float64 for float64).

    z = softcap · tanh(scale · l / softcap) / temperature with l = hidden @ weightᵀ + bias, or
    scale · l / temperature without a softcap.

    Differentiable for `hidden` only: `weight` and `bias` are frozen. A gradient through entropy
    needs `entropy_grad=True` (one matmul pass more) and raises in backward otherwise. Rows whose
    target is `ignore_index` are dropped before the matmul and return 0 in both, with gradient 0.
    Logits of −inf are tokens of probability 0.

    Raises UsageError for arguments that do not fit together or a target outside the vocabulary,
    NumericsError where a log-prob is NaN, DeviceError when `impl="triton"` cannot run here.
    """
    transform = LogitTransform(temperature, softcap, scale)
    _check_arguments(hidden, weight, targets, bias, chunk_rows)
    wants_grad = torch.is_grad_enabled() and hidden.requires_grad
    impl, _ = choose_impl(hidden.device, hidden.dtype, impl, head=weight.shape)
    keep = _kept_rows(targets, ignore_index, weight.shape[0])
    if impl == "reference":
        logp, entropy = _reference(hidden, weight, targets, bias, transform, keep, entropy_grad)
        entropy = entropy if entropy_grad else _refuse_gradient(entropy, hidden)
    else:
        plan = _Plan(
            weight=weight.detach(),
            targets=targets if keep is None else targets[keep],
            bias=None if bias is None else bias.detach().to(logits_dtype(hidden.dtype)),
            transform=transform,
            keep=keep,
            chunk_rows=chunk_rows,
            rows=_row_operation(impl),
            logp_grad=wants_grad,
            entropy_grad=wants_grad and entropy_grad,
            tiled=impl == "tiled",
        )
        if wants_grad:
            logp, entropy = _TokenLogprobs.apply(hidden, plan)
        else:
            chunked = _run(hidden.detach(), plan)
            logp, entropy = chunked.logp, chunked.entropy
    _refuse_nan(logp)
    return logp, entropy


def choose_impl(
    device: torch.device,
    dtype: torch.dtype,
    requested: Impl = "auto",
    head: Sequence[int] | None = None,
) -> tuple[Impl, str]:
    """The implementation that will run on this device in this dtype, and why.

    head: V and D of lm_head, by which `auto` chooses between rows (`triton`) and tiles (`tiled`);
    without it rows are taken. Raises DeviceError when triton is asked for by name and cannot run.
    """
    if requested in ("torch", "reference"):
        return requested, "asked for"
    if requested not in ("auto", "triton", "tiled"):
        raise UsageError(
            f"impl must be one of auto, tiled, triton, torch, reference, found {requested!r}"
        )
    obstacle = _triton_obstacle(device, dtype)
    if obstacle is None:
        if requested != "auto":
            return requested, "asked for"
        if device.type == "cuda":
            return _on_this_card(device, head)
        obstacle = "triton's interpreter is for tests"
    elif requested != "auto":
        raise DeviceError(f"impl={requested!r} cannot run: {obstacle}; use impl='auto' or 'torch'")
    return "torch", obstacle


def _on_this_card(device: torch.device, head: Sequence[int] | None) -> tuple[Impl, str]:
    reason = f"triton is installed and {torch.cuda.get_device_name(device)} runs it"
    if head is None:
        return "triton", reason
    tiled, why = suits_tiles(head[0], head[1], card_of(device))
    return ("tiled" if tiled else "triton"), f"{reason}, {why}"


def _triton_obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the triton path cannot run here; None when it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if dtype == torch.float64:
        return "the triton kernel sums in fp32, the inputs are float64"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if device.type != "cuda" or torch.version.hip is not None:
        return f"triton needs an NVIDIA GPU, the device is {device.type}"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        found, needed = (".".join(map(str, pair)) for pair in (capability, OLDEST_CAPABILITY))
        return f"triton needs compute capability {needed}, this GPU has {found}"
    return None


def _row_operation(impl: Impl) -> RowOp:
    if impl in ("triton", "tiled"):
        from icpo_lite.policy.kernels.logprob_triton import triton_rows

        return triton_rows
    return torch_rows


class _Plan(NamedTuple):
    """Everything about a call but the hidden states; K rows are kept."""

    weight: torch.Tensor  # [V, D]
    targets: torch.Tensor  # [K]
    bias: torch.Tensor | None  # [V]
    transform: LogitTransform
    keep: torch.Tensor | None  # [K] row numbers; None: all N
    chunk_rows: int | Literal["auto"]
    rows: RowOp
    logp_grad: bool
    entropy_grad: bool
    tiled: bool

    @property
    def by_tiles(self) -> bool:
        """Tiles form no gradient of the entropy, and rows of one chunk need none."""
        few = self.chunk_rows == "auto" and len(self.targets) <= FEWEST_TILED
        return self.tiled and not self.entropy_grad and not few


class UnitGradient(NamedTuple):
    """d(output)/dh = size[:, None] · direction: magnitudes apart, so that fp16 can hold it."""

    direction: torch.Tensor  # [K, D] in the hidden states' dtype
    size: torch.Tensor  # [K]


class _Chunked(NamedTuple):
    logp: torch.Tensor  # [N]
    entropy: torch.Tensor  # [N]
    logp_unit: UnitGradient | None
    entropy_unit: UnitGradient | None


class _TokenLogprobs(torch.autograd.Function):
    """The unit gradients are formed in forward; backward scales their rows."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, plan: _Plan) -> tuple[torch.Tensor, torch.Tensor]:
        chunked = _run(hidden, plan)
        units = [unit for unit in (chunked.logp_unit, chunked.entropy_unit) if unit is not None]
        ctx.shape = hidden.shape
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(plan.keep, *(tensor for unit in units for tensor in unit))
        return chunked.logp, chunked.entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, logp_grad: torch.Tensor | None, entropy_grad: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, None]:
        keep, *saved = ctx.saved_tensors
        units = [UnitGradient(*saved[start : start + 2]) for start in range(0, len(saved), 2)]
        if entropy_grad is not None and len(units) < 2:
            raise UsageError(ENTROPY_REFUSAL)
        outer = [
            (unit, grad if keep is None else grad[keep])
            for unit, grad in zip(units, (logp_grad, entropy_grad), strict=False)
            if grad is not None
        ]
        if not outer:
            return None, None
        kept = scaled_rows(outer)
        if keep is None:
            return kept, None
        return kept.new_zeros(ctx.shape).index_copy_(0, keep, kept), None


def scaled_rows(outer: list[tuple[UnitGradient, torch.Tensor]]) -> torch.Tensor:
    """Σ (grad · size)[:, None] · direction, [K, D], each element rounded once."""
    total = torch.empty_like(outer[0][0].direction)
    for start in range(0, len(total), BACKWARD_ROWS):
        here = slice(start, start + BACKWARD_ROWS)
        products = [
            unit.direction[here] * (grad[here] * unit.size[here])[:, None] for unit, grad in outer
        ]
        total[here] = sum(products[1:], start=products[0])
    return total


def _run(hidden: torch.Tensor, plan: _Plan) -> _Chunked:
    """All row chunks: logits, the row operation, and dz @ W where a gradient is wanted."""
    device_type = hidden.device.type
    with torch.no_grad(), torch.autocast(device_type, enabled=False):
        return _run_tiles(hidden, plan) if plan.by_tiles else _run_chunks(hidden, plan)


def _run_tiles(hidden: torch.Tensor, plan: _Plan) -> _Chunked:
    found = run_tiles(
        hidden,
        plan.keep,
        plan.weight,
        plan.targets,
        plan.bias,
        plan.transform,
        rows=None if plan.chunk_rows == "auto" else plan.chunk_rows,
        grad=plan.logp_grad,
    )
    return _Chunked(
        logp=_spread(found.logp, plan.keep, len(hidden)),
        entropy=_spread(found.entropy, plan.keep, len(hidden)),
        logp_unit=_unit(found.direction, found.size),
        entropy_unit=None,
    )


def _run_chunks(hidden: torch.Tensor, plan: _Plan) -> _Chunked:
    kept, width = len(plan.targets), plan.weight.shape[1]
    dtype = logits_dtype(hidden.dtype)
    boost = FP16_BOOST if plan.logp_grad and hidden.dtype == torch.float16 else None
    buffers = _Buffers.allocate(hidden, plan)
    sums = RowResult(*(hidden.new_empty(kept, dtype=dtype) for _ in RowResult._fields))
    logp_direction = hidden.new_empty(kept, width) if plan.logp_grad else None
    entropy_direction = hidden.new_empty(kept, width) if plan.entropy_grad else None
    for start in range(0, kept, max(1, len(buffers.logits))):
        here = slice(start, min(kept, start + len(buffers.logits)))
        count = here.stop - here.start
        chunk = hidden[here] if plan.keep is None else hidden[plan.keep[here]]
        logits, dz, dh = buffers.first(count)
        project(chunk, plan.weight, out=logits)
        task = RowTask(plan.targets[here], plan.bias, plan.transform, dz, dh, boost)
        for whole, part in zip(sums, plan.rows(logits, task), strict=True):
            whole[here] = part
        for source, direction in ((dz, logp_direction), (dh, entropy_direction)):
            if source is not None and direction is not None:
                pull_back(source, plan.weight, 1.0 / (boost or 1.0), out=direction[here])
    return _Chunked(
        logp=_spread(sums.logp, plan.keep, len(hidden)),
        entropy=_spread(sums.entropy, plan.keep, len(hidden)),
        logp_unit=_unit(logp_direction, sums.size),
        entropy_unit=_unit(entropy_direction, sums.entropy_size),
    )


class _Buffers(NamedTuple):
    """One chunk of memory, used again for every chunk: dz takes the place of its logits."""

    logits: torch.Tensor  # [C, V], rows may be padded
    dz: torch.Tensor | None  # [C, V] on the same memory
    dh: torch.Tensor | None  # [C, V]

    @classmethod
    def allocate(cls, hidden: torch.Tensor, plan: _Plan) -> _Buffers:
        vocabulary, device = len(plan.weight), hidden.device
        wide = logits_dtype(hidden.dtype)
        # Only a GPU multiplies 16-bit dz into an fp32 sum; it also wants aligned rows.
        narrow = hidden.dtype if hidden.is_cuda else wide
        stride = -(-vocabulary // 64) * 64 if hidden.is_cuda else vocabulary
        if isinstance(plan.chunk_rows, int):
            rows = min(plan.chunk_rows, len(plan.targets))
        else:
            row_bytes = stride * (wide.itemsize + plan.entropy_grad * narrow.itemsize)
            rows = auto_chunk_rows(len(plan.targets), row_bytes, device)
        memory = torch.empty(rows, stride, dtype=wide, device=device)
        dz = memory.view(narrow)[:, :vocabulary] if plan.logp_grad else None
        dh = None
        if plan.entropy_grad:
            dh = torch.empty(rows, stride, dtype=narrow, device=device)[:, :vocabulary]
        return cls(memory[:, :vocabulary], dz, dh)

    def first(self, count: int) -> _Buffers:
        dz = None if self.dz is None else self.dz[:count]
        dh = None if self.dh is None else self.dh[:count]
        return _Buffers(self.logits[:count], dz, dh)


def _unit(direction: torch.Tensor | None, size: torch.Tensor) -> UnitGradient | None:
    return None if direction is None else UnitGradient(direction, size)


def _spread(values: torch.Tensor, keep: torch.Tensor | None, rows: int) -> torch.Tensor:
    """[K] → [N], 0 where a row was dropped."""
    return values if keep is None else values.new_zeros(rows).index_copy(0, keep, values)


def _reference(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None,
    transform: LogitTransform,
    keep: torch.Tensor | None,
    entropy_grad: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = (hidden, targets) if keep is None else (hidden[keep], targets[keep])
    frozen = weight.detach(), None if bias is None else bias.detach()
    logp, entropy = reference_logprobs(
        rows[0], frozen[0], rows[1], frozen[1], transform, entropy_grad=entropy_grad
    )
    return _spread(logp, keep, len(hidden)), _spread(entropy, keep, len(hidden))


class _RefuseGradient(torch.autograd.Function):
    """The identity on entropy, tied to the hidden states so that a gradient arrives and raises."""

    @staticmethod
    def forward(ctx: Any, entropy: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        ctx.set_materialize_grads(False)
        return entropy.view_as(entropy)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor | None) -> tuple[None, None]:
        if grad is not None:
            raise UsageError(ENTROPY_REFUSAL)
        return None, None


def _refuse_gradient(entropy: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    refused: torch.Tensor = _RefuseGradient.apply(entropy, hidden)
    return refused


def _kept_rows(targets: torch.Tensor, ignore_index: int, vocabulary: int) -> torch.Tensor | None:
    """Numbers of the rows that are not ignored; None when that is all of them."""
    kept = targets != ignore_index
    outside = kept & ((targets < 0) | (targets >= vocabulary))
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise UsageError(
            f"targets must lie in 0..{vocabulary - 1} or be ignore_index ({ignore_index}), "
            f"found {int(targets[row])} in row {row}; does the tokenizer belong to this model?"
        )
    rows = kept.nonzero().squeeze(1)
    return None if len(rows) == len(targets) else rows


def _refuse_nan(logp: torch.Tensor) -> None:
    nan = logp.detach().isnan()
    if bool(nan.any()):
        rows = nan.nonzero().squeeze(1)
        raise NumericsError(
            f"expected log-probs that are numbers, found NaN in {len(rows)} of {len(logp)} rows "
            f"(first: row {int(rows[0])}): hidden states or lm_head hold NaN or infinity; "
            "lower the learning rate, or use bf16 or fp32 where fp16 overflows"
        )


def _check_arguments(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None,
    chunk_rows: int | str,
) -> None:
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise UsageError(
            f"expected hidden [N, D] and weight [V, D] of one D, found {list(hidden.shape)} and "
            f"{list(weight.shape)}: flatten batch and time first"
        )
    if targets.shape != hidden.shape[:1] or targets.dtype != torch.int64:
        raise UsageError(
            f"expected int64 targets [{len(hidden)}], found {targets.dtype} {list(targets.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise UsageError(f"expected bias [{len(weight)}], found {list(bias.shape)}")
    if not weight.is_floating_point() or hidden.dtype != weight.dtype:
        raise UsageError(
            f"expected hidden and weight of one floating dtype, found {hidden.dtype} and "
            f"{weight.dtype}: cast hidden, and keep lm_head out of quantisation"
        )
    if len({hidden.device, weight.device, targets.device}) > 1:
        raise UsageError(
            f"expected hidden, weight and targets on one device, found {hidden.device}, "
            f"{weight.device} and {targets.device}: move them to one"
        )
    trained = weight.requires_grad or (bias is not None and bias.requires_grad)
    if trained and torch.is_grad_enabled():
        raise UsageError(
            "lm_head must be frozen, found requires_grad=True: this op has no gradient for it; "
            "call requires_grad_(False) on its weight and bias"
        )
    if chunk_rows != "auto" and not (isinstance(chunk_rows, int) and chunk_rows > 0):
        raise UsageError(f"chunk_rows must be 'auto' or an integer above 0, found {chunk_rows!r}")
