"""The rows of `completions/` that a run has written, for whoever learns from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import DataError
from icpo_lite.core.files import read_json
from icpo_lite.core.paths import at_home, no_run_at


def logged_rows(run: str | Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file's name, row) of every reply that `train` wrote, in order of steps.

    needed: what the reader takes from a row. Raises DataError, with file and line, where there is
    no run or a row is another one.
    """
    if not at_home(run).is_dir():
        raise no_run_at(run)
    for file in sorted(at_home(run).glob("completions/step-*.jsonl")):
        for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                row = dict(read_json(line))
                lacks = next((name for name in needed if name not in row), None)
            except (ValueError, TypeError) as error:
                raise _faulty(file, number, error) from None
            if lacks is not None:
                raise _faulty(file, number, f"no {lacks!r}")
            yield file.name, row


def _faulty(file: Path, number: int, why: object) -> DataError:
    return DataError(
        f"{file}:{number}: expected a completion as `icpo-lite train` writes it, found another row "
        f"({why}); give another run"
    )
