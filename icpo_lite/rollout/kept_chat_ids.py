"""Token ids of a corpus, kept between runs: templates and tokenizer take a millisecond a prompt.

A file in the user's cache holds those of one corpus under one tokenizer. It is only ever a short
cut: three prompts are encoded anew each time, and a file that says otherwise is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.core.files import write_atomically
from icpo_lite.core.paths import user_cache
from icpo_lite.core.types import Message

Ids = tuple[int, ...]
Chat = Sequence[Message]

#: Prompts from which a file is worth its while: fewer take a second or two.
WORTH_KEEPING = 2000
#: Corpora that are kept, the newest.
KEPT_FILES = 8
SUFFIX = ".safetensors"


class Reader(Protocol):
    """What reads a chat: a policy, or its tokenizer and config alone."""

    @property
    def tokenizer(self) -> Any:
        """transformers' own, with its chat template."""
        ...

    @property
    def max_positions(self) -> int:
        """Tokens of the longest chat and reply."""
        ...

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of a chat up to the header that opens the assistant's turn."""
        ...


def kept_chat_ids(reader: Reader, chats: Sequence[Chat]) -> list[Ids]:
    """Token ids of each chat, as `reader.encode_chat` gives them; each number is held once."""
    once = _numbers_once()
    if len(chats) < WORTH_KEEPING:
        return [once(reader.encode_chat(chat)) for chat in chats]
    file = user_cache("chat-ids") / f"{_key(reader.tokenizer, chats)}{SUFFIX}"
    found = _read(file, once)
    if found is None or not _agrees(reader, chats, found):
        found = [once(reader.encode_chat(chat)) for chat in chats]
        _write(file, found)
    return found


def _key(tokenizer: Any, chats: Sequence[Chat]) -> str:
    """Names the tokenizer, its template and what the chats say."""
    digest = hashlib.blake2b(digest_size=16)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    special = sorted(map(str, tokenizer.all_special_tokens))
    for part in (type(tokenizer).__name__, words, tokenizer.chat_template, special):
        digest.update(repr(part).encode(errors="replace"))
    for chat in chats:
        said = repr([(m.role, m.content, m.functions) for m in chat])
        digest.update(said.encode(errors="replace"))
    return digest.hexdigest()


def _agrees(reader: Reader, chats: Sequence[Chat], found: Sequence[Ids]) -> bool:
    """Whether the first, the longest and the one with the largest id are what they were.

    The last one is refused by the reader where the model has no row for it.
    """
    if len(found) != len(chats):
        return False
    places = range(len(found))
    tried = {
        0,
        max(places, key=lambda i: len(found[i])),
        max(places, key=lambda i: max(found[i], default=0)),
    }
    return all(reader.encode_chat(chats[i]) == found[i] for i in tried)


def _numbers_once() -> Callable[[Sequence[int]], Ids]:
    """Makes equal ids, every number one object: 8 bytes a token instead of 36."""
    known: dict[int, int] = {}
    return lambda ids: tuple(known.setdefault(i, i) for i in ids)


def _read(file: Path, once: Callable[[Sequence[int]], Ids]) -> list[Ids] | None:
    try:
        held = load(file.read_bytes())
        ends, flat = held["ends"].tolist(), held["ids"]
    except (OSError, SafetensorError, KeyError):  # none, or half of one
        return None
    return [once(flat[a:b].tolist()) for a, b in zip([0, *ends], ends, strict=False)]


def _write(file: Path, found: Sequence[Ids]) -> None:
    """A cache that cannot be written is none: the run goes on without."""
    ends = np.cumsum([len(ids) for ids in found])
    flat = np.fromiter((i for ids in found for i in ids), dtype=np.int32, count=int(ends[-1]))
    with contextlib.suppress(OSError, RunDirectoryError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, save({"ends": ends, "ids": flat}))
        others = sorted(file.parent.glob(f"*{SUFFIX}"), key=lambda f: f.stat().st_mtime)
        for old in others[:-KEPT_FILES]:
            old.unlink(missing_ok=True)
