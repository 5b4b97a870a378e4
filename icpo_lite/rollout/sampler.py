"""G replies a prompt, by the engine that the options name, split where memory runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from icpo_lite.core.oom import RowLimit
from icpo_lite.core.types import Completion, Message
from icpo_lite.policy.prompt_packing import use_loaded_attention
from icpo_lite.policy.wide_logits import wide_logits
from icpo_lite.rollout.engines.registry import engine_for
from icpo_lite.rollout.noise import Key, SamplingOptions, draw, left_pad, uniforms

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

__all__ = [
    "Key",
    "PolicyGenerator",
    "SamplingOptions",
    "draw",
    "left_pad",
    "sample",
    "uniforms",
]


def sample(
    policy: Policy,
    prompts_P: Sequence[Sequence[int]],
    *,
    n: int,
    options: SamplingOptions,
    keys_P: Sequence[Key],
) -> list[list[Completion]]:
    """n completions for each prompt of token ids; those of prompt p use the keys (*keys_P[p], g).

    Where memory runs out, fewer are computed at once. Raises OutOfMemory when one does not fit,
    NumericsError when the model's logits are not numbers, ModelError when the engine cannot go on.
    """
    policy.set_training(False)
    use_loaded_attention(policy)
    # Where noise is keyed by sample, splitting a batch changes none.
    with wide_logits(policy):
        return (options.limit or RowLimit()).run(
            lambda size: _sample_all(policy, prompts_P, n, options, keys_P, size.rows),
            options.max_rows or len(prompts_P) * n,
        )


def _sample_all(
    policy: Policy,
    prompts_P: Sequence[Sequence[int]],
    n: int,
    options: SamplingOptions,
    keys_P: Sequence[Key],
    rows: int,
) -> list[list[Completion]]:
    """As `sample`, at most `rows` replies at once; in chunks where the engine does not refill."""
    engine = engine_for(policy, options.engine)
    # Prompts of like length side by side: less padding in every chunk. The longest first, so that
    # memory that runs out does so before time is spent.
    order = sorted(range(len(prompts_P)), key=lambda p: -len(prompts_P[p]))
    if engine.refills:
        keys = [(*keys_P[p], k) for p in order for k in range(n)]
        replies = engine.sample(
            policy, [prompts_P[p] for p in order], keys, options.but(max_rows=rows)
        )
        place = {p: i for i, p in enumerate(order)}
        return [replies[place[p] * n : (place[p] + 1) * n] for p in range(len(prompts_P))]
    samples_at_once = min(n, rows)
    prompts_at_once = max(1, rows // samples_at_once)
    out: list[list[Completion]] = [[] for _ in prompts_P]
    for first in range(0, len(order), prompts_at_once):
        chosen = order[first : first + prompts_at_once]
        for g in range(0, n, samples_at_once):
            keys = [(*keys_P[p], k) for p in chosen for k in range(g, min(n, g + samples_at_once))]
            replies = engine.sample(policy, [prompts_P[p] for p in chosen], keys, options)
            each = len(replies) // len(chosen)
            for i, p in enumerate(chosen):
                out[p] += replies[i * each : (i + 1) * each]
    return out


class PolicyGenerator:
    """The policy as a `Generator`: chats in, texts out (types.Generator)."""

    def __init__(self, policy: Policy, *, adapter: bool = True, max_rows: int | None = None):
        self._policy, self._adapter, self._max_rows = policy, adapter, max_rows

    def generate(
        self,
        chats: Sequence[Sequence[Message]],
        *,
        n: int = 1,
        max_new_tokens: int = 256,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[list[str]]:
        """n replies for each chat; equal arguments give equal texts."""
        options = SamplingOptions(max_new_tokens, temperature, max_rows=self._max_rows)
        prompts = [self._policy.encode_chat(chat) for chat in chats]
        keys: list[Key] = [("generate", seed, i) for i in range(len(chats))]
        with contextlib.nullcontext() if self._adapter else self._policy.adapter_off():
            groups = sample(self._policy, prompts, n=n, options=options, keys_P=keys)
        return [[reply.text for reply in group] for group in groups]
