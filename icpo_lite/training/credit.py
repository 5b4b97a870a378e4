"""Who in a conversation gets the credit: from the rewards of replies to an advantage a turn.

`trajectory` leaves every turn its conversation's advantage. The others give each turn its own. With
r_k the reward of reply k, K replies, and z(x) = (x - mean) / (std + 1e-4) over the group, scaled as
`scale_rewards` and `min_reward_std` say:

    gtpo       z(R_k) over all turns of the group,  R_k = r_k + credit_gamma R_{k+1}
    mapo       z(R_k) over the turns of index k, half; z(r_k) over all turns, half
    igpo       z(g_k) over all turns,  g_k = r'_k + g_{k+1},  r'_k = P_{k+1} - P_k,  r'_K = r_K
    equalized  z(S) of the conversation,  S = mean of its r
    em         z(S) (0.5 + 0.5 (1 - e^{-2 r_k}) / (1 - e^{-2})),  r_k held between 0 and 1
    r2g        z(S) R_k,  R_k = r_k + 0.8 R_{k+1},  S = R_1

gtpo: arXiv 2511.14846. igpo: 2510.14967, P_k the probability of the gold answer before reply k.
equalized, em and r2g: UserRL's turn rewards (arXiv 2509.19736), each a factor of its trajectory's
advantage. credit_score says what S is in all three: the mean of a conversation's rewards, their sum
(the paper), or R_1 at 0.8 (the paper's best, and what its public code has switched on). The paper
writes (turn reward - mean S) / std S instead of the product; with equalized turns that is the same
for every reply, and the public code multiplies, as here. For em that code also has a variant that
divides the factors of a conversation by their mean over its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from icpo_lite.core.types import Group, Intent, Trajectory, Turn
from icpo_lite.recipe import Recipe
from icpo_lite.recipe.objective_sections import AdvantageKeys
from icpo_lite.training.advantages import group_advantages

#: UserRL's discount.
R2G_GAMMA = 0.8

Ragged = list[list[float]]


@dataclass(frozen=True, slots=True)
class Scaled:
    """Values of one group, and how they are compared within it.

    values: of turns (ragged) or, one each, of conversations. by_index: turns are compared with
    those of the same index alone.
    """

    values: Ragged
    by_index: bool = False


@dataclass(frozen=True, slots=True)
class Credit:
    """How a group's turns share the credit.

    scaled: what is scaled within the group, one entry or several. joined: from these, scaled, and
    from the rewards of the turns, the advantage of each turn.
    """

    scaled: Callable[[Group, Recipe], list[Scaled]]
    joined: Callable[[Ragged, list[Ragged]], Ragged]


def returns(rewards: Sequence[float], gamma: float) -> list[float]:
    """R_k = r_k + gamma R_{k+1}."""
    out: list[float] = []
    for reward in reversed(rewards):
        out.append(reward + gamma * (out[-1] if out else 0.0))
    return out[::-1]


def information_gains(trajectory: Trajectory) -> list[float]:
    """P(gold) after each reply less P(gold) before it; of the last one its own reward.

    Where nobody knows the gold answer, every reply's own reward.
    """
    own, before = _rewards(trajectory), [turn.gold_prob for turn in trajectory.replies]
    known = [chance for chance in before if chance is not None]
    if len(known) < len(before):
        return own
    return [*(b - a for a, b in pairwise(known)), own[-1]]


def exponential(reward: float) -> float:
    """UserRL's EM: 0.5 at 0, 1 at 1, rising ever more slowly."""
    held = min(max(reward, 0.0), 1.0)
    return 0.5 + 0.5 * (1 - math.exp(-2 * held)) / (1 - math.exp(-2))


def _gtpo(group: Group, recipe: Recipe) -> list[Scaled]:
    return [Scaled([returns(r, recipe.credit_gamma) for r in _all(group)])]


def _mapo(group: Group, recipe: Recipe) -> list[Scaled]:
    later = [returns(r, recipe.credit_gamma) for r in _all(group)]
    return [Scaled(later, by_index=True), Scaled(_all(group))]


def _igpo(group: Group, recipe: Recipe) -> list[Scaled]:
    return [Scaled([returns(information_gains(t), 1.0) for t in group.trajectories])]


#: What `credit_score` names: a conversation's score, from the rewards of its turns.
SCORES: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda rewards: sum(rewards) / len(rewards),
    "sum": sum,
    "r2g": lambda rewards: returns(rewards, R2G_GAMMA)[0],
}


def _scores(group: Group, recipe: Recipe) -> list[Scaled]:
    usual = "r2g" if recipe.credit == "r2g" else "mean"
    score = SCORES[recipe.credit_score or usual]
    return [Scaled([[score(r)] for r in _all(group)])]


def _as_scaled(rewards: Ragged, scaled: list[Ragged]) -> Ragged:
    """The mean of what was scaled, turn by turn."""
    return [
        [sum(parts) / len(parts) for parts in zip(*rows, strict=True)]
        for rows in zip(*scaled, strict=True)
    ]


def _times(
    factors: Callable[[Sequence[float]], list[float]],
) -> Callable[[Ragged, list[Ragged]], Ragged]:
    """Each turn's factor of its conversation's advantage."""

    def joined(rewards: Ragged, scaled: list[Ragged]) -> Ragged:
        return [
            [whole * factor for factor in factors(row)]
            for row, (whole,) in zip(rewards, scaled[0], strict=True)
        ]

    return joined


CREDITS: dict[str, Credit] = {
    "gtpo": Credit(_gtpo, _as_scaled),
    "mapo": Credit(_mapo, _as_scaled),
    "igpo": Credit(_igpo, _as_scaled),
    "r2g": Credit(_scores, _times(lambda row: returns(row, R2G_GAMMA))),
    "em": Credit(_scores, _times(lambda row: [exponential(r) for r in row])),
    "equalized": Credit(_scores, _times(lambda row: [1.0] * len(row))),
}


def credited(
    groups: Sequence[Group], recipe: Recipe, underspecified_weight: float = 1.0
) -> list[Group]:
    """The groups, in order, with an advantage at every turn as `credit` says.

    underspecified_weight: factor of those on `q*`. `Group.advantages` stay the conversations' own.
    """
    if recipe.credit == "trajectory":
        return list(groups)
    credit = CREDITS[recipe.credit]
    scaled = [credit.scaled(group, recipe) for group in groups]
    stds = _batch_stds(scaled)
    out = []
    for group, some in zip(groups, scaled, strict=True):
        under = group.prompt.intent is Intent.UNDERSPECIFIED
        weight = underspecified_weight if under else 1.0
        joined = credit.joined(
            _all(group), [_scale(s, recipe, std) for s, std in zip(some, stds, strict=True)]
        )
        trajectories = [
            _with(t, [weight * a for a in row])
            for t, row in zip(group.trajectories, joined, strict=True)
        ]
        out.append(replace(group, trajectories=tuple(trajectories)))
    return out


def moves(group: Group) -> bool:
    """Whether any of its tokens has an advantage other than 0."""
    if any(turn.advantage is not None for t in group.trajectories for turn in t.replies):
        return any(turn.advantage for t in group.trajectories for turn in t.replies)
    return any(group.advantages or ())


def _batch_stds(scaled: Sequence[Sequence[Scaled]]) -> list[Tensor]:
    """Of each scaled quantity its std over all groups, for `scale_rewards: batch`."""
    stds = []
    for same in zip(*scaled, strict=True):
        values = torch.tensor(
            [v for one in same for row in one.values for v in row], dtype=torch.float64
        )
        stds.append(values.std(correction=min(1, len(values) - 1)))
    return stds


def _scale(scaled: Scaled, keys: AdvantageKeys, batch_std: Tensor) -> Ragged:
    """z of the values over the group, or over those of the same index."""
    if not scaled.by_index:
        flat = iter(_z([v for row in scaled.values for v in row], keys, batch_std))
        return [[next(flat) for _ in row] for row in scaled.values]
    out = [list(row) for row in scaled.values]
    for k in range(max(map(len, out))):
        rows = [row for row in out if len(row) > k]
        for row, value in zip(rows, _z([row[k] for row in rows], keys, batch_std), strict=True):
            row[k] = value
    return out


def _z(values: Sequence[float], keys: AdvantageKeys, batch_std: Tensor) -> list[float]:
    """A turn that nothing can be compared with has 0."""
    if len(values) < 2:
        return [0.0] * len(values)
    row = torch.tensor([list(values)], dtype=torch.float64)
    found: list[float] = group_advantages(row, keys, batch_std)[0].tolist()
    return found


def _rewards(trajectory: Trajectory) -> list[float]:
    return [turn.reward.total if turn.reward else 0.0 for turn in trajectory.replies]


def _all(group: Group) -> Ragged:
    return [_rewards(t) for t in group.trajectories]


def _with(trajectory: Trajectory, advantages: Sequence[float]) -> Trajectory:
    left = iter(advantages)

    def given(turn: Turn) -> Turn:
        return replace(turn, advantage=next(left)) if turn.role == "assistant" else turn

    return replace(trajectory, turns=tuple(given(turn) for turn in trajectory.turns))
