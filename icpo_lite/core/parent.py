"""A program that another of ours starts and that ends with it, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

#: Tells a program that it is such a one: its parent's pid. Its own children do not inherit it.
VARIABLE = "ICPO_LITE_PARENT"
_PR_SET_PDEATHSIG = 1


def start_bound(
    command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Starts `icpo-lite …` as a process that is asked to save and end when this one is gone.

    Its standard input is a pipe whose other end this process alone holds.
    """
    told = {**(os.environ if env is None else env), VARIABLE: str(os.getpid())}
    return subprocess.Popen([*command], stdin=subprocess.PIPE, env=told, **options)


def end_with_parent() -> None:
    """What such a program calls first. Any other is left as it is."""
    told = os.environ.pop(VARIABLE, "")
    if not told.isdecimal():
        return
    pipe = os.dup(0)
    os.set_inheritable(pipe, False)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    if _kernel_tells():
        os.close(pipe)
        if os.getppid() != int(told):  # it was gone already
            os.kill(os.getpid(), signal.SIGTERM)
    else:
        threading.Thread(target=_watch, args=(pipe,), daemon=True).start()


def _kernel_tells() -> bool:
    """Whether the kernel sends SIGTERM when the parent ends, as Linux does."""
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM)) == 0)
    except (AttributeError, OSError):
        return False


def _watch(pipe: int) -> None:
    """The portable way: a pipe that ends when the only process that could write to it ends."""
    while os.read(pipe, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
