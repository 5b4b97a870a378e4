"""Advantages against numbers computed by hand."""

import pytest
import torch

from icpo_lite.core.errors import NumericsError
from icpo_lite.rewards.length_penalty import soft_overlong_penalty
from icpo_lite.training.advantages import group_advantages, hpt_gate, select_groups, zero_variance

#: Row 0: mean 1/2, deviations ±1/2, unbiased variance 4·(1/4)/3 = 1/3, std 0.57735.
#: Row 1: mean 1/4, deviations 3/4, -1/4 (three times), variance (9 + 3)/16/3 = 1/4, std 0.5.
#: Row 2: all equal.
REWARDS = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.float64)


def test_group_scale() -> None:
    expected = torch.tensor(
        [
            [0.5 / 0.5774502691896258, -0.5 / 0.5774502691896258] * 2,
            [0.75 / 0.5001] + [-0.25 / 0.5001] * 3,
            [0.0] * 4,
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(group_advantages(REWARDS), expected, rtol=0, atol=1e-12)


def test_batch_scale() -> None:
    """All 12: sum 7, mean 7/12, squares 7 - 49/12 = 35/12, over 11: 35/132, std 0.514929."""
    std = (35 / 132) ** 0.5 + 1e-4
    expected = torch.tensor(
        [[0.5 / std, -0.5 / std] * 2, [0.75 / std] + [-0.25 / std] * 3, [0.0] * 4],
        dtype=torch.float64,
    )
    torch.testing.assert_close(group_advantages(REWARDS, "batch"), expected, rtol=0, atol=1e-12)


def test_no_scale() -> None:
    expected = [[0.5, -0.5, 0.5, -0.5], [0.75, -0.25, -0.25, -0.25], [0.0] * 4]
    assert group_advantages(REWARDS, "none").tolist() == expected


def test_zero_variance_ignores_float_noise() -> None:
    rewards = torch.tensor([[0.1 + 0.2, 0.3], [0.3, 0.3001], [1.0, 1.0]])
    assert zero_variance(rewards).tolist() == [True, False, True]
    noise = torch.tensor([[0.1 + 0.2, 0.3]], dtype=torch.float64)
    assert noise[0, 0] != noise[0, 1]
    assert group_advantages(noise).tolist() == [[0.0, 0.0]]


def test_one_reward_that_is_not_finite_is_named() -> None:
    rewards = REWARDS.clone()
    rewards[1, 2] = float("nan")
    with pytest.raises(NumericsError, match="nan for sample 2 of prompt 1"):
        group_advantages(rewards)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_a_group_needs_two(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="G >= 2"):
        group_advantages(torch.ones(shape))


def test_unknown_scale() -> None:
    with pytest.raises(ValueError, match="group, batch or none"):
        group_advantages(REWARDS, "std")  # type: ignore[arg-type]


def test_soft_overlong_penalty() -> None:
    """max 100, cache 20: free up to 80, then a twentieth a token, -1 from 100 on."""
    lengths = torch.tensor([[0, 80, 81], [90, 100, 130]])
    expected = torch.tensor([[0.0, 0.0, -0.05], [-0.5, -1.0, -1.0]])
    torch.testing.assert_close(soft_overlong_penalty(lengths, 100, 20), expected)


def test_hpt_gate() -> None:
    """Right: none, a quarter, a half; at most a quarter goes to the demonstration."""
    correct = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]])
    assert hpt_gate(correct, 0.25).tolist() == [True, True, False]
    assert hpt_gate(correct.bool(), 0.0).tolist() == [True, False, False]


def test_select_groups() -> None:
    """Groups 1 and 4 teach nothing; of the three varied `q*` two are wanted."""
    rewards = torch.tensor([[0, 1], [1, 1], [0.2, 1], [1, 0], [0, 0], [0, 1]])
    teaches = ~zero_variance(rewards)
    underspecified = torch.tensor([True, True, False, True, False, True])
    assert select_groups(teaches, underspecified, 2, 2) == [0, 2, 3]
    assert select_groups(teaches, underspecified, 4, 1) == [0, 2, 3, 5]
    assert select_groups(teaches, underspecified, 0, 0) == []
