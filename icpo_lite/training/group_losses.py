"""Losses of whole replies beside the others of their group, and how their gradient is split.

With s_i the sum over reply i's tokens of log pi - log pi_before, A_i its advantage, n replies in
a group (`scale_rewards: none` makes differences of A those of the rewards):

    reg_grpo  mean_i (A_i - (s_i - mu) / sigma)^2            mu, sigma of s in the group
    refuel    mean_{i<j} ((s_i - s_j) - eta (A_i - A_j))^2
    copg      mean_{i<j} ((A_i - A_j) - beta (s_i - s_j))^2 / (2 beta)

before: the policy that sampled, for copg the base model. A group's loss is a function f of its
sums alone, so its gradient is sum_i df/ds_i grad(log pi of reply i): the derivatives are computed
once over a mini-batch, and each reply then is REINFORCE with -df/ds_i for an advantage, in whatever
micro-batches. So a group may be split, and nothing but the sums is held for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icpo_lite.recipe.objective_sections import LossKeys

if TYPE_CHECKING:
    from icpo_lite.training.batch import Batch
    from icpo_lite.training.loss import Terms

#: Squared and added to the variance of s: on the first update of a batch all s are 0.
LEAST_STD = 1e-4

GroupLoss = Callable[[Tensor, Tensor, LossKeys], Tensor]


def reg_grpo(sums_G: Tensor, advantages_G: Tensor, keys: LossKeys) -> Tensor:
    """mean (A - (s - mu) / sigma)^2: regression of the advantage (Reg-GRPO, arXiv 2506.07464).

    No clip, no minimum. sigma is the unbiased std, as of the advantages; 1e-8 is added to its
    square (ours), since all s are 0 on the first update, where the paper does not say what is done.
    """
    centred = sums_G - sums_G.mean()
    sigma = (centred.square().sum() / max(len(sums_G) - 1, 1) + LEAST_STD**2).sqrt()
    return (advantages_G - centred / sigma).square().mean()


def refuel(sums_G: Tensor, advantages_G: Tensor, keys: LossKeys) -> Tensor:
    """((s_1 - s_2) - eta (R_1 - R_2))^2 over all pairs of a group (REFUEL, arXiv 2410.04612).

    The paper takes two continuations of one prefix; a group has many, each pair counts alike.
    """
    return _over_pairs(sums_G, advantages_G, lambda s, r: (s - keys.refuel_eta * r).square())


def copg(sums_G: Tensor, advantages_G: Tensor, keys: LossKeys) -> Tensor:
    """(R_1 - R_2 - beta (s_1 - s_2))^2 / (2 beta), s against the base model (arXiv 2406.19185).

    Its gradient is the paper's: -(R'_1 - R'_2) grad log pi(y_1) + ... with R' = R - beta s.
    """
    beta = keys.beta
    return _over_pairs(sums_G, advantages_G, lambda s, r: (r - beta * s).square() / (2 * beta))


def _over_pairs(
    sums_G: Tensor, advantages_G: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    i, j = torch.triu_indices(len(sums_G), len(sums_G), offset=1)
    return loss(sums_G[i] - sums_G[j], advantages_G[i] - advantages_G[j]).mean()


LOSSES_OF_GROUPS: dict[str, GroupLoss] = {"reg_grpo": reg_grpo, "refuel": refuel, "copg": copg}


def derivatives(
    sums_B: Tensor, advantages_B: Tensor, group_B: Tensor, spoken_B: Tensor, keys: LossKeys
) -> tuple[Tensor, float]:
    """(-B df/ds of each row, mean of f over groups), f the loss of a row's group.

    f is averaged over the rows that are in it, so that all rows of a mini-batch weigh alike. Rows
    that say nothing (spoken False) and rows without another to compare with have 0.
    """
    function = LOSSES_OF_GROUPS[keys.loss_type]
    sums = sums_B.detach().to(torch.float64).requires_grad_(True)
    advantages = advantages_B.to(torch.float64)
    with torch.enable_grad():
        total = sums.sum() * 0
        for number in group_B.unique().tolist():
            rows = torch.nonzero((group_B == number) & spoken_B).flatten()
            if len(rows) > 1:
                total = total + len(rows) * function(sums[rows], advantages[rows], keys)
        (slopes,) = torch.autograd.grad(total, sums)
    return -slopes.to(advantages_B.dtype), float(total.detach()) / max(len(sums_B), 1)


def compared(
    batch: Batch, now: Tensor | None, before: Tensor | None, mask: Tensor, keys: LossKeys
) -> tuple[Tensor, float]:
    """`derivatives` of a mini-batch's rows. now, before, mask [B, T-1]: log-probs of its tokens
    under the policy as it is and as it was; None where both are the same."""
    sums = torch.zeros(len(batch), device=mask.device)
    if now is not None and before is not None:
        sums = (now - before).masked_fill(~mask, 0.0).sum(-1)
    own = batch.advantages.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)
    return derivatives(sums, own, batch.group, mask.any(-1), keys)


def coefficients(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-c logp with c = -df/ds in the place of the advantage; the loss that is told is f's own."""
    return -terms.advantages * (terms.logps - terms.logps.detach()), {}
