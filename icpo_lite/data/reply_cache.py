"""A model's replies, kept on disk while a run lasts, so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from icpo_lite.core.files import json_rows
from icpo_lite.core.types import Generator, Message


class LateGenerator:
    """A `Generator` that is made when it is first asked: what is wrong before costs no model."""

    def __init__(self, make: Callable[[], Generator]) -> None:
        self._make = make
        self._made: Generator | None = None

    def generate(
        self,
        chats: Sequence[Sequence[Message]],
        *,
        n: int = 1,
        max_new_tokens: int = 256,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[list[str]]:
        """The replies of the one that is made now, or was before."""
        self._made = self._made or self._make()
        return self._made.generate(
            chats, n=n, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )


class ReplyJournal:
    """A `Generator` that writes each call's replies to a file and answers the same call from it.

    name: which model replies; calls to another model are never answered from the file. A half
    line at the end, as an interrupted run leaves it, is cut off.
    """

    def __init__(self, generator: Generator, path: Path, *, name: str) -> None:
        self._generator = generator
        self._path = path
        self._name = name
        self._replies: dict[str, list[list[str]]] = {}
        if path.is_file():
            whole = path.read_bytes().rpartition(b"\n")
            path.write_bytes(whole[0] + whole[1])
            for entry in json_rows(path, "call"):
                if isinstance(replies := entry.get("replies"), list):
                    self._replies[entry["call"]] = replies

    def generate(
        self,
        chats: Sequence[Sequence[Message]],
        *,
        n: int = 1,
        max_new_tokens: int = 256,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[list[str]]:
        """The replies of an equal earlier call, else the model's."""
        said = [[(m.role, m.content) for m in chat] for chat in chats]
        key = json.dumps([self._name, said, n, max_new_tokens, temperature, seed])
        call = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        if call not in self._replies:
            self._replies[call] = self._generator.generate(
                chats, n=n, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
            )
            with self._path.open("a", encoding="utf-8") as file:
                entry = {"call": call, "replies": self._replies[call]}
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        return self._replies[call]

    def close(self) -> None:
        """Forget the file; for a run that has come to its end."""
        self._path.unlink(missing_ok=True)
