"""Actions: the calls of a reply against the calls that are allowed, in any order.

How calls are written is `call_formats.py`'s matter. The tolerance is that of the Berkeley Function
Calling Leaderboard's AST check: strings compare without case, blanks and the marks , . / - _ * ^;
an int stands for a float, and a float for an int where the function's schema asks for a float; a
list or tuple counts item by item; an argument may be left out when "" is among its allowed values;
an argument that no allowed call knows is wrong. Dots of a name may be written as underscores, as
servers that forbid dots have it. The calls are parsed, never run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders.call_formats import (
    Call,
    Written,
    json_calls,
    parse_calls,
    read_value,
)

#: name and, for each argument, its allowed values.
Allowed = tuple[str, dict[str, list[Any]]]

__all__ = ["Allowed", "Call", "correct", "gold_text", "parse_calls", "read_allowed"]

_LOOSE = re.compile(r"[ ,./\-_*^]")


def read_allowed(answer: Any) -> list[Allowed]:
    """The gold calls: BFCL's `[{name: {argument: [allowed, …]}}, …]`, calls as JSON
    (`[{"name": …, "arguments": {…}}]`), or calls as Python text, one or a list of texts.

    Raises GraderError for anything else.
    """
    if isinstance(answer, str):
        stripped = answer.strip()
        answer = read_value(stripped) if stripped.startswith(("{", "[{")) else [stripped]
    if isinstance(answer, Mapping):
        answer = [answer]
    if isinstance(answer, Sequence) and not isinstance(answer, str) and answer:
        found = [_one_allowed(entry) for entry in answer]
        if all(found):
            return [entry for entries in found for entry in entries]
    raise GraderError(
        "expected the gold calls of an actions row as [{name: {argument: [allowed values]}}] or "
        f"as Python calls, found {str(answer)[:80]!r}; change the row"
    )


def _one_allowed(entry: Any) -> list[Allowed]:
    """The calls of one entry; [] for what is none."""
    if isinstance(entry, str):
        calls = parse_calls(entry) or []
        return [(name, {k: [v] for k, v in arguments.items()}) for name, arguments in calls]
    if not isinstance(entry, Mapping) or not entry:
        return []
    if len(entry) > 1 or not isinstance(next(iter(entry.values())), Mapping):
        calls = list(json_calls(entry))
        return [(name, {k: [v] for k, v in arguments.items()}) for name, arguments in calls]
    name, arguments = next(iter(entry.items()))
    if name == "function":
        return _one_allowed(arguments)
    return [(str(name), {k: v if isinstance(v, list) else [v] for k, v in arguments.items()})]


def gold_text(answer: Any) -> str:
    """The gold calls as a reply: the first allowed value of each argument that is needed."""
    shown = []
    for name, choices in read_allowed(answer):
        needed = {k: v[0] for k, v in choices.items() if v and v[0] != ""}
        arguments = (
            repr(_plain(v)) if k.startswith("#") else f"{k}={_plain(v)!r}"
            for k, v in needed.items()
        )
        shown.append(f"{name}({', '.join(arguments)})")
    return f"[{', '.join(shown)}]"


def _plain(value: Any) -> Any:
    """A nested mapping gives each of its values as a list of allowed ones: the first of them."""
    if isinstance(value, Mapping):
        chosen = {k: v[0] if isinstance(v, list) and v else v for k, v in value.items()}
        return {k: _plain(v) for k, v in chosen.items() if v != ""}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def correct(calls: Sequence[Call], allowed: Sequence[Allowed], functions: Any = None) -> bool:
    """Whether each call answers an allowed one of its own, and none is left on either side.

    functions: the row's, for the order and the types of their arguments.
    """
    schemas = {name: properties for f in functions or () for name, properties in _schema(f)}
    gold = [_typed(one, schemas.get(one[0], {})) for one in allowed]
    ordered = [_named(call, schemas) for call in calls]
    return len(calls) == len(gold) and _assign(ordered, gold)


def known_names(functions: Any) -> frozenset[str]:
    """The names of a row's functions."""
    return frozenset(name for f in functions or () for name, _ in _schema(f))


def _schema(function: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and properties of a function, in BFCL's form or in OpenAI's."""
    inner = function.get("function", function) if isinstance(function, Mapping) else None
    if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
        parameters = inner.get("parameters")
        found = parameters.get("properties") if isinstance(parameters, Mapping) else None
        yield inner["name"], found if isinstance(found, Mapping) else {}


def _typed(allowed: Allowed, properties: Mapping[str, Any]) -> Allowed:
    """The allowed call with a float where the schema asks for one and the row writes an int."""
    name, choices = allowed
    named = _with_names(choices, list(properties))
    return name, {k: [_as_float(v, properties.get(k)) for v in vs] for k, vs in named.items()}


def _as_float(value: Any, about: Any) -> Any:
    kind = about.get("type") if isinstance(about, Mapping) else None
    if kind in ("float", "number", "double") and type(value) is int:
        return float(value)
    if isinstance(value, list) and isinstance(about, Mapping):
        return [_as_float(item, about.get("items")) for item in value]
    return value


def _named(call: Call, schemas: Mapping[str, Mapping[str, Any]]) -> Call:
    name, arguments = call
    known = next((n for n in schemas if _same_name(name, n)), None)
    return name, _with_names(arguments, list(schemas[known])) if known else arguments


def _same_name(given: str, gold: str) -> bool:
    return given == gold or given == gold.replace(".", "_")


def _assign(calls: list[Call], allowed: list[Allowed]) -> bool:
    """A perfect matching by augmenting paths (Kuhn): greedy choice can strand a later call."""
    fits = [[j for j, gold in enumerate(allowed) if _fits(call, gold)] for call in calls]
    owner: dict[int, int] = {}

    def place(i: int, seen: set[int]) -> bool:
        for j in fits[i]:
            if j not in seen:
                seen.add(j)
                if j not in owner or place(owner[j], seen):
                    owner[j] = i
                    return True
        return False

    return all(place(i, set()) for i in range(len(calls)))


def _fits(call: Call, gold: Allowed) -> bool:
    name, arguments = call
    gold_name, choices = gold
    if not _same_name(name, gold_name):
        return False
    arguments = _with_names(arguments, list(choices))
    if any(key not in choices for key in arguments):
        return False
    for key, values in choices.items():
        if key not in arguments:
            if "" not in values:
                return False
        elif not any(_same(arguments[key], value) for value in values):
            return False
    return True


def _with_names(arguments: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Arguments given by position under the names that stand in `order`."""
    named = dict(arguments)
    for i, key in enumerate(order):
        if f"#{i}" in named and key not in named:
            named[key] = named.pop(f"#{i}")
    return named


def _same(given: Any, gold: Any) -> bool:
    if isinstance(given, Written):
        return _same(str(given), gold) or (
            not isinstance(given.read, str) and _same(given.read, gold)
        )
    if isinstance(gold, str) and isinstance(given, str):
        return _LOOSE.sub("", given).lower().replace("'", '"') == _LOOSE.sub(
            "", gold
        ).lower().replace("'", '"')
    if isinstance(gold, bool) or isinstance(given, bool):
        return given is gold
    if isinstance(gold, int | float) and isinstance(given, int | float):
        return given == gold and not (isinstance(gold, int) and isinstance(given, float))
    if isinstance(gold, list | tuple) and isinstance(given, list | tuple):
        return len(given) == len(gold) and all(map(_same, given, gold))
    if isinstance(gold, Mapping) and isinstance(given, Mapping):
        return _same_mapping(given, gold)
    return bool(given == gold)


def _same_mapping(given: Mapping[str, Any], gold: Mapping[str, Any]) -> bool:
    """A nested mapping; BFCL gives each of its values as a list of allowed ones."""
    if any(key not in gold for key in given):
        return False
    for key, value in gold.items():
        choices = value if isinstance(value, list) else [value]
        if key not in given:
            if "" not in choices:
                return False
        elif not (any(_same(given[key], c) for c in choices) or _same(given[key], value)):
            return False
    return True
