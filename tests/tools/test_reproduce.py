"""The table of `reproduce`: figures by hand, what is done is skipped, a small one for real."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from icpo_lite.cli import run as run_cli
from icpo_lite.cli.reproduce import _seeds
from icpo_lite.core.errors import IcpoError, RecipeError
from icpo_lite.tools.reproduce import (
    PartInterruptedError,
    Plan,
    Results,
    _run,
    cell,
    gains,
    paper_table,
    reproduce,
    table,
)

SHARDED = ("settings", "sharded", "P")


def figure(value, half=5.0):
    return {"value": value, "low": value - half, "high": value + half}


def summary(sharded, full, problems=("p1", "p2")):
    """Two problems, one 10 points above and one 10 below the mean."""

    def setting(value):
        scores = {p: value + d for p, d in zip(problems, (10.0, -10.0), strict=True)}
        return {"P": figure(value), "A90": figure(value), "U": figure(20.0), "scores": scores}

    return {"settings": {"full": setting(full), "sharded": setting(sharded)}, "rates": {}}


BASE = summary(20.0, 80.0)


def results():
    """ICPO's SHARDED 60 and 70, RLVR's 15 and 25, the base's 20."""
    by_seed = {
        0: {"base": BASE, "rlvr": summary(15.0, 92.0), "icpo": summary(60.0, 90.0)},
        1: {"base": BASE, "rlvr": summary(25.0, 94.0), "icpo": summary(70.0, 91.0)},
    }
    return Results((0, 1), ("base", "rlvr", "icpo"), {"test": by_seed})


def test_cells_by_hand():
    """(60 + 70) / 2 = 65; standard deviation sqrt(((60-65)^2 + (70-65)^2) / 1) = 7.07; intervals
    [55, 65] and [65, 75] average to [60, 70]."""
    got = cell(results(), "test", "icpo", SHARDED)
    assert got is not None
    assert (got.value, got.low, got.high) == (65.0, 60.0, 70.0)
    assert got.spread == pytest.approx(7.0711, abs=1e-4)
    assert got.by_seed == (60.0, 70.0)
    assert str(got) == "65.0 ± 7.1 [60, 70]"
    base = cell(results(), "test", "base", SHARDED)
    assert str(base) == "20.0 [15, 25]", "one model has no spread over seeds"
    assert cell(results(), "test", "base", ("settings", "concat", "P")) is None


def test_tables():
    lines = table(results(), "test").splitlines()
    assert lines[0] == "| test | base | RLVR | ICPO | ICPO by seed |"
    (row,) = [line for line in lines if line.startswith("| SHARDED P ")]
    assert row == (
        "| SHARDED P | 20.0 [15, 25] | 20.0 ± 7.1 [15, 25] | 65.0 ± 7.1 [60, 70] | 60.0, 70.0 |"
    )
    assert not [line for line in lines if "CONCAT" in line], "what was not measured has no row"
    lines = paper_table(results(), "test").splitlines()
    assert lines[0] == "| test | single-turn | multi-turn | multi-turn A90 | multi-turn U |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| base", "| RLVR", "| ICPO"]
    assert lines[4].startswith("| ICPO | 90.5 ± 0.7 [86, 96] | 65.0 ± 7.1 [60, 70] | ")


def test_what_lies_between_0_and_1_is_not_rounded_like_points():
    auroc = {"auroc": {"value": 0.914, "low": 0.871, "high": 0.957}}
    by_seed = {s: {m: {**BASE, "calibration": auroc} for m in ("base", "icpo")} for s in (0, 1)}
    lines = table(Results((0, 1), ("base", "icpo"), {"test": by_seed}), "test").splitlines()
    assert lines[-1] == (
        "| AUROC of q* against q | 0.91 [0.87, 0.96] | 0.91 ± 0.00 [0.87, 0.96] | 0.91, 0.91 |"
    )


def test_gains_are_paired_over_problems_with_seeds_averaged():
    """Both problems: ICPO (70 + 80) / 2 - RLVR (25 + 35) / 2 = 45, the same on the other."""
    assert "SHARDED ICPO - RLVR: +45.0 [+45.0, +45.0], 2 problems won, 0 lost" in gains(
        results(), "test"
    )
    assert len(gains(results(), "test")) == 4


class Program:
    """Stands for the command line: writes what `train` and `eval` leave behind."""

    def __init__(self, codes=()):
        self.commands, self.codes = [], list(codes)

    def __call__(self, arguments):
        name, *rest = arguments[3:]
        self.commands.append((name, rest))
        if self.codes and (code := self.codes.pop(0)):
            return code
        if name == "train":
            options = dict(part.partition("=")[::2] for part in rest if "=" in part)
            folder = Path(options["output_dir"])
            for place in (folder / "eval", folder / "eval-base", Path(f"{folder}-rlvr") / "eval"):
                place.mkdir(parents=True, exist_ok=True)
                (place / "eval.json").write_text(json.dumps(summary(50.0, 80.0)))
        else:
            place = Path(rest[rest.index("-o") + 1])
            place.mkdir(parents=True, exist_ok=True)
            found = {Path(rest[0]).name: BASE, "base": BASE, "rlvr": BASE}
            (place / "comparison.json").write_text(json.dumps(found))
        return 0


def plan(tmp_path, **changes):
    options = {"recipe": "tiny", "out": tmp_path / "out", "seeds": (0, 1), "problems": 2, "runs": 1}
    return Plan(**{**options, **changes})


def test_every_seed_is_trained_beside_its_twin_on_the_same_terms(tmp_path):
    program = Program()
    chosen = plan(tmp_path, also=("transfer",), overrides=("max_steps=3",))
    got = reproduce(chosen, print, program)
    assert [name for name, _ in program.commands] == ["train", "eval", "train", "eval"]
    trains = [rest for name, rest in program.commands if name == "train"]
    for seed, rest in enumerate(trains):
        assert {f"seed={seed}", "max_steps=3", "evaluation.problems=2"} <= {*rest}
        assert f"output_dir={tmp_path / 'out' / f'seed-{seed}'}" in rest
    same = [[p for p in rest if not p.startswith(("seed=", "output_dir="))] for rest in trains]
    assert same[0] == same[1]
    assert list(got.parts) == ["test", "transfer"]
    assert got.parts["transfer"][0]["icpo"] == BASE
    text = (tmp_path / "out" / "results.md").read_text()
    assert table(got, "test") in text
    assert table(got, "transfer") in text
    facts = json.loads((tmp_path / "out" / "results.json").read_text())
    assert facts["parts"]["test"]["table"]["SHARDED P"]["icpo"]["by_seed"] == [50.0, 50.0]
    assert facts["seeds"] == [0, 1]


def test_a_recipe_without_rivals_gets_the_twin(tmp_path):
    program = Program()
    reproduce(plan(tmp_path, recipe="qwen1.5b", seeds=(5,)), print, program)
    ((_, rest),) = program.commands
    assert 'compare={"rlvr": "twin"}' in rest


def test_the_same_command_goes_on_and_redoes_only_what_changed(tmp_path):
    chosen = plan(tmp_path, also=("transfer",))
    broken = Program(codes=[0, 0, 130])
    with pytest.raises(PartInterruptedError, match="the same command goes on") as stopped:
        reproduce(chosen, print, broken)
    assert stopped.value.exit_code == 130
    assert len(broken.commands) == 3
    again = Program()
    reproduce(chosen, print, again)  # `train` itself knows that seed 0 is done
    assert [name for name, _ in again.commands] == ["train", "train", "eval"]
    other = Program()
    reproduce(plan(tmp_path, also=("transfer",), problems=3), print, other)
    assert [name for name, _ in other.commands] == ["train", "eval", "train", "eval"]


@pytest.fixture
def ctrl_c_counts():
    """Python leaves SIGINT ignored where it was started so, as by a shell in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_lets_a_part_save_its_work(tmp_path, ctrl_c_counts):
    """The part is told, and waited for however long that takes."""
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    body = f"""
import pathlib, signal, sys, time
def save(*_):
    time.sleep(1)
    pathlib.Path({str(saved)!r}).touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path({str(ready)!r}).touch()
time.sleep(60)
"""

    def press():
        while not ready.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    assert _run([sys.executable, "-c", body]) == 130
    assert saved.exists()


def test_a_part_that_fails_names_its_command(tmp_path):
    with pytest.raises(IcpoError, match=r"`icpo-lite train tiny .* ended with exit code 1") as got:
        reproduce(plan(tmp_path), print, Program(codes=[1]))
    assert got.value.exit_code == 1
    assert not (tmp_path / "out" / "results.json").exists()


def test_mistakes_are_found_before_anything_is_trained(tmp_path, capsys):
    program = Program()
    with pytest.raises(RecipeError):
        reproduce(plan(tmp_path, overrides=("max_stepz=3",)), print, program)
    assert not program.commands
    assert run_cli(["reproduce", "tiny", "--seeds", "0,0"]) == 2
    assert "--seeds: expected different numbers" in capsys.readouterr().err
    assert _seeds(" 3, 4 ") == (3, 4)


def test_a_small_one_for_real(tmp_path):
    """One seed of one step, both runs and their evaluation; a second time nothing is trained."""
    changes = ("max_steps=1", "prompts_per_step=2", "num_generations=2", "device=cpu")
    changes += ("max_completion_length=16", "evaluation.settings=[full, sharded]")
    chosen = plan(tmp_path, seeds=(0,), overrides=changes)

    def in_this_process(arguments):
        return run_cli(arguments[3:])

    got = reproduce(chosen, print, in_this_process)
    assert list(got.parts["test"][0]) == ["base", "rlvr", "icpo"]
    assert "| ICPO | " in (chosen.out / "results.md").read_text()
    rows = (chosen.out / "seed-0-rlvr" / "metrics.jsonl").read_text()
    assert len(rows.splitlines()) == 1
    before = {f: f.stat().st_mtime_ns for f in chosen.out.rglob("eval.json")}
    assert len(before) == 4  # ICPO and RLVR, each with its base
    again = reproduce(chosen, print, in_this_process)
    assert again.parts == got.parts
    assert {f: f.stat().st_mtime_ns for f in before} == before
