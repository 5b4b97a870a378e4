"""Run a Python program that nobody has read, with nothing to reach and little to use.

The program runs in its own user, network, process, mount and IPC namespaces (Linux): no network,
every disk read-only, home folders hidden, an empty temporary directory in memory, no capabilities,
and limits on CPU time, wall time, memory, processes, file size and output. When time is up its
whole process namespace is killed. Where the system does not grant all of this, `run` refuses; it
never runs a program in the open.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import GraderError

_UNSHARE = ("--net", "--ipc", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child")

#: The first process inside. It takes away what the namespaces still leave, starts the program's
#: process as nobody (a limit on processes does not bind root) and stays, unreachable for it, as
#: the process whose end is the end of all others.
_INSIDE = r"""
import ctypes, os, resource, sys
libc = ctypes.CDLL(None, use_errno=True)
def must(result, what):
    if result != 0:
        sys.stderr.write("isolation: " + what + ": " + os.strerror(ctypes.get_errno()) + "\n")
        os._exit(97)
s = eval(sys.argv[1])
MS_NOSUID_NODEV, MS_BIND, SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 6, 4096, 442, -100, 0x8000
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
if s["bind"]:
    source, target = s["bind"]
    must(libc.mount(source.encode(), target.encode(), None, MS_BIND, None), "bind of Python")
class Attributes(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint64) for n in ("set", "clear", "propagation", "userns")]
read_only = Attributes(1, 0, 0, 0)
must(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(read_only), 32),
     "read-only disks")
def lay_over(folder, options):
    must(libc.mount(b"tmpfs", folder.encode(), b"tmpfs", MS_NOSUID_NODEV, options.encode()),
         "tmpfs on " + folder)
for folder in s["hidden"]:
    lay_over(folder, "size=4k,mode=000")
lay_over(s["work"], "mode=777,size=%d" % s["file"])
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
os.chdir(s["work"])
for name in ("CPU", "AS", "NPROC", "FSIZE"):
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (s[name],) * 2)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for capability in range(64):
    libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
if s["nobody"]:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
must(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
os.execv(s["python"], [s["python"], "-I", "-S", "-B", "-c", sys.argv[2]])
"""
_HARNESS = r"""
import sys
def run(secret, program):
    scope = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(compile(program, "<reply and tests>", "exec"), scope)
    sys.stdout.flush()
    import os
    os.write(1, ("\n" + secret + "\n").encode())
    os._exit(0)
secret, _, rest = sys.stdin.buffer.read().partition(b"\n")
size, _, rest = rest.partition(b"\n")
program, given = rest[: int(size)].decode(), rest[int(size) :]
if given:
    import io
    sys.stdin = io.TextIOWrapper(io.BytesIO(given))
run(secret.decode(), program)
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use: seconds of wall and CPU time, MiB, processes, bytes of output."""

    seconds: float = 6.0
    memory_mb: int = 512
    processes: int = 16
    file_mb: int = 8
    output_bytes: int = 65536


@dataclass(frozen=True, slots=True)
class Outcome:
    """finished: the program ran to its end without an exception and without leaving early.

    reason: in one line why it did not. output: what it printed, both streams, cut at the limit.
    """

    finished: bool
    output: str
    reason: str = ""


def run(program: str, limits: Limits | None = None, *, stdin: str = "") -> Outcome:
    """Run a program in isolation; GraderError where isolation cannot be had."""
    if problem := why_not():
        raise GraderError(
            f"expected a system that can isolate generated code, found none ({problem}); "
            "run code tasks on Linux with user namespaces, or leave them out of the corpus"
        )
    return _run(program, limits or Limits(), stdin)


_PROBE = """
import os, socket
assert os.listdir(".") == [], "working directory is not empty"
try:
    open("/icpo-lite-probe", "w")
    raise SystemExit("disk is writable")
except OSError:
    pass
try:
    socket.create_connection(("192.0.2.1", 9), timeout=0.2)
    raise SystemExit("network answers")
except OSError as error:
    assert not isinstance(error, TimeoutError), "network is reachable"
children = []
try:
    for _ in range(64):
        child = os.fork()
        if child == 0:
            while True:
                os.sched_yield() if False else __import__("time").sleep(1)
        children.append(child)
    raise SystemExit("processes are not limited")
except OSError:
    pass
"""


@lru_cache(maxsize=1)
def why_not() -> str:
    """Empty when isolation works here, tried once; else what is missing."""
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has no namespaces"
    if shutil.which("unshare") is None:
        return "the program unshare (util-linux) is not installed"
    outcome = _run(_PROBE, Limits(seconds=10.0), "")
    return "" if outcome.finished else outcome.reason


def _run(program: str, limits: Limits, stdin: str) -> Outcome:
    secret = secrets.token_hex(16)
    source = program.encode(errors="replace")
    feed = b"\n".join([secret.encode(), str(len(source)).encode(), source + stdin.encode()])
    process = _start(limits)
    output, timed_out = _talk(process, feed, limits)
    text = output.decode(errors="replace")
    mark = f"\n{secret}\n"
    if text.endswith(mark):
        return Outcome(True, text.removesuffix(mark))
    if timed_out:
        return Outcome(False, text, f"no end within {limits.seconds:g} s")
    if len(output) >= limits.output_bytes:
        return Outcome(False, text, f"more than {limits.output_bytes} bytes of output")
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return Outcome(False, text, last or f"ended early with exit status {process.returncode}")


def _start(limits: Limits) -> subprocess.Popen[bytes]:
    layout = _layout()
    root = os.geteuid() == 0
    settings = {
        **layout,
        "nobody": root,
        "file": limits.file_mb << 20,
        "CPU": int(limits.seconds) + 1,
        "AS": limits.memory_mb << 20,
        "NPROC": limits.processes,
        "FSIZE": limits.file_mb << 20,
    }
    user = () if root else ("--user", "--map-root-user")
    command = ["unshare", *user, *_UNSHARE, "--", _python(), "-I", "-S", "-B", "-c", _INSIDE]
    libraries = f"{layout['bind'][1]}/lib" if layout["bind"] else ""
    return subprocess.Popen(
        [*command, repr(settings), _HARNESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.defpath, "LANG": "C.UTF-8", "LD_LIBRARY_PATH": libraries},
        cwd="/",
        start_new_session=True,
    )


def _python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


@lru_cache(maxsize=1)
def _layout() -> dict[str, Any]:
    """Where Python, the empty directory and the hidden folders lie inside.

    bind: (from, to) where Python is installed in a folder that nobody may enter, such as a home;
    it is then shown at another place, and the folder is hidden like any home.
    """
    python, prefix = _python(), os.path.realpath(sys.base_prefix)
    homes = {os.path.realpath(Path.home()), "/home", "/root"}
    inside_home = any(prefix.startswith(home + "/") for home in homes)
    free = [
        f
        for f in ("/tmp", "/mnt", "/media", "/srv", "/opt")
        if Path(f).is_dir() and not prefix.startswith(f + "/") and not python.startswith(f + "/")
    ]
    if len(free) < 2:
        raise GraderError("expected two of /tmp, /mnt, /media, /srv, /opt to exist, found fewer")
    bind = (prefix, free[1]) if inside_home and python.startswith(prefix + "/") else None
    shown = python.replace(prefix, free[1], 1) if bind else python
    kept = () if bind else (python, prefix)
    hidden = tuple(
        f
        for f in sorted(homes - {"/"})
        if Path(f).is_dir() and not any(k.startswith(f + "/") for k in kept)
    )
    return {"python": shown, "bind": bind, "hidden": hidden, "work": free[0]}


def _talk(process: subprocess.Popen[bytes], feed: bytes, limits: Limits) -> tuple[bytes, bool]:
    """Feed and read until the end, the time or the output limit; then kill all that is left."""
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = time.monotonic() + limits.seconds
    write, read = process.stdin.fileno(), process.stdout.fileno()
    os.set_blocking(write, False)
    output, sent, timed_out = b"", 0, False
    try:
        while len(output) < limits.output_bytes:
            left = deadline - time.monotonic()
            if left <= 0:
                timed_out = True
                break
            ready, writable, _ = select.select(
                [read], [write] if sent < len(feed) else [], [], left
            )
            if writable:
                try:
                    sent += os.write(write, feed[sent : sent + 65536])
                except BrokenPipeError:
                    sent = len(feed)
                if sent >= len(feed):
                    process.stdin.close()
            if ready:
                chunk = os.read(read, 65536)
                if not chunk:
                    break
                output += chunk
    finally:
        _kill(process)
    return output[: limits.output_bytes], timed_out


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End `unshare`; the kernel then ends the namespace's first process and all its children."""
    if process.poll() is None:
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None and not stream.closed:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
