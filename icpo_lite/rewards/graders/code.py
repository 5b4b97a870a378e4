"""Code: the program of a reply, run against the row's tests in `sandbox`.

Which part of a reply is its program is told in `reply_code.py`, which tests there are in
`row_tests.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icpo_lite.rewards.graders import code_verdict, sandbox
from icpo_lite.rewards.graders.reply_code import extract_code
from icpo_lite.rewards.graders.row_tests import RowTests, read_tests

__all__ = ["correct", "extract_code", "program_of"]


def program_of(reply: str, tests: RowTests) -> str | None:
    """The program of a reply to a task with these tests; None where it holds no code."""
    return extract_code(reply, entry_point=tests.entry_point, prompt=tests.prompt)


def correct(
    code: str, tests: Any, columns: Mapping[str, Any], limits: sandbox.Limits
) -> tuple[bool, str]:
    """Whether all tests pass, each within the limits, and why the first failing one does not.

    tests: as `row_tests.read_tests` gives or takes them. How they are run and judged is
    `code_verdict`'s matter. Raises GraderError where the row or the system is at fault.
    """
    row = tests if isinstance(tests, RowTests) else read_tests(tests, columns)
    if not row.function:
        for given, wanted in row.pairs:
            right, why = code_verdict.prints(code, _text(given), _text(wanted), limits)
            if not right:
                return False, why
    called = code_verdict.CodeTests(
        sources=row.sources,
        calls=row.pairs if row.function else (),
        setup=row.setup,
        prompt=row.prompt,
        entry_point=row.entry_point,
        function=row.function,
    )
    return code_verdict.passes(code, called, limits)


def _text(value: Any) -> str:
    """What goes over a standard stream; a list is its lines."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
