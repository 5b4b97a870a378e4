"""Whether a reply's program does what a row asks, told by processes that never ran it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import sandbox
from icpo_lite.rewards.graders.sandbox import Box, Limits


@dataclass(frozen=True, slots=True)
class CodeTests:
    """The tests of a row that call functions of the reply.

    sources: Python with asserts, or with `check(candidate)`. calls: (arguments, wanted value) of
    `function`. setup, prompt, solution: Python of the data set, whose names a reply may not
    replace. entry_point: the function under test, where the row names it.
    """

    sources: tuple[str, ...] = ()
    calls: tuple[tuple[Any, Any], ...] = ()
    setup: str = ""
    prompt: str = ""
    solution: str = ""
    entry_point: str = ""
    function: str = ""

    @property
    def count(self) -> int:
        return len(self.sources) + len(self.calls)


def prints(program: str, given: str, wanted: str, limits: Limits) -> tuple[bool, str]:
    """Whether a program prints what is wanted, ends of lines aside; if not, why."""
    outcome = sandbox.run(program, limits, stdin=given)
    if not outcome.finished:
        return False, outcome.reason
    if _lines(outcome.output) != _lines(wanted):
        return False, f"printed {outcome.output.strip()[:60]!r}, expected {wanted[:60]!r}"
    return True, ""


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def passes(code: str, row: CodeTests, limits: Limits) -> tuple[bool, str]:
    """Whether a reply passes all asserts and calls, each in time, and why the first does not.

    The reply runs in one sandbox, the tests in another that has never seen it; only plain values
    pass between them (`code_reply`, `code_tests`). Raises GraderError where the row or the system
    is at fault.
    """
    if not row.count:
        return True, ""
    with contextlib.ExitStack() as boxes:
        with _two_pipes() as (requests, ask, answers, answer):
            reply = boxes.enter_context(_reply_box(code, row, limits, requests, answer))
            tests = boxes.enter_context(_tests_box(row, limits, ask, answers))
        # This process holds no end of the pipes now: one side's end is seen by the other.
        sandbox.wait_ready([reply, tests])
        return _verdict(reply, tests, row, limits)


@contextlib.contextmanager
def _two_pipes() -> Iterator[tuple[int, ...]]:
    ends = (*os.pipe(), *os.pipe())
    try:
        yield ends
    finally:
        for descriptor in ends:
            os.close(descriptor)


def _reply_box(code: str, row: CodeTests, limits: Limits, requests: int, answers: int) -> Box:
    job = {
        "code": code.encode(errors="replace").decode(),
        "before": [source for source in (row.prompt, row.setup) if source],
        "requests": requests,
        "answers": answers,
    }
    guests = ("plain_values", "code_reply")
    return Box(guests, job, limits, descriptors=(requests, answers), runs=row.count)


def _tests_box(row: CodeTests, limits: Limits, requests: int, answers: int) -> Box:
    job = {
        "tests": [*row.sources, *row.calls],
        "setup": row.setup,
        "prompt": row.prompt,
        "solution": row.solution,
        "entry_point": row.entry_point,
        "function": row.function,
        "requests": requests,
        "answers": answers,
    }
    guests = ("plain_values", "code_tests")
    kept = (requests, answers)
    return Box(guests, job, limits, descriptors=kept, reports=True, runs=row.count)


def _verdict(reply: Box, tests: Box, row: CodeTests, limits: Limits) -> tuple[bool, str]:
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
        if passed == row.count:
            return True, ""
        if problem := reply.problem() or tests.problem():
            return False, problem
        if not tests.open:
            return False, f"the tests ended early with exit status {tests.wait()}"
        if time.monotonic() > deadline:
            return False, f"no end within {limits.seconds:g} s"
        sandbox.look([reply, tests])
