"""Gold answers that are words or expressions without a number: what is right, and what answers."""

from __future__ import annotations

import pytest

from icpo_lite.core.types import Intent, Message, Prompt, ResponseType
from icpo_lite.rewards.grading import grade
from icpo_lite.rewards.judge import Judge
from icpo_lite.rewards.linear_judge import LinearTyper
from icpo_lite.training.said_answers import fault, ways_of_saying


def prompt(answer: str) -> Prompt:
    turns = (Message("user", "Which curve is it? Name it."),)
    return Prompt("p", "p", "math", Intent.COMPLETE, turns, answer)


@pytest.mark.parametrize("typer", [None, LinearTyper()], ids=["rules", "linear"])
@pytest.mark.parametrize(
    "gold",
    [
        *("\\text{ellipse}", "ellipse", "#### ellipse", "\\text{Evelyn}", "\\mbox{no solution}"),
        *("\\text{(C)}", "(B)", "\\text{Tuesday and Friday}", "yes", "no", "\\pi", "x+y"),
        *("\\frac{a}{b}", "\\mathrm{the empty set}", "cannot be determined"),
    ],
)
def test_a_gold_answer_without_a_number_is_matched_as_it_is_said(
    gold: str, typer: LinearTyper | None
) -> None:
    assert fault(gold) == ""
    for said in ways_of_saying(gold).values():
        verdict = Judge(typer=typer).judge(prompt(gold), said)
        assert verdict.response_type is ResponseType.ANSWER_ATTEMPT, said
        assert verdict.correct, said


@pytest.mark.parametrize(
    ("gold", "reply", "right"),
    [
        ("\\text{ellipse}", "The answer is an ellipse.", True),
        ("\\text{ellipse}", "\\boxed{Ellipse}", True),
        ("\\text{ellipse}", "**Answer:** The ellipse", True),
        ("\\text{ellipse}", "Both squares are positive. So the curve is an ellipse.", True),
        ("\\text{ellipse}", "The answer is a circle.", False),
        ("\\text{ellipse}", "The answer is not an ellipse.", False),
        ("\\text{ellipse}", "The curve isn't an ellipse.", False),
        ("\\text{ellipse}", "The answer is ellipse or circle.", False),
        ("\\text{ellipse}", "An ellipse has two foci. The answer is a parabola.", False),
        ("\\text{(C)}", "The answer is C.", True),
        ("\\text{(C)}", "\\boxed{(C)}", True),
        ("\\text{(C)}", "The answer is (B).", False),
        ("no", "The answer is no, since 7 is odd.", True),
        ("no", "The answer is yes.", False),
        ("\\text{no solution}", "There is no solution.", True),
        ("\\text{no solution}", "The answer is: no solution", True),
        ("864 \\mbox{ inches}^2", "The answer is 864 \\mbox{inches}^2.", True),
        ("11,\\! 111", "The answer is 11,111.", True),
    ],
)
def test_words_are_compared_as_words(gold: str, reply: str, right: bool) -> None:
    assert grade("math", reply, gold).correct is right


@pytest.mark.parametrize(
    "reply",
    [
        "Which axis do you mean?",
        "The answer is unknown without the second axis.",
        "The answer is an ellipse, or is the axis the same?",
        "I would need the second axis.",
        "Let me look at the axes first.",
    ],
)
def test_what_states_nothing_is_no_attempt(reply: str) -> None:
    verdict = Judge().judge(prompt("\\text{ellipse}"), reply)
    assert verdict.response_type is not ResponseType.ANSWER_ATTEMPT


def test_a_task_with_a_number_is_typed_as_before() -> None:
    assert Judge().judge(prompt("5"), "The answer is an ellipse.").correct is not True
