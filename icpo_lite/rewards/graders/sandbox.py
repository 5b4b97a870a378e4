"""Run code that nobody has read, with nothing to reach and little to use.

A guest runs in its own user, network, process, mount and IPC namespaces (Linux), in a root that
holds Python, its libraries and one empty folder in memory. It has no capabilities, no sockets
(but pairs of its own, which asyncio needs and which reach nobody), no files of the machine, and
limits on CPU time, wall time, file size, output, and on processes and memory together: the parent
watches the sum over all of them. Bubblewrap builds the root where it
is installed, `sandbox_inside` does elsewhere. Where the system grants neither, `why_not` says
why and nothing is run; no program ever runs in the open.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import process_tree, sandbox_root
from icpo_lite.rewards.graders.sandbox_start import Limits, Method, guest_job, start

__all__ = ["Box", "Limits", "Method", "Outcome", "look", "run", "wait_ready", "why_not"]

#: For a guest to start; the time of its work begins when it has.
START_SECONDS = 60.0
#: Between two looks at what the guests use.
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """finished: the program ran to its end, with exit status 0 and within its limits.

    reason: in one line why it did not. output: what it printed, cut at the limit.
    """

    finished: bool
    output: str
    reason: str = ""


def run(
    program: str, limits: Limits | None = None, *, stdin: str = "", method: Method | None = None
) -> Outcome:
    """Run a program in isolation; GraderError where isolation cannot be had."""
    limits = limits or Limits()
    given = stdin.encode(errors="replace")
    job = {"program": program.encode(errors="replace").decode()}
    with Box(["run_program"], job, limits, stdin=given, method=method) as box:
        wait_ready([box])
        deadline = time.monotonic() + limits.seconds
        while box.open and not (problem := box.problem()):
            if time.monotonic() > deadline:
                return Outcome(False, box.text, f"no end within {limits.seconds:g} s")
            look([box])
        if problem := box.problem():
            return Outcome(False, box.text, problem)
        code = box.wait()
    last = next((line for line in reversed(box.errors.splitlines()) if line.strip()), "")
    return Outcome(code == 0, box.text, "" if code == 0 else last or f"exit status {code}")


class Box:
    """One guest and all that it starts; leaving the context ends them.

    modules: of this folder, by name, the last of which has the guest's `main(job)`. stdin: what
    the guest finds there after its job. descriptors: further open files that it inherits.
    reports: it keeps the descriptor job["report"], whose lines `reported` yields. runs: how often
    it may use `limits.seconds` of CPU time. Raises GraderError where isolation cannot be had.
    """

    def __init__(
        self,
        modules: Sequence[str],
        job: Mapping[str, Any],
        limits: Limits,
        *,
        stdin: bytes = b"",
        descriptors: Sequence[int] = (),
        reports: bool = False,
        runs: int = 1,
        method: Method | None = None,
    ) -> None:
        self.limits = limits
        self.output, self._errors, self._report = bytearray(), bytearray(), bytearray()
        self.ready = False
        self._memory, self._files, self._measure_at = 0, 0, 0.0
        self._report_read, theirs = os.pipe()
        method = method or _chosen()
        whole = guest_job(modules, job, limits, theirs, reports, runs, method)
        self._feed = memoryview(len(whole).to_bytes(8, "big") + whole + stdin)
        try:
            self.process = start(method, limits, theirs, descriptors)
        except BaseException:
            os.close(self._report_read)
            raise
        finally:
            os.close(theirs)
        streams = (self.process.stdout, self.process.stderr)
        kept = (self.output, self._errors)
        assert self.process.stdin is not None
        self._stdin: int | None = self.process.stdin.fileno()
        os.set_blocking(self._stdin, False)
        #: Open descriptor → where what it brings is kept.
        self.open: dict[int, bytearray] = {
            stream.fileno(): text
            for stream, text in zip(streams, kept, strict=True)
            if stream is not None
        }
        self.open[self._report_read] = self._report

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def text(self) -> str:
        return self.output[: self.limits.output_bytes].decode(errors="replace")

    @property
    def errors(self) -> str:
        return self._errors[: self.limits.output_bytes].decode(errors="replace")

    def reported(self) -> Iterator[str]:
        """The whole lines that the guest has reported since the last call."""
        while (end := self._report.find(b"\n")) >= 0:
            line = self._report[:end].decode(errors="replace")
            del self._report[: end + 1]
            yield line

    def problem(self) -> str:
        """Which limit the guest has passed, or empty."""
        if self._memory > self.limits.memory_mb << 20:
            return f"more than {self.limits.memory_mb} MiB in all its processes"
        if self._files > sandbox_root.MOST_FILES:
            return f"more than {sandbox_root.MOST_FILES} files"
        if len(self.output) + len(self._errors) > self.limits.output_bytes:
            return f"more than {self.limits.output_bytes} bytes of output"
        if len(self._report) > self.limits.output_bytes:
            return "a report without end"
        return ""

    def wanted(self) -> list[tuple[int, int]]:
        """Descriptors to poll, each with its events."""
        asked = [(fd, select.POLLIN) for fd in self.open]
        return [*asked, (self._stdin, select.POLLOUT)] if self._stdin is not None else asked

    def serve(self, descriptor: int) -> None:
        """Read or write one descriptor that is ready."""
        if descriptor == self._stdin:
            self._write()
            return
        kept = self.open[descriptor]
        data = os.read(descriptor, 65536)
        if not data:
            del self.open[descriptor]
        kept += data

    def measure(self) -> None:
        """Look at the memory, no more often than so that looking takes a tenth of the time."""
        begun = time.monotonic()
        if begun < self._measure_at:
            return
        pids = process_tree.descendants(self.process.pid)
        self._memory = process_tree.memory(pids)
        self._files = process_tree.files(pids[-1:], sandbox_root.WORK)
        now = time.monotonic()
        self._measure_at = now + max(_LOOK_SECONDS, 9 * (now - begun))

    def _write(self) -> None:
        assert self._stdin is not None
        try:
            self._feed = self._feed[os.write(self._stdin, self._feed[:65536]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._feed = self._feed[:0]
        if not self._feed:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin is not None and self.process.stdin is not None:
            self._stdin = None
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def wait(self) -> int:
        """The exit status of a guest that has closed its files; 1 where it lingers."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(1.0)
        return 1

    def end(self) -> None:
        """Kill the launcher and the namespace's first process; the kernel ends all others."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._close_stdin()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if self._report_read >= 0:
            os.close(self._report_read)
            self._report_read = -1
        self.open = {}


def look(boxes: Sequence[Box]) -> None:
    """Wait a moment for anything that the boxes write, serve it, and measure what they use."""
    poll, owner = select.poll(), {}
    for box in boxes:
        for descriptor, events in box.wanted():
            poll.register(descriptor, events)
            owner[descriptor] = box
    ready = poll.poll(_LOOK_SECONDS * 1000)
    for descriptor, _ in ready:
        owner[descriptor].serve(descriptor)
    for box in boxes:
        box.measure()


def wait_ready(boxes: Sequence[Box]) -> None:
    """Until every guest has started; GraderError, with the reason, for one that does not."""
    deadline = time.monotonic() + START_SECONDS
    while waiting := [box for box in boxes if not box.ready]:
        look(waiting)
        for box in waiting:
            for line in box.reported():
                if line != "ready":
                    raise GraderError(f"expected the sandbox to start, found {line}")
                box.ready = True
                break
            if not box.ready and not box.open:
                told = box.errors.strip() or f"exit status {box.wait()}"
                raise GraderError(f"expected the sandbox to start, found {told.splitlines()[-1]}")
        if time.monotonic() > deadline:
            raise GraderError(f"expected the sandbox to start within {START_SECONDS:g} s")


# ------------------------------------------------------------------------------ what can be had

#: A guest that tries what no guest may; an assertion that fails tells what it could do.
_PROBE = """
import os, resource, socket, sys, time
assert os.getuid() != 0, "a guest runs as root"
assert os.listdir(".") == [], "its folder is not empty"
for path in ("/etc/passwd", "/proc/self", "/sys/kernel", "/run", "/dev", "/.old"):
    assert not os.path.exists(path), path + " is shown"
for path in ("/", os.path.dirname(sys.executable), os.path.dirname(os.__file__)):
    try:
        open(os.path.join(path, "icpo-lite-probe"), "w")
    except OSError:
        continue
    raise SystemExit(path + " is writable")
for attempt in (socket.socket, lambda: socket.socket(40), lambda: os.kill(1, 9) or os.setuid(0)):
    try:
        attempt()
    except OSError:
        continue
    raise SystemExit("the system calls are not filtered")
children = []
try:
    for _ in range(64):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
except BlockingIOError:
    assert children, "no process may be started (Linux before 5.14 counts those of other programs)"
else:
    raise SystemExit("processes are not limited")
"""


def why_not() -> str:
    """Empty when isolation works here, tried once; else what is missing."""
    return _choice()[1]


def _chosen() -> Method:
    if problem := why_not():
        raise GraderError(
            f"expected a system that can isolate generated code, found none ({problem}); run "
            "code tasks on Linux with bubblewrap or user namespaces, or leave them out of the "
            "corpus"
        )
    return _choice()[0]


@lru_cache(maxsize=1)
def _choice() -> tuple[Method, str]:
    """How isolation is had here, or why by neither way."""
    problem = sandbox_root.machine_problem()
    tried = [problem] if problem else []
    for method in () if problem else _METHODS:
        if not (reason := why_not_by(method)):
            return method, ""
        tried.append(f"{method}: {reason}")
    return "namespaces", "; ".join(tried)


_METHODS: tuple[Method, ...] = ("bubblewrap", "namespaces")


def why_not_by(method: Method) -> str:
    """Empty when a guest of this method can do nothing that it should not, else what is wrong."""
    if method == "bubblewrap" and shutil.which("bwrap") is None:
        return "not installed"
    try:
        outcome = run(_PROBE, Limits(seconds=30.0), method=method)
    except (GraderError, OSError, subprocess.SubprocessError) as error:
        return str(error).removeprefix("expected the sandbox to start, found ")
    return outcome.reason
