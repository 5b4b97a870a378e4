"""Code: the last fenced block of a reply, run against the row's tests in `sandbox`.

Tests are Python source (asserts; or `check(candidate)` with the column `entry_point`), a list of
such sources, or input and output pairs: `[{"input": …, "output": …}, …]` over standard streams,
or over calls of the column `fn_name`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import sandbox

_FENCE = re.compile(r"(?<!`)```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_CODE = re.compile(r"^(?:def|class|import|from|@)\b", re.MULTILINE)


def extract_code(reply: str) -> str | None:
    """The last fenced block; without fences, the reply from its first line of code on."""
    if blocks := _FENCE.findall(reply):
        return blocks[-1].strip("\n") or None
    match = _CODE.search(reply)
    return reply[match.start() :] if match else None


def correct(
    code: str, tests: Any, columns: Mapping[str, Any], limits: sandbox.Limits
) -> tuple[bool, str]:
    """Whether all tests pass, each within the limits, and why the first failing one does not."""
    for program, stdin, wanted in _programs(code, tests, columns):
        outcome = sandbox.run(program, limits, stdin=stdin)
        if not outcome.finished:
            return False, outcome.reason
        if wanted is not None and _lines(outcome.output) != _lines(wanted):
            return False, f"printed {outcome.output.strip()[:60]!r}, expected {wanted[:60]!r}"
    return True, ""


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _programs(
    code: str, tests: Any, columns: Mapping[str, Any]
) -> Iterator[tuple[str, str, str | None]]:
    """(program, standard input, expected output or None) for each test."""
    if isinstance(tests, str) and tests.lstrip().startswith(("[", "{")):
        with contextlib.suppress(json.JSONDecodeError):  # then it is source that starts so
            tests = json.loads(tests)
    if isinstance(tests, str) and tests.strip():
        yield f"{code}\n\n{tests}\n{_check(tests, columns)}", "", None
        return
    if isinstance(tests, Mapping) and "inputs" in tests:
        pairs = zip(tests["inputs"], tests["outputs"], strict=True)
        tests = [{"input": i, "output": o} for i, o in pairs]
    if not isinstance(tests, Sequence) or not tests:
        raise GraderError(
            "expected the tests of a code row as Python source, a list of sources, or a list of "
            f"{{input, output}}, found {str(tests)[:60]!r}; change the row"
        )
    for test in tests:
        yield _one(code, test, columns)


def _check(tests: str, columns: Mapping[str, Any]) -> str:
    entry = columns.get("entry_point")
    return f"check({entry})\n" if entry and "def check(" in tests else ""


def _one(code: str, test: Any, columns: Mapping[str, Any]) -> tuple[str, str, str | None]:
    if isinstance(test, str):
        return f"{code}\n\n{test}\n", "", None
    if not isinstance(test, Mapping) or not {"input", "output"} <= set(test):
        raise GraderError(f"expected a test with input and output, found {str(test)[:60]!r}")
    name = columns.get("fn_name")
    if not name:
        return code, str(test["input"]), str(test["output"])
    arguments = test["input"] if isinstance(test["input"], list) else [test["input"]]
    call = f"{name}(*__import__('json').loads({json.dumps(arguments)!r}))"
    wanted = f"__import__('json').loads({json.dumps(test['output'])!r})"
    return f"{code}\n\nassert {call} == {wanted}\n", "", None
