"""A coding task without one condition: the task stays, the condition is out of reach."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Intent, Problem
from icpo_lite.data.augment import augment
from icpo_lite.data.code_conditions import states_task
from icpo_lite.data.code_text import read_code_text
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
        "Return True if every word is a palindrome, and False otherwise.",  # all that is asked
        "Add up the numbers. Return 0 if the list is empty.",  # everybody would
        "Join the words. Return 'nil' if there is no word.",  # no test asks for it
    ],
)
def test_what_is_no_condition_stays(description: str) -> None:
    try:
        removals = shard_by_values(coding(description)).removals
    except RejectedError:
        return
    assert not any("certain" in removal.text for removal in removals)


@pytest.mark.parametrize(
    ("description", "left", "fact"),
    [
        (
            "Check if a word is happy or not. A word is happy if no two of its letters are equal.",
            "Check if a word is happy or not.",
            "The meaning of 'happy': no two of its letters are equal.",
        ),
        (
            "Return the words in a strange order. Strange order means that vowels come late.",
            "Return the words in a strange order.",
            "The meaning of 'strange': vowels come late.",
        ),
        (
            "Join the first two words. If there are no two of them, return -1.",
            "If there are no two of them, return a certain value.",
            "The certain value: -1.",
        ),
        (
            "Return the word with most vowels. If several words have as many, return the one in "
            "front.",
            "If several words have as many, return a certain value.",
            "The certain value: the one in front.",
        ),
        (
            "Write a function that encodes a word in such a way that its vowels are doubled.",
            "encodes a word in a certain way.",
            "The certain way: its vowels are doubled.",
        ),
        (
            "Check if a file name is valid. A name is valid if all of these hold:\n    - It has "
            "one dot.\n"
            "    - It is short.",
            "Check if a file name is valid.",
            "The meaning of 'valid': all of these hold.",
        ),
    ],
)
def test_one_requirement_goes_and_the_task_stays(description: str, left: str, fact: str) -> None:
    problem = coding(description, examples="    >>> pick_short(['a'])\n    ['a']\n")
    problem.answer["test"] += "\n    assert pick_short([]) == -1"
    (removal,) = shard_by_values(problem).removals
    assert left in removal.text
    assert removal.fact.shard.text == fact
    assert fact.partition(": ")[2].rstrip(".") not in removal.text
    assert "one dot" not in removal.text
    assert "pick_short" in removal.text, "a name that tells nothing of it stays"
    assert ">>>" not in removal.text
    ast.parse(removal.text)


@pytest.mark.skipif(not HUMAN_EVAL.is_file(), reason="HumanEval is not at hand")
def test_a_third_of_humaneval_lacks_something_and_keeps_its_task() -> None:
    """What cannot lack one thing and keep its task lacks all that says what it does."""
    made, whole = 0, 0
    for problem in read_problems(HUMAN_EVAL):
        for removal in shard_by_values(problem).removals[:1]:
            if removal.cut.kind == "description":
                whole += 1
                continue
            made += 1
            shown = "certain" if removal.cut.kind == "gap" else removal.cut.slot
            assert shown in " ".join(removal.text.split()), problem.problem_id
            left = read_code_text(removal.text).prose
            assert any(states_task(s.text) for s in sentences(left)), problem.problem_id
    assert made >= 50
    assert made + whole >= 158


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
        (
            "Check if a word is happy or not. A word is happy if no two of its letters are equal.",
            [
                "What does 'happy' mean here?",
                "When is a word happy?",
                "Which words count as happy?",
            ],
            ["How long is a word?", "What type has the argument?"],
        ),
        (
            "Join the first two words. If there are no two of them, return the word alone.",
            ["What should be returned then?", "What value do you want in that case?"],
            ["Are the words in lower case?", "How many words are there?"],
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
