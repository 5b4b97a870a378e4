"""The disk: files that are whole or absent, rows that survive a kill, no secrets."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from icpo_lite.core.errors import RunDirectoryError

#: Ends the name of a file or folder that is not whole yet; whatever bears it may be deleted.
ASIDE = ".aside"


_HINTS = {
    errno.ENOSPC: "free some space or set output_dir to another disk",
    errno.EDQUOT: "free some of your quota or set output_dir to another disk",
    errno.EROFS: "set output_dir to a place that can be written",
    errno.EACCES: "set output_dir to a place that you may write",
    errno.EPERM: "set output_dir to a place that you may write",
    errno.ENOENT: "the directory has vanished; mount it again or set output_dir",
    errno.EIO: "the disk fails; set output_dir to another one",
}


_SECRET_KEY = re.compile(
    r"^(?:[\w.]*[_.])?(?:api_?key|password|secret|(?:hub|hf|access|auth|bearer)_?token)$|^token$",
    re.I,
)


_SECRET_NAME = re.compile(r"(?:TOKEN|API_?KEY|SECRET|PASSWORD)$", re.I)


_SECRET_VALUE = re.compile(
    r"\b(?:hf_|sk-|ghp_|github_pat_|glpat-)[\w-]{8,}"  # tokens that name their maker
    r"|(?<=://)[^/@\s]+(?=@)"  # user:password@host
    r"|(?:(?<=[?&]token=)|(?<=[?&]key=)|(?<=[?&]api_key=))[^&\s]+"
)


@contextlib.contextmanager
def disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Turns an OSError into a RunDirectoryError, "cannot <doing> <path>: why; what to do"."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        hint = _HINTS.get(error.errno or 0, "check the disk or set output_dir to another place")
        raise RunDirectoryError(f"cannot {doing} {path}: {why}; {hint}") from error


def sync_directory(path: Path) -> None:
    """Makes the names inside a folder survive a power cut, where its file system can do that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a mounted Drive, some networks
            raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_synced(path: Path, data: bytes) -> None:
    """Writes a new file and waits until it is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces a file by its new contents; after a kill or a full disk it is the old or the new."""
    aside = path.with_name(f".{path.name}{ASIDE}")
    with disk_errors("write", path):
        try:
            write_synced(aside, data)
            aside.replace(path)
            sync_directory(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise


def append_line(path: Path, line: bytes) -> None:
    """Adds a line to a file and returns when it is on the disk.

    A line that does not fit on the disk leaves the file as it was, and one that a kill cut short
    does not swallow the next. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        ended = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
        try:
            _write_all(descriptor, (b"" if ended else b"\n") + line)
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
        if size == 0:
            sync_directory(path.parent)
    finally:
        os.close(descriptor)


def redact(value: Any) -> Any:
    """The same structure without secrets: values of telling keys, what looks like a token, and
    the values of environment variables with telling names.

    Strings of the form `key=value` (command-line overrides) are seen through.
    """
    if isinstance(value, Mapping):
        return {
            k: "***" if v and _SECRET_KEY.match(str(k)) else redact(v) for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    if isinstance(value, str):
        key, equals, rest = value.partition("=")
        if equals and rest and _SECRET_KEY.match(key.lstrip("-").replace("-", "_")):
            return f"{key}=***"
        for secret in _environment_secrets():
            value = value.replace(secret, "***")
        return _SECRET_VALUE.sub("***", value)
    return value


def _environment_secrets() -> list[str]:
    """HF_TOKEN, OPENAI_API_KEY and the like; values too short to be secrets are left out."""
    return [v.strip() for k, v in os.environ.items() if _SECRET_NAME.search(k) and len(v) >= 8]


_PLAIN = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Any:
    """Only dict, list, str, int, float, bool and None, for JSON and YAML.

    Takes what holds one number (tensor, numpy scalar) as that number.
    """
    if type(value) in _PLAIN:  # most values by far
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"expected a value that JSON can hold, found {type(value).__name__}")


def json_row(row: Mapping[str, Any]) -> bytes:
    """One line of strict JSON. NaN and infinity, which JSON lacks, become null; half a surrogate
    pair, which UTF-8 lacks and a corpus may hold, a question mark."""
    text = json.dumps(_finite(plain(row)), ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode(errors="replace")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_file(value: Any) -> bytes:
    return (json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n").encode()


def read_metrics(run_directory: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl without owning it, for reports; whole lines only."""
    lines = (read_if_there(run_directory / "metrics.jsonl") or b"").splitlines(keepends=True)
    return [row for row in map(metrics_row, lines) if row is not None]


def read_json(text: str | bytes) -> Any:
    """What a text spells as JSON; ValueError for all that it cannot be, nested without end too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def json_rows(file: Path, *texts: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, one a line, that hold a text under each of these keys.

    Lines that are damaged are left out.
    """
    with file.open("rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                row = read_json(line)
                if isinstance(row, dict) and all(isinstance(row.get(k), str) for k in texts):
                    yield row


def read_if_there(file: Path) -> bytes | None:
    """A file's contents, None where there is no file."""
    with disk_errors("read", file):
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None


def metrics_row(line: bytes) -> dict[str, Any] | None:
    """A line of metrics.jsonl, None unless it is whole: ended, JSON, with a step."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = read_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None


def remove_asides(folder: Path) -> None:
    """Deletes what a killed process left half-written. Only the folder's owner may."""
    for path in folder.glob(f".*{ASIDE}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
