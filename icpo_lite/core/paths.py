"""Where things lie that can be made again, and what lies in a folder."""

from __future__ import annotations

import os
from pathlib import Path


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
