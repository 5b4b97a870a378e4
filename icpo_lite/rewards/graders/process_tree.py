"""What a process and all its descendants use, read from /proc."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache

_COUNTED = (b"RssAnon:", b"RssShmem:", b"VmSwap:")


def memory(root: int) -> int:
    """Bytes of memory that the descendants of a process hold for themselves, swap included."""
    return sum(_own_bytes(pid) for pid in descendants(root))


def descendants(root: int) -> list[int]:
    """The processes that `root` has started, and theirs, without `root` itself."""
    children = _children if _kernel_lists_children() else _parents()
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children(waiting.pop()) if callable(children) else children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


@lru_cache(maxsize=1)
def _kernel_lists_children() -> bool:
    pid = os.getpid()
    return os.path.exists(f"/proc/{pid}/task/{pid}/children")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _parents() -> dict[int, list[int]]:
    """Parent → children, of all processes."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The command's name stands in brackets and may hold any character.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                found.setdefault(parent, []).append(int(name))
    return found


def _own_bytes(pid: int) -> int:
    total = 0
    with contextlib.suppress(OSError):  # it has ended
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(_COUNTED):
                    total += int(line.split()[1]) << 10
    return total
