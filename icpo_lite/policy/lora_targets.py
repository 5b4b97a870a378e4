"""Which layers of a model LoRA adapts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from icpo_lite.policy.layer_kinds import has_experts, is_router, recurrent_layers


def lora_targets(model: Any, wanted: str | tuple[str, ...]) -> str | list[str]:
    """peft's `target_modules`: of a model that also sees or hears, the text decoder's layers.

    Of a mixture of experts and of recurrent layers, those that learn and that an export can merge:
    not routers and experts, nor what is no linear layer. (peft's own `all-linear` takes these
    along.)
    """
    if not isinstance(wanted, str):
        return list(wanted)
    plain = not has_experts(model.config) and not recurrent_layers(model)
    if plain and not is_multimodal(model.config):
        return wanted
    return sorted(f"{_name_of(model.get_decoder(), model)}.{n}" for n in _linears(model))


def is_multimodal(config: Any) -> bool:
    return config.get_text_config() is not config


#: Names of a mixture's matrices: where peft reads one of them, it adapts the experts' tensors too.
_OF_EXPERTS = frozenset({"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})


def _linears(model: Any) -> Iterator[str]:
    """Dotted names of the linear layers within the text decoder that LoRA can adapt."""
    decoder = model.get_decoder()
    experts = has_experts(model.config)
    called = _called(decoder) if recurrent_layers(model) else None
    for name, module in decoder.named_modules():
        if not isinstance(module, torch.nn.Linear) or is_router(name, module, model.config):
            continue
        if experts and name.rpartition(".")[2] in _OF_EXPERTS:
            continue
        if called is None or module in called:
            yield name


@torch.no_grad()
def _called(decoder: Any) -> set[torch.nn.Module]:
    """Linear layers that a forward pass calls. State spaces take some as mere matrices, and LoRA
    on these would never learn."""
    seen: set[torch.nn.Module] = set()
    linears = [m for m in decoder.modules() if isinstance(m, torch.nn.Linear)]
    hooks = [m.register_forward_hook(lambda module, *_: seen.add(module)) for m in linears]
    try:
        device = decoder.get_input_embeddings().weight.device
        decoder(input_ids=torch.arange(8, device=device)[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _name_of(part: Any, model: Any) -> str:
    return next(name for name, module in model.named_modules() if module is part)
