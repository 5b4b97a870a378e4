"""What a model is made of, as far as sampling, quantising and merging depend on it.

Recurrent layers (linear attention, short convolutions, state spaces) carry a state from token to
token in which padding could leave a trace, so a model that has them is tried before it is used.
Experts of a mixture lie in one tensor of three dimensions, which NF4 and LoRA pass by.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from icpo_lite.core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Kinds of layers, by transformers' names, whose memory is keys and values alone.
ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
#: Nats by which padding may move a token's log-prob: rounding alone, by the width of the dtype.
PADDING_MOVES = {torch.float32: 1e-3}
_PADDING_MOVES_16_BIT = 0.1
#: Share of the weights beyond NF4's reach from which it is said.
_WORTH_A_NOTE = 0.2


def recurrent_layers(model: Any) -> list[str]:
    """Kinds of the decoder's layers that carry a state; empty for attention alone."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    found = sorted(kinds - ATTENTION)
    return found or (["recurrent"] if getattr(model, "_is_stateful", False) else [])


def all_see_all(config: Any) -> bool:
    """Whether every layer of this model attends to all tokens."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


@torch.no_grad()
def check_padding(policy: Policy) -> str:
    """Try a recurrent model on left-padded rows; returns a note, "" where there is nothing to try.

    Raises ModelError, naming its layers, where a padded row differs from the same row alone, or
    where its state cannot be handed on from token to token.
    """
    model = policy.causal_lm
    kinds = recurrent_layers(model)
    if not kinds:
        return ""
    name, layers = policy.keys.model_name_or_path, ", ".join(kinds)
    remedy = "use a model whose layers are attention, or another version of transformers"
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise ModelError(
            f"{name}: expected a model that hands its memory on as past_key_values, found "
            f"{layers} layers that do not; {remedy}"
        )
    try:
        moved = _moved_by_padding(policy)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        said = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{name}: its {layers} layers cannot be sampled from in rows: {said}; {remedy}"
        ) from error
    allowed = PADDING_MOVES.get(policy.device.dtype, _PADDING_MOVES_16_BIT)
    if not moved <= allowed:
        raise ModelError(
            f"{name}: padding moves the log-probs of its {layers} layers by {moved:.3g} nats, "
            f"expected at most {allowed:g}, so that rows of unequal length would be sampled "
            f"wrong; {remedy}"
        )
    return f"its {layers} layers carry a state: padding moves log-probs by {moved:.1e} nats at most"


def _moved_by_padding(policy: Policy) -> float:
    """Largest |difference| in log-probs of two more tokens, padded on the left and alone."""
    rows = [_probe(policy, 9, 1), _probe(policy, 21, 2)]
    padded = _continued(policy, rows)
    alone = torch.cat([_continued(policy, [row]) for row in rows])
    return float((padded - alone).abs().max())


def _probe(policy: Policy, length: int, seed: int) -> list[int]:
    noise = torch.Generator().manual_seed(seed)
    most = policy.causal_lm.get_input_embeddings().weight.shape[0]
    return [int(i) for i in torch.randint(most, (length,), generator=noise)]


def _continued(policy: Policy, rows: Sequence[Sequence[int]]) -> Tensor:
    """Log-probs [B, 2] of each row's last two tokens, the last one through the cache."""
    device, model = policy.device.torch_device, policy.causal_lm
    width = max(map(len, rows))
    ids = torch.tensor([[policy.pad_id] * (width - len(r)) + list(r) for r in rows], device=device)
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=device)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    first = model(
        input_ids=ids[:, :-2],
        attention_mask=mask[:, :-2],
        position_ids=position[:, :-2],
        use_cache=True,
    )
    second = model(
        input_ids=ids[:, -2:-1],
        attention_mask=mask[:, :-1],
        position_ids=position[:, -2:-1],
        past_key_values=first.past_key_values,
        use_cache=True,
    )
    logps = [out.logits[:, -1].float().log_softmax(-1) for out in (first, second)]
    taken = zip(logps, ids[:, -2:].T, strict=True)
    return torch.stack([x.gather(-1, token[:, None])[:, 0] for x, token in taken], dim=1)


# ------------------------------------------------------------------------------------- mixtures


def beyond_four_bits(model: Any) -> str:
    """A note on weights that NF4 does not reach though the recipe asks for it, "" where few are."""
    head = {id(e.weight) for e in (model.get_input_embeddings(), model.get_output_embeddings())}
    sizes: dict[str, int] = {}
    total = 0
    for name, parameter in model.named_parameters():
        packed = parameter.__class__.__name__ == "Params4bit"
        count = parameter.numel() * (2 if packed else 1)
        total += count
        if not packed and id(parameter) not in head:
            last = ".".join(name.split(".")[-2:])
            sizes[last] = sizes.get(last, 0) + parameter.numel() * parameter.element_size()
    width = next(model.parameters()).element_size()
    left = sum(sizes.values())
    if left < _WORTH_A_NOTE * total * width:
        return ""
    largest = sorted(sizes, key=lambda name: -sizes[name])[:2]
    return (
        f"{left / 1e9:.2f} GB of weights stay in {8 * width} bits, which NF4 does not reach: "
        f"{', '.join(largest)}" + (" and smaller ones" if len(sizes) > 2 else "")
    )


def has_experts(config: Any) -> bool:
    """Whether a configuration is that of a mixture of experts."""
    return bool(_expert_counts(config))


def is_router(name: str, module: nn.Linear, config: Any) -> bool:
    """Whether a linear layer chooses among experts, or weighs the shared one."""
    counts = _expert_counts(config)
    last = name.rpartition(".")[2]
    return bool(counts) and module.out_features in counts | {1} and last in _ROUTERS


_ROUTERS = ("gate", "router", "shared_expert_gate", "classifier")


def _expert_counts(config: Any) -> set[int]:
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    found = {getattr(config.get_text_config(), name, None) for name in names}
    return {n for n in found if isinstance(n, int) and n > 1}


def adapted_of_experts(model: Any) -> str:
    """A note on which layers of a mixture of experts LoRA adapts, "" for other models."""
    if not has_experts(model.config):
        return ""
    names = {n.rpartition(".")[2] for n, m in model.named_modules() if hasattr(m, "lora_A")}
    return (
        f"a mixture of experts: LoRA adapts {', '.join(sorted(names))}; router and experts stay as "
        "they are, since an export merges linear layers alone"
    )


def check_mergeable(model: Any) -> None:
    """Raises UsageError where LoRA sits on what an export cannot merge: before training, not after.

    model: the causal LM with LoRA layers inside it. Merged are linear layers between embedding and
    head; a head that is tied to the embedding would change both, and embeddings, convolutions and
    experts in one tensor are no linear layers.
    """
    outer = (model.get_input_embeddings(), model.get_output_embeddings())
    bad = []
    for name, module in model.named_modules():
        if getattr(module, "modules_to_save", None):  # trained whole, as unsloth does embeddings
            bad.append(name)
        if not (getattr(module, "lora_A", None) or getattr(module, "lora_embedding_A", None)):
            continue
        base = module.get_base_layer() if hasattr(module, "get_base_layer") else None
        if not isinstance(base, nn.Linear) or any(m in (module, base) for m in outer):
            bad.append(name)
    if bad:
        raise UsageError(
            "lora_target_modules: expected linear layers between embedding and lm_head, found "
            f"{', '.join(bad[:3])}{' and others' if len(bad) > 3 else ''}, whose training an "
            "export cannot merge; use all-linear or names such as q_proj, v_proj, o_proj"
        )
