"""The run directory: one owner, rows that survive a kill, files that are whole or absent.

    run.json           versions, commit, machine, seed, command; one entry for every resume
    recipe.yaml        the resolved recipe
    metrics.jsonl      a row a step
    completions/       step-000040.jsonl, sampled replies
    checkpoint-N/      written by `icpo_lite.runs.checkpoint`
    finished           what the run ended with; absent while it may be resumed
    lock               held by the process that trains here

Every file but metrics.jsonl is written aside, synced and renamed; metrics.jsonl grows by whole
lines. All failures of the disk become a `RunDirectoryError` of one line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from icpo_lite import __version__
from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.core.files import (
    append_line,
    disk_errors,
    json_file,
    json_row,
    metrics_row,
    plain,
    read_if_there,
    read_json,
    read_metrics,
    redact,
    remove_asides,
    sync_directory,
    write_atomically,
)

#: Distributions whose versions decide what a run does.
RECORDED_VERSIONS = (
    *("torch", "transformers", "peft", "bitsandbytes", "safetensors", "accelerate"),
    *("tokenizers", "numpy", "triton", "unsloth"),
)


class RunDirectory:
    """A run directory, created if it is not there, and owned until `close`.

    Raises RunDirectoryError when another process owns it (its pid is named) or when it cannot be
    written. `notes` says in plain words what had to be repaired or could not be had.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).resolve()
        self.notes: list[str] = []
        own = ("lock", "completions")
        self._new = [] if self._begun() else [n for n in own if not (self.path / n).exists()]
        with disk_errors("create the run directory", self.path):
            (self.path / "completions").mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        try:
            with disk_errors("clean up", self.path):
                remove_asides(self.path)
                remove_asides(self.path / "completions")
        except RunDirectoryError:
            self.close()
            raise

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self._lock in _LOCKS and not self._begun():
            self._leave_no_trace()
        self.close()

    def _begun(self) -> bool:
        """Whether a run has begun here: only then is a folder called one."""
        return any((self.path / name).exists() for name in ("run.json", "recipe.yaml"))

    def _leave_no_trace(self) -> None:
        """Takes back what was made here for a run that never began, such as in `output_dir=.`."""
        with contextlib.suppress(OSError):
            if "completions" in self._new:
                (self.path / "completions").rmdir()  # which keeps one that holds something
            if "lock" in self._new:
                (self.path / "lock").unlink()

    def close(self) -> None:
        """Gives the directory up. The lock file of a run stays, for its next owner."""
        if self._lock in _LOCKS:  # not so in a forked child, whose copy is closed already
            _LOCKS.remove(self._lock)
            os.close(self._lock)
        self._lock = -1

    def _take_lock(self) -> int:
        with disk_errors("lock", self.path):
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
                os.close(lock)
                raise RunDirectoryError(
                    f"expected {self.path} to be free, found process {pid} training there; wait "
                    "for it, stop it, or set output_dir to another directory"
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    os.close(lock)
                    raise
                self.notes.append(
                    f"the file system of {self.path} has no locks: nothing keeps a second process "
                    "out of this run directory"
                )
            if not _is_file_at(lock, self.path / "lock"):  # its owner has taken it back meanwhile
                os.close(lock)
                return self._take_lock()
            _LOCKS.add(lock)
            try:
                os.ftruncate(lock, 0)
                os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            except OSError:
                _LOCKS.discard(lock)
                os.close(lock)
                raise
        return lock

    # -- run.json, recipe.yaml, finished ---------------------------------------------------------

    def write_run_info(
        self, *, seed: int, command: Sequence[str], step: int = 0, **facts: Any
    ) -> None:
        """Records this start in run.json; starts before it are kept under `earlier`.

        command: as typed (sys.argv), secrets taken out. step: where it begins, 0 or the resumed
        checkpoint's. facts: what else the caller knows (model, device, dtype).
        """
        earlier = self.run_info()
        history = [*earlier.pop("earlier", []), earlier] if earlier else []
        info = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "from_step": step,
            "seed": seed,
            "command": redact(list(command)),
            "commit": git_commit(),
            "versions": versions(),
            "machine": machine(),
            **redact(facts),
            "earlier": history,
        }
        write_atomically(self.path / "run.json", json_file(info))

    def run_info(self) -> dict[str, Any]:
        """run.json, {} where there is none or none that can be read."""
        data = read_if_there(self.path / "run.json")
        try:
            return dict(read_json(data)) if data else {}
        except (ValueError, TypeError):
            self.notes.append("run.json was damaged and is begun anew")
            return {}

    def write_recipe(self, resolved: Mapping[str, Any]) -> None:
        """Writes recipe.yaml, the recipe with all its defaults, secrets taken out."""
        write_atomically(self.path / "recipe.yaml", _recipe_text(resolved).encode())

    def recipe_value(self, key: str) -> Any:
        """A key of the directory's recipe.yaml; None where there is none that can be read."""
        data = read_if_there(self.path / "recipe.yaml")
        try:
            values = yaml.safe_load(data) if data is not None else {}
        except yaml.YAMLError:
            return None
        return values.get(key) if isinstance(values, dict) else None

    def recipe_changes(self, resolved: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """What differs from the directory's recipe.yaml: dotted key -> (there, now).

        A key that one side lacks has `None` there. {} where the directory has no recipe yet.
        """
        file = self.path / "recipe.yaml"
        data = read_if_there(file)
        if data is None:
            return {}
        try:
            before = dict(_flat(yaml.safe_load(data)))
        except (yaml.YAMLError, AttributeError) as error:
            raise RunDirectoryError(
                f"expected the recipe of this run in {file}, found no readable YAML; restore the "
                "file, or delete it to resume with the recipe as it is now"
            ) from error
        after = dict(_flat(yaml.safe_load(_recipe_text(resolved))))
        keys = [*before, *(key for key in after if key not in before)]
        return {
            key: (before.get(key), after.get(key))
            for key in keys
            if before.get(key) != after.get(key) or (key in before) != (key in after)
        }

    def write_warm_up(self, record: Mapping[str, Any]) -> None:
        """How often the model asked before the first step, and what was done about it."""
        write_atomically(self.path / "warm_up.json", json_file(record))

    def mark_finished(self, **summary: Any) -> None:
        """Says that the run is done, so that the same command starts nothing."""
        write_atomically(self.path / "finished", json_file(summary))

    def clear_finished(self) -> None:
        """Opens a finished run again (more steps were asked for)."""
        with disk_errors("reopen the finished run in", self.path):
            (self.path / "finished").unlink(missing_ok=True)
            sync_directory(self.path)

    @property
    def finished(self) -> dict[str, Any] | None:
        """The summary given to `mark_finished`, None where the run is not done."""
        return finished_summary(self.path)

    # -- metrics.jsonl, completions --------------------------------------------------------------

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds a row, which must hold an integer `step`; returns when it is on the disk.

        A row that does not fit on the disk leaves the file as it was.
        """
        if type(row.get("step")) is not int:
            raise ValueError(f"expected an integer `step` in a row, found {row.get('step')!r}")
        file = self.path / "metrics.jsonl"
        with disk_errors("write", file):
            append_line(file, json_row(row))

    def cut_after(self, step: int) -> list[str]:
        """Takes back what was logged after `step`, the one that the run resumes from.

        Rows of metrics.jsonl with a later step and files of completions/ go; so do lines that are
        not whole. Returns a sentence for each kind of change, [] where nothing had to be done.
        """
        notes = self._cut_metrics(step) + self._cut_completions(step)
        self.notes += notes
        return notes

    def _cut_metrics(self, step: int) -> list[str]:
        file = self.path / "metrics.jsonl"
        rows: dict[int, bytes] = {}
        later, damaged, again, before = 0, [], 0, 0
        for number, line in enumerate(
            (read_if_there(file) or b"").splitlines(keepends=True), start=1
        ):
            row = metrics_row(line)
            if row is None or row["step"] < 1:
                damaged.append(number)
            elif row["step"] > step:
                later += 1
            else:
                again += row["step"] <= before
                before = max(before, row["step"])
                rows[row["step"]] = line
        notes = []
        if damaged:
            lines = ", ".join(map(str, damaged))
            notes.append(f"metrics.jsonl: took out line {lines}, which was cut short or damaged")
        if later:
            notes.append(f"metrics.jsonl: took back {later} rows after step {step}")
        if again:
            notes.append(f"metrics.jsonl: took out {again} rows of steps that were there already")
        if notes:
            write_atomically(file, b"".join(rows[at] for at in sorted(rows)))
        if missing := [at for at in range(1, step + 1) if at not in rows]:
            notes.append(
                f"metrics.jsonl: of the steps 1 to {step}, {_ranges(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing and cannot be had again"
            )
        return notes

    def _completion_files(self) -> dict[int, Path]:
        """The files of completions/ by their step."""
        files = (self.path / "completions").glob("step-*.jsonl")
        named = [(file.stem.removeprefix("step-"), file) for file in files]
        return {int(step): file for step, file in named if step.isdecimal()}

    def prune_completions(self, keep: int | None) -> None:
        """Takes away the sampled replies of all steps but the newest; None keeps all."""
        if keep is None:
            return
        files = self._completion_files()
        with disk_errors("clean up", self.path / "completions"):
            for step in sorted(files)[:-keep]:
                files[step].unlink(missing_ok=True)

    def _cut_completions(self, step: int) -> list[str]:
        later = [file for at, file in self._completion_files().items() if at > step]
        with disk_errors("clean up", self.path / "completions"):
            for file in later:
                file.unlink()
        return [f"completions: took back {len(later)} files after step {step}"] if later else []

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, without a line that is not whole."""
        return read_metrics(self.path)

    def write_completions(self, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Writes the sampled replies of a step, one JSON line each; returns the file."""
        folder = self.path / "completions"
        with disk_errors("create", folder):
            folder.mkdir(exist_ok=True)
        file = folder / f"step-{int(step):06d}.jsonl"
        write_atomically(file, b"".join(json_row(row) for row in rows))
        return file


def _is_file_at(opened: int, path: Path) -> bool:
    """Whether an open file is still the one that its path names."""
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False


def _ranges(numbers: Sequence[int]) -> str:
    """1-3, 7 of [1, 2, 3, 7]."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def finished_summary(folder: Path) -> dict[str, Any] | None:
    """What a run ended with, {} where that cannot be read, None where it has not ended."""
    data = read_if_there(folder / "finished")
    if data is None:
        return None
    try:
        return dict(read_json(data))
    except (ValueError, TypeError):
        return {}


def owner_of(folder: Path) -> str | None:
    """The pid of the process that trains in a folder, None where none does."""
    try:
        lock = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(lock)
    return None


def _recipe_text(resolved: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(redact(plain(resolved)), sort_keys=False, allow_unicode=True)
    return text


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a run, without importing them."""
    found = {"python": platform.python_version(), "icpo-lite": __version__}
    for name in RECORDED_VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine() -> dict[str, Any]:
    """What kind of machine this is; nothing that tells whose (no host or user name)."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
    }


def git_commit() -> str | None:
    """The commit of this package when it runs from a checkout, "+changes" when files differ."""
    package = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # An installed package may lie inside somebody else's repository: is this file tracked?
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


#: Lock descriptors of this process. A forked worker would inherit them and keep the directory
#: locked after its parent was killed, so it closes its copies (the parent's lock stays).
_LOCKS: set[int] = set()


def _close_inherited_locks() -> None:
    for lock in _LOCKS:
        os.close(lock)
    _LOCKS.clear()


os.register_at_fork(after_in_child=_close_inherited_locks)
