"""What an evaluation has done so far, on disk, so that an interrupted one goes on from there.

The conversations are played in portions that never depend on where an earlier attempt stopped, and
a portion is kept whole or not at all: a resumed evaluation is the uninterrupted one, bit for bit.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icpo_lite.core.files import disk_errors, plain, read_json

#: Lines of one portion, by setting.
Lines = Mapping[str, Sequence[Mapping[str, Any]]]


class Progress:
    """Finished portions of one evaluation, in a file that grows by a line each.

    identity: names everything that the conversations depend on. A file of another identity is
    begun anew; half a line at its end, as a kill leaves it, is cut off. `found` counts the
    portions that were there.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._done: dict[str, Lines] = {}
        with disk_errors("read", path):
            lines = _whole_lines(path)
            if lines and lines[0] == {"identity": identity}:
                self._done = {line["portion"]: line["lines"] for line in lines[1:]}
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"identity": identity}) + "\n", encoding="utf-8")
        self.found = len(self._done)

    def get(self, portion: str) -> Lines | None:
        """The lines of a finished portion; None where it is still to be played."""
        return self._done.get(portion)

    def add(self, portion: str, lines: Lines) -> None:
        """Keep a finished portion. Raises RunDirectoryError when the disk fails."""
        text = json.dumps({"portion": portion, "lines": plain(lines)}, ensure_ascii=False)
        with self._lock, disk_errors("write", self._path):
            with self._path.open("ab") as file:
                file.write(f"{text}\n".encode(errors="replace"))
            self._done[portion] = lines

    def remove(self) -> None:
        """Forget the file; the evaluation has come to its end."""
        self._path.unlink(missing_ok=True)


def _whole_lines(path: Path) -> list[Any]:
    if not path.is_file():
        return []
    body, newline, _ = path.read_bytes().rpartition(b"\n")
    path.write_bytes(body + newline)
    try:
        return [read_json(line) for line in body.splitlines()]
    except ValueError:
        return []  # a damaged file is begun anew
