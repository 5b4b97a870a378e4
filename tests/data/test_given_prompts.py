"""Judging on the complete and insufficient prompts that data sets bring along."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from icpo_lite.cli.check import check
from icpo_lite.cli.eval import eval_
from icpo_lite.core.console import Display
from icpo_lite.core.errors import UsageError
from icpo_lite.core.turns import with_opening
from icpo_lite.core.types import Intent, Message, Problem, Turn
from icpo_lite.data.augment import AugmentOptions, augment
from icpo_lite.data.labelled_rows import read_labelled
from icpo_lite.evaluation.given_prompts import given_problems
from icpo_lite.evaluation.problems import read_evaluation_problems
from icpo_lite.evaluation.runner import evaluate
from icpo_lite.evaluation.settings import SETTINGS, open_conversation, settings_for
from icpo_lite.evaluation.table import data_rows
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.from_recipe import choose_shard
from icpo_lite.rewards.judge import Judge
from icpo_lite.rollout.conversation import opening_turns
from icpo_lite.runs.train import train
from icpo_lite.training.said_answers import fault, ways_of_saying

PENS = "Ann has 2 pens. She buys 3 pens. How many pens has she?"
CAPS = "Bob has 4 caps. He loses 1 cap. How many caps has he?"
MIP = [
    {"question": PENS, "answer": "5", "insufficient_question": PENS.replace(" 3", "")},
    {"question": CAPS, "answer": "3", "insufficient_question": CAPS.replace("4 ", "some ")},
]


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Scripted:
    """Says what it is told to say to each last turn of the user."""

    def __init__(self, lines: dict[str, str]) -> None:
        self.lines = lines
        self.heard: list[Sequence[Message]] = []

    def reply(self, chats: Sequence[Sequence[Message]], keys: Any) -> list[Turn]:
        self.heard += chats
        said = [self.lines[chat[-1].content] for chat in chats]
        return [Turn("assistant", text, (1, 2), (-0.5, -0.5), "eos") for text in said]


def judged(problems: Sequence[Problem], lines: dict[str, str], **options: Any) -> Any:
    talker = Scripted(lines)
    settings = settings_for(problems, ())
    return talker, evaluate(
        *("x", talker, Judge(), problems),
        choose=choose_shard,
        settings=settings,
        runs=1,
        seed=0,
        **options,
    )


def test_rates_and_accuracy_are_those_of_the_datas_own_prompts(tmp_path: Path) -> None:
    """Asks on one q* of two, for what lacks; over-asks on one q of two; right on the other."""
    problems = given_problems(read_labelled(jsonl(tmp_path / "mip.jsonl", *MIP)), "mip.jsonl")
    assert [len(p.prompts) for p in problems] == [2, 2]
    lines = {
        PENS: "The answer is 5.",
        CAPS: "How many caps does Bob have at the start?",
        MIP[0]["insufficient_question"]: "How many pens does Ann buy?",
        MIP[1]["insufficient_question"]: "The answer is 3.",
    }
    talker, result = judged(problems, lines, system="Be brief.")
    assert {chat[0] for chat in talker.heard} == {Message("system", "Be brief.")}
    figures = result.summary["data"]["mip.jsonl"]
    counts = [figures[key] for key in ("complete", "underspecified", "graded")]
    assert counts == [2, 2, 2]
    rates = ("clarification_rate", "targeted_rate", "over_asking_rate", "accuracy")
    assert [figures[key]["value"] for key in rates] == [50.0, 50.0, 50.0, 50.0]
    assert all(figures[key]["low"] <= 50 <= figures[key]["high"] for key in rates)
    assert result.summary["settings"]["full"]["P"]["value"] == 50.0
    header, (row,) = data_rows("x", result.summary)
    assert header[:3] == ["x", "q", "q*"]
    assert row[:3] == ["mip.jsonl", "2", "2"]


def test_what_nothing_grades_counts_for_the_rates_alone(tmp_path: Path) -> None:
    rows = [
        {"task": "Name a colour.", "vague": False, "missing_details": []},
        {"task": "Plan a trip.", "vague": True, "missing_details": ["Destination of the trip"]},
        {"task": "Write a song.", "vague": True, "missing_details": []},
    ]
    problems = given_problems(read_labelled(jsonl(tmp_path / "in3.jsonl", *rows)), "in3.jsonl")
    lines = {
        "Name a colour.": "Blue is a colour that many people like.",
        "Plan a trip.": "What is the destination of your trip?",
        "Write a song.": "What should the song be about?",
    }
    _, result = judged(problems, lines)
    figures = result.summary["data"]["in3.jsonl"]
    assert (figures["complete"], figures["underspecified"], figures["graded"]) == (1, 2, 0)
    assert figures["accuracy"] is None
    assert result.summary["settings"] == {}
    assert figures["clarification_rate"]["value"] == 100.0
    # Of the song nobody says what lacks: it is not counted against the share that hits it.
    assert figures["targeted_rate"]["value"] == 100.0
    assert figures["over_asking_rate"]["value"] == 0.0


def test_a_problem_with_prompts_opens_word_for_word(tmp_path: Path) -> None:
    (problem, _) = given_problems(read_labelled(jsonl(tmp_path / "mip.jsonl", *MIP)), "mip.jsonl")
    whole = open_conversation("full", problem, 0)
    lacking = open_conversation("underspecified", problem, 0)
    assert whole is not None
    assert lacking is not None
    assert whole.chat == [Message("user", PENS)]
    assert lacking.chat == [Message("user", MIP[0]["insufficient_question"])]
    assert (whole.prompt().intent, lacking.prompt().intent) == tuple(Intent)
    assert all(open_conversation(s, problem, 0) is None for s in SETTINGS if s not in _GIVEN)


_GIVEN = ("full", "underspecified")


def test_every_prompt_of_a_kind_is_judged() -> None:
    prompts = [
        p
        for text in ("Ann has pens.", "Ann has 2 pens. She buys pens.")
        for p in _read_row({"ori_question": PENS, "insufficient_question": text})
    ]
    found = given_problems(prompts, "a")
    assert [[q.intent for q in p.prompts] for p in found] == [list(Intent), list(Intent)]
    assert len({p.problem_id for p in found}) == 2


def _read_row(row: Any) -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return read_labelled(jsonl(Path(folder) / "a.jsonl", row))


def test_unlabelled_files_stand_beside_labelled_ones_as_complete(tmp_path: Path) -> None:
    mip = jsonl(tmp_path / "mip.jsonl", *MIP)
    plain = jsonl(tmp_path / "plain.jsonl", {"question": CAPS, "answer": "3"})
    found = read_evaluation_problems([str(mip), str(plain)], None, split="test", count=None, seed=0)
    assert [p.columns["dataset"] for p in found] == ["mip.jsonl", "mip.jsonl", "plain.jsonl"]
    assert [q.intent for q in found[-1].prompts] == [Intent.COMPLETE]
    one = read_evaluation_problems([str(mip), str(plain)], None, split="test", count=1, seed=0)
    assert [p.columns["dataset"] for p in one] == ["mip.jsonl", "plain.jsonl"]
    with pytest.raises(UsageError, match="found builtin:world; give it alone"):
        read_evaluation_problems([str(mip), "builtin:world"], None, split="test", count=1, seed=0)
    (tmp_path / "b").mkdir()
    other = jsonl(tmp_path / "b" / "mip.jsonl", *MIP)
    both = read_evaluation_problems([str(mip), str(other)], None, split="test", count=1, seed=0)
    assert [p.columns["dataset"] for p in both] == [str(mip), str(other)]


def test_several_files_make_one_table(tmp_path: Path) -> None:
    mip = jsonl(tmp_path / "mip.jsonl", *MIP)
    in3 = jsonl(
        tmp_path / "in3.jsonl",
        {"task": "Plan a trip.", "vague": True, "missing_details": ["where to"]},
    )
    arguments = ["builtin:tiny", "--data", str(mip), "--data", str(in3), "-o", str(tmp_path / "o")]
    result = CliRunner().invoke(eval_, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    said = "2 complete prompts, 3 underspecified prompts as the data has them x 1 runs"
    assert said in " ".join(result.output.split())
    assert "mip.jsonl" in result.output
    assert "in3.jsonl" in result.output
    saved = json.loads((tmp_path / "o" / "builtin:tiny" / "eval.json").read_text())
    assert list(saved["data"]) == ["mip.jsonl", "in3.jsonl"]
    assert set(saved["data"]["mip.jsonl"]["auroc"]) == {"value", "low", "high"}
    assert saved["data"]["in3.jsonl"]["auroc"] is None
    assert saved["judged_with"]["settings"] == ["full", "underspecified"]
    lines = (tmp_path / "o" / "builtin:tiny" / "conversations.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 5
    assert all("ask_probability" in row["turns"][-1] for row in rows)
    refused = CliRunner().invoke(eval_, [*arguments, "--settings", "sharded"])
    assert isinstance(refused.exception, UsageError)
    assert "expected some of full, underspecified" in str(refused.exception)


# ------------------------------------------------------------------------- turns before a question


def test_turns_before_a_question_open_every_prompt_and_conversation() -> None:
    opening = (Message("system", "Be brief."), Message("user", "Hi."), Message("assistant", "Hi!"))
    problem = Problem("a", "math", PENS, "5", "2+3=<<2+3=5>>5", opening=opening)
    whole, *lacking = augment([problem], AugmentOptions())
    assert whole.messages == (*opening, Message("user", PENS))
    assert all(p.messages[:3] == opening for p in lacking)
    assert whole.opening == 3
    assert [t.content for t in opening_turns(problem)] == ["Be brief.", "Hi.", "Hi!"]
    merged = with_opening(whole.messages, Message("system", "You help."))
    assert merged[0] == Message("system", "You help.\n\nBe brief.")
    assert len(merged) == 4


def test_a_number_that_an_earlier_turn_states_is_no_missing_fact() -> None:
    text = "Ann buys 3 bags. Each bag holds 12 pens. How many pens does Ann buy?"
    solution = "3*12=<<3*12=36>>36\n#### 36"
    alone = list(augment([Problem("a", "math", text, "36", solution)]))
    assert [p.intent for p in alone] == list(Intent)
    told = (Message("user", "I buy 3 bags, 12 pens in each."), Message("assistant", "Fine."))
    before = Problem("a", "math", text, "36", solution, opening=told)
    assert [p.intent for p in augment([before])] == [Intent.COMPLETE]


# ------------------------------------------------------------------------------------------- check


@pytest.mark.parametrize(
    ("gold", "plain"),
    [
        ("72", "72"),
        ("$1,234.50", "1234.5"),
        ("18%", "18%"),
        ("-5", "-5"),
        (".0000672", "0.0000672"),
        ("12 and a half", None),
        ("1/3", "1/3"),
        ("steps\n#### 1,018", "1018"),
        (7, "7"),
        ("2k", "2k"),
        ("[2, 5]", "[2, 5]"),
    ],
)
def test_a_right_answer_is_said_as_a_model_says_it(gold: Any, plain: str | None) -> None:
    assert fault(gold) == ""
    ways = ways_of_saying(gold)
    assert len(ways) == 3
    if plain is not None:
        assert ways["gold, boxed"] == f"\\boxed{{{plain}}}"


@pytest.mark.parametrize(
    "gold",
    [
        *("5 (2 + 3)", "7 (seven)", "['72']", "{'value': 72}", "[{'a': 1}]", "7\nsee above", ""),
        *("Ann has 5 pens and Bob has 3 of them left", "It is a 5", "True", True, ["5"], {"a": 5}),
    ],
)
def test_a_spoilt_gold_answer_stops_the_check(tmp_path: Path, gold: Any) -> None:
    assert fault(gold)
    rows = [_prompt(i, "5" if i else gold) for i in range(3)]
    path = jsonl(tmp_path / "prompts.jsonl", *rows)
    recipe = ["tiny", f"dataset_name={path}", "share_underspecified=0"]
    result = CliRunner().invoke(check, recipe)
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit_code == 2
    assert "found 1 of 3 that none can, first a.jsonl:0" in str(result.exception)


def _prompt(number: int, answer: Any) -> dict[str, Any]:
    return {
        "prompt_id": f"a-{number}/complete",
        "problem_id": f"a-{number}",
        "task": "math",
        "intent": "complete",
        "messages": [{"role": "user", "content": PENS}],
        "answer": answer,
        "source": f"a.jsonl:{number}",
    }


def test_check_stops_where_no_prompt_lacks_anything(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "prompts.jsonl", *[_prompt(i, "5") for i in range(3)])
    result = CliRunner().invoke(check, ["tiny", f"dataset_name={path}"])
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit_code == 2
    assert "no underspecified prompt" in str(result.exception)
    done = CliRunner().invoke(check, ["tiny", f"dataset_name={path}", "share_underspecified=0"])
    assert done.exit_code == 0, done.output


def test_labelled_rows_are_checked_and_trained_on(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "mip.jsonl", *MIP, MIP[0] | {"question": f"{PENS} {'Why? ' * 600}"})
    result = CliRunner().invoke(check, ["tiny", f"dataset_name={path}"])
    assert result.exit_code == 0, result.output
    keys = {
        "dataset_name": path,
        "output_dir": tmp_path / "run",
        "max_steps": 1,
        "compare": "{}",
        "evaluation.enabled": "false",
        "prompts_per_step": 2,
        "num_generations": 2,
    }
    recipe = load_recipe("tiny", [f"{key}={value}" for key, value in keys.items()])
    with (tmp_path / "log").open("w") as log:
        train(recipe, Display(total=1, live=False, file=log))
    assert "1 of 6 prompts left out" in " ".join((tmp_path / "log").read_text().split())


def test_a_run_that_needs_gold_answers_is_left_out_where_there_are_none(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "in3.jsonl",
        {"task": "Plan a trip.", "vague": True, "missing_details": ["where to"]},
        {"task": "Name a colour.", "vague": False, "missing_details": []},
    )
    keys = {
        "dataset_name": path,
        "output_dir": tmp_path / "run",
        "max_steps": 1,
        "evaluation.enabled": "false",
        "prompts_per_step": 2,
        "num_generations": 2,
    }
    recipe = load_recipe("tiny", [f"{key}={value}" for key, value in keys.items()])
    assert recipe.compare
    said = []
    for name in ("first", "again"):
        with (tmp_path / name).open("w") as log:
            train(recipe, Display(total=1, live=False, file=log))
        said.append(" ".join((tmp_path / name).read_text().split()))
    assert "rlvr is left out: it trains on complete prompts alone" in said[0]
    assert "This run is done" in said[1]


def test_a_corpus_that_cannot_be_split_is_judged_whole(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n}?", "answer": n} for n in range(1, 8)]
    path = str(jsonl(tmp_path / "sums.jsonl", *rows, {"question": PENS, "answer": 5}))
    found = read_evaluation_problems(path, None, split="test", count=None, seed=0)
    assert len(found) == 8
    assert settings_for(found, ()) == ("full", "underspecified")
    assert {q.intent for p in found for q in p.prompts} == {Intent.COMPLETE}
    more = [{"question": PENS.replace("2", str(n)), "answer": n + 3} for n in range(4, 14)]
    path = str(jsonl(tmp_path / "pens.jsonl", *rows, *more))
    split = read_evaluation_problems(path, None, split="test", count=None, seed=0)
    assert len(split) == 10
    assert all(p.shards and not p.prompts for p in split)
