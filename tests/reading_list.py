"""icpo_lite/docs/reading-list.md, written from reading-list.yaml beside it.

python tests/reading_list.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import icpo_lite

DOCS = Path(icpo_lite.__file__).parent / "docs"
SOURCE, TABLE = DOCS / "reading-list.yaml", DOCS / "reading-list.md"
STATUSES = ("here", "command", "not")


def sections() -> dict[str, list[dict[str, Any]]]:
    return dict(yaml.safe_load(SOURCE.read_text(encoding="utf-8")))


def entries() -> list[dict[str, Any]]:
    return [entry for rows in sections().values() for entry in rows]


def rendered() -> str:
    counts = Counter(entry["status"] for entry in entries())
    lines = [
        "# The reading list",
        "",
        f"{len(entries())} systems were looked at: {counts['here']} are keys of a recipe, "
        f"{counts['command']} are commands, {counts['not']} are not here. Written by "
        "`python tests/reading_list.py` from `reading-list.yaml`; a test loads every key.",
    ]
    for title, rows in sections().items():
        lines += ["", f"## {title}", "", "| system | what it does | here |", "|---|---|---|"]
        lines += [f"| {_named(entry)} | {entry['what']} | {_where(entry)} |" for entry in rows]
    return "\n".join(lines) + "\n"


def _named(entry: dict[str, Any]) -> str:
    number = entry.get("arxiv")
    return f"{entry['name']} (arXiv {number})" if number else entry["name"]


def _where(entry: dict[str, Any]) -> str:
    parts = list(_ways(entry))
    if why := entry.get("why"):
        parts.append(why)
    return "; ".join(parts)


def _ways(entry: dict[str, Any]) -> Iterator[str]:
    if entry["status"] == "here":
        yield ", ".join(f"`{key}`" for key in entry["keys"])
    elif entry["status"] == "command":
        yield f"`icpo-lite {entry['command']}`"
    else:
        yield "not here"


if __name__ == "__main__":
    TABLE.write_text(rendered(), encoding="utf-8")
