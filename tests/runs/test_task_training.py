"""Rows of every task, from the file to a finished run: check, preview, train, evaluation."""

import json

import pytest
from click.testing import CliRunner
from task_cases import ROWS, human_eval_rows, write_rows

from icpo_lite.cli import cli
from icpo_lite.core.errors import RecipeError
from icpo_lite.core.files import read_metrics
from icpo_lite.core.types import Intent
from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.evaluation.problems import evaluation_problems
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.graders import sandbox

RECIPE = """
model_name_or_path: builtin:tiny
dataset_name: {task}.jsonl
task: {task}
output_dir: run
max_steps: 2
prompts_per_step: 2
num_generations: 2
max_prompt_length: 400
max_completion_length: 12
system_prompt: {system}
allow_code_execution: {execution}
device: cpu
seed: 0
evaluation: {{problems: 2, runs: 1, settings: [full, concat, sharded, underspecified]}}
"""
#: What the prompt of a task must show.
SHOWN = {"actions": "hotels.book", "database": "CREATE TABLE singer", "code": "", "math": ""}
KINDS = [*ROWS, "human_eval"]


def recipe_file(folder, kind, *, system="lic", execution="true", more=""):
    task = "code" if kind == "human_eval" else kind
    rows = human_eval_rows() if kind == "human_eval" else ROWS[kind]()
    write_rows(folder / f"{task}.jsonl", rows)
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(task=task, system=system, execution=execution) + more)
    return path


def run(*arguments):
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def isolated(kind):
    if kind in ("code", "human_eval") and sandbox.why_not():
        pytest.skip(f"no isolation here: {sandbox.why_not()}")


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_rows_train_and_are_judged(tmp_path, monkeypatch, kind):
    isolated(kind)
    monkeypatch.chdir(tmp_path)
    path = recipe_file(tmp_path, kind)
    run("train", path)
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2]
    first = json.loads((tmp_path / "run" / "completions" / "step-000001.jsonl").open().readline())
    assert SHOWN.get(kind, "") in first["prompt"][0]["content"]
    for folder in ("eval", "eval-base"):
        summary = json.loads((tmp_path / "run" / folder / "eval.json").read_text())
        assert set(summary["settings"]) >= {"full", "concat", "sharded"}
        assert "clarification_rate" in summary["rates"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_finds_gold_right_and_wrong_wrong(tmp_path, monkeypatch, kind):
    isolated(kind)
    monkeypatch.chdir(tmp_path)
    printed = run("check", recipe_file(tmp_path, kind), "--sample", "6")
    earned = {line[:20].strip(): line[20:].split() for line in printed.splitlines()}
    assert earned["gold"][:2] == ["+1.00", "+0.00"]
    assert earned["wrong"][:2] == ["+0.00", "+0.00"]
    assert float(earned["targeted question"][1]) > float(earned["untargeted question"][1])
    assert "were not seen as targeted" not in printed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", ["lic", "null", "Be brief."])
def test_the_prompt_shows_what_the_task_needs(tmp_path, monkeypatch, kind, system):
    monkeypatch.chdir(tmp_path)
    path = recipe_file(tmp_path, kind, system=system)
    printed = run("preview", path, "-n", "1")
    assert SHOWN.get(kind, "") in printed
    assert ("Be brief." in printed) is (system == "Be brief.")
    assert ("You help a user" in printed) is (system == "lic")


@pytest.mark.parametrize("kind", KINDS)
def test_most_rows_have_a_certified_twin(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    prompts, _ = training_prompts(load_recipe(recipe_file(tmp_path, kind)))
    lacking = [p for p in prompts if p.intent is Intent.UNDERSPECIFIED]
    assert len(lacking) >= 15
    for prompt in lacking:
        assert prompt.removed
        assert prompt.certificate.out_of_reach
        assert prompt.certificate.incomplete
        whole = next(p for p in prompts if p.problem_id == prompt.problem_id)
        assert prompt.text != whole.text


#: Rows of which none can be judged on: nothing in them is a fact, or grades.
HOPELESS = {
    "actions": {
        "question": "Sing.",
        "function": [{"name": "sing"}],
        "ground_truth": [{"sing": {}}],
    },
    "database": {"question": "Show all.", "query": "SELECT 1", "schema": "CREATE TABLE t (x INT);"},
    "math": {"question": "How much is 2 + 3?", "answer": "5"},
}


@pytest.mark.parametrize("kind", HOPELESS)
@pytest.mark.parametrize("key", ["evaluation", "eval_steps"])
def test_an_evaluation_without_problems_is_refused_before_the_first_step(
    tmp_path, monkeypatch, kind, key
):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "other.jsonl", [HOPELESS[kind]])
    own = ("dataset_name=other.jsonl", "share_underspecified=0", "prompts_per_step=1")
    more = own if key == "evaluation" else (*own, "evaluation.enabled=false", "eval_steps=1")
    path = recipe_file(tmp_path, kind)
    result = CliRunner().invoke(cli, ["train", str(path), *more])
    assert result.exit_code == 2, result.output
    assert f"{key}: expected problems to judge on, found none" in result.output
    assert not (tmp_path / "run").exists()


def test_code_that_must_not_run_is_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = recipe_file(tmp_path, "actions", execution="false")
    write_rows(tmp_path / "code.jsonl", ROWS["code"]())
    with pytest.raises(RecipeError, match="evaluation: judging code runs it; set allow_code"):
        evaluation_problems(load_recipe(path, ["evaluation.dataset_name=code.jsonl"]))


def test_a_database_that_is_nowhere_is_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = recipe_file(tmp_path, "database")
    rows = [{**row, "schema": None, "db_id": "gone"} for row in ROWS["database"]()]
    write_rows(tmp_path / "database.jsonl", rows)
    with pytest.raises(RecipeError, match=r"found none at database\.jsonl:1"):
        evaluation_problems(load_recipe(path))
