"""What a publisher says of a row: that something lacks, that nothing does, and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icpo_lite.core.types import Intent
from icpo_lite.data.cells import shown, text_of, unpacked
from icpo_lite.data.row_columns import Cells
from icpo_lite.data.row_files import BadRowError, LeftOutError

_YES = frozenset(("true", "yes", "y", "1"))
_NO = frozenset(("false", "no", "n", "0"))
#: Words that are a label by themselves, whatever their column is called. The last of each line are
#: When2Call's.
_WORDS: Mapping[str, Intent] = {
    **dict.fromkeys(
        (
            *("answerable", "sufficient", "complete", "unambiguous", "clear", "solvable"),
            *("direct", "tool_call"),
        ),
        Intent.COMPLETE,
    ),
    **dict.fromkeys(
        (
            *("unanswerable", "insufficient", "incomplete", "underspecified", "ambiguous"),
            *("vague", "unsolvable", "request_for_info"),
        ),
        Intent.UNDERSPECIFIED,
    ),
}
#: When2Call's third kind: nothing lacks that the user could tell, and no answer exists.
_NEITHER = frozenset(("cannot_answer", "unable_to_answer", "unclear"))
#: Keys of one missing point: what it is, and the question that asks for it.
_POINT = ("description", "point", "detail", "text", "name")
_ASKED = ("inquiry", "question", "clarifying_question")


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that a prompt lacks, and how a good question for it may be worded."""

    text: str
    asked: tuple[str, ...] = ()


def is_labelled(cells: Cells) -> bool:
    """Whether a row says of itself that something lacks or that nothing does."""
    if underspecified_columns(cells) or label_columns(cells) or kind_column(cells):
        return True
    if cells.column("missing") or sentences_of_a_case(cells):
        return True
    return turn_that_lacks(cells) is not None


def underspecified_columns(cells: Cells) -> list[str]:
    """The columns that hold a text from which something was taken out."""
    return [c for c in cells.present("underspecified") if not _is_label(cells.row[c])]


def label_columns(cells: Cells) -> list[str]:
    """The columns that say yes or no to whether something lacks."""
    found = [*cells.present("lacks"), *cells.present("answerable")]
    named = {c for n in ("lacks", "answerable") if cells.named(n) for c in cells.present(n)}
    return [c for c in dict.fromkeys(found) if c in named or _is_label(cells.row[c])]


def _is_label(value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return value in (0, 1)
    return isinstance(value, str) and value.strip().lower() in {*_YES, *_NO, *_WORDS}


def label_of(cells: Cells) -> tuple[Intent, str] | None:
    """What the row's labels say, and which column; None where it has none.

    Raises BadRowError where they contradict each other or cannot be read, LeftOutError where
    neither is the case.
    """
    if column := kind_column(cells):
        word = str(cells.use(column)).strip().lower()
        if word in _NEITHER:
            raise LeftOutError(f"a row that lacks something, or nothing, found {word!r}")
        return _WORDS[word], f"{column}: {word}"
    said: dict[Intent, str] = {}
    lacking = set(cells.present("lacks"))
    for column in label_columns(cells):
        value = cells.use(column)
        said[_read(value, column in lacking, column)] = f"{column}: {shown(value)}"
    if len(said) > 1:
        raise BadRowError("labels that agree", " and ".join(said.values()))
    return next(iter(said.items()), None)


def _read(value: Any, lacks: bool, column: str) -> Intent:
    word = str(int(value) if isinstance(value, bool | float) else value).strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    if word not in _YES | _NO:
        raise BadRowError(f"yes or no in {column}", shown(value))
    return Intent.UNDERSPECIFIED if (word in _YES) == lacks else Intent.COMPLETE


def kind_column(cells: Cells) -> str:
    """The column of When2Call's kinds, where it holds one of them."""
    value = cells.row.get("correct_answer")
    known = isinstance(value, str) and value.strip().lower() in {*_WORDS, *_NEITHER}
    return "correct_answer" if known and cells.column("functions") else ""


def call_of_kind(cells: Cells) -> Any:
    """When2Call's right call, which stands among the replies of all kinds; None elsewhere."""
    column = kind_column(cells)
    if not column or str(cells.row[column]).strip().lower() != "tool_call":
        return None
    replies = unpacked(cells.row.get("answers"))
    return replies.get("tool_call") if isinstance(replies, Mapping) else None


def text_before(cells: Cells) -> str:
    """When2Call's question as it was before a value was held out; "" elsewhere."""
    if not kind_column(cells) or "orig_question" not in cells.row:
        return ""
    return text_of(cells.use("orig_question"), "the question in orig_question")


def require_label(cells: Cells) -> None:
    """Raises BadRowError where nothing in a row speaks of whether something lacks.

    A row that has a column for what lacks, or for the text that lacks it, and leaves it empty lacks
    nothing; so does a case of one sentence. A label that is empty says neither.
    """
    pairs = any(cells.has(name) for name in ("missing", "underspecified"))
    alone = cells.column("complete") not in (None, "task")
    if not (pairs or alone or _tells_a_case(cells)):
        raise BadRowError(
            "a label in each row, since others of its file have one",
            "none",
            "label the row, or keep rows without labels in a file of their own",
        )


# ------------------------------------------------------------------------------------ what lacks


def points_of(cells: Cells) -> tuple[Point, ...]:
    """What the row says that its prompt lacks; empty where it does not say."""
    points: list[Point] = []
    for column in cells.present("missing"):
        value = unpacked(cells.use(column))
        listed = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        points += [_point(v, column) for v in listed]
    return tuple(point for point in points if point.text)


def _point(value: Any, column: str) -> Point:
    what = f"what lacks in {column}"
    if not isinstance(value, Mapping):
        return Point(text_of(value, what, numbers=False))
    text = next((text_of(value[k], what) for k in _POINT if value.get(k)), "")
    asked = tuple(text_of(value[k], what) for k in _ASKED if value.get(k))
    if not text and not asked:
        raise BadRowError(what, shown(value))
    return Point(text or asked[0], asked if text else ())


def sentences_of_a_case(cells: Cells) -> list[str]:
    """MediQ's sentences about a patient, of which the first is known at the beginning."""
    value = unpacked(cells.row.get("context"))
    if isinstance(value, list) and len(value) > 1 and all(isinstance(v, str) for v in value):
        return value if _tells_a_case(cells) else []
    return []


def _tells_a_case(cells: Cells) -> bool:
    return bool({"facts", "atomic_facts", "initial_info"} & cells.row.keys())


def turn_that_lacks(cells: Cells) -> int | None:
    """Of BFCL's conversations the turn that cannot be acted on: the one without calls.

    Raises LeftOutError where it is a function that lacks, and nothing that the user could tell.
    """
    turns, calls = cells.row.get("question"), cells.row.get("ground_truth")
    if not (isinstance(turns, list) and isinstance(calls, list) and len(turns) == len(calls) > 1):
        return None
    if not all(isinstance(t, list) for t in (*turns, *calls)):
        return None
    empty = [i for i, made in enumerate(calls) if not made]
    if "missed_function" in cells.row:
        raise LeftOutError(
            "a turn that lacks something of the user's, found one that lacks a function"
        )
    return empty[0] if len(empty) == 1 and empty[0] + 1 < len(calls) else None
