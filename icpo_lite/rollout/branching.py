"""ARPO's branches: where the user's turn made the policy less sure, a second way on is sampled.

Part of a prompt's G conversations starts at the prompt. After a user's turn a conversation is
copied, once at most, where (arXiv 2507.19849, as its code has it)

    clip(U(0, 1) - weight (H_now - H_first), 0, 1) <= threshold

with H = -Σ p log p / log V over the ten likeliest first tokens of the reply, H_first that of the
first reply. What is left of the G at the end are fresh conversations, so the budget is the same.
A copy shares the ids up to its branch with its source; both rows are trained on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field

from icpo_lite.policy.wide_logits import wide_logits
from icpo_lite.rollout.conversation import Conversation
from icpo_lite.rollout.engines.prefill import prefill
from icpo_lite.rollout.growing import GrowingTalker
from icpo_lite.rollout.noise import Key, uniforms

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.rollout.engines.prefix_memory import PrefixMemory

#: Tokens that the entropy is summed over, as in ARPO's code.
TOP = 10


class ArpoOptions(BaseModel):
    """When a conversation branches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(0.2, ge=0, description="how much a rise of entropy counts")
    threshold: float = Field(0.5, ge=0, le=1, description="up to which a conversation branches")
    from_start: float = Field(
        0.5, gt=0, le=1, description="share of num_generations that starts at the prompt"
    )


class Brancher:
    """Copies conversations of one step on their way; `converse` asks it after the user's turns.

    budget: conversations of each place in all.
    """

    def __init__(self, talker: GrowingTalker, options: ArpoOptions, budget: int) -> None:
        self.first = max(1, round(options.from_start * budget))
        self._talker, self._options, self._budget = talker, options, budget
        self._taken: dict[Key, int] = {}
        self._started: dict[Key, float] = {}
        self._sources: set[Key] = set()

    def copies(self, talks: Sequence[Conversation]) -> list[Conversation]:
        """New conversations that go on from the same turns as some of these."""
        able = [t for t in talks if self._left(t.place) and self._who(t) not in self._sources]
        self._measure_starts(able)
        rows = [self._talker.row_so_far(talk) for talk in able]
        now = self._entropies(rows)
        made = []
        for talk, entropy in zip(able, now, strict=True):
            rise = entropy - self._started[talk.place]
            if self._left(talk.place) and self._branches(talk, rise):
                self._sources.add(self._who(talk))
                made.append(self._copy(talk))
        return made

    def missing(self, place: Key) -> range:
        """Runs of a place that nothing has been sampled for: its fresh conversations."""
        return range(self._taken.get(place, self.first), self._budget)

    def _entropies(self, rows: Sequence[Sequence[int]]) -> list[float]:
        talker = self._talker
        return opening_entropies(talker.policy, rows, talker.rows_at_once, talker.memory)

    def _left(self, place: Key) -> int:
        return self._budget - self._taken.get(place, self.first)

    def _who(self, talk: Conversation) -> Key:
        return (*talk.place, talk.run)

    def _branches(self, talk: Conversation, rise: float) -> bool:
        (drawn,) = uniforms(("branch", *self._who(talk), len(talk.turns)), 1)
        chance = float(drawn) - self._options.weight * rise
        return min(max(chance, 0.0), 1.0) <= self._options.threshold

    def _copy(self, talk: Conversation) -> Conversation:
        run = self._taken.get(talk.place, self.first)
        self._taken[talk.place] = run + 1
        copy = replace(talk, run=run)
        self._talker.go_on_as(self._who(talk), self._who(copy))
        return copy

    def _measure_starts(self, talks: Sequence[Conversation]) -> None:
        places = list(dict.fromkeys(t.place for t in talks if t.place not in self._started))
        rows = [tuple(self._talker.openings[place]) for place in places]
        found = self._entropies(rows)
        self._started |= dict(zip(places, found, strict=True))


@torch.no_grad()
def opening_entropies(
    policy: Policy,
    rows: Sequence[Sequence[int]],
    at_once: int | None = None,
    memory: PrefixMemory | None = None,
) -> list[float]:
    """H of the next token behind each row of ids: over the likeliest ten, in parts of log V.

    memory: what of the rows was computed before.
    """
    found: list[float] = []
    size = at_once or max(len(rows), 1)
    policy.set_training(False)
    with wide_logits(policy):
        for first in range(0, len(rows), size):
            logits, _, _ = prefill(policy, rows[first : first + size], memory=memory)
            logp = torch.log_softmax(logits.double(), -1)
            top = logp.topk(min(TOP, logp.shape[-1])).values
            entropy = -(top.exp() * top).sum(-1) / math.log(logp.shape[-1])
            found += entropy.tolist()
    return found
