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
from icpo_lite.core.errors import IcpoError, RecipeError, UsageError
from icpo_lite.tools.arena.arena_results import (
    Cost,
    Results,
    arena_table,
    cell,
    gains,
    paper_table,
    table,
)
from icpo_lite.tools.arena.arms import ALL, ARMS, named_arms, trained_as
from icpo_lite.tools.arena.units import PartInterruptedError, Unit, play, run_alone
from icpo_lite.tools.reproduce import Plan, reproduce

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
    costs = {"rlvr": [Cost(1000.0, 900.0, 10.0, 0.5, 4)] * 2}
    costs["icpo"] = [Cost(1000.0, 800.0, 20.0, 0.6, 3), Cost(1200.0, 800.0, 30.0, 0.7, 3)]
    return Results((0, 1), ("base", "rlvr", "icpo"), {"test": by_seed}, costs)


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
    lines = table(Results((0, 1), ("base", "icpo"), {"test": by_seed}, {}), "test").splitlines()
    assert lines[-1] == (
        "| AUROC of q* against q | 0.91 [0.87, 0.96] | 0.91 ± 0.00 [0.87, 0.96] | 0.91, 0.91 |"
    )


def test_gains_are_paired_over_problems_with_seeds_averaged():
    """Both problems: ICPO (70 + 80) / 2 - RLVR (25 + 35) / 2 = 45, the same on the other."""
    assert "SHARDED ICPO - RLVR: +45.0 [+45.0, +45.0], 2 problems won, 0 lost" in gains(
        results(), "test"
    )
    # RLVR and ICPO against the base, ICPO against RLVR, each in FULL and SHARDED.
    assert len(gains(results(), "test")) == 6


def test_the_arena_has_a_line_an_arm_with_what_it_took():
    """ICPO - base: (60 + 70) / 2 - 20 = 45; 1,100 tokens and 25 s a run on average, 0.7 GB."""
    lines = arena_table(results(), "test").splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["| test", lines[1], *LABELS]
    icpo = lines[4].strip("| ").split(" | ")
    assert icpo[6:8] == ["+45.0 [+45.0, +45.0]", "+10.5 [+10.5, +10.5]"]
    assert icpo[8:12] == ["1,100", "800", "25", "0.7"]
    assert lines[2].strip("| ").split(" | ")[6:12] == ["-"] * 6


LABELS = ["| base", "| RLVR", "| ICPO"]


def test_the_arms_and_their_recipes(tmp_path):
    assert named_arms("all") == ALL
    assert named_arms("maigo, base,all") == ALL
    assert named_arms("fic,mediator") == ("mediator", "fic")
    for text, said in (("base,magio", "did you mean maigo"), ("base", "one that is trained")):
        with pytest.raises(UsageError, match=said):
            named_arms(text)
    assert trained_as("tiny", ARMS["maigo"]).recipe == "tiny-maigo"
    assert trained_as("tiny", ARMS["fic"]) == trained_as("tiny", ARMS["fic"])
    assert trained_as("tiny", ARMS["fic"]).overrides == ("distill=fic",)
    assert trained_as("qwen0.5b", ARMS["maigo"]).recipe == "qwen0.5b"
    own = tmp_path / "mine.yaml"
    own.write_text("extends: tiny.yaml\n")
    assert trained_as(str(own), ARMS["rlaar"]).recipe == str(own)
    (tmp_path / "mine-rlaar.yaml").write_text("extends: tiny.yaml\n")
    assert trained_as(str(own), ARMS["rlaar"]).recipe == str(tmp_path / "mine-rlaar.yaml")


@pytest.mark.parametrize("recipe", ["qwen0.5b", "qwen7b"])
def test_every_arm_is_a_recipe_that_is_valid(recipe, tmp_path):
    """Shipped for the arm, as of qwen7b, or made of the recipe, whose solutions conversations have
    no use for."""
    chosen = Plan(recipe, tmp_path, arms=tuple(ARMS))
    made = {arm: chosen.loaded(arm, 3, budget=1000) for arm in chosen.trained}
    assert {(r.seed, r.max_sampled_tokens) for r in made.values()} == {(3, 1000)}
    assert made["fic"].distill == "fic"
    assert made["rlvr"].reward == {"name": "accuracy"}
    assert not made["maigo"].pays
    assert made["icpo-maigo"].pays


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
            folder.mkdir(parents=True, exist_ok=True)
            row = {"step": 1, "tokens/sampled": 500, "tokens/trained": 400, "step_seconds": 2}
            (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
            (folder / "finished").write_text("{}")
        else:
            place = Path(rest[rest.index("-o") + 1])
            place.mkdir(parents=True, exist_ok=True)
            level = rest[rest.index("--ask-threshold") + 1] if "--ask-threshold" in rest else "0"
            found = {Path(rest[0]).name: summary(50.0 + float(level), 80.0)}
            (place / "comparison.json").write_text(json.dumps(found))
        return 0

    @property
    def names(self):
        return [name for name, _ in self.commands]


def plan(tmp_path, **changes):
    options = {"recipe": "tiny", "out": tmp_path / "out", "seeds": (0, 1), "problems": 2, "runs": 1}
    return Plan(**{**options, "arms": ("base", "rlvr", "icpo"), **changes})


def test_every_arm_and_seed_is_trained_on_the_same_terms(tmp_path):
    """The first run says how many tokens the others sample; the base is judged once."""
    program = Program()
    chosen = plan(tmp_path, also=("transfer",), overrides=("learning_rate=0.001",))
    got = reproduce(chosen, print, program)
    trains = [rest for name, rest in program.commands if name == "train"]
    assert len(trains) == 4
    first, *others = trains
    assert not any(part.startswith("max_sampled_tokens") for part in first)
    for rest in others:
        assert {"max_sampled_tokens=500", "learning_rate=0.001", "compare={}"} <= {*rest}
    evals = [rest for name, rest in program.commands if name == "eval"]
    assert len(evals) == 2 * (4 + 1)
    options = {tuple(rest[3:-3]) for rest in evals if "--adapter-off" not in rest}
    assert len({o for o in options if "--problems" in o}) == 1, "judged in the same way"
    assert [rest[0] for rest in evals if "--adapter-off" in rest] == [
        str(tmp_path / "out" / "icpo" / "seed-0")
    ] * 2
    assert list(got.parts) == ["test", "transfer"]
    text = (tmp_path / "out" / "results.md").read_text()
    assert table(got, "test") in text
    assert arena_table(got, "transfer") in text
    facts = json.loads((tmp_path / "out" / "results.json").read_text())
    assert facts["parts"]["test"]["table"]["SHARDED P"]["icpo"]["by_seed"] == [50.0, 50.0]
    assert facts["budget"]["sampled_tokens"] == 500
    assert facts["costs"]["rlvr"][1]["seconds"] == 2
    page = (tmp_path / "out" / "results.html").read_text()
    assert "<script" not in page
    assert "RLVR" in page


def test_a_threshold_is_chosen_on_other_problems(tmp_path):
    program = Program()
    reproduce(plan(tmp_path, arms=("base", "threshold", "icpo"), seeds=(0,)), print, program)
    asked = [
        (rest[rest.index("--split") + 1], rest[rest.index("--ask-threshold") + 1])
        for _, rest in program.commands
        if "--ask-threshold" in rest
    ]
    assert asked == [*(("dev", t) for t in ("0.05", "0.1", "0.2", "0.4")), ("test", "0.4")]


def test_the_same_command_goes_on_and_redoes_only_what_changed(tmp_path):
    chosen = plan(tmp_path)
    broken = Program(codes=[0, 0, 130])
    with pytest.raises(PartInterruptedError, match="the same command goes on") as stopped:
        reproduce(chosen, print, broken)
    assert stopped.value.exit_code == 130
    assert broken.names == ["train", "eval", "train"]
    again = Program()
    reproduce(chosen, print, again)
    assert again.names == ["train", "eval"] * 3 + ["eval"]
    nothing = Program()
    reproduce(chosen, print, nothing)
    assert not nothing.commands
    other = Program()
    reproduce(plan(tmp_path, problems=3), print, other)
    assert other.names == ["eval"] * 5, "what was trained stays"
    more = Program()
    reproduce(plan(tmp_path, problems=3, arms=("base", "rlvr", "icpo", "fic")), print, more)
    assert more.names == ["train", "eval"] * 2
    assert "max_sampled_tokens=500" in more.commands[0][1]


def test_parts_side_by_side_are_whole_and_one_that_fails_is_named(tmp_path):
    def unit(name, code):
        place = tmp_path / name
        script = f"import pathlib, sys; p = pathlib.Path({str(place)!r}); p.mkdir(exist_ok=True); "
        script += f"(p / 'done').touch(); sys.exit({code})"
        return Unit(name, ("-c", script), place, "done")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("icpo_lite.tools.arena.units.COMMAND", (sys.executable,))
        good = [[unit("a", 0), unit("b", 0)], [unit("c", 0)]]
        play(good, jobs=2, run=None, say=print)
        assert all(u.is_done for chain in good for u in chain)
        with pytest.raises(IcpoError, match="exit code 3"):
            play([[unit("d", 3), unit("e", 0)]], jobs=2, run=None, say=print)
        assert not unit("d", 3).is_done
        assert not (tmp_path / "e").exists()


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
    assert run_alone([sys.executable, "-c", body]) == 130
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
    assert "--seeds: expected how many, or different numbers" in capsys.readouterr().err
    assert run_cli(["reproduce", "tiny", "--seeds", "0"]) == 2
    assert _seeds(" 3, 4 ") == (3, 4)
    assert _seeds("3") == (0, 1, 2)
    assert _seeds("7,") == (7,)


def test_a_small_one_for_real(tmp_path):
    """One seed of one step, and a cure of each kind; a second time nothing is done."""
    changes = ("max_steps=1", "prompts_per_step=2", "num_mini_batches=2", "num_generations=2")
    changes += ("device=cpu", "max_completion_length=16", "evaluation.settings=[full, sharded]")
    arms = ("base", "cleaned", "icpo", "maigo")
    chosen = plan(tmp_path, seeds=(0,), overrides=changes, arms=arms)

    def in_this_process(arguments):
        return run_cli(arguments[3:])

    got = reproduce(chosen, print, in_this_process)
    assert tuple(got.parts["test"][0]) == arms
    assert "| MAIGO | " in (chosen.out / "results.md").read_text()
    budget = json.loads((chosen.out / "budget.json").read_text())["sampled_tokens"]
    assert got.costs["icpo"][0].sampled == budget
    assert got.costs["maigo"][0].sampled >= budget
    judged = got.parts["test"][0]["cleaned"]["judged_with"]
    assert judged["serve_as"] == "cleaned"
    page = (chosen.out / "results.html").read_text()
    for said in ("base, history cleaned: ", "MAIGO: ", "Distance from the teacher", "<svg"):
        assert said in page
    nothing = Program()
    assert reproduce(chosen, print, nothing).parts == got.parts
    assert not nothing.commands
