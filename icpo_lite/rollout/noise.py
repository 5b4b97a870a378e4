"""What every engine draws with: options, keyed noise, the token that a number chooses.

Randomness is one uniform number a token, keyed by (seed, step, prompt, sample), turned into a
token by the inverse of the cumulative distribution. So a sample depends on neither the other rows
nor on how a batch was split.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, InstanceOf, SkipValidation
from torch import Tensor

from icpo_lite.core.errors import NumericsError
from icpo_lite.core.oom import RowLimit
from icpo_lite.core.types import Completion
from icpo_lite.recipe.section import default_of
from icpo_lite.recipe.sections import DrawKeys
from icpo_lite.rollout.engines.prefix_memory import PrefixMemory

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

Key = tuple[int | str, ...]

#: Entropies below it count as it, so that their logarithm is a number.
LEAST_ENTROPY = 1e-6


class EntropyStats(NamedTuple):
    """The log-entropies of a step's tokens, by which HAPO tells the sure from the unsure.

    quantile: above it a token is unsure. std: of all. up, down: one over the largest standardised
    value above the quantile, and over the size of the smallest below it; a negative `down` turns
    the sure ones up as well (`token_weights: {name: hapo, signed: false}`).
    """

    quantile: float
    std: float
    up: float
    down: float

    def scale(self, log_entropy: Tensor) -> Tensor:
        """h in [-1, 1], of any shape."""
        z = (log_entropy - self.quantile) / (self.std + LEAST_ENTROPY)
        return torch.where(z > 0, z * self.up, z * self.down).clamp(-1.0, 1.0)


class SamplingOptions(DrawKeys):
    """How the replies of one call are drawn: a recipe's keys, and what the call adds to them.

    max_rows: rows computed at once (None: all). limit: learns how many rows fit, for the calls
    after; None learns anew each time. ignore_eos: every reply has `max_new_tokens` tokens, to
    measure the worst case. captured: whether the native engine decodes by a recorded step
    (`engines.fixed_step`). memory: of what was computed, for prompts that go on from it; the native
    engine alone has a use for it. entropy_tau, entropy_stats: a token's temperature is
    `temperature` (1 + entropy_tau h), h of `EntropyStats.scale` (HAPO, arXiv 2509.16591).
    `options.but(temperature=0)` is the same with some changed.
    """

    max_new_tokens: int = Field(256, ge=1)
    max_rows: int | None = Field(None, ge=1)
    limit: SkipValidation[RowLimit | None] = Field(None, repr=False, exclude=True)
    ignore_eos: bool = False
    captured: bool = False
    memory: InstanceOf[PrefixMemory] | None = Field(None, repr=False, exclude=True)
    entropy_tau: float = Field(0.0, ge=0, lt=1)
    entropy_stats: EntropyStats | None = None

    def __init__(
        self,
        max_new_tokens: int = 256,
        temperature: float = default_of(DrawKeys, "temperature"),
        **keys: Any,
    ) -> None:
        keys |= {"max_new_tokens": max_new_tokens, "temperature": temperature}
        super().__init__(**keys)

    @property
    def truncates(self) -> bool:
        """Whether top-k or top-p cut the distribution that is drawn from."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1.0)


def end_ids(policy: Policy, options: SamplingOptions) -> list[int]:
    """Tokens that end a reply; one that does not exist where none shall."""
    return [-1] if options.ignore_eos else sorted(policy.end_ids)


def uniforms(key: Key, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) that depend on `key` alone."""
    generator = np.random.Generator(np.random.Philox(key=struct.unpack("<2Q", _digest(key))))
    return generator.random(count)


def seed_of(*keys: Key) -> int:
    """A seed of 63 bits that depends on the keys alone, for engines with a generator of theirs."""
    return int.from_bytes(_digest(keys)[:8], "little") >> 1


def _digest(key: tuple[object, ...]) -> bytes:
    return hashlib.blake2b(repr(key).encode(), digest_size=16).digest()


def noise_of(keys: Sequence[Key], length: int, device: torch.device) -> Tensor:
    """Uniform noise [B, length], float64, a row for each key."""
    return torch.from_numpy(np.stack([uniforms(key, length) for key in keys])).to(device)


@contextlib.contextmanager
def own_random_state(policy: Policy) -> Iterator[None]:
    """What is drawn from torch's generators inside, or seeded, changes nothing outside."""
    device = policy.device.torch_device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def draw(
    logits: Tensor, noise: Tensor, options: SamplingOptions, line: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Tokens [M] and their log-probs [M] from logits [B, V] and uniform noise [M].

    line [M]: the logits that each is drawn from; without it each has its own.
    Log-probs are those at `temperature` before top-k and top-p: what training computes. They are
    NaN where the logits are, which the caller looks at (`refuse_nan`): every look at a GPU's
    numbers waits for them.
    """
    z = logits if options.temperature in (0, 1) else logits / options.temperature
    top = z.amax(-1, keepdim=True)
    weights = (z - top).exp()
    total = weights.sum(-1, keepdim=True)
    if options.temperature == 0:
        token = _of(z.argmax(-1), line)
    else:
        token = _drawn(_tempered(logits, weights, options).double(), noise, options, line)
    chosen = z.gather(-1, token[:, None]).squeeze(-1) if line is None else z[line, token]
    top, total = (_of(x.squeeze(-1).double(), line) for x in (top, total))
    return token, (chosen.double() - top - total.log()).to(logits.dtype)


def _of(each: Tensor, line: Tensor | None) -> Tensor:
    """What there is of each line [B, …], for those that are drawn from: [M, …]."""
    return each if line is None else each.index_select(0, line)


def _drawn(weights: Tensor, noise: Tensor, options: SamplingOptions, line: Tensor | None) -> Tensor:
    """Tokens [M] in proportion to the weights [B, V], among those that top-k and top-p leave."""
    whole = weights.sum(-1, keepdim=True)
    if options.top_k:
        floor = weights.topk(min(options.top_k, weights.shape[-1])).values[:, -1:]
        weights = weights.where(weights >= floor, 0.0)
    if options.top_p < 1.0:
        ordered, index = weights.sort(descending=True)
        before = ordered.cumsum(-1) - ordered
        weights = torch.zeros_like(weights).scatter(
            -1, index, ordered.where(before < options.top_p * whole, 0.0)
        )
    cumulative = _of(weights.cumsum(-1), line)
    # Strictly below the total, so that rounding never selects a token of probability 0.
    target = (noise * cumulative[:, -1])[:, None]
    token = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return token.clamp(max=weights.shape[-1] - 1)


def refuse_nan(found: bool) -> None:
    """Raises NumericsError where a log-prob of a drawn token was found to be NaN."""
    if found:
        raise NumericsError(
            "sampling: the model's logits are NaN; expected numbers; use dtype: bfloat16 or "
            "float32, or a lower learning_rate"
        )


def _tempered(logits: Tensor, weights: Tensor, options: SamplingOptions) -> Tensor:
    """The weights [B, V] that are drawn by: hotter where the model is unsure (HAPO).

    Entropy is taken at temperature 1, as in the public code. What is told of a token stays its
    log-prob at `temperature`.
    """
    if options.entropy_stats is None or not options.entropy_tau:
        return weights
    plain = logits.log_softmax(-1)
    entropy = -(plain.exp() * plain).nan_to_num(nan=0.0).sum(-1, keepdim=True)
    h = options.entropy_stats.scale(entropy.clamp(min=LEAST_ENTROPY).log())
    z = logits / (options.temperature * (1 + options.entropy_tau * h))
    return (z - z.amax(-1, keepdim=True)).exp()


def left_pad(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Ids [B, T] and mask [B, T], filled up on the left so that all rows end together."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


def completion(policy: Policy, token_ids: Sequence[int], logprobs: Sequence[float]) -> Completion:
    """A reply of these tokens, the end token included where it ended."""
    ids = tuple(token_ids)
    return Completion(
        text=policy.decode_reply(ids),
        token_ids=ids,
        logprobs=tuple(logprobs),
        stop_reason="eos" if ids and ids[-1] in policy.end_ids else "length",
    )


def completions(policy: Policy, tokens: Tensor, logprobs: Tensor) -> list[Completion]:
    """The replies of rows [B, T] that are filled up with -1 after their end."""
    out, known = [], dict[tuple[int, ...], Completion]()  # many replies are the same words
    for row, logps in zip(tokens.tolist(), logprobs.tolist(), strict=True):
        ids = tuple(row[: row.index(-1)] if -1 in row else row)
        if ids not in known:
            known[ids] = completion(policy, ids, ())
        out.append(replace(known[ids], logprobs=tuple(logps[: len(ids)])))
    return out
