"""One line for each thing that can be wrong with a recipe: where, what was expected, what found."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

#: Keys that hold a block of options: a child recipe changes single options of its parent's block.
BLOCKS = (
    *("augment", "reward", "grading", "endpoint", "evaluation"),
    *("share_schedule", "weight_schedule"),
)
#: Keys whose entries have a line of their own in a message.
MAPPINGS = (*BLOCKS, "columns", "compare")


def place_of(places: Mapping[str, str], key: str, otherwise: Path) -> str:
    """Where `a.b.c` was written, or the nearest block around it that has a place."""
    while key:
        if key in places:
            return places[key]
        key = key.rpartition(".")[0]
    return str(otherwise)


def nearest(word: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def unknown_key(dotted: str, names: Iterable[str], place: str) -> str:
    block, _, key = dotted.rpartition(".")
    names = list(names)
    hint = nearest(key, names)
    if not hint and block:
        hint = f"; expected one of {', '.join(names)}"
    return f"{place}: unknown key {dotted}{hint or '; `icpo-lite init` writes all keys'}"


def field_names(options: type[Any]) -> list[str]:
    fields: Mapping[str, Any] = (
        getattr(options, "model_fields", None)
        or getattr(options, "__dataclass_fields__", None)
        or {}
    )
    return list(fields)


def first_error(
    error: ValidationError,
    where: Callable[[str], str],
    *,
    prefix: str = "",
    blocks: Mapping[str, type[BaseModel]] = MappingProxyType({}),
    names: Iterable[str] = (),
) -> str:
    """One line for the first of pydantic's complaints, and how many more there are.

    where: from a dotted key to its place. prefix: the block that was validated, if not the whole.
    blocks: models of the blocks inside, for the names that an unknown key might have meant.
    names: of the keys themselves, likewise.
    """
    details = error.errors(include_url=False)
    # What is missing may be what an unknown key was meant to be.
    details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
    first = details[0]
    key = str(first.get("ctx", {}).get("key", "")) or _key_of(first, prefix)
    more = len({str(d["loc"][:1]) for d in details}) - 1
    rest = f" (and {more} more)" if more > 0 else ""
    return f"{where(key)}: {_complaint(first, key, blocks, names)}{rest}"


def _key_of(detail: ErrorDetails, prefix: str) -> str:
    """The dotted name of the key; indices of lists and names of union members are left out."""
    path = [str(part) for part in detail["loc"]]
    if prefix:
        path.insert(0, prefix)
    return ".".join(path[: 2 if path and path[0] in MAPPINGS else 1])


def _complaint(
    detail: ErrorDetails,
    key: str,
    blocks: Mapping[str, type[BaseModel]],
    names: Iterable[str],
) -> str:
    kind, found = detail["type"], detail["input"]
    if kind == "combination":
        return f"{key}: {detail['msg']}"
    if kind == "missing":
        return f"{key} is missing; add it, or start from a recipe that `icpo-lite init` writes"
    if kind == "extra_forbidden":
        model = blocks.get(key.partition(".")[0])
        return unknown_key(key, model.model_fields if model else names, "").removeprefix(": ")
    if kind == "value_error":
        return f"{key}: {detail['msg'].removeprefix('Value error, ')}"
    message = re.sub(r"^\w+ should (be|have) ", "", detail["msg"])
    message = message.partition(", unable to parse")[0]
    if kind in ("dict_type", "model_type"):
        message = f"a block of options, such as {key}.NAME=VALUE"
    hint = ""
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", message)
        message = f"one of {', '.join(choices)}"
        hint = nearest(str(found), choices)
    return f"{key}: expected {message}, found {repr(found)[:80]}{hint}"
