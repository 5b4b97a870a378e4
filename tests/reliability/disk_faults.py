"""A disk that fails at any call of a run: one error line, a loadable checkpoint, the same result.

Every call of this process that changes the disk (write, fsync, rename, replace, mkdir, unlink,
rmdir, ftruncate) during a run fails once, with ENOSPC, with EIO, or by a kill in its place; half
of a write has then reached the disk. The run is started again without the fault; its faults are
spread evenly over the calls, or all are tried.

python tests/reliability/disk_faults.py --faults 0
"""

import argparse
import errno
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from small_run import forked, newest_loads, same_adapter, train

from icpo_lite.core.errors import RunDirectoryError

CALLS = ("write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "ftruncate")
FAULTS = ("ENOSPC", "EIO", "KILL")
#: What the forked run ends with.
SURVIVED, REFUSED, WRONG = 0, 7, 8


@contextmanager
def at_call(number: int, act: Callable[[], object]) -> Iterator[list[str]]:
    """Runs `act` in place of the call of this number; lists the calls."""
    seen: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}

    def wrap(name: str) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            seen.append(name)
            if len(seen) == number:
                if name == "write":  # half of it reached the disk
                    real[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
                act()
            return real[name](*arguments, **named)

        return wrapper

    for name in CALLS:
        setattr(os, name, wrap(name))
    try:
        yield seen
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def _act(fault: str) -> None:
    if fault == "KILL":
        os.kill(os.getpid(), signal.SIGKILL)
    number = getattr(errno, fault)
    raise OSError(number, os.strerror(number))


def _faulty(folder: Path, number: int, fault: str, overrides: tuple[str, ...]) -> None:
    """The body of a forked run; its exit code says how it took the fault."""
    try:
        with at_call(number, lambda: _act(fault)):
            train(folder, *overrides)
    except RunDirectoryError as error:
        os._exit(REFUSED if "\n" not in str(error) else WRONG)
    except BaseException as error:
        print(f"{fault} at call {number}: {type(error).__name__}: {error}", file=sys.stderr)
        os._exit(WRONG)


def calls_of_a_run(folder: Path, overrides: tuple[str, ...] = ()) -> int:
    """How many calls an undisturbed run makes."""
    counted = folder.with_suffix(".calls")

    def count() -> None:
        with at_call(-1, lambda: None) as seen:
            train(folder, *overrides)
        counted.write_text(str(len(seen)))

    assert forked(count) == 0
    return int(counted.read_text())


def try_fault(
    folder: Path, reference: Path, number: int, fault: str, overrides: tuple[str, ...] = ()
) -> str:
    """What went wrong, "" where all is as it must be."""
    code = forked(lambda: _faulty(folder, number, fault, overrides))
    if code not in ({-signal.SIGKILL} if fault == "KILL" else {SURVIVED, REFUSED}):
        return f"{fault} at call {number}: exit code {code}"
    if any(folder.glob("checkpoint-*")) and not newest_loads(folder):
        return f"{fault} at call {number}: no checkpoint can be loaded"
    if code := forked(lambda: train(folder, *overrides)):
        return f"{fault} at call {number}: exit code {code} when started again"
    same = same_adapter(reference, folder)
    return "" if same else f"{fault} at call {number}: another adapter than undisturbed"


def places(calls: int, faults: int) -> list[tuple[int, str]]:
    """`faults` pairs of a call's number and a fault, spread evenly over a run; 0 for all pairs.

    The kinds of fault take turns, so that each meets every part of a run.
    """
    if not 0 < faults < calls * len(FAULTS):
        return [(number, fault) for number in range(1, calls + 1) for fault in FAULTS]
    return [
        (1 + (2 * i + 1) * calls // (2 * faults), FAULTS[i % len(FAULTS)]) for i in range(faults)
    ]


def worst(folder: Path, faults: int, *overrides: str) -> tuple[list[str], int, int]:
    """(what went wrong, faults tried, calls of a run)."""
    reference = folder / "whole"
    calls, wrong = calls_of_a_run(reference, overrides), []
    tried = places(calls, faults)
    for done, (number, fault) in enumerate(tried, start=1):
        place = folder / f"{fault}-{number}"
        if said := try_fault(place, reference, number, fault, overrides):
            wrong.append(said)
            print(said, flush=True)
        shutil.rmtree(place)
        if done % 50 == 0:
            print(f"{done} of {len(tried)} faults", flush=True)
    return wrong, len(tried), calls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=120, help="0: every fault at every call")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong, tried, calls = worst(Path(folder), options.faults)
    print(f"{tried} faults at {calls} calls of a run: {tried - len(wrong)} taken as they must be")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
