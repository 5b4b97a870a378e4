"""A run's LoRA as low-rank updates by module, and what 4-bit weights stand for in 16 bits.

Beside `load`, the one place that knows how peft and bitsandbytes hold these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icpo_lite.core.errors import ModelError

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: How a pre-quantised checkpoint names what belongs to a packed weight.
_PACKED = ".quant_state.bitsandbytes__nf4"


@dataclass(frozen=True)
class LowRank:
    """One LoRA layer: the update of its weight [out, in] is scale · B [out, r] A [r, in].

    magnitude: of DoRA (arXiv 2402.09353), the length [out] that each row of the updated weight has.
    """

    A: Tensor
    B: Tensor
    scale: float
    magnitude: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.B.shape[0], self.A.shape[1]

    def on_cpu(self) -> LowRank:
        """A copy on the CPU."""
        length = None if self.magnitude is None else self.magnitude.cpu().clone()
        return LowRank(self.A.cpu().clone(), self.B.cpu().clone(), self.scale, length)

    def added_to(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The updated weight, computed in fp32 and rounded once, to `dtype`."""
        whole = self._turned(weight)
        if self.magnitude is not None:
            whole *= self._stretched(whole)[:, None]
        return whole.to(dtype)

    def stretch(self, weight: Tensor) -> Tensor | None:
        """DoRA's factor [out] of each output, in fp32; None for plain LoRA."""
        return None if self.magnitude is None else self._stretched(self._turned(weight))

    def _turned(self, weight: Tensor) -> Tensor:
        return weight.float() + self.scale * (self.B.float() @ self.A.float())

    def _stretched(self, whole: Tensor) -> Tensor:
        assert self.magnitude is not None
        return self.magnitude.float() / whole.norm(dim=1)


def lora_layers(model: Any) -> Iterator[tuple[str, Any, str]]:
    """(name, layer, adapter) of each layer with LoRA, without peft's prefix of names."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and len(module.lora_A):
            (adapter,) = module.active_adapters
            yield name.removeprefix("base_model.model."), module, adapter


def update_of(layer: Any, adapter: str) -> LowRank | None:
    """What one layer's adapter does to its weight, as it is now and without a copy.

    None for an adapter that is no update of a weight (LoRA with biases, kinds other than DoRA).
    """
    a, b = layer.lora_A[adapter], layer.lora_B[adapter]
    if b.bias is not None or not is_dora_or_plain(layer, adapter):
        return None
    lengths = layer.lora_magnitude_vector
    magnitude = lengths[adapter].weight.detach() if adapter in lengths else None
    scale = float(layer.scaling[adapter])
    return LowRank(a.weight.detach(), b.weight.detach(), scale, magnitude)


def is_dora_or_plain(layer: Any, adapter: str) -> bool:
    kind = getattr(layer, "lora_variant", {}).get(adapter)
    return kind is None or type(kind).__name__ == "DoraLinearVariant"


def lora_updates(policy: Policy) -> dict[str, LowRank]:
    """Module name → its update, copied to the CPU.

    Raises ModelError for an adapter that is no update of a weight.
    """
    updates = {}
    for name, layer, adapter in lora_layers(policy.causal_lm):
        found = update_of(layer, adapter)
        if found is None:
            raise ModelError(
                f"{name}: expected LoRA or DoRA without biases, found another kind; merge it with "
                "peft"
            )
        updates[name] = found.on_cpu()
    return updates


def four_bit_modules(policy: Policy) -> frozenset[str]:
    """Names of the modules whose weight is held in 4 bits."""
    return frozenset(
        name.removesuffix(".weight").removesuffix(".base_layer")
        for name, parameter in policy.causal_lm.named_parameters()
        if parameter.__class__.__name__ == "Params4bit"
    )


def unpacked_weight(linear: Any) -> Tensor:
    """The weight [out, in] that a linear layer computes with, 4 bits unpacked."""
    weight: Tensor = linear.weight.data
    if hasattr(linear.weight, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight, linear.weight.quant_state)
    return weight


def nf4_rounded(weight: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is left of a weight after NF4 with double quantisation, as `load` makes it."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    moved = weight.to(device=device, dtype=dtype)
    packed, state = quantize_4bit(moved, compress_statistics=True, quant_type="nf4")
    rounded: Tensor = dequantize_4bit(packed, state)
    return rounded.cpu()


def is_part_of_packed(key: str) -> bool:
    """Whether a checkpoint's entry only describes how another one was packed."""
    marks = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
    return key.endswith(marks) or _PACKED in key


def unpacked(key: str, entries: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """The weight `key` of a pre-quantised checkpoint, `entries` being what its name begins."""
    from bitsandbytes.functional import QuantState, dequantize_4bit

    state = QuantState.from_dict(
        {name: t for name, t in entries.items() if name != key}, device=device
    )
    weight: Tensor = dequantize_4bit(entries[key].to(device), state)
    return weight.cpu()
