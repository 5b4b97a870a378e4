"""How a guest of the sandbox is started: its job, its limits, its command line."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from icpo_lite.rewards.graders import sandbox_root, syscall_filter

Method = Literal["bubblewrap", "namespaces"]
_MOST_OPEN_FILES = 64

#: The first lines of every guest. Its job comes on standard input, in Python's own notation; it
#: isolates itself unless bubblewrap has done so, accepts the limits, and says that it is ready.
_GUEST = r"""
import os, sys
def take(count):
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            os._exit(1)
        data += part
    return data
def module(name, text):
    made = sys.modules[name] = type(sys)(name)
    parent, _, last = name.rpartition(".")
    if parent:
        if parent not in sys.modules:
            module(parent, "")
        setattr(sys.modules[parent], last, made)
    exec(compile(text, name, "exec"), vars(made))
    return made
job = eval(take(int.from_bytes(take(8), "big")))
inside = module("sandbox_inside", job.pop("inside"))
if job["isolate"]:
    inside.isolate(job["isolate"])
inside.confine(job.pop("limits"), job.pop("user"))
del sys.modules["sandbox_inside"], inside, job["isolate"]
for name, text in job.pop("modules"):
    last = module(name, text)
os.write(job["report"], b"ready\n")
if not job.pop("reports"):
    os.close(job["report"])
last.main(job)
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use: seconds of wall and CPU time, MiB, processes, bytes of output.

    memory_mb: for all its processes together, and for each of them.
    """

    seconds: float = 6.0
    memory_mb: int = 512
    processes: int = 16
    file_mb: int = 8
    output_bytes: int = 65536


def guest_job(
    modules: Sequence[str],
    job: Mapping[str, Any],
    limits: Limits,
    report: int,
    reports: bool,
    runs: int,
    method: Method,
) -> bytes:
    package = __name__.rpartition(".")[0]
    root = sandbox_root.python_root()
    isolate = root.settings(limits.file_mb << 20, report) if method == "namespaces" else None
    whole = {
        **job,
        "inside": _text_of("sandbox_inside"),
        "modules": [(f"{package}.{name}", _text_of(name)) for name in modules],
        "limits": _resource_limits(limits, runs),
        # An account that nobody else has, so that nobody else's processes are counted.
        "user": (1 << 30) + secrets.randbelow(1 << 29),
        "isolate": isolate,
        "report": report,
        "reports": reports,
    }
    return repr(whole).encode("ascii", "backslashreplace")


@cache
def _text_of(module: str) -> str:
    return (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")


def _resource_limits(limits: Limits, runs: int) -> dict[str, int]:
    return {
        "CPU": math.ceil(limits.seconds * runs) + 1,
        "AS": limits.memory_mb << 20,
        "NPROC": limits.processes,
        "FSIZE": limits.file_mb << 20,
        "NOFILE": _MOST_OPEN_FILES,
        "CORE": 0,
        "MEMLOCK": 0,
        "MSGQUEUE": 0,
    }


def start(
    method: Method, limits: Limits, report: int, descriptors: Sequence[int]
) -> subprocess.Popen[bytes]:
    root = sandbox_root.python_root()
    guest = [root.python, "-I", "-S", "-B", "-c", _GUEST]
    if method == "namespaces":
        return _popen(guest, [report, *descriptors], root.environment)
    read, write = os.pipe()
    try:
        os.write(write, syscall_filter.build(syscall_filter.machine()))
        os.close(write)
        around = root.bubblewrap(shutil.which("bwrap") or "bwrap", limits.file_mb << 20, read)
        return _popen([*around, *guest], [report, *descriptors, read], {"PATH": os.defpath})
    finally:
        os.close(read)


def _popen(
    command: Sequence[str], descriptors: Sequence[int], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        env=environment,
        cwd="/",
        start_new_session=True,
    )
