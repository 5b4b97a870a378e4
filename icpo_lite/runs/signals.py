"""SIGINT and SIGTERM end a step, not a run's work."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Whether somebody asked the run to stop."""

    requested = False


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """SIGINT and SIGTERM end the step first; a second one ends the program at once.

    In a thread that is not the main one, where Python lets nobody handle signals, none is.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    seen: set[int] = set()

    def ask(signum: int, frame: FrameType | None) -> None:
        # SIGTERM after SIGINT is the same wish (Colab sends both); the same one twice is haste.
        if signum in seen:
            raise KeyboardInterrupt
        seen.add(signum)
        stop.requested = True

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
