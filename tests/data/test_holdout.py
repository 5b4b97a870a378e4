"""Problems kept back from training, and problems of an evaluation that training has seen."""

import json
from pathlib import Path

import pytest

from icpo_lite.cli import run
from icpo_lite.core.errors import DataError
from icpo_lite.data.augment import augment, write_prompts
from icpo_lite.data.contamination import (
    seen_in_training,
    seen_line,
    seen_line_of,
    trained_texts,
)
from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.data.holdout import Part, place_of_text
from icpo_lite.data.sources import read_problems
from icpo_lite.evaluation.problems import (
    evaluation_problems,
    judges_on_training_rows,
    read_evaluation_problems,
)
from icpo_lite.recipe import Recipe, load_recipe

NAMES = ("Ann", "Bob", "Cem", "Dee", "Eva", "Fay", "Gus", "Hal", "Ida", "Jon")


def rows(count: int) -> list[dict[str, str]]:
    return [
        {
            "question": f"{NAMES[i % 10]} has {i + 3} boxes of pens. Each box holds {i + 14} pens. "
            f"How many pens does {NAMES[i % 10]} have?",
            "answer": f"{i + 3}*{i + 14}=<<{i + 3}*{i + 14}={(i + 3) * (i + 14)}>>pens "
            f"#### {(i + 3) * (i + 14)}",
        }
        for i in range(count)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines = [json.dumps(row) for row in rows(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def recipe(*overrides: str) -> Recipe:
    return load_recipe("tiny", ["dataset_name=rows.jsonl", "eval_holdout=0.3", *overrides])


def test_a_text_has_its_place_whatever_else_there_is() -> None:
    assert place_of_text("Ann has  3 pens.\n") == place_of_text("ann has 3 PENS.")
    places = [place_of_text(row["question"]) for row in rows(2000)]
    assert all(0 <= place < 1 for place in places)
    assert 0.27 < sum(place < 0.3 for place in places) / 2000 < 0.33
    assert place_of_text("Ann has 3 pens.") == pytest.approx(0.21965, abs=1e-5)  # for good


def test_training_and_evaluation_share_no_problem(folder: Path) -> None:
    trained = {p.problem_id for p in training_prompts(recipe())[0]}
    judged = {p.problem_id for p in evaluation_problems(recipe())}
    assert trained
    assert judged
    assert not trained & judged
    assert len(trained | judged) == 60
    assert not judges_on_training_rows(recipe())
    assert judges_on_training_rows(recipe("eval_holdout=0"))


def test_the_split_stays_when_rows_move(folder: Path) -> None:
    before = {p.question for p in evaluation_problems(recipe())}
    lines = (folder / "rows.jsonl").read_text().splitlines()
    (folder / "rows.jsonl").write_text("\n".join([*reversed(lines)]) + "\n")
    assert {p.question for p in evaluation_problems(recipe())} == before


def test_prompts_made_before_are_split_by_problem(folder: Path) -> None:
    write_prompts("made.jsonl", augment(read_problems("rows.jsonl")))
    of_file = recipe("dataset_name=made.jsonl")
    trained, _ = training_prompts(of_file)
    judged = {p.problem_id.partition("/")[0] for p in evaluation_problems(of_file)}
    assert judged
    assert not judged & {p.problem_id for p in trained}
    assert {p.intent for p in trained} == {"complete", "underspecified"}


def test_labelled_pairs_are_split_by_problem(folder: Path) -> None:
    pairs = [
        {"question": r["question"], "insufficient_question": r["question"][8:], "answer": "5"}
        for r in rows(40)
    ]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    of_pairs = recipe("dataset_name=pairs.json")
    trained, _ = training_prompts(of_pairs)
    judged = read_evaluation_problems(None, of_pairs, split="test", count=None, seed=0)
    texts = {p.text for problem in judged for p in problem.prompts}
    assert texts
    assert not texts & {p.text for p in trained}
    assert len(texts) + len(trained) == 80


def test_small_evaluations_get_a_half_of_their_own(folder: Path) -> None:
    both = recipe("eval_steps=1", "evaluation.problems=60")
    small = read_evaluation_problems(None, both, split="dev", count=60, seed=0)
    table = read_evaluation_problems(None, both, split="test", count=60, seed=0)
    ids = [{p.problem_id for p in found} for found in (small, table)]
    assert all(ids)
    assert not ids[0] & ids[1]
    alone = {p.problem_id for p in evaluation_problems(recipe("evaluation.problems=60"))}
    assert ids[0] | ids[1] == alone


def test_a_named_test_file_is_judged_instead(folder: Path) -> None:
    (folder / "test.jsonl").write_text(json.dumps(rows(99)[98]) + "\n")
    judged = evaluation_problems(recipe("evaluation.dataset_name=test.jsonl"))
    assert [p.problem_id for p in judged] == ["test-1"]


def test_a_holdout_of_all_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"eval_holdout|expected at least one prompt"):
        training_prompts(recipe("eval_holdout=0.9999"))


def test_a_part_keeps_a_problem_together() -> None:
    from icpo_lite.data.tiny_world import world_problems, world_prompts

    prompts = list(world_prompts(list(world_problems("train", 40)), mid_conversation=0.5))
    low, high = Part(0, 0.4).prompts(prompts), Part(0.4, 1).prompts(prompts)
    assert len(low) + len(high) == len(prompts)
    assert not {p.problem_id for p in low} & {p.problem_id for p in high}


# ------------------------------------------------------------------------------- contamination

STORY = "Max bought 16 snowflake stamps, 3 more truck stamps, and 9 fewer rose stamps. How many?"


def test_exact_and_near_twins_are_found() -> None:
    judged = [("same", STORY), ("near", STORY), ("other", "A train goes 60 miles an hour.")]
    judged[1] = ("near", STORY.replace("16", "18").replace("Max", "Bella"))
    found = seen_in_training(judged, [("t", STORY.upper().replace(" ", "  ")), ("u", "Far off.")])
    assert [(s.judged, s.trained, s.likeness == 1) for s in found] == [
        ("same", "t", True),
        ("near", "t", False),
    ]
    line = seen_line(found, 3, "the evaluation")
    assert line.startswith("2 of the 3 problems that the evaluation judges on are trained on too")
    assert "1 word for word, 1 almost" in line
    assert seen_line([], 3, "the evaluation") == ""


def test_the_same_form_alone_is_no_twin() -> None:
    one = "A baker sells 12 loaves a day for $3 each. How much does he earn in a week?"
    two = "A florist sells 15 tulips a day for $2 each. What does she make in five days?"
    assert seen_in_training([("a", one)], [("b", two)]) == []


def test_the_files_of_a_recipe_are_held_against_an_evaluation(folder: Path) -> None:
    judged = [rows(60)[0], rows(60)[1] | {"question": "Where does the sun rise at 6 in May?"}]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, judged)) + "\n")
    texts = list(trained_texts(recipe("eval_holdout=0")))
    assert len(texts) == 60
    assert len(list(trained_texts(recipe()))) == len(
        {p.problem_id for p in training_prompts(recipe())[0]}
    )
    problems = list(read_problems("test.jsonl"))
    said = seen_line_of(problems, texts, "this evaluation")
    assert said.startswith("1 of the 2 problems")
    assert "1 word for word" in said
    assert "such as test-1, which is rows-1" in said


def test_training_says_what_is_judged_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = [rows(60)[0], rows(99)[98]]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, judged)) + "\n")
    short = ["max_steps=1", "prompts_per_step=2", "num_generations=2", "compare={}"]
    table = ["evaluation.dataset_name=test.jsonl", "evaluation.runs=1", "eval_holdout=0"]
    assert run(["train", "tiny", "dataset_name=rows.jsonl", *short, *table]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "problems that the evaluation judges on are trained on too" in said
    assert run(["eval", "runs/tiny", "--data", "test.jsonl", "--runs", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "problems that this evaluation judges on are trained on too" in said
