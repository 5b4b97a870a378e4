"""Rewards by hand, and the aim of questions on the built-in world and on real text."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from icpo_lite.core.errors import GraderError
from icpo_lite.core.types import (
    NON_ANSWERS,
    Intent,
    Message,
    Prompt,
    ResponseType,
    Reward,
    Shard,
    Turn,
    Verdict,
)
from icpo_lite.data.tiny_world import world_problems, world_prompts
from icpo_lite.rewards.icpo import REWARDS
from icpo_lite.rewards.judge import Judge
from icpo_lite.rewards.question_targets import aim, asked_for

KINDS = list(ResponseType)


def _prompt(intent: Intent) -> Prompt:
    return Prompt("p", "p", "math", intent, (Message("user", "How many are left?"),), "7")


def _reward(
    name: str, intent: Intent, verdict: Verdict, text: str = "Hm.", **options: object
) -> Reward:
    turn = Turn("assistant", text, tuple(range(len(text.split()))), verdict=verdict)
    return REWARDS[name].bind(options)(_prompt(intent), verdict, turn)


@pytest.mark.parametrize("kind", KINDS)
def test_paper_pays_any_non_answer_on_underspecified_prompts(kind: ResponseType) -> None:
    """Equations 4 and 5: r = 1[type in T]."""
    reward = _reward("paper", Intent.UNDERSPECIFIED, Verdict(kind, correct=True))
    assert reward.total == (1.0 if kind in NON_ANSWERS else 0.0)


@pytest.mark.parametrize(("correct", "total"), [(True, 1.0), (False, 0.0), (None, 0.0)])
def test_paper_and_accuracy_pay_the_right_answer(correct: bool | None, total: float) -> None:
    """Equation 2: r = 1[answer = gold] on q; plain RLVR the same, on q* too."""
    verdict = Verdict(ResponseType.ANSWER_ATTEMPT, correct=correct)
    assert _reward("paper", Intent.COMPLETE, verdict).total == total
    for intent in Intent:
        assert _reward("accuracy", intent, verdict).total == total


@pytest.mark.parametrize(
    ("kind", "targeted", "component", "total"),
    [
        ("clarification", True, "targeted", 1.0),
        ("clarification", False, "untargeted", 0.3),
        ("interrogation", True, "targeted_interrogation", 0.6),
        ("interrogation", False, "untargeted", 0.3),
        ("discussion", None, "discussion", 0.2),
        ("hedging", None, "hedging", 0.15),
        ("refusal", None, "refusal", 0.05),
        ("answer_attempt", None, "invented", 0.0),
        ("missing", None, "missing", 0.0),
    ],
)
def test_guarded_orders_the_types(
    kind: str, targeted: bool | None, component: str, total: float
) -> None:
    verdict = Verdict(ResponseType(kind), targeted=targeted)
    reward = _reward("guarded", Intent.UNDERSPECIFIED, verdict)
    assert reward.components == {component: total}
    assert reward.total == total


def test_guarded_on_complete_prompts() -> None:
    """A question costs 0.05, and 0.15 more when it asks for what is there."""
    question = Verdict(ResponseType.CLARIFICATION)
    assert _reward("guarded", Intent.COMPLETE, question).total == pytest.approx(-0.05)
    again = Verdict(ResponseType.CLARIFICATION, repeats_given=True)
    reward = _reward("guarded", Intent.COMPLETE, again)
    assert reward.total == pytest.approx(-0.20)
    assert reward.components == {"correct": 0.0, "over_asking": -0.05, "repeats_given": -0.15}
    refusal = Verdict(ResponseType.REFUSAL)
    assert _reward("guarded", Intent.COMPLETE, refusal).total == 0


def test_guarded_length_costs_linearly_up_to_its_weight() -> None:
    """20 words at max_tokens 10 are twice as many: the whole -0.2; 15 are half of it."""
    right = Verdict(ResponseType.ANSWER_ATTEMPT, correct=True)
    for words, cost in [(10, 0.0), (15, -0.1), (20, -0.2), (40, -0.2)]:
        text = " ".join(f"w{i}" for i in range(words))
        reward = _reward("guarded", Intent.COMPLETE, right, text, max_tokens=10)
        assert reward.total == pytest.approx(1.0 + cost)


@pytest.mark.parametrize(("times", "words", "total"), [(31, 102, 1.0), (64, 201, 0.2)])
def test_a_very_long_question_is_paid_as_discussion(times: int, words: int, total: float) -> None:
    """From 200 words on; one of 102 is still a question."""
    verdict = Verdict(ResponseType.CLARIFICATION, targeted=True)
    text = "Could you tell me how many apples Ann loses" + " on the way" * times + "?"
    assert len(text.split()) == words
    assert _reward("guarded", Intent.UNDERSPECIFIED, verdict, text).total == total


def test_a_discussion_that_asks_for_what_is_missing_is_a_question() -> None:
    asks = Verdict(ResponseType.DISCUSSION, targeted=True)
    text = "A long talk about it. How many apples does Ann lose?"
    assert _reward("guarded", Intent.UNDERSPECIFIED, asks, text).components == {"targeted": 1.0}
    talks = Verdict(ResponseType.DISCUSSION, targeted=False)
    assert _reward("guarded", Intent.UNDERSPECIFIED, talks, text).total == 0.2


def test_weights_are_options_with_a_reason_and_unknown_ones_are_refused() -> None:
    verdict = Verdict(ResponseType.CLARIFICATION, targeted=True)
    assert _reward("guarded", Intent.UNDERSPECIFIED, verdict, targeted=0.8).total == 0.8
    for spec in REWARDS.values():
        for name, field in spec.options.model_fields.items():
            assert field.description, name
        with pytest.raises(ValidationError):
            spec.bind({"no_such_weight": 1})


# ------------------------------------------------------------------------------ aim of questions


@pytest.mark.parametrize("split", ["train", "transfer"])
def test_questions_of_the_built_in_world_point_at_their_fact(split: str) -> None:
    for prompt in world_prompts(list(world_problems(split, 200)), seed=3, mid_conversation=0.3):
        gone = {s.shard_id for s in prompt.removed}
        for i, question in enumerate(prompt.columns["asks"], start=1):
            found = aim(prompt, question)
            assert found.hits == (i in gone), (prompt.text, question)
            assert found.repeats == (i not in gone), (prompt.text, question)
        assert aim(prompt, prompt.shards[0].text).hits == 0


def _gsm(removed: int) -> Prompt:
    shards = (
        Shard(0, "how many trucks are needed?", is_question=True),
        Shard(1, "There are 80 flagstones in total for delivery."),
        Shard(2, "Each flagstone weighs 75 pounds."),
        Shard(3, "A delivery truck can carry up to 2000 pounds."),
    )
    text = " ".join(s.text for s in shards if s.shard_id != removed)
    gone = (shards[removed],)
    return Prompt(
        "p", "p", "math", Intent.UNDERSPECIFIED, (Message("user", text),), "3", shards, gone
    )


@pytest.mark.parametrize(
    ("removed", "question", "hit"),
    [
        (3, "What is the weight capacity of each truck?", True),
        (3, "Please tell me how many pounds one truck can carry.", True),
        (3, "I need to know **how many pounds one truck can carry** at most.", True),
        (3, "How much does each flagstone weigh?", False),
        (3, "How many flagstones are there in total?", False),
        (3, "How many trucks are needed?", False),
        (3, "What color are the trucks' doors and wheels?", False),
        (3, "Which delivery weights, pounds, trucks, flagstones, capacities carry what?", False),
        (2, "How heavy is each flagstone?", True),
        (2, "How many flagstones are there for delivery?", False),
        (1, "How many flagstones are there?", True),
        (1, "How much does a flagstone weigh?", False),
    ],
)
def test_questions_on_real_text(removed: int, question: str, hit: bool) -> None:
    assert (aim(_gsm(removed), question).hits == 1) is hit


def test_the_shard_that_a_reply_asks_for() -> None:
    shards = _gsm(1).shards
    assert asked_for("How much does each flagstone weigh?", shards[1:], shards) == 1
    assert asked_for("I see.", shards[1:], shards) is None


# --------------------------------------------------------------------------------------- judge


def test_a_gold_answer_that_cannot_be_read_names_its_row() -> None:
    prompt = Prompt(
        "p", "p", "math", Intent.COMPLETE, (Message("user", "?"),), "", source="corpus.jsonl:3"
    )
    with pytest.raises(GraderError, match=r"^corpus\.jsonl:3: expected"):
        Judge().judge(prompt, "The answer is 7.")


def test_judge_keeps_order_and_fills_a_verdict() -> None:
    prompt = _gsm(3)
    verdicts = Judge().judge_many(
        [
            (prompt, "", None),
            (prompt, "80 × 75 = 6000. The answer is 3 trucks.", "eos"),
            (prompt, "How many pounds can a truck carry?", "eos"),
            (prompt, "How much does each flagstone weigh?", "eos"),
            (prompt, "How many pounds can a tr", "length"),
        ]
    )
    assert [v.response_type.value for v in verdicts] == [
        "missing", "answer_attempt", "clarification", "clarification", "missing",
    ]  # fmt: skip
    assert (verdicts[1].extracted, verdicts[1].correct) == ("3", True)
    assert (verdicts[2].targeted, verdicts[2].repeats_given) == (True, False)
    assert (verdicts[3].targeted, verdicts[3].repeats_given) == (False, True)


def test_a_fact_is_about_the_place_of_its_number() -> None:
    """Corpora may word every fact as its whole sentence, the other numbers taken out."""
    shards = (
        Shard(0, "How much did Ann spend?", is_question=True),
        Shard(1, "Ann bought 3 books for some amount each and some pens."),
        Shard(2, "Ann bought some books for $7 each and some pens."),
        Shard(3, "Ann bought some books for some amount each and 4 pens."),
    )
    text = "Ann bought 3 books for $7 each and some pens. How much did Ann spend?"
    prompt = Prompt(
        "p", "p", "math", Intent.UNDERSPECIFIED, (Message("user", text),), "1", shards, shards[3:]
    )
    assert aim(prompt, "How many pens did Ann buy?").hits == 1
    assert aim(prompt, "How many books did Ann buy?").hits == 0
    assert aim(prompt, "How much did each book cost?").hits == 0
