"""Function calls in Python's syntax, and values as Python spells them: parsed, never run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

#: name and arguments of one call; "#0", "#1" for arguments given by position.
Call = tuple[str, dict[str, Any]]


class BareName(str):
    """A bare word where a value is wanted."""

    __slots__ = ()


def python_calls(source: str) -> list[Call] | None:
    try:
        return calls_of(ast.parse(source.strip(), mode="eval").body, strict=True)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None


def calls_of(node: ast.expr, *, strict: bool = False) -> list[Call]:
    """The calls that an expression is: one, a list of them, or one that is printed.

    strict: raises ValueError for anything else, which is otherwise left out.
    """
    nodes = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
    calls = []
    for item in nodes:
        item = item.value if isinstance(item, ast.Await) else item
        try:
            calls.append(_call(_printed(item)))
        except ValueError:
            if strict:
                raise
    return calls


def _printed(node: ast.expr) -> ast.expr:
    """The call inside of a print."""
    prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if prints and node.func.id == "print" and len(node.args) == 1:  # type: ignore[attr-defined]
        inner: ast.expr = node.args[0]  # type: ignore[attr-defined]
        return inner if isinstance(inner, ast.Call) else node
    return node


def _call(node: ast.expr) -> Call:
    """Raises ValueError for anything but a call of plain values."""
    if not isinstance(node, ast.Call) or not _is_name(node.func):
        raise ValueError("not a call")
    arguments = {f"#{i}": _literal(a) for i, a in enumerate(node.args)}
    for keyword in node.keywords:
        if keyword.arg is None:
            given = _literal(keyword.value)
            if not isinstance(given, dict):
                raise ValueError("** of no mapping is no plain argument")
            arguments |= {str(k): v for k, v in given.items()}
        else:
            arguments[keyword.arg] = _literal(keyword.value)
    return ast.unparse(node.func), arguments


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _is_name(node.value))


_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None, "none": None}


def _literal(node: ast.expr, *, strict: bool = False) -> Any:
    """A value as written; a bare name or an expression counts as its text.

    strict: raises ValueError for one that is not known to be a value.
    """
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_literal(k, strict=strict) for k in node.keys if k is not None]
        return dict(zip(keys, (_literal(v, strict=strict) for v in node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        items = [_literal(item, strict=strict) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        text = ast.unparse(node)
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if strict:
            raise ValueError("no plain value") from None
        return BareName(text)


def literal_of(text: str) -> Any:
    try:
        return _literal(ast.parse(text.strip(), mode="eval").body, strict=True)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
