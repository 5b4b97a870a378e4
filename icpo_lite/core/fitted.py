"""Prose for the terminal that it is shown on; off a terminal no line is wrapped."""

from __future__ import annotations

import shutil
import sys
import textwrap

#: Longer lines are hard to read, however wide the terminal is.
WIDEST = 100


def fitted(text: str, indent: str = "  ") -> str:
    """A line wrapped to the terminal's width between its words. indent: of what goes on below."""
    if not sys.stdout.isatty():
        return text
    width = min(shutil.get_terminal_size().columns, WIDEST)
    if len(text) <= width:
        return text
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
