"""How a run stands, told from its files alone: nothing is locked, written or asked of it."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from icpo_lite.core.files import metrics_row
from icpo_lite.tools.report.run_files import TRAINER_STATE

Phase = Literal["training", "ended", "stopped", "vanished", "files"]
#: What a page is made of, from a run directory on; as far as `run_files` reads it.
_SHOWN = (
    *("metrics.jsonl", "recipe.yaml", "run.json", "finished", "comparison.json", TRAINER_STATE),
    # Of a folder of many files its own time says that one has come.
    *("completions", f"checkpoint-*/{TRAINER_STATE}"),
    *("eval*/*.json", "eval*/*.jsonl", "eval-*/*/*.json", "eval-*/*/*.jsonl"),
)
#: The kernel's list of locks: one a line, its kind and its file's device and inode among the words.
LOCKS = Path("/proc/locks")
#: Bytes that surely hold the last step's row.
_TAIL = 1 << 16
_MAX_STEPS = re.compile(rb"^max_steps: (\d{1,9})\r?$", re.M)


@dataclass(frozen=True)
class Standing:
    """How the followed runs stand. words: in a sentence. age: seconds since the last news, None
    where none is expected. version: differs where a page about them would."""

    phase: Phase
    words: str
    version: str
    age: float | None = None


def standing(folders: Sequence[Path]) -> Standing:
    """Of several runs the sentences of all, and the phase that matters most."""
    each = [_of_one(folder) for folder in folders]
    order: tuple[Phase, ...] = ("training", "vanished", "stopped", "ended", "files")
    phase = min((phase for phase, _, _ in each), key=order.index)
    words = [
        words if len(each) == 1 else f"{folder.name}: {words}"
        for folder, (_, words, _) in zip(folders, each, strict=True)
    ]
    ages = [age for _, _, age in each if age is not None]
    shown = repr((words, list(_prints(folders)))).encode(errors="replace")
    version = hashlib.blake2b(shown, digest_size=8).hexdigest()
    return Standing(phase, " ".join(words), version, min(ages, default=None))


def _of_one(folder: Path) -> tuple[Phase, str, float | None]:
    if not folder.is_dir():
        return "vanished", f"The directory {folder.name} has vanished; this is what it held.", None
    step, of = _last_step(folder), _steps_asked(folder)
    if is_training(folder):
        age = None
        with contextlib.suppress(OSError):
            age = max(time.time() - (folder / "metrics.jsonl").stat().st_mtime, 0.0)
        doing = f"Training: step {step}{f' of {of}' if of else ''}"
        if step == of:
            doing = f"All {of} steps are done; what comes after them is under way"
        return "training", doing if step else "Starting: no step is done yet", age
    if (folder / "finished").is_file():
        return "ended", f"The run has ended after {step} steps; nothing more will come.", None
    if not (folder / "lock").is_file():
        return "files", "Nothing trains here; the page follows the files.", None
    again = shlex.join(["icpo-lite", "train", str(folder / "recipe.yaml")])
    return "stopped", f"Stopped at step {step}, not finished; {again} goes on from there.", None


def _last_step(folder: Path) -> int:
    """From the end of metrics.jsonl, which may be long."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return 0
    rows = (metrics_row(line) for line in reversed(lines))
    return next((int(row["step"]) for row in rows if row), 0)


def _steps_asked(folder: Path) -> int:
    """max_steps of the recipe; 0 where it does not say."""
    try:
        found = _MAX_STEPS.search((folder / "recipe.yaml").read_bytes())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def is_training(folder: Path) -> bool:
    """Whether a process holds the run's lock.

    The kernel's list of locks is read, for to try the lock would be to take it. Where there is no
    list, whether the process that the lock file names is alive.
    """
    lock = folder / "lock"
    try:
        inode = str(lock.stat().st_ino)
        pid = int(lock.read_text() or 0)
    except (OSError, ValueError):
        return False
    try:
        held = [line.split() for line in LOCKS.read_text().splitlines()]
    except OSError:
        return _alive(pid)
    return any("FLOCK" in line and any(f.endswith(f":{inode}") for f in line) for line in held)


def _alive(pid: int) -> bool:
    if pid <= 0:  # of no process, but of groups of them
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it is another user's
    return True


def _prints(folders: Sequence[Path]) -> Iterator[tuple[str, int, int]]:
    """Name, time and size of every file that is shown; of the runs compared with as well."""
    for folder in folders:
        beside = folder.parent.glob(f"{glob.escape(folder.name)}-*")  # those compared with
        for place in (folder, *sorted(beside)):
            for pattern in _SHOWN:
                for file in sorted(place.glob(pattern)):
                    with contextlib.suppress(OSError):
                        found = file.stat()
                        yield str(file), found.st_mtime_ns, found.st_size
