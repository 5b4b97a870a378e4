"""Before the first step: a few replies by the run's own engine, held against training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icpo_lite.core.errors import IcpoError, ModelError
from icpo_lite.core.oom import is_out_of_memory
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs
from icpo_lite.rollout.noise import Key, SamplingOptions
from icpo_lite.rollout.sampler import sample

if TYPE_CHECKING:
    from icpo_lite.core.types import Completion
    from icpo_lite.policy.load import Policy

#: Prompts, replies of each, tokens of a reply at most.
PROMPTS, REPLIES, TOKENS = 2, 2, 16
#: Nats a token, on average, by which rounding may set sampling and training apart. A penalty of
#: 1.1 that only the sampler knows makes 0.17 to 0.33.
ALLOWED, ALLOWED_16_BIT = 0.005, 0.08


def check_sampling(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingOptions,
    logprobs: LogprobOptions,
) -> str:
    """Samples a group of the shortest and of the longest prompt; a line on how it compares.

    Raises ModelError where the engine fails, or where its log-probs are not those that training
    computes of the same tokens: the run would learn from replies of another policy.
    """
    ordered = sorted(prompts, key=len)
    chosen = [ordered[0], ordered[-1]][: max(1, min(PROMPTS, len(ordered)))]
    keys: list[Key] = [("start", p) for p in range(len(chosen))]
    few = sampling.but(max_new_tokens=min(TOKENS, sampling.max_new_tokens))
    with readable_failure(policy, sampling.engine):
        groups = sample(policy, chosen, n=REPLIES, options=few, keys_P=keys)
    rows = [(p, reply) for p, group in zip(chosen, groups, strict=True) for reply in group]
    apart = _differences(policy, rows, logprobs)
    if not len(apart):
        return "its log-probs are not known"
    mean = float(apart.mean())
    allowed = ALLOWED if policy.device.dtype is torch.float32 else ALLOWED_16_BIT
    if not mean <= allowed:
        raise ModelError(
            f"engine {sampling.engine}: expected log-probs within {allowed:g} nats a token of "
            f"training's, found {mean:.3g}: it samples from another distribution than the one "
            "that is trained; use engine: native"
        )
    return f"log-probs within {mean:.1e} nats a token of training's"


@contextlib.contextmanager
def readable_failure(policy: Policy, engine: str) -> Iterator[None]:
    """Whatever a model or an engine raises inside, as one line that names both."""
    try:
        yield
    except IcpoError:
        raise
    except Exception as error:  # a model's own code, an engine's, a driver's: of any type
        if is_out_of_memory(error):
            raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{policy.keys.model_name_or_path}: engine {engine} cannot sample from this model: "
            f"{said}; use another engine or model"
        ) from error


def _differences(
    policy: Policy, rows: Sequence[tuple[Sequence[int], Completion]], options: LogprobOptions
) -> Tensor:
    """|sampled − trained| log-prob of each sampled token, those that the engine does not know
    left out."""
    width = max(len(prompt) + len(reply.token_ids) for prompt, reply in rows)
    ids = torch.full((len(rows), width), policy.pad_id)
    attention = torch.zeros(len(rows), width, dtype=torch.long)
    sampled = torch.zeros(len(rows), width, dtype=torch.bool)
    said = torch.zeros(len(rows), width)
    for i, (prompt, reply) in enumerate(rows):
        start, end = len(prompt), len(prompt) + len(reply.token_ids)
        ids[i, :end] = torch.tensor([*prompt, *reply.token_ids])
        attention[i, :end] = 1
        sampled[i, start:end] = True
        said[i, start:end] = torch.tensor(reply.logprobs)
    device = policy.device.torch_device
    mask = sampled[:, 1:].to(device)
    with torch.no_grad():
        trained, _ = completion_logprobs(
            policy, ids.to(device), attention.to(device), mask, options
        )
    apart = (trained - said[:, 1:].to(device)).abs()[mask]
    return apart[~apart.isnan()]
