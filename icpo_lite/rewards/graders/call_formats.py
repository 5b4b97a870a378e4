"""Function calls as models write them → (name, arguments), in the order of the reply.

Read, each with any number of calls:

    Python            [math.hypot(x=4, y=5), f()] or calls one by one, also in a fenced block
    JSON              {"name": …, "arguments": {…}}, a list of these, {"function": {…}},
                      {"tool_calls": […]}, {name: {argument: value}}; arguments may be a JSON string
    <tool_call>       one JSON call (or several, or Python) between the tags; [TOOL_CALLS] likewise
    <function=name>   <parameter=x>4</parameter> … or a JSON object, up to </function>; the same
                      as <invoke name="…"> with <parameter name="x">
    a family's marks  DeepSeek, Kimi, gpt-oss: the name between them, a JSON object behind
    YAML              one of the JSON forms in a fenced block that is marked as YAML
    ReAct             Action: name, Action Input: {…}

Nothing is run: Python is parsed into its syntax tree. A reply is read up to a fixed length and
with a fixed number of tries, so that no reply takes long.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import yaml

from icpo_lite.rewards.graders.python_calls import (
    BareName,
    Call,
    calls_of,
    literal_of,
    python_calls,
)

__all__ = ["Call", "Written", "is_marked", "json_calls", "parse_calls", "read_value"]

#: A longer reply is not searched further for calls.
_LONGEST = 20_000
#: Nor are more calls, tags or fenced blocks read than this.
_MOST_CALLS = 100
#: Nor are more places tried where a call seems to begin and none does.
_MOST_FAILURES = 40
#: Nor are more brackets and quotes walked over in search of closing ones.
_MOST_STEPS = 10_000


class Written(str):
    """A value from a format that does not tell text from numbers (`<parameter=x>4</parameter>`).

    It is the text, and whatever the text reads as: the schema would decide.
    """

    __slots__ = ()

    @property
    def read(self) -> Any:
        """The value that the text spells as JSON or Python, else the text."""
        return read_value(self)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Calls that stand together. whole: a list, which replaces what was said before it.

    loose: found in prose, where a name before brackets need be no call.
    """

    calls: tuple[Call, ...]
    end: int
    whole: bool = False
    loose: bool = False


def parse_calls(reply: str, known: frozenset[str] = frozenset()) -> list[Call] | None:
    """The calls of a reply, in order; None where it holds none that can be read.

    known: names of the functions there are; of words in prose that look like calls, only these
    count where some of them occur. Hidden thought is no part of the reply.
    """
    text = _said(reply[-_LONGEST:] if "</think>" in reply else reply[:_LONGEST])
    for reader in (_native, _tagged, _xml_functions, _react, _fenced):
        if found := reader(text):
            return found
    return _in_text(text, known)


def is_marked(reply: str) -> bool:
    """Whether a call is marked as one that is made, and not shown: a tag, or ReAct's Action."""
    text = _said(reply[:_LONGEST])
    return any(reader(text) for reader in (_native, _tagged, _xml_functions, _react))


def _said(reply: str) -> str:
    """The reply behind its hidden thought, markdown's escapes undone."""
    said = reply.rpartition("</think>")[2]
    return said.partition("<think>")[0].replace("\\_", "_")


# ----------------------------------------------------------------------------------- marked calls

_TAG = re.compile(
    r"<(?P<tag>tool_calls?|function_?calls?|\|tool_call\|)>(?P<body>.*?)"
    r"(?:</(?P=tag)>|(?=<(?P=tag)>)|\Z)",
    re.DOTALL | re.IGNORECASE,
)
#: Marks after which the rest of a reply is its calls (Mistral, Llama 3).
_MARK = re.compile(r"\[TOOL_CALLS\]|<\|python_tag\|>")
_FUNCTION = re.compile(
    r"<(?:function=|invoke name=)\s*[\"']?(?P<name>[\w.-]+)[\"']?\s*>(?P<body>.*?)"
    r"(?:</(?:function|invoke)>|(?=<(?:function=|invoke ))|(?=</tool_call>)|\Z)",
    re.DOTALL,
)
_PARAMETER = re.compile(
    r"<parameter(?:=| name=)\s*[\"']?(?P<name>[\w.-]+)[\"']?\s*>(?P<value>.*?)"
    r"(?:</parameter>|(?=<parameter[= ])|\Z)",
    re.DOTALL,
)
_KEY_VALUE = re.compile(
    r"<arg_key>(?P<name>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>", re.DOTALL
)


def _tagged(text: str) -> list[Call]:
    calls: list[Call] = []
    for match in islice(_TAG.finditer(text), _MOST_CALLS):
        calls += _tag_body(match["body"])
    if not calls and (mark := _MARK.search(text)):
        calls = _in_text(text[mark.end() :]) or []
        calls = [(name.removesuffix(".call"), given) for name, given in calls]
    return calls


def _tag_body(body: str) -> list[Call]:
    if functions := _xml_functions(body):
        return functions
    if "<arg_key>" in body:
        name = body.partition("<arg_key>")[0].strip()
        return [(name, {m["name"].strip(): Written(m["value"]) for m in _KEY_VALUE.finditer(body)})]
    return _fenced(body) or _in_text(body) or []


def _xml_functions(text: str) -> list[Call]:
    found = islice(_FUNCTION.finditer(text), _MOST_CALLS)
    return [(m["name"], _xml_arguments(m["body"])) for m in found]


def _xml_arguments(body: str) -> dict[str, Any]:
    """Parameters of a `<function=…>`: tags, or one JSON object."""
    if "<parameter" in body:
        return {m["name"]: Written(m["value"].strip()) for m in _PARAMETER.finditer(body)}
    given = read_value(body.strip())
    return dict(given) if isinstance(given, Mapping) else {}


#: A name between a model family's own marks, and its arguments as a JSON object behind them
#: (DeepSeek, Kimi, gpt-oss also where its special tokens were left out).
_NATIVE = re.compile(
    r"(?:<[|｜]tool[▁_]sep[|｜]>|<[|｜]tool▁call▁begin[|｜]>(?!function<)|\bto=functions\."
    r"|<\|tool_call_begin\|>\s{0,4}(?:functions\.)?)(?P<name>[A-Za-z_][\w.-]{0,80}?)(?::\d{1,4})?"
    r"(?:[ \n]|<[^<>{}]{1,40}>|commentary\b|json\b|```){0,9}(?:json|code)?(?=\{)"
)


def _native(text: str) -> list[Call]:
    calls: list[Call] = []
    for match in islice(_NATIVE.finditer(text), _MOST_CALLS):
        try:
            given, _ = json.JSONDecoder().raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        calls.append((match["name"], dict(given)))
    return calls


# ------------------------------------------------------------------------------------------ ReAct

_ACTION = re.compile(r"^[ \t>*]*Action[ \t]*\d*[*]*:[*]*[ \t]*(?P<name>[^\n]+)$", re.M | re.I)
_INPUT = re.compile(r"\s*[>*]*Action[ _]?Input[ \t]*\d*[*]*:[*]*[ \t]*", re.I)
#: What follows an action's input in a ReAct transcript.
_NEXT = re.compile(
    r"^[ \t>*]*(?:Observation|Thought|Action|Final Answer)\b[^\n:]{0,12}:", re.M | re.I
)
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.-]*")


def _react(text: str) -> list[Call]:
    calls: list[Call] = []
    for match in islice(_ACTION.finditer(text), _MOST_CALLS):
        name = match["name"].strip().strip("`*\"' ")
        given = _INPUT.match(text, match.end())
        if given is None or not _IDENTIFIER.fullmatch(name):
            continue
        end = _NEXT.search(text, given.end())
        calls.append((name, _react_input(text[given.end() : end.start() if end else len(text)])))
    return calls


def _react_input(text: str) -> dict[str, Any]:
    text = text.strip()
    if fence := _FENCE.search(text):
        text = fence["body"].strip()
    value = read_value(_json_part(text))
    if isinstance(value, Mapping):
        return dict(value)
    line = text.partition("\n")[0].strip()
    if not line or line.lower() in ("none", "null", "{}", "n/a"):
        return {}
    if "=" in line and (calls := python_calls(f"f({line})")):
        return calls[0][1]
    return {"#0": Written(line.strip("\"'`"))}


def _json_part(text: str) -> str:
    """The JSON object that a text opens with, without the words behind it."""
    if not text.startswith("{"):
        return text
    try:
        return text[: json.JSONDecoder().raw_decode(text)[1]]
    except (ValueError, RecursionError):
        return text[: _closing(text, 0, [_MOST_STEPS])] or text


# -------------------------------------------------------------------------------- fences and text

_FENCE = re.compile(r"(?P<f>```|~~~)(?P<of>[^\n`]*)\n(?P<body>.*?)(?:(?P=f)|\Z)", re.DOTALL)
_YAML = frozenset(("yaml", "yml"))
_START = re.compile(r"(?:\[\s{0,20})?\b[A-Za-z_][\w.]*\(|[{\[](?=\s{0,20}[{\"'])")


def _fenced(text: str) -> list[Call]:
    """The calls of all fenced blocks: a list replaces earlier calls, a repeated call is one."""
    if "```" not in text and "~~~" not in text:
        return []
    blocks = islice(_FENCE.finditer(text), _MOST_CALLS)
    pieces = [piece for m in blocks for piece in _block(m["body"], m["of"].strip().lower())]
    return _joined(pieces)


def _block(body: str, language: str) -> list[_Piece]:
    if language in _YAML and (calls := _yaml(body)):
        return calls
    if calls := _program(body):
        return calls
    return _pieces(body)


def _yaml(body: str) -> list[_Piece]:
    """The calls of one YAML document; one with anchors is none: they can unfold without end."""
    try:
        tokens = islice(yaml.scan(body, yaml.SafeLoader), _MOST_STEPS)
        if any(isinstance(token, yaml.AnchorToken) for token in tokens):
            return []
        calls = tuple(islice(json_calls(yaml.safe_load(body)), _MOST_CALLS))
    except (yaml.YAMLError, ValueError, RecursionError):
        return []
    return [_Piece(calls, 0, whole=True)] if calls else []


def _program(body: str) -> list[_Piece]:
    """A block that is a little Python program: its calls, statement by statement."""
    try:
        statements = ast.parse(_dedented(body)).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []
    pieces = []
    for statement in statements:
        value = getattr(statement, "value", None)
        if not isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign) or value is None:
            continue
        whole = isinstance(value, ast.List | ast.Tuple)
        calls = calls_of(value)
        if calls:
            pieces.append(_Piece(tuple(calls), 0, whole=whole))
    return pieces


def _dedented(body: str) -> str:
    lines = body.strip("\n").splitlines()
    indent = min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)


def _in_text(text: str, known: frozenset[str] = frozenset()) -> list[Call] | None:
    return _joined(_pieces(text), known) or None


def _joined(pieces: list[_Piece], known: frozenset[str] = frozenset()) -> list[Call]:
    calls: list[Call] = []
    spoken: list[bool] = []
    for piece in pieces:
        if piece.whole:
            calls, spoken = [], []
        for call in piece.calls:
            if call not in calls or piece.whole:
                calls.append(call)
                spoken.append(piece.loose)
    some_known = any(name in known for name, _ in calls)
    return [
        call
        for at, (call, loose) in enumerate(zip(calls, spoken, strict=True))
        if not (loose and _only_named(call, calls[at + 1 :]))
        and not (loose and some_known and call[0] not in known)
    ]


def _only_named(call: Call, later: list[Call]) -> bool:
    """Whether "f(base, height)" only names a function that a later call calls with values."""
    name, arguments = call
    bare = all(key.startswith("#") and isinstance(v, BareName) for key, v in arguments.items())
    return bare and any(other == name and given for other, given in later)


def _pieces(text: str) -> list[_Piece]:
    """Calls and lists of calls in a text, each from where it begins; the outermost counts."""
    found: list[_Piece] = []
    at = failures = 0
    budget = [_MOST_STEPS]
    while (
        failures < _MOST_FAILURES
        and len(found) < _MOST_CALLS
        and (match := _START.search(text, at))
    ):
        read = _json_piece if match[0] in "{[" else _python_piece
        piece = read(text, match.start(), budget)
        if piece is None:
            failures += 1
            at = match.start() + 1
            continue
        if piece.calls:
            found.append(piece)
        at = piece.end
    return found


def _python_piece(text: str, start: int, budget: list[int]) -> _Piece | None:
    end = _closing(text, start, budget)
    calls = python_calls(text[start:end]) if end else None
    if calls is None:
        return None
    listed = text[start] == "["
    return _Piece(tuple(calls), end, whole=listed, loose=not listed)


def _json_piece(text: str, start: int, budget: list[int]) -> _Piece | None:
    """A JSON value, or the same in Python's quotes; it may hold no calls."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        end = _closing(text, start, budget)
        value = literal_of(text[start:end]) if end else None
        if value is None:
            return None
    calls = list(json_calls(value))
    return _Piece(tuple(calls), end, whole=isinstance(value, list | tuple) and bool(calls))


_BRACKETS = re.compile(r"[\"'()\[\]{}\\]")


def _closing(text: str, start: int, budget: list[int]) -> int:
    """Behind the bracket that closes the first one at or after `start`; 0 where none does."""
    depth, quote, at = 0, "", start
    while budget[0] > 0 and (match := _BRACKETS.search(text, at)):
        char = match[0]
        at = match.end() + (char == "\\")
        budget[0] -= 1
        if char == "\\":
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth <= 0:
                return at
    return 0


# ------------------------------------------------------------------------------------------- JSON

_NAMES = ("name", "function_name", "func_name", "tool_name", "function", "tool", "api", "action")
_ARGUMENTS = (
    *("arguments", "parameters", "args", "kwargs", "params", "input", "action_input"),
    *("tool_input", "function_args", "tool_args"),
)
_NESTED = ("tool_calls", "function_call", "function_calls", "tool_call", "calls", "actions")
_NO_NAMES = frozenset((*_NAMES, *_ARGUMENTS, *_NESTED, "type", "id", "error", "message", "result"))


def json_calls(value: Any) -> Iterator[Call]:
    """The calls of a JSON value in any of the usual shapes."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from json_calls(item)
        return
    if not isinstance(value, Mapping):
        return
    for key in _NESTED:
        if isinstance(value.get(key), list | Mapping):
            yield from json_calls(value[key])
            return
    if isinstance(value.get("function"), Mapping):
        yield from json_calls(value["function"])
        return
    name_key = next((k for k in _NAMES if isinstance(value.get(k), str)), None)
    if name_key is not None and _IDENTIFIER.fullmatch(value[name_key].strip()):
        yield value[name_key].strip(), _json_arguments(value, name_key)
    elif all(_is_keyed_call(k, v) for k, v in value.items()):
        yield from ((name, dict(arguments)) for name, arguments in value.items())


def _is_keyed_call(name: Any, arguments: Any) -> bool:
    """`{"math.hypot": {"x": 4, "y": 5}}`, as BFCL itself writes calls."""
    return (
        isinstance(name, str)
        and isinstance(arguments, Mapping)
        and name not in _NO_NAMES
        and bool(_IDENTIFIER.fullmatch(name))
    )


def _json_arguments(call: Mapping[str, Any], name_key: str) -> dict[str, Any]:
    """Arguments under their key, an object or the text of one; without such a key, what is left."""
    for key in _ARGUMENTS:
        if key in call and key != name_key:
            given = call[key]
            if isinstance(given, str):
                given = read_value(given.strip())
            return {str(k): v for k, v in given.items()} if isinstance(given, Mapping) else {}
    return {k: v for k, v in call.items() if k not in (name_key, "type", "id")}


def read_value(text: str) -> Any:
    """What a text spells as JSON, or as a Python literal, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        value = literal_of(text)
        return text if value is None else value
