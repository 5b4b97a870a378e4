"""Code: the last fenced block of a reply, run against the row's tests in `sandbox`.

Tests are Python source (asserts; or `check(candidate)` with the column `entry_point`), a list of
such sources, or input and output pairs: `[{"input": …, "output": …}, …]` over standard streams,
or over calls of the column `fn_name`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import code_verdict, sandbox
from icpo_lite.rewards.graders.code_verdict import CodeTests

_FENCE = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
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
    """Whether all tests pass, each within the limits, and why the first failing one does not.

    How they are run and judged is `code_verdict`'s matter. Raises GraderError where the row or the
    system is at fault.
    """
    streams, calls = _read(tests, columns)
    for given, wanted in streams:
        right, why = code_verdict.prints(code, given, wanted, limits)
        if not right:
            return False, why
    return code_verdict.passes(code, calls, limits)


def _read(tests: Any, columns: Mapping[str, Any]) -> tuple[list[tuple[str, str]], CodeTests]:
    if isinstance(tests, str) and tests.lstrip().startswith(("[", "{")):
        with contextlib.suppress(json.JSONDecodeError):  # then it is source that starts so
            tests = json.loads(tests)
    known = dict(columns)
    if isinstance(tests, Mapping) and "tests" in tests:
        known |= {name: value for name, value in tests.items() if value}
        tests = tests["tests"]
    if isinstance(tests, Mapping) and "inputs" in tests:
        pairs = zip(tests["inputs"], tests["outputs"], strict=True)
        tests = [{"input": i, "output": o} for i, o in pairs]
    listed = [tests] if isinstance(tests, str) and tests.strip() else tests
    if isinstance(listed, str) or not isinstance(listed, Sequence) or not listed:
        raise GraderError(
            "expected the tests of a code row as Python source, a list of sources, or a list of "
            f"{{input, output}}, found {str(tests)[:60]!r}; change the row"
        )
    return _sorted(listed, known)


def _sorted(
    tests: Sequence[Any], columns: Mapping[str, Any]
) -> tuple[list[tuple[str, str]], CodeTests]:
    fn_name = _text(columns, "fn_name")
    streams: list[tuple[str, str]] = []
    sources: list[str] = []
    calls: list[tuple[Any, Any]] = []
    for test in tests:
        if isinstance(test, str):
            sources.append(test)
        elif not isinstance(test, Mapping) or not {"input", "output"} <= set(test):
            raise GraderError(f"expected a test with input and output, found {str(test)[:60]!r}")
        elif fn_name:
            calls.append((test["input"], test["output"]))
        else:
            streams.append((str(test["input"]), str(test["output"])))
    return streams, CodeTests(
        sources=tuple(sources),
        calls=tuple(calls),
        setup=_text(columns, "setup", "test_setup_code"),
        prompt=_text(columns, "prompt", "starter_code"),
        solution=_text(columns, "solution", "code", "canonical_solution"),
        entry_point=_text(columns, "entry_point"),
        function=fn_name,
    )


def _text(columns: Mapping[str, Any], *names: str) -> str:
    return next((v for n in names if isinstance(v := columns.get(n), str) and v.strip()), "")
