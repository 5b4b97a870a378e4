"""This package's decode loop: prompts computed once, ended rows cut out, keyed noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icpo_lite.core.types import Completion
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.rollout.noise import (
    Key,
    SamplingOptions,
    completions,
    draw,
    end_ids,
    left_pad,
    noise_of,
)

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy


@torch.no_grad()
def sample_native(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[Key], options: SamplingOptions
) -> list[Completion]:
    """One reply for each key; keys come in equal runs, one run a prompt."""
    # Here, since unsloth must be imported before transformers is (`backends`).
    from icpo_lite.rollout.engines.kv_cache import take_rows

    device, length = policy.device.torch_device, options.max_new_tokens
    noise = noise_of(keys, length, device)
    ends = torch.tensor(end_ids(policy, options), device=device)
    tokens = torch.full((len(keys), length), -1, device=device)
    logprobs = torch.zeros(len(keys), length, device=device)
    rows = torch.arange(len(keys), device=device)  # which reply each computed row belongs to
    live = torch.ones_like(rows, dtype=torch.bool)  # rows that have not ended
    with dense_layers(policy):
        logits, cache, mask = prefill(policy, prompts, len(keys) // len(prompts))
        position = mask.sum(-1) - 1
        for t in range(length):
            drawn, logp = draw(logits.float(), noise[rows, t], options)
            tokens[rows[live], t] = drawn[live]
            logprobs[rows[live], t] = logp[live]
            live &= ~torch.isin(drawn, ends)
            count = int(live.sum())
            if count == 0 or t == length - 1:
                break
            if count <= 0.75 * len(rows):
                # Ended rows are cut out now and then: copying the cache at every end costs more.
                take_rows(cache, live.nonzero().squeeze(-1))
                rows, mask, position, drawn = rows[live], mask[live], position[live], drawn[live]
                live = torch.ones_like(rows, dtype=torch.bool)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            position = position + 1
            logits = policy.causal_lm(
                input_ids=drawn[:, None],
                attention_mask=mask,
                position_ids=position[:, None],
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
    return completions(policy, tokens, logprobs)


def prefill(
    policy: Policy, prompts: Sequence[Sequence[int]], group: int, *, drop_last: bool = False
) -> tuple[Tensor, Any, Tensor]:
    """Each prompt computed once and shared out: logits [B, V], cache, attention mask [B, P].

    B = prompts x group, in runs of `group`. drop_last: the cache leaves out the last token.
    """
    from icpo_lite.rollout.engines.kv_cache import buffered_cache, take_rows

    ids, mask = left_pad(prompts, policy.pad_id, policy.device.torch_device)
    lm = policy.causal_lm
    cache = buffered_cache(lm.config)
    end = ids.shape[1] - 1 if drop_last else ids.shape[1]
    logits = lm(
        input_ids=ids[:, :end],
        attention_mask=mask[:, :end],
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, :end],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    take_rows(cache, torch.arange(len(ids), device=ids.device).repeat_interleave(group))
    return logits.repeat_interleave(group, 0), cache, mask.repeat_interleave(group, 0)
