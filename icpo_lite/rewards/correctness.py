"""Is an answer right? One grader a task, in a table.

A grader that cannot do its work raises `GraderError` with the row's name; it never answers
"wrong" instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from icpo_lite.errors import GraderError
from icpo_lite.rewards import math_grader
from icpo_lite.types import TaskName


class GradingOptions(BaseModel):
    """What a recipe may say about grading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Grade:
    """extracted: the answer as it was written, None where the reply holds none."""

    correct: bool
    extracted: str | None = None


Grader = Callable[[str, Any, Mapping[str, Any], GradingOptions], Grade]


def _math(reply: str, answer: Any, columns: Mapping[str, Any], options: GradingOptions) -> Grade:
    extracted = math_grader.extract(reply)
    gold = str(answer)
    if extracted is None:
        math_grader.gold_value(gold)
        return Grade(False)
    return Grade(math_grader.equal(extracted, gold), extracted)


GRADERS: dict[str, Grader] = {"math": _math}


def grade(
    task: TaskName,
    reply: str,
    answer: Any,
    columns: Mapping[str, Any] | None = None,
    options: GradingOptions | None = None,
    *,
    row: str = "",
) -> Grade:
    """Extract the answer from a reply and compare it with the gold one.

    answer: in the form that the task's grader takes (see `Problem.answer`). row: its name in
    errors. Raises GraderError where the gold answer or the grader itself is at fault.
    """
    grader = GRADERS.get(task)
    if grader is None:
        raise GraderError(f"expected a task out of {', '.join(GRADERS)}, found {task!r} in {row}")
    try:
        return grader(reply, answer, columns or {}, options or GradingOptions())
    except GraderError as error:
        if not row or row in str(error):
            raise
        raise GraderError(f"{row}: {error}") from error
