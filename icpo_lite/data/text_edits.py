"""Edits that take stretches out of a text and leave it well written.

A `Cut` is a set of edits on the original text that take one fact out. `apply` makes the text
without them: spaces, capital letters, and "a" or "an" before the next word are set right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

CutKind = Literal[
    "count",
    "measure",
    "modifier",
    "comparison",
    "price",
    "speed",
    "percent",
    "share",
    "amount",
    "clause",
    # Of requests whose gold answer names its values (data/value_shards.py): the value goes, or
    # "a certain year" stands in its place.
    "value",
    "gap",
    # Of code: all that says what a function does (data/code_descriptions.py).
    "description",
    # Of code: what a word of the request means (data/code_requirements.py).
    "term",
]


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `text[start:end]`."""

    start: int
    end: int
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to take a fact out. slot: the words left behind that show that it is missing."""

    kind: CutKind
    edits: tuple[Edit, ...]
    slot: str = ""


def apply(text: str, cuts: Iterable[Cut]) -> str:
    """The text without the cut stretches, with spaces, capitals and a/an set right around them.

    Raises ValueError when cuts overlap.
    """
    edits = sorted((e for cut in cuts for e in cut.edits), key=lambda e: (e.start, e.end))
    out = ""
    at = 0
    for edit in edits:
        if edit.start < at:
            raise ValueError("cuts overlap")
        out = _join(out, text[at : edit.start])
        out = _join(out, edit.replacement, cut=True)
        at = edit.end
        while at < len(text) and text[at] == " " and (not out or out[-1] in " \n("):
            at += 1
        if at < len(text) and text[at] in ".,;:?!)" and out.endswith(" "):
            out = out.rstrip(" ")
        out, at = _mend_start(out, text, at)
    return (out + text[at:]).strip()


def _join(left: str, right: str, *, cut: bool = False) -> str:
    if cut and right and left.endswith(" ") and right.startswith(" "):
        return left + right[1:]
    return left + right


_ARTICLE = re.compile(r"\b(an?) $", re.IGNORECASE)


def _mend_start(out: str, text: str, at: int) -> tuple[str, int]:
    """Capital letter after a cut that opened a sentence; "a" or "an" before the new next word."""
    if at >= len(text):
        return out, at
    following = text[at]
    if following.islower() and (not out.strip() or re.search(r"[.?!][\"'”’)]*\s+$", out)):
        return out + following.upper(), at + 1
    if article := _ARTICLE.search(out):
        word = article[1][0] + ("n" if _sounds_like_vowel(text[at : at + 12]) else "")
        return out[: article.start()] + word + " ", at
    return out, at


def _sounds_like_vowel(rest: str) -> bool:
    low = rest.lower()
    return low.startswith(_VOWEL_SOUNDS)


_VOWEL_SOUNDS = ("a", "e", "i", "o", "um", "un", "up", "hour", "hono", "8", "11-", "18")


_PREVIOUS = re.compile(r"([A-Za-z’'%]+|[,;:.?!($&-]) ?$")


def previous_word(text: str, at: int) -> str:
    """The word or sign in front of a place, in lower case; "" where there is none near."""
    match = _PREVIOUS.search(text, max(0, at - 30), at)
    return match[1].lower() if match else ""
