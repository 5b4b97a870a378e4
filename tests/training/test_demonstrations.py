"""The corpus's solutions in a group: which prompts get one, what is learned from."""

import pytest
from policies import model_keys

from icpo_lite.core.types import (
    Group,
    Intent,
    Message,
    Prompt,
    ResponseType,
    Reward,
    Trajectory,
    Turn,
    Verdict,
)
from icpo_lite.policy.load import load_policy
from icpo_lite.recipe.objective_sections import AdvantageKeys
from icpo_lite.training.advantages import advantage_groups
from icpo_lite.training.demonstrations import (
    gated,
    join_demonstrations,
    right_only,
    sampled_only,
    turn_end_id,
)


@pytest.fixture(scope="module")
def policy():
    return load_policy(model_keys("builtin:tiny", device="cpu"), threads=1)


GROUP, BATCH = (AdvantageKeys(scale_rewards=n, min_reward_std=0) for n in ("group", "batch"))


def prompt(intent=Intent.COMPLETE, solution="3 + 4 = <<3+4=7>>7. The answer is 7."):
    said = (Message("user", "How many?"),)
    return Prompt("p", "p", "math", intent, said, "7", solution=solution)


def trajectory(right, *, of=None, demonstration=False):
    verdict = Verdict(ResponseType.ANSWER_ATTEMPT, correct=right)
    turn = Turn("assistant", "7", (5, 2), (-1.0, -1.0), "eos", verdict)
    reward = Reward(float(right))
    return Trajectory(of or prompt(), (1,), (turn,), reward, demonstration)


def group(*rights, shown=None):
    rows = [trajectory(right) for right in rights]
    if shown is not None:
        rows.append(trajectory(shown, demonstration=True))
    return Group(prompt(), tuple(rows))


def test_a_demonstration_is_the_solution_in_the_models_own_tokens(policy):
    (joined,) = join_demonstrations([group(True, False)], policy, 48)
    turn = joined.trajectories[-1].reply
    assert joined.trajectories[-1].demonstration
    assert turn.content == "3 + 4 = 7. The answer is 7."  # no calculator marks
    assert turn.token_ids[-1] == turn_end_id(policy) == policy.tokenizer.eos_token_id
    assert policy.decode(turn.token_ids) == policy.decode(
        policy.tokenizer(turn.content, add_special_tokens=False)["input_ids"]
    )
    assert sampled_only([joined]) == [group(True, False)]


def test_who_gets_none(policy):
    under = prompt(Intent.UNDERSPECIFIED)
    without = prompt(solution="")
    for other in (under, without):
        bare = Group(other, (trajectory(False, of=other),))
        assert join_demonstrations([bare], policy, 48) == [bare]
    assert join_demonstrations([group(True)], policy, 5) == [group(True)]  # longer than 5 tokens


def test_a_wrong_solution_is_no_example():
    assert right_only([group(False, shown=False)]) == [group(False)]
    assert right_only([group(False, shown=True)]) == [group(False, shown=True)]


def test_hpt_takes_one_side_or_the_other():
    """One of four right: at a gate of 1/4 the demonstration, below it the samples."""
    some = group(True, False, False, False, shown=True)
    assert gated([some], 0.25) == [Group(some.prompt, some.trajectories[-1:])]
    assert gated([some], 0.2) == sampled_only([some])
    assert gated([group(False, False)], 0.5) == [group(False, False)]


def test_advantages_with_a_demonstration_by_hand():
    """Rewards 0, 0, 1 (shown): mean 1/3, unbiased std sqrt(1/3). Alone it counts 1."""
    (learned,) = advantage_groups([group(False, False, shown=True)], GROUP)
    std = (1 / 3) ** 0.5 + 1e-4
    assert learned.advantages == pytest.approx((-1 / 3 / std, -1 / 3 / std, 2 / 3 / std))
    (alone,) = advantage_groups([Group(prompt(), (trajectory(True, demonstration=True),))], GROUP)
    assert alone.advantages == (1.0,)


def test_batch_scale_spans_groups_of_different_sizes():
    """Rewards 1, 0 and 0, 0, 1: squared deviations from 2/5 sum to 6/5, over 4."""
    whole = advantage_groups([group(True, False), group(False, False, shown=True)], BATCH)
    std = (6 / 5 / 4) ** 0.5 + 1e-4
    assert whole[0].advantages == pytest.approx((0.5 / std, -0.5 / std))
    assert whole[1].advantages[2] == pytest.approx(2 / 3 / std)


def test_the_weight_of_underspecified_prompts_acts_after_the_scale():
    under = prompt(Intent.UNDERSPECIFIED)
    rows = (trajectory(True, of=under), trajectory(False, of=under))
    full, half = (advantage_groups([Group(under, rows)], GROUP, w)[0] for w in (1.0, 0.5))
    assert half.advantages == pytest.approx([0.5 * a for a in full.advantages])
    complete = group(True, False)
    assert advantage_groups([complete], GROUP, 0.5) == advantage_groups([complete], GROUP)
