"""transformers' continuous batching: paged keys and values, a group forks its prompt's pages.

Its tokens come from torch's generator, seeded by all keys of the call: the same call gives the
same samples, but a batch that is split otherwise gives others.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from icpo_lite.core.errors import ModelError
from icpo_lite.core.types import Completion
from icpo_lite.policy.inherited_options import generation_config
from icpo_lite.policy.kernels.chunks import free_bytes
from icpo_lite.rollout.engines.fitting_rows import token_bytes
from icpo_lite.rollout.noise import (
    Key,
    SamplingOptions,
    completion,
    end_ids,
    own_random_state,
    seed_of,
)

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Tokens of a page; flash attention's paged kernels want 256.
PAGE_CPU, PAGE_CUDA = 32, 256
#: Share of the free memory that pages may take: the logits of a step need some, too.
POOL_SHARE = 0.6
#: Most tokens of one forward pass.
BATCH_TOKENS = 8192


def sample_continuous(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[Key], options: SamplingOptions
) -> list[Completion]:
    """One reply for each key. Log-probs are NaN with top-k or top-p: those it gives are of what
    is left of the distribution, not of what training computes.

    Raises ModelError when the engine stops before all are done.
    """
    group = len(keys) // len(prompts)
    # It refuses to fork a greedy request, whose replies are all the same.
    forks = group if options.temperature > 0 else 1
    lm = policy.causal_lm
    with own_random_state(policy), _quiet():
        manager = lm.init_continuous_batching(
            generation_config=_generation_config(policy, options, forks),
            continuous_batching_config=_pool(policy, prompts, keys, options),
        )
        # All requests are there before it starts: which ones share a batch, and so which random
        # numbers they get, must not depend on the clock.
        names = manager.add_requests([list(p) for p in prompts], options.max_new_tokens)
        manager.start()
        try:
            outputs = _collect(manager, len(prompts) * forks)
        finally:
            manager.stop(block=True)
            manager.destroy()
    return [
        _completion(policy, outputs[child], options)
        for name in names
        for child in [name, *(f"{name}__child#{i}" for i in range(forks - 1))] * (group // forks)
    ]


def _collect(manager: Any, count: int) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    while len(outputs) < count:
        result = manager.get_result(timeout=1)
        if result is not None and result.error is not None:
            raise ModelError(f"engine continuous: {result.error}; use engine: native")
        if result is not None and result.is_finished():
            outputs[result.request_id] = result
        elif result is None and not manager.is_running():
            error = manager.background_thread_status.fatal_error
            if isinstance(error, torch.OutOfMemoryError):
                raise error
            raise ModelError(f"engine continuous: it stopped early ({error}); use engine: native")
    return outputs


def _completion(policy: Policy, output: Any, options: SamplingOptions) -> Completion:
    unknown = [math.nan] * len(output.generated_tokens)
    logprobs = unknown if options.truncates else output.logprobs
    return completion(policy, output.generated_tokens, logprobs)


def _generation_config(policy: Policy, options: SamplingOptions, forks: int) -> Any:
    return generation_config(
        max_new_tokens=options.max_new_tokens,
        eos_token_id=end_ids(policy, options),
        pad_token_id=policy.pad_id,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        num_return_sequences=forks,
    )


def _pool(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[Key],
    options: SamplingOptions,
) -> Any:
    """Pages for all replies at once, as far as free memory goes; the rest waits its turn."""
    from transformers import ContinuousBatchingConfig

    on_gpu = policy.device.torch_device.type == "cuda"
    page = PAGE_CUDA if on_gpu else PAGE_CPU
    group = len(keys) // len(prompts)
    wanted = sum(-(-(len(p) + options.max_new_tokens) // page) + 1 for p in prompts) * group
    affordable = int(
        free_bytes(policy.device.torch_device) * POOL_SHARE / (page * token_bytes(policy))
    )
    # transformers 5.15 calls a page a block, and has no choice of attention here.
    fields = ContinuousBatchingConfig.__dataclass_fields__
    named = {"page_size" if "page_size" in fields else "block_size": page}
    if "auto_switch_to_flash" in fields:
        named["auto_switch_to_flash"] = on_gpu
    return ContinuousBatchingConfig(
        **named,
        num_blocks=max(1, min(wanted, affordable)),
        max_batch_tokens=min(BATCH_TOKENS, max(sum(map(len, prompts)), len(keys))),
        max_requests_per_batch=len(keys),
        return_logprobs=True,
        seed=seed_of(*keys) >> 31,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Its advice on flash attention and its start-up lines, left out; errors are kept."""
    logger = logging.getLogger("ContinuousBatchingLogger")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
