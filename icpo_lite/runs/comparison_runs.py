"""The runs that a recipe's `compare` names: each is `icpo-lite train` in a process of its own.

A program of its own, not a copy of the caller's, so that a script needs no `__main__` guard and a
notebook cell or a thread can train.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import icpo_lite
from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.core.files import write_atomically
from icpo_lite.recipe import load_recipe, resolved_yaml

if TYPE_CHECKING:
    from icpo_lite.core.console import Display
    from icpo_lite.recipe import Recipe


class ComparisonRuns:
    """Starts, awaits and stops the runs in `recipes` (name → recipe)."""

    def __init__(self, recipes: Mapping[str, Recipe], display: Display) -> None:
        self.recipes, self.display = recipes, display
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, threads: int) -> None:
        """Trains one of them beside this process; all that it prints goes to `<output_dir>.log`."""
        recipe = self.recipes[name]
        log = _log(recipe)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "icpo_lite", "train", *arguments(recipe)]
        with log.open("ab") as out:
            self._processes[name] = subprocess.Popen(
                [*command, "--threads", str(threads)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=_environment(),
            )
        self.display.message(f"{name} is trained beside this run: {recipe.output_dir}, log {log}")

    def wait(self, name: str) -> None:
        """Until one has ended. Raises RunDirectoryError, with its log, where it failed."""
        process = self._processes[name]
        if process.poll() is None:
            self.display.message(f"Waiting for {name} …")
        if code := process.wait():
            raise RunDirectoryError(
                f"the run {name} that this one is compared with ended with exit code {code}; see "
                f"{_log(self.recipes[name])}, then run this again"
            )

    def stop(self) -> None:
        """Asks those that still run to save and end, and waits until they have."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
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
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, resolved_yaml(recipe).encode())
    return [str(file)]


def _log(recipe: Recipe) -> Path:
    return Path(f"{recipe.output_dir}.log")


def _environment() -> dict[str, str]:
    """This process's, in which the package is found although only a script's own path led here."""
    home = Path(icpo_lite.__file__).resolve().parent.parent
    if home.name in ("site-packages", "dist-packages"):
        return dict(os.environ)
    paths = [str(home), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
