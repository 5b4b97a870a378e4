"""The table of advantages against numbers computed by hand."""

import math

import pytest
import torch

from icpo_lite.core.errors import NumericsError
from icpo_lite.core.types import Group, Intent, Prompt, Reward, Trajectory, Turn
from icpo_lite.recipe import load_recipe
from icpo_lite.recipe.method_sections import ADVANTAGES
from icpo_lite.training.advantage_rules import (
    ADVANTAGE_RULES,
    Advantages,
    CanonOptions,
    beta_weights,
    canon,
    opo,
    rloo,
)

F64 = torch.float64
#: By length 1, 2, 3, 4, 5: rewards 0, 1 | 1, 0, 1. n // 2 = 2, so that the short half's mean is
#: 1/2 and the long half's 2/3.
REWARDS = torch.tensor([1, 0, 0, 1, 1], dtype=F64)
LENGTHS = torch.tensor([5, 1, 4, 3, 2], dtype=F64)


def group(*rewards: float, intent: Intent = Intent.COMPLETE, logps: float = -1.0) -> Group:
    prompt = Prompt(f"p/{intent}", "p", "math", intent, (), "1")
    rows = [
        Trajectory(
            prompt, (1,), (Turn("assistant", "", (1,) * n, (logps,) * n, "eos"),), Reward(float(r))
        )
        for n, r in enumerate(rewards, start=1)
    ]
    return Group(prompt, tuple(rows))


def made(*overrides: str) -> Advantages:
    return Advantages(load_recipe("tiny", overrides))


def test_the_table_has_what_a_recipe_may_name() -> None:
    assert set(ADVANTAGE_RULES) == set(ADVANTAGES)


def test_rloo() -> None:
    """The others' mean of 1 among 0, 0, 1 is 1/3, of 0 among 1, 0, 1 is 2/3."""
    found = rloo(torch.tensor([1, 0, 0, 1], dtype=F64))
    assert found.tolist() == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_opo_weighs_the_baseline_by_length() -> None:
    """Rewards 1, 0, 1 of 1, 3 and 4 tokens: (1 + 4) / 8. As a rule, of 1 and 2 tokens: 1 / 3."""
    found = opo(torch.tensor([1, 0, 1], dtype=F64), torch.tensor([1, 3, 4], dtype=F64))
    assert found.tolist() == pytest.approx([0.375, -0.625, 0.375])
    (one,) = made("advantage=opo")([group(1, 0)])
    assert one.advantages == pytest.approx((2 / 3, -1 / 3))


def test_canon_by_length() -> None:
    """alpha 0.9, mu 0.25. Long, r = 1: .25 (.9 - .5) + .75 (1 - 2/3) = .35; r = 0:
    .25 (-.5) + .75 (-2/3) = -.625. Short, r = 1: .25 (1 - .6) + .75 (.5) = .475; r = 0: -.525."""
    found = canon(REWARDS, LENGTHS, CanonOptions(metric="length", alpha=0.9, mu=0.25))
    assert found.tolist() == pytest.approx([0.35, -0.525, -0.625, 0.35, 0.475])


def test_canon_by_entropy_weighs_the_other_half() -> None:
    """High, r = 1: .25 (1 - .45) + .75 / 3 = .3875; r = 0: .25 (-.45) - .5 = -.6125. Low, r = 1:
    .25 (.9 - 2/3) + .375 = .43333; r = 0: .25 (-2/3) - .375 = -.541667."""
    found = canon(REWARDS, LENGTHS, CanonOptions(metric="entropy", alpha=0.9, mu=0.25))
    assert found.tolist() == pytest.approx([0.3875, -0.5416667, -0.6125, 0.3875, 0.4333333])


def test_canon_reads_lengths_and_surprise_of_replies() -> None:
    """Lengths 1 and 2: alpha 1, mu 1/2 of rewards 0, 1 is ±1/2 either way; NaN is refused."""
    found = made("advantage=canon")([group(0, 1)])[0].advantages
    assert found == pytest.approx((-0.5, 0.5))
    with pytest.raises(NumericsError, match="canon by entropy needs the log-probs"):
        made("advantage={name: canon, metric: entropy}")([group(0, 1, logps=math.nan)])


def test_bnpo_of_two_prompts() -> None:
    """p = 1/4, 3/4: m = 1/2, v = 2 (1/16) / 1 = 1/8, m (1 - m) / v - 1 = 1, so a = b = 1/2 and
    alpha = beta = 7/6. The density is (p (1 - p))^(1/6) / B, B = Gamma(7/6)^2 / Gamma(7/3)."""
    density = (3 / 16) ** (1 / 6) * math.gamma(7 / 3) / math.gamma(7 / 6) ** 2
    rule = made("advantage=bnpo_paper", "reward=paper")
    one, two = rule([group(1, 0, 0, 0), group(1, 1, 1, 0)])
    assert one.advantages == pytest.approx([0.75 / density] + [-0.25 / density] * 3)
    assert two.advantages == pytest.approx([0.25 / density] * 3 + [-0.75 / density])
    # One prompt: m = 0, v = 1, a = 0, b = -1, both shapes 1: a flat density.
    (alone,) = rule([group(1, 0, 0, 0)])
    assert alone.advantages == pytest.approx((0.75, -0.25, -0.25, -0.25))


def test_bnpo_weighs_an_end_of_the_density_at_most_a_million() -> None:
    """Means 0 and 1/2: m = 1/4, v = 1/8, a = 1/8, b = 3/8: the density is 0 at 0."""
    weights = beta_weights(torch.tensor([0.0, 0.5], dtype=F64))
    assert weights[0] == 1e6
    assert 0 < weights[1] < 2
    assert beta_weights(torch.tensor([0.5, 0.5], dtype=F64)).tolist() == [1.0, 1.0]


def test_a_baseline_for_each_kind_of_prompt() -> None:
    """b starts at 0: 1 - 0, then b = .05; 0 - .05, then b = .0475. The other kind begins anew."""
    rule = made("advantage=rae")
    under = group(1, 1, intent=Intent.UNDERSPECIFIED)
    one, two = rule([group(1, 0), under], underspecified_weight=0.5)
    assert one.advantages == pytest.approx((1.0, -0.05))
    assert two.advantages == pytest.approx((0.5, 0.475))
    assert rule.state == pytest.approx({"complete": 0.0475, "underspecified": 0.0975})
    again = made("advantage=rae")
    again.restore(rule.state)
    assert again([group(1, 1)])[0].advantages == pytest.approx((0.9525, 1 - 0.095125))


def test_a_baseline_that_moves_first() -> None:
    """The paper's order: b = .05 before 1 is compared, .0475 before 0 is."""
    rule = made("advantage={name: rae, update_first: true}")
    assert rule([group(1, 0)])[0].advantages == pytest.approx((0.95, -0.0475))


def test_gdpo_is_trls_aggregation() -> None:
    parts = [{"right": 1.0, "asked": 0.0}, {"right": 0.0, "asked": -0.1}]
    rows = [
        Trajectory(t.prompt, t.prompt_ids, t.turns, Reward(sum(p.values()), p))
        for t, p in zip(group(1, 0).trajectories, parts, strict=True)
    ]
    one = Group(rows[0].prompt, tuple(rows))
    named = made("advantage=gdpo")([one])[0].advantages
    assert named == made("multi_objective_aggregation=normalize_then_sum")([one])[0].advantages
    assert named != made()([one])[0].advantages


def test_a_demonstration_that_is_learned_from_by_itself_has_1() -> None:
    for name in ("rloo", "rae"):
        assert made(f"advantage={name}")([group(0.3)])[0].advantages == (1.0,)
