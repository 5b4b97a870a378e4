"""What a process and all its descendants use, read from /proc."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")
_COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:")


def memory(pids: list[int]) -> int:
    """Bytes of memory that processes hold for themselves, swap included."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            lines = (_PROC / str(pid) / "status").read_text(errors="replace").splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(_COUNTED))
    return total << 10


def files(pids: list[int], folder: str) -> int:
    """How many files and folders the file system at a folder holds, as these processes see it.

    None of our own: a process that is about to change its root still sees that.
    """
    most, ours = 0, Path(folder).stat().st_dev
    for pid in pids:
        seen = f"/proc/{pid}/root{folder}"
        with contextlib.suppress(OSError):  # it has ended, or its root is not ours to see
            if Path(seen).stat().st_dev != ours:
                system = os.statvfs(seen)
                most = max(most, system.f_files - system.f_ffree)
    return most


def descendants(root: int) -> list[int]:
    """The processes that `root` has started, and theirs, without `root` itself."""
    parents = {} if _kernel_lists_children() else _by_parent()
    found: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        below = _children(pid) if _kernel_lists_children() else parents.get(pid, [])
        found += below
        waiting += below
    return found


@lru_cache(maxsize=1)
def _kernel_lists_children() -> bool:
    pid = str(os.getpid())
    return (_PROC / pid / "task" / pid / "children").exists()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _by_parent() -> dict[int, list[int]]:
    """Parent → children, of all processes."""
    found: dict[int, list[int]] = {}
    for name in os.listdir(_PROC):  # noqa: PTH208  names are all that is wanted
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # The command's name stands in brackets and may hold any character.
                told = (_PROC / name / "stat").read_bytes().rpartition(b")")[2]
                found.setdefault(int(told.split()[1]), []).append(int(name))
    return found
