"""Targets of questions by a model: asked outright, and by the rise of the gold answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from policies import model_keys

from icpo_lite.core.errors import ModelError, RecipeError
from icpo_lite.core.types import Intent, Message, Prompt, Shard, StopReason
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import PolicyScorer
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.from_recipe import bind_judge, bind_reward, judge_needs_policy
from icpo_lite.rewards.judge import Judge
from icpo_lite.rewards.model_targets import EndpointTargets, GoldRise, SelfTargets, read_yes

GOAL = Shard(0, "How many apples are left?", is_question=True)
HAS = Shard(1, "Ann has 9 apples.")
LOSES = Shard(2, "Ann loses 2 apples.")
PROMPT = Prompt(
    "p",
    "p",
    "math",
    Intent.UNDERSPECIFIED,
    (Message("user", "Ann has 9 apples. Ann loses some. How many apples are left?"),),
    "#### 7",
    (GOAL, HAS, LOSES),
    (LOSES,),
)
ON, OFF = "How many apples does Ann lose?", "How many apples does Ann have?"


class Chances:
    """A scorer that looks probabilities up: (words of the chat's last turn, text) → P."""

    def __init__(self, table: dict[tuple[str, str], float], other: float = 0.1) -> None:
        self.table, self.other = table, other
        self.asked: list[Sequence[Message]] = []

    def score(
        self,
        chats: Sequence[Sequence[Message]],
        continuations: Sequence[Sequence[str]],
        *,
        mean: bool = False,
    ) -> list[list[float]]:
        self.asked += chats
        return [
            [math.log(self._chance(chat[-1].content, text)) for text in texts]
            for chat, texts in zip(chats, continuations, strict=True)
        ]

    def _chance(self, last: str, text: str) -> float:
        for (part, wanted), chance in self.table.items():
            if part in last and wanted == text:
                return chance
        return self.other


class Texts:
    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def generate(self, chats, **options):  # type: ignore[no-untyped-def]
        return [[self.texts.pop(0)] for _ in chats]


def test_gold_rise_by_hand() -> None:
    """P(gold) is 0.2 before and 0.5 after the fact: a rise of 0.3 where the fact is the answer."""
    gold = "The answer is 7."
    scorer = Chances(
        {
            (ON, LOSES.text): 0.8,
            (OFF, HAS.text): 0.8,
            ("I do not know.", gold): 0.2,
            (LOSES.text, gold): 0.5,
            (HAS.text, gold): 0.2,
        }
    )
    on, off = GoldRise(scorer).rises([(PROMPT, ON), (PROMPT, OFF)])
    assert (on.answer, off.answer) == (LOSES, HAS)
    assert on.rise == pytest.approx(0.3)
    assert off.rise == pytest.approx(0.0)
    assert GoldRise(scorer).targets([(PROMPT, ON), (PROMPT, OFF)]) == [True, False]
    assert GoldRise(scorer).targets([]) == []


def test_a_fact_that_makes_the_answer_less_likely_is_no_target() -> None:
    scorer = Chances({(ON, LOSES.text): 0.8, (LOSES.text, "The answer is 7."): 0.05})
    assert GoldRise(scorer).targets([(PROMPT, ON)]) == [False]


def test_the_judge_takes_the_targeters_word_on_questions_alone() -> None:
    """Rules say that OFF repeats a given fact; a model that calls it a hit is believed."""
    replies: list[tuple[Prompt, str, StopReason | None]] = [
        (PROMPT, ON, "eos"),
        (PROMPT, OFF, "eos"),
        (PROMPT, "The answer is 7.", "eos"),
    ]
    ruled = Judge().judge_many(replies)
    assert [v.targeted for v in ruled] == [True, False, None]
    assert ruled[1].repeats_given

    class Contrary:
        def targets(self, items):  # type: ignore[no-untyped-def]
            return [reply == OFF for _, reply in items]

    judge = Judge(targeter=Contrary())
    told = judge.judge_many(replies)
    assert [v.targeted for v in told] == [False, True, None]
    assert [v.repeats_given for v in told] == [False, False, False]
    assert not judge.local


def test_self_targets_compares_yes_with_no() -> None:
    scorer = Chances({(ON, "A"): 0.9, (ON, "B"): 0.1, (OFF, "A"): 0.1, (OFF, "B"): 0.9})
    assert SelfTargets(scorer).targets([(PROMPT, ON), (PROMPT, OFF)]) == [True, False]
    assert LOSES.text in scorer.asked[0][-1].content
    assert "the marks; it is text to judge" in scorer.asked[0][-1].content


def test_endpoint_targets_tries_again_and_gives_up_with_the_rows_name() -> None:
    said = EndpointTargets(Texts("hm", '{"asks_for_it": true}'))
    assert said.targets([(PROMPT, ON)]) == [True]
    with pytest.raises(ModelError, match=r"no yes or no in 2 replies for p"):
        EndpointTargets(Texts("hm", "hm"), tries=2).targets([(PROMPT, ON)])


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"asks_for_it": false}', False), ("A. yes", True), ("B", False), ("Perhaps", None)],
)
def test_what_a_judge_says(text: str, said: bool | None) -> None:
    assert read_yes(text) is said


def test_a_judge_that_is_no_model_cannot_say_it() -> None:
    recipe = load_recipe("tiny", ["reward.target_by=judge"])
    with pytest.raises(RecipeError, match=r"reward\.target_by: judge asks the model"):
        bind_reward(recipe)
    with pytest.raises(RecipeError, match="target_by"):
        bind_reward(load_recipe("tiny", ["reward.target_by=nobody"]))


def test_gold_rise_of_a_recipe_runs_on_the_policy() -> None:
    """From the recipe's key to verdicts; the mean log-prob is the sum over the tokens."""
    recipe = load_recipe("tiny", ["reward.target_by=gold_rise"])
    assert judge_needs_policy(recipe)
    assert not judge_needs_policy(load_recipe("tiny"))
    policy = load_policy(model_keys("builtin:tiny", device="cpu"))
    judge = bind_judge(recipe, policy)
    found = judge.judge_many([(PROMPT, ON, "eos"), (PROMPT, "The answer is 7.", "eos")])
    assert found[0].targeted in (True, False)
    assert found[1].targeted is None
    chat, text = [[Message("user", GOAL.text)]], "The answer is 7."
    scorer = PolicyScorer(policy)
    tokens = len(policy.tokenizer(text, add_special_tokens=False)["input_ids"])
    total, mean = scorer.score(chat, [[text]]), scorer.score(chat, [[text]], mean=True)
    assert mean[0][0] == pytest.approx(total[0][0] / tokens)
