"""Where a value stands in a request: numbers in figures and words, texts, lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from icpo_lite.core.numbers import NumberMention, numbers

#: A longer list is data, and nothing that a user is asked for.
MOST_ITEMS = 20


def spans_of(text: str, value: Any) -> Iterator[tuple[int, int]]:
    """The stretches of a text that say a value."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield from _number_spans(text, value)
    elif isinstance(value, str) and value.strip():
        for match in re.finditer(_words_pattern(value), text, re.IGNORECASE):
            yield match.span()
    elif isinstance(value, list | tuple) and value:
        yield from _list_spans(text, value)


def _signed(text: str) -> Iterator[NumberMention]:
    """The numbers of a text, with the minus that stands before one and is no dash."""
    for m in numbers(text):
        minus = m.kind == "cardinal" and re.search(r"(?:^|[\s(,=])[-−]$", text[: m.start][-2:])
        if minus:
            yield replace(m, value=-m.value, start=m.start - 1)
        else:
            yield m


def _number_spans(text: str, value: float) -> Iterator[tuple[int, int]]:
    try:
        wanted = Fraction(str(value))
    except ValueError:  # infinite, or no number
        return
    for m in _signed(text):
        if m.kind == "ordinal" and not re.match(r" century\b| grade\b| floor\b", text[m.end :]):
            continue  # "1st June" is no number of rooms
        if re.match(r":\d", text[m.end :]) or re.search(
            r"\d:$", text[max(0, m.start - 2) : m.start]
        ):
            continue  # a time of day is one value
        scale = 100 if m.kind == "percent" else 1
        if wanted in (m.value, m.value * scale):
            yield m.start, m.end


def _words_pattern(value: str) -> str:
    inner = r"\s+".join(re.escape(word) for word in value.split())
    return rf"(?<![\w.]){inner}(?!\w)"


_BETWEEN_ITEMS = r"[\"'\s]*,?[\"'\s]*(?:and[\"'\s]+)?"


def _list_spans(text: str, values: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """ "[5, 3, 4]", "flour, sugar and eggs"."""
    items = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return
        written = f"{value:g}" if isinstance(value, float) else str(value)
        items.append(r"\s+".join(re.escape(word) for word in written.split()))
        if isinstance(value, float) and value.is_integer():
            items[-1] += r"(?:\.0+)?"
    if not all(items) or len(items) > MOST_ITEMS:
        return
    pattern = rf"[\[({{]?[\"']?(?<![\w.]){_BETWEEN_ITEMS.join(items)}(?!\w)[\"']?[\])}}]?"
    for match in re.finditer(pattern, text, re.IGNORECASE):
        opens, closes = match[0][:1] in "[({", match[0][-1:] in "])}"
        yield match.start() + (opens and not closes), match.end() - (closes and not opens)
