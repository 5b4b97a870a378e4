"""A fault drill: random faults at random instants of every command; nothing is lost.

Each drill forks a command (augment, train, a comparison run, an evaluation, an export, a report),
lets one fault meet it, starts the same command again without the fault, and compares: the result
is that of an undisturbed run, byte for byte. The faulty call ends well, by the signal, or with one
honest line; no traceback is printed, no process is left, no input is changed.

python tests/reliability/drill.py --minutes 2
"""

import argparse
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))
from disk_faults import at_call
from small_run import SMALL, few_problems, forked

from icpo_lite import cli
from icpo_lite.core.errors import GraderError
from icpo_lite.rollout import groups
from icpo_lite.runs.run_directory import owner_of

TRAIN = (
    *(*SMALL, "rehearse=false", "max_completion_length=16", "max_steps=4", "save_steps=2"),
    *("log_completions_steps=0", "count_zero_variance=true", "entropy_coef=0.01"),
)
#: … beside a comparison run, which is a program of its own.
BESIDE = (*TRAIN, "max_steps=3", "prompts_per_step=2", "compare=[rlvr]")
JUDGED = ("--problems", "2", "--runs", "1", "--settings", "full,sharded", "--max-new-tokens", "6")
#: Seconds of a clock in a file that differ between two equal runs, and a report's own facts.
TIMED = ("step_seconds", "sampling_seconds", "tokens_per_second", "memory_gb", "eval/seconds")
ENDS = (0, 1, 2, 130)


@dataclass(frozen=True)
class Job:
    """One command. result: its files that must be the undisturbed ones. weight: how often it is
    drawn."""

    name: str
    arguments: Callable[[Path], list[str]]
    result: Callable[[Path], list[Path]]
    weight: int


def _files(*names: str) -> Callable[[Path], list[Path]]:
    return lambda place: [place / name for name in names]


JOBS = (
    Job(
        "augment",
        lambda at: ["augment", str(at / "q.jsonl"), "-o", str(at / "prompts.jsonl")],
        _files("prompts.jsonl"),
        2,
    ),
    Job(
        "train",
        lambda at: ["train", "tiny", f"output_dir={at / 'new'}", *TRAIN, "--threads", "1"],
        _files("new/adapter_model.safetensors", "new/metrics.jsonl", "new/finished"),
        10,
    ),
    Job(
        "comparison",
        lambda at: ["train", "tiny", f"output_dir={at / 'new'}", *BESIDE, "--threads", "1"],
        _files(
            *("new/adapter_model.safetensors", "new/finished", "new/metrics.jsonl"),
            *("new-rlvr/adapter_model.safetensors", "new-rlvr/finished", "new-rlvr/metrics.jsonl"),
        ),
        1,
    ),
    Job(
        "evaluation",
        lambda at: ["eval", str(at / "run"), *JUDGED, "-o", str(at / "judged")],
        _files("judged/run/conversations.jsonl", "judged/run/eval.json"),
        3,
    ),
    Job(
        "export",
        lambda at: ["export", str(at / "run"), "-o", str(at / "merged"), "--prompts", "1"],
        _files("merged/model.safetensors"),
        2,
    ),
    Job(
        "report",
        lambda at: ["report", str(at / "run"), "-o", str(at / "report.html")],
        _files("report.html"),
        2,
    ),
)


# ------------------------------------------------------------------------------------- faults


@dataclass
class Fault:
    """One fault. after: seconds into the command at which its signal comes, if it has one."""

    name: str
    after: float | None = None
    number: int = 0
    within: Callable[[], Any] | None = None
    out: str = "file"
    flips: bool = False
    rival: bool = False
    code: tuple[int, ...] = field(default=ENDS)


def _signal(name: str) -> Callable[[random.Random, float], Fault]:
    number = int(getattr(signal, name))

    def make(draw: random.Random, length: float) -> Fault:
        return Fault(name, draw.uniform(0, length), number, code=(*ENDS, -number))

    return make


def _disk(name: str) -> Callable[[random.Random, float], Fault]:
    def make(draw: random.Random, length: float) -> Fault:
        number, code = draw.randint(1, 60), getattr(errno, name)

        def fails() -> None:
            raise OSError(code, os.strerror(code))

        return Fault(name, within=lambda: at_call(number, fails))

    return make


@contextmanager
def _grader_fails(at: int) -> Iterator[None]:
    real, calls = groups.judge_groups, []

    def judged(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise GraderError("row 1: the gold answer cannot be read; change the row")
        return real(*arguments)

    with patch("icpo_lite.training.trainer.judge_groups", judged):
        yield


def _grader(draw: random.Random, length: float) -> Fault:
    at = draw.randint(1, 4)
    return Fault("grader", within=lambda: _grader_fails(at))


def _output(name: str) -> Callable[[random.Random, float], Fault]:
    return lambda draw, length: Fault(name, out=name)


def _flip(draw: random.Random, length: float) -> Fault:
    """A kill, and a bit of the newest checkpoint that has turned over since."""
    killed = int(signal.SIGKILL)
    after = draw.uniform(0, length)
    return Fault("flipped bit", after, killed, flips=True, code=(*ENDS, -killed))


def _rival(draw: random.Random, length: float) -> Fault:
    """The comparison run is killed, where it trains already; the run itself where not yet."""
    killed = int(signal.SIGKILL)
    return Fault("rival", draw.uniform(0, length), killed, rival=True, code=(*ENDS, -killed))


FAULTS = {
    **{name: _signal(name) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")},
    **{name: _disk(name) for name in ("ENOSPC", "EIO")},
    **{name: _output(name) for name in ("closed pipe", "full output", "ascii output")},
    "grader": _grader,
    "flipped bit": _flip,
    "rival killed": _rival,
}
#: Faults that meet some commands alone.
ONLY = {
    "grader": ("train", "comparison"),
    "flipped bit": ("train",),
    "rival killed": ("comparison",),
}


# ------------------------------------------------------------------------------------- a drill


def _standard_output(kind: str, log: Path) -> None:
    """Gives this process the output that is asked for; errors always go to the log."""
    errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(errors, 2)
    out = errors
    if kind == "closed pipe":
        read, out = os.pipe()
        os.close(read)
    elif kind == "full output":
        out = os.open("/dev/full", os.O_WRONLY)
    os.dup2(out, 1)
    encoding = "ascii" if kind == "ascii output" else "utf-8"
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding=encoding, closefd=False)


def command(job: Job, place: Path, fault: Fault | None, log: Path) -> None:
    """The body of a forked command."""
    _standard_output(fault.out if fault else "file", log)
    os.cpu_count = lambda: 1  # type: ignore[assignment]  # torch's threads survive no fork
    with ExitStack() as stack:
        stack.enter_context(few_problems())
        if fault and fault.within:
            stack.enter_context(fault.within())
        code = cli.run(job.arguments(place))
    sys.stdout.flush = lambda: None  # type: ignore[method-assign]
    os._exit(code)


def run_with(job: Job, place: Path, fault: Fault | None, log: Path) -> int:
    """The exit code of a command that a fault meets."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            command(job, place, fault, log)
        except BaseException as error:
            os.write(2, f"Traceback: {type(error).__name__}: {error}\n".encode())
            os._exit(99)
    if fault is not None and fault.after is not None:
        end = time.monotonic() + fault.after
        hit = child
        while time.monotonic() < end:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        if fault.rival:
            hit = int(owner_of(place / "new-rlvr") or child)
        os.kill(hit, fault.number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def flip(place: Path, draw: random.Random) -> None:
    """Turns a bit over in a file of the newest checkpoint, where there is one."""
    files = sorted(f for f in place.glob("new/checkpoint-*/*") if f.is_file())
    if files:
        file = draw.choice(files)
        data = bytearray(file.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(bytes(data))


def digest(file: Path) -> str:
    """What a file says, without the seconds that it took and the folder that it lies in."""
    if file.name == "metrics.jsonl":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        data = json.dumps([{k: v for k, v in r.items() if k not in TIMED} for r in rows]).encode()
    else:
        data = file.read_bytes()
    if file.suffix == ".html":  # a report names the command that goes on from its run
        for folder in (str(file.parent), os.path.relpath(file.parent)):
            data = data.replace(f"{folder}/".encode(), b"")
    return hashlib.sha256(data).hexdigest()


def left_running(
    folder: Path, seconds: float = 30.0, others: frozenset[int] = frozenset()
) -> set[int]:
    """Processes of this drill's that are still there after so long; `others` were there before."""
    end = time.monotonic() + seconds
    while (found := _running(folder) - others) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def _running(folder: Path) -> set[int]:
    """Children of this process, and programs that were given a path in the folder."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            line = (stat.parent / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == os.getpid() or bytes(folder) in line:
            found.add(int(stat.parent.name))
    return found


def prepare(place: Path, source: Path) -> None:
    """What every command reads: a corpus and a finished run."""
    place.mkdir()
    shutil.copy(source / "q.jsonl", place / "q.jsonl")
    shutil.copytree(source / "run", place / "run")


def inputs(place: Path) -> dict[str, str]:
    """Digests of what a drill may not change."""
    found = [place / "q.jsonl", *sorted((place / "run").rglob("*"))]
    return {str(f.relative_to(place)): digest(f) for f in found if f.is_file()}


class Drill:
    """Drills of one seed in one folder, and what they came to."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        self.whole: dict[str, dict[str, str]] = {}
        self.length: dict[str, float] = {}
        self.source = folder / "source"
        self._make_source()
        # Such as those of tests that ran in this process before.
        self.others = frozenset(_running(folder))

    def _make_source(self) -> None:
        self.source.mkdir()
        problem = {
            "question": "A box holds 6 rows of 8 eggs. Ann buys {n} boxes. How many eggs is that?",
            "answer": "6*8=<<6*8=48>>48 eggs.\n{n}*48=<<{n}*48={t}>>{t}.\n#### {t}",
        }
        rows = []
        for n in range(3, 23):
            row = json.dumps(problem)
            for sign, number in {"{n}": n, "{t}": 48 * n}.items():
                row = row.replace(sign, str(number))
            rows.append(f"{row}\n")
        (self.source / "q.jsonl").write_text("".join(rows))
        (self.source / "run").mkdir()
        train = next(job for job in JOBS if job.name == "train")
        forked(lambda: None)  # what the first of all runs does once belongs to no drill
        for job in (train, *JOBS):
            place = self.folder / f"whole-{job.name}"
            shutil.rmtree(place, ignore_errors=True)
            prepare(place, self.source)
            began, log = time.monotonic(), self.folder / f"whole-{job.name}.log"
            code = run_with(job, place, None, log)
            self.length[job.name] = time.monotonic() - began
            if code:
                raise SystemExit(f"{job.name} fails undisturbed:\n{log.read_text()}")
            self.whole[job.name] = {str(f.relative_to(place)): digest(f) for f in job.result(place)}
            if job is train and not any((self.source / "run").iterdir()):
                shutil.copytree(place / "new", self.source / "run", dirs_exist_ok=True)
        for job in JOBS:
            shutil.rmtree(self.folder / f"whole-{job.name}")

    def one(self) -> None:
        """One fault at one command."""
        job = self.draw.choices(JOBS, [job.weight for job in JOBS])[0]
        names = [name for name in FAULTS if job.name in ONLY.get(name, (job.name,))]
        name = self.draw.choice(names)
        fault = FAULTS[name](self.draw, self.length[job.name])
        number = sum(self.done.values())
        place, log = self.folder / f"{number}", self.folder / f"{number}.log"
        prepare(place, self.source)
        before = inputs(place)
        code = run_with(job, place, fault, log)
        if fault.flips:
            flip(place, self.draw)
        again = run_with(job, place, None, log)
        said = log.read_text(errors="replace")
        self.done[f"{job.name}: {name}"] += 1
        left = left_running(place, others=self.others)
        trouble = [
            *([f"exit code {code}"] if code not in fault.code else []),
            *([f"exit code {again} when started again"] if again else []),
            *(["a traceback"] if "Traceback" in said or "Exception ignored" in said else []),
            *(["no word on what went wrong"] if code in (1, 2) and "Error: " not in said else []),
            *(["an input has changed"] if inputs(place) != before else []),
            *([f"processes {sorted(left)} left"] if left else []),
            *([] if again else self._differences(job, place)),
        ]
        if trouble:
            told = f"drill {number}, {job.name}, {name}: {'; '.join(trouble)}"
            self.wrong.append(told)
            print(f"{told}\n{said}", flush=True)
        shutil.rmtree(place)

    def _differences(self, job: Job, place: Path) -> Iterator[str]:
        for file in job.result(place):
            name = str(file.relative_to(place))
            if not file.is_file():
                yield f"{name} is lost"
            elif digest(file) != self.whole[job.name][name]:
                yield f"{name} is not the undisturbed one"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--faults", type=int, default=0, help="End after so many; 0: by the clock.")
    parser.add_argument("--seed", type=int, default=None, help="Of what is drawn; else a new one.")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(Path(folder), seed)
        while (
            time.monotonic() - began < 60 * options.minutes
            if not options.faults
            else sum(drill.done.values()) < options.faults
        ):
            drill.one()
    for name, count in sorted(drill.done.items()):
        print(f"{count:4} {name}")
    total, wrong = sum(drill.done.values()), len(drill.wrong)
    print(f"{total} faults in {time.monotonic() - began:.0f} s, seed {seed}: {wrong} taken amiss")
    print(*drill.wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
