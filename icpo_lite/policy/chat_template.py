"""What chat templates differ in: whether they know a system turn, and what ends a reply."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from icpo_lite.core.types import Message
from icpo_lite.policy.chat_marks import harmless

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "Zebra"


def with_template_roles(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> list[dict[str, str]]:
    """The turns as this tokenizer's template takes them.

    Where it refuses a system turn or drops it (Gemma 2, Mistral's first), the turn's text opens
    the user's turn after it, as Gemma 3's own template does. Marks of the template in a turn's
    content are broken: they are what somebody said.
    """
    turns = harmless(tokenizer, [{"role": m.role, "content": m.content} for m in messages])
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
