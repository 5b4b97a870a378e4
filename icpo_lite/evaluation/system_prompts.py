"""System turns of the judged model: what Lost in Conversation's per-task ones ask for, reworded.

lic      what kind of task it is, the form of an answer that the grader reads, and the material
         that the task cannot do without (functions, database schema)
neutral  that material alone, behind one sentence that favours neither asking nor answering
none     no system turn
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal, get_args

from icpo_lite.core.types import Problem, TaskName

SystemChoice = Literal["lic", "neutral", "none"]
CHOICES: tuple[str, ...] = get_args(SystemChoice)

NEUTRAL = "You are a helpful assistant."
_LIC: dict[TaskName, str] = {
    "math": (
        "You help a user with a maths word problem. Work it out step by step where that helps, "
        "and end an answer with its number. You may ask the user about what is missing."
    ),
    "code": (
        "You help a user who needs a Python function. When you give a solution, write the whole "
        "function in one fenced code block, with nothing to be filled in. You may ask the user "
        "about what is missing."
    ),
    "database": (
        "You help a user who wants to know something that a SQL database holds. When you give a "
        "solution, write one SQLite query in a fenced block and nothing that the schema does not "
        "know. You may ask the user about what is missing."
    ),
    "actions": (
        "You help a user by calling functions. When you give a solution, write the calls as one "
        "Python list, [name(argument=value), ...], with named arguments and nothing else. You may "
        "ask the user about what is missing."
    ),
    "open": (
        "You help a user with a task. Do what you can do well with what you have been told. You "
        "may ask the user about what is missing."
    ),
}


def system_turns(choice: str) -> Callable[[Problem], str | None]:
    """What makes the system turn of a problem: one of CHOICES, or the text itself."""
    if choice == "none":
        return lambda problem: None
    if choice == "neutral":
        return lambda problem: NEUTRAL + _material(problem)
    if choice == "lic":
        return lambda problem: _LIC[problem.task] + _material(problem)
    return lambda problem: choice


def _material(problem: Problem) -> str:
    """What a task of this kind cannot be done without, as the end of a system turn."""
    if problem.task == "actions" and (functions := problem.columns.get("functions")):
        listed = functions if isinstance(functions, str) else json.dumps(functions, indent=1)
        return f"\n\nFunctions:\n{listed}"
    schema = problem.columns.get("schema_text") or problem.columns.get("schema")
    if problem.task == "database" and schema:
        return f"\n\nSchema of the database:\n{schema}"
    if problem.task == "code" and (starter := problem.columns.get("starter_code")):
        return f"\n\nThe function begins so:\n{starter}"
    return ""
