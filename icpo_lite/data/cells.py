"""One cell of a row → text: what is a list, a dictionary or a number is read, never printed.

A cell may be text; a number; a list of one of these; a list of content parts; a dictionary around
one of these (`{"text": …}`, a chat completion); or any of them written as JSON or as Python writes
it, as tables do that know text alone. What is none of these raises BadRowError: Python's own
spelling of a list must never stand in a prompt.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from icpo_lite.data.row_files import BadRowError

#: Keys of a dictionary under which its text stands, first match first.
_INSIDE = (
    *("text", "content", "value", "message", "choices", "answer", "final_answer", "ground_truth"),
    *("output", "completion", "response"),
)
#: Kinds of content parts that hold text, and keys that speak about a part.
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_DEEPEST = 6


def text_of(value: Any, what: str, *, numbers: bool = True) -> str:
    """The text of a cell, "" for null. what: names it in messages ("an answer").

    numbers: whether a number counts as its digits. Raises BadRowError for what holds no text, or
    more than text.
    """
    return _read(unpacked(value), what, numbers, _DEEPEST)


def unpacked(value: Any) -> Any:
    """A cell whose text is JSON, or Python's spelling, of a structure, as that structure.

    "[0, 1)" and "[2, 5]" stay text: they are intervals, and "[5.0]" is a list of one. So does code
    stay, which does not parse.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        return found if _holds_text(found) or _is_one_number(found) else value
    return value


def _is_one_number(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1 and type(value[0]) in (int, float)


def _holds_text(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    if isinstance(value, list | tuple):
        return any(isinstance(v, str | Mapping) or _holds_text(v) for v in value)
    return False


def _read(value: Any, what: str, numbers: bool, depth: int) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or depth == 0:
        raise BadRowError(what, shown(value))
    if isinstance(value, int | float | Decimal):
        if not numbers:
            raise BadRowError(what, f"the number {shown(value)}")
        return _number(value, what)
    if isinstance(value, Mapping):
        return _from_mapping(value, what, numbers, depth)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return _from_list(value, what, numbers, depth)
    raise BadRowError(what, shown(value))


def _number(value: float | Decimal, what: str) -> str:
    """Digits alone: 72.0 is 72, and 1e-7 is 0.0000001."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise BadRowError(what, f"the number {value}")
    exact = Decimal(str(value))
    return str(int(exact)) if exact == exact.to_integral_value() else format(exact, "f")


def _from_mapping(value: Mapping[str, Any], what: str, numbers: bool, depth: int) -> str:
    kind = value.get("type")
    if isinstance(kind, str) and kind not in _TEXT_PARTS and "text" not in value:
        raise BadRowError(what, f"a part of the kind {kind!r}")
    for key in _INSIDE:
        if value.get(key) is not None:
            return _read(value[key], what, numbers, depth - 1)
    raise BadRowError(what, shown(value))


def _from_list(value: Sequence[Any], what: str, numbers: bool, depth: int) -> str:
    """The text of a list of one, or of parts one behind the other; "" of an empty list."""
    if not value:
        return ""
    if len(value) == 1:
        return _read(value[0], what, numbers, depth - 1)
    parts = isinstance(value, list | tuple) and all(_is_part(v) for v in value)
    if not parts:
        raise BadRowError(what, shown(value))
    text = ""
    for part in value:
        piece = part if isinstance(part, str) else _raw(part, what)
        parted = not text or not piece or text[-1:].isspace() or piece[:1].isspace()
        text += piece if parted else f"\n{piece}"
    return text.strip()


def _is_part(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, Mapping) and "role" not in value)


def _raw(part: Mapping[str, Any], what: str) -> str:
    """The text of a part with the blanks around it, which may part it from the next."""
    text = part.get("text")
    return text if isinstance(text, str) else _read(part, what, False, 2)


def shown(value: Any) -> str:
    """A cell in a message: as JSON, cut short."""
    if value in ("", None):
        return "an empty one" if value == "" else "none"
    try:
        text = json.dumps(value, ensure_ascii=False, default=lambda v: type(v).__name__)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}…"
