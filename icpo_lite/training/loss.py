"""The group-sampling objectives, as pure functions of padded tensors.

Shapes here: B rows of a micro-batch, T tokens, padded; `mask` [B, T] is True where a token
carries loss. What stands under a False mask is never read, so it may be anything, NaN included.

A step's loss is one number over all its micro-batches. `loss_normalizer` sees the masks of the
whole optimisation step, before the first of them is computed; `policy_loss` divides a
micro-batch's sum by it. Adding up the micro-batches' losses (and so their gradients) then gives
the step's loss exactly, however the step was split — but for `bnpo`, whose definition is a mean
over each micro-batch's own tokens.

    per_token = surrogate(terms)            LOSSES[loss_type]; a row that is a demonstration:
                                            DEMONSTRATIONS[keys.demonstrations]
    per_token = weights · per_token         sampling_correction, high_entropy_tokens, ...
    per_token = per_token + beta · k3
    loss      = reduce(per_token) / normalizer.loss - entropy_coef · Σ entropy / normalizer.tokens

A new objective is one function `surrogate(terms, keys)` and one entry in `LOSSES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from icpo_lite.recipe.objective_sections import LossKeys
from icpo_lite.training.group_losses import LOSSES_OF_GROUPS, coefficients
from icpo_lite.training.off_policy_losses import OFF_POLICY_LOSSES, entropy_clipped, geometric_mean


class Mean(NamedTuple):
    """Sum and number of values: means that can be joined. Tensors, so that no GPU is waited for."""

    total: Tensor
    weight: Tensor


class Peak(NamedTuple):
    """The largest of some values; of several micro-batches, the largest of all."""

    value: Tensor


class LossOutput(NamedTuple):
    """loss: a scalar with its gradient. metrics: by TRL's names, for `mean_metrics`."""

    loss: Tensor
    metrics: dict[str, Mean]


def mean_metrics(parts: Iterable[Mapping[str, Mean | Peak]]) -> dict[str, float]:
    """The metrics of several micro-batches as means (or peaks) over all their tokens."""
    sums: dict[str, Mean] = {}
    peaks: dict[str, float] = {}
    for part in parts:
        for name, mean in part.items():
            if isinstance(mean, Peak):
                peaks[name] = max(peaks.get(name, -math.inf), float(mean.value))
                continue
            before = sums.get(name)
            sums[name] = (
                Mean(before.total + mean.total, before.weight + mean.weight) if before else mean
            )
    means = {name: float(mean.total) / max(float(mean.weight), 1.0) for name, mean in sums.items()}
    return means | peaks


# -- surrogates: the loss of one token -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Terms:
    """What a surrogate is made of; padding is already neutral (log-probs and log-ratio 0).

    logps, old_logps [B, T], the former with gradient; advantages [B, 1] or [B, T]; mask [B, T];
    ratio: pi / pi_old, [B, T] at token and turn level, [B, 1] at sequence level;
    selected [B, T] bool: the tokens that Clip-Cov or KL-Cov chose, None where neither is on.
    ref_logps [B, T]: of the base model, where somebody reads them. entropy_scale [B, T]: HAPO's h.
    """

    logps: Tensor
    old_logps: Tensor
    ratio: Tensor
    advantages: Tensor
    mask: Tensor
    selected: Tensor | None = None
    ref_logps: Tensor | None = None
    entropy_scale: Tensor | None = None


#: A loss for each token, [B, T] or [B, 1], and values of such a shape to be averaged.
Surrogate = Callable[[Terms, LossKeys], tuple[Tensor, dict[str, Tensor]]]


def clipped_ratio(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A): PPO's surrogate (arXiv 1707.06347).

    With `delta`, r is bounded by it first: where A < 0 and r > delta the loss stays at -delta A
    and its gradient ends (dual clip, arXiv 1912.09729; two-sided clipping, 2505.07291).
    """
    ratio, advantages = terms.ratio, terms.advantages
    clipped = ratio.clamp(1 - keys.epsilon, 1 + keys.high)
    bounded = ratio if keys.delta is None else ratio.clamp(max=keys.delta)
    loss = -torch.min(bounded * advantages, clipped * advantages)
    low = (ratio < 1 - keys.epsilon) & (advantages < 0)
    high = (ratio > 1 + keys.high) & (advantages > 0)
    values = {
        "clip_ratio/low_mean": low,
        "clip_ratio/high_mean": high,
        "clip_ratio/region_mean": low | high,
    }
    if keys.clip_cov is not None:
        detached = _selected(terms) & ~(low | high)
        loss = loss.expand_as(detached).masked_fill(detached, 0.0)
        values["clip_ratio/clip_cov"] = detached
    return loss, values


def kl_cov(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-r A, and + kl_cov_coef |logp - logp_old| on the selected tokens (arXiv 2505.22617).

    Nothing is clipped: the penalty on the few tokens that would cost most entropy replaces it.
    """
    selected = _selected(terms)
    distance = (terms.logps - terms.old_logps).abs()
    loss = -terms.ratio * terms.advantages + keys.kl_cov_coef * distance * selected
    return loss, {"kl_cov_ratio": selected}


def capped_ratio(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-sg(min(r, epsilon_high)) A logp: CISPO (arXiv 2506.13585; 2510.13786 for the cap).

    No token loses its gradient. The first paper writes the cap as 1 + epsilon_high; TRL, and so
    this, takes epsilon_high as the cap itself. The paper's lower bound is unused there, too.
    """
    capped = terms.ratio.clamp(max=keys.high).detach()
    over = (terms.ratio > keys.high) & (terms.advantages > 0)
    return -capped * terms.advantages * terms.logps, {"cispo_clip_ratio": over}


def soft_gate(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-sigmoid(t (r - 1)) (4 / t) A, t by the sign of A: SAPO (arXiv 2511.20347).

    At r = 1 value and gradient are those of 2/t and r: a smooth gate in place of a clip.
    """
    t = _choose(terms, terms.advantages > 0, keys.sapo_temperature_pos, keys.sapo_temperature_neg)
    return -torch.sigmoid(t * (terms.ratio - 1)) * 4 / t * terms.advantages, {}


def gamma_weighted(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-sg(phi(w)) A logp, phi(w) = w^k exp(l (1 - w)), w the row's whole ratio: VESPO (2602.10693).

    w is the product of the token ratios, not their mean; k and l go by the sign of A. The
    bounds on the log-ratios, 20 and log 1e-8, are TRL's: they keep exp from overflowing.
    """
    with torch.no_grad():
        log_ratio = (terms.logps - terms.old_logps).clamp(-20.0, 20.0)
        log_w = log_ratio.sum(-1, keepdim=True).clamp(math.log(1e-8), 20.0)
        gained = terms.advantages >= 0
        k = _choose(terms, gained, keys.vespo_k_pos, keys.vespo_k_neg)
        decay = _choose(terms, gained, keys.vespo_lambda_pos, keys.vespo_lambda_neg)
        phi = (decay + k * log_w - decay * log_w.exp()).exp()
    return -phi * terms.advantages * terms.logps, {"vespo/phi_seq_mean": phi}


def rl_plus(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """A demonstration's token in RL-PLUS (arXiv 2508.00222): -r A (1 - sg pi)^0.5, not clipped.

    r = 2 pi / (pi_old + (pi_old + 1) / 2): a mixture stands for the unknown policy that wrote
    the demonstration, so r stays bounded where pi_old is near 0. The last factor turns to what
    the policy would hardly have said itself.
    """
    pi, old = terms.logps.exp(), terms.old_logps.exp()
    ratio = 2 * pi / (old + 0.5 * (old + 1))
    rare = (1 - pi.detach()).clamp(min=0.0) ** keys.demonstration_exponent
    return -ratio * terms.advantages * rare, {}


def sft(terms: Terms, keys: LossKeys) -> tuple[Tensor, dict[str, Tensor]]:
    """-logp, whatever the advantage: the SFT side of HPT (arXiv 2509.04419)."""
    return -terms.logps, {}


# -- from tokens to a step -----------------------------------------------------------------------


def token_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over all tokens of the micro-batch. [B, T] -> scalar."""
    return values.masked_fill(~mask, 0.0).sum()


def sequence_mean_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each row's tokens, then the sum over rows. [B, T] -> scalar."""
    return (values.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)).sum()


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over all tokens of the micro-batch. [B, T] -> scalar."""
    return token_sum(values, mask) / mask.sum().clamp(min=1)


class StepCounts(NamedTuple):
    """What a divisor may be made of: sizes of one whole optimisation step."""

    rows: int
    tokens: int
    micro_batches: int
    max_completion_length: int


def _rows(counts: StepCounts) -> float:
    return counts.rows


def _tokens(counts: StepCounts) -> float:
    return max(counts.tokens, 1)


def _micro_batches(counts: StepCounts) -> float:
    return counts.micro_batches


def _full_length(counts: StepCounts) -> float:
    return counts.rows * counts.max_completion_length


@dataclass(frozen=True, slots=True)
class Objective:
    """How a loss_type is put together: loss a token, sum over a micro-batch, divisor of a step."""

    surrogate: Surrogate
    reduce: Callable[[Tensor, Tensor], Tensor]
    divisor: Callable[[StepCounts], float]


LOSSES: dict[str, Objective] = {
    # GRPO, arXiv 2402.03300: mean over each response's tokens, then over responses.
    "grpo": Objective(clipped_ratio, sequence_mean_sum, _rows),
    # TRL's own: mean over each micro-batch's tokens, so it depends on how a step is split.
    "bnpo": Objective(clipped_ratio, token_mean, _micro_batches),
    # Dr. GRPO, arXiv 2503.20783: a constant in place of the length.
    "dr_grpo": Objective(clipped_ratio, token_sum, _full_length),
    # DAPO, arXiv 2503.14476: every token of the step weighs the same.
    "dapo": Objective(clipped_ratio, token_sum, _tokens),
    # CISPO, arXiv 2506.13585.
    "cispo": Objective(capped_ratio, token_sum, _tokens),
    # SAPO, arXiv 2511.20347.
    "sapo": Objective(soft_gate, sequence_mean_sum, _rows),
    # LUSPO, arXiv 2602.05261: a row weighs its length; meant for the sequence-level ratio.
    "luspo": Objective(clipped_ratio, token_sum, _rows),
    # VESPO, arXiv 2602.10693.
    "vespo": Objective(gamma_weighted, token_sum, _tokens),
    "gmpo": Objective(geometric_mean, sequence_mean_sum, _rows),  # arXiv 2507.20673
    **{name: Objective(loss, token_sum, _tokens) for name, loss in OFF_POLICY_LOSSES.items()},
    **{name: Objective(coefficients, token_sum, _rows) for name in LOSSES_OF_GROUPS},
}

#: Rows that were not sampled from the policy but stand in the corpus; "none" has no such rows.
DEMONSTRATIONS: dict[str, Surrogate] = {"none": rl_plus, "rl_plus": rl_plus, "hpt": sft}


class Normalizer(NamedTuple):
    """Divisors of one optimisation step. loss: of the objective; tokens: active tokens."""

    loss: float
    tokens: float


def loss_normalizer(
    keys: LossKeys, masks: Sequence[Tensor], max_completion_length: int
) -> Normalizer:
    """The divisors of a step, from the loss masks [b, T] of all its micro-batches.

    The micro-batches may differ in b and T. Rows whose mask is all False (truncated, and
    `mask_truncated_completions`) still count as rows, as in TRL. To TRL's dapo and cispo "the
    step" is 1/k of a generation batch that serves k steps; the papers' and this one's is the
    optimisation step itself. With one step a generation batch they are the same.
    """
    counts = StepCounts(
        rows=sum(mask.shape[0] for mask in masks),
        tokens=sum(int(mask.sum()) for mask in masks),
        micro_batches=len(masks),
        max_completion_length=max_completion_length,
    )
    return Normalizer(LOSSES[keys.loss_type].divisor(counts), max(counts.tokens, 1))


def part_normalizer(
    normalizer: Normalizer, keys: LossKeys, part: Tensor, whole: Tensor
) -> Normalizer:
    """The divisors of a part of a micro-batch, from the loss masks [b, T] of both.

    With them the parts' losses add up to the micro-batch's, also where the objective is a mean
    over the micro-batch's own tokens (`bnpo`).
    """
    if LOSSES[keys.loss_type].reduce is not token_mean:
        return normalizer
    share = int(part.sum()) / max(int(whole.sum()), 1)
    return normalizer._replace(loss=normalizer.loss / share if share else normalizer.loss)


def k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = logp_ref - logp: KL(pi || pi_ref) a token, never negative.

    Schulman's k3, arXiv 2402.03300 eq. 4: unbiased in value for samples of pi. Its gradient is
    not that of the KL, which `use_bias_correction_kl` corrects by the ratio (arXiv 2512.02556).
    """
    d = ref_logps - logps
    return d.exp() - d - 1


def policy_loss(
    logps: Tensor,
    old_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    keys: LossKeys,
    *,
    normalizer: Normalizer,
    ref_logps: Tensor | None = None,
    entropy: Tensor | None = None,
    weights: Tensor | None = None,
    selected: Tensor | None = None,
    demonstrations: Tensor | None = None,
    entropy_scale: Tensor | None = None,
) -> LossOutput:
    """One micro-batch's share of the step's loss.

    logps [B, T]: of the sampled tokens under the current policy, with gradient.
    old_logps [B, T]: under the policy that sampled them; None on the first update of a batch,
        where they are `logps` without gradient.
    advantages [B, T], or [B] where each row has one. mask [B, T] bool.
    normalizer: of the step that this micro-batch belongs to.
    ref_logps [B, T]: under the reference policy; needed when beta is not 0.
    entropy [B, T]: of the policy at each token; logged, and with its gradient in the loss when
        entropy_coef is not 0.
    weights [B, T] or [B, 1]: factors of the policy term, not of KL and entropy.
    selected [B, T] bool: this micro-batch's part of `select_tokens`; with clip_cov or kl_cov.
    demonstrations [B] bool: rows from the corpus; they have no clip and no KL term (which would
        need samples of the policy).
    entropy_scale [B, T]: HAPO's h, where it moves advantage and clip.
    """
    _check_needs(keys, ref_logps, entropy, selected)
    logps = logps.masked_fill(~mask, 0.0)
    old_logps = logps.detach() if old_logps is None else old_logps.masked_fill(~mask, 0.0)
    advantages = _by_row(advantages, mask)
    ratio = _ratio(logps - old_logps, mask, keys.importance_sampling_level)
    ref_logps = None if ref_logps is None else ref_logps.masked_fill(~mask, 0.0)
    terms = Terms(logps, old_logps, ratio, advantages, mask, selected, ref_logps, entropy_scale)

    objective = LOSSES[keys.loss_type]
    surrogate = kl_cov if keys.kl_cov is not None else objective.surrogate
    surrogate = surrogate if entropy_scale is None else entropy_clipped
    per_token, values = surrogate(terms, keys)
    sampled = mask
    if demonstrations is not None:
        rows = demonstrations.unsqueeze(1)
        shown, _ = DEMONSTRATIONS[keys.demonstrations](terms, keys)
        per_token = torch.where(rows, shown, per_token)
        sampled = mask & ~rows
    if weights is not None:
        outside = ~mask if weights.shape == mask.shape else ~mask.any(-1, keepdim=True)
        per_token = per_token * weights.masked_fill(outside, 1.0)
    if keys.adds_kl and ref_logps is not None:
        kl = k3(logps, ref_logps)
        kl = kl * ratio if keys.use_bias_correction_kl else kl
        per_token = per_token + keys.beta * kl.masked_fill(~sampled, 0.0)
        values["kl"] = kl
    loss = objective.reduce(per_token.expand_as(mask), mask) / normalizer.loss
    if entropy is not None:
        values["entropy"] = entropy
        if keys.entropy_coef:
            # TRL takes the mean of each micro-batch's mean; this one does not depend on the split.
            loss = loss - keys.entropy_coef * token_sum(entropy, sampled) / normalizer.tokens
    return LossOutput(loss, {name: mean(value, sampled) for name, value in values.items()})


def _check_needs(
    keys: LossKeys, ref_logps: Tensor | None, entropy: Tensor | None, selected: Tensor | None
) -> None:
    """Raises rather than leave a term of the loss out in silence."""
    if keys.needs_reference and ref_logps is None:
        raise ValueError("expected ref_logps, since beta or a_lol reads them; found None")
    if keys.selects_tokens and selected is None:
        raise ValueError("expected selected tokens, since clip_cov or kl_cov is set; found None")
    if keys.entropy_coef and (entropy is None or not entropy.requires_grad):
        raise ValueError("expected entropy with its gradient, since entropy_coef is not 0")


def _by_row(advantages: Tensor, mask: Tensor) -> Tensor:
    """[B, 1] where every row has one advantage for all its tokens, else [B, T].

    A row's own number keeps losses of whole rows, and what is told of them, those of whole rows.
    """
    if advantages.dim() == 1:
        return advantages.unsqueeze(1)
    least = advantages.masked_fill(~mask, math.inf).amin(-1, keepdim=True)
    most = advantages.masked_fill(~mask, -math.inf).amax(-1, keepdim=True)
    if bool((least < most).any()):
        return advantages.masked_fill(~mask, 0.0)
    return most.masked_fill(~mask.any(-1, keepdim=True), 0.0)


def _ratio(log_ratio: Tensor, mask: Tensor, level: str) -> Tensor:
    """pi / pi_old: [B, T], or [B, 1] at sequence level."""
    if level == "turn":
        log_ratio = _turn_means(log_ratio, mask)
    if level == "sequence":
        # GSPO, arXiv 2507.18071 eq. 7: the geometric mean of the row's token ratios.
        log_ratio = log_ratio.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return log_ratio.exp()


def _turn_means(values: Tensor, mask: Tensor) -> Tensor:
    """Each token's turn's mean, [B, T] -> [B, T]: SO-GRPO, arXiv 2511.20718 (ST-PPO).

    A turn is a run of sampled tokens; what the user says between two of them carries no loss.
    """
    begins = mask & ~torch.nn.functional.pad(mask, (1, 0))[:, :-1]
    turn = begins.cumsum(-1)  # from 1 on; what stands before a turn belongs to no turn
    turn = turn.masked_fill(~mask, 0)
    width = int(turn.amax()) + 1 if turn.numel() else 1
    sums = values.new_zeros(len(values), width).scatter_add(1, turn, values)
    counts = values.new_zeros(len(values), width).scatter_add(1, turn, mask.to(values.dtype))
    return (sums / counts.clamp(min=1)).gather(1, turn)


def mean(values: Tensor, mask: Tensor) -> Mean:
    """Sum and number over active tokens; over rows that have any, where values are [B, 1]."""
    mask = mask if values.shape == mask.shape else mask.any(-1, keepdim=True)
    kept = values.detach().to(torch.float32).masked_fill(~mask, 0.0)
    return Mean(kept.sum(), mask.sum().to(torch.float32))


def _choose(terms: Terms, where: Tensor, then: float, otherwise: float) -> Tensor:
    """torch.where for two numbers, in the dtype of the log-probs instead of float32."""
    return torch.where(where, terms.logps.new_tensor(then), terms.logps.new_tensor(otherwise))


def _selected(terms: Terms) -> Tensor:
    assert terms.selected is not None  # _check_needs
    return terms.selected & terms.mask
