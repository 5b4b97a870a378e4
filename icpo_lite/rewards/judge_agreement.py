"""How well predicted response types agree with given labels: what `icpo-lite classify` prints."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from icpo_lite.core.errors import DataError
from icpo_lite.core.files import read_json, write_atomically
from icpo_lite.core.thoughts import parted
from icpo_lite.core.types import Intent, Message, Prompt, ResponseType, TaskName
from icpo_lite.rewards.judge import Typer
from icpo_lite.rewards.response_type import Classification, is_nothing

#: Lost in Conversation's spellings.
SPELLINGS = {"hedge": "hedging", "refuse": "refusal"}
_KINDS = [t.value for t in ResponseType]
_ANSWER = ResponseType.ANSWER_ATTEMPT.value


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what. task: a column, or the name of a task for all rows."""

    text: str = "assistant"
    task: str = "task"
    user: str = "user"
    label: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One reply of a file. place: `file:line`. group: the value of the `by` column."""

    place: str
    data: Mapping[str, Any]
    reply: str
    task: TaskName
    user: str
    label: str | None
    group: str | None


@dataclass(frozen=True, slots=True)
class Typed:
    """A row and the type it was given."""

    row: Row
    found: Classification

    @property
    def kind(self) -> str:
        return self.found.response_type.value


def read_rows(file: Path, columns: Columns) -> list[Row]:
    """The rows of a JSON-lines file. Raises DataError with file and line."""
    if not file.is_file():
        raise DataError(f"expected a JSON-lines file, found none at {file}")
    rows = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                rows.append(_row(f"{file.name}:{number}", line, columns))
    if not rows:
        raise DataError(f"{file.name}: expected rows, found none")
    return rows


def _shown(line: bytes) -> str:
    return repr(line.strip()[:40].decode(errors="replace"))


def _row(place: str, line: bytes, columns: Columns) -> Row:
    try:
        data = read_json(line)
    except ValueError as error:
        raise DataError(
            f"{place}: expected a JSON object, found {_shown(line)}; give JSON lines in UTF-8, one "
            "reply in each"
        ) from error
    if not isinstance(data, dict) or columns.text not in data:
        raise DataError(f"{place}: expected a column {columns.text!r}; name the reply with --text")
    label = None
    if columns.label:
        given = str(data.get(columns.label, ""))
        label = SPELLINGS.get(given, given)
        if label not in _KINDS:
            raise DataError(
                f"{place}: expected one of {', '.join(_KINDS)} in {columns.label!r}, "
                f"found {given!r}"
            )
    return Row(
        place=place,
        data=data,
        reply=_labelled(str(data[columns.text] or ""), label),
        task=_task(place, data, columns.task),
        user=str(data.get(columns.user, "")),
        label=label,
        group=str(data.get(columns.by)) if columns.by else None,
    )


def _labelled(reply: str, label: str | None) -> str:
    """What a label was given to: of a turn that ends inside its thought, the thought.

    Lost in Conversation's classifier sees marks of thought as text; here such a turn is missing,
    which no label of theirs can agree with.
    """
    parts = parted(reply)
    if label in (None, ResponseType.MISSING.value) or parts.said or not parts.unfinished:
        return reply
    return parts.thought


def _task(place: str, data: Mapping[str, Any], name: str) -> TaskName:
    tasks = get_args(TaskName)
    task = data.get(name, name if name in tasks else "math")
    if task not in tasks:
        raise DataError(f"{place}: expected a task out of {', '.join(tasks)}, found {task!r}")
    return task


def type_rows(rows: Sequence[Row], typer: Typer) -> tuple[list[Typed], float]:
    """Each row with its type, and the seconds of processor time that the typing took."""
    items = [(_prompt(row), row.reply, None) for row in rows]
    said = [i for i, row in enumerate(rows) if not is_nothing(row.reply)]
    start = time.process_time()
    found = dict(zip(said, typer.types([items[i] for i in said]), strict=True))
    seconds = time.process_time() - start
    nothing = Classification(ResponseType.MISSING, "nothing is said")
    return [Typed(row, found.get(i, nothing)) for i, row in enumerate(rows)], seconds


def _prompt(row: Row) -> Prompt:
    messages = (Message("user", row.user),)
    return Prompt(row.place, row.place, row.task, Intent.COMPLETE, messages, answer="")


# --------------------------------------------------------------------------------------- figures


def binary_agreement(typed: Sequence[Typed]) -> float:
    """Share of rows where prediction and label agree on answer attempt or not."""
    return sum((t.kind == _ANSWER) == (t.row.label == _ANSWER) for t in typed) / len(typed)


def agreement(typed: Sequence[Typed]) -> float:
    """Share of rows with the same type of seven."""
    return sum(t.kind == t.row.label for t in typed) / len(typed)


def f1(typed: Sequence[Typed]) -> dict[str, float]:
    """F1 of each type that is given or predicted somewhere."""
    scores = {}
    for kind in _KINDS:
        given = sum(t.row.label == kind for t in typed)
        predicted = sum(t.kind == kind for t in typed)
        both = sum(t.kind == kind == t.row.label for t in typed)
        if given or predicted:
            scores[kind] = 2 * both / (given + predicted)
    return scores


def macro_f1(typed: Sequence[Typed]) -> float:
    """Mean F1 over the types that are given or predicted somewhere."""
    scores = f1(typed)
    return sum(scores.values()) / len(scores)


def report(typed: Sequence[Typed], *, worst: int = 5) -> Iterator[str]:
    """Figures for each task: agreement, macro-F1, by group, confusion, disagreements."""
    for task in dict.fromkeys(t.row.task for t in typed):
        yield from _report_task(task, [t for t in typed if t.row.task == task], worst)


def _report_task(task: str, typed: Sequence[Typed], worst: int) -> Iterator[str]:
    yield ""
    yield (
        f"{task}: {len(typed)} replies; answer attempt or not {binary_agreement(typed):.3f}, "
        f"seven types {agreement(typed):.3f}, macro-F1 {macro_f1(typed):.3f}"
    )
    for group in sorted({t.row.group for t in typed if t.row.group is not None}):
        part = [t for t in typed if t.row.group == group]
        yield f"  {group}: {binary_agreement(part):.3f} of {len(part)}"
    yield from _confusion(typed)
    wrong = [t for t in typed if t.kind != t.row.label]
    # first those that a training run would feel: answer attempt against the rest
    wrong.sort(key=lambda t: (t.kind == _ANSWER) == (t.row.label == _ANSWER))
    for t in wrong[:worst]:
        shown = " ".join(t.row.reply.split())
        shown = shown if len(shown) <= 160 else f"{shown[:80]} […] {shown[-75:]}"
        yield f"  {t.row.place}: given {t.row.label}, found {t.kind} ({t.found.evidence}): {shown}"


def _confusion(typed: Sequence[Typed]) -> Iterator[str]:
    kinds = [k for k in _KINDS if any(k in (t.kind, t.row.label) for t in typed)]
    counts = Counter((t.row.label, t.kind) for t in typed)
    scores = f1(typed)
    short = {k: k[:8] for k in kinds}
    yield f"  {'given / found':<15}" + "".join(f"{short[k]:>9}" for k in kinds) + "       F1"
    for given in kinds:
        cells = "".join(f"{counts[given, found]:>9}" for found in kinds)
        yield f"  {given:<15}{cells}{scores[given]:>9.3f}"


def counts(typed: Sequence[Typed]) -> Iterator[str]:
    """How often each type was found, for files without labels."""
    for kind, n in Counter(t.kind for t in typed).most_common():
        yield f"  {kind:<15} {n:>6} {n / len(typed):>6.1%}"


def write(typed: Sequence[Typed], output: Path) -> None:
    """The rows as they came, with `predicted_type` and `evidence`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    rows = ({**t.row.data, "predicted_type": t.kind, "evidence": t.found.evidence} for t in typed)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(output, text.encode(errors="replace"))
