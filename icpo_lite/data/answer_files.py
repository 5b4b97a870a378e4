"""Questions in one file and their answers in another, joined by id, as BFCL publishes them.

Beside `NAME.jsonl` the answers lie in `NAME_answers.jsonl`, or under the same name in a folder
`possible_answer`. Either of the two files names both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from icpo_lite.data.row_columns import NAMES
from icpo_lite.data.row_files import BadRowError, Found, Row, file_rows, stem_of

#: Columns that are an answer, and columns that are a question.
_ANSWERS = frozenset((*NAMES["answer"], *NAMES["calls"], *NAMES["tests"], *NAMES["query"]))
_QUESTIONS = frozenset((*NAMES["question"], *NAMES["messages"]))
_MARK = "_answers"
_FOLDER = "possible_answer"


def joined_rows(path: Path, split: str = "train") -> Iterator[Found]:
    """The rows of a file, with those of the file of answers that lies beside it."""
    questions = _questions_of(path) or path
    answers = _answers_of(questions)
    if answers is None:
        yield from file_rows(path, split)
        return
    rows = (f.row for f in file_rows(answers, split) if f.row is not None)
    known = {_id(row): row for row in rows if _id(row) is not None}
    for found in file_rows(questions, split):
        if found.row is None:
            yield found
        elif (answer := known.get(_id(found.row))) is None:
            error = BadRowError(f"an answer in {answers.name}", f"none with id {_id(found.row)!r}")
            yield Found(found.where, error=error)
        else:
            yield Found(found.where, {**answer, **found.row})


def _id(row: Row | None) -> Any:
    value = None if row is None else row.get("id")
    return value if isinstance(value, str | int) else None


def _answers_of(questions: Path) -> Path | None:
    """The file of answers beside a file of questions that holds none."""
    name = stem_of(questions)
    places = [
        questions.with_name(f"{name}{_MARK}{questions.name[len(name) :]}"),
        questions.parent / _FOLDER / questions.name,
    ]
    place = next((p for p in places if p.is_file()), None)
    if place is None or not _holds(questions, _QUESTIONS, but=_ANSWERS):
        return None
    return place if _holds(place, _ANSWERS, but=_QUESTIONS) else None


def _questions_of(answers: Path) -> Path | None:
    """The file of questions that a file of answers belongs to."""
    name = stem_of(answers)
    places = []
    if name.endswith(_MARK):
        end = answers.name[len(name) :]
        places.append(answers.with_name(f"{name.removesuffix(_MARK)}{end}"))
    if answers.parent.name == _FOLDER:
        places.append(answers.parent.parent / answers.name)
    place = next((p for p in places if p.is_file()), None)
    return place if place is not None and _answers_of(place) == answers else None


def _holds(path: Path, wanted: frozenset[str], *, but: frozenset[str]) -> bool:
    """Whether the first row has an id and one of these columns, and none of those."""
    first: Mapping[str, Any] = next((f.row for f in file_rows(path) if f.row is not None), {})
    return "id" in first and bool(wanted & first.keys()) and not but & first.keys()
