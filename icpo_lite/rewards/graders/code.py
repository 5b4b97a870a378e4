"""Code: the last fenced block of a reply, run against the row's tests in `sandbox`.

Tests are Python source (asserts; or `check(candidate)` with the column `entry_point`), a list of
such sources, or input and output pairs: `[{"input": …, "output": …}, …]` over standard streams,
or over calls of the column `fn_name`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import sandbox
from icpo_lite.rewards.graders.sandbox import Box

_FENCE = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_CODE = re.compile(r"^(?:def|class|import|from|@)\b", re.MULTILINE)


def extract_code(reply: str) -> str | None:
    """The last fenced block; without fences, the reply from its first line of code on."""
    if blocks := _FENCE.findall(reply):
        return blocks[-1].strip("\n") or None
    match = _CODE.search(reply)
    return reply[match.start() :] if match else None


@dataclass(frozen=True, slots=True)
class _Row:
    """The tests of a row: pairs over standard streams, or asserts and calls.

    setup, prompt, solution: Python of the data set, whose names a reply may not replace.
    entry_point, fn_name: the function under test, where the row names it.
    """

    streams: tuple[tuple[str, str], ...]
    asserts: tuple[Any, ...]
    setup: str = ""
    prompt: str = ""
    solution: str = ""
    entry_point: str = ""
    fn_name: str = ""


def correct(
    code: str, tests: Any, columns: Mapping[str, Any], limits: sandbox.Limits
) -> tuple[bool, str]:
    """Whether all tests pass, each within the limits, and why the first failing one does not.

    The reply runs in one sandbox, the tests in another that has never seen it; only plain values
    pass between them (`code_reply`, `code_tests`). A program on standard streams is judged here,
    by what it prints. Raises GraderError where the row or the system is at fault.
    """
    row = _read(tests, columns)
    for given, wanted in row.streams:
        outcome = sandbox.run(code, limits, stdin=given)
        if not outcome.finished:
            return False, outcome.reason
        if _lines(outcome.output) != _lines(wanted):
            return False, f"printed {outcome.output.strip()[:60]!r}, expected {wanted[:60]!r}"
    return _judged(code, row, limits) if row.asserts else (True, "")


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


# ------------------------------------------------------------------------------------------ rows


def _read(tests: Any, columns: Mapping[str, Any]) -> _Row:
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


def _sorted(tests: Sequence[Any], columns: Mapping[str, Any]) -> _Row:
    fn_name = _text(columns, "fn_name")
    streams, asserts = [], []
    for test in tests:
        if isinstance(test, str):
            asserts.append(test)
        elif not isinstance(test, Mapping) or not {"input", "output"} <= set(test):
            raise GraderError(f"expected a test with input and output, found {str(test)[:60]!r}")
        elif fn_name:
            asserts.append({"input": test["input"], "output": test["output"]})
        else:
            streams.append((str(test["input"]), str(test["output"])))
    return _Row(
        streams=tuple(streams),
        asserts=tuple(asserts),
        setup=_text(columns, "setup", "test_setup_code"),
        prompt=_text(columns, "prompt", "starter_code"),
        solution=_text(columns, "solution", "code", "canonical_solution"),
        entry_point=_text(columns, "entry_point"),
        fn_name=fn_name,
    )


def _text(columns: Mapping[str, Any], *names: str) -> str:
    return next((v for n in names if isinstance(v := columns.get(n), str) and v.strip()), "")


# --------------------------------------------------------------------------------------- verdicts


def _judged(code: str, row: _Row, limits: sandbox.Limits) -> tuple[bool, str]:
    ask, answer = os.pipe(), os.pipe()
    try:
        with (
            _reply_box(code, row, limits, ask[0], answer[1]) as reply,
            _tests_box(row, limits, ask[1], answer[0]) as tests,
        ):
            for descriptor in (*ask, *answer):  # so that each end is held by one side alone
                os.close(descriptor)
            ask = answer = ()  # type: ignore[assignment]
            sandbox.wait_ready([reply, tests])
            return _verdict(reply, tests, row, limits)
    finally:
        for descriptor in (*ask, *answer):
            os.close(descriptor)


def _reply_box(code: str, row: _Row, limits: sandbox.Limits, requests: int, answers: int) -> Box:
    job = {
        "code": code.encode(errors="replace").decode(),
        "before": [source for source in (row.prompt, row.setup) if source],
        "requests": requests,
        "answers": answers,
    }
    guests = ("plain_values", "code_reply")
    return Box(guests, job, limits, descriptors=(requests, answers), runs=len(row.asserts))


def _tests_box(row: _Row, limits: sandbox.Limits, requests: int, answers: int) -> Box:
    job = {
        "tests": list(row.asserts),
        "setup": row.setup,
        "prompt": row.prompt,
        "solution": row.solution,
        "entry_point": row.entry_point,
        "fn_name": row.fn_name,
        "requests": requests,
        "answers": answers,
    }
    guests = ("plain_values", "code_tests")
    kept = (requests, answers)
    return Box(guests, job, limits, descriptors=kept, reports=True, runs=len(row.asserts))


def _verdict(reply: Box, tests: Box, row: _Row, limits: sandbox.Limits) -> tuple[bool, str]:
    """What the tests' process tells, which has a new deadline with every test that passes."""
    passed, deadline = 0, time.monotonic() + limits.seconds
    while True:
        for line in tests.reported():
            kind, _, text = line.partition(" ")
            if kind == "fault":
                raise GraderError(f"{text}; change the row")
            if kind != "passed":
                return False, text
            passed, deadline = passed + 1, time.monotonic() + limits.seconds
        if passed == len(row.asserts):
            return True, ""
        if problem := reply.problem() or tests.problem():
            return False, problem
        if not tests.open:
            return False, f"the tests ended early with exit status {tests.wait()}"
        if time.monotonic() > deadline:
            return False, f"no end within {limits.seconds:g} s"
        sandbox.look([reply, tests])
