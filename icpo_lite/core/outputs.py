"""Where a command may write: what `-o` names is never an input and never a stranger's file.

Every command with an output asks `check_output` before its work. What stands there already may be
replaced only if the command itself wrote it, which its `Kind` can tell, or with --force; what the
command reads, and what belongs to a run, is never replaced.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import UsageError
from icpo_lite.core.paths import is_run

#: What a run keeps in its directory, by the first part of a path in there.
_OF_A_RUN = re.compile(
    r"run\.json|README\.md|recipe\.yaml|metrics\.jsonl|completions|finished|lock|console\.log|eval|eval-base"
    r"|\.?checkpoint-\d+.*|adapter_.*|tokenizer.*|special_tokens_map\.json|chat_template.*"
    r"|added_tokens\.json|vocab\..*|merges\.txt|tensorboard|wandb"
)
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Kind:
    """One command's output. says: its name in an error. wrote: whether what stands there is one."""

    says: str
    wrote: Callable[[Path], bool]
    folder: bool = False


def check_output(
    output: str | Path,
    kind: Kind,
    *,
    inputs: Iterable[str | Path | None] = (),
    force: bool = False,
) -> Path:
    """The output as a path that may be written, and can be.

    inputs: files, folders and names that the command reads; what is no path is left out. force:
    also where a file stands that the command did not write. Raises UsageError.
    """
    place = Path(output)
    for given in inputs:
        if given is not None and _destroys(place, Path(given)):
            raise UsageError(
                f"{place}: expected another place than what is read, found {given} there; give "
                "-o a new name"
            )
    if (run := _run_around(place)) is not None:
        raise UsageError(
            f"{place}: expected a place of its own, found one that belongs to the run {run}; give "
            "-o a name outside the run"
        )
    _require_shape(place, kind)
    if place.exists() and not kind.wrote(place):
        forcible = not kind.folder and not _inside_run(place)
        if not (force and forcible):
            raise UsageError(
                f"{place}: expected a new {'folder' if kind.folder else 'file'} or {kind.says}, "
                f"found {'other files' if kind.folder else 'another file'}; give -o a new name"
                + (", or --force to write over it" if forcible else "")
            )
    require_writable(place)
    return place


def _destroys(output: Path, given: Path) -> bool:
    """Whether writing `output` would replace an input: the same, or a folder that holds it."""
    if not given.exists():
        return False
    own, read = output.resolve(), given.resolve()
    if own == read or own in read.parents:
        return True
    return output.exists() and output.samefile(given)


def _run_around(output: Path) -> Path | None:
    """The run to whose own files an output would belong; the run itself where it is one."""
    own = output.resolve()
    if is_run(own):
        return output
    for folder in own.parents:
        if is_run(folder):
            first = own.relative_to(folder).parts[0]
            if _OF_A_RUN.fullmatch(first):
                return folder
    return None


def _inside_run(output: Path) -> bool:
    return any(map(is_run, output.resolve().parents))


def _require_shape(place: Path, kind: Kind) -> None:
    if not place.exists():
        return
    if kind.folder and not place.is_dir():
        raise UsageError(f"{place}: expected a folder to write, found a file; give -o a folder")
    if not kind.folder and not place.is_file():
        found = "a folder" if place.is_dir() else "a device"
        raise UsageError(f"{place}: expected a file to write, found {found}; give -o a file")


def require_writable(place: Path) -> None:
    """Raises UsageError where nothing can be written at `place`: before the work, not after it."""
    above = place if place.is_dir() else place.absolute().parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise UsageError(f"{place}: expected a folder at {above}, found a file; give another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(
            f"{place}: expected a folder that can be written, found {above}, which cannot; give "
            "another place"
        )


def first_row(file: Path) -> Mapping[str, Any] | None:
    """The first line of a file as a JSON object; {} of an empty file, None where it is none."""
    with file.open("rb") as opened:
        line = opened.readline(_MOST_BYTES)
    if not line:
        return {}
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def rows_with(*keys: str) -> Callable[[Path], bool]:
    """Whether a file is empty, or its first line is a JSON object with these keys."""

    def wrote(file: Path) -> bool:
        row = first_row(file)
        return row is not None and (not row or {*keys} <= row.keys())

    return wrote


def begins_with(mark: str, *, within: int = 4096) -> Callable[[Path], bool]:
    """Whether a file is empty, or holds this mark near its beginning."""

    def wrote(file: Path) -> bool:
        with file.open("rb") as opened:
            head = opened.read(within)
        return not head or mark.encode() in head

    return wrote


def holds(*names: str) -> Callable[[Path], bool]:
    """Whether a folder holds no file yet, or one of these patterns finds something in it."""

    def wrote(folder: Path) -> bool:
        found = any(any(folder.glob(name)) for name in names)
        return found or not any(path.is_file() for path in folder.rglob("*"))

    return wrote
