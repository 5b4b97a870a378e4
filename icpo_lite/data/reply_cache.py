"""A model's replies, kept on disk while a run lasts, so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from icpo_lite.core.journal import Journal
from icpo_lite.core.types import Generator, Message


class LateGenerator:
    """A `Generator` that is made when it is first asked: what is wrong before costs no model."""

    def __init__(self, make: Callable[[], Generator]) -> None:
        self._make = make
        self._made: Generator | None = None

    def generate(self, chats: Sequence[Sequence[Message]], **how: Any) -> list[list[str]]:
        """The replies of the one that is made now, or was before."""
        self._made = self._made or self._make()
        return self._made.generate(chats, **how)


class ReplyJournal:
    """A `Generator` that keeps each call's replies in a journal and answers the same call from it.

    name: which model replies; a journal of another model's replies is begun anew.
    """

    def __init__(self, generator: Generator, path: Path, *, name: str) -> None:
        self._generator = generator
        self._journal = Journal(path, {"model": name})
        self._replies: dict[str, list[list[str]]] = {
            row["call"]: row["replies"]
            for row in self._journal.rows
            if isinstance(row, dict) and isinstance(row.get("replies"), list)
        }

    def generate(self, chats: Sequence[Sequence[Message]], **how: Any) -> list[list[str]]:
        """The replies of an equal earlier call, else the model's."""
        said = [[(m.role, m.content) for m in chat] for chat in chats]
        key = json.dumps([said, how], sort_keys=True)
        call = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        if call not in self._replies:
            self._replies[call] = self._generator.generate(chats, **how)
            self._journal.add({"call": call, "replies": self._replies[call]})
        return self._replies[call]

    def close(self) -> None:
        """Forget the file; for a run that has come to its end."""
        self._journal.remove()
