"""The output layer as the log-prob path needs it: a plain, frozen matrix."""

from __future__ import annotations

import torch

from icpo_lite.core.errors import ModelError

#: Attributes by which peft's layers are known, without importing peft.
ADAPTER_MARKS = ("lora_A", "lora_embedding_A", "modules_to_save", "base_layer")


def frozen_lm_head(module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(weight [V, D], bias [V] or None) of an output layer, tied to the embeddings or not.

    Raises ModelError where the log-prob path would be wrong in silence: an adapter on the layer
    (its part of the logits and of the gradient would be missing), a trainable weight (it would get
    no gradient), a quantised or offloaded one (there is no matrix to multiply with).
    """
    marks = [mark for mark in ADAPTER_MARKS if hasattr(module, mark)]
    if marks:
        raise ModelError(
            f"expected an lm_head without adapter, found {type(module).__name__} with {marks[0]}: "
            "take lm_head out of lora_target_modules and modules_to_save"
        )
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 2:
        raise ModelError(
            f"expected an lm_head with a weight [V, D], found {type(module).__name__}: "
            "use a causal language model with a linear output layer"
        )
    if not weight.is_floating_point() or hasattr(weight, "quant_state"):
        raise ModelError(
            f"expected an lm_head in fp32, bf16 or fp16, found {weight.dtype}: "
            "list lm_head among the modules that quantisation skips"
        )
    if weight.is_meta:
        raise ModelError(
            "expected an lm_head in memory, found one that is offloaded: "
            "load the whole model on one device"
        )
    if any(parameter.requires_grad for parameter in module.parameters()):
        raise ModelError(
            "expected a frozen lm_head, found requires_grad=True: call requires_grad_(False) on "
            "it (with tied embeddings this freezes them too)"
        )
    return weight.detach(), None if bias is None else bias.detach()
