"""A judge that answers in text is asked again where it cannot be understood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from icpo_lite.core.types import Generator, Message

Read = TypeVar("Read")

#: A second reply to the same words is another one only where it is drawn.
AGAIN = 0.7


def first_readable(
    generator: Generator,
    chats: Sequence[Sequence[Message]],
    read: Callable[[str], Read | None],
    *,
    tries: int,
    max_new_tokens: int,
) -> list[Read | None]:
    """What `read` makes of each chat's first reply that it understands, None where no try did."""
    found: list[Read | None] = [None] * len(chats)
    for attempt in range(tries):
        open_ = [i for i, said in enumerate(found) if said is None]
        if not open_:
            break
        replies = generator.generate(
            [chats[i] for i in open_],
            max_new_tokens=max_new_tokens,
            temperature=AGAIN if attempt else 0.0,
            seed=attempt,
        )
        for i, texts in zip(open_, replies, strict=True):
            found[i] = read(texts[0])
    return found
