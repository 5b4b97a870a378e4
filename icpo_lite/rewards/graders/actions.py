"""Actions: a list of Python-syntax calls against the calls that are allowed, in any order.

The tolerance is that of the Berkeley Function Calling Leaderboard's AST check: strings compare
without case, blanks and the marks , . / - _ * ^; an int stands for a float, never a float for an
int; a list or tuple counts item by item; an argument may be left out when "" is among its allowed
values; an argument that no allowed call knows is wrong. The calls are parsed, never run.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from icpo_lite.core.errors import GraderError

#: name and keyword arguments of one call.
Call = tuple[str, dict[str, Any]]
#: name and, for each argument, its allowed values.
Allowed = tuple[str, dict[str, list[Any]]]

_START = re.compile(r"(?:\[\s{0,20})?\b[A-Za-z_][\w.]*\(")
_FENCE = re.compile(r"(?<!`)```[^\n`]*\n(.*?)```", re.DOTALL)
_LOOSE = re.compile(r"[ ,./\-_*^]")
#: A longer reply is not searched further for calls.
_LONGEST = 20_000
#: Nor are more places tried where a call may begin: each costs a walk to its closing bracket.
_MOST_TRIES = 200


def parse_calls(reply: str) -> list[Call] | None:
    """The calls of a reply, in order; None where it holds no list or call that parses.

    Looks for a list of calls first, in fenced blocks before the rest, then for single calls.
    """
    reply = reply[:_LONGEST]
    for text in [*reversed(_FENCE.findall(reply)), reply]:
        if calls := _in_text(text):
            return calls
    return None


def _in_text(text: str) -> list[Call] | None:
    calls: list[Call] = []
    at = tries = 0
    while tries < _MOST_TRIES and (match := _START.search(text, at)):
        tries += 1
        end = _closing(text, match.start())
        found = _parse(text[match.start() : end]) if end else None
        if found is None:
            at = match.start() + 1
            continue
        if match[0].startswith("["):
            calls = []  # a later list replaces what was said before it
        calls += found
        at = end
    return calls or None


def _closing(text: str, start: int) -> int:
    """Behind the bracket that closes the first one at or after `start`; 0 where none does."""
    depth, quote, at = 0, "", start
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return 0


def _parse(source: str) -> list[Call] | None:
    try:
        tree = ast.parse(source.strip(), mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
        return [_call(node) for node in nodes]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _call(node: ast.expr) -> Call:
    """Raises ValueError for anything but a call of plain values."""
    if not isinstance(node, ast.Call):
        raise ValueError("not a call")
    arguments = {f"#{i}": _literal(a) for i, a in enumerate(node.args)}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError("** is no plain argument")
        arguments[keyword.arg] = _literal(keyword.value)
    return ast.unparse(node.func), arguments


def _literal(node: ast.expr) -> Any:
    """A value as written; a bare name or an expression counts as its text."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        named = {"true": True, "false": False, "null": None, "none": None}
        text = ast.unparse(node)
        return named.get(text.lower(), text)


def read_allowed(answer: Any) -> list[Allowed]:
    """The gold calls: BFCL's `[{name: {argument: [allowed, …]}}, …]`, or calls as a string.

    Raises GraderError for anything else.
    """
    if isinstance(answer, str):
        stripped = answer.strip()
        if stripped.startswith(("{", "[{")):
            try:
                answer = json.loads(stripped)
            except json.JSONDecodeError:
                answer = _literal_or(stripped)
        else:
            calls = _in_text(stripped)
            if calls:
                return [(n, {k: [v] for k, v in arguments.items()}) for n, arguments in calls]
    if isinstance(answer, Mapping):
        answer = [answer]
    if isinstance(answer, Sequence) and not isinstance(answer, str) and answer:
        found = [_one_allowed(entry) for entry in answer]
        if all(found):
            return [entry for entry in found if entry]
    raise GraderError(
        "expected the gold calls of an actions row as [{name: {argument: [allowed values]}}] or "
        f"as Python calls, found {str(answer)[:80]!r}; change the row"
    )


def _literal_or(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _one_allowed(entry: Any) -> Allowed | None:
    if not isinstance(entry, Mapping) or len(entry) != 1:
        return None
    name, arguments = next(iter(entry.items()))
    if not isinstance(arguments, Mapping):
        return None
    return str(name), {k: v if isinstance(v, list) else [v] for k, v in arguments.items()}


def correct(calls: Sequence[Call], allowed: Sequence[Allowed]) -> bool:
    """Whether each call answers an allowed one of its own, and none is left on either side."""
    return len(calls) == len(allowed) and _assign(list(calls), list(allowed))


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
    if name != gold_name:
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


def _with_names(arguments: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Positional arguments under the names that the gold call gives them, in its order."""
    named = dict(arguments)
    for i, key in enumerate(order):
        if f"#{i}" in named and key not in named:
            named[key] = named.pop(f"#{i}")
    return named


def _same(given: Any, gold: Any) -> bool:
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
