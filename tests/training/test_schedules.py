"""Schedules against numbers computed by hand."""

import json

import pytest

from icpo_lite.core.errors import RecipeError
from icpo_lite.recipe.objective_sections import LossKeys
from icpo_lite.training.schedules import (
    Adaptive,
    Constant,
    EntropyTarget,
    Linear,
    Measured,
    Schedule,
    State,
    lr_factor,
    split_prompts,
)


def test_linear_learning_rate() -> None:
    """Two updates of warm-up, then 1, 3/4, 1/2, 1/4 of the way; 0 would come at step 6."""
    found = [lr_factor(step, 6, warmup_steps=2) for step in range(7)]
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0])


def test_a_floor_under_the_learning_rate() -> None:
    found = [lr_factor(step, 4, min_ratio=0.2) for step in range(6)]
    assert found == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_cosine_learning_rate() -> None:
    found = [lr_factor(step, 4, kind="cosine") for step in range(5)]
    assert found == pytest.approx([1.0, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0.0])


def test_constant_learning_rate() -> None:
    found = [lr_factor(s, 9, kind="constant", warmup_steps=4) for s in range(6)]
    assert found == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_no_update_is_wasted_and_none_divides_by_zero() -> None:
    assert lr_factor(0, 10, warmup_steps=10) == 0.1
    assert lr_factor(9, 10, warmup_steps=10) == 1.0
    assert lr_factor(10, 10, warmup_steps=10) == 1.0
    assert lr_factor(0, 1) == 1.0
    with pytest.raises(ValueError, match="linear, cosine or constant"):
        lr_factor(0, 1, kind="square")  # type: ignore[arg-type]


def test_constant_and_linear_share() -> None:
    assert [Constant(0.4).value(step, {}) for step in (0, 100)] == [0.4, 0.4]
    linear = Linear(0.5, 0.1, over_steps=4)
    found = [linear.value(step, linear.start()) for step in range(6)]
    assert found == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1, 0.1])


ADAPTIVE = Adaptive(initial=0.4, low=0.3, high=0.5, step_size=0.05, smoothing=0.5)


def after(state: State, *steps: Measured) -> State:
    for measured in steps:
        state = ADAPTIVE.update(state, measured)
    return state


def test_it_rises_while_the_policy_asks_too_little() -> None:
    steps = [Measured(clarification_rate=0.2, accuracy=0.8, over_asking_rate=0.0)] * 5
    assert after(ADAPTIVE.start(), steps[0])["value"] == pytest.approx(0.45)
    assert after(ADAPTIVE.start(), *steps)["value"] == 0.5


def test_it_stays_within_the_slack_and_falls_above() -> None:
    assert after(ADAPTIVE.start(), Measured(0.85, 0.8, 0.0))["value"] == 0.4
    assert after(ADAPTIVE.start(), Measured(0.95, 0.8, 0.0))["value"] == pytest.approx(0.35)
    assert after(ADAPTIVE.start(), *[Measured(0.95, 0.8, 0.0)] * 9)["value"] == 0.3


def test_solving_goes_first() -> None:
    """Best 0.8, running mean (0.8 + 0.6)/2 = 0.7 < 0.95·0.8: down, though it asks too little."""
    good = Measured(0.2, 0.8, 0.0)
    state = after(ADAPTIVE.start(), good, good, Measured(0.2, 0.6, 0.0))
    assert state["accuracy"] == pytest.approx(0.7)
    assert state["value"] == pytest.approx(0.5 - 0.05)
    over_asking = after(ADAPTIVE.start(), Measured(0.2, 0.8, 0.2))
    assert over_asking["value"] == pytest.approx(0.35)


def test_one_lucky_step_is_no_standard() -> None:
    """Means 1.0, 0.8, 0.7, 0.65: the best that counts is 0.8, and 0.76 is the line."""
    luck, usual = Measured(0.2, 1.0, 0.0), Measured(0.2, 0.6, 0.0)
    state = after(ADAPTIVE.start(), luck, usual)
    assert state["best_accuracy"] == pytest.approx(0.8)
    assert state["value"] == 0.5


def test_a_step_without_one_kind_of_prompt_changes_nothing_of_it() -> None:
    state = after(ADAPTIVE.start(), Measured(0.85, 0.8, 0.0))
    assert after(state, Measured()) == state


@pytest.mark.parametrize("schedule", [Constant(0.4), Linear(0, 1, 3), ADAPTIVE])
def test_a_state_is_json_and_an_update_leaves_the_old_one_alone(schedule: Schedule) -> None:
    state = schedule.start()
    before = dict(state)
    now = schedule.update(state, Measured(0.123456789, 1 / 3, 0.1))
    assert state == before
    assert json.loads(json.dumps(now)) == now


def test_bounds_that_cross() -> None:
    with pytest.raises(RecipeError, match="low <= initial <= high"):
        Adaptive(initial=0.6, low=0.1, high=0.5)


def test_split_prompts_keeps_the_share_in_the_long_run() -> None:
    """0.3·8 = 2.4: 2 (.4 over), 2 (.8), 3 (.2), 2 (.6), 3 (.0) — twelve of forty."""
    counts, carried = [], 0.0
    for _ in range(5):
        count, carried = split_prompts(0.3, 8, carried)
        counts.append(count)
    assert counts == [2, 2, 3, 2, 3]
    assert carried == pytest.approx(0.0, abs=1e-9)
    assert split_prompts(0.0, 8, 0.0) == (0, 0.0)
    assert split_prompts(1.0, 8, 0.0) == (8, 0.0)
    assert sum(_counts(0.1, 10, 1000)) == 1000


def _counts(share: float, prompts: int, steps: int) -> list[int]:
    found, carried = [], 0.0
    for _ in range(steps):
        count, carried = split_prompts(share, prompts, carried)
        found.append(count)
    return found


def test_entropy_target() -> None:
    control = EntropyTarget(LossKeys(entropy_target=0.2, entropy_coef=0.01, entropy_coef_max=0.015))
    state = control.start()
    assert control.coefficient(state) == 0.0
    state = control.update(state, 0.1)
    assert (state["coef"], control.coefficient(state)) == pytest.approx((0.015, 0.015))
    state = control.update(state, 0.2)
    assert control.coefficient(state) == pytest.approx(0.015)  # at its bound
    state = control.update(state, 0.3)
    assert state["coef"] == pytest.approx(0.01)
    assert control.coefficient(state) == 0.0  # not applied above the target
    assert control.coefficient(control.update(state, 0.1)) == pytest.approx(0.015)
