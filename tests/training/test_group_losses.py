"""Losses of whole replies in their group, computed by hand."""

import pytest
import torch
from losses import loss_keys

from icpo_lite.recipe.objective_sections import GROUP_LOSSES
from icpo_lite.training.group_losses import (
    LOSSES_OF_GROUPS,
    copg,
    derivatives,
    refuel,
    reg_grpo,
)

F64 = torch.float64
SUMS = torch.tensor([0.3, 0.1, 0.0], dtype=F64)
REWARDS = torch.tensor([1.0, 0.0, 0.0], dtype=F64)
ONE_GROUP, SPOKEN = torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.bool)


def test_the_table_has_what_a_recipe_may_name() -> None:
    assert set(LOSSES_OF_GROUPS) == set(GROUP_LOSSES)


def test_reg_grpo() -> None:
    """s = ±0.2: mean 0, variance 0.08 / 1, so (s - mu) / sigma = ±0.70711; A = ±1 leaves
    0.29289 each, squared 0.0857864."""
    found = reg_grpo(torch.tensor([0.2, -0.2], dtype=F64), torch.tensor([1.0, -1.0]), loss_keys())
    assert float(found) == pytest.approx(0.0857864, abs=1e-6)


def test_refuel() -> None:
    """Pairs: (.2 - 1)^2 = .64, (.3 - 1)^2 = .49, (.1 - 0)^2 = .01; their mean is .38. With eta 0.5
    they are .09, .04, .01."""
    assert float(refuel(SUMS, REWARDS, loss_keys())) == pytest.approx(0.38)
    half = refuel(SUMS, REWARDS, loss_keys(refuel_eta=0.5))
    assert float(half) == pytest.approx(0.14 / 3)


def test_copg() -> None:
    """beta .5: (1 - .1)^2 = .81, (1 - .15)^2 = .7225, (0 - .05)^2 = .0025, over 2 beta = 1."""
    found = copg(SUMS, REWARDS, loss_keys("copg", beta=0.5))
    assert float(found) == pytest.approx(1.535 / 3)


def test_derivatives_of_refuel() -> None:
    """df/ds = 2/3 [(-.8) + (-.7)], 2/3 [.8 + .1], 2/3 [.7 - .1] = -1, .6, .4; three rows times."""
    keys = loss_keys("refuel")
    slopes, value = derivatives(SUMS, REWARDS, ONE_GROUP, SPOKEN, keys)
    assert slopes.tolist() == pytest.approx([3.0, -1.8, -1.2])
    assert value == pytest.approx(0.38)
    # A second group of equal rewards and sums adds no slope, and halves the mean loss.
    twice, mean = derivatives(
        torch.cat([SUMS, torch.zeros(3)]),
        torch.cat([REWARDS, torch.ones(3)]),
        torch.tensor([4, 4, 4, 7, 7, 7]),
        torch.ones(6, dtype=torch.bool),
        keys,
    )
    assert twice.tolist() == pytest.approx([3.0, -1.8, -1.2, 0, 0, 0])
    assert mean == pytest.approx(0.19)


def test_derivatives_of_copg_are_the_papers_gradient() -> None:
    """Of a pair, f = (dR - beta ds)^2 / (2 beta) has df/ds_1 = -(dR - beta ds): dR = 1, ds = .3,
    beta .5: -.85, two rows."""
    keys = loss_keys("copg", beta=0.5)
    slopes, _ = derivatives(SUMS[[0, 2]], REWARDS[[0, 2]], ONE_GROUP[:2], SPOKEN[:2], keys)
    assert slopes.tolist() == pytest.approx([1.7, -1.7])


@pytest.mark.parametrize("name", GROUP_LOSSES)
def test_who_says_nothing_or_is_alone_is_compared_with_nobody(name: str) -> None:
    keys = loss_keys(name, beta=0.5) if name == "copg" else loss_keys(name)
    silent = torch.tensor([True, False, True])
    slopes, _ = derivatives(SUMS, REWARDS, ONE_GROUP, silent, keys)
    assert slopes[1] == 0
    if name != "reg_grpo":  # of two replies (s - mu) / sigma is ±0.7071, wherever they are
        assert slopes[0] > 0 > slopes[2]
    alone, value = derivatives(SUMS, REWARDS, torch.tensor([0, 1, 2]), SPOKEN, keys)
    assert alone.tolist() == [0, 0, 0]
    assert value == 0


def test_reg_grpo_has_a_direction_on_the_first_update() -> None:
    """All s are 0: its slope is finite and along the centred advantages."""
    slopes, value = derivatives(
        torch.zeros(3, dtype=F64), REWARDS, ONE_GROUP, SPOKEN, loss_keys("reg_grpo")
    )
    centred = REWARDS - 1 / 3
    assert value == pytest.approx(1 / 3)
    assert slopes.tolist() == pytest.approx((slopes[0] / centred[0] * centred).tolist())
    assert torch.isfinite(slopes).all()
