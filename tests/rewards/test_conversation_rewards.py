"""Rewards of whole conversations, computed by hand."""

import pytest

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.turns import prompt_after
from icpo_lite.core.types import (
    Certificate,
    Intent,
    Message,
    Prompt,
    ResponseType,
    Reward,
    Shard,
    Turn,
    Verdict,
)
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.conversation_rewards import CONVERSATION_REWARDS
from icpo_lite.rewards.from_recipe import bind_conversation_reward
from icpo_lite.rollout.conversation_groups import Spoken

SHARDS = (
    Shard(0, "How many apples does Ann have after shopping?", is_question=True),
    Shard(1, "Ann has 3 apples."),
    Shard(2, "Ann buys 4 apples."),
)
LACKING = Prompt(
    "p",
    "p",
    "math",
    Intent.UNDERSPECIFIED,
    (Message("user", SHARDS[0].text),),
    "7",
    SHARDS,
    SHARDS[1:],
    Certificate("given"),
)
WHOLE = Prompt("q", "p", "math", Intent.COMPLETE, (Message("user", "All of it."),), "7", SHARDS)

ASK = Verdict(ResponseType.CLARIFICATION, targeted=True)
MISS = Verdict(ResponseType.CLARIFICATION, targeted=False)
NEEDLESS = Verdict(ResponseType.CLARIFICATION)
RIGHT = Verdict(ResponseType.ANSWER_ATTEMPT, correct=True)
WRONG = Verdict(ResponseType.ANSWER_ATTEMPT, correct=False)
REFUSES = Verdict(ResponseType.REFUSAL)
NOTHING = Verdict(ResponseType.MISSING)

TEXT = "How many apples does Ann have?"


def talk(*verdicts, prompt=LACKING, text=TEXT, worth=None):
    """A conversation of these replies; the user tells one removed shard after each."""
    turns, out = [], []
    for number, verdict in enumerate(verdicts):
        reply = Turn("assistant", text, verdict=verdict)
        pay = worth[number] if worth else 0.0
        out.append(Spoken(prompt_after(prompt, turns), reply, Reward(pay, {"own": pay})))
        told = prompt.removed[number : number + 1]
        turns += [reply, *(Turn("user", s.text, told=(s.shard_id,)) for s in told)]
    return out


def paid(name, said, **options):
    rule = CONVERSATION_REWARDS[name]
    rewards = rule.bind(rule.options.model_validate(options))(said)
    for reward in rewards:
        assert reward.total == pytest.approx(sum(reward.components.values()))
    return [pytest.approx(reward.total) for reward in rewards]


def test_a_prompt_lacks_something_until_its_last_removed_shard_is_told():
    said = talk(ASK, ASK, RIGHT)
    assert [s.prompt.intent for s in said] == ["underspecified", "underspecified", "complete"]
    assert [[r.shard_id for r in s.prompt.removed] for s in said] == [[1, 2], [2], []]
    assert [len(s.prompt.messages) for s in said] == [1, 3, 5]


def test_one_that_nobody_can_complete_goes_on_lacking():
    given = Prompt("p", "p", "math", Intent.UNDERSPECIFIED, LACKING.messages, "7", targets=("x",))
    after = prompt_after(given, (Turn("assistant", "What?"), Turn("user", "I do not know.")))
    assert after.intent is Intent.UNDERSPECIFIED
    assert after.targets == ("x",)


@pytest.mark.parametrize(
    ("verdicts", "worth", "options", "expected"),
    [
        # Two shards lack: three replies, each a third; right at the end, nothing missing: + 1.
        ([ASK, ASK, RIGHT], [1, 1, 1], {}, [1 / 3, 1 / 3, 4 / 3]),
        ([ASK, ASK, WRONG], [1, 1, 0], {}, [1 / 3, 1 / 3, 0]),
        # A lucky answer ends the conversation early and is no terminal success.
        ([ASK, RIGHT], [1, 0], {}, [1 / 3, 0]),
        ([WRONG, ASK, RIGHT], [0, 1, 1], {"turns": 3, "terminal": 2}, [0, 1, 3]),
        # Costs are whole, not shares.
        (
            [ASK, MISS, RIGHT],
            [1, 0, 1],
            {"question_cost": 0.1, "turn_cost": 0.02},
            [1 / 3 - 0.12, -0.12, 4 / 3 - 0.02],
        ),
        ([ASK, ASK, RIGHT], [0, 0, 0], {"after_asking": 0.5}, [0, 0, 1.5]),
        ([WRONG, MISS, RIGHT], [0, 0, 0], {"after_asking": 0.5}, [0, 0, 1.0]),
    ],
)
def test_intent(verdicts, worth, options, expected):
    assert paid("intent", talk(*verdicts, worth=worth), **options) == expected


def test_intent_on_a_complete_prompt_is_its_one_reply_and_the_answer():
    assert paid("intent", talk(RIGHT, prompt=WHOLE, worth=[1])) == [2.0]
    assert paid("intent", talk(NEEDLESS, prompt=WHOLE, worth=[-0.05])) == [-0.05]


@pytest.mark.parametrize(
    ("verdicts", "terminal", "after_asking"),
    [
        ([ASK, ASK, RIGHT], 1, 1),
        ([WRONG, WRONG, RIGHT], 1, 0.25),
        ([MISS, MISS, RIGHT], 1, 0.25),
        ([ASK, RIGHT], 1, 0),
        ([ASK, ASK, WRONG], 0, 0),
        # The last attempt counts, whatever was said after it.
        ([RIGHT, ASK], 1, 0),
        ([ASK, ASK, ASK], 0, 0),
    ],
)
def test_terminal_and_after_asking(verdicts, terminal, after_asking):
    silent = [0] * (len(verdicts) - 1)
    assert paid("terminal", talk(*verdicts)) == [*silent, terminal]
    assert paid("after_asking", talk(*verdicts), unasked=0.25) == [*silent, after_asking]


def test_after_asking_where_nothing_lacked():
    assert paid("after_asking", talk(RIGHT, prompt=WHOLE)) == [1.0]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([WRONG], 0),
        ([RIGHT], 0.5),
        # Three turns, both questions help: 0.5 + 0.5·1 + 0.5·(5 - 3)/4.
        ([ASK, ASK, RIGHT], 1.25),
        # One of two helps: 0.5 + 0.25 + 0.25.
        ([MISS, ASK, RIGHT], 1.0),
        # Five turns and more save nothing.
        ([ASK, ASK, WRONG, WRONG, WRONG, RIGHT], 1.0),
        ([ASK, ASK, WRONG], 0),
    ],
)
def test_pir(verdicts, expected):
    assert paid("pir", talk(*verdicts))[-1] == expected


@pytest.mark.parametrize(
    ("verdicts", "text", "expected"),
    [
        # Two shards lack and one is asked for: 0.8; then the other, all that lacks: 1; right: 1.
        ([ASK, ASK, RIGHT], TEXT, [0.8, 1, 1]),
        ([MISS, WRONG, WRONG], TEXT, [-0.8, -2, -1]),
        ([RIGHT], TEXT, [-2]),
        ([ASK, ASK, ASK], TEXT, [0.8, 1, -2]),
        ([ASK], "How many apples does Ann have? How many apples does Ann buy?", [1]),
    ],
)
def test_askbench(verdicts, text, expected):
    assert paid("askbench", talk(*verdicts, text=text)) == expected


def test_ternary():
    assert paid("ternary", talk(ASK, ASK, RIGHT)) == [0, 0, 1]
    assert paid("ternary", talk(ASK, ASK, WRONG)) == [0, 0, -1]
    assert paid("ternary", talk(ASK, ASK, REFUSES), abstained=-0.25) == [0, 0, -0.25]


def test_rlaar_pays_for_the_answer_or_for_none_where_the_list_ends_early():
    assert paid("rlaar", talk(ASK, ASK, RIGHT)) == [0, 0, 1]
    assert paid("rlaar", talk(ASK, ASK, REFUSES)) == [0, 0, 0]
    assert paid("rlaar", talk(ASK, REFUSES)) == [0, 1]
    assert paid("rlaar", talk(ASK, ASK)) == [0, 1]
    assert paid("rlaar", talk(ASK, WRONG)) == [0, 0]
    assert paid("rlaar", talk(ASK, RIGHT)) == [0, 0]
    assert paid("rlaar", talk(ASK, NOTHING)) == [0, 0]


def test_the_recipe_names_one_with_its_options():
    rule = bind_conversation_reward(
        load_recipe("tiny-multiturn", ["conversation_reward={terminal: 2, turns: 0}"])
    )
    assert [r.total for r in rule(talk(ASK, ASK, RIGHT, worth=[1, 1, 1]))] == [0, 0, 2]
    for override, said in (
        ("conversation_reward=pirr", "pir"),
        ("conversation_reward={name: pir, terminal: 1}", "terminal"),
    ):
        with pytest.raises(RecipeError, match=said):
            bind_conversation_reward(load_recipe("tiny-multiturn", [override]))


def test_demonstrations_are_no_conversations():
    with pytest.raises(RecipeError, match="demonstrations: the corpus's solutions"):
        load_recipe("tiny-multiturn", ["demonstrations=rl_plus"])
