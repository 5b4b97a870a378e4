"""Files and hub data sets → Problems, one row at a time.

What files there are: `row_files.py`. What rows ask: `row_prompts.py`, `chats.py`. Shapes of rows:

    math      question + answer; GSM8K (`#### 72`), MATH (`\\boxed{72}`), prompt/answer columns,
              Alpaca (`instruction`, `input`, `output`), chats whose last turn is the answer
              (`messages`, ShareGPT's `conversations`). `Problem.answer` is a string.
    code      MBPP (`text`, `test_list`), HumanEval (`prompt`, `test`, `entry_point`).
              `Problem.answer` is {"tests": [source, …], "setup": source, "entry_point": name}.
    actions   BFCL (`question`, `function`, `possible_answer` or `ground_truth`, which may lie in
              a file of its own). `Problem.answer` is the list of allowed calls; the functions are
              in `Problem.columns["functions"]`.
    database  `question`, `query` (the gold SQL), further columns for the grader.
    open      a question whose answer nothing here grades; `Problem.answer` is None.
    any       Lost in Conversation's instructions (`data/lost_in_conversation.py`); what has no
              grader here is counted and left out, whatever `on_bad_row` says.

`columns` maps our names (`row_columns.NAMES`) to the row's names where they differ. A row that
cannot be used raises DataError with file and line, or is counted and left out (`on_bad_row: skip`);
a row that says of itself whether something lacks belongs to `labelled_rows.read_labelled`. Memory
does not grow with the file.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from icpo_lite.core.errors import DataError
from icpo_lite.core.paths import at_home
from icpo_lite.core.types import Problem, Shard, TaskName
from icpo_lite.data import lost_in_conversation as lic
from icpo_lite.data.answer_files import joined_rows
from icpo_lite.data.call_replies import as_columns
from icpo_lite.data.cells import shown, text_of, unpacked
from icpo_lite.data.gold_answers import GOLD, boxed, guess_task
from icpo_lite.data.hub_rows import HUB_NAME, hub_rows
from icpo_lite.data.row_choices import choices_of
from icpo_lite.data.row_columns import NAMES, Cells, check_columns
from icpo_lite.data.row_files import (
    MAX_ROW_BYTES,
    SUFFIXES,
    BadRowError,
    Found,
    LeftOutError,
    Row,
    is_data_file,
    stem_of,
)
from icpo_lite.data.row_labels import is_labelled
from icpo_lite.data.row_prompts import read_prompt
from icpo_lite.data.task_rows import (
    TaskRowError,
    database_columns,
    functions,
    with_prompt,
    with_signature,
)

__all__ = ["MAX_ROW_BYTES", "NAMES", "OnBadRow", "boxed", "read_problems", "source_rows"]

OnBadRow = Literal["error", "skip"]


def read_problems(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    task: TaskName | None = None,
    split: str = "train",
    config: str | None = None,
    limit: int | None = None,
    on_bad_row: OnBadRow = "error",
    bad_rows: Counter[str] | None = None,
) -> Iterator[Problem]:
    """The problems of a file, or of a split of a hub data set, in order.

    task: None reads it off the columns. split and config: for the hub, and for a JSON object that
    holds a list a split. bad_rows: counts the rows left out by reason. Raises DataError for a
    missing source, for a bad row, and when no problem is left.
    """
    if task is not None and task not in get_args(TaskName):
        raise DataError(f"expected a task of {', '.join(get_args(TaskName))}, found {task!r}")
    check_columns(columns or {})
    bad = Counter[str]() if bad_rows is None else bad_rows
    path = at_home(source)
    reader = _RowReader(
        columns or {}, task, name_of(source), path.parent if path.is_file() else None
    )
    count = 0
    for number, found in enumerate(source_rows(source, split, config), start=1):
        if limit is not None and count >= limit:
            break
        try:
            problem = reader.problem(found, number)
        except LeftOutError as error:
            bad[str(error)] += 1
            continue
        except BadRowError as error:
            if on_bad_row == "error":
                raise DataError(f"{found.where}: {error}") from None
            bad[error.reason] += 1
            continue
        count += 1
        yield problem
    if not count:
        raise nothing_found(source, bad)


def source_rows(
    source: str | Path, split: str = "train", config: str | None = None
) -> Iterator[Found]:
    """The rows of a file or of a split of a hub data set, in order, with their places."""
    for found in _rows(source, split, config):
        yield found if found.row is None else replace(found, row=as_columns(found.row))


def _rows(source: str | Path, split: str, config: str | None) -> Iterator[Found]:
    path = at_home(source)
    if path.is_file():
        return joined_rows(path, split)
    name = str(source)
    if is_data_file(name) or path.is_dir() or not HUB_NAME.fullmatch(name):
        found = "a folder" if path.is_dir() else "none"
        raise DataError(
            f"expected a data file at {name}, found {found}; give a {', '.join(SUFFIXES)} file "
            "or a hub name such as openai/gsm8k"
        )
    return hub_rows(name, split, config)


def name_of(source: str | Path) -> str:
    """What ids of rows without one begin with: the file's name without its format."""
    return stem_of(Path(str(source)))


def nothing_found(source: str | Path, bad: Counter[str]) -> DataError:
    """The error of a source of which no row is left."""
    reasons = ", ".join(f"{n} × expected {reason}" for reason, n in bad.most_common())
    return DataError(
        f"expected problems in {source}, found none"
        + (f" ({reasons}); map its columns with `columns`" if reasons else "; it is empty")
    )


class Seen:
    """The ids of a source's rows, each of which may come once."""

    def __init__(self, stem: str) -> None:
        self._stem = stem
        self._seen: set[bytes] = set()

    def own(self, value: Any, number: int) -> str:
        """The row's own id, or one made of the source's name and the row's number."""
        if value is None:
            return f"{self._stem}-{number}"
        name = text_of(value, "an id of letters or digits")
        key = hashlib.blake2b(name.encode(), digest_size=8).digest()
        if key in self._seen:
            raise BadRowError(
                "each id once", f"{value!r} again", "give each row its own, or leave the column out"
            )
        self._seen.add(key)
        return name

    def name(self, value: Any, number: int) -> str:
        """The same with the source's name before it, so that several sources stay apart."""
        found = self.own(value, number)
        return found if value is None else f"{self._stem}-{found}"


class _RowReader:
    """Rows of one source → problems; knows the column mapping and the ids seen."""

    def __init__(
        self, columns: Mapping[str, str], task: TaskName | None, stem: str, folder: Path | None
    ) -> None:
        self._columns = columns
        self._task = task
        self._folder = folder
        self._seen = Seen(stem)

    def problem(self, found: Found, number: int) -> Problem:
        if found.error is not None:
            raise found.error
        assert found.row is not None
        row = found.row
        if lic.is_lic(row):
            return self._lic_problem(found.where, row, number)
        cells = Cells(row, self._columns)
        if is_labelled(cells):
            raise BadRowError(
                "a row without labels of what lacks",
                "one with them",
                "let all rows of the file have such labels, or leave their columns out",
            )
        task = self._task or guess_task(cells)
        chat = read_prompt(cells, task)
        answer, solution = self._gold(cells, task, chat.reply)
        question = chat.question
        if task == "code":
            answer = with_prompt(answer, question)
            question = with_signature(question, answer, solution)
        problem_id = self._seen.own(cells.take("id"), number)
        shards = _given_shards(unpacked(cells.take("shards")))
        extra: dict[str, Any] = choices_of(cells).column()
        if task == "actions":
            extra = {"functions": functions_of(cells)}
        elif task == "database":
            extra = _database(row, self._folder)
        if column := cells.unread_label():
            raise _unread(column)
        return Problem(
            problem_id=problem_id,
            task=task,
            question=question,
            answer=answer,
            solution=solution,
            shards=shards,
            source=found.where,
            columns=plain_columns(row, cells.used) | extra,
            opening=chat.opening,
        )

    def _gold(self, cells: Cells, task: TaskName, reply: str) -> tuple[Any, str]:
        """The answer and solution; a row of another task is refused with its name."""
        own = guess_task(cells)
        try:
            if task != "math" or own != "code" or cells.column("answer"):
                return GOLD[task](cells, reply)
            raise BadRowError("an answer", "tests")  # a program's numbers are no answer
        except BadRowError:
            if own == task:
                raise
            detail, advice = f"a row that looks like {own}", f"set task: {own}, or mend the row"
            raise BadRowError(f"rows of the task {task}", detail, advice) from None

    def _lic_problem(self, where: str, row: Row, number: int) -> Problem:
        try:
            problem = lic.to_problem(row, where, self._folder)
        except lic.LicRowError as error:
            raise BadRowError(*map(str, error.args)) from None
        self._seen.own(row["task_id"], number)
        return problem


def _unread(column: str) -> BadRowError:
    return BadRowError(
        "columns whose meaning is known",
        f"{column!r}, which looks like a label of what lacks",
        f"say what it is: columns: {{lacks: {column}}}, {{answerable: {column}}}, "
        f"{{underspecified: {column}}} or {{missing: {column}}}; or leave it out",
    )


def plain_columns(row: Row, used: set[str]) -> dict[str, Any]:
    """What else a row held, so far as it survives JSON and can travel with the prompt."""
    return {k: v for k, v in row.items() if k not in used and _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _database(row: Row, folder: Path | None) -> dict[str, Any]:
    try:
        return database_columns(row, folder)
    except TaskRowError as error:
        raise BadRowError(*map(str, error.args)) from None


def functions_of(cells: Cells) -> list[Any]:
    """The functions that a row's calls may name. Raises BadRowError for what is no list of them."""
    value = cells.take("functions")
    if value is not None and not isinstance(value, list | dict | str):
        raise BadRowError("functions as a list", shown(value))
    return functions(value)


def _given_shards(value: Any) -> tuple[Shard, ...]:
    """Shards that came with the row, the question first, as Lost in Conversation gives them."""
    if value is None or value == "":
        return ()
    if not isinstance(value, list):
        raise BadRowError("a list of shards", shown(value))
    texts = [v.get("shard", v.get("text")) if isinstance(v, Mapping) else v for v in value]
    if not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise BadRowError("shards with text", "one without")
    return tuple(Shard(i, text.strip(), is_question=i == 0) for i, text in enumerate(texts))
