"""What an evaluation has done so far, on disk, so that an interrupted one goes on from there.

The conversations are played in portions that never depend on where an earlier attempt stopped, and
a portion is kept whole or not at all, as are the batches of replies that it is made of: a resumed
evaluation is the uninterrupted one, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from icpo_lite.core.files import disk_errors, plain
from icpo_lite.core.types import Message, Turn

#: Lines of one portion, by setting.
Lines = Mapping[str, Sequence[Mapping[str, Any]]]
#: Seconds for which replies wait for others before they are written: a small model makes
#: thousands in the meantime, and no more than these seconds are lost.
WRITE_EVERY_S = 10.0


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
        self._replies: dict[str, Turn] = {}
        self._unwritten: list[tuple[str, Turn]] = []
        self._written = time.monotonic()
        with disk_errors("read", path):
            lines = _whole_lines(path)
            if lines and lines[0] == {"identity": identity}:
                self._done = {li["portion"]: li["lines"] for li in lines[1:] if "portion" in li}
                for line in lines[1:]:
                    self._replies |= {name: _turn(turn) for name, turn in line.get("replies", ())}
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"identity": identity}) + "\n", encoding="utf-8")
        self.found = len(self._done)

    def get(self, portion: str) -> Lines | None:
        """The lines of a finished portion; None where it is still to be played."""
        return self._done.get(portion)

    def add(self, portion: str, lines: Lines) -> None:
        """Keep a finished portion. Raises RunDirectoryError when the disk fails."""
        with self._lock:
            self._write({"portion": portion, "lines": plain(lines)})
            self._done[portion] = lines

    def replies(
        self, chats: Sequence[Sequence[Message]], keys: Sequence[tuple[int | str, ...]]
    ) -> list[Turn] | None:
        """The kept replies of a batch; None where one of them is still to be made."""
        names = [_name(chat, key) for chat, key in zip(chats, keys, strict=True)]
        with self._lock:
            found = [self._replies.get(name) for name in names] if self._replies else [None]
        turns = [turn for turn in found if turn is not None]
        return turns if len(turns) == len(names) else None

    def add_replies(
        self,
        chats: Sequence[Sequence[Message]],
        keys: Sequence[tuple[int | str, ...]],
        turns: Sequence[Turn],
    ) -> None:
        """Keep a batch. Raises RunDirectoryError when the disk fails."""
        with self._lock:
            self._unwritten += [
                (_name(chat, key), turn) for chat, key, turn in zip(chats, keys, turns, strict=True)
            ]
            if time.monotonic() - self._written >= WRITE_EVERY_S:
                made = [(name, asdict(turn)) for name, turn in self._unwritten]
                self._write({"replies": plain(made)})
                self._unwritten.clear()
                self._written = time.monotonic()

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False)
        with disk_errors("write", self._path), self._path.open("ab") as file:
            file.write(f"{text}\n".encode(errors="replace"))

    def remove(self) -> None:
        """Forget the file; the evaluation has come to its end."""
        self._path.unlink(missing_ok=True)


def _name(chat: Sequence[Message], key: tuple[int | str, ...]) -> str:
    """Names a reply by what it answers and by its noise."""
    said = repr((key, [(m.role, m.text) for m in chat]))
    return hashlib.blake2b(said.encode(errors="replace"), digest_size=12).hexdigest()


def _turn(kept: Mapping[str, Any]) -> Turn:
    ids, logps = tuple(kept["token_ids"]), tuple(kept["logprobs"])
    return Turn(kept["role"], kept["content"], ids, logps, kept["stop_reason"])


def _whole_lines(path: Path) -> list[Any]:
    if not path.is_file():
        return []
    body, newline, _ = path.read_bytes().rpartition(b"\n")
    path.write_bytes(body + newline)
    try:
        return [json.loads(line) for line in body.splitlines()]
    except ValueError:
        return []  # a damaged file is begun anew
