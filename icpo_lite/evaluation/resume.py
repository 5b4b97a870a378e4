"""What an evaluation has done so far, on disk, so that an interrupted one goes on from there.

The conversations are played in portions that never depend on where an earlier attempt stopped, and
a portion is kept whole or not at all: a resumed evaluation is the uninterrupted one, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icpo_lite.core.journal import Journal

#: Lines of one portion, by setting.
Lines = Mapping[str, Sequence[Mapping[str, Any]]]


class Progress:
    """Finished portions of one evaluation, kept in a journal.

    identity: names everything that the conversations depend on. A file of another identity is
    begun anew. `found` counts the portions that were there.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._journal = Journal(path, {"identity": identity})
        self._done: dict[str, Lines] = {row["portion"]: row["lines"] for row in self._journal.rows}
        self.found = len(self._done)

    def get(self, portion: str) -> Lines | None:
        """The lines of a finished portion; None where it is still to be played."""
        return self._done.get(portion)

    def add(self, portion: str, lines: Lines) -> None:
        """Keep a finished portion. Raises RunDirectoryError when the disk fails."""
        self._journal.add({"portion": portion, "lines": lines})
        self._done[portion] = lines

    def remove(self) -> None:
        """Forget the file; the evaluation has come to its end."""
        self._journal.remove()
