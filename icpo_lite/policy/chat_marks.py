"""The marks of a chat template, made harmless where they stand in what somebody has said.

A tokenizer turns `<|im_start|>` into a control token wherever it stands, and a template that
writes `[INST]` in plain words cannot tell its own from a user's. So each mark in a turn's content
gets a blank behind its first character: `< |im_start|>` reads the same and is ordinary text. Text
without marks stays as it is, to the byte.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What a template writes around turns: words in <…>, <|…|>, <<…>>, […] and fullwidth bars.
_BRACKETED = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<[|\uff5c][^<>\s]{1,40}[|\uff5c]>|<</?[A-Za-z_]{1,40}>>"
    r"|</?[A-Za-z_][\w-]{0,40}>|\[/?[A-Z][A-Z_]{1,40}\]"
)
#: Marks that a reply may hold of its own, and that templates look for in it: its thoughts.
_OF_REPLIES = re.compile(r"</?(?:think|thinking|reasoning|tool_call|answer)>", re.IGNORECASE)


#: What stands for a turn's content while the marks around it are looked up.
_PROBE = "Zebra"


def harmless(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """The turns with every mark of this tokenizer and its template broken in their contents."""
    return [
        {**turn, "content": harmless_text(tokenizer, turn["content"], turn["role"])}
        for turn in turns
    ]


def harmless_text(tokenizer: PreTrainedTokenizerBase, text: str, role: str = "user") -> str:
    """One text with every mark broken; in an assistant's, those around its thoughts stay.

    Templates take thoughts out of earlier turns by these marks.
    """
    special, written = _marks(tokenizer, str(tokenizer.chat_template))
    if special is not None:
        text = special.sub(_apart, text)
    if written is not None:
        text = written.sub(_apart_but_thoughts if role == "assistant" else _apart, text)
    return text


def _apart(match: re.Match[str]) -> str:
    return f"{match[0][0]} {match[0][1:]}"


def _apart_but_thoughts(match: re.Match[str]) -> str:
    return match[0] if _OF_REPLIES.fullmatch(match[0]) else _apart(match)


@cache
def _marks(tokenizer: Any, template: str) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """(control tokens, what else the template writes in brackets), each as a pattern."""
    added = list(tokenizer.added_tokens_decoder.values())
    special = {str(token.content) for token in added if token.special}
    special |= set(map(str, tokenizer.all_special_tokens))
    # An added token that is no control token, such as a run of blanks or <h1>, is a mark only
    # where the template writes it.
    others = {str(token.content) for token in added}
    shown = f"{template}\n{_rendered(tokenizer)}"
    written = {token for token in others if len(token.strip()) > 1 and token in shown}
    return _any_of(special), _any_of((written | set(_BRACKETED.findall(shown))) - special)


def _rendered(tokenizer: Any) -> str:
    """A chat of every role in the template: marks that it puts together from parts."""
    roles = ("system", "user", "assistant", "user")
    for chat in (roles, roles[1:]):
        turns = [{"role": role, "content": _PROBE} for role in chat]
        with contextlib.suppress(TemplateError):
            return str(tokenizer.apply_chat_template(turns, tokenize=False))
    return ""


def _any_of(marks: set[str]) -> re.Pattern[str] | None:
    longest_first = sorted((m for m in marks if len(m) > 1), key=lambda m: (-len(m), m))
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
