"""How many rows of keys, values and logits free memory holds, and what is remembered of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icpo_lite.policy.kernels.chunks import free_bytes
from icpo_lite.rollout.engines.prefix_memory import PrefixMemory

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Conversations of an evaluation that are sampled at once on a GPU; fewer where free memory does
#: not hold them.
GPU_ROWS = 256
#: Share of the free memory that rows may take: a cut holds a layer twice, others use it too.
SHARE = 0.5
#: … and for the keys and values that conversations go on from.
REMEMBERED = 0.2
#: Bytes of one number of a row's logits while a token is drawn: as they come, exponentials, sums.
LOGIT_BYTES = 16


def token_bytes(policy: Policy) -> int:
    """Bytes of one token's keys and values in all layers."""
    config = policy.causal_lm.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * policy.device.dtype.itemsize)


def fitting_rows(policy: Policy, tokens: int) -> int:
    """Rows of so many tokens, prompt and reply, for which there is room; at least one."""
    vocabulary = policy.causal_lm.config.get_text_config().vocab_size
    row = tokens * token_bytes(policy) + LOGIT_BYTES * vocabulary
    return max(1, int(SHARE * free_bytes(policy.device.torch_device)) // row)


def prefix_memory(policy: Policy) -> PrefixMemory:
    """A memory of what this policy's conversations go on from; for as long as no weight moves."""
    return PrefixMemory(int(REMEMBERED * free_bytes(policy.device.torch_device)))
