"""From rewards to advantages: pure functions of the reward matrix [P, G]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from icpo_lite.core.errors import NumericsError
from icpo_lite.core.types import (
    Group,
    Intent,
)

if TYPE_CHECKING:
    pass

ScaleRewards = Literal["group", "batch", "none"]

#: Added to the standard deviation, as in TRL; with rewards of 0 and 1 it changes an advantage by
#: about 0.02 %.
STD_EPSILON = 1e-4
#: Rewards of a group that differ by no more than this count as equal. A reward is a float sum of
#: components, and 0.1 + 0.2 against 0.3 is not a difference to learn from.
EQUAL_REWARDS = 1e-6


def zero_variance(rewards_PG: Tensor) -> Tensor:
    """Which groups cannot teach anything, because all their rewards are equal.

    rewards_PG [P, G] -> bool [P].
    """
    return rewards_PG.amax(dim=1) - rewards_PG.amin(dim=1) <= EQUAL_REWARDS


def group_advantages(
    rewards_PG: Tensor, scale_rewards: ScaleRewards = "group", batch_std: Tensor | None = None
) -> Tensor:
    """A = (r - mean of its group) / (std + 1e-4), the group-relative advantage of GRPO.

    rewards_PG [P, G], G >= 2 -> [P, G] in the same dtype.

    scale_rewards: "group" divides by the group's std (GRPO, arXiv 2402.03300), "batch" by
    the std over all P·G rewards (arXiv 2508.08221), "none" not at all (Dr. GRPO, 2503.20783).
    The std is the unbiased one (divided by G - 1), as in TRL; the papers do not say which, and
    with the biased one every advantage grows by sqrt(G / (G - 1)), 7 % at G = 8. A group of
    equal rewards gets exactly 0, so that later stages can drop its rows.
    batch_std: what "batch" divides by where these groups are not the whole step; None takes the
    std over `rewards_PG`.

    Raises NumericsError on a reward that is not finite, naming its place; ValueError on G < 2.
    """
    if rewards_PG.dim() != 2 or rewards_PG.shape[1] < 2:
        raise ValueError(f"expected rewards [P, G] with G >= 2, found {list(rewards_PG.shape)}")
    if not torch.isfinite(rewards_PG).all():
        prompt, sample = torch.nonzero(~torch.isfinite(rewards_PG))[0].tolist()
        found = rewards_PG[prompt, sample].item()
        raise NumericsError(
            f"expected finite rewards, found {found} for sample {sample} of prompt {prompt} of "
            "the step; mend the reward function that gave it"
        )
    centred = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    if scale_rewards == "group":
        centred = centred / (rewards_PG.std(dim=1, keepdim=True) + STD_EPSILON)
    elif scale_rewards == "batch":
        spread = rewards_PG.std() if batch_std is None else batch_std
        centred = centred / (spread + STD_EPSILON)
    elif scale_rewards != "none":
        raise ValueError(f"expected scale_rewards group, batch or none, found {scale_rewards!r}")
    return centred.masked_fill(zero_variance(rewards_PG).unsqueeze(1), 0.0)


def select_groups(
    teaches_P: Tensor, underspecified_P: Tensor, wanted_underspecified: int, wanted_complete: int
) -> list[int]:
    """Dynamic sampling: groups with something to teach, at most as many as wanted of each kind.

    DAPO (arXiv 2503.14476) keeps groups with 0 < #right < G. A question back is neither right
    nor wrong, so here the spread of the reward decides (`zero_variance`), which for rewards of 0
    and 1 is the same.
    Counting each kind apart keeps the share of `q*` where the recipe wants it; dropping groups
    without doing so lets it drift, since all-ask and all-answer groups do not come equally often.

    teaches_P, underspecified_P: bool [P] of all groups sampled for this step, refills at the end.
    Returns the numbers of the kept groups, in order.
    """
    teaches = teaches_P.tolist()
    left = {True: wanted_underspecified, False: wanted_complete}
    kept = []
    for index, underspecified in enumerate(underspecified_P.tolist()):
        if teaches[index] and left[underspecified]:
            left[underspecified] -= 1
            kept.append(index)
    return kept


def hpt_gate(correct_PG: Tensor, gate: float) -> Tensor:
    """Which prompts learn from their demonstration instead of from their group (arXiv 2509.04419).

    correct_PG [P, G], 1 or True where the reply is right -> bool [P]: True where the share of
    right replies is at most `gate`. A True prompt trains on its demonstration alone (SFT), a
    False one on its group alone; the other side's rows must leave the step, not only its mask.
    """
    return correct_PG.to(torch.float32).mean(dim=1) <= gate


def advantage_groups(
    groups: Sequence[Group], scale_rewards: ScaleRewards, underspecified_weight: float = 1.0
) -> list[Group]:
    """Every group with the advantages of its trajectories (`advantages.group_advantages`).

    A group of one row, a demonstration that is learned from by itself, gets 1.
    underspecified_weight: factor of the advantages on `q*`. On its rewards it would be lost: a
        group is divided by its own spread.
    """
    if not groups:
        return []
    rewards = [torch.tensor(g.rewards, dtype=torch.float64) for g in groups]
    batch_std = torch.cat(rewards).std(correction=min(1, sum(map(len, rewards)) - 1))
    out = []
    for group, row_G in zip(groups, rewards, strict=True):
        under = group.prompt.intent is Intent.UNDERSPECIFIED
        if len(row_G) == 1:
            advantages_G = torch.ones_like(row_G)
        else:
            advantages_G = group_advantages(row_G[None], scale_rewards, batch_std)[0]
        weighted = advantages_G * (underspecified_weight if under else 1.0)
        out.append(replace(group, advantages=tuple(weighted.tolist())))
    return out
