"""A bounded round of tests/reliability/fuzz.py, and what longer rounds have found."""

import sys
from pathlib import Path

import pytest

from icpo_lite.core.errors import RecipeError
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
