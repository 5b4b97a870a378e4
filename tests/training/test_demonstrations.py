"""Demonstrations in a group: which prompts get one, what is learned from."""

import pytest
from policies import model_keys

from icpo_lite.core.types import (
    Group,
    Intent,
    Message,
    Prompt,
    ResponseType,
    Reward,
    Shard,
    Trajectory,
    Turn,
    Verdict,
)
from icpo_lite.policy.load import load_policy
from icpo_lite.recipe.objective_sections import AdvantageKeys
from icpo_lite.training.advantages import advantage_groups
from icpo_lite.training.demonstrations import (
    fit_to_follow,
    gated,
    join_demonstrations,
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


def asking(asks, *, demonstration=False):
    """A reply to a prompt that lacks something: a question, or a guess."""
    kind = ResponseType.CLARIFICATION if asks else ResponseType.ANSWER_ATTEMPT
    turn = Turn("assistant", "?", (5, 2), (-1.0, -1.0), "eos", Verdict(kind, targeted=asks))
    under = prompt(Intent.UNDERSPECIFIED)
    return Trajectory(under, (1,), (turn,), Reward(float(asks)), demonstration)


def under_group(*asks, shown=True):
    rows = [asking(a) for a in asks] + [asking(shown, demonstration=True)]
    return Group(prompt(Intent.UNDERSPECIFIED), tuple(rows))


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


def test_a_prompt_that_lacks_a_fact_is_shown_the_question_for_it(policy):
    fact = Shard(1, "Mary buys 5 boxes of tea.")
    said = (
        Message("user", "Mary buys boxes of tea. How much does the tea cost at 3 dollars a box?"),
    )
    lacking = Prompt(
        "p", "p", "math", Intent.UNDERSPECIFIED, said, "15", shards=(fact,), removed=(fact,)
    )
    (joined,) = join_demonstrations([Group(lacking, (trajectory(False, of=lacking),))], policy, 48)
    shown = joined.trajectories[-1]
    assert shown.demonstration
    assert shown.reply.content == "How many boxes of tea does Mary buy?"
    assert shown.reply.token_ids[-1] == turn_end_id(policy)


@pytest.mark.parametrize("rare", [True, False])
def test_what_the_judge_calls_wrong_is_no_example(rare):
    assert fit_to_follow([group(False, shown=False)], rare=rare) == [group(False)]
    assert fit_to_follow([group(False, shown=True)], rare=rare) == [group(False, shown=True)]
    lost = under_group(False, shown=False)
    assert fit_to_follow([lost], rare=rare) == sampled_only([lost])
    assert fit_to_follow([under_group(False)], rare=rare) == [under_group(False)]


def test_a_question_joins_groups_in_which_nobody_asks():
    asked = under_group(True, False)
    assert fit_to_follow([asked], rare=True) == sampled_only([asked])
    assert fit_to_follow([asked], rare=False) == [asked]


def test_hpt_takes_one_side_or_the_other():
    """One of four right: at a gate of 1/4 the demonstration, below it the samples."""
    some = group(True, False, False, False, shown=True)
    assert gated([some], 0.25, 0.0) == [Group(some.prompt, some.trajectories[-1:])]
    assert gated([some], 0.2, 0.0) == sampled_only([some])
    assert gated([group(False, False)], 0.5, 0.0) == [group(False, False)]


def only_shown(some):
    return Group(some.prompt, some.trajectories[-1:])


def test_hpt_shows_a_question_where_nobody_asks():
    silent, asked = under_group(False, False), under_group(True, False)
    assert gated([silent, asked], 0.0, 0.0) == [only_shown(silent), *sampled_only([asked])]


def test_solutions_alone_are_not_shown():
    """Half of the complete groups fail. All ask on q*, so that those groups teach nothing: half of
    them learn from their question, that answers are not all that is shown."""
    failing, solved = group(False, False, shown=True), group(True, False, shown=True)
    flat, mixed = under_group(True, True), under_group(True, False)
    learned = gated([failing, solved, flat, mixed], 0.0, 0.0)
    assert learned[0] == only_shown(failing)
    assert learned[1:2] == sampled_only([solved])
    assert learned[2] == only_shown(flat)
    assert learned[3:] == sampled_only([mixed])  # what samples teach is not given up for it
    none_fails = [solved, flat, mixed]
    assert gated(none_fails, 0.0, 0.0) == sampled_only(none_fails)


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
