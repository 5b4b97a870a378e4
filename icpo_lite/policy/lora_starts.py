"""What LoRA begins as, where that is not peft's own start.

PiSSA (arXiv 2404.02948) and OLoRA (arXiv 2406.01775) begin at matrices B₀ and A₀ of the frozen
weight's own largest directions. peft takes s·B₀A₀ out of that weight, after which the model without
its adapter is no model any more, and the adapter is nothing without that very weight. Here the
weight stays, and LoRA's output is s·(BA - B₀A₀)x: the same function with the same gradients. So the
base is the base, 4 bits stay as they are, and what is saved is plain LoRA of twice the rank.

LoftQ (arXiv 2310.08659) begins at the best low-rank part of what 4 bits have rounded away, after
one iteration, so that here too the packed weight stays.

The orthogonal start has rows that are orthogonal between A and B, so that BA is zero.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from icpo_lite.core.errors import UsageError
from icpo_lite.policy.base_files import BaseFiles, tensors_of
from icpo_lite.policy.lora_merge import lora_layers, unpacked_weight
from icpo_lite.recipe.lora_sections import LoraKeys

if TYPE_CHECKING:
    from icpo_lite.recipe.sections import PolicyKeys

Pair = tuple[Tensor, Tensor]


def check_loftq(keys: PolicyKeys, in_4bit: bool, stored: str) -> None:
    """Raises UsageError where there is nothing that 4 bits have rounded away, or none to read."""
    if stored:
        raise UsageError(
            f"init_lora_weights: loftq compares 4 bits with the weights as published, found "
            f"{keys.model_name_or_path}, which holds {stored} alone; name the model that it was "
            "quantised from"
        )
    if not in_4bit:
        raise UsageError(
            "init_lora_weights: loftq begins at what 4 bits have rounded away, found weights that "
            "load_in_4bit: auto holds whole here; set load_in_4bit: true, or take pissa"
        )


class FromStart(nn.Module):
    """One of LoRA's matrices beside that with which it began, as a matrix of twice the rank.

    along: 0 for A [r, inputs], 1 for B [outputs, r], whose start is subtracted. To peft it is
    `weight` that counts.
    """

    bias = None
    start: Tensor

    def __init__(self, start: Tensor, along: int) -> None:
        super().__init__()
        self.along = along
        self.learned = nn.Parameter(start.clone())
        self.register_buffer("start", start.clone())

    @property
    def weight(self) -> Tensor:
        start = -self.start if self.along else self.start
        return torch.cat([self.learned, start], self.along)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


@torch.no_grad()
def begin(model: Any, keys: LoraKeys, files: Callable[[], BaseFiles]) -> None:
    """Give fresh LoRA weights the start that `init_lora_weights` names; peft has made its own.

    files: finds the base's files, which LoftQ reads. Raises UsageError for a rank that a layer does
    not have.
    """
    start = keys.init_lora_weights
    if not isinstance(start, str) or start == "gaussian":
        return
    torch.manual_seed(keys.seed)
    if start == "loftq":
        _begin_loftq(model, files())
        return
    for name, layer, adapter in lora_layers(model):
        if start == "orthogonal":
            _fill(layer, adapter, _orthogonal(layer, adapter))
            continue
        weight = unpacked_weight(layer.get_base_layer()).float()
        if layer.r[adapter] > min(weight.shape):
            raise UsageError(
                f"lora_r: {start} begins at as many directions as the rank, expected at most "
                f"{min(weight.shape)} for {name}, found {layer.r[adapter]}"
            )
        of_start = _olora if start == "olora" else _pissa
        a, b = of_start(weight, layer.r[adapter], layer.scaling[adapter], start)
        layer.lora_A[adapter], layer.lora_B[adapter] = FromStart(a, 0), FromStart(b, 1)


def _pissa(weight: Tensor, rank: int, scale: float, start: str) -> Pair:
    """A₀ and B₀ with s·B₀A₀ the largest `rank` directions of the weight [outputs, inputs]."""
    if start == "pissa":
        u, s, vt = torch.linalg.svd(weight, full_matrices=False)
    else:
        u, s, v = torch.svd_lowrank(weight, rank, niter=int(start.rpartition("_")[2]))
        vt = v.T
    return _split(u, s, vt, rank, scale)


def _olora(weight: Tensor, rank: int, scale: float, start: str) -> Pair:
    """The first columns of Q and rows of R; the scale is not taken out, as in peft."""
    q, r = torch.linalg.qr(weight)
    return r[:rank].contiguous(), q[:, :rank].contiguous()


def _split(u: Tensor, s: Tensor, vt: Tensor, rank: int, scale: float) -> Pair:
    root = (s[:rank] / scale).sqrt()
    return (root[:, None] * vt[:rank]).contiguous(), (u[:, :rank] * root).contiguous()


def _orthogonal(layer: Any, adapter: str) -> Pair:
    """Noise of which A has the even half of a random basis, and B the odd half."""
    device = layer.lora_A[adapter].weight.device
    rank = layer.r[adapter]
    basis, _ = torch.linalg.qr(torch.randn(rank, rank))
    a = torch.randn(layer.in_features, rank // 2) @ basis[0::2] / 10
    b = torch.randn(layer.out_features, rank // 2) @ basis[1::2] / 10
    return a.T.contiguous().to(device), b.contiguous().to(device)


def _fill(layer: Any, adapter: str, pair: Pair) -> None:
    for matrix, start in zip((layer.lora_A, layer.lora_B), pair, strict=True):
        matrix[adapter].weight.copy_(start)


def _begin_loftq(model: Any, files: BaseFiles) -> None:
    layers = {
        name: (layer, adapter)
        for name, layer, adapter in lora_layers(model)
        if hasattr(layer.get_base_layer().weight, "quant_state")
    }
    if not layers:
        raise UsageError(
            "init_lora_weights: loftq begins at what 4 bits have rounded away, found no layer in 4 "
            "bits among lora_target_modules; take pissa or another start"
        )
    for name, whole in tensors_of(files, layers):
        layer, adapter = layers[name]
        packed = unpacked_weight(layer.get_base_layer()).float()
        lost = whole.to(packed.device, torch.float32) - packed
        u, s, vt = torch.linalg.svd(lost, full_matrices=False)
        rank = min(layer.r[adapter], len(s))
        a, b = _split(u, s, vt, rank, layer.scaling[adapter])
        if rank < layer.r[adapter]:
            a = nn.functional.pad(a, (0, 0, 0, layer.r[adapter] - rank))
            b = nn.functional.pad(b, (0, layer.r[adapter] - rank))
        _fill(layer, adapter, (a, b))


# ------------------------------------------------------------------------- what is kept of a start


def start_buffers(model: Any) -> dict[str, Tensor]:
    """The matrices that LoRA began as and that its output is counted from, by name."""
    return {
        f"{name}.start": module.start
        for name, module in model.named_modules()
        if isinstance(module, FromStart)
    }


@contextlib.contextmanager
def as_plain_lora(model: Any) -> Iterator[dict[str, Tensor] | None]:
    """Saved inside, the adapter is plain LoRA for the unchanged base.

    Yields the adapter's weights, None where they are plain already; the adapter's configuration
    has their rank, and the scale stays.
    """
    both = {n: m for n, m in model.named_modules() if isinstance(m, FromStart)}
    if not both:
        yield None
        return
    (adapter,) = model.active_adapters
    own = model.peft_config[adapter]
    times = 2**0.5 if own.use_rslora else 2
    model.peft_config[adapter] = dataclasses.replace(
        own, r=2 * own.r, lora_alpha=times * own.lora_alpha, init_lora_weights=True
    )
    try:
        yield {
            f"{name}.weight": module.weight.detach().contiguous() for name, module in both.items()
        }
    finally:
        model.peft_config[adapter] = own
