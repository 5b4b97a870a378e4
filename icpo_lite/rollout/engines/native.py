"""This package's decode loop: prompts computed once, ended rows replaced or cut out, keyed noise.

    admit replies that wait -> draw a token of each row -> cut ended rows -> next logits

All rows end in the cache's last column, so that one token is computed for all of them at once.
While replies wait, an ended row's place goes to the next one; then ended rows are cut out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from icpo_lite.core.types import Completion
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.policy.layer_kinds import all_see_all
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
    from icpo_lite.rollout.engines.prefix_memory import PrefixMemory

#: New prompts are computed once so great a share of the rows is free: one alone costs a pass.
REFILL_SHARE = 1 / 16
#: Share of rows that live, at or below which the others are cut out: copying the cache at every
#: end costs more.
CUT_SHARE = 0.75
#: What there is of each row beside keys and values.
_OF_ROWS = ("reply", "step", "drawn", "noise", "position", "mask")
#: Columns that no row needs any more and that are worth a copy of the cache.
IDLE_COLUMNS = 64


@torch.no_grad()
def sample_native(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[Key], options: SamplingOptions
) -> list[Completion]:
    """One reply for each key, `max_rows` at once; keys come in equal runs, one run a prompt."""
    with dense_layers(policy):
        return _Decoder(policy, prompts, keys, options).run()


def no_prepared_mask(policy: Policy) -> str | None:
    """Why attention cannot be told here which columns count; None where it can.

    Only attention to all tokens, by sdpa or eager, takes a mask [B, 1, 1, W] as it is. Else the
    model makes its own of every token's, and looks at a GPU's numbers as it does.
    """
    config = policy.causal_lm.config.get_text_config()
    named = getattr(config, "_attn_implementation", None)
    if named not in ("sdpa", "eager"):
        return f"attention by {named} takes no prepared mask"
    return None if all_see_all(policy.causal_lm.config) else "not every layer sees all tokens"


def prepares_mask(policy: Policy) -> bool:
    """Whether the mask of a decoding step is handed on as it is.

    sdpa alone: eager wants numbers to add, which would be made anew for every token.
    """
    sdpa = policy.causal_lm.config.get_text_config()._attn_implementation == "sdpa"
    return sdpa and no_prepared_mask(policy) is None


def distinct_prompts(
    prompts: Sequence[Sequence[int]], group: int
) -> tuple[list[tuple[int, ...]], list[int]]:
    """The prompts that differ, and which of them each reply has; `group` replies a prompt."""
    place: dict[tuple[int, ...], int] = {}
    source = [place.setdefault(tuple(p), len(place)) for p in prompts for _ in range(group)]
    return list(place), source


def moves_forward(first: Sequence[int | None]) -> list[tuple[int, int]]:
    """Moves (from, to) after which the oldest rows stand in front, none of them twice.

    first: the first column of each row, None of a free place. A free place takes the oldest row of
    the quarters behind its own; inside a quarter order does not matter.
    """
    quarter = max(1, -(-len(first) // 4))
    oldest = sorted((c, row) for row, c in enumerate(first) if c is not None)
    moves: list[tuple[int, int]] = []
    for place in [row for row, c in enumerate(first) if c is None]:
        behind = (row for _, row in oldest if row // quarter > place // quarter)
        if (row := next(behind, None)) is not None:
            oldest = [(c, r) for c, r in oldest if r != row]
            moves.append((row, place))
    return moves


class _Prompts(NamedTuple):
    """Computed prompts: logits [U, V] of what comes next, cache, mask [U, W], their numbers."""

    logits: Tensor
    cache: Any
    mask: Tensor
    numbers: list[int]


class _Decoder:
    """The rows that are computed, and the replies so far.

    reply [B]: which reply each row belongs to, the number of replies where the row is free.
    step [B]: tokens drawn. drawn [B]: the last one. noise [B, T]. position [B]: of the last token
    in its text. mask [B, W]: whether a column of the cache belongs to the row.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[Key],
        options: SamplingOptions,
    ) -> None:
        self.policy, self.options, self.keys = policy, options, keys
        self.prompts = [tuple(p) for p in prompts]
        self.group = len(keys) // len(prompts)
        self.rows = min(options.max_rows or len(keys), len(keys))
        self.waiting = deque(range(len(keys)))
        self.computed: _Prompts | None = None  # the prompt of replies that wait
        device, length = policy.device.torch_device, options.max_new_tokens
        self.ends = torch.tensor(end_ids(policy, options), device=device)
        # One line more than replies: what free rows draw goes there.
        self.tokens = torch.full((len(keys) + 1, length), -1, device=device)
        self.logprobs = torch.zeros(len(keys) + 1, length, device=device)
        self.nan = torch.zeros((), dtype=torch.bool, device=device)
        self.prepared = prepares_mask(policy)
        self.cache: Any = None
        self.owner: list[int] = []  # which reply each row was made for, -1 once it is remembered

    def run(self) -> list[Completion]:
        from icpo_lite.rollout.engines.kv_cache import takes_new_rows

        self._begin()
        refills = takes_new_rows(self.cache)
        while (live := self._live()) or self.waiting:
            if self.waiting and live == 0:
                self._begin()
                continue
            free = len(self.reply) - live
            if self.waiting and refills and free >= REFILL_SHARE * len(self.reply):
                self._refill()
                continue
            if not self.waiting and live <= CUT_SHARE * len(self.reply):
                self._cut()
            self._draw(slice(None), self._next_logits())
        self._remember()
        return completions(self.policy, self.tokens[:-1], self.logprobs[:-1])

    def _live(self) -> int:
        """Rows that have not ended; the one word with the device a token."""
        live, nan = torch.stack([(self.reply < len(self.keys)).sum(), self.nan.long()]).tolist()
        refuse_nan(bool(nan))
        return int(live)

    # ------------------------------------------------------------------------------ new rows

    def _begin(self) -> None:
        """New rows in a new cache, which the next replies that wait share out."""
        from icpo_lite.rollout.engines.kv_cache import take_rows

        self._remember()
        self.cache = None  # what it held goes before new prompts are computed
        replies = self._next(self.rows)
        found, source = self._prompts_of(replies)
        self.computed = self._still_wanted(found)
        if len(found.numbers) < len(replies):  # else every reply has a prompt of its own
            take_rows(found.cache, source)
        self.cache, self.mask = found.cache, found.mask.index_select(0, source).bool()
        self.owner = list(replies)
        self.reply = torch.tensor(replies, device=self.mask.device)
        self.step = torch.zeros_like(self.reply)
        self.drawn = torch.zeros_like(self.reply)
        self.position = self.mask.sum(-1) - 1
        self.noise = self._noise(replies)
        self._draw(slice(None), found.logits.index_select(0, source))

    def _refill(self) -> None:
        """The next replies that wait in the places of rows that have ended."""
        self._remember()
        if self.policy.device.torch_device.type == "cpu":
            self._move_forward()
        free = (self.reply == len(self.keys)).nonzero().squeeze(-1)
        replies = self._next(len(free), self._known())
        found, source = self._prompts_of(replies)
        self.computed = self._still_wanted(found)
        self._put(free[: len(replies)], replies, found, source)

    def _move_forward(self) -> None:
        """Old rows take free places among older ones: rows of like length lie side by side.

        A CPU computes them in pieces (`policy.lean_forward`), each as wide as its longest row.
        """
        from icpo_lite.rollout.engines.kv_cache import put_rows

        first = self.mask.byte().argmax(-1).tolist()
        free = (self.reply == len(self.keys)).tolist()
        moves = moves_forward([None if f else c for c, f in zip(first, free, strict=True)])
        if not moves:
            return
        source, target = torch.tensor(moves, device=self.mask.device).T
        put_rows(self.cache, target, self.cache, source)
        for name in _OF_ROWS:
            held = getattr(self, name)
            held[target] = held[source]
        self.reply[source] = len(self.keys)
        for here, there in moves:
            self.owner[there], self.owner[here] = self.owner[here], -1

    def _put(self, rows: Tensor, replies: Sequence[int], found: _Prompts, source: Tensor) -> None:
        from icpo_lite.rollout.engines.kv_cache import put_rows

        self._fit_width(found.mask.shape[1])
        put_rows(self.cache, rows, found.cache, source)
        mask = found.mask.index_select(0, source)
        self.mask[rows] = torch.nn.functional.pad(
            mask.bool(), (self.mask.shape[1] - mask.shape[1], 0)
        )
        for row, reply in zip(rows.tolist(), replies, strict=True):
            self.owner[row] = reply
        self.reply[rows] = torch.tensor(replies, device=rows.device)
        self.step[rows] = 0
        self.position[rows] = mask.sum(-1) - 1
        self.noise[rows] = self._noise(replies)
        self._draw(rows, found.logits.index_select(0, source))

    def _fit_width(self, wanted: int) -> None:
        """Columns for prompts of this width; without those that no living row needs, where many."""
        from icpo_lite.rollout.engines.kv_cache import drop_columns, widen

        width = self.mask.shape[1]
        living = self.mask[self.reply < len(self.keys)]
        first = int(living.long().argmax(-1).min()) if len(living) else width
        idle = min(first, width - wanted)
        if idle >= IDLE_COLUMNS:
            drop_columns(self.cache, idle)
            self.mask = self.mask[:, idle:]
        elif idle < 0:
            widen(self.cache, -idle)
            self.mask = torch.nn.functional.pad(self.mask, (-idle, 0))

    # ------------------------------------------------------------------------- who comes next

    def _next(self, count: int, known: int = 0) -> list[int]:
        """The next `count` replies that wait, of the computed prompt alone where it has some."""
        most = min(count, len(self.waiting), known or count)
        return [self.waiting.popleft() for _ in range(most)]

    def _known(self) -> int:
        """How many of the next replies belong to a prompt that is computed already."""
        if self.computed is None or not self.waiting:
            return 0
        number, first = self.computed.numbers[0], self.waiting[0]
        return self.group * (number + 1) - first if first // self.group == number else 0

    def _prompts_of(self, replies: Sequence[int]) -> tuple[_Prompts, Tensor]:
        """The prompts of these replies, equal ones computed once, and which each reply has."""
        numbers = [reply // self.group for reply in replies]
        if self.computed is not None and self.computed.numbers == sorted(set(numbers)):
            return self.computed, torch.zeros(len(replies), dtype=torch.long).to(self.tokens.device)
        texts, source = distinct_prompts([self.prompts[n] for n in numbers], 1)
        logits, cache, mask = prefill(self.policy, texts, memory=self.options.memory)
        of = dict(zip(source, numbers, strict=True))
        found = _Prompts(logits, cache, mask, [of[u] for u in range(len(texts))])
        return found, torch.tensor(source, device=mask.device)

    def _still_wanted(self, found: _Prompts) -> _Prompts | None:
        """A copy of the prompt that the next reply has, where it is among these."""
        from icpo_lite.rollout.engines.kv_cache import chosen_rows

        number = self.waiting[0] // self.group if self.waiting else -1
        if number not in found.numbers:
            return None
        row = torch.tensor([found.numbers.index(number)], device=found.mask.device)
        cache = chosen_rows(found.cache, row)
        return _Prompts(found.logits[row], cache, found.mask[row], [number])

    def _noise(self, replies: Sequence[int]) -> Tensor:
        keys = [self.keys[reply] for reply in replies]
        return noise_of(keys, self.options.max_new_tokens, self.policy.device.torch_device)

    def _remember(self) -> None:
        """Keys and values of rows that have ended, where the options have a memory for them."""
        memory, free = self.options.memory, len(self.keys)
        if memory is None or not self.owner:
            return
        ended = [row for row, reply in enumerate(self.reply.tolist()) if reply == free]
        rows = [row for row in ended if self.owner[row] >= 0]
        if not rows:
            return
        replies = [self.owner[row] for row in rows]
        for row in rows:
            self.owner[row] = -1
        where = torch.tensor(rows, device=self.mask.device)
        prompts = [self.prompts[reply // self.group] for reply in replies]
        remember_replies(memory, prompts, self.tokens[replies], self.cache, where, self.mask)

    # ------------------------------------------------------------------------------ one token

    def _draw(self, rows: Tensor | slice, logits: Tensor) -> None:
        """The next token of these rows, from their logits."""
        reply, step, last = self.reply[rows], self.step[rows], self.options.max_new_tokens - 1
        noise = self.noise[rows].gather(1, step[:, None]).squeeze(1)
        drawn, logp = draw(logits.float(), noise, self.options)
        self.tokens[reply, step] = drawn
        self.logprobs[reply, step] = logp
        free = len(self.keys)
        self.nan |= (logp.isnan() & (reply < free)).any()
        over = torch.isin(drawn, self.ends) | (step == last)
        self.reply[rows] = reply.masked_fill(over, free)
        self.step[rows] = (step + 1).clamp(max=last)
        self.drawn[rows] = drawn

    def _next_logits(self) -> Tensor:
        """Logits [B, V] after the tokens that were drawn last."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.reply), 1)], dim=1)
        self.position = self.position + 1
        out: Tensor = self.policy.causal_lm(
            input_ids=self.drawn[:, None],
            attention_mask=self.mask[:, None, None] if self.prepared else self.mask.long(),
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        return out

    def _cut(self) -> None:
        """Only the rows that have not ended."""
        from icpo_lite.rollout.engines.kv_cache import take_rows

        self._remember()
        rows = (self.reply < len(self.keys)).nonzero().squeeze(-1)
        take_rows(self.cache, rows)
        self.owner = [self.owner[row] for row in rows.tolist()]
        for name in _OF_ROWS:
            setattr(self, name, getattr(self, name)[rows])


def remember_replies(
    memory: PrefixMemory,
    prompts: Sequence[tuple[int, ...]],
    tokens: Tensor,
    cache: Any,
    rows: Tensor,
    mask: Tensor,
) -> None:
    """Keys and values of n replies that have ended.

    tokens [n, T]: -1 after a reply's end. rows [n]: where they stand in the cache. mask [B, W]: of
    all its rows. The last token was drawn and never computed.
    """
    from icpo_lite.rollout.engines.kv_cache import states_of

    said = [tuple(i for i in row if i >= 0)[:-1] for row in tokens.tolist()]
    wanted = {text: n for n, text in enumerate(zip(prompts, said, strict=True))}
    wanted = {text: n for text, n in wanted.items() if memory.wants(*text)}
    if not wanted:
        return
    chosen = rows[torch.tensor(list(wanted.values()), device=rows.device)]
    length = [[len(prompt) + len(reply)] for prompt, reply in wanted]
    seen = mask[chosen].bool()
    columns = seen & (seen.cumsum(-1) <= torch.tensor(length, device=mask.device))
    for text, states in zip(wanted, states_of(cache, chosen, columns) or (), strict=False):
        memory.add(*text, states)
