"""SPO's credit within a reply: what each stretch of it did for the reward (arXiv 2505.23564).

A reply is cut in front of tokens that were unlikely, so that every segment holds as many of them
as the others. The policy samples on from each cut; V there is the mean reward of what comes of it,
V at the start that of the group, V at the end the reply's own reward:

    A of segment k's tokens = V_{k+1} - V_k

This is SPO-chain. Its mask, with which unlikely tokens alone have their segment's A, is
`only_unlikely`; the paper then divides by their number, here all tokens are counted, which is a
smaller step in the same direction. Its tree, in which samples from a cut are replies that are
trained on too, is left out. Groups of equal rewards are not sampled on from (ours): their segments
have 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from icpo_lite.core.types import Group, Intent, Prompt, Trajectory, Turn
from icpo_lite.rollout.groups import as_turn
from icpo_lite.rollout.noise import completion
from icpo_lite.rollout.sampler import sample
from icpo_lite.training.dynamic_sampling import teaches

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.rollout.noise import Key, SamplingOptions

Judged = Callable[[list[Group]], list[Group]]


class SpoOptions(BaseModel):
    """Where replies are cut, and how often they are sampled on from there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    below: float = Field(0.9, gt=0, le=1, description="probability below which a token is unlikely")
    most: int = Field(3, ge=1, description="cuts of a reply at most")
    samples: int = Field(4, ge=1, description="replies that are sampled on from each cut")
    only_unlikely: bool = Field(False, description="whether likely tokens have no advantage")


def cuts(logprobs: Sequence[float], below: float, most: int) -> list[int]:
    """Places in front of unlikely tokens, not the first, that part these evenly into segments."""
    unlikely = [i for i, logp in enumerate(logprobs) if i and logp < math.log(below)]
    if len(unlikely) <= most:
        return unlikely
    return [unlikely[len(unlikely) * k // (most + 1)] for k in range(1, most + 1)]


def segment_advantages(
    length: int, places: Sequence[int], values: Sequence[float], start: float, end: float
) -> tuple[float, ...]:
    """Each token's V_{k+1} - V_k. values: at the places where the reply is cut."""
    bounds, worth = [0, *places, length], [start, *values, end]
    return tuple(
        worth[k + 1] - worth[k]
        for k in range(len(bounds) - 1)
        for _ in range(bounds[k + 1] - bounds[k])
    )


def masked(shares: Sequence[float], logprobs: Sequence[float], below: float) -> tuple[float, ...]:
    """Each token's share where its probability is below that, else 0."""
    least = math.log(below)
    return tuple(
        share if logp < least else 0.0 for share, logp in zip(shares, logprobs, strict=True)
    )


@dataclass(frozen=True)
class _Cut:
    """A reply up to one of its cuts. place: its group, its number in it, and tokens before it."""

    trajectory: Trajectory
    place: tuple[int, int, int]

    @property
    def before(self) -> tuple[int, ...]:
        return self.trajectory.reply.token_ids[: self.place[2]]


@dataclass(frozen=True)
class Segments:
    """Samples on from the cuts of a step's replies. spread: of rewards that teach nothing."""

    options: SpoOptions
    seed: int
    spread: float

    @classmethod
    def of(cls, recipe: Recipe) -> Segments | None:
        """As the recipe says; None where replies are not cut."""
        if recipe.segments["name"] == "none":
            return None
        options = recipe.bind("segments", SpoOptions, skip=["name"])
        return cls(options, recipe.seed, recipe.min_reward_spread)

    def credited(
        self,
        groups: Sequence[Group],
        policy: Policy,
        judged: Judged,
        sampling: SamplingOptions,
        step: int,
        underspecified_weight: float,
    ) -> list[Group]:
        """The groups with an advantage for each token. judged: gives samples their rewards."""
        teaching = [i for i, group in enumerate(groups) if teaches(group, self.spread)]
        found = [
            _Cut(t, (i, number, place))
            for i in teaching
            for number, t in enumerate(groups[i].trajectories)
            for place in cuts(t.reply.logprobs, self.options.below, self.options.most)
        ]
        sampled = self._sampled(found, policy, sampling, step)
        means = [sum(g.rewards) / len(g.rewards) for g in (judged(sampled) if sampled else [])]
        values = {cut.place: mean for cut, mean in zip(found, means, strict=True)}
        return [
            self._with(group, i, values, underspecified_weight) if i in teaching else group
            for i, group in enumerate(groups)
        ]

    def _sampled(
        self, found: Sequence[_Cut], policy: Policy, sampling: SamplingOptions, step: int
    ) -> list[Group]:
        """The whole replies that come of each cut, none longer than a reply may be."""
        if not found:
            return []
        prompts = [(*cut.trajectory.prompt_ids, *cut.before) for cut in found]
        room = policy.max_positions - max(map(len, prompts))
        options = sampling.but(max_new_tokens=max(1, min(sampling.max_new_tokens, room)))
        keys: list[Key] = [("spo", self.seed, step, *cut.place) for cut in found]
        replies = sample(policy, prompts, n=self.options.samples, options=options, keys_P=keys)
        return [
            self._group(policy, cut, [reply.token_ids for reply in some], sampling.max_new_tokens)
            for cut, some in zip(found, replies, strict=True)
        ]

    def _group(
        self, policy: Policy, cut: _Cut, more: Sequence[tuple[int, ...]], longest: int
    ) -> Group:
        prompt: Prompt = cut.trajectory.prompt

        def whole(ids: tuple[int, ...]) -> Trajectory:
            said = (*cut.before, *ids)[:longest]
            turn: Turn = as_turn(completion(policy, said, (math.nan,) * len(said)))
            return Trajectory(prompt, cut.trajectory.prompt_ids, (turn,))

        return Group(prompt, tuple(whole(ids) for ids in more))

    def _with(
        self, group: Group, number: int, values: dict[tuple[int, int, int], float], weight: float
    ) -> Group:
        start = sum(group.rewards) / len(group.rewards)
        counts = weight if group.prompt.intent is Intent.UNDERSPECIFIED else 1.0
        rows: list[Any] = []
        for i, trajectory in enumerate(group.trajectories):
            reply = trajectory.reply
            places = cuts(reply.logprobs, self.options.below, self.options.most)
            shares = segment_advantages(
                len(reply.token_ids),
                places,
                [values[number, i, place] for place in places],
                start,
                group.rewards[i],
            )
            if self.options.only_unlikely:
                shares = masked(shares, reply.logprobs, self.options.below)
            learned = replace(reply, advantage=tuple(counts * share for share in shares))
            rows.append(replace(trajectory, turns=(*trajectory.turns[:-1], learned)))
        return replace(group, trajectories=tuple(rows))
