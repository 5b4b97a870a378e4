"""vLLM inside unsloth (`use_vllm: true`): the engine shares the trained model's 4-bit weights.

unsloth puts `vllm_engine`, `fast_generate` and, with LoRA, `load_lora` into the model. Each reply
is a request with a seed of its own; vLLM's prefix cache computes a group's prompt once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import ModelError
from icpo_lite.core.types import Completion
from icpo_lite.policy.unsloth_backend import started_with
from icpo_lite.rollout.noise import Key, SamplingOptions, completion, seed_of

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Name under which the live LoRA weights are handed over.
ADAPTER = "icpo_lite"


def sample_vllm(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[Key], options: SamplingOptions
) -> list[Completion]:
    """One reply for each key. Log-probs are NaN where the engine's are not what training computes:
    with top-k or top-p, or an engine that reports them before the temperature.
    """
    from vllm import SamplingParams

    group = len(keys) // len(prompts)
    settings = {
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k or -1,
        # All that would bend the distribution is said, so that no default of anybody's counts.
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "min_p": 0.0,
        "min_tokens": 0,
        "logprobs": 0,  # of the sampled token alone
        "stop_token_ids": [] if options.ignore_eos else sorted(policy.end_ids),
        "ignore_eos": options.ignore_eos,
        "detokenize": False,
    }
    outputs = policy.model.fast_generate(
        [{"prompt_token_ids": list(p)} for p in prompts for _ in range(group)],
        sampling_params=[SamplingParams(seed=seed_of(key), **settings) for key in keys],
        use_tqdm=False,
        lora_request=_adapter(policy),
    )
    _sleep(policy)
    if len(outputs) != len(keys):
        raise ModelError(
            f"engine vllm: expected {len(keys)} replies, got {len(outputs)}; use engine: unsloth"
        )
    known = _logprobs_are_ours(policy, options)
    return [_completion(policy, each.outputs[0], known) for each in outputs]


def _completion(policy: Policy, output: Any, known: bool) -> Completion:
    ids = list(output.token_ids)
    if not known:
        return completion(policy, ids, [math.nan] * len(ids))
    # One mapping of token to log-prob for each token.
    return completion(
        policy, ids, [float(at[i].logprob) for i, at in zip(ids, output.logprobs, strict=True)]
    )


def _adapter(policy: Policy) -> Any:
    """The LoRA weights as they are now; None where there are none or they are switched off."""
    # A property of LoRA layers; transformers' models have a method of that name.
    off = any(getattr(m, "disable_adapters", False) is True for m in policy.model.modules())
    if not policy.has_adapter or off:
        return None
    # It writes the adapter's configuration into a folder of this name: not where the user works.
    return policy.model.load_lora(str(Path(_scratch().name) / ADAPTER), load_tensors=True)


@cache
def _scratch() -> TemporaryDirectory[str]:
    """A folder of this process's own, gone with it."""
    return TemporaryDirectory(prefix="icpo_lite-lora-")


def _sleep(policy: Policy) -> None:
    """Gives the memory of keys and values to the update; unsloth wakes the engine by itself when it
    is called, and nobody else puts it to sleep."""
    if started_with(policy.model, "enable_sleep_mode"):
        policy.model.vllm_engine.sleep(level=1)


def _logprobs_are_ours(policy: Policy, options: SamplingOptions) -> bool:
    """Whether the engine's log-probs are those at this temperature of the whole distribution."""
    found = started_with(policy.model, "logprobs_mode")
    mode = "raw_logprobs" if found is None else str(getattr(found, "value", found))
    if mode == "processed_logprobs":
        return not options.truncates
    return mode == "raw_logprobs" and options.temperature in (0, 1)
