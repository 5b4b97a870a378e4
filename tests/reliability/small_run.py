"""A run of the tiny recipe, small enough to be made a hundred times, in a forked process."""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from safetensors.torch import load_file

from icpo_lite.runs.checkpoint import latest_checkpoint, load_checkpoint

SMALL = (
    *("prompts_per_step=2", "num_generations=4", "compare={}", "evaluation.enabled=false"),
    *("device=cpu", "log_completions_steps=0", "max_completion_length=16", "save_steps=1"),
    *("save_total_limit=2", "max_steps=3"),
)


def few_problems() -> Any:
    """Within this context a run draws 32 problems of the embedded world, in a tenth of a second."""
    return patch("icpo_lite.data.from_recipe.WORLD_PROBLEMS", 32)


def train(folder: Path, *overrides: str) -> None:
    from icpo_lite.core.console import Display
    from icpo_lite.recipe import load_recipe
    from icpo_lite.runs import train

    with few_problems(), Path(f"{folder}.log").open("a", encoding="utf-8") as log:
        recipe = load_recipe("tiny", [f"output_dir={folder}", *SMALL, *overrides])
        display = Display(total=recipe.max_steps, live=False, file=log)
        train.train(recipe, display, threads=1)  # a pool of threads would not survive a fork


@lru_cache(maxsize=1)
def _warm() -> None:
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder) / "run", "max_steps=1")


def forked(work: Callable[[], object], *, kill_after: float | None = None) -> int:
    """Exit code of `work` in a child process, negative where a signal ended it.

    One run was made here before, so that a child imports nothing and starts within a moment.
    """
    _warm()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def same_adapter(one: Path, other: Path) -> bool:
    """Bit for bit."""
    a, b = (load_file(f / "adapter_model.safetensors") for f in (one, other))
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def newest_loads(folder: Path) -> bool:
    """Whether there is a checkpoint and it can be read."""
    path = latest_checkpoint(folder).path
    return path is not None and load_checkpoint(path).state["trainer"]["step"] > 0
