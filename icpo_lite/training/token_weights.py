"""Which tokens carry loss, and how much each counts: covariance, entropy, off-policy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from icpo_lite.recipe.objective_sections import CorrectionKeys, LossKeys
from icpo_lite.rollout.noise import LEAST_ENTROPY, EntropyStats
from icpo_lite.training.advantages import STD_EPSILON
from icpo_lite.training.loss import Mean, Peak, mean, token_mean

#: HAPO: tokens above this quantile of log-entropy count as unsure.
UNSURE_QUANTILE = 0.8
#: HAPO: from here on a group's advantages are GRPO's.
MOST_ADVANTAGE = 5.0


def covariance(logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """(A_t - mean A) (logp_t - mean logp) over the tokens under the mask (arXiv 2505.22617).

    logps [B, T], advantages [B] or [B, T], mask [B, T] -> [B, T], 0 outside the mask. A token of
    high covariance is likely and rewarded: training on it costs entropy.
    """
    advantages = (advantages.unsqueeze(1) if advantages.dim() == 1 else advantages).expand_as(mask)
    centred = [
        (values - token_mean(values, mask)).masked_fill(~mask, 0.0)
        for values in (advantages, logps)
    ]
    return centred[0] * centred[1]


def select_tokens(
    keys: LossKeys,
    logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    generator: torch.Generator,
) -> Tensor | None:
    """The tokens that Clip-Cov or KL-Cov acts on, None where neither is on.

    All arguments span the whole step, so that a step does not depend on its split; `logps` [B, T]
    are therefore those of the policy that sampled (the papers' code takes the current policy's,
    micro-batch by micro-batch; on the first update of a batch they are the same).
    KL-Cov takes the top `kl_cov` of all tokens by covariance. Clip-Cov draws `clip_cov` of them
    at random among those between clip_cov_low and clip_cov_high, with a CPU `generator`. Each
    takes at least one, if there is one to take. Returns bool [B, T].
    """
    share = keys.clip_cov if keys.kl_cov is None else keys.kl_cov
    if share is None:
        return None
    selected = torch.zeros_like(mask)
    if not mask.any():
        return selected
    values = covariance(logps.detach(), advantages, mask)
    count = max(1, int(share * int(mask.sum())))
    if keys.kl_cov is not None:
        chosen = values.masked_fill(~mask, -math.inf).flatten().topk(count).indices
    else:
        inside = mask & (values > keys.clip_cov_low) & (values < keys.clip_cov_high)
        among = inside.flatten().nonzero().squeeze(1)
        order = torch.randperm(len(among), generator=generator)[:count]
        chosen = among[order.to(among.device)]
    selected.view(-1)[chosen] = True
    return selected


def high_entropy_tokens(entropy: Tensor, mask: Tensor, share: float) -> Tensor:
    """The `share` of tokens where the policy is least sure, as weights (arXiv 2506.01939).

    entropy, mask [B, T], of as much of the step as the threshold shall be drawn from ->
    1 where the entropy reaches its (1 - share) quantile, else 0.
    """
    if not mask.any():
        return torch.zeros_like(entropy)
    threshold = torch.quantile(entropy.detach()[mask], 1 - share)
    return ((entropy >= threshold) & mask).to(entropy.dtype)


def corrects(keys: CorrectionKeys, engine: str) -> bool:
    """Whether tokens are weighed; with auto, where another program than our loop samples."""
    wish = keys.importance_sampling_correction
    return engine != "native" if wish == "auto" else wish


def sampling_correction(
    old_logps: Tensor,
    sampled_logps: Tensor,
    mask: Tensor,
    keys: CorrectionKeys,
) -> Tensor:
    """Weights pi_old / pi_sampler, where another program than the trainer did the sampling.

    Two programs never agree to the last bit on the same weights, and the difference makes the
    gradient biased: truncated (TIS) and masked (MIS) importance sampling, in TRL's modes.
    truncate clamps a ratio to [clip_min, clip_max]; mask sets it to 0 outside. token: [B, T];
    sequence: the product over the row, [B, 1]. A NaN of the sampler counts as ratio 1. No gradient.
    """
    level, _, action = keys.importance_sampling_mode.partition("_")
    low, high = keys.importance_sampling_clip_min, keys.importance_sampling_clip_max
    log_ratio = (old_logps - sampled_logps).detach().masked_fill(~mask, 0.0).nan_to_num(nan=0.0)
    ratio = (log_ratio.sum(-1, keepdim=True) if level == "sequence" else log_ratio).exp()
    if action == "truncate":
        return ratio.clamp(min=low, max=high)
    outside = ratio < (-math.inf if low is None else low)
    outside |= ratio > (math.inf if high is None else high)
    return ratio.masked_fill(outside, 0.0)


def sampling_mismatch(
    old_logps: Tensor, sampled_logps: Tensor, mask: Tensor, weights: Tensor | None = None
) -> dict[str, Mean | Peak]:
    """|log pi_old - log pi_sampler| of the sampled tokens [B, T]: the same weights, two programs.

    old_logps: the trainer's, before any update on this batch. A NaN of the sampler is left out.
    weights: those of `sampling_correction`, whose mean is told too. TRL's names.
    """
    gap = (old_logps.detach() - sampled_logps).abs()
    known = mask & ~gap.isnan()
    gap = gap.masked_fill(~known, 0.0)
    found: dict[str, Mean | Peak] = {
        "sampling/sampling_logp_difference/mean": Mean(gap.sum(), known.sum()),
        "sampling/sampling_logp_difference/max": Peak(gap.amax() if gap.numel() else gap.sum()),
    }
    if weights is not None:
        found["sampling/importance_sampling_ratio/mean"] = mean(weights, mask)
    return found


def off_policy_rows(
    logps: Tensor, sampled_logps: Tensor, advantages: Tensor, mask: Tensor, threshold: float
) -> Tensor:
    """Weights: 0 for tokens with A < 0 of a row that the policy has left behind, else 1.

    Left behind: mean over tokens of log pi_sampler - log pi above `threshold`
    (DeepSeek-V3.2, arXiv 2512.02556). advantages [B] -> [B, 1], or [B, T] -> [B, T].
    """
    distance = (sampled_logps - logps).detach().masked_fill(~mask, 0.0).nan_to_num(nan=0.0)
    mean = distance.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    advantages = advantages.unsqueeze(1) if advantages.dim() == 1 else advantages
    return ((advantages >= 0) | (mean <= threshold)).to(logps.dtype)


def product(*weights: Tensor | None) -> Tensor | None:
    """Factors of the policy term multiplied, [b, T-1] or [b, 1]; None where all are 1."""
    some = [w for w in weights if w is not None]
    return math.prod(some[1:], start=some[0]) if some else None


def entropy_scale(
    entropy: Tensor, mask: Tensor, *, signed: bool = True
) -> tuple[Tensor, EntropyStats]:
    """HAPO's h in [-1, 1] of each token, and what a sampler needs to tell it of the next ones.

    z = (log H - its 0.8 quantile) / std over the tokens under the mask; h is z over its largest
    value where z > 0, over the size of its smallest where z <= 0 (arXiv 2509.16591). The quantile
    is one of the values, as in the public code; std cancels.
    entropy, mask [B, T] -> h [B, T], 0 outside the mask.
    signed: False divides by the smallest itself, as the public code does, so that h is in [0, 1]
        and the surest token counts like the least sure; the paper wants them held apart.
    """
    logs = entropy.detach().float().clamp(min=LEAST_ENTROPY).log()
    kept = logs[mask]
    if len(kept) < 2:
        return torch.zeros_like(logs), EntropyStats(0.0, 1.0, 0.0, 0.0)
    quantile, std = kept.quantile(UNSURE_QUANTILE, interpolation="nearest"), kept.std()
    z = (kept - quantile) / (std + LEAST_ENTROPY)
    up, down = float(z.max()), float(-z.min())
    side = 1.0 if signed else -1.0
    stats = EntropyStats(
        float(quantile), float(std), 1 / up if up > 0 else 0.0, side / down if down > 0 else 0.0
    )
    return stats.scale(logs).masked_fill(~mask, 0.0), stats


def token_means(rewards_G: Tensor, lengths_G: Tensor) -> Tensor:
    """HAPO's advantage: (r - mean) / (std + 1e-4), both over all tokens of the group, each token
    with its reply's reward (arXiv 2509.16591); the std is the biased one. [G], tokens [G] -> [G].

    GRPO's own, over replies, where that gives any reply 5 or more: one short reply among long ones.
    """
    weights = lengths_G / lengths_G.sum().clamp(min=1)
    centred = rewards_G - (weights * rewards_G).sum()
    variance = (weights * centred.square()).sum()
    found = centred / (variance.sqrt() + STD_EPSILON)
    if bool((found.abs() >= MOST_ADVANTAGE).any()):
        return (rewards_G - rewards_G.mean()) / (rewards_G.std() + STD_EPSILON)
    return found


def spread_rows(advantages_G: Tensor, count: int) -> Tensor:
    """The `count` rows whose advantages have the largest variance, in order (D3S).

    arXiv 2509.22115. They are the k smallest and the count - k largest, for the best k.
    """
    order = torch.sort(advantages_G, stable=True).indices
    best: tuple[float, Tensor] | None = None
    for low in range(count + 1):
        rows = torch.cat([order[:low], order[len(order) - (count - low) :]])
        variance = float(advantages_G[rows].var(correction=0))
        if best is None or variance > best[0] + 1e-12:
            best = variance, rows
    assert best is not None
    return best[1].sort().values


def telling_tokens(entropy: Tensor, advantages: Tensor, mask: Tensor, share: float) -> Tensor:
    """The `share` of tokens of largest |A| H as weights 0 and 1 (D3S, arXiv 2509.22115).

    entropy, advantages, mask [B, T], of a whole mini-batch -> [B, T].
    """
    worth = (advantages.abs() * entropy.detach()).masked_fill(~mask, -math.inf)
    count = math.ceil(share * int(mask.sum()))
    out = torch.zeros_like(entropy)
    if count:
        out.view(-1)[worth.flatten().topk(count).indices] = 1.0
    return out
