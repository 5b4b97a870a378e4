"""Signals that reach `icpo-lite train` from outside: the step ends, the work is saved; or at once.

A run is a process of its own, forked after the libraries were imported.
"""

import os
import signal
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest
from reliability.small_run import SMALL, few_problems, forked, newest_loads, same_adapter

from icpo_lite import cli
from icpo_lite.runs.checkpoint import latest_checkpoint
from icpo_lite.training.trainer import Trainer

STEPS = ("max_steps=3", "rehearse=false", "max_completion_length=4")


def command_line(folder) -> None:
    """The command line in a child process, which it ends with its exit code."""
    code = -1
    os.cpu_count = lambda: 1  # torch's threads do not survive a fork
    try:
        with (
            folder.with_suffix(".err").open("a") as told,
            redirect_stderr(told),
            redirect_stdout(told),
            few_problems(),
        ):
            code = cli.run(["train", "tiny", f"output_dir={folder}", *SMALL, *STEPS])
    finally:  # whatever comes, a child never goes on as a second pytest
        os._exit(code & 255)


def in_step_2(folder, told: int, *, lasts: float) -> None:
    """The same; step 2 says that it has begun and takes `lasts` seconds more."""
    real = Trainer.step

    def slow(self):
        if self.done_steps == 1:
            os.write(told, b"2")
            time.sleep(lasts)
        return real(self)

    Trainer.step = slow
    command_line(folder)


def signalled(folder, number: int, *, again: bool) -> int:
    """Exit code of a run that gets a signal in step 2, and the same one again until it ends."""
    read, told = os.pipe()
    child = os.fork()
    if child == 0:
        in_step_2(folder, told, lasts=60.0 if again else 0.5)
    os.close(told)
    assert os.read(read, 1) == b"2", (folder.parent / f"{folder.name}.err").read_text()
    os.close(read)
    os.kill(child, number)
    sent = 1
    while True:
        ended, status = os.waitpid(child, os.WNOHANG if again else 0)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.3)
        if sent == 1:  # one more and no third: that would meet the end of the program
            os.kill(child, number)
            sent = 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert forked(lambda: command_line(folder)) == 0
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_ends_the_step_and_saves_two_end_at_once(whole, tmp_path, number) -> None:
    folder = tmp_path / "run"
    assert signalled(folder, number, again=True) == 130
    # Had step 2 gone on to its end, it would have been saved.
    assert latest_checkpoint(folder).path.name == "checkpoint-1"
    assert newest_loads(folder)

    assert signalled(folder, number, again=False) == 130
    assert latest_checkpoint(folder).path.name == "checkpoint-2"
    errors = (tmp_path / "run.err").read_text()
    assert "interrupted after step 2 of 3" in errors
    assert "Traceback" not in errors

    assert forked(lambda: command_line(folder)) == 0
    assert same_adapter(whole, folder)
