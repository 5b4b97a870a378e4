"""What reaches a program from outside: a wish to stop, a terminal that goes away."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

#: SIGHUP is that of a terminal or a connection that goes away, SIGQUIT that of Ctrl-\\.
WISHES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

#: Ignored, these stay so: nohup asks for it, and a shell for its jobs in the background. It ignores
#: SIGINT for them too, which notebooks and Colab send to say that a run shall save and end.
LEFT_IGNORED = (signal.SIGHUP, signal.SIGQUIT)

Handler = Callable[[int, FrameType | None], None]


class StopRequest:
    """Whether somebody asked the run to stop, and by which signal."""

    requested = False
    signal = ""


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """A signal ends the step first; the same one again ends the program at once.

    A terminal that closes may send SIGHUP more than once (the kernel and the shell both do): that
    is no haste. What of LEFT_IGNORED is ignored stays so. In a thread that
    is not the main one, where Python lets nobody handle signals, none is.
    """
    stop = StopRequest()
    seen: set[int] = set()

    def ask(signum: int, frame: FrameType | None) -> None:
        # SIGTERM after SIGINT is the same wish (Colab sends both); the same one twice is haste.
        if signum in seen and signum != signal.SIGHUP:
            raise KeyboardInterrupt
        seen.add(signum)
        stop.requested, stop.signal = True, signal.Signals(signum).name

    with _handled(ask):
        yield stop


@contextlib.contextmanager
def interrupting_signals() -> Iterator[None]:
    """Each of the signals is a Ctrl-C: what has no step to end ends at once, and says so.

    Where it was not Ctrl-C, the KeyboardInterrupt carries the signal's number.
    """

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(*([] if signum == signal.SIGINT else [signum]))

    with _handled(interrupt):
        yield


@contextlib.contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in WISHES}
    for number, known in before.items():
        # None: a handler that was not set from Python, which could not be put back.
        kept = known is None or (known is signal.SIG_IGN and number in LEFT_IGNORED)
        if not kept:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, known in before.items():
            if known is not None:
                signal.signal(number, known)
