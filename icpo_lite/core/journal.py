"""A file that grows by a row at a time, so that what was interrupted goes on from there."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icpo_lite.core.files import append_line, disk_errors, plain, read_json, write_atomically


class Journal:
    """Rows of JSON, each whole or absent, which survive a kill.

    header: the first row, which says what the others belong to. A file with another one, or a
    damaged one, is begun anew; half a line at the end, as a kill leaves it, is cut off. rows: what
    was there. Threads may add rows side by side. Raises RunDirectoryError where the disk fails.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self._path = path
        self._lock = threading.Lock()
        first, *self.rows = _whole_rows(path) or [None]
        if first != header:
            self.rows = []
            with disk_errors("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _line(header))

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row; returns when it is on the disk."""
        with self._lock, disk_errors("write", self._path):
            append_line(self._path, _line(row))

    def remove(self) -> None:
        """Forget the file; what it was kept for has come to its end."""
        self._path.unlink(missing_ok=True)


def _line(row: Mapping[str, Any]) -> bytes:
    """ASCII alone: half a surrogate pair, which UTF-8 lacks, comes back as it was."""
    return json.dumps(row, default=plain).encode() + b"\n"


def _whole_rows(path: Path) -> list[Any]:
    """The rows of a file, its half line cut off; none of a file that is damaged or not there."""
    with disk_errors("read", path):
        if not path.is_file():
            return []
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)
    try:
        return [read_json(line) for line in data[:whole].splitlines()]
    except ValueError:
        return []
