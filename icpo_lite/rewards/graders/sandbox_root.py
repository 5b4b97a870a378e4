"""What the sandbox's root holds: Python, the libraries it loads, and one empty folder."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import syscall_filter

#: The one folder that a guest may write to, in memory.
WORK = "/tmp"
#: Files and folders that a guest may have at a time.
MOST_FILES = 1024
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

#: Loads every extension of the standard library and tells which shared libraries that took.
_LIST_LIBRARIES = r"""
import ctypes, importlib, json, os, sys
for folder in list(sys.path):
    if os.path.basename(folder) != "lib-dynload" or not os.path.isdir(folder):
        continue
    for name in {entry.split(".")[0] for entry in os.listdir(folder)}:
        if not name.startswith(("_test", "_xx", "xx", "_tkinter", "_ctypes_test")):
            try:
                importlib.import_module(name)
            except Exception:
                pass  # an extension whose own library is not installed
class Loaded(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]
names = []
kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Loaded), ctypes.c_size_t, ctypes.c_void_p)
def note(loaded, size, data):
    names.append(os.fsdecode(loaded.contents.name or b""))
    return 0
ctypes.CDLL(None).dl_iterate_phdr(kind(note), None)
print(json.dumps({"path": sys.path, "libraries": names}))
"""


@dataclass(frozen=True, slots=True)
class Root:
    """Paths inside, the same as outside.

    python: the interpreter. folders, files: shown read-only. links: (path, what it points to).
    hidden: folders that are shown empty. library_path: where the loader looks.
    """

    python: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    hidden: tuple[str, ...]
    library_path: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(Path(self.python).parent),
            "LD_LIBRARY_PATH": self.library_path,
            "LANG": "C.UTF-8",
            "HOME": WORK,
            "TMPDIR": WORK,
        }

    def settings(self, file_bytes: int, report: int) -> dict[str, Any]:
        """For `sandbox_inside.isolate`; report: the descriptor that failures are told on."""
        return {
            "base": _base(),
            "root": is_root(),
            "pivot_root": _PIVOT_ROOT[syscall_filter.machine()],
            "links": self.links,
            "folders": self.folders,
            "files": self.files,
            "hidden": self.hidden,
            "work": WORK,
            "work_options": f"size={file_bytes},nr_inodes={MOST_FILES},mode=1777",
            "filter": syscall_filter.build(syscall_filter.machine()),
            "report": report,
        }

    def bubblewrap(self, program: str, file_bytes: int, filter_file: int) -> list[str]:
        """The command line of bubblewrap up to the guest's; filter_file: an open descriptor."""
        options = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
        options += ["--unshare-cgroup-try", "--die-with-parent", "--cap-drop", "ALL"]
        if is_root():  # it stays root just long enough to become nobody
            options += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            options += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
        shown = [*self.folders, *self.files, *(path for path, _ in self.links)]
        for folder in sorted({str(above) for path in shown for above in Path(path).parents}):
            options += ["--perms", "0755", "--dir", folder] if folder != "/" else []
        for path, target in self.links:
            options += ["--symlink", target, path]
        for path in (*self.folders, *self.files):
            options += ["--ro-bind", path, path]
        for path in self.hidden:
            options += ["--size", "4096", "--tmpfs", path, "--remount-ro", path]
        options += ["--perms", "1777", "--size", str(file_bytes), "--tmpfs", WORK]
        options += ["--remount-ro", "/", "--chdir", WORK, "--clearenv"]
        for name, value in self.environment.items():
            options += ["--setenv", name, value]
        return [program, *options, "--seccomp", str(filter_file), "--"]


def is_root() -> bool:
    """Whether this is root, and can become nobody: not the root of a namespace with one user."""
    if os.geteuid() != 0:
        return False
    try:
        known = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        groups = Path("/proc/self/setgroups").read_text().strip()
    except OSError:
        return True
    return groups == "allow" and any(int(first) + int(n) > 65534 for first, _, n in known)


def _base() -> str:
    """Any folder that is there: the new root is mounted over it before it becomes the root."""
    return next(f for f in ("/tmp", "/mnt", "/run", "/var", "/usr") if Path(f).is_dir())


def python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@lru_cache(maxsize=1)
def python_root() -> Root:
    """The root for the interpreter that runs this process, found out once.

    Raises GraderError where the interpreter does not run by itself.
    """
    told = subprocess.run(
        [python(), "-I", "-S", "-B", "-c", _LIST_LIBRARIES],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.defpath},
        cwd="/",
    )
    if told.returncode:
        last = (told.stderr.strip().splitlines() or ["nothing"])[-1]
        raise GraderError(f"expected {python()} to tell its libraries, found {last}")
    found = json.loads(told.stdout.splitlines()[-1])
    return _root(found["path"], found["libraries"])


def _root(search_path: Sequence[str], libraries: Sequence[str]) -> Root:
    folders = _outermost([os.path.realpath(p) for p in search_path if Path(p).is_dir()])
    zips = [os.path.realpath(p) for p in search_path if Path(p).is_file()]
    named = [python(), *zips, *(os.path.normpath(n) for n in libraries if n.startswith("/"))]
    links: dict[str, str] = {}
    files: list[str] = []
    for path in named:
        for at, target in _steps(path):
            if target is None:
                files.append(at)
            else:
                links[at] = target
    inside = tuple(f + "/" for f in folders)
    hidden = [
        str(child)
        for folder in folders
        for child in Path(folder).iterdir()
        if child.name in ("site-packages", "dist-packages") and child.is_dir()
    ]
    return Root(
        python=python(),
        folders=tuple(folders),
        files=tuple(f for f in dict.fromkeys(files) if not f.startswith(inside)),
        links=tuple((p, t) for p, t in sorted(links.items()) if not p.startswith(inside)),
        hidden=tuple(sorted(hidden)),
        library_path=":".join(dict.fromkeys(str(Path(p).parent) for p in named[1 + len(zips) :])),
    )


def _outermost(paths: Sequence[str]) -> list[str]:
    """The folders that lie in no other of them."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(other + "/") for other in kept):
            kept.append(path)
    return kept


def _steps(path: str) -> Iterator[tuple[str, str | None]]:
    """The links that lead to a file, each with what it holds, then the file itself with None.

    A link is named by the real path of its folder, so that no link lies below another.
    """
    real, rest = Path("/"), [part for part in path.split("/") if part]
    for _ in range(256):
        if not rest:
            yield str(real), None
            return
        part, rest = rest[0], rest[1:]
        if part == "..":
            real = real.parent
            continue
        at = real / part
        if not at.is_symlink():
            real = at
            continue
        target = str(at.readlink())
        yield str(at), target
        real = Path("/") if target.startswith("/") else real
        rest = [p for p in target.split("/") if p and p != "."] + rest
    raise GraderError(f"expected {path} to lead to a file, found links without end")


def machine_problem() -> str:
    """Empty where this kind of system can isolate at all; else why it cannot."""
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has no namespaces"
    if not syscall_filter.machine():
        return f"there is no system-call filter for {platform.machine()}"
    return ""
