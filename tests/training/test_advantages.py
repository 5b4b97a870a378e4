"""Advantages against numbers computed by hand."""

import pytest
import torch

from icpo_lite.core.errors import NumericsError, RecipeError
from icpo_lite.core.types import Group, Prompt, Reward, Trajectory, Turn
from icpo_lite.recipe.objective_sections import AdvantageKeys
from icpo_lite.rewards.length_penalty import soft_overlong_penalty
from icpo_lite.training.advantages import (
    advantage_groups,
    group_advantages,
    hpt_gate,
    select_groups,
    zero_variance,
)

GROUP, BATCH, NONE = (
    AdvantageKeys(scale_rewards=name, min_reward_std=0) for name in ("group", "batch", "none")
)
#: The recipe's own default of min_reward_spread.
SPREAD = GROUP.min_reward_spread

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
    torch.testing.assert_close(group_advantages(REWARDS, GROUP), expected, rtol=0, atol=1e-12)


def test_batch_scale() -> None:
    """All 12: sum 7, mean 7/12, squares 7 - 49/12 = 35/12, over 11: 35/132, std 0.514929."""
    std = (35 / 132) ** 0.5 + 1e-4
    expected = torch.tensor(
        [[0.5 / std, -0.5 / std] * 2, [0.75 / std] + [-0.25 / std] * 3, [0.0] * 4],
        dtype=torch.float64,
    )
    torch.testing.assert_close(group_advantages(REWARDS, BATCH), expected, rtol=0, atol=1e-12)


def test_no_scale() -> None:
    expected = [[0.5, -0.5, 0.5, -0.5], [0.75, -0.25, -0.25, -0.25], [0.0] * 4]
    assert group_advantages(REWARDS, NONE).tolist() == expected


def test_zero_variance_ignores_float_noise() -> None:
    rewards = torch.tensor([[0.1 + 0.2, 0.3], [0.3, 0.3001], [1.0, 1.0]])
    assert zero_variance(rewards, SPREAD).tolist() == [True, False, True]
    noise = torch.tensor([[0.1 + 0.2, 0.3]], dtype=torch.float64)
    assert noise[0, 0] != noise[0, 1]
    assert group_advantages(noise, GROUP).tolist() == [[0.0, 0.0]]


def test_one_reward_that_is_not_finite_is_named() -> None:
    rewards = REWARDS.clone()
    rewards[1, 2] = float("nan")
    with pytest.raises(NumericsError, match="nan for sample 2 of prompt 1"):
        group_advantages(rewards, GROUP)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_a_group_needs_two(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="G >= 2"):
        group_advantages(torch.ones(shape), GROUP)


def test_unknown_scale() -> None:
    with pytest.raises(RecipeError, match="one of group, batch, none, found 'std'"):
        AdvantageKeys(scale_rewards="std")


def test_a_floor_under_the_std_keeps_small_differences_small() -> None:
    """[0.05, 0 x 7]: mean 0.00625, std 0.05 / sqrt(8) = 0.017678; [1, 0 x 7] twenty times that."""
    small, large = (torch.tensor([[r] + [0.0] * 7], dtype=torch.float64) for r in (0.05, 1.0))
    std = 0.05 / 8**0.5
    full = group_advantages(small, GROUP)[0, 0].item()
    assert full == pytest.approx(0.04375 / (std + 1e-4))
    assert group_advantages(large, GROUP)[0, 0].item() == pytest.approx(full, rel=0.01)
    floor = AdvantageKeys()
    assert floor.min_reward_std == 0.25
    assert group_advantages(small, floor)[0, 0].item() == pytest.approx(0.04375 / 0.2501)
    # The std of the large one, 0.3536, is above the floor.
    assert torch.equal(group_advantages(large, floor), group_advantages(large, GROUP))


def test_a_least_spread_that_teaches() -> None:
    rewards = torch.tensor([[0.05, 0.0], [0.15, 0.0]])
    keys = AdvantageKeys(min_reward_spread=0.1, min_reward_std=0)
    assert group_advantages(rewards, keys)[0].tolist() == [0.0, 0.0]
    assert group_advantages(rewards, keys)[1, 0] > 0.5


def of_components(*rewards: dict[str, float]) -> Group:
    prompt = Prompt("p", "p", "math", "complete", (), "1")  # type: ignore[arg-type]
    turn = Turn("assistant", "", (1,), (0.0,), "eos")
    rows = (Trajectory(prompt, (1,), (turn,), Reward(sum(r.values()), r)) for r in rewards)
    return Group(prompt, tuple(rows))


def test_each_component_normalised_before_they_are_added() -> None:
    """GDPO by hand. Group 1: right 1, 0 and asked 0, -0.1, each with std x sqrt(2) apart: both
    components give +-0.7071 / (1 + 1e-4 / std), which add up. Group 2: right alone differs."""
    one = of_components({"right": 1.0, "asked": 0.0}, {"right": 0.0, "asked": -0.1})
    two = of_components({"right": 1.0}, {"right": 0.0})
    keys = AdvantageKeys(multi_objective_aggregation="normalize_then_sum", min_reward_std=0)
    right = 0.5 / (0.5**0.5 + 1e-4)
    asked = 0.05 / (0.1 * 0.5**0.5 + 1e-4)
    sums = [right + asked, -right - asked, right, -right]
    std = (2 * ((right + asked) ** 2 + right**2) / 3) ** 0.5 + 1e-4
    found = [a for g in advantage_groups([one, two], keys) for a in g.advantages or ()]
    assert found == pytest.approx([value / std for value in sums])
    # TRL multiplies each normalised component by its function's weight.
    half = advantage_groups([one, two], keys, 1.0, {"asked": 0.5})[0].advantages or ()
    sums = [right + asked / 2, -right - asked / 2, right, -right]
    std = (2 * ((right + asked / 2) ** 2 + right**2) / 3) ** 0.5 + 1e-4
    assert half == pytest.approx([value / std for value in sums[:2]])


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
    teaches = ~zero_variance(rewards, SPREAD)
    underspecified = torch.tensor([True, True, False, True, False, True])
    assert select_groups(teaches, underspecified, 2, 2) == [0, 2, 3]
    assert select_groups(teaches, underspecified, 4, 1) == [0, 2, 3, 5]
    assert select_groups(teaches, underspecified, 0, 0) == []
