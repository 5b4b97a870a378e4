"""What a run says of itself is true: steps, results, and what ended it."""

import json
import shutil
import signal
import sys

import pytest
from reliability.small_run import SMALL, few_problems, same_adapter

from icpo_lite.core.console import Display
from icpo_lite.core.errors import (
    GraderError,
    Interrupted,
    ModelError,
    RecipeError,
    RunDirectoryError,
)
from icpo_lite.core.files import read_metrics
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards import grading, judge
from icpo_lite.rewards.graders import actions, math
from icpo_lite.runs import train as run_module
from icpo_lite.runs.checkpoint import latest_checkpoint
from icpo_lite.runs.run_directory import RunDirectory
from icpo_lite.training import trainer

FEW = ("rehearse=false", "max_completion_length=4", "save_steps=9", "max_steps=3")


@pytest.fixture
def train(tmp_path):
    """Trains a few steps into tmp_path/name; returns what was said."""

    def go(name="run", *overrides, **allowed):
        folder, file = tmp_path / name, tmp_path / "said"
        with few_problems(), file.open("w+") as said:
            recipe = load_recipe("tiny", [f"output_dir={folder}", *SMALL, *FEW, *overrides])
            display = Display(total=recipe.max_steps, live=False, file=said)
            run_module.train(recipe, display, threads=1, **allowed)
        return file.read_text()

    return go


def steps(folder):
    return [row["step"] for row in read_metrics(folder)]


# ------------------------------------------------------------------------- finished runs


def test_a_finished_run_without_checkpoints_is_not_another_recipes(train, tmp_path):
    train()
    for checkpoint in (tmp_path / "run").glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    with pytest.raises(RunDirectoryError, match="trained with another learning_rate"):
        train("run", "learning_rate=1e-4")
    assert "This run is done" in train()
    with pytest.raises(RunDirectoryError, match="3 steps and its checkpoints are gone"):
        train("run", "max_steps=4", extend=True)
    assert steps(tmp_path / "run") == [1, 2, 3]
    (tmp_path / "run/adapter_model.safetensors").unlink()
    with pytest.raises(RunDirectoryError, match="its adapter and its checkpoints are gone"):
        train()


def test_an_adapter_that_is_gone_comes_back_from_the_last_checkpoint(train, tmp_path):
    train()
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    (tmp_path / "run/adapter_model.safetensors").unlink()
    train()
    assert same_adapter(tmp_path / "run", tmp_path / "whole")


def test_more_steps_of_a_finished_run_are_asked_for_by_name(train, tmp_path):
    train("run", "max_steps=2")
    with pytest.raises(RunDirectoryError, match=r"finished after 2 steps, .* 3; pass --extend"):
        train()
    assert json.loads((tmp_path / "run/finished").read_text())["steps"] == 2

    class EndedError(Exception):
        pass

    def ends(self, step, *_):
        raise EndedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.Display, "step", ends)
        with pytest.raises(EndedError):
            train(extend=True)
    # It is open now: what goes on is no new wish.
    assert not (tmp_path / "run/finished").exists()
    train()
    assert steps(tmp_path / "run") == [1, 2, 3]


def test_a_compared_run_that_is_finished_is_told_before_anything_is_trained(train, tmp_path):
    train("run-rlvr", "max_steps=2")
    with pytest.raises(RunDirectoryError, match=r"run-rlvr is finished after 2 steps.*--extend"):
        train("run", "compare=[rlvr]")
    assert not (tmp_path / "run").exists()


def test_fewer_steps_than_were_made_are_refused(train, tmp_path):
    train("run", "max_steps=3", "save_steps=1", "save_total_limit=3")
    (tmp_path / "run/finished").unlink()
    with pytest.raises(RunDirectoryError, match=r"has made 3 steps, max_steps asks for 2; set"):
        train("run", "max_steps=2")
    wish = f"resume_from_checkpoint={tmp_path / 'run/checkpoint-3'}"
    with pytest.raises(RunDirectoryError, match="has made 3 steps"):
        train("run", "max_steps=2", wish)
    train()
    assert "it has made 3 steps" in train("run", "max_steps=2")


# ------------------------------------------------------------------------- metrics.jsonl


@pytest.mark.parametrize(
    ("change", "left", "said"),
    [
        (lambda rows: rows[1:], [2, 3, 4], "of the steps 1 to 3, 1 is missing"),
        (lambda rows: [], [4], "of the steps 1 to 3, 1-3 are missing"),
        (lambda rows: [rows[0], b"{half\n", rows[2]], [1, 3, 4], "1 to 3, 2 is missing"),
        (lambda rows: [rows[1], rows[0], rows[2]], [1, 2, 3, 4], "of steps that were there"),
        (lambda rows: [*rows, rows[0], rows[2]], [1, 2, 3, 4], "took out 2 rows of steps"),
        (lambda rows: [b'{"step": 0}\n', *rows], [1, 2, 3, 4], "took out line 1"),
    ],
)
def test_steps_are_whole_after_a_resume_or_it_is_told_which_lack(
    change, left, said, train, tmp_path
):
    train("run", "lr_scheduler_type=constant", "warmup_steps=0")
    file = tmp_path / "run/metrics.jsonl"
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    more = ("max_steps=4", "lr_scheduler_type=constant", "warmup_steps=0")
    assert said in train("run", *more, extend=True)
    assert steps(tmp_path / "run") == left


def test_nothing_is_said_of_whole_metrics(tmp_path):
    with RunDirectory(tmp_path / "run") as run:
        for step in (1, 2):
            run.append_metrics({"step": step})
        assert run.cut_after(2) == []


# ------------------------------------------------------------------------- what ends a run


def test_a_step_that_was_made_is_not_told_as_the_next(train, tmp_path, monkeypatch):
    """A disk that fails under the last checkpoint fails after step 3, not in step 4 of 3."""

    def full(*arguments, **named):
        raise RunDirectoryError("cannot save: No space left on device; free some")

    monkeypatch.setattr("icpo_lite.runs.checkpoint_manager.save_checkpoint", full)
    with pytest.raises(RunDirectoryError, match=r"^after step 3: cannot save"):
        train()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with few_problems(), (folder.parent / "said").open("w") as said:
        recipe = load_recipe("tiny", [f"output_dir={folder}", *SMALL, *FEW])
        run_module.train(recipe, Display(total=3, live=False, file=said), threads=1)
    return folder


@pytest.mark.parametrize(
    "error", [GraderError("row 7: at fault"), ModelError("the server is gone"), RuntimeError("odd")]
)
def test_a_grader_that_fails_costs_no_step_that_was_made(
    error, whole, train, tmp_path, monkeypatch
):
    """Step 3 fails while its replies are judged; the steps before were never saved."""
    real, calls = trainer.judge_groups, []

    def fails(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return real(*arguments)

    monkeypatch.setattr(trainer, "judge_groups", fails)
    with pytest.raises(type(error)) as raised:
        train()
    if not isinstance(error, RuntimeError):
        assert str(raised.value).startswith(f"step 3: {error}; the last good checkpoint is ")
    assert latest_checkpoint(tmp_path / "run").path.name == "checkpoint-2"
    assert "Resumed after step 2 of 3" in train()
    assert same_adapter(whole, tmp_path / "run")
    assert steps(tmp_path / "run") == [1, 2, 3]


def test_weights_that_may_have_moved_are_not_saved(train, tmp_path, monkeypatch):
    real, calls = trainer.Updater.update, []

    def fails(self, *arguments):
        calls.append(1)
        found = real(self, *arguments)
        if len(calls) == 2:
            raise RuntimeError("half done")
        return found

    monkeypatch.setattr(trainer.Updater, "update", fails)
    with pytest.raises(RuntimeError, match="half done"):
        train()
    assert latest_checkpoint(tmp_path / "run").path is None


def test_an_evaluation_that_fails_keeps_its_step(whole, train, tmp_path, monkeypatch):
    def fails(*arguments):
        raise GraderError("row 7: at fault")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "_small_evaluation", fails)
        with pytest.raises(GraderError, match="after step 1: row 7"):
            train()
    assert latest_checkpoint(tmp_path / "run").path.name == "checkpoint-1"
    train()
    assert same_adapter(whole, tmp_path / "run")
    assert steps(tmp_path / "run") == [1, 2, 3]


@pytest.mark.parametrize("leaves", ["sys.exit(3)", "raise SystemExit", "exit('bye')"])
def test_a_plug_in_that_leaves_is_an_error_with_its_line(leaves, train, tmp_path):
    """In the third step; at import; the work before it is saved."""
    code = f"""
import sys
calls = []
def f(prompts, completions, **columns):
    calls.append(1)
    if len(calls) > {{limit}}:
        {leaves}
    return [0.0] * len(prompts)
"""
    recipe = tmp_path / "r.yaml"
    recipe.write_text("extends: tiny\nreward_funcs: ['mine.py:f']\n")
    said = Display(total=3, live=False, file=(tmp_path / "said").open("w"))
    counted = []

    def run(limit):
        (tmp_path / "mine.py").write_text(code.format(limit=limit))
        with few_problems():
            folder = tmp_path / f"run-{len(counted)}"
            counted.append(1)
            chosen = load_recipe(recipe, [f"output_dir={folder}", *SMALL, *FEW])
            run_module.train(chosen, said, threads=1)

    run(10**6)
    with pytest.raises(GraderError, match=r"mine\.py:7: f failed: SystemExit"):
        run(0)
    (tmp_path / "mine.py").write_text("import sys\nsys.exit(0)\n")
    chosen = load_recipe(recipe, [f"output_dir={tmp_path / 'new'}", *SMALL, *FEW])
    with few_problems(), pytest.raises(RecipeError, match=r"mine\.py:2: cannot be loaded: System"):
        run_module.train(chosen, said, threads=1)
    assert not (tmp_path / "new").exists()


def test_a_wish_to_stop_in_the_last_step_ends_the_run_there(whole, train, tmp_path, monkeypatch):
    """No evaluation and no run to compare with begins then; the same command does the rest."""
    real = trainer.Trainer.step

    def told(self):
        if self.done_steps == 2:
            signal.raise_signal(signal.SIGHUP)
        return real(self)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.Trainer, "step", told)
        patched.setattr(run_module, "judge_run_and_base", None)
        patched.setattr(run_module, "show_result", None)
        with pytest.raises(Interrupted) as raised:
            train("run", "evaluation.enabled=true")
    folder = tmp_path / "run"
    assert str(raised.value) == (
        f"interrupted after step 3 of 3, saved in {folder}; the same command goes on from there"
    )
    assert f"{raised.value} (SIGHUP)" in (folder / "console.log").read_text()
    assert not (folder / "finished").exists()
    train()
    assert (folder / "finished").exists()
    assert same_adapter(whole, folder)


@pytest.mark.parametrize(
    ("made", "saved", "told"),
    [
        (0, 0, "before step 1 of 3; the same command begins anew"),
        (2, 2, "after step 2 of 3, saved in {run}; the same command goes on from there"),
        (3, 3, "after step 3 of 3, saved in {run}; the same command goes on from there"),
        (2, 0, "after step 2 of 3, no checkpoint yet; the same command begins anew"),
        (3, 2, "after step 2 of 3, saved in {run}; the same command goes on from there"),
    ],
)
def test_an_interruption_outside_the_steps_is_told_like_one_within(
    made, saved, told, whole, tmp_path, monkeypatch
):
    """The same words whenever it comes, true of what was made and of what is saved."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "finished").unlink()
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[:made]))
    (folder / "checkpoint-3").rename(tmp_path / "kept")
    if saved:
        shutil.copytree(tmp_path / "kept", folder / f"checkpoint-{saved}")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "prepare_session", interrupted)
    recipe = load_recipe("tiny", [f"output_dir={folder}", *SMALL, *FEW])
    with pytest.raises(Interrupted) as raised, (tmp_path / "said").open("w") as said:
        run_module.train(recipe, Display(total=3, live=False, file=said), threads=1)
    assert str(raised.value) == f"interrupted {told.format(run=folder)}"


def test_an_output_dir_that_is_a_file_is_told_before_anything_is_loaded(tmp_path, monkeypatch):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    monkeypatch.setattr(run_module, "prepare_session", None)
    recipe = load_recipe("tiny", [f"output_dir={file}", *SMALL, *FEW])
    with pytest.raises(RecipeError, match=r"found the file .*notes\.txt; name a new folder"):
        run_module.train(recipe, Display(total=3, live=False, file=sys.stderr), threads=1)
    assert file.read_text() == "mine"


def test_a_recipe_in_the_folder_that_it_names_is_not_written_over(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("extends: tiny\noutput_dir: .\n")
    before = recipe.read_bytes()
    chosen = load_recipe(recipe, [f"output_dir={tmp_path}", *SMALL, *FEW])
    with pytest.raises(RecipeError, match=r"recipe\.yaml, which no run wrote"):
        run_module.train(chosen, Display(total=3, live=False, file=sys.stderr), threads=1)
    assert recipe.read_bytes() == before


# ------------------------------------------------------------------------- replies


def broken(*_):
    raise RecursionError("too deep")


@pytest.mark.parametrize(
    ("task", "answer", "module", "name"),
    [
        ("math", "7", math, "stated"),
        ("math", "(3, 4)", math, "whole_statement"),
        ("actions", [{"f": {"a": [1]}}], actions, "parse_calls"),
    ],
)
def test_a_reply_that_cannot_be_read_is_no_answer(task, answer, module, name, monkeypatch):
    monkeypatch.setattr(module, name, broken)
    assert grading.grade(task, "The answer is 7.", answer) == grading.Grade(False)


def test_a_comparison_that_fails_on_the_gold_answer_too_is_the_rows_fault(monkeypatch):
    def picky(given, gold):
        if given == "7":
            raise OverflowError("too large")
        return given == gold

    monkeypatch.setattr(math, "lic_equal", picky)
    as_lic = grading.GradingOptions(math_rule="compat")
    assert not grading.grade("math", "The answer is 7.", "8", options=as_lic).correct
    with pytest.raises(GraderError, match="OverflowError"):
        grading.grade("math", "The answer is 7.", "7", options=as_lic)


@pytest.mark.parametrize("name", ["explain", "aim"])
def test_a_reply_that_the_rules_fail_on_says_nothing(name, monkeypatch):
    from icpo_lite.data.from_recipe import training_prompts

    with few_problems():
        prompts, _ = training_prompts(load_recipe("tiny"))
    monkeypatch.setattr(judge, name, broken)
    lacking = next(p for p in prompts if p.removed)
    found = judge.Judge().judge(lacking, "How many apples does Ann buy?")
    assert found.response_type == "missing"
