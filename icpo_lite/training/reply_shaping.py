"""What is made of advantages before they are learned from: ASPO, HAPO and D3S.

advantage_shaping: aspo   A' = A + clip(push (x - mean x) / mean L, -limit |A|, limit |A|) on
                          right replies, x their length or where they ask, L lengths in tokens
                          (arXiv 2508.19201, whose x is where code is first run)
token_weights: hapo       A over a group's tokens, moved with the clip by entropy (2509.16591)
token_weights: d3s        the replies of a step that spread A most, of these the tokens of largest
                          |A| H, both shares growing to 1 over the run (2509.22115)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from icpo_lite.core.types import QUESTIONS, Group, Trajectory
from icpo_lite.rollout.noise import EntropyStats
from icpo_lite.training.advantages import with_advantages
from icpo_lite.training.demonstrations import succeeds
from icpo_lite.training.token_weights import (
    entropy_scale,
    spread_rows,
    telling_tokens,
    token_means,
)

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


class ShapingOptions(BaseModel):
    """A shaping without numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AspoOptions(ShapingOptions):
    """The numbers of ASPO's bias."""

    metric: Literal["shorter", "ask_early"] = Field(
        "shorter", description="what is wanted of a right reply: few tokens, or an early question"
    )
    # The paper's delta, -2 for the first call's place, and its k.
    push: float = Field(-2.0, lt=0, description="bias of a reply that is a mean length off")
    limit: float = Field(0.7, gt=0, le=1, description="the most that it moves A, as a share of |A|")


class HapoOptions(ShapingOptions):
    """HAPO's temperature, and its scale of entropies."""

    tau: float = Field(
        0.05, ge=0, lt=1, description="how much hotter, and colder, the temperature of a token gets"
    )
    signed: bool = Field(
        True, description="whether sure tokens count below 0; false is the public code's scale"
    )


class D3sOptions(ShapingOptions):
    """The shares of D3S, at the start of a run."""

    replies: float = Field(0.5, gt=0, le=1, description="share of the replies")
    across: bool = Field(
        True, description="replies of all groups are chosen together; false: of each by itself"
    )
    tokens: float = Field(0.2, gt=0, le=1, description="share of their tokens")
    anneal: float | None = Field(
        1.0, gt=0, description="share of max_steps over which both grow to 1; null: they stay"
    )


SHAPING_OPTIONS: dict[str, type[ShapingOptions]] = {"none": ShapingOptions, "aspo": AspoOptions}
TOKEN_OPTIONS: dict[str, type[ShapingOptions]] = {
    "none": ShapingOptions,
    "hapo": HapoOptions,
    "d3s": D3sOptions,
}


def grown(share: float, step: int, over_steps: float | None) -> float:
    """A share that grows linearly to 1 over so many steps; None: it stays."""
    if over_steps is None:
        return share
    return min(1.0, share + (1 - share) * step / max(over_steps, 1.0))


def aspo(
    advantages_G: Tensor, place_G: Tensor, counts_G: Tensor, lengths_G: Tensor, options: AspoOptions
) -> Tensor:
    """The advantages of a group, those of right replies moved (see above).

    place_G: x of each reply. counts_G bool: right replies that have an x; both means are over
    these. A' keeps its sign, since limit is at most 1.
    """
    if int(counts_G.sum()) < 2:
        return advantages_G
    off = (place_G - place_G[counts_G].mean()) / lengths_G[counts_G].mean().clamp(min=1)
    most = options.limit * advantages_G.abs()
    bias = torch.minimum(torch.maximum(options.push * off, -most), most)
    return torch.where(counts_G, advantages_G + bias, advantages_G)


class ReplyShaping:
    """What a recipe makes of whole replies' advantages, and which replies it keeps."""

    def __init__(self, recipe: Recipe) -> None:
        self.aspo = recipe.bind(
            "advantage_shaping", SHAPING_OPTIONS[recipe.advantage_shaping["name"]], skip=["name"]
        )
        self.tokens = token_options(recipe)
        self.max_steps = recipe.max_steps

    def __call__(self, groups: Sequence[Group], underspecified_weight: float) -> list[Group]:
        """Each group with its advantages shaped; HAPO makes them anew."""
        if isinstance(self.tokens, HapoOptions):
            rows = [self._over_tokens(group) for group in groups]
            groups = with_advantages(groups, rows, underspecified_weight)
        if isinstance(self.aspo, AspoOptions):
            groups = [self._biased(group, self.aspo) for group in groups]
        return list(groups)

    def kept(self, groups: Sequence[Group], step: int) -> list[Group]:
        """The groups with the replies that are learned from (D3S), all of them elsewhere."""
        options = self.tokens
        if not isinstance(options, D3sOptions):
            return list(groups)
        share = grown(options.replies, step, _over(options, self.max_steps))
        if options.across:
            return _fewer_of_all(groups, share)
        return [_fewer(group, share) for group in groups]

    def _over_tokens(self, group: Group) -> Tensor:
        rewards = torch.tensor(group.rewards, dtype=torch.float64)
        lengths = torch.tensor([_length(t) for t in group.trajectories], dtype=torch.float64)
        return token_means(rewards, lengths)

    def _biased(self, group: Group, options: AspoOptions) -> Group:
        rows = group.trajectories
        lengths = torch.tensor([_length(t) for t in rows], dtype=torch.float64)
        places = [_asked_at(t) if options.metric == "ask_early" else _length(t) for t in rows]
        counts = [
            place is not None and succeeds(t) and not t.demonstration
            for place, t in zip(places, rows, strict=True)
        ]
        shaped = aspo(
            torch.tensor(group.advantages, dtype=torch.float64),
            torch.tensor([place or 0.0 for place in places], dtype=torch.float64),
            torch.tensor(counts),
            lengths,
            options,
        )
        return replace(group, advantages=tuple(shaped.tolist()))


class TokenShaping:
    """What a recipe makes of single tokens: HAPO's h, D3S's choice. stats: HAPO's, of the last
    batch, by which the next one is sampled.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.options = token_options(recipe)
        self.max_steps = recipe.max_steps
        self.stats: EntropyStats | None = None

    @property
    def by_entropy(self) -> bool:
        """Whether the entropies of the policy that sampled are needed."""
        return isinstance(self.options, HapoOptions | D3sOptions)

    @property
    def tau(self) -> float:
        """How far temperature follows entropy; 0 where it does not."""
        return self.options.tau if isinstance(self.options, HapoOptions) else 0.0

    def scale(self, entropy: Tensor | None, mask: Tensor) -> Tensor | None:
        """HAPO's h [B, T] of a batch; its figures stay for sampling."""
        if entropy is None or not isinstance(self.options, HapoOptions):
            return None
        h, self.stats = entropy_scale(entropy, mask, signed=self.options.signed)
        return h

    def weights(
        self, advantages: Tensor, entropy: Tensor | None, rows: Tensor, mask: Tensor, step: int
    ) -> Tensor | None:
        """D3S's weights of a mini-batch's tokens. advantages, mask [b, T]; entropy [B, T]."""
        options = self.options
        if entropy is None or not isinstance(options, D3sOptions):
            return None
        share = grown(options.tokens, step, _over(options, self.max_steps))
        return telling_tokens(entropy[rows], advantages, mask, share)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON; empty before the first batch and without HAPO."""
        return {} if self.stats is None else self.stats._asdict()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.stats = EntropyStats(**state) if state else None


def token_options(recipe: Recipe) -> ShapingOptions:
    """The options of `token_weights`. Raises RecipeError, with the key's line."""
    name = recipe.token_weights["name"]
    return recipe.bind("token_weights", TOKEN_OPTIONS[name], skip=["name"])


def _over(options: D3sOptions, max_steps: int) -> float | None:
    return None if options.anneal is None else options.anneal * max_steps


def _fewer(group: Group, share: float) -> Group:
    """At least two replies of a group; a demonstration alone stays."""
    count = max(2, math.ceil(share * len(group.trajectories)))
    if count >= len(group.trajectories) or group.advantages is None:
        return group
    rows = spread_rows(torch.tensor(group.advantages, dtype=torch.float64), count).tolist()
    return _rows_of(group, rows)


def _fewer_of_all(groups: Sequence[Group], share: float) -> list[Group]:
    """The replies that spread the advantages of the whole step most; groups without one go.

    At least two replies; a demonstration alone stays and counts as none of them.
    """
    places = [
        (i, j)
        for i, group in enumerate(groups)
        for j in range(len(group.trajectories))
        if len(group.trajectories) > 1 and group.advantages is not None
    ]
    count = max(2, math.ceil(share * len(places)))
    if count >= len(places):
        return list(groups)
    values = [(groups[i].advantages or ())[j] for i, j in places]
    rows = spread_rows(torch.tensor(values, dtype=torch.float64), count).tolist()
    kept: dict[int, list[int]] = {}
    for i, j in (places[row] for row in rows):
        kept.setdefault(i, []).append(j)
    chosen = {i for i, _ in places}
    return [
        _rows_of(group, kept[i]) if i in chosen else group
        for i, group in enumerate(groups)
        if i in kept or i not in chosen
    ]


def _rows_of(group: Group, rows: Sequence[int]) -> Group:
    advantages = group.advantages or ()
    return replace(
        group,
        trajectories=tuple(group.trajectories[i] for i in rows),
        advantages=tuple(advantages[i] for i in rows),
    )


def _length(trajectory: Trajectory) -> float:
    return float(sum(len(reply.token_ids) for reply in trajectory.replies))


def _asked_at(trajectory: Trajectory) -> float | None:
    """Tokens that the policy had said when its first question ended; None where it asks nothing.

    Within a reply by its characters: of one of 20 tokens whose question mark stands half way, 10.
    """
    said = 0.0
    for reply in trajectory.replies:
        tokens = float(len(reply.token_ids))
        if reply.verdict is not None and reply.verdict.response_type in QUESTIONS:
            mark = reply.content.find("?") + 1 or len(reply.content)
            return said + tokens * mark / max(len(reply.content), 1)
        said += tokens
    return None
