"""One of several choices, by its letter or its words."""

from __future__ import annotations

import pytest

from icpo_lite.rewards.grading import grade

CHOICES = {"A": "cat", "B": "dog", "C": "cow", "D": "guard dog"}
NUMBERS = {"A": "5", "B": "7", "C": "12"}


def right(reply: str, gold: str, choices: dict[str, str]) -> bool:
    return grade("math", reply, gold, {"choices": choices}).correct


@pytest.mark.parametrize(
    "reply",
    [
        *("B", "b", "(B)", "B.", "B) dog", "**B**", "B: dog", "B - dog", "B dog", "Option B"),
        *("The answer is B.", "The answer is (B).", "The answer is B. dog", "Answer: B"),
        *(
            "\\boxed{B}",
            "\\boxed{\\text{B}}",
            "$\\boxed{\\text{(B) dog}}$",
            "#### B",
            "dog",
            "Dog.",
        ),
        *("It is the dog.", "The answer is dog.", "The correct answer is option B."),
        *("Cats meow, and cows moo. So a dog barks.", "I would go with option B."),
        *("Let me think. A cat meows.\n\nTherefore, the correct choice is (B).",),
        *("B. dog\n\nExplanation: dogs bark, unlike a cat.", "The answer is **B**: dog"),
        *("So the answer is the dog rather than the cat.", "<think>A or C?</think>B"),
        *("I think it is B.", "I would go with B", "The best answer is B because dogs bark."),
        "Final answer: B",
    ],
)
def test_the_right_choice_is_right(reply: str) -> None:
    assert right(reply, "dog", CHOICES)


@pytest.mark.parametrize(
    "reply",
    [
        *("A", "C", "(D)", "The answer is A.", "\\boxed{C}", "cat", "The answer is the cat."),
        *("A or B", "A and B", "It is a cat or a dog.", "The answer is either A or B."),
        *("A cat barks.", "Not the dog.", "The answer is not B.", "A. dog", "I do not know."),
        *("It is a guard dog.", "Which dog do you mean?", "Is it B?"),
    ],
)
def test_another_choice_or_none_is_wrong(reply: str) -> None:
    assert not right(reply, "dog", CHOICES)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("A", True), ("The answer is 5.", True), ("So she has 5 apples.", True),
        ("\\boxed{5}", True), ("\\boxed{A}", True), ("The answer is (A) 5", True),
        ("2 + 3 = 5, so A.", True), ("(B)", False), ("7", False), ("The answer is A) 7", False),
        ("She has 12 apples.", False),
    ],
)  # fmt: skip
def test_choices_may_be_numbers(reply: str, expected: bool) -> None:
    assert right(reply, "5", NUMBERS) is expected
