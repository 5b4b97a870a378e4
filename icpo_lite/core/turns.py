"""Turns of a chat put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from icpo_lite.core.types import Intent, Message, Prompt, Turn


def with_opening(messages: Sequence[Message], opening: Message | None) -> tuple[Message, ...]:
    """The turns behind the one that opens the chat; a system turn of their own ends that one."""
    if opening is None:
        return tuple(messages)
    if messages and messages[0].role == "system":
        told = "\n\n".join(filter(None, (opening.content, messages[0].content)))
        return (replace(opening, content=told), *messages[1:])
    return (opening, *messages)


def user_view(messages: Sequence[Message], opening: int = 0) -> tuple[Message, ...]:
    """A chat without the assistant's replies: all that the user has said, as one turn.

    opening: turns that come before the user's first and stay as they are; system turns do anyway.
    """
    first = max(opening, next((i for i, m in enumerate(messages) if m.role != "system"), 0))
    said = [m for m in messages[first:] if m.role == "user"]
    if not said:
        return tuple(messages)
    whole = replace(said[0], content=" ".join(m.content for m in said))
    return (*messages[:first], whole)


def prompt_after(prompt: Prompt, turns: Sequence[Turn]) -> Prompt:
    """A prompt as the turns after it leave it: the chat so far, and what of it is still missing.

    It calls for a question until the last removed shard has been told; where nobody said what
    lacks (certificate `given`), no turn can tell it.
    """
    if not turns:
        return prompt
    told = {shard_id for turn in turns for shard_id in turn.told}
    left = tuple(s for s in prompt.removed if s.shard_id not in told)
    lacks = bool(left) or (prompt.intent is Intent.UNDERSPECIFIED and not prompt.removed)
    return replace(
        prompt,
        messages=(*prompt.messages, *(Message(t.role, t.content) for t in turns)),
        intent=Intent.UNDERSPECIFIED if lacks else Intent.COMPLETE,
        removed=left,
        targets=prompt.targets if lacks else (),
    )
