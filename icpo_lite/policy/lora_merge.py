"""A run's LoRA as low-rank updates by module, and what 4-bit weights stand for in 16 bits.

Beside `load`, the one place that knows how peft and bitsandbytes hold these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icpo_lite.core.errors import ModelError

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: How a pre-quantised checkpoint names what belongs to a packed weight.
_PACKED = ".quant_state.bitsandbytes__nf4"


@dataclass(frozen=True)
class LowRank:
    """One LoRA layer: the update of its weight [out, in] is scale · B [out, r] A [r, in]."""

    A: Tensor
    B: Tensor
    scale: float

    def added_to(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """weight + scale · B A, computed in fp32 and rounded once, to `dtype`."""
        return (weight.float() + self.scale * (self.B.float() @ self.A.float())).to(dtype)


def lora_updates(policy: Policy) -> dict[str, LowRank]:
    """Module name → its update, copied to the CPU.

    Raises ModelError for an adapter that is more than low-rank updates (DoRA, LoRA with biases).
    """
    updates = {}
    for name, module in policy.causal_lm.named_modules():
        if not hasattr(module, "lora_A") or not len(module.lora_A):
            continue
        (adapter,) = module.active_adapters
        if getattr(module, "use_dora", {}).get(adapter) or module.lora_B[adapter].bias is not None:
            raise ModelError(
                f"{name}: expected plain LoRA, found DoRA or LoRA with biases; merge it with peft"
            )
        updates[name] = LowRank(
            module.lora_A[adapter].weight.detach().cpu().clone(),
            module.lora_B[adapter].weight.detach().cpu().clone(),
            float(module.scaling[adapter]),
        )
    return updates


def four_bit_modules(policy: Policy) -> frozenset[str]:
    """Names of the modules whose weight is held in 4 bits."""
    return frozenset(
        name.removesuffix(".weight").removesuffix(".base_layer")
        for name, parameter in policy.causal_lm.named_parameters()
        if parameter.__class__.__name__ == "Params4bit"
    )


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
