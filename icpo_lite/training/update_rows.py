"""Rows of an update that a CPU's memory holds: there nothing raises when it runs out.

A GPU says when its memory is full, and the update is made again with less. A CPU's program is
killed. So what a token's forward pass keeps for backward is measured, and the rows follow from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icpo_lite.policy.kernels.chunks import free_bytes
from icpo_lite.policy.logprobs import hidden_states
from icpo_lite.rollout.noise import own_random_state

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe

#: Tokens of the pass that is measured.
MEASURED_TOKENS = 32
#: Share of the free memory that activations may take; gradients, logits and others need the rest.
SHARE = 0.3


def kept_bytes_a_token(policy: Policy) -> float:
    """Bytes that autograd keeps of a token until backward, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(1, MEASURED_TOKENS, dtype=torch.long, device=policy.device.torch_device)
    with own_random_state(policy), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        hidden = hidden_states(policy, ids, torch.ones_like(ids))
        total = sum(kept.values())  # while the graph lives and no memory is used again
    del hidden
    policy.set_training(False)
    return total / MEASURED_TOKENS


def fitting_update_rows(policy: Policy, recipe: Recipe, longest_prompt: int) -> int | None:
    """Rows of full length that fit at once; None where all of a mini-batch do, or a key says it."""
    device = policy.device.torch_device
    if device.type != "cpu" or recipe.per_device_train_batch_size is not None:
        return None
    rows = recipe.prompts_per_step * recipe.num_generations // recipe.num_mini_batches
    width = longest_prompt + recipe.max_completion_length
    row = kept_bytes_a_token(policy) * width
    fit = max(1, int(SHARE * free_bytes(device) / row))
    return fit if fit < rows else None
