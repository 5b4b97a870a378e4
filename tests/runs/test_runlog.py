"""The run directory: locks, rows, atomic files, and what a failing disk does to them."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.core.files import plain, read_metrics, redact, write_atomically
from icpo_lite.runs import run_directory
from icpo_lite.runs.run_directory import RunDirectory


def in_child(work: Callable[[], int]) -> int:
    """Runs `work` in a forked process; its return value, or minus the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- lock ----------------------------------------------------------------------------------------


def test_two_processes_never_share_a_run_directory(tmp_path: Path) -> None:
    def second() -> int:
        try:
            RunDirectory(tmp_path)
        except RunDirectoryError as error:
            return 7 if f"process {owner} training there" in str(error) else 8
        return 9

    owner = os.getpid()
    with RunDirectory(tmp_path):
        assert in_child(second) == 7
        with pytest.raises(RunDirectoryError, match=f"process {owner}"):
            RunDirectory(tmp_path)
    RunDirectory(tmp_path).close()  # free again


def test_the_lock_dies_with_its_owner_even_if_a_worker_lives_on(tmp_path: Path) -> None:
    """A forked worker must not keep the directory of a killed trainer locked."""
    read, write = os.pipe()

    def trainer() -> int:
        RunDirectory(tmp_path)
        worker = os.fork()
        if worker == 0:
            signal.pause()
        os.write(write, f"{worker}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert in_child(trainer) == -signal.SIGKILL
    worker = int(os.read(read, 32))
    try:
        RunDirectory(tmp_path).close()
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(read)
        os.close(write)


def test_opening_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / "completions").mkdir()
    left = [tmp_path / ".run.json.aside", tmp_path / "completions" / ".step-000001.jsonl.aside"]
    for file in left:
        file.write_text("half")
    (tmp_path / ".checkpoint-3.aside").mkdir()
    RunDirectory(tmp_path).close()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["completions", "lock"]


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot create the run directory"):
        RunDirectory(tmp_path / "run")


# -- run.json, recipe.yaml, finished -------------------------------------------------------------


def test_run_info_keeps_earlier_starts_and_no_secret(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as run:
        command = ["icpo-lite", "train", "tiny", "hub_token=hf_abcdefghijklmnop", "seed=1"]
        run.write_run_info(seed=1, command=command, model="tiny")
        run.write_run_info(seed=1, command=command[:3], step=40)
        info = run.run_info()
    assert info["from_step"] == 40
    assert info["command"] == ["icpo-lite", "train", "tiny"]
    (first,) = info["earlier"]
    assert first["command"] == ["icpo-lite", "train", "tiny", "hub_token=***", "seed=1"]
    assert first["model"] == "tiny"
    assert info["versions"]["python"].startswith("3.")
    text = (tmp_path / "run.json").read_text()
    assert "hf_" not in text
    assert os.uname().nodename not in text


def test_redact() -> None:
    given = {
        "hub_token": "hf_0123456789",
        "judge": {"api_key": "x", "url": "https://me:pw@host/v1"},
        "eos_token": "<|im_end|>",
        "max_tokens": 12,
        "key": "sk-abcdefghijkl",
        "password": None,
        "note": "user_token_count=3",
    }
    assert redact(given) == {
        "hub_token": "***",
        "judge": {"api_key": "***", "url": "https://***@host/v1"},
        "eos_token": "<|im_end|>",
        "max_tokens": 12,
        "key": "***",
        "password": None,
        "note": "user_token_count=3",
    }
    assert redact(["--hub-token=abc", "reward.judge.api_key=abc", "u=http://h/v1?a=1&key=abc"]) == [
        "--hub-token=***",
        "reward.judge.api_key=***",
        "u=http://h/v1?a=1&key=***",
    ]


def test_plain_takes_what_json_lacks() -> None:
    import numpy as np

    class Colour(StrEnum):
        RED = "red"

    value = plain({"a": (1, np.float64(0.5)), "b": Path("x"), "c": Colour.RED, "d": np.int64(3)})
    assert value == {"a": [1, 0.5], "b": "x", "c": "red", "d": 3}
    assert [type(v) for v in (value["a"][1], value["c"])] == [float, str]
    with pytest.raises(TypeError, match="object"):
        plain(object())


RECIPE: dict[str, Any] = {
    "seed": 1,
    "learning_rate": 1e-5,
    "lora": {"r": 16, "modules": ("q", "k")},
    "stop_on": [],
}


def test_recipe_changes(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as run:
        assert run.recipe_changes(RECIPE) == {}
        run.write_recipe(RECIPE)
        assert run.recipe_changes(RECIPE) == {}
        now = {"seed": 2, "lora": {"r": 16, "modules": ["q"]}, "stop_on": [], "beta": None}
        assert run.recipe_changes(now) == {
            "seed": (1, 2),
            "learning_rate": (1e-5, None),
            "lora.modules": (["q", "k"], ["q"]),
            "beta": (None, None),
        }


@pytest.mark.parametrize("text", ["a: [", "- 1\n", ""])
def test_a_recipe_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with RunDirectory(tmp_path) as run, pytest.raises(RunDirectoryError, match="no readable YAML"):
        run.recipe_changes(RECIPE)


def test_finished(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as run:
        assert run.finished is None
        run.mark_finished(step=5)
        assert run.finished == {"step": 5}
        run.clear_finished()
        assert run.finished is None


# -- metrics.jsonl, completions ------------------------------------------------------------------


def test_metrics_are_strict_json_and_come_back(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as run:
        run.append_metrics({"step": 1, "reward": 0.1 + 0.2})
        run.append_metrics({"step": 2, "grad_norm": math.nan, "kl": math.inf})
        assert run.metrics() == [
            {"step": 1, "reward": 0.1 + 0.2},
            {"step": 2, "grad_norm": None, "kl": None},
        ]
        with pytest.raises(ValueError, match="step"):
            run.append_metrics({"reward": 1.0})


def test_a_resume_cuts_later_rows_and_mends_the_last_line(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as run:
        for step in (1, 2, 3, 4):
            run.append_metrics({"step": step})
            run.write_completions(step, [{"text": f"reply {step}"}])
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 5, "rew')
        assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4]
        notes = run.cut_after(2)
        assert notes == [
            "metrics.jsonl: took out line 5, which was cut short or damaged",
            "metrics.jsonl: took back 2 rows after step 2",
            "completions: took back 2 files after step 2",
        ]
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
        assert len(list((tmp_path / "completions").iterdir())) == 2
        assert run.cut_after(2) == []
        run.append_metrics({"step": 3})
        assert [row["step"] for row in run.metrics()] == [1, 2, 3]


def test_a_row_after_half_a_line_stands_on_its_own(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as run:
        (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "rew')
        run.append_metrics({"step": 2})
        assert [row["step"] for row in run.metrics()] == [1, 2]


@pytest.mark.parametrize("name", ["run.json", "recipe.yaml", "finished", "metrics.jsonl"])
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with (
        RunDirectory(tmp_path) as run,
        pytest.raises(RunDirectoryError, match=f"cannot read .*{name}"),
    ):
        _ = run.run_info(), run.recipe_changes({}), run.finished, run.metrics()


@pytest.mark.parametrize("text", ["", "[1", "3", "[1, 2]"])
def test_damaged_json_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "finished").write_text(text)
    with RunDirectory(tmp_path) as run:
        assert run.finished == {}
        run.write_run_info(seed=1, command=["icpo-lite"])
        assert run.run_info()["earlier"] == []


def test_completions(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as run:
        file = run.write_completions(
            40, [{"text": "wie viele?\n", "reward": 1.0}, {"text": "🙂"}, {"text": "a\ud83d"}]
        )
    assert file.name == "step-000040.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows == [{"text": "wie viele?\n", "reward": 1.0}, {"text": "🙂"}, {"text": "a?"}]


def test_completions_of_the_newest_steps_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "completions"
    with RunDirectory(tmp_path) as run:
        for step in range(1, 6):
            run.write_completions(step, [{"step": step}])
            run.prune_completions(2)
        (folder / "step-notes.jsonl").write_text("mine\n")
        assert len(list(folder.iterdir())) == 3
        run.prune_completions(1)
        names = sorted(file.name for file in folder.iterdir())
        assert names == ["step-000005.jsonl", "step-notes.jsonl"]
        run.write_completions(6, [{"step": 6}])
        run.prune_completions(None)
        assert len(list(folder.iterdir())) == 3


# -- a disk that fails ---------------------------------------------------------------------------


def failing(call: str, at: int, error: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets the `at`-th os.<call> fail (a write: after half of its bytes); counts the calls."""
    real, calls = getattr(os, call), [0]

    def wrapper(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            if call == "write" and len(arguments[1]) > 1:
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise OSError(error, os.strerror(error))
        return real(*arguments, **named)

    monkeypatch.setattr(os, call, wrapper)
    return calls


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_file_is_old_or_new_when_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    file = tmp_path / "run.json"
    write_atomically(file, b"old")
    with monkeypatch.context() as patch:
        failing(call, 1, error, patch)
        with pytest.raises(RunDirectoryError, match=f"cannot write .*: {os.strerror(error)}; "):
            write_atomically(file, b"new contents")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_row_that_does_not_fit_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with RunDirectory(tmp_path) as run:
        run.append_metrics({"step": 1})
        with monkeypatch.context() as patch:
            failing(call, 1, errno.ENOSPC, patch)
            with pytest.raises(RunDirectoryError, match="No space left on device; free some"):
                run.append_metrics({"step": 2, "reward": 0.5})
        run.append_metrics({"step": 2})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_kill_leaves_a_file_old_or_new(tmp_path: Path, call: str) -> None:
    file = tmp_path / "recipe.yaml"
    write_atomically(file, b"old")
    for at in (1, 2):
        died = in_child(lambda at=at: kill_at(call, at, lambda: write_atomically(file, b"new")))
        whole = {"write": 1, "fsync": 2, "replace": 1}[call] < at
        assert died == (0 if whole else -signal.SIGKILL)
        assert file.read_bytes() in (b"old", b"new")
    with RunDirectory(tmp_path):
        assert not list(tmp_path.glob(".*.aside"))


def kill_at(call: str, at: int, work: Callable[[], object]) -> int:
    """For a forked child: dies at the `at`-th os.<call>."""
    real, calls = getattr(os, call), [0]

    def wrapper(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(os, call, wrapper)
    work()
    return 0


def test_a_vanished_directory(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run") as run:
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        with pytest.raises(RunDirectoryError, match="the directory has vanished"):
            run.append_metrics({"step": 1})
        with pytest.raises(RunDirectoryError, match="the directory has vanished"):
            run.write_recipe({})


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "no locks")

    monkeypatch.setattr(run_directory.fcntl, "flock", flock)
    with RunDirectory(tmp_path) as run:
        assert "has no locks" in run.notes[0]


def test_runlog_does_not_import_torch() -> None:
    code = "import sys, icpo_lite.runs.run_directory; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
