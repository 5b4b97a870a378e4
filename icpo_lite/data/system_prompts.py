"""The turn that opens a chat: what the assistant is told, and what its task cannot do without.

A recipe's `system_prompt` and `eval --system` take the same words, in training as in evaluation:

lic      what Lost in Conversation's system turn of the task asks for, reworded
neutral  one sentence that favours neither asking nor answering
ask      says that a missing fact may be asked for; with a style of thinking before it speaks, one
         of the five of prior prompt engineering (arXiv 2505.14157): ask_think, ask_plan, ask_code,
         ask_recall, ask_examples
none     no opening turn at all, the task's material left out
TEXT     the user's own words
null     no words

All but `none` bring the material along: the functions of an actions task, the schema of a database,
the first lines of a function. How functions are shown is the chat template's matter
(`policy/chat_template.py`): through its `tools` where it takes them, else in text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from icpo_lite.core.types import Message, Problem, Prompt, TaskName

SystemChoice = Literal[
    "lic",
    "neutral",
    "none",
    "ask",
    "ask_think",
    "ask_plan",
    "ask_code",
    "ask_recall",
    "ask_examples",
]
CHOICES: tuple[str, ...] = get_args(SystemChoice)

NEUTRAL = "You are a helpful assistant."
_ASK = (
    "You help a user with a task. If something that the answer depends on was not said, do not "
    "guess it: ask the user for it in one short question and wait. If nothing is missing, answer."
)
#: What each style does first; the paper's styles in our own words.
_STYLES = {
    "ask_think": "Think it through step by step first.",
    "ask_plan": "Make a short plan of the steps first, then follow it.",
    "ask_code": "First write the computation as short lines of code, then read off its result.",
    "ask_recall": "First recall the rules and facts that the task rests on, then apply them.",
    "ask_examples": "First think of a similar task and how it is done, then do this one like it.",
}
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
        "You help a user by calling functions. When you give a solution, write the calls with "
        "named arguments and nothing else. You may ask the user about what is missing."
    ),
    "open": (
        "You help a user with a task. Do what you can do well with what you have been told. You "
        "may ask the user about what is missing."
    ),
}


def system_words(choice: str | None, task: TaskName) -> str | None:
    """The words of the opening turn, without the material; None where there are none."""
    if choice is None or choice == "none":
        return None
    if choice == "neutral":
        return NEUTRAL
    if choice == "ask" or choice in _STYLES:
        return " ".join(filter(None, (_ASK, _STYLES.get(choice))))
    return _LIC[task] if choice == "lic" else choice


def opening_turn(choice: str | None, asked: Problem | Prompt) -> Message | None:
    """The turn that opens a chat about a problem; None where there is nothing to say."""
    if choice == "none":
        return None
    words = system_words(choice, asked.task)
    content = "\n\n".join(filter(None, (words, _material(asked))))
    functions = _functions(asked)
    return Message("system", content, functions) if content or functions else None


def openings(choice: str | None) -> Callable[[Problem], Message | None]:
    """What makes the opening turn of a problem."""
    return partial(opening_turn, choice)


def _functions(asked: Problem | Prompt) -> str:
    """The functions of an actions task as JSON, "" where there are none."""
    functions = asked.columns.get("functions") if asked.task == "actions" else None
    if not functions:
        return ""
    return functions if isinstance(functions, str) else json.dumps(functions, ensure_ascii=False)


def _material(asked: Problem | Prompt) -> str:
    """What a task of this kind cannot be done without, as text."""
    columns = asked.columns
    schema = columns.get("schema_text") or columns.get("schema")
    if asked.task == "database" and schema:
        hint = f"\n\nWhat its words mean: {note}" if (note := columns.get("evidence")) else ""
        return f"Schema of the database:\n{schema}{hint}"
    if asked.task == "code" and (starter := columns.get("starter_code")):
        return f"The function begins so:\n{starter}"
    return ""
