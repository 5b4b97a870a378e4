"""math-verify in worker processes, with a time-out that ends the work.

math-verify's own time-out uses signals, which only work in a main thread: elsewhere every answer
counts as wrong. Here a worker that is late is killed and replaced, and the caller falls back on
the numeric comparison.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from icpo_lite.core.errors import GraderError


def available() -> bool:
    """Whether the optional package math-verify is installed."""
    return importlib.util.find_spec("math_verify") is not None


def _work(pipe: Connection) -> None:
    from math_verify import parse, verify  # type: ignore[import-not-found,unused-ignore]

    logging.disable(logging.WARNING)  # it warns that time-outs are off: they are, see above
    pipe.send("ready")
    while True:
        given, gold = pipe.recv()
        try:
            wanted = parse(f"${gold}$", parsing_timeout=None)
            found = parse(f"${given}$", parsing_timeout=None)
            pipe.send((bool(verify(wanted, found, timeout_seconds=None)), ""))
        except Exception as error:  # goes back as an error, never as a wrong answer
            pipe.send((None, f"{type(error).__name__}: {error}"))


class Verifier:
    """One worker; `verify` starts it when needed and starts another after a time-out."""

    def __init__(self, seconds: float = 5.0, work: Any = _work) -> None:
        self._seconds = seconds
        self._work = work
        self._process: Any = None
        self._pipe: Connection | None = None
        atexit.register(self.close)

    def verify(self, given: str, gold: str) -> bool | None:
        """Whether two expressions are equal; None when that takes too long.

        Raises GraderError when the worker itself fails.
        """
        pipe = self._start()
        pipe.send((given, gold))
        if not pipe.poll(self._seconds):
            self.close()
            return None
        try:
            equal, problem = pipe.recv()
        except EOFError as error:
            self.close()
            raise GraderError("expected an answer of math-verify, its process ended") from error
        if problem:
            raise GraderError(f"expected math-verify to compare {gold!r}, found {problem}")
        return bool(equal)

    def _start(self) -> Connection:
        if self._pipe is not None and self._process.is_alive():
            return self._pipe
        # spawn: a fork of a process with a CUDA context or running threads may hang.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=self._work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(60.0) or self._pipe.recv() != "ready":
            self.close()
            raise GraderError("expected math-verify to load within 60 s; reinstall icpo-lite[math]")
        return self._pipe

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = self._pipe = None
