"""Code: the program of a reply, run against the row's tests in `sandbox`.

Which part of a reply is its program is told in `reply_code.py`, which tests there are in
`row_tests.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from icpo_lite.rewards.graders import sandbox
from icpo_lite.rewards.graders.reply_code import extract_code
from icpo_lite.rewards.graders.row_tests import CodeTests, read_tests

__all__ = ["correct", "extract_code", "program_of"]


def program_of(reply: str, tests: CodeTests) -> str | None:
    """The program of a reply to a task with these tests; None where it holds no code."""
    return extract_code(reply, entry_point=tests.entry_point, prompt=tests.prompt)


def correct(
    code: str, tests: Any, columns: Mapping[str, Any], limits: sandbox.Limits
) -> tuple[bool, str]:
    """Whether all tests pass, each within the limits, and why the first failing one does not.

    tests: as `row_tests.read_tests` gives or takes them. Raises GraderError for a row's faults.
    """
    tried = tests if isinstance(tests, CodeTests) else read_tests(tests, columns)
    for program, stdin, wanted in _programs(code, tried):
        outcome = sandbox.run(program, limits, stdin=stdin)
        if not outcome.finished:
            return False, outcome.reason
        if wanted is not None and _lines(outcome.output) != _lines(wanted):
            return False, f"printed {outcome.output.strip()[:60]!r}, expected {wanted[:60]!r}"
    return True, ""


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _programs(code: str, tests: CodeTests) -> Iterator[tuple[str, str, str | None]]:
    """(program, standard input, expected output or None) for each test."""
    program = f"{tests.setup}\n{code}" if tests.setup else code
    for source in tests.sources:
        yield f"{program}\n\n{source}\n", "", None
    for given, wanted in tests.pairs:
        if not tests.function:
            yield program, _text(given), _text(wanted)
            continue
        arguments = given if isinstance(given, list) else [given]
        call = f"{_callee(tests.function)}(*__import__('json').loads({json.dumps(arguments)!r}))"
        value = f"__import__('json').loads({json.dumps(wanted)!r})"
        yield f"{program}\n\nassert {call} == {value}\n", "", None


def _text(value: Any) -> str:
    """What goes over a standard stream; a list is its lines."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _callee(name: str) -> str:
    """The function under test by its name, or the method of that name of a class Solution."""
    if not name.isidentifier():
        return name
    return f"(globals().get({name!r}) or getattr(globals()['Solution'](), {name!r}))"
