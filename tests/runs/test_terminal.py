"""The terminal goes away, fills up, or knows no more than ASCII: nothing is lost, no traceback."""

import io
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from reliability.small_run import SMALL, few_problems, forked, newest_loads, same_adapter

from icpo_lite import cli
from icpo_lite.core.console import Display
from icpo_lite.core.streams import SteadyStream, steady_output
from icpo_lite.core.types import StepReport
from icpo_lite.runs.checkpoint import latest_checkpoint
from icpo_lite.training.trainer import Trainer

STEPS = ("max_steps=3", "rehearse=false", "max_completion_length=4", "save_steps=2")
METRICS = {"step_seconds": 0.1, "reward": 0.5, "accuracy": 0.25}
ICPO = [sys.executable, "-m", "icpo_lite"]


def train_in(folder, out, at_step_2=lambda: None, before=lambda: None):
    """The command line as a child process with `out` as its output, and with a word in step 2."""

    def work():
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.cpu_count = lambda: 1  # torch's threads do not survive a fork
        before()
        real = Trainer.step

        def step(self):
            if self.done_steps == 1:
                at_step_2()
            return real(self)

        Trainer.step = step
        with few_problems():
            code = cli.run(["train", "tiny", f"output_dir={folder}", *SMALL, *STEPS])
        os._exit(code)

    return forked(work)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with (folder.parent / "said").open("wb") as said:
        assert train_in(folder, said.fileno()) == 0
    assert not (folder / "console.log").exists()
    return folder


def test_a_reader_that_ends_ends_no_run(whole, tmp_path):
    """`icpo-lite train … | head -1`, or a `tee` that died."""
    with subprocess.Popen(["head", "-n", "1"], stdin=subprocess.PIPE) as head:
        assert train_in(tmp_path / "run", head.stdin.fileno(), head.wait) == 0
    assert same_adapter(whole, tmp_path / "run")
    log = (tmp_path / "run/console.log").read_text()
    assert "the output is gone (its reader has ended)" in log
    assert "step 3/3" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_closed_terminal_saves_and_says_so(number, whole, tmp_path):
    leader, follower = pty.openpty()
    holder = subprocess.Popen(["sleep", "60"], pass_fds=[leader])
    os.close(leader)

    def hangs_up():
        os.kill(holder.pid, signal.SIGKILL)
        time.sleep(0.3)
        os.kill(os.getpid(), number)
        if number == signal.SIGHUP:  # the kernel and the shell both send it
            time.sleep(0.05)
            os.kill(os.getpid(), number)

    folder = tmp_path / "run"
    assert train_in(folder, follower, hangs_up) == 130
    os.close(follower)
    holder.wait()
    assert latest_checkpoint(folder).path.name == "checkpoint-2"
    assert newest_loads(folder)
    log = (folder / "console.log").read_text()
    assert f"the same command goes on from there ({signal.Signals(number).name})" in log
    assert log.count("interrupted after step 2 of 3, saved in") == 1
    with (tmp_path / "said").open("wb") as said:
        assert train_in(folder, said.fileno()) == 0
    assert same_adapter(whole, folder)


def test_under_nohup_it_goes_on(whole, tmp_path):
    with (tmp_path / "said").open("wb") as said:
        code = train_in(
            tmp_path / "run",
            said.fileno(),
            lambda: os.kill(os.getpid(), signal.SIGHUP),
            lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )
    assert code == 0
    assert same_adapter(whole, tmp_path / "run")


def test_a_full_disk_under_the_output_ends_no_run(whole, tmp_path):
    full = os.open("/dev/full", os.O_WRONLY)
    assert train_in(tmp_path / "run", full) == 0
    os.close(full)
    assert same_adapter(whole, tmp_path / "run")
    assert "no space left for it" in (tmp_path / "run/console.log").read_text()


class Broken(io.StringIO):
    """Fails from its `at`-th write on."""

    def __init__(self, error, at):
        super().__init__()
        self.error, self.at, self.writes = error, at, 0

    def write(self, text):
        self.writes += 1
        if self.writes >= self.at:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("error", [BrokenPipeError(32, "x"), OSError(5, "x"), ValueError("closed")])
def test_no_call_of_a_display_fails_and_the_rest_stands_in_the_log(live, error, tmp_path):
    for at in range(1, 6):
        log = tmp_path / f"{at}.log"
        display = Display(total=3, live=live, file=Broken(error, at))
        display.goes_on_in(log)
        display.header({"a": "b", "c": ["d", "e"]})
        for step in (1, 2, 3):
            display.step(StepReport(step, METRICS, ()))
            display.message(f"word {step}")
        display.table(["name", "value"], [["x", "1"]])
        display.close()
        told = log.read_text()
        assert "word 3" in told
        assert "\x1b" not in told


def test_what_cannot_be_shown_is_one_line(tmp_path):
    file = io.StringIO()
    display = Display(total=3, live=False, file=file)
    display.step(StepReport(1, {}, ()))  # no step_seconds
    display.table(["one"], [["two", "three"]])
    display.message("and on")
    assert "note: this cannot be shown: KeyError: 'step_seconds'\n" in file.getvalue()
    assert file.getvalue().endswith("and on\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_other_encodings_get_signs_that_look_alike(encoding):
    raw = io.BytesIO()
    stream = SteadyStream(io.TextIOWrapper(raw, encoding=encoding))
    stream.write("━ Añna … → q* “x” 数 ≤ 3\n")
    stream.flush()
    assert stream.lost == ""
    said = raw.getvalue().decode(encoding)
    assert "q*" in said
    assert "->" in said
    if encoding == "ascii":
        assert said == '= Anna ... -> q* "x" ? <= 3\n'


@pytest.mark.parametrize(
    "surroundings",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LANG": "C", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"NO_COLOR": "1", "TERM": "dumb"},
    ],
)
def test_text_and_no_traceback(surroundings, tmp_path):
    """Commands that show signs beyond ASCII, as programs of their own."""
    rows = '{"assistant": "Ça coûte 3 €…", "task": "math"}\n'
    (tmp_path / "r.jsonl").write_text(rows, encoding="utf-8")
    for arguments in (
        ["preview", "tiny", "-n", "1"],
        ["augment", "builtin:world", "--limit", "5", "-o", "o.jsonl", "--preview", "1"],
        ["classify", "r.jsonl"],
        ["eval", "no-such-…/é/run"],
    ):
        done = subprocess.run(
            [*ICPO, *arguments],
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, **surroundings},
            timeout=120,
        )
        both = done.stdout + done.stderr
        assert b"Traceback" not in both, both.decode()
        assert done.returncode == (2 if arguments[0] == "eval" else 0), both.decode()
        assert both.strip()
        if "NO_COLOR" in surroundings:
            assert b"\x1b[3" not in both
        else:
            both.decode("ascii")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", "| head -c 1"])
def test_a_closed_output_is_no_reason_to_fail(closed, tmp_path):
    arguments = "augment builtin:world --limit 40 -o o.jsonl --preview 40"
    script = f"set -o pipefail; '{sys.executable}' -m icpo_lite {arguments} {closed}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, cwd=tmp_path, timeout=120)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.jsonl").read_text().startswith("{")


def test_streams_are_put_back():
    before = sys.stdout, sys.stderr
    with steady_output():
        assert isinstance(sys.stdout, SteadyStream)
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_any_command_that_is_ended_says_so_in_one_line(number, tmp_path):
    """Whatever it is doing: a large corpus is being augmented."""
    command = [*ICPO, "augment", "builtin:world", "--limit", "100000", "-o", "o.jsonl"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    time.sleep(1.5)
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert errors.decode().strip() == "Interrupted."
    assert not (tmp_path / "o.jsonl").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("live", [False, True])
def test_each_step_tells_the_time_that_is_left(live, monkeypatch):
    """By the steps of this start alone: the first two were made by an earlier one."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    file, left = io.StringIO(), []
    display = Display(total=5, live=False, file=file)
    if live:
        monkeypatch.setattr(display, "live", True)
        monkeypatch.setattr(display, "_draw", lambda step, figures, told: left.append(told))
    for step in (3, 4, 5):
        clock[0] += 60.0
        display.step(StepReport(step, {"step_seconds": 60.0}, ()))
    told = left or [line.rpartition("left ")[2] for line in file.getvalue().splitlines()]
    assert told == ["2:00", "1:00", "0:00"]
