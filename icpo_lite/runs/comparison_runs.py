"""The runs that a recipe's `compare` names: each is `icpo-lite train` in a process of its own.

A program of its own, not a copy of the caller's, so that a script needs no `__main__` guard and a
notebook cell or a thread can train.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import icpo_lite
from icpo_lite.core.errors import RunDirectoryError, UsageError
from icpo_lite.core.files import write_atomically
from icpo_lite.core.outputs import Kind, begins_with, check_output
from icpo_lite.core.parent import start_bound
from icpo_lite.kernels.chunks import free_bytes
from icpo_lite.recipe import load_recipe, resolved_yaml
from icpo_lite.runs.run_directory import owner_of

if TYPE_CHECKING:
    from icpo_lite.core.console import Display
    from icpo_lite.recipe import Recipe


_MARK = "# The recipe of a comparison run, written by icpo-lite."
_WRITTEN = Kind("the recipe of a comparison run", begins_with(_MARK))
#: Seconds that a run is given to save and end, then those after which it is ended.
SAVE_S, END_S = 600.0, 30.0
#: Seconds between two looks at a run that is waited for.
LOOK_S = 0.5


class ComparisonRuns:
    """Starts, looks at, awaits and stops the runs in `recipes` (name → recipe).

    extend: whether they may go on where they are finished, threads: what each may take on a CPU,
    both as `train` says. asked: whether there was a look at whether they fit beside this run.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        display: Display,
        *,
        extend: bool = False,
        threads: int | None = None,
    ) -> None:
        self.recipes, self.display, self.threads = recipes, display, threads
        self.asked = False
        self._more = ["--extend"] if extend else []
        self._threads: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._told: set[str] = set()

    def start_beside(self, threads: int) -> bool:
        """Start those that find room in memory beside this run, and say which do not.

        Asked after this run's first step: what it took at most is what each of them will take.
        Returns whether any has been started, or there is none.
        """
        self.asked = True
        peak, free = peak_bytes(), free_bytes(torch.device("cpu"))
        for name in self.recipes:
            if name in self._threads:
                continue
            if free < peak:
                self.display.message(
                    f"{name} is trained after this run: side by side it would need another "
                    f"{peak / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
                )
                continue
            free -= peak
            self.start(name, threads)
        return bool(self._threads) or not self.recipes

    def started(self, name: str) -> bool:
        """Whether `start` was called for it."""
        return name in self._threads

    def start(self, name: str, threads: int) -> None:
        """Trains one of them beside this process; all that it prints goes to `<output_dir>.log`.

        Where another process trains it already, such as one that outlived an earlier call, that
        is said, and it is started once the other has ended.
        """
        self._threads[name] = threads
        owner = owner_of(Path(self.recipes[name].output_dir))
        if owner is None:
            self._begin(name)
            return
        self.display.message(
            f"{name} is trained by process {owner} already, which an earlier call may have left: "
            f"{self.recipes[name].output_dir}; it is gone on with here once that process has ended"
        )

    def _begin(self, name: str) -> None:
        recipe, threads = self.recipes[name], self._threads[name]
        log = _log(recipe)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "icpo_lite", "train", *arguments(recipe), *self._more]
        with log.open("ab") as out:
            self._processes[name] = start_bound(
                [*command, "--threads", str(threads)], stdout=out, stderr=out, env=_environment()
            )
        self.display.message(f"{name} is trained beside this run: {recipe.output_dir}, log {log}")

    def look(self) -> None:
        """What a run does after each of its steps: starts those that can be, tells of failures.

        One that has failed costs this run nothing; `wait` starts it again.
        """
        for name in self._threads:
            if name not in self._processes:
                if owner_of(Path(self.recipes[name].output_dir)) is None:
                    self._begin(name)
            elif self._processes[name].poll() and name not in self._told:
                self._told.add(name)
                self.display.message(
                    f"warning: {self._ended(name)}; this run goes on and starts {name} again when "
                    "it is done"
                )

    def wait(self, name: str) -> None:
        """Until one has ended; one that failed is started once more, and goes on where it was.

        Raises RunDirectoryError, with its log, where it fails again.
        """
        self._until_free(name)
        if self._processes[name].poll() is None:
            self.display.message(f"Waiting for {name} …")
        code = self._processes[name].wait()
        if code and code != UsageError.exit_code:  # what is wrong with a recipe stays wrong
            self.display.message(f"warning: {self._ended(name)}; it is started again")
            del self._processes[name]
            self._until_free(name)
            code = self._processes[name].wait()
        if code:
            raise RunDirectoryError(f"{self._ended(name)}, then run this again")

    def _until_free(self, name: str) -> None:
        """Starts a run that is not started, as soon as nobody else trains it."""
        while name not in self._processes:
            if owner_of(Path(self.recipes[name].output_dir)) is None:
                self._begin(name)
            else:
                time.sleep(LOOK_S)

    def _ended(self, name: str) -> str:
        code, log = self._processes[name].returncode, _log(self.recipes[name])
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"the run {name} that this one is compared with ended {how}; see {log}"

    def stop(self) -> None:
        """Asks those that still run to save and end, and waits until they have.

        One that does not within SAVE_S is asked to end at once, then ended.
        """
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(SAVE_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def arguments(recipe: Recipe) -> list[str]:
    """What follows `icpo-lite train` to train exactly this recipe: a file and overrides.

    Its own file, so that files which it names are found from there. A recipe that has none, or
    that no overrides can make of it, is written whole beside its run directory.
    """
    if recipe.path.is_file():
        wanted = recipe.model_dump(mode="json", exclude={"gradient_accumulation_steps"})
        written = load_recipe(recipe.path).model_dump(mode="json")
        overrides = [
            f"{key}={json.dumps(value)}" for key, value in wanted.items() if written[key] != value
        ]
        if load_recipe(recipe.path, overrides) == recipe:
            return [str(recipe.path), *overrides]
    file = Path(f"{recipe.output_dir}.yaml")
    check_output(file, _WRITTEN, inputs=(recipe.path,))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, f"{_MARK}\n{resolved_yaml(recipe)}".encode())
    return [str(file)]


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _log(recipe: Recipe) -> Path:
    return Path(f"{recipe.output_dir}.log")


def _environment() -> dict[str, str]:
    """This process's, in which the package is found although only a script's own path led here."""
    home = Path(icpo_lite.__file__).resolve().parent.parent
    if home.name in ("site-packages", "dist-packages"):
        return dict(os.environ)
    paths = [str(home), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
