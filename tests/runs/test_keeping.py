"""Small evaluations, the best checkpoint, dry run, mirror, minutes, failing disks, kills."""

import errno
import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from reliability.small_run import SMALL, forked, same_adapter, train
from test_run import adapter, assert_equal_adapters, quiet, recipe

from icpo_lite.core.errors import RecipeError, RunDirectoryError
from icpo_lite.core.files import read_metrics
from icpo_lite.evaluation import periodic
from icpo_lite.evaluation.periodic import SmallEvaluation, figure_names
from icpo_lite.runs import checkpoint_manager
from icpo_lite.runs import train as run_module
from icpo_lite.runs.checkpoint import latest_checkpoint, load_checkpoint
from icpo_lite.runs.checkpoint_manager import BestSoFar
from icpo_lite.runs.session import prepare_session
from icpo_lite.training import dry_run
from icpo_lite.training.trainer import Trainer
from icpo_lite.training.updater import Updater

EVAL = ("eval_steps=1", "eval_problems=2", "eval_settings=[full,underspecified]")


def scripted(monkeypatch, values):
    """Small evaluations whose P is given."""
    left = iter(values)

    def found(self, policy, judge, say):
        return {"eval/P": next(left)}

    monkeypatch.setattr(SmallEvaluation, "run", found)


def test_standing_counts_from_the_best():
    now = BestSoFar("P")
    for step, value in ((5, 40.0), (10, 50.0), (15, 45.0), (20, 50.0)):
        now = now.after(step, value, greater_is_better=True)
    assert (now.step, now.value, now.stale) == (10, 50.0, 2)
    less = now.after(25, 30.0, greater_is_better=False)
    assert (less.step, less.stale) == (25, 0)
    assert BestSoFar.restored(json.loads(json.dumps(now.state())), "P") == now
    assert BestSoFar.restored(now.state(), "U") == BestSoFar("U")


def test_more_steps_after_an_early_end_begin_patience_anew():
    ended = BestSoFar("P", step=10, value=50.0, stale=2, ended_at=20)
    assert ended.going_on(20) == ended
    assert ended.going_on(30) == BestSoFar("P", step=10, value=50.0)
    stale = BestSoFar("P", step=10, value=50.0, stale=1)
    assert stale.going_on(30) == stale


def test_a_metric_that_is_not_measured_is_refused_with_those_that_are(tmp_path):
    chosen = recipe(tmp_path / "run", *EVAL, "metric_for_best_model=sharded/P")
    with pytest.raises(RecipeError, match="expected one of P, full/P"):
        SmallEvaluation(chosen)
    named = recipe(tmp_path / "run", *EVAL, "metric_for_best_model=eval/over_asking_rate")
    assert SmallEvaluation(named).greater_is_better is False
    assert "clarification_rate" in figure_names(["underspecified"])
    with pytest.raises(RecipeError, match="cannot judge it"):
        recipe(tmp_path / "run", *EVAL, "evaluation.enabled=true", "eval_split=test")
    with pytest.raises(RecipeError, match="set eval_steps"):
        recipe(tmp_path / "run", "early_stopping_patience=2")


def test_small_evaluations_are_logged_and_do_not_disturb_training(tmp_path):
    """With `metric_for_best_model` measured for real; dropout would show a shifted draw."""
    with_, without = tmp_path / "with", tmp_path / "without"
    keys = ("max_steps=2", "lora_dropout=0.1", "prompts_per_step=2")
    run_module.train(recipe(with_, *keys, *EVAL), quiet(tmp_path))
    run_module.train(recipe(without, *keys), quiet(tmp_path))
    assert_equal_adapters(with_, without)
    rows = read_metrics(with_)
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert row["eval/P"] == row["eval/full/P"]
        assert 0 <= row["eval/clarification_rate"] <= 100
    assert not (with_ / "eval").exists()
    assert "evaluated after step 1: P" in (tmp_path / "printed.txt").read_text()


def test_the_best_is_kept_loaded_and_patience_ends_the_run(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    scripted(monkeypatch, [30.0, 50.0, 40.0, 45.0, 20.0, 10.0])
    keys = (*EVAL, "max_steps=9", "save_steps=1", "save_total_limit=1", "prompts_per_step=2")
    ends = ("early_stopping_patience=2", "load_best_model_at_end=true")
    run_module.train(recipe(folder, *keys, *ends), quiet(tmp_path))
    assert [row["eval/P"] for row in read_metrics(folder)] == [30.0, 50.0, 40.0, 45.0]
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert_equal_adapters(folder, folder / "checkpoint-2")
    said = (tmp_path / "printed.txt").read_text()
    assert "Stopped after step 4 of 9: 2 evaluations without a new best P" in said
    assert json.loads((folder / "finished").read_text()) == {"steps": 9, "stopped_early": 4}
    run_module.train(recipe(folder, *keys, *ends), quiet(tmp_path))
    assert "This run is done" in (tmp_path / "printed.txt").read_text()
    (folder / "finished").unlink()  # killed before it was marked: no more steps either
    run_module.train(recipe(folder, *keys, *ends), quiet(tmp_path))
    assert len(read_metrics(folder)) == 4
    assert_equal_adapters(folder, folder / "checkpoint-2")
    run_module.train(recipe(folder, *keys, *ends, "max_steps=11"), quiet(tmp_path), extend=True)
    assert len(read_metrics(folder)) == 6  # more were asked for: patience begins anew


def test_the_best_so_far_survives_a_resume(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    keys = (*EVAL, "save_steps=1", "save_total_limit=1", "prompts_per_step=2")
    scripted(monkeypatch, [50.0, 40.0, 30.0])
    run_module.train(recipe(folder, *keys, "max_steps=2"), quiet(tmp_path))
    run_module.train(recipe(folder, *keys, "max_steps=3"), quiet(tmp_path), extend=True)
    assert (folder / "checkpoint-1").is_dir()
    standing = load_checkpoint(folder / "checkpoint-3").state["standing"]
    assert (standing["step"], standing["stale"]) == (1, 2)


@pytest.mark.parametrize(
    "key",
    [
        "mask_truncated_completions=true",
        "mask_truncated_completions=false",
        "beta=0.1",
        "num_mini_batches=2",
        "drop_zero_variance=false",
        "per_device_train_batch_size=3",
        "top_entropy_quantile=0.5",
        "demonstrations=rl_plus",
        "demonstrations=hpt",
        "dynamic_sampling=true",
    ],
)
def test_the_dry_run_measures_every_token_of_full_length_rows(tmp_path, monkeypatch, key):
    counted, real = [], Updater._backward

    def watched(self, learned, micro, kept, *rest):
        counted.append(int(kept.sum()))
        return real(self, learned, micro, kept, *rest)

    monkeypatch.setattr(Updater, "_backward", watched)
    chosen = recipe(tmp_path / "run", "max_steps=1", "prompts_per_step=2", "rehearse=true", key)
    monkeypatch.setattr(Updater, "undo", lambda self, **_: lambda: None)
    trainer = prepare_session(chosen, quiet(tmp_path), 1).trainer
    dry_run.dry_run(trainer)
    # A demonstration joins its group: one row more, as long as the longest.
    rows = 2 * (chosen.num_generations + (chosen.demonstrations == "rl_plus"))
    assert sum(counted) == rows * chosen.max_completion_length


def test_the_dry_run_changes_nothing_and_tells_what_fits(tmp_path, monkeypatch):
    plain, rehearsed = tmp_path / "plain", tmp_path / "rehearsed"
    keys = ("max_steps=2", "lora_dropout=0.1", "prompts_per_step=2")
    run_module.train(recipe(plain, *keys), quiet(tmp_path))
    lengths, real = [], Updater._updates

    def watched(self, batch, *rest):
        lengths.append((len(batch), int(batch.attention_mask.sum(-1).min())))
        if len(lengths) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, batch, *rest)

    run_module.train(recipe(rehearsed, *keys, "rehearse=true"), quiet(tmp_path))
    assert_equal_adapters(plain, rehearsed)
    said = (tmp_path / "printed.txt").read_text()
    assert "worst step (every row " in said
    assert "for 2 steps" in said
    for part in ("weights", "LoRA and its gradient", "optimizer", "sampling", "update"):
        assert f"{part} " in said
    monkeypatch.setattr(Updater, "_updates", watched)
    run_module.train(recipe(tmp_path / "third", *keys, "rehearse=true"), quiet(tmp_path))
    said = (tmp_path / "printed.txt").read_text()
    assert "8 responses at once do not fit in the update, 4 do" in said
    assert "add per_device_train_batch_size=4" in said
    assert lengths[0][0] == 8
    assert lengths[0][1] > max(length for _, length in lengths[2:])  # none as long later
    assert not dry_run.wanted(None, torch.device("cpu"))
    assert dry_run.wanted(None, torch.device("cuda"))


def test_minutes_make_checkpoints_too(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(checkpoint_manager, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    real = Trainer.step

    def slow(self):
        clock[0] += 100.0
        return real(self)

    monkeypatch.setattr(Trainer, "step", slow)
    folder = tmp_path / "run"
    keys = ("max_steps=5", "save_steps=50", "save_minutes=3", "save_total_limit=null")
    run_module.train(recipe(folder, *keys, "prompts_per_step=2"), quiet(tmp_path))
    steps = sorted(int(p.name[11:]) for p in folder.glob("checkpoint-*"))
    assert steps == [2, 4, 5]


def test_a_vanished_run_comes_back_from_its_mirror(tmp_path):
    folder, drive, whole = tmp_path / "run", tmp_path / "drive", tmp_path / "whole"
    # The rate must not depend on max_steps, which the second start raises.
    own = ("save_steps=1", "prompts_per_step=2", "lr_scheduler_type=constant", "warmup_steps=0")
    keys = (*own, f"mirror_dir={drive}")
    run_module.train(recipe(whole, "max_steps=3", *own), quiet(tmp_path))
    run_module.train(recipe(folder, "max_steps=2", *keys), quiet(tmp_path))
    assert latest_checkpoint(drive / "run").path.name == "checkpoint-2"
    assert (drive / "run" / "adapter_model.safetensors").is_file()
    shutil.rmtree(folder)
    run_module.train(recipe(folder, "max_steps=3", *keys), quiet(tmp_path), extend=True)
    said = (tmp_path / "printed.txt").read_text()
    assert "Brought back from" in said
    assert "Resumed after step 2 of 3" in said
    assert_equal_adapters(folder, whole)
    assert [row["step"] for row in read_metrics(folder)] == [1, 2, 3]
    assert latest_checkpoint(drive / "run").path.name == "checkpoint-3"
    assert json.loads((drive / "run" / "finished").read_text())["steps"] == 3
    shutil.rmtree(folder)
    run_module.train(recipe(folder, "max_steps=3", *keys), quiet(tmp_path))
    assert (tmp_path / "printed.txt").read_text().count("This run is done") == 1
    assert adapter(folder).keys() == adapter(whole).keys()


def test_a_mirror_that_fails_is_said_and_stops_nothing(tmp_path):
    (tmp_path / "drive").write_text("no folder")
    folder = tmp_path / "run"
    keys = ("max_steps=1", "prompts_per_step=2", f"mirror_dir={tmp_path / 'drive'}")
    run_module.train(recipe(folder, *keys), quiet(tmp_path))
    assert (folder / "finished").is_file()
    said = (tmp_path / "printed.txt").read_text()
    assert "warning: the mirror is not up to date: cannot copy the run to" in said
    with pytest.raises(RecipeError, match="outside output_dir"):
        checkpoint_manager.mirror_of(recipe(folder, f"mirror_dir={folder}"))


def test_a_directory_that_vanishes_ends_the_run_in_one_line(tmp_path, monkeypatch):
    folder, real = tmp_path / "run", Trainer.step

    def unmounted(self):
        report = real(self)
        if report.step == 2:
            shutil.rmtree(folder)
        return report

    monkeypatch.setattr(Trainer, "step", unmounted)
    with pytest.raises(RunDirectoryError, match="the directory has vanished") as raised:
        run_module.train(recipe(folder, "max_steps=3", "prompts_per_step=2"), quiet(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_full_disk_names_the_last_good_checkpoint_and_the_same_command_goes_on(
    tmp_path, monkeypatch
):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    keys = ("max_steps=2", "save_steps=1", "prompts_per_step=2")
    run_module.train(recipe(whole, *keys), quiet(tmp_path))
    real = checkpoint_manager.save_checkpoint

    def full(run_dir, step, **content):
        if step == 2:
            content["extra_writer"] = _no_space
        return real(run_dir, step, **content)

    monkeypatch.setattr(checkpoint_manager, "save_checkpoint", full)
    with pytest.raises(RunDirectoryError, match=r"No space left .*free some.*checkpoint-1"):
        run_module.train(recipe(folder, *keys), quiet(tmp_path))
    monkeypatch.undo()
    run_module.train(recipe(folder, *keys), quiet(tmp_path))
    assert_equal_adapters(whole, folder)


def _no_space(folder):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("seconds", [0.9, 1.6])
def test_a_kill_at_some_instant_changes_no_result(tmp_path, seconds):
    """Two of the instants that `tests/reliability/kill9.py` draws at random."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert "max_steps=3" in SMALL
    assert forked(lambda: train(whole)) == 0
    assert forked(lambda: train(killed), kill_after=seconds) in (0, -9)
    assert forked(lambda: train(killed)) == 0
    assert same_adapter(whole, killed)


def test_figures_are_those_of_the_summary():
    summary = {
        "settings": {
            "full": {
                "P": {"value": 60.0},
                "U": {"value": 9.0},
                "lucky": {"value": 1.0},
                "turns": 1,
            },
            "sharded": {
                "P": {"value": 20.0},
                "U": {"value": 30.0},
                "lucky": {"value": 2.0},
                "turns": 3,
            },
        },
        "rates": {"over_asking_rate": {"value": 5.0}},
    }
    found = periodic.figures(summary)
    assert found["P"] == 40.0
    assert found["sharded/turns"] == 3.0
    assert found["over_asking_rate"] == 5.0
    assert set(found) <= set(figure_names(["full", "sharded"]))
