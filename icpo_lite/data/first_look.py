"""What a data set holds, from its first rows: a recipe that runs on it starts from that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Intent, Message, Problem, Prompt, TaskName
from icpo_lite.data.augment import AugmentOptions, augment
from icpo_lite.data.bare_answers import needs_by_search
from icpo_lite.data.labelled_rows import holds_labels, read_labelled
from icpo_lite.data.prompt_file import holds_prompts, read_prompts
from icpo_lite.data.row_columns import NAMES
from icpo_lite.data.row_files import Row
from icpo_lite.data.solution_equations import to_number
from icpo_lite.data.sources import read_problems, source_rows

#: Rows that are looked at, and problems of which q* are tried.
LOOKED_AT, TRIED = 2000, 200
#: Rows in which the column of the answers is looked for.
SEARCHED = 20


@dataclass(frozen=True, slots=True)
class Look:
    """A data set at first sight.

    columns: the mapping that its rows need. prompts: the messages of the rows, whole and lacking.
    replies: gold answers as somebody wrote them out. kinds: prompts of either kind, among those
    tried. bad: rows that cannot be read. given: whether the rows say themselves what lacks.
    """

    columns: Mapping[str, str]
    task: TaskName
    prompts: tuple[Prompt, ...]
    replies: tuple[str, ...]
    kinds: Mapping[Intent, int]
    bad: int
    given: bool

    def line(self) -> str:
        """What was seen, for a person."""
        columns = ", ".join(f"{ours}: {theirs}" for ours, theirs in self.columns.items())
        q, less = self.kinds[Intent.COMPLETE], self.kinds[Intent.UNDERSPECIFIED]
        what = "rows that say what lacks" if self.given else f"problems of the task {self.task}"
        return (
            f"{what}; of the first {q} complete prompts and their twins, {less} underspecified"
            + (f"; columns {columns}" if columns else "")
            + (f"; {self.bad} rows cannot be read and are skipped" if self.bad else "")
        )


def look_at(
    source: str,
    options: AugmentOptions | None = None,
    *,
    split: str = "train",
    config: str | None = None,
) -> Look:
    """The first rows of a file or hub data set. Raises DataError where none can be read.

    options: of how prompts are made, by rules.
    """
    if Path(source).is_file() and holds_prompts(source):
        prompts = list(islice(read_prompts(source), LOOKED_AT))
        return _look({}, prompts, [p.solution for p in prompts], 0, given=False)
    columns = guessed_columns([f.row for f in islice(source_rows(source, split, config), 50)])
    where: dict[str, Any] = {"columns": columns, "split": split, "config": config}
    bad = Counter[str]()
    rows: dict[str, Any] = {
        **where,
        "limit": LOOKED_AT,
        "on_bad_row": "skip",
        "bad_rows": bad,
    }
    if holds_labels(source, **where):
        found = read_labelled(source, **rows)
        return _look(columns, found, [p.solution for p in found], bad.total(), given=True)
    problems = list(read_problems(source, **rows))
    made = list(augment(problems[:TRIED], options))
    whole = [*made, *(_bare_prompt(p) for p in problems[TRIED:])]
    replies = [p.solution or str(p.answer or "") for p in problems]
    return _look(columns, whole, replies, bad.total(), given=False, tried=made)


def _look(
    columns: Mapping[str, str],
    prompts: Sequence[Prompt],
    replies: Sequence[str],
    bad: int,
    *,
    given: bool,
    tried: Sequence[Prompt] | None = None,
) -> Look:
    counts = Counter(p.intent for p in (prompts if tried is None else tried))
    kinds = {intent: counts[intent] for intent in Intent}
    return Look(columns, prompts[0].task, tuple(prompts), tuple(replies), kinds, bad, given)


def _bare_prompt(problem: Problem) -> Prompt:
    return Prompt(
        prompt_id=problem.problem_id,
        problem_id=problem.problem_id,
        task=problem.task,
        intent=Intent.COMPLETE,
        messages=(*problem.opening, Message("user", problem.question)),
        answer=problem.answer,
    )


def guessed_columns(rows: Sequence[Row | None]) -> dict[str, str]:
    """A mapping for rows whose columns have names of their own; {} where they are known.

    The question is the longest text, one with question marks before others; the answer is the
    column of numbers that most often follow from those of the question.
    """
    whole = [row for row in rows if row is not None]
    names = {str(name) for row in whole for name in row}
    known = {re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names}
    if not whole or known & {n for ours in _ASKS for n in NAMES[ours]}:
        return {}
    texts = {name: [str(row.get(name) or "") for row in whole] for name in names}
    question = max(names, key=lambda name: (_asking(texts[name]), _length(texts[name]), name))
    if _length(texts[question]) < _SHORTEST:
        return {}
    out = {"question": question}
    if not known & {n for ours in ("answer", "solution") for n in NAMES[ours]}:
        stating = [n for n in whole[0] if n != question and n in names and _stating(texts[n])]
        if stating:
            asked = texts[question]
            out["answer"] = max(stating, key=lambda name: _leads_to(asked, texts[name]))
    return out


#: Our columns of which a readable row has one.
_ASKS = ("question", "messages", "complete", "underspecified")
#: Mean characters of what may be a question.
_SHORTEST = 15


def _asking(texts: Sequence[str]) -> bool:
    return 2 * sum("?" in text for text in texts) > len(texts)


def _length(texts: Sequence[str]) -> float:
    return sum(map(len, texts)) / len(texts)


def _stating(texts: Sequence[str]) -> bool:
    return 10 * sum(to_number(text) is not None for text in texts) >= 8 * len(texts)


def _leads_to(asked: Sequence[str], answers: Sequence[str]) -> int:
    """How many of the answers one or two operations over their questions' numbers give."""
    found = zip(asked[:SEARCHED], answers[:SEARCHED], strict=True)
    return sum(bool(needs_by_search(text, answer, numbers(text))) for text, answer in found)
