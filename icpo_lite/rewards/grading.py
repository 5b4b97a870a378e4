"""Is an answer right? One grader a task, in a table.

A grader that cannot do its work raises `GraderError` with the row's name; it never answers
"wrong" instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pydantic import Field

from icpo_lite.core.errors import GraderError
from icpo_lite.core.plain_text import capped
from icpo_lite.core.thoughts import said
from icpo_lite.core.types import TaskName
from icpo_lite.recipe.sections import ExecutionKeys
from icpo_lite.rewards.graders import (
    actions,
    choice_answers,
    code,
    math,
    math_verify,
    sandbox,
    sql,
    worded_answers,
)
from icpo_lite.rewards.graders.row_tests import read_tests


class GradingOptions(ExecutionKeys):
    """What a recipe may say about grading."""

    math_rule: Literal["numeric", "compat"] = Field(
        "numeric",
        description="compat compares strings as Lost in Conversation does, with its faults, for "
        "figures that are to be comparable",
    )
    math_verify: bool = Field(
        True,
        description="let math-verify compare answers that are no plain numbers, where it is "
        "installed; else they compare as written",
    )
    math_verify_seconds: float = Field(
        5.0, gt=0, description="time for one such comparison; a later one ends as not equal"
    )
    code_seconds: float = Field(
        6.0, gt=0, description="time for one test, as in Lost in Conversation"
    )
    code_memory_mb: int = Field(
        512, gt=0, description="memory for one test, all its processes, in MiB"
    )
    query_seconds: float = Field(6.0, gt=0, description="time for one database query")


@dataclass(frozen=True, slots=True)
class Grade:
    """Whether a reply is right, and the answer that it gives.

        grade("It is $7.50.", "7.5")  # Grade(correct=True, extracted="7.50")

    extracted: the answer as it was written, None where the reply holds none.
    """

    correct: bool
    extracted: str | None = None


Grader = Callable[[str, Any, Mapping[str, Any], GradingOptions], Grade]
Said = TypeVar("Said")
Found = TypeVar("Found")


def _read(parse: Callable[[Said], Found | None], said: Said) -> Found | None:
    """What a reply holds; None where reading it fails: a reply may be anything and ends no run."""
    try:
        return parse(said)
    except GraderError:
        raise
    except Exception:  # of any parser: sympy's, json's, a pattern's, recursion
        return None


def _same(compare: Callable[[str, str], bool], given: str, gold: str) -> bool:
    """The comparison; where it fails, and does not fail on the gold answer itself, it is False."""
    try:
        return compare(given, gold)
    except GraderError:
        raise
    except Exception:  # of any comparison, math-verify's among them
        compare(gold, gold)  # the row's or the grader's fault, which is told
        return False


def _math(reply: str, answer: Any, columns: Mapping[str, Any], options: GradingOptions) -> Grade:
    gold = str(answer)
    choices = choice_answers.choices_in(columns)
    if gold in choices.values():
        named = _read(lambda said: choice_answers.chosen(said, choices), reply)
        if named is not None:
            return Grade(choices.get(named) == gold, choices.get(named))
    if options.math_rule == "numeric" and not math.is_plain(gold):
        return _symbolic(reply, gold, options)
    found = _read(math.stated, reply)
    wanted = math.gold_value(gold)  # a gold answer without a number is the row's fault
    if found is None:
        return Grade(False)
    if options.math_rule == "compat":
        return Grade(_same(math.lic_equal, found.text, gold), found.text)
    right = found.value is not None and math.same_value(found.value, wanted)
    return Grade(right, found.text)


def _symbolic(reply: str, gold: str, options: GradingOptions) -> Grade:
    if not gold.strip():
        raise GraderError("expected a gold answer, found an empty one; change the row")
    if worded_answers.in_words(gold):
        named = _read(lambda said: worded_answers.is_right(said, gold), reply)
        return Grade(*named) if named is not None else Grade(False)
    extracted = _read(math.whole_statement, reply)
    if extracted is None:
        return Grade(False)
    if _same(math.same_symbols, extracted, gold):
        return Grade(True, extracted)
    if options.math_verify and math_verify.available():
        verifier = _verifier(options.math_verify_seconds)
        wanted = gold.rpartition("####")[2].strip(" $\n")
        return Grade(bool(verifier.verify(extracted.strip(" $"), wanted)), extracted)
    return Grade(False, extracted)


@lru_cache(maxsize=2)
def _verifier(seconds: float) -> math_verify.Verifier:
    return math_verify.Verifier(seconds)


def _actions(reply: str, answer: Any, columns: Mapping[str, Any], options: GradingOptions) -> Grade:
    allowed = actions.read_allowed(answer)
    functions = columns.get("functions")
    known = actions.known_names(functions)
    calls = _read(lambda said: actions.parse_calls(said, known), reply)
    if calls is None:
        return Grade(False)
    return Grade(actions.correct(calls, allowed, functions), _read(_shown, calls))


def _shown(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    said = (f"{name}({', '.join(f'{k}={v!r}' for k, v in a.items())})" for name, a in calls)
    return f"[{', '.join(said)}]"


def _code(reply: str, answer: Any, columns: Mapping[str, Any], options: GradingOptions) -> Grade:
    if not options.allow_code_execution:
        raise GraderError(
            "grading code runs it, which is off; set allow_code_execution: true to agree"
        )
    tests = read_tests(answer, columns)
    program = _read(lambda said: code.program_of(said, tests), reply)
    if program is None:
        return Grade(False)
    limits = sandbox.Limits(seconds=options.code_seconds, memory_mb=options.code_memory_mb)
    passed, _ = code.correct(program, tests, columns, limits)
    return Grade(passed, program)


def _database(
    reply: str, answer: Any, columns: Mapping[str, Any], options: GradingOptions
) -> Grade:
    query = _read(sql.extract_query, reply)
    if query is None:
        return Grade(False)
    return Grade(sql.correct(query, str(answer), columns, options.query_seconds), query)


GRADERS: dict[str, Grader] = {
    "math": _math,
    "actions": _actions,
    "code": _code,
    "database": _database,
}


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
        place = f" in {row}" if row else ""
        raise GraderError(f"expected a task out of {', '.join(GRADERS)}, found {task!r}{place}")
    reply = said(reply) if task == "code" else capped(said(reply))
    try:
        return grader(reply, answer, columns or {}, options or GradingOptions())
    except GraderError as error:
        if not row or row in str(error):
            raise
        raise GraderError(f"{row}: {error}") from error
    except Exception as error:  # a grader's own fault, of any type: told, never called wrong
        raise GraderError(
            f"{row or task}: the {task} grader failed: {type(error).__name__}: {error}"
        ) from error
