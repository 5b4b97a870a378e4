"""What columns are called: our names, the names that others give them, and a row read by ours.

`columns` of a recipe maps our names to a row's where they differ. Names are compared without
case, and blanks and hyphens count as underscores.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from icpo_lite.core.errors import DataError
from icpo_lite.data.cells import text_of
from icpo_lite.data.chats import CONTENT_KEYS, ROLE_KEYS, TurnKeys
from icpo_lite.data.row_files import BadRowError, Row

#: Our name of a column → the names it goes by, first match first.
NAMES: Mapping[str, tuple[str, ...]] = {
    "question": (
        *("question", "problem", "prompt", "instruction", "query_text", "question_stem", "input"),
        "text",
    ),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat"),
    "context": (
        "input",
        "context",
        "passage",
        "paragraph",
        "body",
        "background",
        "article",
        "story",
    ),
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history",),
    "choices": ("choices", "options"),
    # Which of them is right, by its letter or its place.
    "choice": (
        *("answerkey", "answer_key", "answer_idx", "answer_index", "answer_label"),
        *("correct_option", "correct_choice", "correct_idx", "correct_index", "correct"),
        *("correct_answer_idx", "correct_answer_index", "gold_idx", "gold_index"),
    ),
    "answer": (
        *("answer", "final_answer", "target", "expected_answer", "completion", "response"),
        *("output", "ground_truth", "answers", "reward_model", "gold", "gold_answer"),
        *("reference_answer", "expected_output", "correct_answer", "ideal"),
    ),
    "solution": ("solution", "rationale", "reasoning", "canonical_solution", "code"),
    "id": ("id", "problem_id", "task_id", "unique_id", "question_id", "uuid"),
    "tests": ("test_list", "tests", "test", "input_output", "test_cases"),
    "setup": ("test_setup_code", "test_imports", "setup"),
    "entry_point": ("entry_point",),
    "calls": ("possible_answer", "ground_truth"),
    "functions": ("function", "functions", "tools"),
    "query": ("query", "sql"),
    "shards": ("shards",),
    # Of a turn of a chat, not of a row.
    "role": ROLE_KEYS,
    "content": CONTENT_KEYS,
    # What a publisher says of a row: the text that lacks something beside the whole one, or
    # whether something lacks, and what (data/labelled_rows.py).
    "complete": (
        *("ori_question", "original_question", "complete_question", "full_question", "complete"),
        "task",
    ),
    "underspecified": (
        *("insufficient_question", "degraded_question", "underspecified_question"),
        *("incomplete_question", "ambiguous_question", "vague_question", "underspecified"),
    ),
    "lacks": (
        *("vague", "is_vague", "require_clarification", "requires_clarification"),
        *("needs_clarification", "need_clarification", "clarification_needed"),
        *("ambiguous", "is_ambiguous", "underspecified", "is_underspecified", "insufficient"),
        *("is_insufficient", "unanswerable", "is_unanswerable", "is_impossible", "incomplete"),
    ),
    "answerable": (
        *("answerable", "is_answerable", "sufficient", "is_sufficient", "solvable"),
        *("is_solvable", "unambiguous", "complete", "is_complete"),
    ),
    "missing": (
        *("required_points", "missing", "missing_details", "missing_points", "missing_information"),
        *("missing_info", "missing_facts", "held_out_param"),
        *("clarifying_question", "clarification_question", "clarifying_questions"),
    ),
}
#: A column that is none of ours and whose name speaks of asking: a label that must not be lost.
_LIKE_A_LABEL = re.compile(
    r"(?:^|_)(?:un)?(?:answerab|solvab|ambigu)|clarif|underspecif|insufficien|degraded|vague"
    r"|incomplete|(?:^|_)missing(?:_|$)"
)


def check_columns(columns: Mapping[str, str]) -> None:
    """Raises DataError for a mapping whose left side is none of our names."""
    for name in columns:
        if name not in NAMES:
            raise DataError(
                f"columns: expected our names ({', '.join(NAMES)}) on the left, found {name!r}; "
                "write {question: their_name}"
            )


class Cells:
    """One row read by our names; keeps track of the columns that were used."""

    def __init__(self, row: Row, columns: Mapping[str, str]) -> None:
        self.row = row = _unfolded(row)
        self.used: set[str] = set()
        self._columns = columns
        self._folded = {_folded(name): name for name in reversed(list(row))}
        self._folded |= {name: name for name in row}

    @property
    def keys(self) -> TurnKeys:
        """The keys of a turn of a chat."""
        role, content = self._columns.get("role"), self._columns.get("content")
        return TurnKeys((role,) if role else ROLE_KEYS, (content,) if content else CONTENT_KEYS)

    def column(self, name: str) -> str | None:
        """The row's own name of a column of ours, where it holds something."""
        return next(iter(self.present(name)), None)

    def present(self, name: str) -> list[str]:
        """The row's columns that go by one of our names and hold something, first match first."""
        if name in self._columns:
            column = self._columns[name]
            if column not in self.row:
                raise BadRowError(f"a column {column!r}", listing(self.row), "correct `columns`")
            return [column]
        mapped = {self._columns[n] for n in self._columns if n != name}
        found = (self._folded.get(n) for n in NAMES[name])
        return [
            c for c in found if c is not None and c not in mapped and self.row[c] not in (None, "")
        ]

    def has(self, name: str) -> bool:
        """Whether the row has such a column, if only to say null."""
        return name in self._columns or any(n in self._folded for n in NAMES[name])

    def take(self, name: str) -> Any:
        """The value of a column of ours, None where there is none."""
        column = self.column(name)
        return None if column is None else self.use(column)

    def use(self, column: str) -> Any:
        """The value of the row's own column, which then does not travel along."""
        self.used.add(column)
        return self.row[column]

    def text(self, name: str, what: str) -> str:
        """The text of a column of ours, "" where there is none."""
        return text_of(self.take(name), what)

    def words(self, name: str) -> str:
        """The text of a column of ours, named after it in messages."""
        return self.text(name, "an answer" if name == "answer" else f"a {name}")

    def named(self, name: str) -> bool:
        """Whether `columns` says which column this is."""
        return name in self._columns

    def unread_label(self) -> str:
        """A column that speaks of asking and that nothing here has read; "" without one."""
        for column in self.row:
            if column in self.used or self.row[column] is None:
                continue
            if _LIKE_A_LABEL.search(_folded(str(column))):
                return str(column)
        return ""


def _unfolded(row: Row) -> Row:
    """A row whose question is a stem with its choices (ARC's files), with a column for each."""
    asked = row.get("question")
    if not (isinstance(asked, Mapping) and {"stem", "choices"} <= asked.keys()):
        return row
    return {**row, "question": asked["stem"], "choices": asked["choices"]}


def _folded(name: Any) -> str:
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


def listing(row: Row) -> str:
    """The columns of a row, in a message."""
    return f"the columns {', '.join(map(str, itertools.islice(row, 12)))}"
