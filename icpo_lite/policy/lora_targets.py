"""Which layers of a model LoRA adapts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from icpo_lite.core.errors import UsageError
from icpo_lite.policy.layer_kinds import has_experts, is_router, recurrent_layers
from icpo_lite.recipe.lora_sections import LoraKeys


def lora_targets(model: Any, wanted: str | tuple[str, ...]) -> str | list[str]:
    """peft's `target_modules`: of a model that also sees or hears, the text decoder's layers.

    Of a mixture of experts and of recurrent layers, those that learn and that an export can merge:
    not routers and experts, nor what is no linear layer. (peft's own `all-linear` takes these
    along.) Raises UsageError for a name or an expression that no layer has.
    """
    plain = not has_experts(model.config) and not recurrent_layers(model)
    plain = plain and not is_multimodal(model.config)
    if wanted == ALL and plain:
        return ALL
    decoder = _name_of(model.get_decoder(), model)
    able = {f"{decoder}.{n}" for n in _linears(model)}
    if wanted == ALL:
        return sorted(able)
    hits = matching([(n, m) for n, m in model.named_modules() if n], wanted)
    others = [n for n in hits if n not in able and n.startswith(f"{decoder}.")]
    outer = {model.get_input_embeddings(), model.get_output_embeddings()}
    others += [n for n in hits if model.get_submodule(n) in outer and n not in others]
    if others:  # what follows says why each of them cannot be trained
        return [*wanted] if isinstance(wanted, tuple) else sorted(hits)
    chosen = able & set(hits)
    if not chosen:
        raise UsageError(
            f"lora_target_modules: expected layers of the text decoder, which alone is trained, "
            f"found {hits[0]}; use all-linear or names below {decoder}"
        )
    return _shortened(chosen, model)


#: Every linear layer that can be adapted.
ALL = "all-linear"


def matching(named: Sequence[tuple[str, Any]], wanted: str | tuple[str, ...]) -> list[str]:
    """Which of these modules are meant: matrices whose whole name a regular expression matches, or
    modules whose name ends with one of a list. Raises UsageError where nothing is."""
    if isinstance(wanted, str):
        pattern = re.compile(wanted)
        hits = [n for n, m in named if _has_matrix(m) and pattern.fullmatch(n)]
        unmet = [] if hits else [wanted]
    else:
        by_name = {w: [n for n, _ in named if n == w or n.endswith(f".{w}")] for w in wanted}
        hits = sorted({n for found in by_name.values() for n in found})
        unmet = [w for w, found in by_name.items() if not found]
    if unmet:
        linears = [n for n, m in named if isinstance(m, torch.nn.Linear)]
        layers = list(dict.fromkeys(n.rpartition(".")[2] for n in linears))
        kind = "a regular expression that matches" if isinstance(wanted, str) else "names of"
        raise UsageError(
            f"lora_target_modules: expected {kind} layers of this model, found {unmet[0]!r}, which "
            f"is none; it has {', '.join(layers)}"
            + (f" in names such as {linears[len(linears) // 2]}" if linears else "")
        )
    return hits


def _has_matrix(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.ndim > 1


def pefts_start(keys: LoraKeys) -> bool | str:
    """peft's `init_lora_weights`; the starts of `lora_starts` come on top of its own."""
    return keys.init_lora_weights if keys.init_lora_weights == "gaussian" else True


def _shortened(chosen: set[str], model: Any) -> list[str]:
    """Last parts of names where they stand for exactly these modules, else whole names."""
    last = {n.rpartition(".")[2] for n in chosen}
    same = {n for n, _ in model.named_modules() if n.rpartition(".")[2] in last}
    return sorted(last if same == chosen else chosen)


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
