"""The comparison run: it ends with its parent, is looked at, waits for its lock."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icpo_lite.core import parent
from icpo_lite.core.console import Display
from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.recipe import compared_recipes, load_recipe
from icpo_lite.runs import comparison_runs
from icpo_lite.runs.comparison_runs import ComparisonRuns
from icpo_lite.runs.run_directory import RunDirectory, owner_of

SMALL = (
    *("prompts_per_step=2", "num_generations=2", "evaluation.enabled=false", "device=cpu"),
    *("max_completion_length=4", "log_completions_steps=0", "save_steps=1", "rehearse=false"),
)
#: What takes the place of `icpo-lite train`: says that it runs, and ends when it is asked to.
SLEEPS = """
import os, signal, sys, time
from icpo_lite.core.parent import end_with_parent
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), os._exit(130)))
{before}
end_with_parent()
print("begun", os.environ.get("ICPO_LITE_PARENT"), flush=True)
time.sleep(60)
"""
#: Starts one and tells its pid, then waits to be killed.
STARTS = """
import subprocess, sys, time
from icpo_lite.core.parent import start_bound
out = open({log!r}, "ab")
child = start_bound([sys.executable, "-c", {code!r}], stdout=out, stderr=out)
print(child.pid, flush=True)
time.sleep(60)
"""


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("portable", [False, True], ids=["kernel", "pipe"])
def test_a_bound_program_saves_and_ends_when_its_parent_is_killed(portable, tmp_path):
    log = tmp_path / "log"
    before = "import icpo_lite.core.parent as p; p._kernel_tells = lambda: False" * portable
    code = STARTS.format(log=str(log), code=SLEEPS.format(before=before))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as started:
        child = int(started.stdout.readline())
        until(lambda: "begun" in log.read_text())
        assert "begun None" in log.read_text()  # its own children are not bound to that parent
        started.kill()
    until(lambda: not alive(child))
    assert log.read_text().endswith("saved\n")


def test_a_parent_that_is_gone_before_it_is_looked_for(monkeypatch):
    sent = []
    monkeypatch.setenv(parent.VARIABLE, "1" * 9)  # no process has this number
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(parent, "_kernel_tells", lambda: True)
    before = os.dup(0)
    try:
        parent.end_with_parent()
    finally:
        os.dup2(before, 0)
        os.close(before)
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_any_other_program_is_left_alone(monkeypatch):
    monkeypatch.delenv(parent.VARIABLE, raising=False)
    monkeypatch.setattr(os, "dup", lambda number: pytest.fail("its input was touched"))
    parent.end_with_parent()


@pytest.fixture
def runs(tmp_path):
    """Comparison runs of a recipe, which tell what they say in `said`."""
    recipe = load_recipe("tiny", [f"output_dir={tmp_path / 'run'}", *SMALL, "max_steps=2"])
    file = (tmp_path / "said").open("a")
    made = ComparisonRuns(compared_recipes(recipe), Display(total=2, live=False, file=file))
    yield made
    made.stop()
    file.close()


def replaced_by(monkeypatch, code):
    """Python code in place of `icpo-lite train`; the folder is its argument."""

    def start(command, env=None, **options):
        return parent.start_bound([sys.executable, "-c", code], env=env, **options)

    monkeypatch.setattr(comparison_runs, "start_bound", start)


@pytest.mark.parametrize("free", [0.9, 1.1])
def test_side_by_side_only_where_memory_holds_both(free, runs, tmp_path, monkeypatch):
    """Two runs of 2 GB each: with 1.8 GB free one waits for the other's end."""
    replaced_by(monkeypatch, "pass")
    monkeypatch.setattr(comparison_runs, "peak_bytes", lambda: 2 * 10**9)
    monkeypatch.setattr(comparison_runs, "free_bytes", lambda device: int(free * 2 * 10**9))
    assert runs.start_beside(1) is (free > 1)
    assert runs.asked
    assert runs.started("rlvr") is (free > 1)
    said = (tmp_path / "said").read_text()
    assert ("rlvr is trained after this run" in said) is (free < 1)
    assert ("another 2.0 GB" in said) is (free < 1)


def test_the_lock_of_an_orphan_is_named_and_waited_for(runs, tmp_path, monkeypatch):
    place = tmp_path / "run-rlvr"
    replaced_by(monkeypatch, "pass")
    monkeypatch.setattr(comparison_runs, "LOOK_S", 0.05)
    assert owner_of(place) is None
    with RunDirectory(place):
        assert owner_of(place) == str(os.getpid())
        runs.start("rlvr", 1)
        runs.look()
        assert f"trained by process {os.getpid()} already" in (tmp_path / "said").read_text()
        assert not runs._processes
    assert owner_of(place) is None
    runs.wait("rlvr")
    assert runs._processes["rlvr"].returncode == 0


def test_one_that_fails_is_told_at_the_next_step_and_started_again(runs, tmp_path, monkeypatch):
    """The second start finds what the first has left and ends well."""
    mark = tmp_path / "mark"
    replaced_by(
        monkeypatch,
        f"import pathlib as p, sys; m = p.Path({str(mark)!r}); again = m.exists(); m.touch(); "
        "sys.exit(0 if again else 1)",
    )
    runs.start("rlvr", 1)
    until(lambda: runs._processes["rlvr"].poll() is not None)
    runs.look()
    runs.look()
    said = (tmp_path / "said").read_text()
    assert said.count("warning: the run rlvr that this one is compared with ended with exit") == 1
    assert f"{tmp_path / 'run-rlvr'}.log" in said
    runs.wait("rlvr")


@pytest.mark.parametrize(("ends", "starts"), [("sys.exit(2)", 1), ("os.kill(os.getpid(), 9)", 2)])
def test_one_that_fails_for_good_ends_the_run_with_its_log(
    runs, tmp_path, monkeypatch, ends, starts
):
    replaced_by(monkeypatch, f"import os, sys; print('one'); sys.stdout.flush(); {ends}")
    runs.start("rlvr", 1)
    with pytest.raises(RunDirectoryError, match=r"ended (with exit code 2|by SIGKILL); see .*log"):
        runs.wait("rlvr")
    assert Path(f"{tmp_path / 'run-rlvr'}.log").read_text().count("one") == starts


def test_one_that_does_not_stop_is_ended(runs, monkeypatch):
    monkeypatch.setattr(comparison_runs, "SAVE_S", 0.3)
    monkeypatch.setattr(comparison_runs, "END_S", 0.3)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    replaced_by(monkeypatch, deaf)
    runs.start("rlvr", 1)
    time.sleep(1.0)
    runs.stop()
    assert runs._processes["rlvr"].returncode == -signal.SIGKILL


def test_a_killed_run_leaves_no_process_and_the_next_call_succeeds(tmp_path):
    """The command itself, with its own comparison run, killed while both train."""
    folder = tmp_path / "run"
    keys = [f"output_dir={folder}", *SMALL, "max_steps=12"]
    command = [sys.executable, "-m", "icpo_lite", "train", "tiny"]
    said = (tmp_path / "said").open("ab")
    run = subprocess.Popen([*command, *keys], stdout=said, stderr=said)
    rival = tmp_path / "run-rlvr"
    until(lambda: any(rival.glob("checkpoint-*")) and any(folder.glob("checkpoint-*")), 120)
    child = int(owner_of(rival))
    run.kill()
    run.wait()
    until(lambda: not alive(child))
    until(lambda: owner_of(rival) is None)  # its threads end after it, and with them its lock
    said = Path(f"{rival}.log").read_text()
    assert re.search(rf"interrupted after step \d+ of 12, saved in {rival};", said), said
    keys[-1] = "max_steps=13"
    done = subprocess.run([*command, *keys], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (folder / "finished").is_file()
    assert (rival / "finished").is_file()
