"""Where things lie that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache(name: str) -> Path:
    """The folder `icpo-lite/<name>` in the user's cache; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "icpo-lite" / name
