"""What `from icpo_lite import …` gives, used as a stranger would."""

import ast
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import icpo_lite
from icpo_lite import (
    DataError,
    RecipeError,
    ResponseType,
    UsageError,
    augment,
    classify,
    evaluate,
    grade,
    load_policy,
    load_recipe,
    train,
)
from icpo_lite.core import errors

ROOT = Path(icpo_lite.__file__).parent.parent
SMALL = {
    "max_steps": 1,
    "prompts_per_step": 2,
    "num_generations": 2,
    "max_completion_length": 8,
    "device": "cpu",
    "compare": {},
    "evaluation": {"enabled": False},
}


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_names_can_be_imported_and_are_documented() -> None:
    from icpo_lite import api

    assert set(icpo_lite.__all__) - {"__version__"} == set(api.__all__)
    for name in api.__all__:
        assert getattr(icpo_lite, name) is getattr(api, name)
    assert "Trainer" in dir(icpo_lite)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = icpo_lite.trian


def calls_something(line: str) -> bool:
    """Whether a line is Python that calls something; prose is not."""
    try:
        tree = ast.parse(line.strip())
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Call) for node in ast.walk(tree))


@pytest.mark.parametrize("name", sorted(set(icpo_lite.__all__) - {"__version__"}))
def test_what_is_public_is_explained_with_an_example(name: str) -> None:
    words = getattr(icpo_lite, name).__doc__ or ""
    if name in ("Prompt", "IcpoError"):
        return  # a record that `augment` makes, and the base of what is raised
    assert any(map(calls_something, words.splitlines()[1:])), f"{name}: a line that shows its use"


def test_a_task_that_is_none_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"expected a task out of .*, found 'mth'; did you mean math"
    ):
        classify("How many?", task="mth")  # type: ignore[arg-type]
    with pytest.raises(icpo_lite.GraderError, match=r"expected a task out of .*, found 'mth'$"):
        grade("7", "7", task="mth")  # type: ignore[arg-type]


def test_a_trainer_without_a_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = icpo_lite.Trainer.from_recipe(load_recipe("tiny", **SMALL))
    (report,) = trainer.steps()
    assert (report.step, trainer.done_steps) == (1, 1)
    assert "reward" in report.metrics
    assert list(tmp_path.iterdir()) == []


def test_every_error_is_public() -> None:
    tree = {e for e in vars(errors).values() if isinstance(e, type)}
    assert {name.__name__ for name in tree} <= set(icpo_lite.__all__)


def test_torch_stays_unimported_until_it_is_used(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from icpo_lite import load_recipe, train, load_policy, evaluate, augment, classify\n"
        "from icpo_lite import grade, token_logprobs, RecipeError, Recipe\n"
        "load_recipe('tiny', max_steps=20)\n"
        "classify('How many?')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "from icpo_lite import Trainer"
    )
    python(code, tmp_path)


def test_no_pings_and_growing_segments_from_python_too(tmp_path: Path) -> None:
    said = python(
        "import icpo_lite, os\n"
        "print(os.environ['HF_HUB_DISABLE_TELEMETRY'], os.environ['UNSLOTH_DISABLE_STATISTICS'],"
        " os.environ['PYTORCH_CUDA_ALLOC_CONF'])",
        tmp_path,
    )
    assert said.split() == ["1", "1", "expandable_segments:True"]


def test_recipes_from_python() -> None:
    recipe = load_recipe("tiny", ["seed=3"], max_steps=20, evaluation={"problems": 7})
    assert (recipe.max_steps, recipe.seed, recipe.evaluation.problems) == (20, 3, 7)
    assert recipe.evaluation.settings, "other options of the block stay"
    with pytest.raises(RecipeError, match="load_recipe: unknown key max_step; did you mean max_st"):
        load_recipe("tiny", max_step=20)
    with pytest.raises(RecipeError, match="unknown key max_step; did you mean max_steps"):
        icpo_lite.Recipe(max_step=2)
    with pytest.raises(RecipeError, match=r"evaluation\.run; did you mean runs"):
        icpo_lite.Recipe(model_name_or_path="m", dataset_name="d", evaluation={"run": 2})
    with pytest.raises(RecipeError, match="lora_r: expected greater than or equal to 1, found 0"):
        icpo_lite.Recipe(model_name_or_path="m", dataset_name="d", lora_r=0)


def test_train_and_evaluate_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done: list[Path] = []
    recipe = load_recipe("tiny", **SMALL, output_dir="run")
    worker = threading.Thread(target=lambda: done.append(train(recipe)))
    worker.start()
    worker.join()
    assert done == [Path("run")]
    figures = evaluate("run", settings=("full",), problems=2, runs=1, device="cpu", output="out")
    assert 0 <= figures["settings"]["full"]["P"]["value"] <= 100
    assert (tmp_path / "out" / "run" / "eval.json").is_file()
    with pytest.raises(UsageError, match="unknown option problem; did you mean problems"):
        evaluate("run", problem=2)
    assert load_policy("run", device="cpu").has_adapter
    assert not load_policy("builtin:tiny", device="cpu").has_adapter
    assert load_policy(recipe).trainable()


def test_a_script_without_a_guard_trains_its_comparison_run(tmp_path: Path) -> None:
    """A comparison run is a program of its own: the caller's script is not run again."""
    script = tmp_path / "script.py"
    keys = {**SMALL, "compare": {"rlvr": "twin"}, "output_dir": "run"}
    script.write_text(
        "import json\n"
        "from icpo_lite import load_recipe, train\n"
        "open('times', 'a').write('once ')\n"
        f"train(load_recipe('tiny', **json.loads({json.dumps(json.dumps(keys))})))\n"
    )
    python("import runpy; runpy.run_path('script.py', run_name='__main__')", tmp_path)
    assert (tmp_path / "times").read_text() == "once "
    assert (tmp_path / "run-rlvr" / "finished").is_file()
    info = json.loads((tmp_path / "run-rlvr" / "run.json").read_text())
    assert "train" in json.dumps(info)


def test_prompts_from_rows() -> None:
    rows = [
        {
            "question": "A box holds 6 rows of 8 eggs. Ann buys 3 boxes. How many eggs has Ann?",
            "answer": "A box holds 6*8=<<6*8=48>>48. Ann has 3*48=<<3*48=144>>144.\n#### 144",
        }
    ]
    prompts = augment(rows, max_removed=1)
    assert [str(p.intent) for p in prompts] == ["complete", "underspecified"]
    assert prompts[1].removed
    with pytest.raises(DataError, match="unknown key max_remove; did you mean max_removed"):
        augment(rows, max_remove=1)
    with pytest.raises(DataError, match=r"problems\.jsonl:1"):
        augment([{"nothing": 1}])


def test_types_and_grades() -> None:
    assert classify("How many apples does Ann buy?") is ResponseType.CLARIFICATION
    assert classify("3 + 4 = 7. The answer is 7.") is ResponseType.ANSWER_ATTEMPT
    found = grade("3 + 4 = 7. The answer is 7.", "7")
    assert (found.correct, found.extracted) == (True, "7")
    assert not grade("The answer is 8.", "7").correct
    with pytest.raises(RecipeError, match="math_rules; did you mean math_rule"):
        grade("7", "7", math_rules="compat")


def test_the_shipped_example_runs(tmp_path: Path) -> None:
    example = ROOT / "recipes" / "train.py"
    python(
        f"import sys, runpy; sys.argv = ['train.py', '1']; runpy.run_path({str(example)!r})",
        tmp_path,
    )
    assert (tmp_path / "runs" / "from-python" / "finished").is_file()
