"""Decoding on a CPU where replies that have said the same so far are one row.

Eight replies to a prompt of which the model is sure are the same words for long: what comes next
after them is computed once, and each reply draws from it with its own noise. A row splits where its
replies draw different tokens. A CPU computes rows one after the other, so that each row less is
time; a GPU computes a few more for nothing. It takes replies that are all computed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icpo_lite.core.types import Completion
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.rollout.engines.native import (
    CUT_SHARE,
    distinct_prompts,
    prepares_mask,
    remember_replies,
)
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


def shares_rows(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[Key], options: SamplingOptions
) -> bool:
    """Whether replies are better sampled here: on a CPU, all at once, some to the same prompt."""
    on_cpu = policy.device.torch_device.type == "cpu"
    at_once = len(keys) <= (options.max_rows or len(keys))
    return on_cpu and at_once and len({tuple(p) for p in prompts}) < len(keys)


@torch.no_grad()
def sample_shared(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[Key], options: SamplingOptions
) -> list[Completion]:
    """As `native.sample_native`, all replies at once."""
    with dense_layers(policy):
        return _Sharing(policy, prompts, keys, options).run()


class _Sharing:
    """Rows [B] of distinct texts, and the replies [M] that have not ended.

    live [M]: their numbers. row [M]: the row that holds what each has said. mask [B, W], position
    [B]: of the last token in its text.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[Key],
        options: SamplingOptions,
    ) -> None:
        self.policy, self.options = policy, options
        group, length = len(keys) // len(prompts), options.max_new_tokens
        self.prompts = [tuple(p) for p in prompts for _ in range(group)]
        # Rows of like length side by side: a CPU leaves out most columns of longer ones.
        shortest_first = sorted(prompts, key=len)
        texts, _ = distinct_prompts(shortest_first, group)
        place = {text: row for row, text in enumerate(texts)}
        self.logits, self.cache, known = prefill(policy, texts, memory=options.memory)
        self.mask, self.position = known.bool(), known.sum(-1) - 1
        self.row = torch.tensor([place[text] for text in self.prompts])
        self.live = torch.arange(len(keys))
        self.prepared = prepares_mask(policy)
        self.noise = noise_of(keys, length, known.device)
        self.ends = torch.tensor(end_ids(policy, options))
        self.tokens = torch.full((len(keys), length), -1)
        self.logprobs = torch.zeros(len(keys), length)

    def run(self) -> list[Completion]:
        for step in range(self.options.max_new_tokens):
            drawn = self._draw(step)
            if not len(self.live):
                break
            self._compute(self._split(drawn))
        self._remember(self.live, self.row)
        return completions(self.policy, self.tokens, self.logprobs)

    def _draw(self, step: int) -> Tensor:
        """The next token of each reply; those that it ends are no longer among the live ones."""
        noise = self.noise[self.live, step]
        drawn, logp = draw(self.logits.float(), noise, self.options, self.row)
        refuse_nan(bool(logp.isnan().any()))
        self.tokens[self.live, step], self.logprobs[self.live, step] = drawn, logp
        over = torch.isin(drawn, self.ends)
        if step == self.options.max_new_tokens - 1:
            over = torch.ones_like(over)
        if bool(over.any()):
            self._remember(self.live[over], self.row[over])
            self.live, self.row = self.live[~over], self.row[~over]
        return drawn[~over]

    def _split(self, drawn: Tensor) -> Tensor:
        """The next token of each row, a row for each that was drawn after the same text."""
        words = self.logits.shape[-1]
        pairs, place = (self.row * words + drawn).unique(return_inverse=True)
        parent, token = pairs // words, pairs % words
        rows = self._in_place(parent)
        if rows is None:
            self._take(parent)
            rows = torch.arange(len(parent))
        self.row = rows[place]
        return token.new_zeros(len(self.mask)).index_copy_(0, rows, token)

    def _in_place(self, parent: Tensor) -> Tensor | None:
        """Where texts go that go on from these rows, while few rows are without a reply.

        The first of a row's texts stays where the row is, others take free rows or new ones. A row
        without a reply is computed on: a copy of the others would cost more. None where a copy of
        all rows is better, or there is no room for more.
        """
        from icpo_lite.rollout.engines.kv_cache import copy_rows, spare_rows

        count = len(self.mask)
        if len(parent) <= CUT_SHARE * count:
            return None
        more = torch.cat([parent.new_zeros(1, dtype=torch.bool), parent[1:] == parent[:-1]])
        wanted = int(more.sum())
        if not wanted:
            return parent
        free = torch.ones(count, dtype=torch.bool).index_fill_(0, parent, False).nonzero()[:, 0]
        added = max(0, wanted - len(free))
        if added > spare_rows(self.cache):
            return None
        target = torch.cat([free, torch.arange(count, count + added)])[:wanted]
        copy_rows(self.cache, parent[more], target, count + added)
        order = torch.arange(count + added).index_copy_(0, target, parent[more])
        self.mask, self.position = self.mask[order], self.position[order]
        return parent.masked_scatter(more, target)

    def _take(self, parent: Tensor) -> None:
        """A copy of these rows, each as often as it is named, and room for some more."""
        from icpo_lite.rollout.engines.kv_cache import take_rows

        take_rows(self.cache, parent, spare=min(len(self.live), 2 * len(parent)) // 8)
        self.mask, self.position = self.mask[parent], self.position[parent]

    def _compute(self, token: Tensor) -> None:
        """What comes after each row's next token."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], dim=1)
        self.position = self.position + 1
        self.logits = self.policy.causal_lm(
            input_ids=token[:, None],
            attention_mask=self.mask[:, None, None] if self.prepared else self.mask.long(),
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]

    def _remember(self, ended: Tensor, rows: Tensor) -> None:
        """Keys and values of replies that have ended, where the options have a memory for them."""
        if (memory := self.options.memory) is None or not len(ended):
            return
        prompts = [self.prompts[reply] for reply in ended.tolist()]
        remember_replies(memory, prompts, self.tokens[ended], self.cache, rows, self.mask)
