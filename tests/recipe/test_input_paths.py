"""Paths in a recipe: from its folder, then from the working directory, with `~` everywhere."""

from pathlib import Path

import pytest

from icpo_lite.core.errors import RecipeError
from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.data.sources import read_problems
from icpo_lite.evaluation.problems import evaluation_problems
from icpo_lite.recipe import Recipe, compared_recipes, load_recipe
from icpo_lite.recipe.input_paths import READ, WRITTEN, require_model

ROW = '{"question": "Ann has 3 pens and buys 4 pens. How many pens?", "answer": "7"}\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory beside a folder `proj` for the recipe, and a home."""
    for name in ("here", "proj/model", "home/model", "home/runs/old"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("proj/model", "home/model"):
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def recipe(place: Path, text: str, *overrides: str) -> Recipe:
    if "model_name" not in text:
        text = "model_name_or_path: m\n" + text
    if not text.startswith("dataset") and "\ndataset" not in text:
        text = "dataset_name: d\n" + text
    (place / "proj" / "r.yaml").write_text(text)
    return load_recipe("../proj/r.yaml", overrides)


def test_a_file_beside_the_recipe_comes_first(place: Path) -> None:
    (place / "proj" / "rows.jsonl").write_text(ROW)
    (place / "here" / "rows.jsonl").write_text("")
    found = recipe(place, "dataset_name: rows.jsonl\n").dataset_name
    assert Path(found) == place / "proj" / "rows.jsonl"
    assert len(list(read_problems(found))) == 1


def test_then_one_in_the_working_directory(place: Path) -> None:
    (place / "here" / "rows.jsonl").write_text(ROW)
    assert recipe(place, "dataset_name: rows.jsonl\n").dataset_name == "rows.jsonl"


def test_a_file_is_beside_the_recipe_that_names_it(place: Path) -> None:
    (place / "proj" / "base").mkdir()
    (place / "proj" / "base" / "rows.jsonl").write_text(ROW)
    (place / "proj" / "base" / "b.yaml").write_text(
        "model_name_or_path: m\ndataset_name: rows.jsonl\n"
    )
    (place / "proj" / "r.yaml").write_text("extends: base/b.yaml\nmax_steps: 3\n")
    found = load_recipe("../proj/r.yaml").dataset_name
    assert Path(found) == place / "proj" / "base" / "rows.jsonl"


def test_models_and_runs_too(place: Path) -> None:
    found = recipe(place, "model_name_or_path: model\n")
    assert Path(found.model_name_or_path) == place / "proj" / "model"
    (place / "proj" / "runs" / "old").mkdir(parents=True)
    found = recipe(place, "augment: {spread_from: runs/old}\n")
    assert Path(found.augment["spread_from"]) == place / "proj" / "runs" / "old"


def test_names_of_the_hub_stay(place: Path) -> None:
    (place / "here" / "openai" / "gsm8k").mkdir(parents=True)
    (place / "proj" / "org" / "model").mkdir(parents=True)
    found = recipe(place, "model_name_or_path: org/model\ndataset_name: openai/gsm8k\n")
    assert (found.model_name_or_path, found.dataset_name) == ("org/model", "openai/gsm8k")


VALUES = {
    "model_name_or_path": "~/model",
    "dataset_name": "~/rows.jsonl",
    "eval_dataset_name": "~/rows.jsonl",
    "evaluation.dataset_name": "~/rows.jsonl",
    "augment.spread_from": "~/runs/old",
    "logged_completions": "~/runs/old",
    "resume_from_checkpoint": "~/runs/old",
    "output_dir": "~/runs/new",
    "mirror_dir": "~/drive",
    "endpoint.cache_dir": "~/cache",
    "augment.endpoint.cache_dir": "~/cache",
    "adapter_name_or_path": "~/adapter",
}


def test_the_home_folder_stands_for_itself_in_every_key(place: Path) -> None:
    assert set(VALUES) == {*READ, *WRITTEN}
    (place / "home" / "rows.jsonl").write_text(ROW)
    server = "{base_url: 'http://127.0.0.1:1/v1', model: x}"
    text = f"endpoint: {server}\naugment:\n  endpoint: {server}\n"
    given = [f"{key}={value}" for key, value in VALUES.items()]
    dumped = recipe(place, text, *given).model_dump()
    for key, value in VALUES.items():
        found = dumped
        for part in key.split("."):
            found = found[part]
        assert found == str(place / "home" / value[2:]), key
    listed = recipe(place, "datasets: [{path: ~/rows.jsonl}, {path: ~/more.jsonl}]\n")
    assert [b.path for b in listed.datasets] == [
        str(place / "home" / name) for name in ("rows.jsonl", "more.jsonl")
    ]
    assert next(read_problems("~/rows.jsonl")).answer == "7"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("dataset_name: none.jsonl\n", "dataset_name"),
        ("dataset_name: data/none.csv.gz\n", "dataset_name"),
        ("datasets: [{path: none.jsonl}]\n", "dataset"),
    ],
)
def test_the_error_names_where_it_looked(place: Path, text: str, key: str) -> None:
    with pytest.raises(RecipeError) as error:
        training_prompts(recipe(place, text))
    said = str(error.value)
    assert said.startswith("../proj/r.yaml:")
    assert key in said
    assert "\n" not in said
    assert f"in {place / 'proj'} or in {place / 'here'}" in said


def test_so_do_those_of_the_evaluation_and_of_the_model(place: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluation.dataset_name: .*proj or in .*here"):
        evaluation_problems(recipe(place, "evaluation: {dataset_name: none.jsonl}\n"))
    with pytest.raises(RecipeError, match=r"model_name_or_path: .*proj or in .*here"):
        require_model(recipe(place, "model_name_or_path: ./none\n"))
    with pytest.raises(RecipeError, match=r"r.yaml:3: .*other.yaml' in .*proj or .*here"):
        compared_recipes(recipe(place, "compare: {x: other.yaml}\n"))


def test_a_recipe_to_compare_with_may_lie_in_the_working_directory(place: Path) -> None:
    (place / "here" / "other.yaml").write_text("model_name_or_path: m\ndataset_name: d\n")
    assert set(compared_recipes(recipe(place, "compare: {x: other.yaml}\n"))) == {"x"}
