"""The command lines that an arena consists of: what is done is left out, several run at a time."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import IcpoError
from icpo_lite.core.files import read_json, write_atomically
from icpo_lite.core.oom import Say
from icpo_lite.core.parent import start_bound

COMMAND = (sys.executable, "-m", "icpo_lite")
#: Carries out one command line and returns its exit code.
Run = Callable[[list[str]], int]
#: Seconds between two looks at what runs.
_LOOK_S = 0.2


class PartInterruptedError(IcpoError):
    """A part was interrupted and has saved its work."""

    exit_code = 130


@dataclass(frozen=True)
class Unit:
    """One command line. place: the folder that it fills, whose file `done` says that it is whole.

    What was asked is kept beside it, so that the same command is not carried out twice.
    """

    title: str
    arguments: tuple[str, ...]
    place: Path
    done: str

    @property
    def _asked(self) -> Path:
        return self.place.with_name(f"{self.place.name}.asked.json")

    @property
    def is_done(self) -> bool:
        """Whether the same was asked before and is whole."""
        try:
            return (self.place / self.done).is_file() and read_json(
                self._asked.read_text(encoding="utf-8")
            ) == list(self.arguments)
        except (OSError, ValueError):
            return False

    def finish(self) -> None:
        write_atomically(self._asked, json.dumps(list(self.arguments)).encode())


#: Units that follow one another; chains are independent of each other.
Chain = Sequence[Unit]


def play(chains: Sequence[Chain], *, jobs: int, run: Run | None, say: Say) -> None:
    """Carries out what is left of all chains, `jobs` of them at a time, in order.

    run: carries out one command line; None starts a process for each, whose words go to the
    terminal where one runs at a time, else to a log beside its folder. Raises IcpoError where one
    fails, PartInterruptedError where one is interrupted; those beside it have saved their work.
    """
    left = [[unit for unit in chain if not unit.is_done] for chain in chains]
    waiting = [chain for chain in left if chain]
    if run is not None or jobs == 1:
        for unit in (unit for chain in waiting for unit in chain):
            say(f"\n{unit.title}: {unit.place}")
            _ended(unit, (run or run_alone)([*COMMAND, *unit.arguments]))
        return
    _side_by_side(waiting, jobs, say)


def _ended(unit: Unit, code: int) -> None:
    if code in (130, -2, -15):
        raise PartInterruptedError("interrupted; the same command goes on from there")
    if code:
        raise IcpoError(
            f"`icpo-lite {shlex.join(unit.arguments)}` ended with exit code {code}; correct what "
            "it says, then run the same command again"
        )
    unit.finish()


def run_alone(command: list[str]) -> int:
    """Its exit code, 130 after Ctrl-C, for which it is given the time to save its work."""
    interrupted = False
    with start_bound(command) as process:
        while True:
            try:
                code = process.wait()
                return 130 if interrupted and code else code
            except KeyboardInterrupt:
                interrupted = True
                process.terminate()  # to a run that Ctrl-C has reached as well the same wish


@dataclass
class _Running:
    unit: Unit
    rest: list[Unit]
    process: subprocess.Popen[bytes]
    log: Any


def _side_by_side(waiting: list[list[Unit]], jobs: int, say: Say) -> None:
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_started(waiting.pop(0), say))
            for one in [r for r in running if r.process.poll() is not None]:
                running.remove(one)
                one.log.close()
                if one.process.returncode:
                    say(f"see {one.log.name}")
                _ended(one.unit, one.process.returncode)
                if one.rest:
                    waiting.insert(0, one.rest)  # a chain goes on before another begins
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        raise PartInterruptedError("interrupted; the same command goes on from there") from None
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.wait()
            one.log.close()


def _started(chain: list[Unit], say: Say) -> _Running:
    unit, *rest = chain
    log = unit.place.with_name(f"{unit.place.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"{unit.title}: {unit.place}, log {log}")
    out = log.open("ab")
    process = start_bound([*COMMAND, *unit.arguments], stdout=out, stderr=out)
    return _Running(unit, rest, process, out)
