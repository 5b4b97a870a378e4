"""The optimizer of the LoRA weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def make_optimizer(
    parameters: Sequence[Tensor],
    optim: str,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """AdamW by TRL's name for it: adamw_torch, or bitsandbytes' adamw_8bit and paged_adamw_8bit.

    Paged state may move to the CPU's memory when the GPU's runs short.
    """
    options: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    if optim == "adamw_torch":
        return torch.optim.AdamW(parameters, **options)
    import bitsandbytes

    kinds = {
        "adamw_8bit": bitsandbytes.optim.AdamW8bit,
        "paged_adamw_8bit": bitsandbytes.optim.PagedAdamW8bit,
    }
    chosen: torch.optim.Optimizer = kinds[optim](parameters, **options)
    return chosen
