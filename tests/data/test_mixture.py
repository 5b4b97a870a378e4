"""Several data sets in one recipe, drawn from by weight."""

import json
from collections import Counter
from pathlib import Path

import pytest
from test_holdout import rows

from icpo_lite.core.errors import RecipeError
from icpo_lite.data.from_recipe import require_kinds, training_prompts
from icpo_lite.data.mixture import WeightedOrder, weights
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.evaluation.problems import evaluation_problems
from icpo_lite.recipe import Recipe, load_recipe, resolved_yaml


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, found in (("a", rows(30)), ("b", rows(50)[30:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, found)) + "\n")
    renamed = [{"frage": r["question"], "loesung": r["answer"]} for r in rows(60)[50:]]
    (tmp_path / "c.json").write_text(json.dumps(renamed))
    (tmp_path / "r.yaml").write_text(
        "extends: tiny\neval_holdout: 0.2\ndatasets:\n"
        "  - {path: a.jsonl, weight: 3}\n  - {path: b.jsonl}\n"
        "  - {path: c.json, columns: {question: frage, answer: loesung}}\n"
    )
    return load_recipe("r.yaml")


def test_draws_keep_to_the_weights() -> None:
    order = WeightedOrder({"a": 3.0, "b": 1.0})
    assert [order.at(i)[0] for i in range(8)] == ["a", "a", "a", "b"] * 2
    assert [order.at(i)[1] for i in range(8)] == [0, 1, 2, 0, 3, 4, 5, 1]
    assert order.at(2) == ("a", 2)


def test_prompts_of_all_sets_are_drawn_by_weight(recipe: Recipe) -> None:
    prompts, told = training_prompts(recipe)
    assert "a.jsonl at weight 3" in told
    assert len({p.prompt_id for p in prompts}) == len(prompts)
    require_kinds(recipe, prompts)
    pool = PromptPool(prompts, seed=0, weights=weights(recipe))
    drawn = [p for _ in range(50) for p in pool.draw(10, 0.5)]
    counts = Counter(p.dataset for p in drawn)
    assert counts == {"a": 300, "b": 100, "c": 100}


def test_a_resumed_pool_goes_on_where_it_was(recipe: Recipe) -> None:
    prompts, _ = training_prompts(recipe)
    pools = [PromptPool(prompts, seed=0, weights=weights(recipe)) for _ in range(2)]
    for _ in range(3):
        pools[0].draw(7, 0.4)
    pools[1].restore(pools[0].state)
    assert pools[0].draw(7, 0.4) == pools[1].draw(7, 0.4)


def test_the_holdout_of_each_set_is_judged(recipe: Recipe) -> None:
    judged = {p.problem_id for p in evaluation_problems(recipe)}
    trained = {p.problem_id for p in training_prompts(recipe)[0]}
    assert not judged & trained
    assert {name.partition("/")[0] for name in judged} == {"a", "b", "c"}


def test_a_recipe_with_several_sets_reads_back_equal(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(resolved_yaml(recipe))
    assert load_recipe("again.yaml") == recipe
    assert recipe.dataset_name == "a.jsonl"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[{path: a.jsonl}, {path: a.jsonl}]", "each set once"),
        ("[{path: a.jsonl, weight: 0}]", "greater than 0"),
        ("[{file: a.jsonl}]", "datasets"),
        ("[{path: builtin:world}, {path: a.jsonl}]", "builtin:world"),
    ],
)
def test_what_makes_no_mixture_is_refused(recipe: Recipe, value: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe("r.yaml", [f"datasets={value}"])


def test_a_set_that_is_not_there_is_named_where_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text("extends: tiny\n")
    file = tmp_path / "child.yaml"
    file.write_text(
        "extends: parent.yaml\ndatasets:\n  - {path: nowhere.jsonl}\n  - {path: other.jsonl}\n"
    )
    with pytest.raises(RecipeError, match=r"child.yaml:[23]: .*nowhere.jsonl, found none in "):
        training_prompts(load_recipe(str(file)))
