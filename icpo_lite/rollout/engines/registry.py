"""The engines by name, where each can run, and which is the fastest here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from icpo_lite.core.errors import IcpoError, UsageError
from icpo_lite.core.oom import empty_cache, is_out_of_memory
from icpo_lite.core.types import Completion
from icpo_lite.policy.layer_kinds import recurrent_layers
from icpo_lite.policy.libraries import version
from icpo_lite.policy.wide_logits import wide_logits
from icpo_lite.rollout.engines.continuous import sample_continuous
from icpo_lite.rollout.engines.fixed_step import sample_fixed
from icpo_lite.rollout.engines.generate import sample_generate, sample_unsloth
from icpo_lite.rollout.engines.native import sample_native
from icpo_lite.rollout.engines.shared_rows import sample_shared, shares_rows
from icpo_lite.rollout.engines.vllm import sample_vllm
from icpo_lite.rollout.noise import Key, SamplingOptions

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: One reply for each key; keys come in equal runs, one run a prompt.
SampleChunk = Callable[
    ["Policy", Sequence[Sequence[int]], Sequence[Key], SamplingOptions], list[Completion]
]

#: What a measurement samples: tokens of the replies of two calls, from which the cost of a call
#: and that of a token follow; prompts and replies of each at most.
TRIED_TOKENS = (8, 40)
TRIED_PROMPTS, TRIED_ROWS = 16, 256
#: Up to 5.15 the log-probs of a reply longer than the window were off by 0.3 to 1.7 nats a token
#: (four families, eager and sdpa); from 5.16 on by less than 1e-4.
_TRANSFORMERS = version("transformers")
_PAGES_KNOW_WINDOWS = Version(_TRANSFORMERS) >= Version("5.16")
#: Another engine must beat the native one by so much: a choice that noise turns helps nobody.
MARGIN = 1.2


@dataclass(frozen=True)
class Engine:
    """sample: the engine. unfit: why it cannot run with this policy, None where it can.

    refills: whether it takes any number of replies, `max_rows` at once. keyed: whether its samples
    depend on their keys alone, not on what is sampled beside them.
    draws_here: whether its tokens are drawn by `noise.draw`, with a temperature for each.
    """

    sample: SampleChunk
    unfit: Callable[[Policy], str | None]
    refills: bool = False
    keyed: bool = False
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


def _sample_own(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[Key], options: SamplingOptions
) -> list[Completion]:
    """By a recorded step where the options say so and no reply waits for another's row.

    Then on a CPU replies to one prompt share rows.
    """
    # HAPO's temperature is another one at every step of training: nothing to record.
    plain = options.captured and not options.entropy_tau
    if plain and len(keys) <= (options.max_rows or len(keys)):
        return sample_fixed(policy, prompts, keys, options)
    if shares_rows(policy, prompts, keys, options):
        return sample_shared(policy, prompts, keys, options)
    return sample_native(policy, prompts, keys, options)


ENGINES: dict[str, Engine] = {
    "native": Engine(_sample_own, _unfit_unpatched, refills=True, keyed=True),
    "generate": Engine(sample_generate, _unfit_unpatched, keyed=True),
    "continuous": Engine(sample_continuous, _unfit_continuous, draws_here=False),
    "unsloth": Engine(sample_unsloth, _unfit_unsloth, keyed=True),
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
    """(engine, one line that says why): the one wanted, or with `auto` the fastest for this job.

    prompts: some of the run's own. options: those of the run, its rows and longest reply among
    them. Raises UsageError when the one wanted cannot run here.
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
    tried = {name: _rate(policy, name, longest, options) for name in fit}
    speeds = {name: speed for name, speed in tried.items() if isinstance(speed, float)}
    compared = [name for name in speeds if name != "native"]
    best = max(compared, key=lambda name: speeds[name], default="native")
    if "native" in speeds and speeds[best] < MARGIN * speeds["native"]:
        best = "native"
    said = ", ".join(f"{n} {_said(tried[n])}" for n in sorted(tried, key=lambda n: n != best))
    rows = _rows(longest, options)
    job = f"{rows} replies of {options.max_new_tokens} tokens"
    return best, f"{best} (tokens a second of {job}: {said})"


def _rows(prompts: Sequence[Sequence[int]], options: SamplingOptions) -> int:
    """Rows of the run, in whole groups of the prompts that are tried."""
    wanted = min(options.max_rows or TRIED_ROWS, TRIED_ROWS)
    return max(1, wanted // len(prompts)) * len(prompts)


def _unfit_for(name: str, options: SamplingOptions) -> str | None:
    drawn = ENGINES[name].draws_here or not options.entropy_tau
    return None if drawn else "it has one temperature for all tokens (token_weights: hapo)"


def _rate(
    policy: Policy, name: str, prompts: Sequence[Sequence[int]], options: SamplingOptions
) -> float | str:
    """Tokens a second of the run's own job, or in words why there is no such number.

    Two calls of the run's rows, with short and with longer replies, tell what a call costs (its
    start, the prompts) and what a token does; a start of seconds weighs little among replies of
    512 tokens and nearly everything among those that can be tried here.
    """
    lengths = [min(options.max_new_tokens, n) for n in TRIED_TOKENS]
    try:
        _seconds(policy, name, prompts, options, lengths[0])  # the first call of all warms up
        short, long = (_seconds(policy, name, prompts, options, n) for n in lengths)
    except (IcpoError, RuntimeError, ValueError, ImportError, AttributeError, TypeError) as error:
        if is_out_of_memory(error):  # at all rows at once; a run goes on with fewer
            empty_cache()
            return "does not fit"
        # Other people's engines are tried, not trusted; `native` is there in any case.
        if name == "native":
            raise
        said = str(error).strip() or type(error).__name__
        return f"failed: {said.splitlines()[0][:80]}"
    return (
        options.max_new_tokens
        * _rows(prompts, options)
        / job_seconds(lengths, (short, long), options.max_new_tokens)
    )


def job_seconds(lengths: Sequence[int], seconds: Sequence[float], wanted: int) -> float:
    """Seconds of a call with replies of `wanted` tokens, on the line through two measured calls.

    A token costs at least a tenth of what the longer call took for one: noise that makes the
    shorter call the slower one is no proof that tokens are free.
    """
    (short, long), (few, many) = lengths, seconds
    least = many / long / 10
    a_token = max((many - few) / (long - short), least) if long > short else many / long
    return max(many - a_token * long, 0.0) + a_token * wanted


def _seconds(
    policy: Policy,
    name: str,
    prompts: Sequence[Sequence[int]],
    options: SamplingOptions,
    length: int,
) -> float:
    """Of one call in which every reply has so many tokens."""
    few = options.but(max_new_tokens=length, engine=name, ignore_eos=True, limit=None, memory=None)
    group = _rows(prompts, options) // len(prompts)
    keys: list[Key] = [("tried", p, g) for p in range(len(prompts)) for g in range(group)]
    started = time.perf_counter()
    with wide_logits(policy):
        ENGINES[name].sample(policy, prompts, keys, few)
    return time.perf_counter() - started


def _said(speed: Any) -> str:
    return f"{speed:,.0f}" if isinstance(speed, float) else str(speed)
