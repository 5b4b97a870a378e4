"""Turns of a chat put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from icpo_lite.core.types import Message


def with_opening(messages: Sequence[Message], opening: Message | None) -> tuple[Message, ...]:
    """The turns behind the one that opens the chat; a system turn of their own ends that one."""
    if opening is None:
        return tuple(messages)
    if messages and messages[0].role == "system":
        told = "\n\n".join(filter(None, (opening.content, messages[0].content)))
        return (replace(opening, content=told), *messages[1:])
    return (opening, *messages)
