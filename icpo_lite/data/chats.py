"""A chat in a row → the turns before its last question, that question, and the answer to it.

OpenAI's form (`role`, `content`), ShareGPT's (`from`, `value`), and lists of turns inside a list,
as BFCL writes them. The whole context before the last answer is the prompt: a system turn, earlier
questions and answers. Turns of one role that follow one another become one, since many chat
templates want them to alternate; nothing of them is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icpo_lite.core.types import Message, Role
from icpo_lite.data.cells import shown, text_of
from icpo_lite.data.row_files import BadRowError

#: What a speaker is called → the role that chat templates know.
ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "customer", "student"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatgpt", "ai", "agent"), "assistant"),
}
ROLE_KEYS = ("role", "from", "speaker")
CONTENT_KEYS = ("content", "value", "text", "message")


@dataclass(frozen=True, slots=True)
class Chat:
    """opening: the turns before the last question. reply: the answer that follows it, or ""."""

    question: str
    opening: tuple[Message, ...] = ()
    reply: str = ""


@dataclass(frozen=True, slots=True)
class TurnKeys:
    """The keys of a turn that may hold its speaker and its words, first match first."""

    role: tuple[str, ...] = ROLE_KEYS
    content: tuple[str, ...] = CONTENT_KEYS

    def speaker(self, turn: Mapping[str, Any]) -> Any:
        return next((turn[k] for k in self.role if k in turn), None)

    def words(self, turn: Mapping[str, Any]) -> Any:
        return next((turn[k] for k in self.content if k in turn), None)


def is_chat(value: Any, keys: TurnKeys) -> bool:
    """Whether a cell is a list of turns and not of content parts."""
    turns = _flat(value)
    return bool(turns) and any(keys.speaker(t) is not None for t in turns)


def _flat(value: Any) -> list[Mapping[str, Any]]:
    """The turns of a list, or of the lists in it; [] for what is no list of dictionaries."""
    if isinstance(value, Mapping):
        return [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return []
    inner = [t for v in value for t in (v if isinstance(v, list | tuple) else [v])]
    return inner if all(isinstance(t, Mapping) for t in inner) else []


def read_chat(value: Any, keys: TurnKeys) -> Chat:
    """The chat of a cell. Raises BadRowError for turns that no prompt can be made of."""
    turns = merged([_message(turn, keys) for turn in _flat(value)])
    said = [m for m in turns if m.content]
    if any(m.role == "system" for m in said[1:]):
        raise BadRowError(
            "a system turn at the beginning alone", "one between others", "move it to the front"
        )
    if not any(m.role == "user" for m in said):
        raise BadRowError("a user turn in the messages", f"{len(said)} turns without one")
    reply = said.pop().content if said[-1].role == "assistant" else ""
    if said[-1].role != "user":
        raise BadRowError("a user turn before the answer", f"a {said[-1].role} turn")
    return Chat(said[-1].content, tuple(said[:-1]), reply)


def _message(turn: Mapping[str, Any], keys: TurnKeys) -> Message:
    speaker = keys.speaker(turn)
    role = ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None:
        raise BadRowError(
            f"turns by {', '.join(('system', 'user', 'assistant'))} or their other names",
            f"one by {shown(speaker)}",
            "leave such turns out, or name the keys of a turn with columns: {role: …, content: …}",
        )
    words = keys.words(turn)
    if words is None:
        raise BadRowError("the words of each turn", f"none in one by the {role}")
    text = text_of(words, "the words of each turn", numbers=role != "system")
    if not text and role == "user":
        raise BadRowError("the words of each turn", "an empty one by the user")
    return Message(role, text)


def merged(turns: Sequence[Message]) -> list[Message]:
    """The turns with neighbours of one role as one."""
    out: list[Message] = []
    for turn in turns:
        if out and out[-1].role == turn.role:
            texts = filter(None, (out[-1].content, turn.content))
            out[-1] = Message(turn.role, "\n\n".join(texts))
        elif turn.content:
            out.append(turn)
    return out
