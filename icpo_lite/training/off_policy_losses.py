"""Losses for data that another policy may have sampled, HAPO's clip and GMPO's mean of ratios.

All are surrogates of `training.loss`: functions of `Terms` and the recipe's keys. In REC's family
(arXiv 2509.24203, "Group-Relative REINFORCE is secretly an off-policy algorithm") the ratio says
whether a token teaches; whether it also weighs the token is `rec_weight`. The public code
(Trinity-RFT, `rec`) takes rewards less the group's mean, which is scale_rewards: none here. Its
`opmd` has no term of its own and divides the loss by 1 + tau: rec_clip: none with a smaller
learning_rate; Kimi's is its `rec` with the regularizer k2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icpo_lite.recipe.objective_sections import LossKeys

if TYPE_CHECKING:
    from icpo_lite.training.loss import Terms


def rec(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-w A logp on tokens whose ratio r is in range (arXiv 2509.24203, REC).

    one_side: r <= 1 + epsilon_high where A >= 0, r >= 1 - epsilon where A <= 0 (PPO's gradient
    without its weight); two_side: 1 - epsilon <= r <= 1 + epsilon_high; ring: two_side, and beside
    it r <= 1 - rec_ring[0] where A >= 0 and r >= 1 + rec_ring[1] where A <= 0: tokens far out on
    the side from which the gradient leads back.
    w = 1 (rec_weight: none, the paper's NoIS), sg(r) ("ratio": its IS; with one_side that is the
    gradient of PPO's clipped loss) or e^A ("advantage": RED-Weight, at the public code's
    temperature of 1).
    """
    ratio, gains, loses = terms.ratio.detach(), terms.advantages >= 0, terms.advantages <= 0
    above, below = ratio <= 1 + keys.high, ratio >= 1 - keys.epsilon
    if keys.rec_clip == "none":
        inside = torch.ones_like(above | gains)
    elif keys.rec_clip == "one_side":
        inside = (gains & above) | (loses & below)
    else:
        inside = above & below
        if keys.rec_clip == "ring":
            inside = inside | (gains & (ratio <= 1 - keys.rec_ring[0]))
            inside = inside | (loses & (ratio >= 1 + keys.rec_ring[1]))
    weighed = terms.advantages * _rec_weight(keys.rec_weight, ratio, terms.advantages)
    return -weighed * terms.logps * inside, {"clip_ratio/region_mean": ~inside}


def _rec_weight(name: str, ratio: Tensor, advantages: Tensor) -> Tensor | float:
    if name == "ratio":
        return ratio
    return advantages.exp() if name == "advantage" else 1.0


def asymre(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-A logp - tau logp: every token a little likelier (AsymRE, arXiv 2509.24203, 2506.20520).

    The same as a baseline that lies tau below the mean reward, as Trinity-RFT's `asymre` has it,
    where advantages are not divided (scale_rewards: none).
    """
    return -(terms.advantages + keys.off_policy_tau) * terms.logps, {}


def opmd(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-A logp + tau (logp - logp_old)^2 (Kimi's OPMD, arXiv 2509.24203, 2501.12599).

    The paper writes tau / 2; the public code takes the half into tau, and so does this.
    """
    moved = terms.logps - terms.old_logps
    return -terms.advantages * terms.logps + keys.off_policy_tau * moved.square(), {}


def a_lol(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-sg(r) max(A, 0) logp on logged replies (A-LoL, arXiv 2305.14718).

    r = clip(pi / pi_base, 1 - epsilon, 1 + epsilon_high), of the whole reply ("sequence": A-LoL),
    of each token ("token": A-LoL seq.), or 1 ("none": A-LoL ref-free). "kl" is A-LoL KL, r = 1 and
    + beta (logp - logp_base) on the same replies; beside the others `beta` adds what it adds to
    every loss. Replies that are no better than expected are left out. What was expected is the
    group's mean; the paper trains a value head on the base model for it, and its public code draws
    a reply the oftener the better it is. That code takes the mean over replies of their tokens'
    sum; here it is the mean over tokens, smaller by the mean length.
    """
    better = terms.advantages.clamp(min=0)
    if keys.a_lol_ratio == "none" or terms.ref_logps is None:
        return -better * terms.logps, {}
    if keys.a_lol_ratio == "kl":
        held = keys.beta * (terms.logps - terms.ref_logps) * (better > 0)
        return held - better * terms.logps, {}
    log_ratio = (terms.logps - terms.ref_logps).detach()
    if keys.a_lol_ratio == "sequence":
        log_ratio = log_ratio.masked_fill(~terms.mask, 0.0).sum(-1, keepdim=True)
    ratio = log_ratio.exp()
    held = ratio.clamp(1 - keys.epsilon, 1 + keys.high)
    return -held * better * terms.logps, {"clip_ratio/region_mean": held != ratio}


def entropy_clipped(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-min(r A', clip(r, 1 - low, 1 + high) A') with A' and clip by entropy (HAPO, 2509.16591).

    h in [-1, 1] is a token's entropy beside the batch's (`token_weights.entropy_scale`).
    h > 0: high = epsilon_high (1 + h), and A' = A (1 + h) where r has left (1 - low / 2,
    1 + high / 2). h <= 0: low = epsilon (1 - h), and A' = A (1 + h) where r is still inside. Else
    low = epsilon, high = epsilon_high and A' = A. The public code's h is that of a micro-batch
    under the current policy; here it is the step's, under the policy that sampled.
    """
    assert terms.entropy_scale is not None, "chosen where there is one"
    h, ratio = terms.entropy_scale, terms.ratio
    unsure = h > 0
    now = ratio.detach()
    low = torch.where(unsure, torch.full_like(h, keys.epsilon), keys.epsilon * (1 - h))
    high = torch.where(unsure, keys.high * (1 + h), torch.full_like(h, keys.high))
    neutral = (now > 1 - low / 2) & (now < 1 + high / 2)
    moved = torch.where(unsure, ~neutral, neutral)
    advantages = torch.where(moved, terms.advantages * (1 + h), terms.advantages)
    clipped = torch.minimum(torch.maximum(ratio, 1 - low), 1 + high)
    loss = -torch.min(ratio * advantages, clipped * advantages)
    under = (ratio < 1 - low) & (terms.advantages < 0)
    over = (ratio > 1 + high) & (terms.advantages > 0)
    return loss, {
        "clip_ratio/low_mean": under,
        "clip_ratio/high_mean": over,
        "clip_ratio/region_mean": under | over,
    }


def geometric_mean(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-A exp(mean over a reply's tokens of d), d = log r clipped where A gains (GMPO, 2507.20673).

    d = min(log r, epsilon_high) where A > 0, max(log r, -epsilon) elsewhere: the clip is of the
    log-ratio, one-sided as PPO's, and wide: 0.4 in the paper. The geometric mean of a reply's
    ratios does not follow single tokens, as GRPO's arithmetic one does.
    """
    gains, log_ratio = terms.advantages > 0, terms.logps - terms.old_logps
    held = torch.where(gains, log_ratio.clamp(max=keys.high), log_ratio.clamp(min=-keys.epsilon))
    mean = held.masked_fill(~terms.mask, 0.0).sum(-1, keepdim=True)
    mean = mean / terms.mask.sum(-1, keepdim=True).clamp(min=1)
    low = ~gains & (log_ratio < -keys.epsilon)
    high = gains & (log_ratio > keys.high)
    return -terms.advantages * mean.exp(), {
        "clip_ratio/low_mean": low,
        "clip_ratio/high_mean": high,
        "clip_ratio/region_mean": low | high,
    }


OFF_POLICY_LOSSES = {"rec": rec, "asymre": asymre, "opmd": opmd, "a_lol": a_lol}
