"""The group-sampling objectives, as pure functions of padded tensors.

Shapes here: B rows of a micro-batch, T tokens, padded; `mask` [B, T] is True where a token
carries loss. What stands under a False mask is never read, so it may be anything, NaN included.

A step's loss is one number over all its micro-batches. `loss_normalizer` sees the masks of the
whole optimisation step, before the first of them is computed; `policy_loss` divides a
micro-batch's sum by it. Adding up the micro-batches' losses (and so their gradients) then gives
the step's loss exactly, however the step was split — but for `bnpo`, whose definition is a mean
over each micro-batch's own tokens.

A new objective is one function `surrogate(terms, config)` and one entry in `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from icpo_lite.errors import RecipeError

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo"]
RatioLevel = Literal["token", "sequence"]


@dataclass(frozen=True, slots=True)
class LossConfig:
    """What the recipe says about the loss, in TRL's names.

    epsilon, epsilon_high: the ratio is clipped to [1 - epsilon, 1 + epsilon_high]; None means
        `epsilon` on both sides. With `cispo`, epsilon_high is the cap of the ratio itself.
    delta: the second, outer bound of the ratio (dual clip); None for none.
    beta: weight of the KL term. max_completion_length: read by `dr_grpo` alone.
    """

    loss_type: LossType = "grpo"
    importance_sampling_level: RatioLevel = "token"
    epsilon: float = 0.2
    epsilon_high: float | None = None
    delta: float | None = None
    beta: float = 0.0
    max_completion_length: int | None = None

    def __post_init__(self) -> None:
        if self.loss_type not in LOSSES:
            known = ", ".join(LOSSES)
            raise RecipeError(f"loss_type: expected one of {known}; found {self.loss_type!r}")
        if self.importance_sampling_level not in ("token", "sequence"):
            found = self.importance_sampling_level
            raise RecipeError(f"importance_sampling_level: expected token or sequence, not {found}")
        if self.loss_type == "cispo" and (self.epsilon_high is None or self.epsilon_high <= 1):
            raise RecipeError(
                "epsilon_high: with loss_type cispo it caps the ratio itself and must be above 1 "
                f"(ScaleRL uses 4 to 8); found {self.epsilon_high}"
            )
        if self.loss_type == "dr_grpo" and not self.max_completion_length:
            raise RecipeError("max_completion_length: loss_type dr_grpo divides by it; found none")
        if self.delta is not None and self.delta <= 1 + self.high:
            raise RecipeError(
                f"delta: expected more than 1 + epsilon_high = {1 + self.high:g}, since it bounds "
                f"the ratio outside the clip range; found {self.delta:g}"
            )

    @property
    def high(self) -> float:
        """The upper clip distance, `epsilon` where none of its own was given."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high


class Mean(NamedTuple):
    """Sum and number of values: means that can be joined. Tensors, so that no GPU is waited for."""

    total: Tensor
    weight: Tensor


class LossOutput(NamedTuple):
    """loss: a scalar with its gradient. metrics: by TRL's names, for `mean_metrics`."""

    loss: Tensor
    metrics: dict[str, Mean]


def mean_metrics(parts: Iterable[Mapping[str, Mean]]) -> dict[str, float]:
    """The metrics of several micro-batches as means over all their tokens."""
    sums: dict[str, Mean] = {}
    for part in parts:
        for name, mean in part.items():
            before = sums.get(
                name, Mean(torch.zeros_like(mean.total), torch.zeros_like(mean.weight))
            )
            sums[name] = Mean(before.total + mean.total, before.weight + mean.weight)
    return {name: float(mean.total) / max(float(mean.weight), 1.0) for name, mean in sums.items()}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a surrogate is made of; padding is already neutral (log-probs and log-ratio 0).

    logps [B, T] with gradient; advantages [B, 1] or [B, T]; mask [B, T];
    ratio: pi / pi_old, [B, T] at token level, [B, 1] at sequence level.
    """

    logps: Tensor
    ratio: Tensor
    advantages: Tensor
    mask: Tensor


#: A loss for each token, [B, T] or [B, 1], and flags of the same shape to be averaged.
Surrogate = Callable[[Terms, LossConfig], tuple[Tensor, dict[str, Tensor]]]


def clipped_ratio(terms: Terms, config: LossConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """-min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A): PPO's surrogate (arXiv 1707.06347).

    With `delta`, r is bounded by it first: where A < 0 and r > delta the loss stays at -delta A
    and its gradient ends (dual clip, arXiv 1912.09729; two-sided clipping, 2505.07291).
    """
    ratio, advantages = terms.ratio, terms.advantages
    clipped = ratio.clamp(1 - config.epsilon, 1 + config.high)
    bounded = ratio if config.delta is None else ratio.clamp(max=config.delta)
    loss = -torch.min(bounded * advantages, clipped * advantages)
    low = (ratio < 1 - config.epsilon) & (advantages < 0)
    high = (ratio > 1 + config.high) & (advantages > 0)
    flags = {
        "clip_ratio/low_mean": low,
        "clip_ratio/high_mean": high,
        "clip_ratio/region_mean": low | high,
    }
    return loss, flags


def capped_ratio(terms: Terms, config: LossConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """-sg(min(r, epsilon_high)) A logp: CISPO (arXiv 2506.13585 eq. 4, ScaleRL 2510.13786).

    No token loses its gradient. The paper writes the cap as 1 + epsilon_high; TRL, and so this,
    takes epsilon_high as the cap. The paper's lower bound is left out there as well ("we did not
    impose a lower bound").
    """
    capped = terms.ratio.clamp(max=config.high).detach()
    over = (terms.ratio > config.high) & (terms.advantages > 0)
    return -capped * terms.advantages * terms.logps, {"cispo_clip_ratio": over}


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
    """What a normaliser may be made of: sizes of one whole optimisation step."""

    rows: int
    tokens: int
    micro_batches: int


@dataclass(frozen=True, slots=True)
class Objective:
    """How a loss_type is put together: loss a token, sum over a micro-batch, divisor of a step."""

    surrogate: Surrogate
    reduce: Callable[[Tensor, Tensor], Tensor]
    divisor: Callable[[StepCounts, LossConfig], float]


def _rows(counts: StepCounts, config: LossConfig) -> float:
    return counts.rows


def _tokens(counts: StepCounts, config: LossConfig) -> float:
    return max(counts.tokens, 1)


def _micro_batches(counts: StepCounts, config: LossConfig) -> float:
    return counts.micro_batches


def _full_length(counts: StepCounts, config: LossConfig) -> float:
    assert config.max_completion_length is not None  # LossConfig refused it
    return counts.rows * config.max_completion_length


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
}


class Normalizer(NamedTuple):
    """Divisors of one optimisation step. loss: of the objective; tokens: active tokens."""

    loss: float
    tokens: float


def loss_normalizer(config: LossConfig, masks: Sequence[Tensor]) -> Normalizer:
    """The divisors of a step, from the loss masks [b, T] of all its micro-batches.

    The micro-batches may differ in b and T. Rows whose mask is all False (truncated, and
    `mask_truncated_completions`) still count as rows, as in TRL.
    """
    counts = StepCounts(
        rows=sum(mask.shape[0] for mask in masks),
        tokens=sum(int(mask.sum()) for mask in masks),
        micro_batches=len(masks),
    )
    return Normalizer(LOSSES[config.loss_type].divisor(counts, config), max(counts.tokens, 1))


def k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = logp_ref - logp: KL(pi || pi_ref) a token, never negative.

    Unbiased in value for samples of pi (Schulman's k3, used by GRPO, arXiv 2402.03300 eq. 4).
    """
    d = ref_logps - logps
    return d.exp() - d - 1


def policy_loss(
    logps: Tensor,
    old_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    config: LossConfig,
    *,
    normalizer: Normalizer,
    ref_logps: Tensor | None = None,
) -> LossOutput:
    """One micro-batch's share of the step's loss.

    logps [B, T]: of the sampled tokens under the current policy, with gradient.
    old_logps [B, T]: under the policy that sampled them; None on the first update of a batch,
        where they are `logps` without gradient.
    advantages [B], or [B, T] where they differ by token. mask [B, T] bool.
    ref_logps [B, T]: under the reference policy; needed when beta is not 0.
    normalizer: of the step that this micro-batch belongs to.
    """
    objective = LOSSES[config.loss_type]
    logps = logps.masked_fill(~mask, 0.0)
    old_logps = logps.detach() if old_logps is None else old_logps.masked_fill(~mask, 0.0)
    advantages = advantages if advantages.dim() == 2 else advantages.unsqueeze(1)
    log_ratio = logps - old_logps
    if config.importance_sampling_level == "sequence":
        # GSPO, arXiv 2507.18071 eq. 7: the geometric mean of the row's token ratios.
        log_ratio = log_ratio.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    terms = Terms(logps, log_ratio.exp(), advantages, mask)
    per_token, flags = objective.surrogate(terms, config)
    metrics = {name: _mean(flag, mask) for name, flag in flags.items()}
    if config.beta:
        if ref_logps is None:
            raise ValueError("expected ref_logps, since beta is not 0; found None")
        kl = k3(logps, ref_logps.masked_fill(~mask, 0.0))
        per_token = per_token + config.beta * kl
        metrics["kl"] = _mean(kl, mask)
    loss = objective.reduce(per_token.expand_as(mask), mask) / normalizer.loss
    return LossOutput(loss, metrics)


def _mean(values: Tensor, mask: Tensor) -> Mean:
    """Sum and count over active tokens; over rows where there is one value a row, as in TRL."""
    values = values.detach().to(torch.float32)
    if values.shape != mask.shape:
        return Mean(values.sum(), torch.tensor(float(values.shape[0]), device=values.device))
    return Mean(values.masked_fill(~mask, 0.0).sum(), mask.sum().to(torch.float32))
