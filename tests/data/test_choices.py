"""Choices of published sets reach the prompt, and the right one is known however it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Problem
from icpo_lite.data.sources import read_problems

ASKED = "Which animal barks?"
TEXTS = ["cat", "dog", "cow", "hen"]
LETTERS = list("ABCD")
PAIRS = [{"label": label, "text": text} for label, text in zip(LETTERS, TEXTS, strict=True)]
SPREAD = dict(zip(LETTERS, TEXTS, strict=True))


def only(tmp_path: Path, row: dict[str, Any], **options: Any) -> Problem:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (problem,) = read_problems(file, **options)
    return problem


@pytest.mark.parametrize(
    "row",
    [
        {"question": ASKED, "choices": TEXTS, "answer": 1},  # MMLU
        {"question": ASKED, **SPREAD, "answer": "B"},
        {"question": ASKED, "choices": {"text": TEXTS, "label": LETTERS}, "answerKey": "B"},
        {"question": ASKED, "choices": {"text": TEXTS, "label": list("1234")}, "answerKey": "2"},
        {"question": {"stem": ASKED, "choices": PAIRS}, "answerKey": "B"},
        {"question_stem": ASKED, "choices": {"text": TEXTS, "label": LETTERS}, "answerKey": "B"},
        {"question": ASKED, "options": SPREAD, "answer": "dog", "answer_idx": "B"},
        {"question": ASKED, "options": {**SPREAD, "E": None}, "answer": "dog"},
        {"question": ASKED, "options": TEXTS, "answer": "B", "answer_index": 1},
        {"question": ASKED, "options": ["A)cat", "B)dog", "C)cow", "D)hen"], "correct": "B"},
        {"question": ASKED, "options": "a ) cat , b ) dog , c ) cow , d ) hen", "correct": "b"},
        {"question": ASKED, "choices": json.dumps(TEXTS), "answer": "1"},
        {"question": ASKED, "choices": str(TEXTS), "answer": "(B)"},
        {"question": ASKED, "choices": TEXTS, "answer": "A dog barks.\n#### B"},
        {"question": ASKED, "choices": TEXTS, "solution": "A dog barks: \\boxed{B}"},
        {"messages": [{"role": "user", "content": ASKED},
                      {"role": "assistant", "content": "The answer is B."}], "choices": TEXTS},
    ],
)  # fmt: skip
def test_choices_of_published_sets_are_read(tmp_path: Path, row: dict[str, Any]) -> None:
    found = only(tmp_path, row)
    assert found.answer == "dog"
    assert list(found.columns["choices"].values()) == TEXTS
    lines = [f"{label}. {text}" for label, text in found.columns["choices"].items()]
    assert found.question == "\n".join([f"{ASKED}\n", *lines])


def test_a_place_counts_from_the_first_choice_as_the_columns_say(tmp_path: Path) -> None:
    row = {"question": ASKED, "opa": "cat", "opb": "dog", "opc": "cow", "opd": "hen", "cop": 1}
    with pytest.raises(DataError, match="which choice is right, found none; name its column"):
        only(tmp_path, row)
    assert only(tmp_path, row, columns={"choice": "cop"}).answer == "dog"


def test_a_number_may_be_a_choice_or_its_place(tmp_path: Path) -> None:
    row = {"question": "What is 1 + 1?", "choices": ["1", "2", "3"]}
    assert only(tmp_path, row | {"answer": "2"}).answer == "2"
    assert only(tmp_path, row | {"choices": [1, 2, 3], "answer": 2}).answer == "2"
    assert only(tmp_path, row | {"choices": ["5", "2"], "answer": 5.0}).answer == "5"
    with pytest.raises(DataError, match="one of them and the place of another; give its letter"):
        only(tmp_path, row | {"answer": 2})
    labels = {"text": ["2", "3", "1"], "label": list("123")}
    found = only(tmp_path, row | {"choices": labels, "answerKey": "2"})
    assert (found.answer, list(found.columns["choices"])) == ("3", ["A", "B", "C"])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"choices": TEXTS}, "which choice is right, found none"),
        ({"choices": TEXTS, "answer": "horse"}, "one of the choices"),
        ({"choices": TEXTS, "answer": "E"}, "one of the choices"),
        ({"choices": TEXTS, "answer": 4}, "one of the choices"),
        ({"choices": TEXTS, "answer": -1}, "one of the choices"),
        ({"choices": TEXTS, "answer": True}, "one of the choices"),
        ({"choices": TEXTS, "answer": ["A", "B"]}, "one of the choices"),
        ({"choices": ["cat", "Cat."], "answer": "cat"}, "choices that differ"),
        ({"choices": SPREAD, "answer": "dog", "answer_idx": "C"}, "one right choice"),
        ({"choices": {"text": TEXTS, "label": ["A"]}, "answerKey": "A"}, "as many labels"),
        ({"choices": [["a"], {"x": 1}], "answer": "A"}, "choices in words"),
        ({"choices": "cat", "answer": "cat"}, "choices in words"),
    ],
)
def test_choices_of_which_none_is_right_are_refused(
    tmp_path: Path, row: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=f"rows.jsonl:1: expected .*{words}.*;"):
        only(tmp_path, {"question": ASKED, **row})
