"""Numbers in notations that people seldom use: Roman, spelled letter by letter, digit by digit.

Also fractions in words that `numbers` leaves alone ("seven twentieths", "a fifth."), a hexadecimal
or binary literal, and tallies. `numbers` reads what word problems hold; these are ways in which a
reply may say a number without writing it.

The tables: written by hand; the tests hold examples of each notation, and of words that look alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice

from icpo_lite.core.numbers import _SMALL, numbers, words_to_number
from icpo_lite.core.plain_text import LONGEST, MOST_NUMBERS
from icpo_lite.core.words import bag

OddNumber = tuple[Fraction, int, int]

_ROMAN = re.compile(
    r"(?<![\w.'’\\{-])(?=[MDCLXVImdclxvi]{1,15}(?![\w'’-]))"
    r"(m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3}))(?![\w'’-])",
    re.IGNORECASE,
)
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
#: English words, abbreviations, sizes: no numerals.
_NO_ROMAN = bag("mix mm cc cd dc md mc cv di li mi mv dm xl dl ml cm ill ii")
#: What a numeral behind it numbers: "Part II", "World War II", "King Henry VIII".
_NUMBERED = re.compile(r"\b([A-Z][a-z]+|part|phase|step|type|level|act|chapter|grade) $")
_NO_NAME = bag(
    "it is are was maybe about perhaps say equals exactly roughly only just answer result total so "
    "thus and or so the around likely probably guess suppose assume let gives makes have has i"
)
#: A numeral that opens a line, or stands in brackets, numbers an item.
_LABEL = re.compile(r"(?:^|\n)[ \t>*-]{0,9}\(?$|\($")
_LABEL_END = re.compile(r"[.):][ \t]+\S|\)")
#: The largest numeral that a list reaches.
_MOST_ITEMS = 20


def odd_numbers(text: str) -> list[OddNumber]:
    """Numbers in the notations above with their places, in order and without overlaps."""
    text = text[:LONGEST]
    readers = (_roman, _spelled, _digit_words, _parts, _literals)
    found = [number for read in readers for number in islice(read(text), MOST_NUMBERS)]
    kept: list[OddNumber] = []
    for number in sorted(found, key=lambda n: (n[1], -n[2]))[:MOST_NUMBERS]:
        if not kept or number[1] >= kept[-1][2]:
            kept.append(number)
    return kept


def _roman(text: str) -> Iterator[OddNumber]:
    for match in _ROMAN.finditer(text):
        written = match[1]
        if not _is_roman(written):
            continue
        value = _roman_value(written.upper())
        before, after = text[max(0, match.start() - 30) : match.start()], text[match.end() :][:6]
        numbered = _NUMBERED.search(before)
        if numbered and numbered[1].lower() not in _NO_NAME:
            continue
        if value <= _MOST_ITEMS and _LABEL.search(before) and _LABEL_END.match(after):
            continue
        yield Fraction(value), match.start(1), match.end(1)


def _is_roman(written: str) -> bool:
    """Whether letters are a numeral: capitals of two and more, or four small ones; no word."""
    if written.lower() in _NO_ROMAN and written != "II":
        return False
    if written.isupper():
        return len(written) > 1
    return written.islower() and len(written) > 3


def _roman_value(written: str) -> int:
    digits = [_ROMAN_VALUES[c] for c in written]
    return sum(
        -digit if any(larger > digit for larger in digits[i + 1 : i + 2]) else digit
        for i, digit in enumerate(digits)
    )


# ------------------------------------------------------------------------------ spelled, in words

#: "t-h-r-e-e", "t h r e e", "t.h.r.e.e".
_LETTERS = re.compile(
    r"(?<![A-Za-z])[A-Za-z](?:(?P<gap>[ .·-])[A-Za-z])(?:(?P=gap)[A-Za-z]){1,30}\b"
)
_ONE_DIGIT = "zero|oh|one|two|three|four|five|six|seven|eight|nine"
_DIGIT_WORDS = re.compile(
    rf"\b(?:{_ONE_DIGIT})(?:(?:[ -]|, )(?:{_ONE_DIGIT})){{1,12}}\b(?![ -](?:hundred|thousand))",
    re.IGNORECASE,
)
_TEENS = "twent|thirt|fort|fift|sixt|sevent|eight|ninet"
_BOTTOMS = {
    **{f"{w}ieth": 10 * i for i, w in enumerate(_TEENS.split("|"), 2)},
    **{f"{w}th": v for w, v in _SMALL.items() if 4 <= v <= 19 and w not in ("five", "eight", "nine",
       "twelve")},
    "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12, "third": 3, "quarter": 4, "hundredth": 100,
    "thousandth": 1000,
}  # fmt: skip
_TOPS = "|".join(sorted(_SMALL, key=len, reverse=True))
_PART = re.compile(
    rf"\b(?P<top>an?|(?:{_TOPS})(?:[ -](?:{_TOPS}))?)"
    rf"[ -](?P<bottom>{'|'.join(_BOTTOMS)})(?P<s>s?)\b",
    re.IGNORECASE,
)
_ENDS = re.compile(r"\s*(?:[.,;:!?)]|$)| of\b")
_LITERAL = re.compile(r"\b0(?:x[0-9a-f]{1,12}|b[01]{1,40}|o[0-7]{1,12})\b", re.IGNORECASE)
_BASES = {"x": 16, "b": 2, "o": 8}


def _spelled(text: str) -> Iterator[OddNumber]:
    """Number words letter by letter; "a b c" spells none."""
    for match in _LETTERS.finditer(text):
        word = match[0].replace(match["gap"], "")
        read = [m for m in numbers(word) if m.kind != "ordinal"]
        if len(read) == 1 and read[0].surface == word:
            yield read[0].value, *match.span()


def _digit_words(text: str) -> Iterator[OddNumber]:
    """ "Three seven" is 37, digit by digit."""
    for match in _DIGIT_WORDS.finditer(text):
        words = re.findall(r"[a-z]+", match[0].lower())
        if ", " in match[0] or (len(words) == 2 and "-" in match[0] and match[0].lower() in _PAIRS):
            continue
        digits = "".join(str(_SMALL.get(word, 0)) for word in words)
        yield Fraction(int(digits)), *match.span()


#: "Two-one" is how a game ends and no number.
_PAIRS = frozenset(f"{a}-{b}" for a in ("one", "two") for b in ("one", "two", "zero"))


def _parts(text: str) -> Iterator[OddNumber]:
    """ "Seven twentieths", "a fifth." where it ends what is said."""
    for match in _PART.finditer(text):
        top, bottom = match["top"].lower(), _BOTTOMS[match["bottom"].lower()]
        single = top in ("a", "an", "one")
        if single and (match["s"] or not _ENDS.match(text, match.end())):
            continue
        if not single and not match["s"]:
            continue
        if match["bottom"].lower() == "quarter" and not _ENDS.match(text, match.end()):
            continue  # the coins
        value = 1 if single else words_to_number(top)
        yield Fraction(value) / bottom, *match.span()


def _literals(text: str) -> Iterator[OddNumber]:
    for match in _LITERAL.finditer(text):
        yield Fraction(int(match[0][2:], _BASES[match[0][1].lower()])), *match.span()
