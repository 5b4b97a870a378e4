"""Decoding by a step whose tensors never move, so that a CUDA graph of it can be played again.

A token of a large model on a fast card costs what its launches cost. Here keys and values lie in
buffers of full length, a token is written at a column that is itself a tensor, and every input is
changed in place: the step is recorded once and played for each token. It takes replies that are
all computed at once; where some wait for others `native` decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icpo_lite.core.types import Completion
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.rollout.engines.native import distinct_prompts, no_prepared_mask
from icpo_lite.rollout.engines.prefill import prefill
from icpo_lite.rollout.noise import (
    Key,
    SamplingOptions,
    completions,
    draw,
    end_ids,
    noise_of,
    refuse_nan,
)

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

Step = Callable[[], None]
#: Makes of a step one that does the same, faster.
Capture = Callable[[Step], Step]

#: Tokens between two looks at whether all replies have ended: each look waits for the device.
LOOK_EVERY = 8
#: Tokens of the replies by which a captured step is held against a plain one.
CHECKED_TOKENS = 12
#: Passes before a capture, in which libraries choose their kernels.
WARM_UP = 2


def plain(step: Step) -> Step:
    return step


def captured(step: Step) -> Step:
    """The step as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Step = graph.replay
    return replay


def choose_fixed_step(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    options: SamplingOptions,
    capture: Capture = captured,
) -> tuple[bool, str]:
    """(whether a captured step gives the samples of a plain one here, one line on it).

    prompts: some of the run's own.
    """
    if reason := no_prepared_mask(policy):
        return False, f"decoding is not captured: {reason}"
    few = options.but(max_new_tokens=min(options.max_new_tokens, CHECKED_TOKENS), limit=None)
    few = few.but(ignore_eos=True)
    keys: list[Key] = [("captured", p) for p in range(len(prompts))]
    wanted = sample_fixed(policy, prompts, keys, few, plain)
    try:
        found = sample_fixed(policy, prompts, keys, few, capture)
    except RuntimeError as error:  # what cannot be captured says so in many ways
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        return False, f"decoding is not captured: {said}"
    for number, (a, b) in enumerate(zip(wanted, found, strict=True)):
        if a.token_ids != b.token_ids:
            pairs = enumerate(zip(a.token_ids, b.token_ids, strict=False))
            at = next((i for i, (x, y) in pairs if x != y), len(b.token_ids))
            return False, (
                f"decoding is not captured: token {at} of reply {number} was another than without"
            )
    return True, "decoding is captured as a CUDA graph"


@torch.no_grad()
def sample_fixed(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[Key],
    options: SamplingOptions,
    capture: Capture = captured,
) -> list[Completion]:
    """As `native.sample_native`, all replies at once."""
    with dense_layers(policy):
        step = FixedStep(policy, prompts, keys, options)
        step.run(capture)
    refuse_nan(bool(step.nan))
    return completions(policy, step.tokens, step.logprobs)


class FixedStep:
    """The state of replies [B] that are decoded side by side, changed in place alone.

    drawn, position [B, 1]: the last token and its place in the text. column, at [1]: where the next
    keys and values go, and which token of the replies comes next. mask [B, 1, 1, C]: what attention
    adds, 0 or -inf. over [B]: ended. tokens, logprobs [B, T].
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[Key],
        options: SamplingOptions,
    ) -> None:
        from icpo_lite.rollout.engines.kv_cache import fixed_cache

        self.policy, self.options = policy, options
        device, length = policy.device.torch_device, options.max_new_tokens
        texts, source = distinct_prompts(prompts, len(keys) // len(prompts))
        logits, cache, known = prefill(policy, texts, memory=options.memory)
        rows = torch.tensor(source, device=device)
        width = known.shape[1]
        self.column = torch.full((1,), width, dtype=torch.long, device=device)
        self.cache = fixed_cache(cache, rows, width + length, self.column)
        known = known.index_select(0, rows)
        shown = torch.zeros(len(keys), width + length, dtype=torch.bool, device=device)
        shown[:, :width] = known.bool()
        added = torch.zeros(shown.shape, dtype=policy.device.dtype, device=device)
        self.mask = added.masked_fill(~shown, float("-inf"))[:, None, None]
        self.position = known.sum(-1, keepdim=True) - 1
        self.noise = noise_of(keys, length, device)
        self.ends = torch.tensor(end_ids(policy, options), device=device)
        self.at = torch.zeros(1, dtype=torch.long, device=device)
        self.drawn = torch.zeros(len(keys), 1, dtype=torch.long, device=device)
        self.over = torch.zeros(len(keys), dtype=torch.bool, device=device)
        self.tokens = torch.full((len(keys), length), -1, device=device)
        self.logprobs = torch.zeros(len(keys), length, device=device)
        self.nan = torch.zeros((), dtype=torch.bool, device=device)
        self._draw(logits.index_select(0, rows))

    def run(self, capture: Capture) -> None:
        """Draw until all replies have ended or have their full length."""
        step: Step | None = None
        for drawn in range(1, self.options.max_new_tokens):
            if drawn % LOOK_EVERY == 1 and bool(self.over.all()):
                return
            if step is None:
                before = [tensor.clone() for tensor in self._changing()]
                step = capture(self.advance)  # warming up moves the state
                for tensor, was in zip(self._changing(), before, strict=True):
                    tensor.copy_(was)
            step()

    def advance(self) -> None:
        """One token of every reply."""
        self.mask.index_fill_(-1, self.column, 0.0)
        self.position += 1
        logits = self.policy.causal_lm(
            input_ids=self.drawn,
            attention_mask=self.mask,
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        self.column += 1
        self._draw(logits)

    def _draw(self, logits: Tensor) -> None:
        noise = self.noise.index_select(1, self.at).squeeze(1)
        drawn, logp = draw(logits.float(), noise, self.options)
        self.tokens.index_copy_(1, self.at, drawn.masked_fill(self.over, -1)[:, None])
        self.logprobs.index_copy_(1, self.at, logp.masked_fill(self.over, 0.0)[:, None])
        self.nan |= (logp.isnan() & ~self.over).any()
        self.over |= (drawn[:, None] == self.ends).any(-1)
        self.drawn.copy_(drawn[:, None])
        self.at += 1

    def _changing(self) -> Iterator[Tensor]:
        """All that a step changes, but for keys and values that it writes again."""
        yield from (self.mask, self.position, self.column, self.at, self.drawn)
        yield from (self.over, self.tokens, self.logprobs, self.nan)

    def addresses(self) -> list[Any]:
        """Where the tensors of a step lie."""
        layers = [x for layer in self.cache.layers for x in (layer.keys, layer.values)]
        return [x.data_ptr() for x in (*self._changing(), self.noise, *layers)]
