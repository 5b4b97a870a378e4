"""Which layers of a model LoRA adapts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    pass


def lora_targets(model: Any, wanted: str | tuple[str, ...]) -> str | list[str]:
    """peft's `target_modules`: of a model that also sees or hears, the text decoder's layers."""
    if not isinstance(wanted, str):
        return list(wanted)
    if not is_multimodal(model.config):
        return wanted
    return sorted(f"{_name_of(model.get_decoder(), model)}.{n}" for n in _linears(model))


def is_multimodal(config: Any) -> bool:
    return config.get_text_config() is not config


def _linears(model: Any) -> Iterator[str]:
    """Dotted names of the linear layers within the text decoder."""
    for name, module in model.get_decoder().named_modules():
        if isinstance(module, torch.nn.Linear):
            yield name


def _name_of(part: Any, model: Any) -> str:
    return next(name for name, module in model.named_modules() if module is part)
