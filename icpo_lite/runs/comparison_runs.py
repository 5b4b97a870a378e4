"""To be said."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from icpo_lite.core.console import Display
from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.runs.train import _train_rival

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


def _start_rivals(
    rivals: Mapping[str, Recipe], children: dict[str, BaseProcess], display: Display
) -> None:
    """Train the runs to compare with, each in a process of its own, kept in `children`."""
    context = multiprocessing.get_context("spawn")
    for name, recipe in rivals.items():
        log = Path(f"{recipe.output_dir}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        process = context.Process(
            target=_train_rival, args=(recipe, log, torch.get_num_threads()), name=name
        )
        process.start()
        children[name] = process
        display.message(f"{name} is trained beside this run: {recipe.output_dir}, log {log}")


def _await_rivals(
    children: Mapping[str, BaseProcess],
    rivals: Mapping[str, Recipe],
    display: Display,
) -> None:
    for name, process in children.items():
        if process.is_alive():
            display.message(f"Waiting for {name} …")
        process.join()
        if process.exitcode:
            raise RunDirectoryError(
                f"the run {name} that this one is compared with ended with exit code "
                f"{process.exitcode}; see {rivals[name].output_dir}.log, then run this again"
            )


def _stop_rivals(children: Mapping[str, BaseProcess]) -> None:
    for process in children.values():
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGTERM)
    for process in children.values():
        process.join()
