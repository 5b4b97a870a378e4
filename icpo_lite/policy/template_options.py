"""What a chat template is told beside the turns, and whether it keeps what it is given.

A template is a program. It may read options (`enable_thinking`), the clock (`strftime_now`), and
content in a form of its own; one that is given anything else loses it in silence. So options are
checked, the clock is stopped for the run, and every text is looked for in what comes out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from functools import partial
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateError, meta
from jinja2.ext import Extension

from icpo_lite.core import thoughts
from icpo_lite.core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIRST, _REPLY, _SECOND = "Zebra", "Okapi", "Quagga"


def pin_template(
    tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any], day: str | None = None
) -> None:
    """From now on `apply_chat_template` renders with these options and as on this day.

    day: YYYY-MM-DD; None stops the clock today. Raises UsageError for an option that the template
    does not read.
    """
    _check_options(tokenizer, options)
    render = type(tokenizer).apply_chat_template
    plain = partial(render, tokenizer)
    pinned = {**options, **_stopped_clock(tokenizer, day)}
    parts = not _keeps_words(plain, pinned, as_parts=False)

    def apply_chat_template(self: Any, conversation: Any, *args: Any, **more: Any) -> Any:
        turns = _all_in_parts(conversation) if parts else conversation
        if more.get("chat_template") is None:  # as good as not named
            more.pop("chat_template", None)
        return render(self, turns, *args, **{**pinned, **more})

    if parts and not _keeps_words(plain, pinned, as_parts=True):
        raise ModelError(
            f"{tokenizer.name_or_path}: expected a chat template that writes the words of a user "
            "and of an assistant, found one that loses some; use another tokenizer, or correct its "
            "chat_template"
        )
    # A method: a copy of the tokenizer renders with the template of its own.
    setattr(tokenizer, "apply_chat_template", MethodType(apply_chat_template, tokenizer))  # noqa: B010


#: How a template reads the clock. transformers hands templates plain data, so its function cannot
#: be replaced; what it would answer can.
_CLOCK = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<form>[^'"]*)(?P=quote)\s*\)""")


def _stopped_clock(tokenizer: PreTrainedTokenizerBase, day: str | None) -> dict[str, str]:
    """The template with the day in place of each call of the clock; {} where there is none.

    The tokenizer's own stays as it is, and is what is saved.
    """
    own = tokenizer.get_chat_template()
    now = datetime.combine(date.fromisoformat(day) if day else date.today(), time())
    template = _CLOCK.sub(lambda call: json.dumps(now.strftime(call["form"])), own)
    if "strftime_now(" in template:
        raise ModelError(
            f"{tokenizer.name_or_path}: expected a chat template that asks the clock for a format "
            "in quotes, found another call of strftime_now, whose answer would change from day to "
            "day; give its date by chat_template_kwargs, or write it into the chat_template"
        )
    return {} if template == own else {"chat_template": template}


def save_as_trained(
    tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any], folder: Path
) -> None:
    """Write the tokenizer for others, whose prompts are then those of training unless they say so.

    A template that thinks by default would else open thoughts before a model that was trained
    without them.
    """
    own = tokenizer.chat_template
    told = {n: "none" if value is None else json.dumps(value) for n, value in options.items()}
    defaults = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {value} %}}{{%- endif %}}"
        for name, value in told.items()
    )
    if isinstance(own, dict):
        tokenizer.chat_template = {name: defaults + text for name, text in own.items()}
    else:
        tokenizer.chat_template = f"{defaults}{own}"
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.chat_template = own


def check_header(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ModelError where add_generation_prompt does not open the assistant's turn.

    The model would go on in the user's words. (Some templates have no header: a reply follows the
    user's turn at once.)
    """
    user = [{"role": "user", "content": _FIRST}]
    plain, opened = (
        str(tokenizer.apply_chat_template(user, tokenize=False, add_generation_prompt=wish))
        for wish in (False, True)
    )
    if plain != opened:
        return
    pair = [*user, {"role": "assistant", "content": _REPLY}]
    whole = str(tokenizer.apply_chat_template(pair, tokenize=False))
    header = whole.removeprefix(plain).partition(_REPLY)[0].strip()
    if whole.startswith(plain) and header:
        raise ModelError(
            f"{tokenizer.name_or_path}: expected its chat template to open the assistant's turn "
            f"with {header!r} where add_generation_prompt asks for it, found nothing; add "
            f"{{% if add_generation_prompt %}}{header}{{% endif %}} to its chat_template"
        )


def opened_thought(tokenizer: PreTrainedTokenizerBase) -> str:
    """The mark by which the prompt itself opens a block of thoughts, in which a reply then begins;
    "" where it opens none."""
    user = [{"role": "user", "content": _FIRST}]
    text = str(tokenizer.apply_chat_template(user, tokenize=False, add_generation_prompt=True))
    return thoughts.opened_at_end(text.rpartition(_FIRST)[2])


def _check_options(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> None:
    template = tokenizer.chat_template
    texts = template.values() if isinstance(template, dict) else [str(template)]
    known: set[str] = set()
    for text in texts:
        known |= meta.find_undeclared_variables(_PARSER.parse(text))
    odd = sorted(set(options) - known)
    if odd:
        offered = ", ".join(sorted(known - _GIVEN)) or "none"
        raise UsageError(
            f"chat_template_kwargs: expected options that the template of {tokenizer.name_or_path} "
            f"reads ({offered}), found {odd[0]!r}"
        )


class _Generation(Extension):
    """`{% generation %}`, by which transformers marks an assistant's words."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


#: Reads a template as transformers does; nothing of it is run.
_PARSER = Environment(extensions=["jinja2.ext.loopcontrols", _Generation])
#: What transformers gives every template.
_GIVEN = frozenset(
    {
        *("messages", "tools", "documents", "add_generation_prompt", "strftime_now"),
        *("raise_exception", "namespace", "bos_token", "eos_token", "pad_token", "unk_token"),
    }
)


def _all_in_parts(conversation: Sequence[Any]) -> list[Any]:
    """A conversation, or a batch of them, with every content in parts."""
    return [
        _in_parts(turn) if isinstance(turn, Mapping) else _all_in_parts(turn)
        for turn in conversation
    ]


def _in_parts(turn: Mapping[str, Any]) -> dict[str, Any]:
    content = turn.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**turn, "content": parts}


def _keeps_words(plain: Any, pinned: Mapping[str, Any], *, as_parts: bool) -> bool:
    """Whether a user's words, an assistant's and again a user's come out in their order."""
    words = (_FIRST, _REPLY, _SECOND)
    turns: Sequence[dict[str, Any]] = [
        {"role": role, "content": word}
        for role, word in zip(("user", "assistant", "user"), words, strict=True)
    ]
    turns = [_in_parts(turn) for turn in turns] if as_parts else turns
    try:
        text = str(plain(turns, tokenize=False, add_generation_prompt=True, **pinned))
    except (TemplateError, TypeError, AttributeError, KeyError, ValueError):
        return False
    places = [text.find(word) for word in words]
    return min(places) >= 0 and places == sorted(places)
