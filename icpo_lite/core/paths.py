"""Where things lie that can be made again, and what lies in a folder."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from icpo_lite.core.errors import UsageError

#: Marks the folder that `icpo-lite handover` wrote.
HANDOVER = "handover.json"


def user_cache(name: str) -> Path:
    """The folder `icpo-lite/<name>` in the user's cache; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "icpo-lite" / name


def at_home(given: str | Path) -> Path:
    """A path with `~` made the home folder; as it is where there is no such user."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        return Path(given)


def inside(folder: Path, given: str | Path) -> Path | None:
    """The real path of a file that data name, links followed; None where it leaves the folder.

    given: absolute, or from the folder on.
    """
    try:
        path = (folder / Path(given).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError):  # no such home, links in a circle, a zero byte
        return None
    return path if path.is_relative_to(folder.resolve()) else None


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory."""
    if not (folder / "recipe.yaml").is_file():
        return False
    return any((folder / name).exists() for name in ("run.json", "lock", "metrics.jsonl"))


def recipe_home(folder: Path) -> Path | None:
    """Where the recipe of a run or of an adapter lies; None where none does.

    Beside it, above it where it is a checkpoint, or in the handover folder that it came back to.
    """
    homes = [folder, folder.parent] if folder.name.startswith("checkpoint-") else [folder]
    home = next((f for f in homes if (f / "recipe.yaml").is_file()), None)
    if home is None and (folder / "adapter_config.json").is_file():
        above = folder.resolve().parents
        home = next((f for f in above if (f / HANDOVER).is_file()), None)
    return home if home is not None and (home / "recipe.yaml").is_file() else None


def reads_as_path(name: str) -> bool:
    """Whether a name that is no folder here was meant as one, and not as a model of the hub.

    So are names of more than two parts, those that begin as paths do, a checkpoint's, and those
    whose parent holds runs.
    """
    if name.startswith((".", "/", "~", "runs/")) or name.endswith("/") or "\\" in name:
        return True
    if name.endswith((".yaml", ".yml", ".json", ".jsonl", ".csv", ".html")):
        return True
    parts = name.split("/")
    if len(parts) > 2 or re.fullmatch(r"checkpoint-\d+", parts[-1]):
        return True
    place = Path(name)
    return place.is_file() or next(_runs_in(place.parent), None) is not None


def no_run_at(name: str | Path) -> UsageError:
    """What is said of a run directory that is not there; names the run that it nearly is."""
    place = at_home(name)
    beside = [run.name for run in _runs_in(place.parent)]
    close = difflib.get_close_matches(place.name, beside, n=1)
    hint = f"; did you mean {place.with_name(close[0])}?" if close else ""
    found = "a file" if place.is_file() else "none"
    return UsageError(
        f"expected a run directory, found {found} at {name}; give the folder that `icpo-lite "
        f"train` wrote{hint}"
    )


def runs_hint(folder: Path) -> str:
    """The runs that a folder holds, for one that was given in a run's place; "" for none."""
    runs = sorted(map(str, _runs_in(folder)))
    more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
    return f"; it holds {', '.join(runs[:3])}{more}" if runs else ""


def _runs_in(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if is_run(path))
    except OSError:  # no folder, or none that may be read
        return
