"""The table of ways from a group's rewards to advantages: what a recipe's `advantage` names.

With r the rewards of a group of G, and b, p, m, v as below:

    group       (r - mean) / std, as `scale_rewards` says          `training.advantages`
    gdpo        each component of the reward normalised by itself  arXiv 2601.05242
    rloo        r - mean of the other G - 1                        arXiv 2402.14740
    opo         r - mean weighted by the replies' lengths          arXiv 2505.23585
    rae         r - b of the prompt's kind, b <- .95 b + .05 r     arXiv 2506.24119 (SPIRAL)
    canon       r against the other half and against its own       arXiv 2509.23962
    bnpo_paper  (r - p) / BetaPDF(p; alpha, beta)                  arXiv 2506.02864

`rae` alone remembers something: `Advantages.state` is what a checkpoint keeps of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from icpo_lite.core.errors import NumericsError
from icpo_lite.core.types import Group, Intent, Trajectory
from icpo_lite.recipe.objective_sections import AdvantageKeys
from icpo_lite.training.advantages import advantage_groups, with_advantages

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

#: The most that one over a Beta density counts, as in the public code of BNPO.
MOST_WEIGHT = 1e6


class NoOptions(BaseModel):
    """A rule without numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CanonOptions(NoOptions):
    """The numbers of CANON."""

    metric: Literal["length", "entropy"] = Field(
        "length", description="what splits a group: tokens, or surprise a token, of its replies"
    )
    alpha: float = Field(
        1.0, gt=0, description="what a reward of the long, or of the unsurprising, half counts"
    )
    mu: float = Field(
        0.5, ge=0, le=1, description="weight of the other half's mean beside the own half's"
    )


class RaeOptions(NoOptions):
    """The numbers of SPIRAL's baseline."""

    rate: float = Field(0.05, gt=0, le=1, description="how fast a baseline follows the rewards")
    # The paper's algorithm moves the baseline first, so that a reward is compared with itself too;
    # its public code reads it first, "to be unbiased".
    update_first: bool = Field(False, description="move the baseline before a reward is compared")


Memory = dict[str, float]


def rloo(rewards_G: Tensor) -> Tensor:
    """A_i = r_i - mean of the others' rewards (arXiv 2402.14740). [G], G >= 2 -> [G]."""
    count = len(rewards_G)
    return (rewards_G - rewards_G.mean()) * count / (count - 1)


def opo(rewards_G: Tensor, lengths_G: Tensor) -> Tensor:
    """A_i = r_i - sum of L r / sum of L, L lengths in tokens: the baseline of least variance where
    a reply's gradient grows as its length (arXiv 2505.23585). [G] -> [G]."""
    return rewards_G - (lengths_G * rewards_G).sum() / lengths_G.sum().clamp(min=1)


def canon(rewards_G: Tensor, metric_G: Tensor, options: CanonOptions) -> Tensor:
    """CANON's advantage (arXiv 2509.23962): split at G // 2 by the metric, ties by place.

    length:  long  mu (alpha r - mean_short) + (1 - mu)(r - mean_long)
             short mu (r - alpha mean_long)  + (1 - mu)(r - mean_short)
    entropy: high  mu (r - alpha mean_low)   + (1 - mu)(r - mean_high)
             low   mu (alpha r - mean_high)  + (1 - mu)(r - mean_low)

    Each is the public code's, which also divides by the longest length (here `loss_type: dr_grpo`)
    and can add a constant.
    """
    order = torch.sort(metric_G, stable=True).indices
    middle = len(order) // 2
    upper = torch.zeros(len(order), dtype=torch.bool)
    upper[order[middle:]] = True
    high, low = rewards_G[upper].mean(), rewards_G[~upper].mean()
    alpha, mu = options.alpha, options.mu
    within = rewards_G - torch.where(upper, high, low)
    if options.metric == "length":
        across = torch.where(upper, alpha * rewards_G - low, rewards_G - alpha * high)
    else:
        across = torch.where(upper, rewards_G - alpha * low, alpha * rewards_G - high)
    return mu * across + (1 - mu) * within


def beta_weights(means_P: Tensor) -> Tensor:
    """1 / BetaPDF(p; alpha, beta) of each prompt's mean reward p in [0, 1] (arXiv 2506.02864).

    m, v: mean and (unbiased) variance of p over prompts, 0 and 1 where there is one prompt;
    a = (m (1 - m) / v - 1) m, b = (m (1 - m) / v - 1)(1 - m);
    alpha = max(1, 1 + a / 3), beta = max(1, 1 + b / 3). At most 1e6, as in the public code; where
    all prompts are alike (v = 0) the density is a peak and each weighs 1 (ours).
    """
    m, v = 0.0, 1.0
    if len(means_P) > 1:
        m, v = float(means_P.mean()), float(means_P.var())
    if v == 0:
        return torch.ones_like(means_P)
    shape = m * (1 - m) / v - 1
    alpha, beta = max(1.0, 1 + shape * m / 3), max(1.0, 1 + shape * (1 - m) / 3)
    norm = math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)
    # xlogy: at an end where the density has no slope, 0 log 0 is 0.
    log_pdf = torch.xlogy(torch.full_like(means_P, alpha - 1), means_P)
    log_pdf = log_pdf + torch.xlogy(torch.full_like(means_P, beta - 1), 1 - means_P)
    return (norm - log_pdf).exp().clamp(max=MOST_WEIGHT)


def _rloo(groups: Sequence[Group], options: NoOptions, memory: Memory) -> list[Tensor]:
    return [rloo(row) for row in _rewards(groups)]


def _opo(groups: Sequence[Group], options: NoOptions, memory: Memory) -> list[Tensor]:
    lengths = [[_metric(t, "length") for t in g.trajectories] for g in groups]
    return [
        opo(row, torch.tensor(length, dtype=row.dtype))
        for row, length in zip(_rewards(groups), lengths, strict=True)
    ]


def _canon(groups: Sequence[Group], options: CanonOptions, memory: Memory) -> list[Tensor]:
    metrics = [[_metric(t, options.metric) for t in g.trajectories] for g in groups]
    return [
        canon(row, torch.tensor(metric, dtype=row.dtype), options)
        for row, metric in zip(_rewards(groups), metrics, strict=True)
    ]


def _rae(groups: Sequence[Group], options: RaeOptions, memory: Memory) -> list[Tensor]:
    """Reply by reply, as games come in one by one; starts at 0."""
    out = []
    for group in groups:
        role, row = str(group.prompt.intent), []
        for reward in group.rewards:
            before = memory.get(role, 0.0)
            memory[role] = (1 - options.rate) * before + options.rate * reward
            row.append(reward - (memory[role] if options.update_first else before))
        out.append(torch.tensor(row, dtype=torch.float64))
    return out


def _bnpo(groups: Sequence[Group], options: NoOptions, memory: Memory) -> list[Tensor]:
    rewards = _rewards(groups)
    means_P = torch.stack([row.mean() for row in rewards])
    weights = beta_weights(means_P)
    return [(r - p) * w for r, p, w in zip(rewards, means_P, weights, strict=True)]


def _rewards(groups: Sequence[Group]) -> list[Tensor]:
    return [torch.tensor(g.rewards, dtype=torch.float64) for g in groups]


def _metric(trajectory: Trajectory, name: str) -> float:
    """Length of a trajectory's replies in tokens, or their mean surprise -log p.

    The surprise of a sampled token is an unbiased estimate of the entropy that it was drawn with,
    which the public code computes anew from the whole vocabulary.
    """
    replies = trajectory.replies
    if name == "length":
        return float(sum(len(reply.token_ids) for reply in replies))
    logps = [logp for reply in replies for logp in reply.logprobs]
    surprise = -sum(logps) / max(len(logps), 1)
    if math.isnan(surprise):
        raise NumericsError(
            "advantage: canon by entropy needs the log-probs of sampled tokens, found NaN; this "
            "engine has none with top_k or top_p: set engine: native, or advantage.metric: length"
        )
    return surprise


@dataclass(frozen=True, slots=True)
class AdvantageRule:
    """A rule of the table: its options model, and a function of groups, options and memory."""

    options: type[NoOptions]
    function: Callable[[Sequence[Group], Any, Memory], list[Tensor]] | None


ADVANTAGE_RULES: dict[str, AdvantageRule] = {
    "group": AdvantageRule(NoOptions, None),
    "gdpo": AdvantageRule(NoOptions, None),
    "rloo": AdvantageRule(NoOptions, _rloo),
    "opo": AdvantageRule(NoOptions, _opo),
    "rae": AdvantageRule(RaeOptions, _rae),
    "canon": AdvantageRule(CanonOptions, _canon),
    "bnpo_paper": AdvantageRule(NoOptions, _bnpo),
}


class Advantages:
    """The rule that a recipe names, and what it remembers from step to step.

    Raises RecipeError, with the key's line, for options that the rule does not have.
    """

    def __init__(self, recipe: Recipe) -> None:
        name = recipe.advantage["name"]
        self.rule = ADVANTAGE_RULES[name]
        self.options = recipe.bind("advantage", self.rule.options, skip=["name"])
        self.keys = AdvantageKeys.of(recipe)
        if name == "gdpo":
            by_component = {"multi_objective_aggregation": "normalize_then_sum"}
            self.keys = self.keys.model_copy(update=by_component)
        functions = [spec.rpartition(":")[2] for spec in recipe.reward_funcs]
        self.component_weights = dict(zip(functions, recipe.reward_weights, strict=False))
        self.memory: Memory = {}

    def __call__(self, groups: Sequence[Group], underspecified_weight: float = 1.0) -> list[Group]:
        """Every group with the advantages of its trajectories, those of `q*` times their weight.

        A group of one row, a demonstration that is learned from by itself, gets 1.
        """
        if self.rule.function is None:
            return advantage_groups(
                groups, self.keys, underspecified_weight, self.component_weights
            )
        several = [group for group in groups if len(group.trajectories) > 1]
        made = iter(self.rule.function(several, self.options, self.memory))
        rows = [
            next(made) if len(group.trajectories) > 1 else torch.ones(1, dtype=torch.float64)
            for group in groups
        ]
        return with_advantages(groups, rows, underspecified_weight)

    @property
    def state(self) -> Memory:
        """The baseline of each kind of prompt, as JSON; empty for rules without one."""
        return dict(self.memory)

    def restore(self, state: Mapping[str, float]) -> None:
        self.memory = {str(Intent(role)): float(value) for role, value in state.items()}
