"""Text of models and data as a person may safely see it."""

from __future__ import annotations

import re

#: What a terminal acts on or what hides text: control characters (C0 but for line ends and tabs,
#: DEL, C1), line and paragraph separators, marks that turn the direction of writing, characters
#: without width, tags, and halves of surrogate pairs, which no stream can write.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e0fff\ud800-\udfff]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
#: Joins the parts of one emoji or the letters of some scripts, where it stands between two.
_JOINERS = re.compile(r"(?<=[^\x00-\x7f])([\u200c\u200d])(?=[^\x00-\x7f])")


def visible(text: str) -> str:
    """The text with every character that is no writing as its escape (`\\x1b`, `\\u202e`).

    Line ends and tabs stay; a carriage return before a line end goes with it.
    """
    parts = _JOINERS.split(text.replace("\r\n", "\n"))
    return "".join(part if at % 2 else _HIDDEN.sub(_escaped, part) for at, part in enumerate(parts))


def visible_line(text: str) -> str:
    """The same on one line: line ends and tabs are escaped too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text of whatever origin: what every command shows data and replies with."""
    import click

    click.echo(visible(text), err=err, nl=nl)


def whole(text: str) -> str:
    """The text with halves of surrogate pairs replaced, so that it can be sent and stored."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def _escaped(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]
