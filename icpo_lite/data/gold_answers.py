"""The gold answer of a row, in the form that its task's grader takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from icpo_lite.core.numbers import numbers
from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import TaskName
from icpo_lite.data import task_rows
from icpo_lite.data.cells import shown, text_of, unpacked
from icpo_lite.data.row_choices import Choices, choices_of, named_choice, right_choice
from icpo_lite.data.row_columns import Cells
from icpo_lite.data.row_files import BadRowError

_BOXED = re.compile(r"\\boxed\s*\{")


def boxed(text: str) -> str | None:
    """What stands in the last `\\boxed{…}` of a solution, braces matched."""
    start = next((m.end() for m in reversed(list(_BOXED.finditer(text)))), None)
    if start is None:
        return None
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[start:at].strip()
    return None


def guess_task(cells: Cells) -> TaskName:
    """The task that a row's columns speak of."""
    if cells.column("tests"):
        return "code"
    calls = cells.column("calls")
    value = None if calls is None else cells.row[calls]
    listed = bool(cells.column("functions")) or _lists_calls(value)
    if value is not None and listed and not isinstance(value, int | float):
        return "actions"
    if cells.column("query") and not cells.column("answer"):
        return "database"
    return "math"


def _lists_calls(value: Any) -> bool:
    """Whether a value is calls rather than an answer that goes by the same name."""
    found = unpacked(value)
    return isinstance(found, Mapping | list) and not (
        isinstance(found, list) and len(found) == 1 and not isinstance(found[0], Mapping | str)
    )


# ------------------------------------------------------------------------------------------- math

_AN_ANSWER, _A_NUMBER = "an answer", "a number in the answer"
_ONE_ANSWER = "one answer at the end of its working"
_ALONE = "one answer"
_RIGHT = "an answer that says which choice is right"
#: Reasons that speak of an answer in words, which is none for a grader of numbers, or of several.
NOT_GRADED = frozenset((_A_NUMBER, _ONE_ANSWER, _ALONE))
#: "The answer is 5", "Answer: 5": behind it a worked answer says what it comes to.
_STATED = re.compile(r"\banswer\b[^\n.?!:=]{0,40}?(?:\bis\b|[:=])\s*", re.IGNORECASE)
_MARKED = re.compile(r"####[ \t]*([^\n]*)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
#: Words from which an answer is one that was worked out, with other numbers in it than its own.
_PROSE = 6


def math_gold(cells: Cells, reply: str) -> tuple[str, str]:
    """(answer, solution): what follows `####`, or stands in the box, or the answer column."""
    if choices := choices_of(cells):
        return _choice(cells, reply, choices)
    given = _alone(cells.take("answer"))
    solution = cells.text("solution", "a solution in words")
    text = given or reply or solution
    for candidate in (text, solution):
        if gold := _marked(candidate):
            return gold, solution or candidate
    if not text:
        raise BadRowError(_AN_ANSWER, "none", "name its column with `columns`")
    if not re.search(r"\d|\\", text) and not numbers(text):
        raise BadRowError(_A_NUMBER, shown(text))
    if len(_WORD.findall(text)) < _PROSE and "\n" not in text:
        return text, solution
    return _of_prose(text), solution or text


def _alone(value: Any) -> str:
    """The text of an answer, which a list may give several times in other words and not twice."""
    found = unpacked(value)
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        found = found["text"]
    if (
        isinstance(found, list)
        and len(found) > 1
        and not any(isinstance(v, Mapping) for v in found)
    ):
        said = [text_of(v, _AN_ANSWER) for v in found]
        values = {tuple(n.value for n in numbers(text)) or text.casefold() for text in said}
        if len(values) > 1:
            raise BadRowError(
                _ALONE,
                shown(value),
                "write one answer, or the expression that a reply should end in",
            )
        return said[0]
    return text_of(value, _AN_ANSWER)


def _choice(cells: Cells, reply: str, choices: Choices) -> tuple[str, str]:
    """The words of the right choice; a chat's reply or the solution names it where nothing else
    does.
    """
    right = right_choice(cells, choices, _stated)
    solution = cells.text("solution", "a solution in words")
    if not right and (reply or solution):
        right = named_choice(_stated(reply or solution) or reply, choices)
    if not right:
        raise BadRowError(_RIGHT, "none", "name its column: columns: {choice: …}, counted from 0")
    return right, solution or reply


def _stated(text: str) -> str | None:
    """What a worked answer marks, boxes or states."""
    if gold := _marked(text):
        return gold
    stated = [m.end() for m in _STATED.finditer(text)]
    return text[stated[-1] :].split("\n")[0] if stated else None


def _marked(text: str) -> str | None:
    """What the last `####` of a text marks, on its line or the next, or its last box."""
    if "####" in text:
        found = text.rpartition("####")[2].strip().split("\n")[0].strip()
        if found:
            return found
    return boxed(text)


def _of_prose(text: str) -> str:
    """What a worked answer comes to: what it states, or the one number of its last sentence."""
    stated = [m.end() for m in _STATED.finditer(text)]
    said = text[stated[-1] :].split("\n")[0] if stated else sentences(text)[-1].text
    found = {n.value: n.surface for n in numbers(said) if n.kind != "ordinal"}
    if len(found) == 1:
        return next(iter(found.values()))
    raise BadRowError(
        _ONE_ANSWER,
        shown(said.strip()),
        "name the column that holds the answer alone, or mark it as `#### 5`",
    )


# ------------------------------------------------------------------ code, function calls, queries


def code_gold(cells: Cells, reply: str) -> tuple[dict[str, Any], str]:
    """The tests that a program must pass, with what runs before them."""
    return _read(task_rows.code_gold, cells, reply, cells.row)


def actions_gold(cells: Cells, reply: str) -> tuple[Any, str]:
    """The calls that are allowed."""
    return _read(task_rows.actions_gold, cells, reply)


def call_gold(call: Any) -> tuple[Any, str]:
    """The calls that a row gives outside of its columns for calls."""
    try:
        return task_rows.actions_gold({"calls": call}.get, "")
    except task_rows.TaskRowError as error:
        raise BadRowError(*map(str, error.args)) from None


def database_gold(cells: Cells, reply: str) -> tuple[str, str]:
    """The gold query."""
    return _read(task_rows.database_gold, cells, reply)


def _read(read: Callable[..., Any], cells: Cells, *more: Any) -> Any:
    try:
        return read(cells.take, *more)
    except task_rows.TaskRowError as error:
        raise BadRowError(*map(str, error.args)) from None


def open_gold(cells: Cells, reply: str) -> tuple[str | None, str]:
    """Of a task that nothing here grades: the answer that somebody gave, for the reader alone."""
    given = cells.text("answer", _AN_ANSWER) or reply
    return None, given


#: Task → what reads (answer, solution) off a row and a chat's reply.
GOLD: Mapping[TaskName, Callable[[Cells, str], tuple[Any, str]]] = {
    "math": math_gold,
    "code": code_gold,
    "actions": actions_gold,
    "database": database_gold,
    "open": open_gold,
}
