"""`generate` of transformers, and unsloth's faster one, drawing by our keyed noise.

A logits processor does the drawing and leaves one token possible, so that greedy decoding takes
it: same keys, same samples as the native engine, up to rounding. Log-probs fall out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icpo_lite.core.types import Completion
from icpo_lite.policy.inherited_options import generation_config
from icpo_lite.policy.layer_kinds import recurrent_layers
from icpo_lite.policy.unsloth_backend import graph_scope
from icpo_lite.rollout.engines.prefill import prefill
from icpo_lite.rollout.noise import (
    Key,
    SamplingOptions,
    completions,
    draw,
    end_ids,
    left_pad,
    noise_of,
    refuse_nan,
)

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy


class KeyedDraw:
    """A logits processor (input_ids [B, T], scores [B, V] -> scores) that draws by itself."""

    def __init__(self, noise: Tensor, options: SamplingOptions) -> None:
        self.noise, self.options = noise, options
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        drawn, logp = draw(scores.float(), self.noise[:, len(self.logprobs)], self.options)
        self.logprobs.append(logp)
        return torch.full_like(scores, float("-inf")).scatter_(1, drawn[:, None], 0.0)


@torch.no_grad()
def sample_generate(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[Key], options: SamplingOptions
) -> list[Completion]:
    """As `native.sample_native`, by transformers' loop, each prompt computed once."""
    group = len(keys) // len(prompts)
    # A recurrent state cannot be taken back by a token, so its prompts are computed row by row.
    if max(map(len, prompts)) < 2 or recurrent_layers(policy.causal_lm):
        return _generate(policy, prompts, keys, options)
    from icpo_lite.rollout.engines.kv_cache import take_rows

    _, cache, _ = prefill(policy, prompts, drop_last=True)
    take_rows(
        cache, torch.arange(len(prompts)).repeat_interleave(group).to(policy.device.torch_device)
    )
    return _generate(policy, prompts, keys, options, past_key_values=cache)


@torch.no_grad()
def sample_unsloth(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[Key], options: SamplingOptions
) -> list[Completion]:
    """As `native.sample_native`, by the `generate` that unsloth put into the model.

    It computes repeated prompts each time, quickly. It switches gradient checkpointing off while
    it runs, and on again only in a model that was in training mode.
    """
    policy.set_training(True)
    with graph_scope():
        return _generate(policy, prompts, keys, options)


def _generate(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[Key],
    options: SamplingOptions,
    **more: Any,
) -> list[Completion]:
    device, length = policy.device.torch_device, options.max_new_tokens
    ids, mask = left_pad(prompts, policy.pad_id, device)
    group, ends = len(keys) // len(prompts), end_ids(policy, options)
    drawing = KeyedDraw(noise_of(keys, length, device), options)
    out = policy.causal_lm.generate(
        input_ids=ids.repeat_interleave(group, 0),
        attention_mask=mask.repeat_interleave(group, 0),
        # Greedy among what the processor leaves, and under none of the checkpoint's own options.
        generation_config=generation_config(
            max_new_tokens=length, eos_token_id=ends, pad_token_id=policy.pad_id
        ),
        logits_processor=[drawing],
        **more,
    )
    tokens = out[:, ids.shape[1] :]
    # `generate` fills up with pad tokens, which may be end tokens: what counts is the first end.
    ended = torch.isin(tokens, torch.tensor(ends, device=device))
    after = (ended.cumsum(-1) - ended.long()) > 0
    logprobs = torch.stack(drawing.logprobs, dim=1)
    refuse_nan(bool(logprobs.masked_fill(after, 0.0).isnan().any()))
    return completions(policy, tokens.masked_fill(after, -1), logprobs)
