"""The one cap on what parsers see, and one spelling for the characters that they look for.

A policy can write anything: a hundred thousand tabs, a number of five thousand digits, digits of
another script. Every parser of replies reads `plain(text)`, so that none has to be safe alone and
none takes long. What is cut is what no reader would read on to.

The tables: written by hand and tried on lic_math_answers_dev.jsonl, so figures on that file are of
data that the author has seen. tests/claims/tables.json has what each is worth alone: none changes a
grade on 138 replies.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from icpo_lite.core.thoughts import said

#: Characters that are read of a text: so many from its beginning, so many from its end.
FIRST, LAST = 3_000, 9_000
#: Characters of a prompt or a fact in which numbers and sentences are looked for one by one.
LONGEST = 12_000
#: Numbers of one text that are read.
MOST_NUMBERS = 2_000
#: A longer run of digits is no number that a person wrote.
MOST_DIGITS = 60
_DIGITS = re.compile(r"[\d.,/]+")
_TOO_MANY = re.compile(rf"\d{{{MOST_DIGITS + 1}}}")
_SAME = re.compile(r"([^\d\n])\1{40,}")
_LINES = re.compile(r"\n{5,}")
_BLANKS = re.compile(r"[^\S\n]{9,}")
_UNBROKEN = re.compile(r"\S+")
#: A longer stretch without a blank is no word, formula or line of a script without blanks.
_LONGEST_WORD = 600

#: Blanks that separate groups of digits, and apostrophes that do so in Switzerland.
_GROUPING = re.compile(r"(?<=\d)[\u00a0\u2002-\u200a\u202f\u3000'’٬，](?=\d{3}(?!\d))")
_CLOCK = re.compile(r"(?<=\d)：(?=\d)")
_SPELLINGS = {
    "。": ". ", "｡": ". ", "、": ", ", "，": ", ", "？": "? ", "！": "! ", "；": "; ", "：": ": ",
    "؟": "?", "،": ", ", "٫": ".", "¿": "", "¡": "", "’": "'", "‘": "'", "“": '"', "”": '"',
    "−": "-", "﹣": "-", "－": "-", "⁄": "/", "∕": "/", "％": "%", "￥": "¥", "＄": "$",
    "\u3000": " ", "\u00a0": " ", "\u202f": " ", "\u205f": " ", "\ufeff": "", "\u2060": "",
    "\u2028": "\n", "\u2029": "\n", "\x85": "\n", "\r": "\n",
}  # fmt: skip


@lru_cache(maxsize=2048)
def plain(text: str) -> str:
    """A text within the cap, its digits and punctuation in ASCII, its runs shortened."""
    text = capped(text).replace("\r\n", "\n")
    if not text.isascii():
        text = _CLOCK.sub(":", _GROUPING.sub(",", text))
        text = text.translate(_table(frozenset(text)))
    elif "'" in text:
        text = _GROUPING.sub(",", text)
    text = _LINES.sub("\n\n\n\n", _BLANKS.sub("        ", text))
    if _TOO_MANY.search(text):
        text = _DIGITS.sub(_number, text)
    text = _SAME.sub(lambda m: m[1] * 40, text)
    if any(len(word) > _LONGEST_WORD for word in text.split()):
        text = _UNBROKEN.sub(lambda m: m[0][:_LONGEST_WORD], text)
    return capped(text)


def capped(text: str) -> str:
    """The beginning and the end of a text that is too long to be read whole."""
    return text if len(text) <= FIRST + LAST else f"{text[:FIRST]}\n{text[-LAST:]}"


def _number(digits: re.Match[str]) -> str:
    return " … " if _TOO_MANY.search(digits[0]) else digits[0]


def _table(characters: frozenset[str]) -> dict[int, str]:
    """How each of these characters is spelt in ASCII; the others stay."""
    table = {}
    for c in characters:
        if c in _SPELLINGS:
            table[ord(c)] = _SPELLINGS[c]
        elif "\uff01" <= c <= "\uff5e":
            table[ord(c)] = chr(ord(c) - 0xFEE0)
        elif not c.isascii() and c.isdecimal():
            table[ord(c)] = str(unicodedata.decimal(c))
        elif "\u2000" <= c <= "\u200a":
            table[ord(c)] = " "
        elif "\u200b" <= c <= "\u200f":
            table[ord(c)] = ""
    return table


@lru_cache(maxsize=2048)
def spoken(reply: str) -> str:
    """What parsers read of a reply: no thought, within the cap, in plain characters."""
    return plain(said(reply))
