"""What chat templates differ in: a system turn, functions to call, the end of a reply."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from icpo_lite.core.files import read_json
from icpo_lite.core.types import Message
from icpo_lite.policy.chat_marks import harmless, harmless_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "Zebra"


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """The chat in its template, up to and including the header that opens the assistant's turn.

    Functions go through the template's `tools`; where it takes none, the turn tells them in words.
    """
    tools = tools_of(harmless_text(tokenizer, messages[0].functions)) if messages else []
    if tools and _takes_tools(tokenizer, str(tokenizer.chat_template)):
        opening = replace(messages[0], functions="")
        told = [opening, *messages[1:]] if opening.content else list(messages[1:])
        with contextlib.suppress(TemplateError):  # a template may refuse these functions
            return _rendered(tokenizer, with_template_roles(tokenizer, told), tools=tools)
    return _rendered(tokenizer, with_template_roles(tokenizer, messages))


def _rendered(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]], **more: Any
) -> str:
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **more)
    return str(text)


def tools_of(functions: str) -> list[dict[str, Any]]:
    """Functions (JSON, in BFCL's form or in OpenAI's) as `tools`; [] for what is no such list."""
    try:
        listed = read_json(functions) if functions else []
    except ValueError:
        return []
    listed = [listed] if isinstance(listed, dict) else listed
    if not isinstance(listed, list) or not all(isinstance(f, dict) for f in listed):
        return []
    inner = [f["function"] if isinstance(f.get("function"), dict) else f for f in listed]
    return [{"type": "function", "function": _json_schema(function)} for function in inner]


#: Python's names of types, as BFCL writes them, → JSON Schema's.
_TYPES: Mapping[str, str] = {
    "dict": "object",
    "float": "number",
    "double": "number",
    "int": "integer",
    "str": "string",
    "bool": "boolean",
    "tuple": "array",
    "list": "array",
    "any": "string",
}


def _json_schema(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        k: _TYPES.get(v.lower(), v) if k == "type" and isinstance(v, str) else _json_schema(v)
        for k, v in value.items()
    }


_PROBE = {
    "type": "function",
    "function": {
        "name": _MARK,
        "description": "a",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}


@cache
def _takes_tools(tokenizer: Any, template: str) -> bool:
    if "tool" not in template:
        return False
    try:
        return _MARK in _rendered(tokenizer, [{"role": "user", "content": "a"}], tools=[_PROBE])
    except (TemplateError, TypeError, ValueError, KeyError):
        return False


def with_template_roles(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> list[dict[str, str]]:
    """The turns as this tokenizer's template takes them.

    Where it refuses a system turn or drops it (Gemma 2, Mistral's first), the turn's text opens
    the user's turn after it, as Gemma 3's own template does. Marks of the template in a turn's
    content are broken: they are what somebody said.
    """
    turns = harmless(tokenizer, [{"role": str(m.role), "content": m.text} for m in messages])
    opens = len(turns) > 1 and turns[0]["role"] == "system" and turns[1]["role"] == "user"
    if not opens or _takes_system(tokenizer, str(tokenizer.chat_template)):
        return turns
    system, user, *rest = turns
    return [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]


@cache
def _takes_system(tokenizer: Any, template: str) -> bool:
    turns = [{"role": "system", "content": _MARK}, {"role": "user", "content": "a"}]
    try:
        return _MARK in tokenizer.apply_chat_template(turns, tokenize=False)
    except TemplateError:
        return False


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the template writes after a reply, None where it writes none.

    Phi's and Gemma's tokenizers call another one their end of sequence.
    """
    return _end_of_turn(tokenizer, str(tokenizer.chat_template))


@cache
def _end_of_turn(tokenizer: Any, template: str) -> int | None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except TemplateError:
        return None
    _, found, rest = text.rpartition(_MARK)
    ids = tokenizer(rest.strip(), add_special_tokens=False)["input_ids"] if found else []
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return ids[0] if ids and ids[0] in special else None
