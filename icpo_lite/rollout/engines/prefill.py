"""Prompts computed once, before anything is drawn.

On a CPU those of like length are computed together (`policy.cpu.pieces_of`), then put side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icpo_lite.policy.cpu import pieces_of
from icpo_lite.rollout.noise import left_pad

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.rollout.engines.prefix_memory import PrefixMemory

Ids = Sequence[int]
#: How many tokens of a prompt are known, and the states of a text that begins with them.
Known = tuple[int, Tensor | None]
#: Logits [U, V], cache, attention mask [U, W].
Computed = tuple[Tensor, Any, Tensor]


def prefill(
    policy: Policy,
    prompts: Sequence[Ids],
    *,
    drop_last: bool = False,
    memory: PrefixMemory | None = None,
) -> Computed:
    """Each prompt computed once: logits [U, V], cache, attention mask [U, W].

    drop_last: the cache leaves out the last token. memory: what of them was computed before.
    """
    known: list[Known] = [memory.longest(p) if memory else (0, None) for p in prompts]
    new = [p[n:] for p, (n, _) in zip(prompts, known, strict=True)]
    on_cpu = policy.device.torch_device.type == "cpu"  # a GPU computes them best all at once
    pieces = pieces_of([len(ids) for ids in new]) if on_cpu else []
    if len(pieces) < 2 or not _can_be_joined(policy):
        return _together(policy, new, known, drop_last)
    longest = [max(n for n, _ in _of(known, p)) + max(map(len, _of(new, p))) for p in pieces]
    width = max(longest)
    parts = (_together(policy, _of(new, p), _of(known, p), drop_last) for p in pieces)
    return _joined(parts, pieces, width)


def _of(each: Sequence[Any], piece: Sequence[int]) -> list[Any]:
    return [each[i] for i in piece]


def _can_be_joined(policy: Policy) -> bool:
    """Whether rows of several caches of this model can be put side by side."""
    from icpo_lite.rollout.engines.kv_cache import buffered_cache, only_buffers

    return only_buffers(buffered_cache(policy.causal_lm.config))


def _joined(parts: Iterable[Computed], pieces: Sequence[Sequence[int]], width: int) -> Computed:
    """All pieces as rows of one cache, each as soon as it is computed."""
    from icpo_lite.rollout.engines.kv_cache import empty_rows, put_whole_rows

    count = sum(map(len, pieces))
    for number, ((logits, cache, mask), piece) in enumerate(zip(parts, pieces, strict=True)):
        rows = torch.tensor(piece)
        if not number:
            columns = width + cache.get_seq_length() - mask.shape[1]
            all_logits = logits.new_empty(count, logits.shape[-1])
            all_rows, seen = empty_rows(cache, count, columns), mask.new_zeros(count, width)
        all_logits[rows] = logits
        put_whole_rows(all_rows, rows, cache)
        seen[rows, width - mask.shape[1] :] = mask
    return all_logits, all_rows, seen


def _together(
    policy: Policy, new: Sequence[Ids], known: Sequence[Known], drop_last: bool
) -> Computed:
    """These prompts side by side: what is not known of each, after what is."""
    # Here, since unsloth must be imported before transformers is (`backends`).
    from icpo_lite.rollout.engines.kv_cache import buffered_cache, known_columns

    lm = policy.causal_lm
    cache = buffered_cache(lm.config)
    ids, own = left_pad(new, policy.pad_id, policy.device.torch_device)
    mask = torch.cat([known_columns(cache, known, own), own], dim=1)
    before = mask.shape[1] - own.shape[1]
    end = ids.shape[1] - 1 if drop_last else ids.shape[1]
    logits = lm(
        input_ids=ids[:, :end],
        attention_mask=mask[:, : before + end],
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, before : before + end],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    return logits, cache, mask
