"""What an evaluation has done so far, on disk, so that an interrupted one goes on from there.

The conversations are played in portions that never depend on where an earlier attempt stopped, and
a portion is kept whole or not at all, as are the batches of replies that it is made of: a resumed
evaluation is the uninterrupted one, bit for bit.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from icpo_lite.core.journal import Journal
from icpo_lite.core.types import Message, Turn

#: Lines of one portion, by setting.
Lines = Mapping[str, Sequence[Mapping[str, Any]]]
#: Seconds for which replies wait for others before they are written: a small model makes
#: thousands in the meantime, and no more than these seconds are lost.
WRITE_EVERY_S = 10.0


class _Unwritten(NamedTuple):
    """A reply that waits for others, and the thread that plays its portion."""

    player: int
    chat: tuple[Message, ...]
    key: tuple[int | str, ...]
    turn: Turn


class Progress:
    """Finished portions of one evaluation, kept in a journal.

    identity: names everything that the conversations depend on. A file of another identity is
    begun anew. `found` counts the portions that were there.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._journal = Journal(path, {"identity": identity})
        rows = self._journal.rows
        self._done: dict[str, Lines] = {r["portion"]: r["lines"] for r in rows if "portion" in r}
        self._replies: dict[str, Turn] = {
            name: _turn(kept) for row in rows for name, kept in row.get("replies", ())
        }
        self._unwritten: list[_Unwritten] = []
        self._written = time.monotonic()
        self._lock = threading.Lock()
        self.found = len(self._done)

    def get(self, portion: str) -> Lines | None:
        """The lines of a finished portion; None where it is still to be played."""
        return self._done.get(portion)

    def add(self, portion: str, lines: Lines) -> None:
        """Keep a finished portion, played by this thread; its lines say all that its replies did.

        Raises RunDirectoryError when the disk fails.
        """
        self._journal.add({"portion": portion, "lines": lines})
        self._done[portion] = lines
        with self._lock:
            player = threading.get_ident()
            self._unwritten = [each for each in self._unwritten if each.player != player]

    def replies(
        self, chats: Sequence[Sequence[Message]], keys: Sequence[tuple[int | str, ...]]
    ) -> list[Turn] | None:
        """The kept replies of a batch; None where one of them is still to be made."""
        if not self._replies:
            return None
        found = [self._replies.get(_name(*each)) for each in zip(chats, keys, strict=True)]
        turns = [turn for turn in found if turn is not None]
        return turns if len(turns) == len(found) else None

    def add_replies(
        self,
        chats: Sequence[Sequence[Message]],
        keys: Sequence[tuple[int | str, ...]],
        turns: Sequence[Turn],
    ) -> None:
        """Keep a batch. Raises RunDirectoryError when the disk fails."""
        with self._lock:
            player = threading.get_ident()
            made = zip(chats, keys, turns, strict=True)
            self._unwritten += [_Unwritten(player, tuple(c), k, turn) for c, k, turn in made]
            if time.monotonic() - self._written >= WRITE_EVERY_S:
                kept = [(_name(e.chat, e.key), _kept(e.turn)) for e in self._unwritten]
                self._journal.add({"replies": kept})
                self._unwritten.clear()
                self._written = time.monotonic()

    def remove(self) -> None:
        """Forget the file; the evaluation has come to its end."""
        self._journal.remove()


def _kept(turn: Turn) -> dict[str, Any]:
    """What `_turn` makes a reply of again."""
    return {
        "role": turn.role,
        "content": turn.content,
        "token_ids": turn.token_ids,
        "logprobs": turn.logprobs,
        "stop_reason": turn.stop_reason,
    }


def _name(chat: Sequence[Message], key: tuple[int | str, ...]) -> str:
    """Names a reply by what it answers and by its noise."""
    said = repr((key, [(m.role, m.text) for m in chat]))
    return hashlib.blake2b(said.encode(errors="replace"), digest_size=12).hexdigest()


def _turn(kept: Mapping[str, Any]) -> Turn:
    ids, logps = tuple(kept["token_ids"]), tuple(kept["logprobs"])
    return Turn(kept["role"], kept["content"], ids, logps, kept["stop_reason"])
