"""A bounded round of tests/reliability/fuzz.py, and what longer rounds have found."""

import contextlib
import json
import sys
import time
from pathlib import Path

import pytest
import task_cases

from icpo_lite.core.errors import DataError, RecipeError
from icpo_lite.data.gold_values import gold_values
from icpo_lite.recipe import load_recipe


@pytest.fixture
def fuzzing():
    folder = str(Path(__file__).parent / "reliability")
    sys.path.insert(0, folder)
    try:
        import fuzz

        yield fuzz
    finally:
        sys.path.remove(folder)


def test_mutated_recipes_and_corpora_end_in_one_line(fuzzing, tmp_path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    outcome = fuzzing.fuzz(folder, 60, seed=3)
    assert outcome.broken == []
    assert sum(outcome.codes.values()) >= 50
    assert {0, 2} <= set(outcome.codes)


def test_mutated_replies_of_a_server_end_in_a_text_or_one_line(fuzzing, tmp_path) -> None:
    import fuzz_endpoint

    outcome = fuzz_endpoint.fuzz(60, tmp_path, seed=3)
    assert outcome.broken == []
    assert {"text", "ModelError"} == set(outcome.ends)


def test_mutated_rows_of_each_kind_are_judged_or_told_in_one_line(fuzzing, tmp_path) -> None:
    import fuzz_rows

    outcome = fuzz_rows.fuzz(48, tmp_path, seed=3)
    assert outcome.broken == []
    ends = set(outcome.ends)
    assert {f"{kind} judged" for kind in fuzz_rows.kinds()} <= ends
    assert any("GraderError" in end for end in ends)
    assert any("DataError" in end for end in ends)


def problems_of_row(row: dict, folder: Path) -> list:
    from icpo_lite.data.sources import read_problems

    file = folder / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return list(read_problems(file))


@pytest.mark.parametrize(
    "changes",
    [
        {"test": "[" * 3000},
        {"prompt": "[" * 3000, "canonical_solution": '["' + "[" * 3000},
        {"test": "{" * 3000},
    ],
)
def test_code_that_looks_like_json_without_end_is_no_json(changes: dict, tmp_path) -> None:
    row = {**task_cases.human_eval_rows()[0], **changes}
    with contextlib.suppress(DataError):
        problems_of_row(row, tmp_path)


@pytest.mark.parametrize("about", [-1, None, "default", ["default"]])
@pytest.mark.parametrize("required", ["city nights", 7, {"nights": 1}])
def test_a_function_whose_schema_is_none_requires_nothing(about, required, tmp_path) -> None:
    row = task_cases.action_rows()[0]
    schema = row["function"][0]["parameters"]
    schema["properties"]["nights"], schema["required"] = about, required
    (problem,) = problems_of_row(row, tmp_path)
    nights = next(v for v in gold_values(problem) if 2 in v.values)
    assert nights.optional


def test_a_query_of_one_endless_word_is_read_in_linear_time(tmp_path) -> None:
    row = task_cases.spider_rows()[0]
    said = [v.values for v in gold_values(*problems_of_row(row, tmp_path))]
    row["query"] += f" AND {'x' * 100_000}"
    begun = time.process_time()
    assert [v.values for v in gold_values(*problems_of_row(row, tmp_path))] == said
    row["query"] += f" LIMIT {'9' * 5000}"
    assert [v.values for v in gold_values(*problems_of_row(row, tmp_path))] == said
    assert time.process_time() - begun < 2.0


def test_a_write_outside_is_seen(fuzzing, tmp_path) -> None:
    watch = fuzzing.Watch()
    watch.allowed = tmp_path / "out"
    try:
        (tmp_path / "elsewhere").write_text("x")
    finally:
        watch.allowed = None
    assert any("elsewhere" in place for place in watch.outside)


@pytest.mark.parametrize(
    ("code", "errors"),
    [(1, ""), (0, "Error: x"), (3, "Error: x"), (2, "Error: x\nError: y"), (1, "Traceback")],
)
def test_each_rule_can_be_broken(fuzzing, code: int, errors: str) -> None:
    assert fuzzing.problems_of(code, errors)
    assert not fuzzing.problems_of(2, "Usage: x\nError: y")


def test_a_character_that_yaml_does_not_allow_is_one_line(tmp_path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("model_name_or_path: a\x00b\n")
    with pytest.raises(RecipeError, match=r"r\.yaml") as caught:
        load_recipe(file)
    assert "\n" not in str(caught.value)


def test_comparisons_must_be_names(tmp_path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("model_name_or_path: a\ndataset_name: b\ncompare: [[rlvr]]\n")
    with pytest.raises(RecipeError, match="compare"):
        load_recipe(file)


def test_a_parquet_file_with_text_that_is_not_utf_8_is_one_line(tmp_path) -> None:
    import pyarrow
    import pyarrow.parquet

    from icpo_lite.core.errors import DataError
    from icpo_lite.data.sources import read_problems

    file = tmp_path / "rows.parquet"
    text = pyarrow.array([b"How many \xf9 pens are 3 + 4?"]).view(pyarrow.string())
    answers = pyarrow.array(["#### 7"])
    table = pyarrow.table({"question": text, "answer": answers})
    pyarrow.parquet.write_table(table, file)
    with pytest.raises(DataError, match="utf-8"):
        list(read_problems(file))
