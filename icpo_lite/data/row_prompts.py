"""What a row asks: its question, and the turns before it, out of all columns that hold words.

A row may spread what the user said over columns (Alpaca's `instruction` and `input`, a passage
beside its question, a system prompt, choices to choose from, a history of turns) or hold a chat.
All of it reaches the prompt. Where two columns look like the question and say different things,
the row is refused and `columns` decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from icpo_lite.core.types import Message, TaskName
from icpo_lite.data.cells import shown, text_of, unpacked
from icpo_lite.data.chats import Chat, is_chat, merged, read_chat
from icpo_lite.data.row_choices import choices_of
from icpo_lite.data.row_columns import NAMES, Cells, listing
from icpo_lite.data.row_files import BadRowError

_QUESTION = "a question"
_SAY_WHICH = "say which is meant: columns: {question: …}"
#: Of the columns with words around a question those that follow it.
_BEHIND = ("input",)
#: Whole training texts, question and answer in one, go by this name beside their parts.
_RENDERED = "text"


def read_prompt(cells: Cells, task: TaskName) -> Chat:
    """The question of a row with the turns before it, and a chat's answer to it.

    Raises BadRowError where there is none, or where words of the row would not reach the prompt.
    """
    column = cells.column("question")
    chat = _chat(cells)
    if column is None:
        if chat is None:
            raise BadRowError(_QUESTION, _listing(cells), "name its column with `columns`")
        return around(cells, chat, task)
    value = unpacked(cells.use(column))
    as_chat = is_chat(value, cells.keys)
    own = read_chat(value, cells.keys) if as_chat else Chat(question_text(value))
    own = _beside_others(cells, column, own)
    return around(cells, own if chat is None else _joined(own, chat), task, column)


def question_text(value: Any) -> str:
    """The words of a question. Raises BadRowError for what is none, such as a lone number."""
    text = text_of(value, _QUESTION, numbers=False)
    if not text:
        raise BadRowError(_QUESTION, "an empty one")
    return text


def around(cells: Cells, chat: Chat, task: TaskName, column: str = "") -> Chat:
    """A question with the row's system turn and history before it, its context and choices by it.

    column: the one that the question stands in, which is no context of its own.
    """
    before, behind = _context(cells, chat, task, column)
    parts = [*before, chat.question, *behind]
    if choices := choices_of(cells):
        parts.append(choices.lines())
    opening = [*_system(cells), *_history(cells), *chat.opening]
    systems = [m for m in opening if m.role == "system"]
    rest = [m for m in opening if m.role != "system"]
    return Chat("\n\n".join(parts), tuple(merged([*systems, *rest])), chat.reply)


def _listing(cells: Cells) -> str:
    return listing(cells.row)


def _chat(cells: Cells) -> Chat | None:
    found: Chat | None = None
    for column in cells.present("messages"):
        value = unpacked(cells.use(column))
        if not is_chat(value, cells.keys):
            raise BadRowError("a list of turns in the messages", shown(value))
        chat = read_chat(value, cells.keys)
        if found is not None and found != chat:
            raise BadRowError("one list of messages", f"another in {column}", _SAY_WHICH)
        found = chat
    return found


def _joined(own: Chat, chat: Chat) -> Chat:
    """A question that stands beside a chat, which must be the chat's own."""
    if own.opening in ((), chat.opening) and _says(chat, own.question):
        return chat
    raise BadRowError("one question", "one beside messages that do not hold it", _SAY_WHICH)


def _says(chat: Chat, text: str) -> bool:
    """Whether the user says a text somewhere in a chat."""
    return any(text in m.content for m in chat.opening if m.role == "user") or text in chat.question


def _beside_others(cells: Cells, column: str, own: Chat) -> Chat:
    """The question with what other columns of such a name say."""
    if cells.named("question"):
        return own
    question = own.question
    for other in (c for c in cells.present("question") if c != column):
        name = other.strip().lower()
        if name in NAMES["context"]:
            continue  # which `_context` reads
        value = unpacked(cells.row[other])
        if is_chat(value, cells.keys):
            cells.use(other)
            return _joined(replace(own, question=question), read_chat(value, cells.keys))
        text = question_text(value)
        if _says(replace(own, question=question), text):
            pass
        elif question in text:
            question = question if name == _RENDERED else text
        elif name in ("instruction", _RENDERED):
            question = f"{text}\n\n{question}"
        else:
            raise BadRowError("one question", f"different ones in {column} and {other}", _SAY_WHICH)
        cells.use(other)
    return replace(own, question=question)


def _context(cells: Cells, chat: Chat, task: TaskName, own: str) -> tuple[list[str], list[str]]:
    """The words that belong before and behind the question."""
    before: list[str] = []
    behind: list[str] = []
    if task == "database" and not cells.named("context"):
        return before, behind  # there a context is the schema, which the grader's columns hold
    for column in cells.present("context"):
        if column == own:
            continue
        text = text_of(cells.use(column), f"words in {column}")
        if text and text not in chat.question:
            (behind if column.strip().lower() in _BEHIND else before).append(text)
    return before, behind


def _system(cells: Cells) -> list[Message]:
    texts = [text_of(cells.use(c), "words in the system turn") for c in cells.present("system")]
    return [Message("system", text) for text in dict.fromkeys(texts) if text]


def _history(cells: Cells) -> list[Message]:
    """Earlier turns: pairs of question and answer, or turns as in a chat."""
    value = unpacked(cells.take("history"))
    if not value:
        return []
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(_is_pair(v) for v in value):
            return [turn for pair in value for turn in _pair(pair)]
        if is_chat(value, cells.keys):
            past = read_chat(value, cells.keys)
            if past.reply:
                said = (Message("user", past.question), Message("assistant", past.reply))
                return [*past.opening, *said]
    raise BadRowError("a history of questions, each with its answer", shown(value))


def _pair(pair: Sequence[Any]) -> tuple[Message, Message]:
    asked, answered = (text_of(v, "the words of each turn") for v in pair)
    return Message("user", asked), Message("assistant", answered)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and not isinstance(value[0], Mapping)
