"""Answers without solutions: which numbers they need, and what is said where none is found."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from icpo_lite.cli import cli
from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Intent, Problem
from icpo_lite.data.augment import AugmentOptions, augment
from icpo_lite.data.bare_answers import is_bare, needs_by_search

TRAY = (
    "Ann bakes 6 trays of rolls. Each tray holds 24 rolls. She sells 40 rolls at the market. How "
    "many rolls are left?"
)


def needed(question: str, answer: object) -> set[str] | None:
    mentions = numbers(question)
    found = needs_by_search(question, answer, mentions)
    return None if found is None else {mentions[i].surface for i in found}


def test_a_number_in_every_way_to_the_answer_is_needed() -> None:
    assert needed(TRAY, "104") == {"6", "24", "40"}
    pens = "He buys 2 pens for $3 each and has 7 rulers. What does he pay?"
    assert needed(pens, "6") == {"2", "$3"}
    assert needed("A coat of $80 is 25% off. What does it cost?", 60) == {"$80", "25%"}
    assert needed("She runs 4 miles a day. How many in 3 weeks?", "84") == {"4", "3"}


def test_what_may_be_left_out_is_not_needed() -> None:
    assert needed("5 red and 5 blue cups and 2 jars: how many of a colour and jars?", "7") == {"2"}
    assert needed("Ann has 3 pens, Bob has 5 pens. How many has Bob?", "5") == set()
    assert needed(TRAY, "1000003") is None  # no way
    assert needed("There are 7 of them. How many twice?", "words") is None


def test_hand_counted_ways() -> None:
    """1 + 2 + 3 and 1 * 2 * 3 both take all; 2 * 3 takes two: what all three share is 2 and 3."""
    assert needed("She has 1 pen, 2 cups, 3 jars. How many?", 6) == {"2", "3"}


@pytest.mark.parametrize("text", ["", "#### 72", "72", "$72", r"\boxed{72}", "The answer is 72."])
def test_these_solutions_say_the_answer_alone(text: str) -> None:
    assert is_bare(text)


@pytest.mark.parametrize(
    "text", ["6*24=144", "First she bakes so many rolls and then she sells forty of them at noon."]
)
def test_these_show_working(text: str) -> None:
    assert not is_bare(text)


def test_a_bare_answer_gets_a_certified_prompt() -> None:
    made = augment([Problem("p", "math", TRAY, "104")], AugmentOptions(max_removed=1))
    whole, lacking = list(made)
    assert (whole.intent, lacking.intent) == (Intent.COMPLETE, Intent.UNDERSPECIFIED)
    assert lacking.certificate.level == "solver"
    assert "=104" in lacking.certificate.out_of_reach
    assert made.summary.levels == {"solver": 1}


def test_a_solution_is_followed_where_there_is_one() -> None:
    problem = Problem("p", "math", TRAY, "104", "6*24=<<6*24=144>>144. 144-40=<<144-40=104>>104.")
    assert {p.certificate.level for p in augment([problem])} == {"none", "marks"}


# ------------------------------------------------------------------- where nothing can be done

HOPELESS = {"question": "How many days has a leap year, as a rule?", "answer": "366"}
WAYS = ("worked solutions", "verify", "insufficient_question")


@pytest.fixture
def hopeless(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(json.dumps(HOPELESS) + "\n")
    recipe = "extends: tiny\ndataset_name: rows.jsonl\nmax_steps: 2\ncompare: {}\nevaluation:\n"
    (tmp_path / "r.yaml").write_text(recipe + "  enabled: false\n")
    return tmp_path


def test_every_command_says_the_same(hopeless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hopeless)
    commands = (
        ["augment", "rows.jsonl", "-o", "out.jsonl"],
        ["check", "r.yaml"],
        ["preview", "r.yaml"],
        ["train", "r.yaml"],
    )
    said = set()
    for command in commands:
        result = CliRunner().invoke(cli, command)
        assert result.exit_code == 2, (command, result.output)
        line = next(t for t in result.output.splitlines() if t.startswith("Error: "))
        assert all(way in line for way in WAYS)
        said.add(re.split(r"; (?:or lower share|out\.jsonl)", line)[0])
    assert len(said) == 1


def test_what_has_no_certificate_is_not_called_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"question": TRAY, "answer": "1000003"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    command = ["augment", "rows.jsonl", "-o", "out.jsonl", "--accept", "none", "--preview", "1"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "certified" not in result.output
    assert "without a certificate" in result.output


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Name 2 colours of the flag.", "answer": "2"},
        {"question": "Ann has pens. How many?", "answer": None, "answerable": False},
    ],
)
def test_without_certificates_nothing_is_called_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    result = CliRunner().invoke(cli, ["augment", "rows.jsonl", "-o", "o.jsonl", "--accept", "none"])
    assert "certified" not in result.output
    assert "complete prompts written" in result.output
