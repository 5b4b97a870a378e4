"""Metrics to TensorBoard, Weights & Biases and Trackio beside metrics.jsonl.

A tracker is a guest: it is imported when a recipe names it, and one that fails is said once and
left alone, while the run goes on. Nothing leaves the machine unless its owner set that up (a wandb
login, TRACKIO_SPACE_ID).
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import netrc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from icpo_lite.core.errors import UsageError
from icpo_lite.core.files import plain, redact
from icpo_lite.core.oom import Say

PROJECT = "icpo-lite"


@dataclass(frozen=True)
class Tracked:
    """The run as trackers know it.

    run_id: equal in every part of an interrupted run. step: the step that it goes on from.
    """

    folder: Path
    name: str
    run_id: str
    step: int
    config: Mapping[str, Any]


class Tracker(Protocol):
    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in `<run>/tensorboard`; steps that a resume took back are hidden there."""

    def __init__(self, run: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = run.step + 1 if run.step else None
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=purge)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run under the same id when resumed; wandb itself leaves out steps that it holds already.

    Without a login it runs offline, so that nobody is asked for a key in the middle of a run.
    """

    def __init__(self, run: Tracked) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=run.run_id,
            resume="allow",
            dir=str(run.folder),
            config=dict(run.config),
            mode=None if "WANDB_MODE" in os.environ or _wandb_login() else "offline",
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A run of the same name when resumed, in Trackio's own folder on this machine."""

    def __init__(self, run: Tracked) -> None:
        import trackio

        self._trackio = trackio
        trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=f"{run.name}-{run.run_id}",
            config=dict(run.config),
            resume="allow",
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._trackio.log(dict(metrics), step=step)

    def close(self) -> None:
        self._trackio.finish()


TRACKERS: Mapping[str, Callable[[Tracked], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}


@dataclass
class Tracking:
    """The trackers of one run that still work."""

    say: Say
    working: dict[str, Tracker] = field(default_factory=dict)

    def start(self, name: str, run: Tracked) -> None:
        with self._forgiving(name):
            self.working[name] = TRACKERS[name](run)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """A step's metrics; those that are no finite number are left out."""
        numbers = {
            name: float(value)
            for name, value in plain(metrics).items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        for name in list(self.working):
            with self._forgiving(name):
                self.working[name].log(step, numbers)

    def close(self) -> None:
        for name in list(self.working):
            with self._forgiving(name):
                self.working[name].close()
        self.working.clear()

    @contextmanager
    def _forgiving(self, name: str) -> Iterator[None]:
        """A guest's error is one warning; after it the guest is not asked again."""
        try:
            yield
        except (
            Exception,
            SystemExit,
        ) as error:  # whatever a tracker's network, disk or version comes up with
            self.working.pop(name, None)
            line = redact(str(error).strip().partition("\n")[0]) or type(error).__name__
            self.say(f"warning: {name} is left out from here on: {line}")


def require_trackers(names: Sequence[str]) -> None:
    """Raises UsageError, with the line that installs it, when a tracker is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"report_to: {missing[0]} is not installed; pip install 'icpo-lite[tracking]', or take "
            "it out of report_to"
        )


def start_tracking(
    names: Sequence[str],
    folder: Path,
    info: Mapping[str, Any],
    config: Mapping[str, Any],
    say: Say,
) -> Tracking:
    """The trackers that a recipe names. info: the run's run.json; config: the resolved recipe."""
    tracking = Tracking(say)
    begun = [part for part in [*info.get("earlier", []), info] if not part.get("from_step")]
    first = begun[-1].get("started", "") if begun else ""
    run_id = hashlib.blake2b(f"{folder.name}/{first}".encode(), digest_size=6).hexdigest()
    step = int(info.get("from_step", 0))
    run = Tracked(folder, folder.name, run_id, step, redact(plain(config)))
    for name in names:
        tracking.start(name, run)
    return tracking


def _wandb_login() -> bool:
    """Whether wandb has a key, without asking wandb, which would ask the user."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)
