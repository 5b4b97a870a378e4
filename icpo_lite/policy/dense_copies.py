"""While a model samples: what its LoRA layers compute, by fewer calls.

In 16 bit LoRA's weights are kept in fp32, and peft casts every layer's input to fp32 and back: half
of a decode step's launches. For sampling alone a copy in 16 bit takes their place, made anew for
every call, so it is never older than the last update; its rounding is a part of the log-prob
mismatch that a run measures (`sampling/sampling_logp_difference`).

A small model on a CPU: one dense matrix in place of 4-bit weights and LoRA.

A token of a small model costs what its calls cost: dequantising and three small products a layer.
The product W + s·B·A is formed once. In float32 that changes log-probs by rounding alone; in 16
bit it would round LoRA away, so it is not done there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from icpo_lite.policy.lean_forward import lean_forward
from icpo_lite.policy.lora_merge import LowRank, is_dora_or_plain, unpacked_weight, update_of
from icpo_lite.policy.lora_starts import FromStart

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Weights of the layers in question up to which their float32 copies are made, 1 GB of them.
MOST_WEIGHTS = 250_000_000

#: Who is inside, by model: an evaluation samples in several threads.
_INSIDE: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
#: Models whose forward pass is another one inside.
_LEAN: WeakKeyDictionary[nn.Module, Callable[..., Any]] = WeakKeyDictionary()
_LOCK = threading.Lock()


@contextlib.contextmanager
def dense_layers(policy: Policy) -> Iterator[None]:
    """Sampling inside runs on dense matrices where that is exact and affordable, and on LoRA in 16
    bit where the base is.

    They are made for the first one inside and go with the last: one thread that took them from
    another's half-done reply would change its numbers by rounding.
    """
    model = policy.causal_lm
    exact = _exact(policy)
    found = _layers(policy) if exact else _wide_lora(policy)
    try:
        with _LOCK:
            _INSIDE[model] = _INSIDE.get(model, 0) + 1
            if _INSIDE[model] == 1:
                for layer in found:
                    layer.__dict__["forward"] = _dense(layer) if exact else _narrow(layer)
                if exact and (forward := _lean(policy, found)):
                    _LEAN[model] = forward
                    model.__dict__["forward"] = forward
        yield
    finally:
        with _LOCK:
            _INSIDE[model] -= 1
            if not _INSIDE[model]:
                for layer in found:
                    layer.__dict__.pop("forward", None)
                if _LEAN.pop(model, None):
                    model.__dict__.pop("forward", None)


def _lean(policy: Policy, dense: Sequence[nn.Module]) -> Callable[..., Any] | None:
    """The whole forward pass by fewer calls, where this model has one (`lean_forward`)."""
    if policy.causal_lm.num_parameters() > MOST_WEIGHTS:
        return None
    inside = {id(m) for layer in dense for m in layer.modules()}
    for module in policy.causal_lm.get_decoder().modules():
        # An adapter or a packed weight that has no dense copy is more than its matrix.
        wrapped = hasattr(module, "get_base_layer")
        other = isinstance(module, nn.Linear) and type(module) is not nn.Linear
        if (wrapped or other) and id(module) not in inside:
            return None
    return lean_forward(policy, _side_by_side(dense))


def _side_by_side(
    dense: Collection[nn.Module],
) -> Callable[[Sequence[Any]], tuple[Tensor, Tensor | None]]:
    """Makes one matrix, and one bias, of those of some layers.

    The dense ones among them are left views of their parts, so that each weight lies there once.
    """

    def joined(layers: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
        each = [_matrix(layer) for layer in layers]
        weight = each[0][0] if len(each) == 1 else torch.cat([w for w, _ in each])
        for layer, part in zip(layers, weight.split([len(w) for w, _ in each]), strict=True):
            if layer in dense:
                layer.__dict__["forward"].keywords["weight"] = part
        if all(b is None for _, b in each):
            return weight, None
        return weight, torch.cat([w.new_zeros(len(w)) if b is None else b for w, b in each])

    return joined


def _matrix(layer: Any) -> tuple[Tensor, Tensor | None]:
    """What a layer multiplies with and adds, its dense copy where it has one."""
    copy = layer.__dict__.get("forward")
    if isinstance(copy, partial):
        return copy.keywords["weight"], copy.keywords["bias"]
    return layer.weight.detach(), None if layer.bias is None else layer.bias.detach()


def _exact(policy: Policy) -> bool:
    device = policy.device
    return device.torch_device.type == "cpu" and device.dtype is torch.float32


def _layers(policy: Policy) -> list[nn.Module]:
    """The outermost linear layers with 4-bit weights or LoRA; none where they are too many."""
    lora = [m for m in policy.causal_lm.modules() if _has_lora(m)]
    inside = {id(m.get_base_layer()) for m in lora}
    packed = [m for m in policy.causal_lm.modules() if _is_packed(m) and id(m) not in inside]
    found = [*lora, *packed]
    count = sum(m.in_features * m.out_features for m in found)
    return found if count <= MOST_WEIGHTS else []


def _has_lora(module: Any) -> bool:
    """A linear layer with LoRA or DoRA, not one of peft's other kinds."""
    return (
        hasattr(module, "get_base_layer")
        and hasattr(module, "get_delta_weight")
        and isinstance(module.get_base_layer(), nn.Linear)
        and all(is_dora_or_plain(module, name) for name in module.lora_A)
        and not module.merged
    )


def _is_packed(module: Any) -> bool:
    return isinstance(module, nn.Linear) and hasattr(module.weight, "quant_state")


def _wide_lora(policy: Policy) -> list[nn.Module]:
    """LoRA layers in fp32 on a base in 16 bit; unsloth's own kernels cast by themselves.

    Not those that began as the weight's own directions: 16 bit would round away by how little the
    large matrices have moved.
    """
    if policy.device.dtype is torch.float32 or policy.backend.name == "unsloth":
        return []
    return [
        m
        for m in policy.causal_lm.modules()
        if _has_lora(m)
        and all(
            a.weight.dtype is torch.float32 and not isinstance(a, FromStart)
            for a in m.lora_A.values()
        )
    ]


def _narrow(layer: Any) -> Callable[..., Tensor]:
    """The layer in evaluation mode, LoRA in the dtype of its input; s is in B's copy.

    DoRA's factor of each output, its length over that of the updated weight's row, is formed once.
    """
    updates = _active(layer)
    factor = None
    if len(updates) == 1 and updates[0].magnitude is not None:
        factor = updates[0].stretch(unpacked_weight(layer.get_base_layer()))
    copies: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.dtype not in copies:
            copies[x.dtype] = [
                (u.A.to(x.dtype), (u.B.float() * u.scale).to(x.dtype)) for u in updates
            ]
        out: Tensor = layer.base_layer(x, *args, **kwargs)
        bias = layer.base_layer.bias
        if factor is not None and bias is not None:
            out = out - bias
        for a, b in copies[x.dtype]:
            # Added inside the matmul: one launch and one rounding less than a product and a sum.
            inner = linear(x, a).flatten(0, -2)
            out = torch.addmm(out.flatten(0, -2), inner, b.t()).view(out.shape)
        if factor is not None:
            out = out * factor.to(x.dtype)
            out = out if bias is None else out + bias
        return out

    return forward


def _active(layer: Any) -> list[LowRank]:
    """What the layer's adapters do now; nothing where they are switched off."""
    names = [] if layer.disable_adapters else layer.active_adapters
    found = [update_of(layer, name) for name in names if name in layer.lora_A]
    return [update for update in found if update is not None]


def _dense(layer: Any) -> Callable[..., Tensor]:
    """The matmul with weight [out, in] and bias of what the layer computes in evaluation mode."""
    base = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    weight = unpacked_weight(base).float()
    for update in _active(layer) if base is not layer else ():
        weight = update.added_to(weight, torch.float32)
    return partial(linear, weight=weight, bias=base.bias)
