"""Credit within conversations, computed by hand.

Two conversations of a group: replies that earn 1, 0, 1, and replies that earn 0, 1.
"""

import math
import statistics
from dataclasses import replace

import pytest

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import Group, Intent, Prompt, Reward, Trajectory, Turn
from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import PolicyScorer
from icpo_lite.recipe import load_recipe
from icpo_lite.training.advantages import advantage_groups
from icpo_lite.training.batch import collate
from icpo_lite.training.conversations import rows_before, with_gold_probs
from icpo_lite.training.credit import credited, exponential, information_gains, moves, returns

CREDITS = ("gtpo", "mapo", "igpo", "r2g", "em", "equalized")
LACKING = Prompt("p", "p", "math", Intent.UNDERSPECIFIED, (), "7")


def recipe(credit, *overrides):
    return load_recipe(
        "tiny-multiturn", [f"credit={credit}", "scale_rewards=none", "min_reward_std=0", *overrides]
    )


def conversation(rewards, golds=None, prompt=LACKING):
    turns = []
    for k, pay in enumerate(rewards):
        if k:
            turns.append(Turn("user", "u", (8,)))
        gold = golds[k] if golds else None
        turns.append(
            Turn("assistant", "a", (k + 1, 9), (-1.0, -1.0), reward=Reward(pay), gold_prob=gold)
        )
    return Trajectory(prompt, (5,), tuple(turns), reward=Reward(float(sum(rewards))))


def group(*rows, prompt=LACKING):
    return Group(prompt, tuple(rows))


def shares(group, chosen, weight=1.0):
    (learned,) = credited(advantage_groups([group], chosen, weight), chosen, weight)
    return [[turn.advantage for turn in t.replies] for t in learned.trajectories]


HAND = group(conversation([1, 0, 1], [0.2, 0.5, 0.6]), conversation([0, 1], [0.2, 0.1]))


@pytest.mark.parametrize(
    ("credit", "expected"),
    [
        # Returns at 0.9: 1.81, 0.9, 1 and 0.9, 1; their mean is 1.122.
        ("gtpo", [[0.688, -0.222, -0.122], [-0.222, -0.122]]),
        # By index: 1.81 and 0.9 are ±0.455, 0.9 and 1 are ∓0.05, the third is alone: 0.
        # Own rewards less 0.6: 0.4, -0.6, 0.4 and -0.6, 0.4. Half of each.
        ("mapo", [[0.4275, -0.325, 0.2], [-0.5275, 0.225]]),
        # Gains 0.3, 0.1, then the outcome 1; -0.1, then 1. To go: 1.4, 1.1, 1 and 0.9, 1.
        ("igpo", [[0.32, 0.02, -0.08], [-0.18, -0.08]]),
        # Means 2/3 and 1/2 are ±1/12.
        ("equalized", [[1 / 12] * 3, [-1 / 12] * 2]),
        # A reward of 1 counts 1, one of 0 counts 0.5.
        ("em", [[1 / 12, 1 / 24, 1 / 12], [-1 / 24, -1 / 12]]),
        # At 0.8: 1.64, 0.8, 1 and 0.8, 1; the first ones are ±0.42.
        ("r2g", [[0.42 * 1.64, 0.42 * 0.8, 0.42], [-0.42 * 0.8, -0.42]]),
    ],
)
def test_by_hand(credit, expected):
    found = shares(HAND, recipe(credit))
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-12)
    halved = shares(HAND, recipe(credit), 0.5)
    for row, wanted in zip(halved, expected, strict=True):
        assert row == pytest.approx([w / 2 for w in wanted], abs=1e-12)


@pytest.mark.parametrize(
    ("credit", "score", "expected"),
    [
        # Sums 2 and 1 are ±1/2.
        ("equalized", "sum", [[0.5] * 3, [-0.5] * 2]),
        # At 0.8: 1 + 0.64 and 0.8 are ±0.42.
        ("equalized", "r2g", [[0.42] * 3, [-0.42] * 2]),
        ("em", "r2g", [[0.42, 0.21, 0.42], [-0.21, -0.42]]),
        ("r2g", "mean", [[1.64 / 12, 0.8 / 12, 1 / 12], [-0.8 / 12, -1 / 12]]),
    ],
)
def test_a_conversations_score_is_a_choice(credit, score, expected):
    """UserRL's turn rewards and scores are chosen by themselves: equalized/r2g is its best."""
    found = shares(HAND, recipe(credit, f"credit_score={score}"))
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-12)


def test_a_score_is_of_userrls_credits():
    with pytest.raises(RecipeError, match="of credit: equalized, em or r2g, found credit: gtpo"):
        recipe("gtpo", "credit_score=sum")


def test_gtpo_divides_by_the_std_of_all_turns():
    values = [1.81, 0.9, 1.0, 0.9, 1.0]
    std = statistics.stdev(values) + 1e-4
    found = shares(HAND, recipe("gtpo", "scale_rewards=group"))
    assert found[0] + found[1] == pytest.approx([(v - 1.122) / std for v in values], abs=1e-12)
    floored = shares(HAND, recipe("gtpo", "scale_rewards=group", "min_reward_std=2"))
    assert floored[0][0] == pytest.approx(0.688 / 2.0001, abs=1e-12)


def test_batch_scale_is_the_std_over_all_groups():
    chosen = recipe("gtpo", "scale_rewards=batch", "credit_gamma=1.0")
    other = group(conversation([3, 0]), conversation([0, 0]))
    learned = credited(advantage_groups([HAND, other], chosen), chosen)
    values = [2, 1, 1, 1, 1, 3, 0, 0, 0]
    std = statistics.stdev(values) + 1e-4
    found = [t.advantage for t in learned[1].trajectories[0].replies]
    assert found == pytest.approx([(3 - 0.75) / std, -0.75 / std], abs=1e-12)


def test_gamma_is_the_recipes():
    found = shares(HAND, recipe("gtpo", "credit_gamma=1.0"))
    # 2, 1, 1 and 1, 1, less their mean 1.2.
    assert found[0] + found[1] == pytest.approx([0.8, -0.2, -0.2, -0.2, -0.2])
    assert returns([1, 2, 3], 0.5) == [2.75, 3.5, 3]


def test_em_holds_rewards_between_0_and_1():
    assert [exponential(r) for r in (-3, 0, 1, 7)] == [0.5, 0.5, 1.0, 1.0]
    assert exponential(0.5) == pytest.approx(0.5 + 0.5 * 0.6321205588 / 0.8646647168)


def test_without_a_gold_answer_gains_are_the_rewards():
    assert information_gains(conversation([0.25, 1])) == [0.25, 1]
    assert information_gains(conversation([0.25, 1], [0.1, 0.4])) == pytest.approx([0.3, 1])


def test_the_trajectorys_credit_changes_nothing():
    chosen = recipe("trajectory")
    made = advantage_groups([HAND], chosen)
    assert credited(made, chosen) == made


def test_credit_reaches_the_tokens_of_its_turn():
    chosen = recipe("gtpo")
    batch = collate(credited(advantage_groups([HAND], chosen), chosen), pad_id=0)
    # Row 0: prompt, two sampled, user, two sampled, user, two sampled.
    assert batch.advantages[0].tolist() == pytest.approx(
        [0.688, 0.688, 0, -0.222, -0.222, 0, -0.122, -0.122], abs=1e-6
    )


def test_equal_conversations_may_have_turns_that_differ():
    same = group(conversation([1, 0]), conversation([0, 1]))
    chosen = recipe("gtpo", "credit_gamma=1.0")
    (learned,) = credited(advantage_groups([same], chosen), chosen)
    assert learned.advantages == (0.0, 0.0)
    assert moves(learned)
    flat = group(conversation([1]), conversation([1]))
    assert not moves(*credited(advantage_groups([flat], chosen), chosen))
    plain = recipe("trajectory")
    assert moves(*credited(advantage_groups([HAND], plain), plain))
    assert not moves(*credited(advantage_groups([flat], plain), plain))


def test_credit_is_of_conversations():
    with pytest.raises(RecipeError, match="credit: gtpo is of conversations"):
        load_recipe("tiny", ["credit=gtpo"])
    with pytest.raises(RecipeError, match="credit: igpo scales"):
        recipe("igpo", "multi_objective_aggregation=normalize_then_sum")


def test_gold_probability_is_the_scorers_on_the_same_text():
    """The tiny template rewrites nothing: P over sampled ids is P over the chat's own ids."""
    chosen = load_recipe("tiny-multiturn", ["device=cpu", "load_in_4bit=false"])
    policy = load_policy(chosen, threads=1)
    policy.set_training(False)
    prompts, _ = training_prompts(chosen, None)
    prompt = next(p for p in prompts if p.removed and len(p.messages) == 1)
    start = policy.encode_chat(prompt.messages)
    question = replace(prompt.messages[0], role="assistant", content="How many?")
    told = replace(prompt.messages[0], content=prompt.removed[0].text)
    chat = [*prompt.messages, question, told]
    whole = policy.encode_chat(chat)
    end = policy.encode_text("How many?<|im_end|>")
    talk = Trajectory(
        prompt,
        start,
        (
            Turn("assistant", "How many?", end),
            Turn("user", told.content, whole[len(start) + len(end) :]),
            Turn("assistant", "The answer is 7.", policy.encode_text("The answer is 7.")),
        ),
    )
    assert rows_before(talk) == [start, whole]
    given = Group(prompt, (talk, talk))
    ((made, again),) = (g.trajectories for g in with_gold_probs([given], policy))
    gold = f"The answer is {prompt.answer}."
    wanted = PolicyScorer(policy).score([prompt.messages, chat], [[gold], [gold]], mean=True)
    found = [turn.gold_prob for turn in made.replies]
    assert found == pytest.approx([math.exp(row[0]) for row in wanted], rel=1e-4)
    assert [turn.gold_prob for turn in again.replies] == found
    nobody = replace(prompt, answer=None)
    open_ = Group(nobody, (replace(talk, prompt=nobody),))
    assert with_gold_probs([open_], policy)[0].trajectories[0].replies[0].gold_prob is None


@pytest.mark.parametrize("credit", CREDITS)
def test_every_credit_is_a_choice_of_the_recipe(credit):
    assert recipe(credit).credit == credit
