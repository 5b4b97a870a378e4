"""From rewards to advantages: pure functions of the reward matrix [P, G]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from icpo_lite.core.errors import NumericsError
from icpo_lite.core.types import Group, Intent
from icpo_lite.recipe.objective_sections import AdvantageKeys

#: Added to the standard deviation, as in TRL; with rewards of 0 and 1 it changes an advantage by
#: about 0.02 %.
STD_EPSILON = 1e-4


def zero_variance(rewards_PG: Tensor, spread: float) -> Tensor:
    """Which groups cannot teach anything, because their rewards differ by no more than `spread`.

    A reward is a float sum of components, and 0.1 + 0.2 against 0.3 is not a difference to learn
    from. rewards_PG [P, G] -> bool [P].
    """
    return rewards_PG.amax(dim=1) - rewards_PG.amin(dim=1) <= spread


def group_advantages(
    rewards_PG: Tensor, keys: AdvantageKeys, batch_std: Tensor | None = None
) -> Tensor:
    """A = (r - mean of its group) / (std + 1e-4), the group-relative advantage of GRPO.

    rewards_PG [P, G], G >= 2 -> [P, G] in the same dtype.

    scale_rewards: "group" divides by the group's std (GRPO, arXiv 2402.03300), "batch" by
    the std over all P·G rewards (arXiv 2508.08221), "none" not at all (Dr. GRPO, 2503.20783).
    The std is the unbiased one (divided by G - 1), as in TRL; the papers do not say which, and
    with the biased one every advantage grows by sqrt(G / (G - 1)), 7 % at G = 8. A group's std
    counts as min_reward_std at least: else one reply that earns 0.05 in a group of zeros has the
    advantage of one that earns 1. Where rewards differ by no more than min_reward_spread, all
    advantages are exactly 0.
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
            "the step; correct the reward function that gave it"
        )
    centred = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    if keys.scale_rewards == "group":
        std = rewards_PG.std(dim=1, keepdim=True).clamp(min=keys.min_reward_std)
        centred = centred / (std + STD_EPSILON)
    elif keys.scale_rewards == "batch":
        spread = rewards_PG.std() if batch_std is None else batch_std
        centred = centred / (spread + STD_EPSILON)
    flat = zero_variance(rewards_PG, keys.min_reward_spread)
    return centred.masked_fill(flat.unsqueeze(1), 0.0)


def select_groups(
    teaches_P: Tensor, underspecified_P: Tensor, wanted_underspecified: int, wanted_complete: int
) -> list[int]:
    """Dynamic sampling: groups with something to teach, at most as many as wanted of each kind.

    DAPO (arXiv 2503.14476) keeps groups with 0 < #right < G. A question back is neither right
    nor wrong, so here the spread of the reward decides (`zero_variance`), which for rewards of 0
    and 1 is the same.
    Counting each kind apart keeps the fraction of `q*` where the recipe wants it; dropping groups
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
    groups: Sequence[Group],
    keys: AdvantageKeys,
    underspecified_weight: float = 1.0,
    component_weights: Mapping[str, float] | None = None,
) -> list[Group]:
    """Every group with the advantages of its trajectories (`group_advantages`).

    A group of one row, a demonstration that is learned from by itself, gets 1.
    underspecified_weight: factor of the advantages on `q*`. On its rewards it would be lost: a
        group is divided by its own spread. component_weights: of the reward's components under
        normalize_then_sum; 1 where none is named.
    """
    if not groups:
        return []
    if keys.multi_objective_aggregation == "normalize_then_sum":
        advantages = _normalized_components(groups, keys, component_weights or {})
    else:
        rewards = [torch.tensor(g.rewards, dtype=torch.float64) for g in groups]
        batch_std = torch.cat(rewards).std(correction=min(1, sum(map(len, rewards)) - 1))
        advantages = [_of_group(row_G, keys, batch_std) for row_G in rewards]
    return with_advantages(groups, advantages, underspecified_weight)


def with_advantages(
    groups: Sequence[Group], advantages: Sequence[Tensor], underspecified_weight: float
) -> list[Group]:
    """Each group with its advantages [G], those of `q*` times their weight."""
    out = []
    for group, row_G in zip(groups, advantages, strict=True):
        under = group.prompt.intent is Intent.UNDERSPECIFIED
        weighted = row_G * (underspecified_weight if under else 1.0)
        out.append(replace(group, advantages=tuple(weighted.tolist())))
    return out


def _of_group(rewards_G: Tensor, keys: AdvantageKeys, batch_std: Tensor | None) -> Tensor:
    if len(rewards_G) == 1:
        return torch.ones_like(rewards_G)
    return group_advantages(rewards_G[None], keys, batch_std)[0]


def _normalized_components(
    groups: Sequence[Group], keys: AdvantageKeys, weights: Mapping[str, float]
) -> list[Tensor]:
    """GDPO (arXiv 2601.05242), as TRL's normalize_then_sum: Σ_k w_k (r_k - mean_k) / (std_k + 1e-4)
    in each group, then centred and divided by its own std over the step; the authors' version for
    TRL does the same, the one for verl takes that mean and std over tokens instead of replies.

    A component that some trajectories of a step lack counts as 0 there.
    """
    rows = [[t.reward.components if t.reward else {} for t in g.trajectories] for g in groups]
    names = sorted({name for group in rows for reward in group for name in reward})
    within = keys.model_copy(update={"scale_rewards": "group"})
    sums = []
    for group in rows:
        total = torch.zeros(len(group), dtype=torch.float64)
        for name in names:
            values = [reward.get(name, 0.0) for reward in group]
            values_G = torch.tensor(values, dtype=torch.float64)
            if len(group) > 1:
                total += weights.get(name, 1.0) * group_advantages(values_G[None], within)[0]
        sums.append(total)
    samples = torch.cat([total for total in sums if len(total) > 1] or sums)
    if len(samples) < 2:
        return [torch.ones_like(total) for total in sums]
    mean, std = samples.mean(), samples.std() + STD_EPSILON
    return [(total - mean) / std if len(total) > 1 else torch.ones_like(total) for total in sums]
