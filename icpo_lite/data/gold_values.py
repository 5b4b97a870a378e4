"""The values that a gold answer names: arguments of calls, literals of queries and programs.

Each comes with what makes it needed and, for an argument, with what shows that it is missing: the
function requires it. `data/value_shards.py` looks for them in the request.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icpo_lite.core.types import Problem


@dataclass(frozen=True, slots=True)
class GoldValue:
    """One value of a gold answer.

    noun: what it is called ("start location"). values: the forms in which it may be written.
    needed: where it enters, as evidence. required: what requires it in the prompt itself, "" where
    only words of the request can show that it is missing. optional: nobody needs to say it.
    """

    noun: str
    values: tuple[Any, ...]
    needed: str
    required: str = ""
    optional: bool = False


def gold_values(problem: Problem) -> list[GoldValue]:
    """The values of a problem's gold answer, in its order; [] for a task without such."""
    if problem.task == "actions":
        return list(_of_calls(problem.answer, problem.columns.get("functions")))
    if problem.task == "database":
        return list(_of_query(str(problem.answer)))
    if problem.task == "code":
        return list(_of_program(_whole_program(problem)))
    return []


# ----------------------------------------------------------------------------------- function calls


def _of_calls(answer: Any, functions: Any) -> Iterator[GoldValue]:
    schemas = {name: schema for f in functions or () for name, schema in _schema(f)}
    for name, arguments in _calls(answer):
        schema = schemas.get(name, {})
        for argument, allowed in arguments.items():
            values = tuple(v for v in allowed if v not in ("", None))
            if not values or argument.startswith("#"):
                continue
            needed = f"{name}({argument}={values[0]!r})"
            if name not in schemas:
                yield GoldValue(noun_of(argument), values, needed, optional="" in allowed)
                continue
            required = "" not in allowed and _requires(schema, argument)
            shown = f"{name} requires {argument}" if required else ""
            yield GoldValue(noun_of(argument), values, needed, shown, optional=not required)


def _calls(answer: Any) -> Iterator[tuple[str, Mapping[str, Sequence[Any]]]]:
    """BFCL's allowed calls, and calls as {"name", "arguments"}."""
    for call in answer if isinstance(answer, list) else []:
        if not isinstance(call, Mapping):
            continue
        given = call.get("arguments", call.get("parameters"))
        if isinstance(call.get("name"), str) and isinstance(given, Mapping):
            yield call["name"], {str(k): [v] for k, v in given.items()}
            continue
        for name, arguments in call.items():
            if isinstance(arguments, Mapping):
                yield (
                    str(name),
                    {k: v if isinstance(v, list) else [v] for k, v in arguments.items()},
                )


def _schema(function: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    inner = function.get("function", function) if isinstance(function, Mapping) else None
    if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
        parameters = inner.get("parameters")
        yield inner["name"], parameters if isinstance(parameters, Mapping) else {}


def _requires(schema: Mapping[str, Any], argument: str) -> bool:
    """Whether a call without the argument is no call: it is required and has no default."""
    properties = schema.get("properties")
    about = properties.get(argument, {}) if isinstance(properties, Mapping) else {}
    if not isinstance(about, Mapping):
        about = {}
    described = str(about.get("description", ""))
    default = "default" in about or re.search(r"\bdefaults?\b", described, re.IGNORECASE)
    required = schema.get("required")
    return isinstance(required, list) and argument in required and not default


# ----------------------------------------------------------------------------------------- queries

_COMPARED = re.compile(
    r"(?P<column>(?<![\w.])[A-Za-z_][\w.]*+|`[^`]+`|\"[^\"]+\")\s*(?:=|<>|!=|<=|>=|<|>|\bNOT\s+LIKE\b|\bLIKE\b)\s*"
    r"(?P<value>'(?:[^']|'')*'|\"[^\"]*\"|-?\d+(?:\.\d+)?)(?!\s*\.)",
    re.IGNORECASE,
)
_BETWEEN = re.compile(
    r"(?P<column>(?<![\w.])[A-Za-z_][\w.]*+)\s+BETWEEN\s+(?P<low>'[^']*'|-?[\d.]+)\s+AND\s+(?P<high>'[^']*'|-?[\d.]+)",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"\bLIMIT\s+(\d{1,9})\b", re.IGNORECASE)


def _of_query(query: str) -> Iterator[GoldValue]:
    for match in _COMPARED.finditer(query):
        value = _sql_value(match["value"])
        if value not in ("", None):
            yield GoldValue(
                noun_of(match["column"]), _forms(value), f"the query's {match[0].strip()}"
            )
    for match in _BETWEEN.finditer(query):
        for side in ("low", "high"):
            value = _sql_value(match[side])
            yield GoldValue(
                noun_of(match["column"]), _forms(value), f"the query's {match[0].strip()}"
            )
    for match in _LIMIT.finditer(query):
        if int(match[1]) > 1:
            yield GoldValue("number", (int(match[1]),), f"the query's {match[0]}")


def _sql_value(text: str) -> Any:
    if text[:1] in "'\"":
        return text[1:-1].replace("''", "'").strip("%").strip()
    try:
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    except ValueError:
        return None


def _forms(value: Any) -> tuple[Any, ...]:
    """A text of digits may stand for a number in the request, and the other way round."""
    if isinstance(value, str) and re.fullmatch(r"-?\d+(?:\.\d+)?", value):
        return value, float(value)
    return (value,)


# ---------------------------------------------------------------------------------------- programs


def _whole_program(problem: Problem) -> str:
    prompt = problem.answer.get("prompt", "") if isinstance(problem.answer, Mapping) else ""
    return f"{prompt.rstrip()}\n{problem.solution}" if prompt else problem.solution


#: Numbers that programs hold for their own sake, unless they are what is returned or rounded to.
_IDIOMS = frozenset({-1, 0, 1, 2})


def _of_program(source: str) -> Iterator[GoldValue]:
    """Numbers and texts that a reference solution works with, docstrings apart."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return
    words = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    words |= {id(item) for node in ast.walk(tree) for item in _table(node)}
    told = {id(item) for node in ast.walk(tree) for item in _deliberate(node)}
    seen: set[Any] = set()
    for node in ast.walk(tree):
        if id(node) in words or not isinstance(node, ast.Constant | ast.UnaryOp):
            continue
        value = _constant(node)
        number = isinstance(value, int | float)
        if value is None or value in seen or not re.search(r"[^\W_]", str(value)):
            continue
        if number and value in _IDIOMS and id(node) not in told:
            continue
        seen.add(value)
        noun = "number" if number else "text"
        yield GoldValue(noun, (value,), f"the reference solution's {value!r} in line {node.lineno}")


def _constant(node: ast.expr) -> int | float | str | None:
    """A number, also a negative one, or a text; None for anything else."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        return None
    plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    return value if plain else None


def _deliberate(node: ast.AST) -> Iterator[ast.AST]:
    """What is returned as it stands, and to how many places is rounded."""
    if isinstance(node, ast.Return) and node.value is not None:
        yield node.value
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "round":
        yield from node.args[1:]


#: So many items of a list or mapping are a table that is known or follows from its pattern.
_TABLE = 3


def _table(node: ast.AST) -> Iterator[ast.AST]:
    items: list[ast.expr] = []
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        items = node.elts
    elif isinstance(node, ast.Dict):
        items = [*filter(None, node.keys), *node.values]
    if len(items) >= _TABLE:
        yield from items


# -------------------------------------------------------------------------------------------- names

#: Abbreviations that names of arguments and columns are full of.
_SPELT = {"num": "number", "loc": "location", "temp": "temperature", "qty": "quantity"}
_NO_NOUN = frozenset({"name", "id", "value", "str", "string", "num", "input", "param", "arg", "kw"})


def noun_of(name: str) -> str:
    """ "start_location" → "start location"; "T1.Country" → "country"; "actor_name" → "actor".

    A name of one or two letters stays as it is.
    """
    bare = name.strip("`\"'").rpartition(".")[2]
    parts = re.findall(
        r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", bare.replace("_", " ").replace("-", " ")
    )
    said = [p.lower() for p in parts] or [bare.lower()]
    while len(said) > 1 and said[-1] in _NO_NOUN:
        said.pop()
    if said[0] == "num" and len(said) > 1 and said[1].isalpha():
        said[0] = "number of"
    return " ".join(_SPELT.get(word, word) for word in said)
