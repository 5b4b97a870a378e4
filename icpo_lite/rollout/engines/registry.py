"""The engines by name, where each can run, and which is the fastest here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from packaging.version import Version

from icpo_lite.core.errors import IcpoError, UsageError
from icpo_lite.core.types import Completion
from icpo_lite.policy.layer_kinds import recurrent_layers
from icpo_lite.policy.libraries import version
from icpo_lite.policy.wide_logits import wide_logits
from icpo_lite.rollout.engines.continuous import sample_continuous
from icpo_lite.rollout.engines.generate import sample_generate, sample_unsloth
from icpo_lite.rollout.engines.native import sample_native
from icpo_lite.rollout.engines.vllm import sample_vllm
from icpo_lite.rollout.noise import Key, SamplingOptions

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: One reply for each key; keys come in equal runs, one run a prompt.
SampleChunk = Callable[
    ["Policy", Sequence[Sequence[int]], Sequence[Key], SamplingOptions], list[Completion]
]

#: What a measurement samples: prompts, replies of each, tokens of a reply at most.
TRIED_PROMPTS, TRIED_GROUP, TRIED_TOKENS = 2, 4, 24
#: Up to 5.15 the log-probs of a reply longer than the window were off by 0.3 to 1.7 nats a token
#: (four families, eager and sdpa); from 5.16 on by less than 1e-4.
_TRANSFORMERS = version("transformers")
_PAGES_KNOW_WINDOWS = Version(_TRANSFORMERS) >= Version("5.16")
#: Another engine must beat the native one by so much: a choice that noise turns helps nobody.
MARGIN = 1.2


@dataclass(frozen=True)
class Engine:
    """sample: the engine. unfit: why it cannot run with this policy, None where it can.

    draws_here: whether its tokens are drawn by `noise.draw`, with a temperature for each.
    """

    sample: SampleChunk
    unfit: Callable[[Policy], str | None]
    draws_here: bool = True


def _unfit_unpatched(policy: Policy) -> str | None:
    # unsloth's forward does not fill a cache that is handed to it: nothing would be remembered.
    return "unsloth has patched the model" if policy.backend.name == "unsloth" else None


def _unfit_continuous(policy: Policy) -> str | None:
    if reason := _unfit_unpatched(policy):
        return reason
    lm = policy.causal_lm
    if not hasattr(lm, "init_continuous_batching"):
        return "this model has no continuous batching"
    if kinds := recurrent_layers(lm):
        return f"its pages hold keys and values, not the state of {', '.join(kinds)} layers"
    config = lm.config.get_text_config()
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "its paged attention has no soft cap"
    if getattr(config, "sliding_window", None) and not _PAGES_KNOW_WINDOWS:
        return f"its pages know no sliding window before transformers 5.16 (here {_TRANSFORMERS})"
    return None


def _unfit_unsloth(policy: Policy) -> str | None:
    # unsloth names the function that it puts in place of `generate`.
    name = getattr(policy.causal_lm.generate, "__name__", "")
    return None if name.startswith("unsloth") else "the model was not loaded by unsloth"


def _unfit_vllm(policy: Policy) -> str | None:
    if getattr(policy.model, "vllm_engine", None) is None:
        return "the model was not loaded with vLLM (use_vllm: true, backend unsloth)"
    return None if find_spec("vllm") else "vllm is not installed"


ENGINES: dict[str, Engine] = {
    "native": Engine(sample_native, _unfit_unpatched),
    "generate": Engine(sample_generate, _unfit_unpatched),
    "continuous": Engine(sample_continuous, _unfit_continuous, draws_here=False),
    "unsloth": Engine(sample_unsloth, _unfit_unsloth),
    "vllm": Engine(sample_vllm, _unfit_vllm, draws_here=False),
}


def engine_for(policy: Policy, wanted: str) -> Engine:
    """The engine of that name, native for auto; unsloth's own where the native one cannot run."""
    wanted = "native" if wanted == "auto" else wanted
    if wanted == "native" and ENGINES["native"].unfit(policy):
        wanted = "unsloth"
    return ENGINES[wanted]


def require_engine(wanted: str) -> None:
    """Raises UsageError, before a model is loaded, for an engine whose library is not there."""
    if wanted == "vllm" and find_spec("vllm") is None:
        raise UsageError("engine: vllm cannot run here: vllm is not installed; use engine: auto")


def choose_engine(
    policy: Policy,
    wanted: str,
    prompts: Sequence[Sequence[int]],
    options: SamplingOptions,
) -> tuple[str, str]:
    """(engine, one line that says why): the one wanted, or with `auto` the fastest of a few tokens.

    prompts: some of the run's own. Raises UsageError when the one wanted cannot run here.
    """
    if wanted != "auto":
        reason = ENGINES[wanted].unfit(policy) or _unfit_for(wanted, options)
        if reason is not None:
            raise UsageError(f"engine: {wanted} cannot run here: {reason}; use engine: auto")
        return wanted, wanted
    # transformers' own loops win nothing on a CPU, where paging has no kernel.
    slow = {"generate", "continuous"} if policy.device.torch_device.type == "cpu" else set()
    slow |= {name for name in ENGINES if _unfit_for(name, options)}
    fit = [name for name, e in ENGINES.items() if name not in slow and e.unfit(policy) is None]
    if fit == ["native"]:
        return "native", "native, the only one that suits this machine"
    longest = sorted(prompts, key=len)[-TRIED_PROMPTS:]
    tried = {name: _tokens_per_second(policy, name, longest, options) for name in fit}
    speeds = {name: speed for name, speed in tried.items() if isinstance(speed, float)}
    compared = [name for name in speeds if name != "native"]
    best = max(compared, key=lambda name: speeds[name], default="native")
    if "native" in speeds and speeds[best] < MARGIN * speeds["native"]:
        best = "native"
    said = ", ".join(f"{n} {_said(tried[n])}" for n in sorted(tried, key=lambda n: n != best))
    return best, f"{best} (tokens a second on {len(longest)} prompts: {said})"


def _unfit_for(name: str, options: SamplingOptions) -> str | None:
    drawn = ENGINES[name].draws_here or not options.entropy_tau
    return None if drawn else "it has one temperature for all tokens (token_weights: hapo)"


def _tokens_per_second(
    policy: Policy, name: str, prompts: Sequence[Sequence[int]], options: SamplingOptions
) -> float | str:
    """Of the second of two calls, or in words why there is no such number."""
    few = options.but(max_new_tokens=min(options.max_new_tokens, TRIED_TOKENS), engine=name)
    keys: list[Key] = [("tried", p, g) for p in range(len(prompts)) for g in range(TRIED_GROUP)]
    try:
        for _ in range(2):
            started = time.perf_counter()
            with wide_logits(policy):
                replies = ENGINES[name].sample(policy, prompts, keys, few)
            seconds = time.perf_counter() - started
    except (IcpoError, RuntimeError, ValueError, ImportError, AttributeError, TypeError) as error:
        # Other people's engines are tried, not trusted; `native` is there in any case.
        if name == "native":
            raise
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
            return "does not fit"
        said = str(error).strip() or type(error).__name__
        return f"failed: {said.splitlines()[0][:80]}"
    return sum(len(reply.token_ids) for reply in replies) / seconds


def _said(speed: Any) -> str:
    return f"{speed:,.0f}" if isinstance(speed, float) else str(speed)
