"""YAML 1.2 as a recipe needs it: no duplicate keys, and the line of each key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml

from icpo_lite.core.errors import RecipeError

#: What a plain scalar means: YAML 1.2's core schema and merge keys. PyYAML reads YAML 1.1, in which
#: 010 is 8, 1:30 is 90, `no` is false and 1e-5 is text. Tag → (pattern, first characters).
_SCALARS = {
    "null": (r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    "int": (r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", list("-+0123456789")),
    "float": (
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


class _Loader(yaml.SafeLoader):
    #: The table of YAML 1.1 is left behind.
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        return int(text, 0 if text[:2] in ("0x", "0o") else 10)


class _Dumper(yaml.SafeDumper):
    """Puts in quotes whatever a reader of YAML 1.1 or 1.2 would take for more than text."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # PyYAML folds these line ends into spaces unless they are escaped.
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


for _class in (_Loader, _Dumper):
    for _tag, (_pattern, _first) in _SCALARS.items():
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"^{_pattern}$"), _first
        )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
_Dumper.add_representer(tuple, _Dumper.represent_list)
_Dumper.add_representer(str, _Dumper.represent_text)


def read_yaml(text: str, name: str) -> tuple[Any, dict[str, str]]:
    """A document's value, and the place (`name:line`) of each key by dotted name.

    Raises RecipeError with the line where the text is not YAML, a key is written twice or is not
    a word, or a value refers to itself.
    """
    node = _composed(text, name)
    if node is None:
        return None, {}
    _refuse_odd_keys(node, name, set(), frozenset())
    places: dict[str, str] = {}
    if isinstance(node, yaml.MappingNode):
        _remember_places(node, name, "", places)
    return _constructed(node, text, name), places


def dump_yaml(values: Mapping[str, Any], *, blocks: bool = True) -> str:
    """YAML as `read_yaml` reads it; without `blocks`, innermost lists stand in brackets."""
    return yaml.dump(
        dict(values),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False if blocks else None,
        width=10_000,
    )


def _composed(text: str, name: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise RecipeError(_yaml_problem(error, name)) from None
    try:
        return loader.get_single_node()
    except yaml.YAMLError as error:
        raise RecipeError(_yaml_problem(error, name)) from None
    except RecursionError:
        raise RecipeError(f"{name}: expected a recipe, found brackets nested too deep") from None
    finally:
        loader.dispose()


def _constructed(node: yaml.Node, text: str, name: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(_yaml_problem(error, name)) from None
    finally:
        loader.dispose()


def _refuse_odd_keys(node: yaml.Node, name: str, done: set[int], above: frozenset[int]) -> None:
    """Every key must be a word, written once (PyYAML lets the last one win), outside itself."""
    if id(node) in above:
        raise RecipeError(f"{name}:{_line(node)}: expected a value, found a reference to itself")
    if id(node) in done:
        return
    if isinstance(node, yaml.MappingNode):
        _refuse_duplicates(node, name)
        children = [value for _, value in node.value]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    for child in children:
        _refuse_odd_keys(child, name, done, above | {id(node)})
    done.add(id(node))


def _refuse_duplicates(node: yaml.MappingNode, name: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith((":str", ":merge")):
            raise RecipeError(f"{name}:{_line(key)}: expected a word as key, found {key.value!r}")
        if key.value in lines:
            raise RecipeError(
                f"{name}:{_line(key)}: {key.value} is written twice, first on line "
                f"{lines[key.value]}; keep one"
            )
        lines[key.value] = _line(key)


def _remember_places(
    node: yaml.MappingNode, name: str, prefix: str, places: dict[str, str], depth: int = 3
) -> None:
    for key, value in node.value:
        dotted = f"{prefix}{key.value}"
        places[dotted] = f"{name}:{_line(key)}"
        if isinstance(value, yaml.MappingNode) and depth > 1:
            _remember_places(value, name, f"{dotted}.", places, depth - 1)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _yaml_problem(error: Exception, name: str) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{name}: expected YAML, found {' '.join(str(error).split())}"
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}" if mark else name
    return f"{place}: expected YAML, found a problem: {error.problem or error.context}"
