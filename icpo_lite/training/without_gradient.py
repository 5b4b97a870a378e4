"""What the weights say of a batch before they are changed: log-probs, entropies, hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs, kept_hidden_states

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.training.batch import Batch


class Told(NamedTuple):
    """logps, entropies [B, T-1]; hidden [N, D]: the states under the mask, row by row, or None."""

    logps: Tensor
    entropies: Tensor
    hidden: Tensor | None


@torch.no_grad()
def without_gradient(
    policy: Policy,
    batch: Batch,
    options: LogprobOptions,
    rows: int,
    *,
    keep_hidden: bool = False,
) -> Told:
    """Of all tokens under the loss mask, under the current weights, `rows` at a time."""
    mask = batch.loss_mask
    logps, entropies = (torch.zeros(mask.shape, device=mask.device) for _ in range(2))
    first = mask.sum(-1).cumsum(0) - mask.sum(-1)  # of each row's tokens among all
    hidden: Tensor | None = None
    for piece, micro in batch.micro_batches(rows, keep_groups=options.shared_prompts):
        inputs = (micro.input_ids, micro.attention_mask, micro.loss_mask)
        states = []
        if keep_hidden:
            states = [kept_hidden_states(policy, *inputs, options.shared_prompts)]
        some, entropy = completion_logprobs(policy, *inputs, options, *states)
        logps[piece, : some.shape[1]] = some
        entropies[piece, : some.shape[1]] = entropy
        for kept in states:
            if hidden is None:
                hidden = kept.new_empty(int(mask.sum()), kept.shape[1])
            counts = micro.loss_mask.sum(-1)
            hidden[torch.cat([_run(first[r], n) for r, n in zip(piece, counts, strict=True)])] = (
                kept
            )
    return Told(logps, entropies, hidden)


def _run(first: Tensor, count: Tensor) -> Tensor:
    return torch.arange(int(first), int(first + count), device=first.device)
