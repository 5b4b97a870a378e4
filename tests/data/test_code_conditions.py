"""A coding task without one condition: the task stays, the condition is out of reach."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from icpo_lite.core.types import Intent, Problem
from icpo_lite.data.augment import augment
from icpo_lite.data.shard_checks import RejectedError
from icpo_lite.data.sources import read_problems
from icpo_lite.data.value_shards import shard_by_values
from icpo_lite.rewards.judge import Judge

HUMAN_EVAL = Path(__file__).parents[3] / "shared" / "data" / "humaneval.jsonl"


def coding(description: str, name: str = "pick_short", examples: str = "") -> Problem:
    prompt = f'def {name}(words: list) -> list:\n    """ {description}\n{examples}    """\n'
    answer = {"prompt": prompt, "entry_point": name, "test": f"def check(f):\n    assert {name}"}
    return Problem("p", "code", prompt, answer, solution="    return words\n")


@pytest.mark.parametrize(
    ("description", "left", "gone"),
    [
        (
            "Filter a list of words only for those words that hold a vowel.",
            "only for those words that meet a certain condition.",
            "hold a vowel",
        ),
        (
            "Return True if every word is a palindrome, and False otherwise.",
            "Return True if a certain condition holds, and False otherwise.",
            "every word is a palindrome",
        ),
        ("Return the words sorted by their length.", "sorted in a certain order.", "their length"),
        ("Return the longest word.", "Return a certain word.", "longest"),
        ("Count the distinct letters of all words.", "Count certain letters of", "distinct"),
    ],
)
def test_a_condition_goes_and_the_task_stays(description: str, left: str, gone: str) -> None:
    problem = coding(description, examples="    >>> pick_short(['a'])\n    ['a']\n")
    (removal,) = shard_by_values(problem).removals
    assert left in removal.text
    assert gone not in removal.text
    assert "pick_short" not in removal.text, "a name that may tell it goes"
    assert ">>>" not in removal.text, "examples would show it"
    assert gone in removal.fact.shard.text
    assert "a certain" in removal.certificate.incomplete or "'certain'" in (
        removal.certificate.incomplete
    )
    ast.parse(removal.text)


def test_sentences_that_speak_of_the_condition_go_with_it() -> None:
    told = "Return all words that are happy. Every happy word has three different letters in a row."
    (removal,) = shard_by_values(coding(told)).removals
    assert "happy" not in removal.text
    assert [shard.text for shard in removal.along] == [told.partition(". ")[2]]


@pytest.mark.parametrize(
    "description",
    [
        "Return the even numbers first and the odd numbers behind them.",  # the other one is there
        "Write a function that joins two words.",  # what tells of the function is no condition
        "Return None if there is no such word.",  # a case in which there is nothing to do
        "Given a list of positive numbers, add them.",  # what is given
    ],
)
def test_what_is_no_condition_stays(description: str) -> None:
    try:
        removals = shard_by_values(coding(description)).removals
    except RejectedError:
        return
    assert not any("certain" in removal.text for removal in removals)


@pytest.mark.skipif(not HUMAN_EVAL.is_file(), reason="HumanEval is not at hand")
def test_a_third_of_humaneval_keeps_its_task() -> None:
    kinds = []
    for problem in read_problems(HUMAN_EVAL):
        for removal in shard_by_values(problem).removals[:1]:
            kinds.append(removal.cut.kind)
            if removal.cut.kind == "gap":
                assert "certain" in removal.text, problem.problem_id
    assert kinds.count("gap") >= 50
    assert len(kinds) >= 158


@pytest.mark.parametrize(
    ("description", "on", "off"),
    [
        (
            "Filter a list of words only for those words that hold a vowel.",
            ["What is the condition?", "Which words should be kept?", "What must a word satisfy?"],
            ["What type has the argument?", "How long is the list?", "Should it be fast?"],
        ),
        (
            "Return the words sorted by their length.",
            ["In which order?", "How should the words be sorted?", "Ascending or descending?"],
            ["What should be returned for an empty list?", "Are there duplicates?"],
        ),
        (
            "Count the distinct letters of all words.",
            ["Which letters do you mean?", "What certain letters are counted?"],
            ["How many words are there?", "What type has the result?"],
        ),
    ],
)
def test_a_question_for_the_condition_is_on_target(
    description: str, on: list[str], off: list[str]
) -> None:
    (prompt,) = [p for p in augment([coding(description)]) if p.intent is Intent.UNDERSPECIFIED]
    for question in on:
        assert Judge().judge(prompt, question).targeted, question
    for question in off:
        assert not Judge().judge(prompt, question).targeted, question
