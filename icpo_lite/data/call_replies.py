"""Chats that offer functions and end as a model should: by a call, a question, or neither.

When2Call's training files say what lacks by their replies alone: `messages` whose last turn is the
right reply, or `chosen_response` beside `rejected_response`. A call stands between `<TOOLCALL>`
marks. What such a row says becomes what the test files of the set say in columns of their own
(`correct_answer`, `answers`, a question), so that one reader serves both. A reply that both asks
and declines is neither, and is left out by that reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from icpo_lite.core.questions import questions
from icpo_lite.core.sentences import sentences
from icpo_lite.data.cells import text_of
from icpo_lite.data.row_files import BadRowError, Row

_CALLS = re.compile(r"^\s*<TOOLCALL>(.*)</TOOLCALL>\s*$", re.DOTALL)
_DECLINES = re.compile(
    r"\b(?:sorry|apolog\w*|unable|cannot|can['’]t|not able|unfortunately|do(?:n['’]t| not) have"
    r"|beyond my|outside (?:of )?my)\b",
    re.IGNORECASE,
)
_COURTESY = re.compile(r"\b(?:anything else|help you with|assist you with)\b", re.IGNORECASE)
_CHOSEN, _REJECTED = "chosen_response", "rejected_response"
_OF_REPLIES = (_CHOSEN, _REJECTED, "chosen_reward", "rejected_reward")


def as_columns(row: Row) -> Row:
    """The row with columns for what its right reply says; the same row where that says nothing."""
    turns = row.get("messages")
    if not row.get("tools") or not isinstance(turns, list) or "correct_answer" in row:
        return row
    given = row.get(_CHOSEN)
    if given is None:
        if len(turns) < 2 or not _by_assistant(turns[-1]):
            return row
        given, turns = turns[-1], turns[:-1]
    try:
        reply = text_of(given, "a reply")
    except BadRowError:
        return row
    told = _told(reply) or ({"correct_answer": "unclear"} if _CHOSEN in row else None)
    if told is None:
        return row
    kept = {name: value for name, value in row.items() if name not in _OF_REPLIES}
    return {**kept, "messages": turns, **told}


def _by_assistant(turn: Any) -> bool:
    return isinstance(turn, Mapping) and turn.get("role") == "assistant"


def _told(reply: str) -> dict[str, Any] | None:
    """The columns that say what a reply is; None for an answer in words."""
    if marked := _CALLS.match(reply):
        calls = _calls(marked[1])
        kind = "tool_call" if calls else "unclear"
        return {"correct_answer": kind, "answers": {"tool_call": calls}}
    asked = _asked(reply)
    declines = _DECLINES.search(reply) is not None
    if declines:
        return {"correct_answer": "unclear" if asked else "cannot_answer"}
    return {"correct_answer": "request_for_info", "clarifying_question": asked} if asked else None


def _calls(text: str) -> list[Any]:
    """The calls of a list as JSON, each an object or the text of one; [] of what is none."""
    try:
        found = json.loads(text)
        listed = found if isinstance(found, list) else [found]
        calls = [json.loads(call) if isinstance(call, str) else call for call in listed]
    except (ValueError, RecursionError):
        return []
    named = all(isinstance(call, Mapping) and call.get("name") for call in calls)
    return calls if named else []


def _asked(reply: str) -> str:
    """What a reply asks for in its last sentence; "" where that asks nothing."""
    told = [s.text.strip() for s in sentences(reply) if s.text.strip()]
    last = told[-1] if told else ""
    return last if questions(last) and not _COURTESY.search(last) else ""
