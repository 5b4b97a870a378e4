"""Turns of a chat put together."""

from __future__ import annotations

from collections.abc import Sequence

from icpo_lite.core.types import Message


def with_system(messages: Sequence[Message], text: str | None) -> tuple[Message, ...]:
    """The turns with a system turn that says `text`, then what their own system turn says."""
    if not text:
        return tuple(messages)
    if messages and messages[0].role == "system":
        own = messages[0].content
        return (Message("system", f"{text}\n\n{own}"), *messages[1:])
    return (Message("system", text), *messages)
