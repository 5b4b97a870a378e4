"""What 4 bits are here: whether a checkpoint has them, what they need, whether they work."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from icpo_lite.core.device import Device


def stored_quantisation(config: Any) -> str:
    """How the checkpoint itself is quantised, "" where it is not. config: the model's."""
    # A composite model's block may lie with its text part.
    for part in (config, config.get_text_config()):
        block = getattr(part, "quantization_config", None)
        if block:
            block = block if isinstance(block, dict) else block.to_dict()
            return str(block.get("bnb_4bit_quant_type") or block.get("quant_method") or "unknown")
    return ""


def prepare_4bit(model: nn.Module, device: Device) -> None:
    """Linear4bit layers that differentiate on a CPU and compute in the device's dtype.

    bitsandbytes 0.50 repacks a layer at its first forward in evaluation mode on a CPU with
    AVX512-BF16, and gradients through the repacked weight are silently wrong. A checkpoint that
    was quantised for bfloat16 would be emulated on a GPU without it.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010
        if getattr(module, "compute_dtype", None) is not None:
            setattr(module, "compute_dtype", device.dtype)  # noqa: B010


def nf4_round_trip(device: torch.device) -> float:
    """The largest error of a random matrix turned to NF4 and back, as a share of its largest value.

    Raises what bitsandbytes raises where it does not work.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from bitsandbytes import functional

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(128, 128, generator=generator).to(device)
    packed, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    back = functional.dequantize_4bit(packed, state)
    return float((back - weight).abs().max() / weight.abs().max())
