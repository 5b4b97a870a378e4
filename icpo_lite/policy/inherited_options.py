"""What a checkpoint would decide in the recipe's place: how replies are drawn, what is dropped out.

`generation_config.json` of an instruct model sets a repetition penalty, a nucleus or forbidden
tokens, and transformers' `generate` fills every option that a call leaves open from there. A reply
drawn so comes from another distribution than the one that training computes. Dropout in the base
and noise in a router do the same to training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

#: Numbers by which modules and configurations of transformers drop out or add noise in training.
_NOISE = (
    *("attention_dropout", "attn_dropout", "attn_pdrop", "hidden_dropout", "resid_dropout"),
    *("resid_pdrop", "embd_pdrop", "dropout", "activation_dropout", "ffn_dropout", "layerdrop"),
    *("jitter_noise", "router_jitter_noise", "input_jitter_noise", "moe_jitter_eps"),
)
#: What a generation_config says of the model rather than of a taste.
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def keep_token_ids(model: Any) -> None:
    """Leave of the model's own generation_config which tokens begin, end and fill a reply."""
    from transformers import GenerationConfig

    own = getattr(model, "generation_config", None)
    if own is not None:
        model.generation_config = GenerationConfig(**{n: getattr(own, n, None) for n in _TOKEN_IDS})


def generation_config(
    *,
    max_new_tokens: int,
    eos_token_id: list[int],
    pad_token_id: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    **others: Any,
) -> Any:
    """Options of `generate` that are complete: nothing is filled in from a checkpoint.

    temperature: 0 is greedy. others: further fields of GenerationConfig.
    """
    from transformers import GenerationConfig

    class Complete(GenerationConfig):
        """An option that is None here is off, whatever the model's own configuration says."""

        def update(self, *args: Any, defaults_only: bool = False, **kwargs: Any) -> Any:
            return {} if defaults_only else super().update(*args, **kwargs)

    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p} if temperature > 0 else {}
    plain = {
        "num_beams": 1,
        "num_return_sequences": 1,
        "repetition_penalty": 1.0,
        "min_length": 0,
        "use_cache": True,
        "early_stopping": False,
        "length_penalty": 1.0,
        "output_scores": False,
        "return_dict_in_generate": False,
        "remove_invalid_values": False,
        "renormalize_logits": False,
    }
    return Complete(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
        **{**plain, **drawn, **others},
    )


def plain_outputs(model: Any) -> None:
    """Let a forward pass give what is asked for and nothing else, as a record.

    A configuration that was saved while somebody looked into a model makes every pass keep all
    hidden states, attention weights or router logits, or answer with a bare tuple.
    """
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        for name in ("output_hidden_states", "output_attentions", "output_router_logits"):
            if getattr(config, name, False):
                setattr(config, name, False)
        if getattr(config, "return_dict", True) is False:
            config.return_dict = True


def without_noise(model: nn.Module) -> list[str]:
    """Switch off dropout and router noise of the base, before LoRA comes; names what there was.

    In training they would make log-probs differ from those that were sampled under. Dropout on
    LoRA's input is a key of the recipe and is added later.
    """
    found: set[str] = set()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            found.update(["dropout"] if module.p > 0 else [])
            module.p = 0.0
        for holder in (module, getattr(module, "config", None)):
            found.update(_silenced(holder))
    return sorted(found)


def _silenced(holder: Any) -> list[str]:
    """Attributes of a module or its configuration that were positive numbers, now 0."""
    found = []
    for name in _NOISE:
        value = getattr(holder, "__dict__", {}).get(name)
        if isinstance(value, float) and value > 0 and not isinstance(value, torch.Tensor):
            setattr(holder, name, 0.0)
            found.append(name)
    return found
