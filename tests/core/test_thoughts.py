"""Thought and reply told apart, and everything that reads replies reading the reply alone."""

from __future__ import annotations

import pytest

from icpo_lite.core.plain_text import FIRST, LAST, plain, spoken
from icpo_lite.core.thoughts import parted, said
from icpo_lite.core.types import Intent, Message, Prompt, Turn
from icpo_lite.rewards.format_faults import faults
from icpo_lite.rewards.grading import grade
from icpo_lite.rewards.icpo import REWARDS
from icpo_lite.rewards.judge import Judge
from icpo_lite.rewards.model_judge import question
from icpo_lite.rewards.question_targets import asked
from icpo_lite.rewards.response_type import classify

ASKS = "How many are there?"
THINKS = "The price may be 5. The answer is 7."

MARKED = [
    f"{THINKS}</think>{ASKS}",
    f"{THINKS}\n</thinking>\n\n{ASKS}",
    f"<think>{THINKS}</think>{ASKS}",
    f"<think>a</think><think>{THINKS}</think>{ASKS}",
    f"<thinking>\n{THINKS}\n</thinking>\n{ASKS}",
    f"<thought>{THINKS}</thought>{ASKS}",
    f"<reasoning>{THINKS}</reasoning><answer>{ASKS}</answer>",
    f"<seed:think>{THINKS}</seed:think>{ASKS}",
    f'<think time="3">{THINKS}</think>{ASKS}',
    f"<THINK>{THINKS}</THINK>{ASKS}",
    f"[THINK]{THINKS}[/THINK]{ASKS}",
    f"◁think▷{THINKS}◁/think▷{ASKS}",
    f"<|begin_of_thought|>{THINKS}<|end_of_thought|><|begin_of_solution|>{ASKS}<|end_of_solution|>",
    f"<|START_THINKING|>{THINKS}<|END_THINKING|><|START_RESPONSE|>{ASKS}<|END_RESPONSE|>",
    f"<|channel|>analysis<|message|>{THINKS}<|end|><|start|>assistant<|channel|>final<|message|>"
    f"{ASKS}<|return|>",
    f"<|channel|>analysis {THINKS} <|channel|>final {ASKS}",
    f"analysisWe look. {THINKS}assistantfinal{ASKS}",
    f"<|channel>thought\n{THINKS}<channel|>{ASKS}",
    f"Reasoning: {THINKS[:19]}\n\n{ASKS}",
    f"**Reasoning:**\nThe price may be 5.\n\n**Question:** {ASKS}",
    f"Thought process: the price may be 5.\n{ASKS}",
]


@pytest.mark.parametrize("reply", MARKED)
def test_what_is_thought_is_not_said(reply: str) -> None:
    assert said(reply).endswith(ASKS) or said(reply) == f"**Question:** {ASKS}"
    assert classify(reply) == "clarification"
    assert asked(reply) == (ASKS,) or asked(reply)[0].endswith(ASKS)
    assert not grade("math", reply, "7").correct
    assert not grade("math", reply, "5").correct
    assert "template" not in faults(reply, "Ann has apples.")


@pytest.mark.parametrize(
    "reply",
    [
        f"<think>{THINKS}",
        f"<thinking>{THINKS}",
        f"[THINK]{THINKS}",
        f"{THINKS}</think>",
        f"{THINKS}</think>\n\n",
        f"<|channel|>analysis<|message|>{THINKS}",
        f"analysisWe look. {THINKS}",
        f"<|begin_of_thought|>{THINKS}",
        f"<|channel>thought\n{THINKS}",
        "Reasoning: 3 + 4 = 7",
    ],
)
@pytest.mark.parametrize("stop", [None, "length"])
def test_a_reply_that_is_all_thought_is_missing(reply: str, stop: str | None) -> None:
    assert classify(reply, stop_reason=stop) == "missing"  # type: ignore[arg-type]
    assert not grade("math", reply, "7").correct
    prompt = _prompt(Intent.COMPLETE)
    assert Judge().judge(prompt, reply, stop).response_type == "missing"  # type: ignore[arg-type]


def test_a_block_of_reasoning_that_is_cut_off_is_missing() -> None:
    reply = "Reasoning: we add.\n3 + 4 = 7. The answer is 7, or"
    assert classify(reply, stop_reason="length") == "missing"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("I doubt 5. Is it 5?</think>\n\nThe answer is 7.", "7"),
        ("Reasoning: 48 / 2 = 24, so 72 in all.\nAnswer: 72", "72"),
        ("Reasoning:\n\nFirst 48 / 2 = 24.\n\nSo she sold 48 + 24 = 72 clips.", "72"),
        ("Thought: I add.\nFinal Answer: 25", "25"),
        ("Reasoning: 3 + 4 = 7. The answer is 7.", "7"),
        ("**Answer:** 7\n\n**Reasoning:** 3 + 4, and not 5.", "7"),
        ("The mark `</think>` ends a thought. The answer is 7.", "7"),
    ],
)
def test_the_answer_behind_a_thought_is_paid(reply: str, answer: str) -> None:
    assert classify(reply) == "answer_attempt"
    assert grade("math", reply, answer).correct


def test_a_text_without_marks_is_all_reply() -> None:
    text = "A < b, and [note] 2 > 1.\n#### 7"
    assert parted(text).said == text
    assert not parted(text).thought


def test_a_long_thought_does_not_make_a_question_long() -> None:
    """`guarded` pays a question up to 100 words; what is thought before it does not count."""
    prompt = _prompt(Intent.UNDERSPECIFIED)
    thought = "I wonder about the price. " * 60
    earned = []
    for reply in (ASKS, f"{thought}</think>{ASKS}"):
        verdict = Judge().judge(prompt, reply)
        turn = Turn("assistant", reply, verdict=verdict)
        earned.append(REWARDS["guarded"].bind()(prompt, verdict, turn).total)
    assert earned[0] == earned[1] > 0


def test_a_model_judge_is_shown_the_reply_alone() -> None:
    (message,) = question(_prompt(Intent.COMPLETE), f"<think>{THINKS}</think>{ASKS}", "")
    assert ASKS in message.content
    assert THINKS not in message.content


def _prompt(intent: Intent) -> Prompt:
    text = Message("user", "Ann buys apples. How much does she pay?")
    return Prompt("p", "p", "math", intent, (text,), "7")


# ------------------------------------------------------------------------------------- the cap


def test_characters_that_parsers_look_for_have_one_spelling() -> None:
    assert plain("１２，３４５。Ａ？") == "12,345. A? "
    assert plain("٣٥ and १२") == "35 and 12"
    assert (
        plain("3\u2009360 or 3\u202f360 or 3\u00a0360 or 3'360")
        == "3,360 or 3,360 or 3,360 or 3,360"
    )
    assert plain("a\u00a0b\u200bc\r\nd") == "a bc\nd"


def test_runs_and_length_are_capped_and_the_ends_kept() -> None:
    assert len(plain("\t" * 8000)) < 20
    assert "1" not in plain("1" * 5000)
    assert plain("1" * 60) == "1" * 60
    text = "first " + "x y " * 50_000 + "last"
    assert len(plain(text)) <= FIRST + LAST + 1
    assert plain(text).startswith("first ")
    assert spoken(text).endswith("last")
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize(
    "reply",
    [
        "<|channel|>analysis<|message|>Which day?<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.book <|constrain|>json<|message|>{"day": "Monday"}<|call|>',
        " to=functions.book<|channel|>commentary json<|message|>" + '{"day": "Monday"}<|call|>',
        'analysisWhich day?assistantcommentary to=functions.bookjson{"day": "Monday"}',
        'analysisWhich day?assistant to=functions.bookcode{"day": "Monday"}',
    ],
)
def test_a_call_keeps_the_function_that_it_is_for(reply: str) -> None:
    assert said(reply).startswith("to=functions.book")
    assert classify(reply, task="actions") == "answer_attempt"
    assert not asked(reply)
    assert grade("actions", reply, [{"book": {"day": ["Monday"]}}]).correct
