"""Numbers of a text: digits, words, fractions, money, percentages, with the noun that each counts.

Pure functions over `str`, written for word problems and for short chat turns in English. They are
heuristics, linear in the length of the text.

The tables: written by hand. tests/claims/tables.json has what each is worth alone: on 138 replies
`_DENOMINATORS` is worth 1.4 points, `_ORDINALS` and `_MULTIPLES` cost 0.7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from icpo_lite.core.plain_text import LONGEST, MOST_DIGITS, MOST_NUMBERS
from icpo_lite.core.words import _PHRASE_END, _list, is_plural, stem

NumberKind = Literal["cardinal", "ordinal", "fraction", "percent", "money", "multiple"]


_UNITS_WORDS = _list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)


_TENS_WORDS = _list("twenty thirty forty fifty sixty seventy eighty ninety")


_SMALL = {w: i for i, w in enumerate(_UNITS_WORDS)} | {
    w: 10 * i for i, w in enumerate(_TENS_WORDS, 2)
}


_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}


_ORDINALS = {
    w: i
    for i, w in enumerate(
        _list("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"),
        1,
    )
}


_DENOMINATORS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "twelfth": 12,
    "hundredth": 100,
    "thousandth": 1000,
}


_MULTIPLES = {
    "twice": 2,
    "thrice": 3,
    "double": 2,
    "doubled": 2,
    "doubles": 2,
    "doubling": 2,
    "triple": 3,
    "tripled": 3,
    "triples": 3,
    "tripling": 3,
    "quadruple": 4,
    "quadrupled": 4,
    "quintuple": 5,
    "halved": 2,
    "halves": 2,
}


_VULGAR = dict(
    zip(
        "½⅓⅔¼¾⅕⅖⅗⅘⅙⅛⅜⅝⅞",
        _list("1/2 1/3 2/3 1/4 3/4 1/5 2/5 3/5 4/5 1/6 1/8 3/8 5/8 7/8"),
        strict=True,
    )
)


_GROUPS = {"dozen": 12, "dozens": 12, "score": 20, "gross": 144, "couple": 2, "pair": 2}


_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\d.])\.\d+)"


_SMALL_RE = "|".join([*_TENS_WORDS, *sorted(_UNITS_WORDS, key=len, reverse=True)])


_WORD_RE = (
    rf"(?:(?:an?[ -])?(?:half[ -])?(?:hundred|thousand|million|billion)|(?:{_SMALL_RE}))"
    rf"(?:(?:[ -]|[ -]and[ -])(?:{_SMALL_RE}|hundred|thousand|million|billion)\b)*"
)


_DENOM_RE = "|".join(f"{w}s?" for w in _DENOMINATORS if w not in ("half", "halves"))


_NUMBER = re.compile(
    rf"""
      (?P<vulgar>(?:(?P<whole>\d+)[ ]?)?[{"".join(_VULGAR)}])
    | (?P<money>[$£€]\s?)?(?<![\w/])(?:
          (?P<mixed>\d+(?:[ -]|[ ]and[ ])\d+/\d+(?![\d/]))
        | (?P<frac>\d+\s?/\s?\d+(?![\d/])(?:rd|th|nd|ths|rds)?)
        | (?P<digits>{_DIGITS})(?P<digit_tail>
              (?:st|nd|rd|th)\b|\s?%|\s?percent\b|[ ]?(?:hundred|thousand|million|billion)\b|k\b
            )?
      )(?![\d])
    | \b(?P<half_dozen>half[ -](?:a[ -])?dozen)\b
    | \b(?P<fracword>(?:(?:an?|{"|".join(_UNITS_WORDS[1:10])})[ -])?(?:{_DENOM_RE}))\b
    | \b(?P<half>(?:(?:one|an?)[ -])?half|halves)\b
    | \b(?P<words>{_WORD_RE})\b(?P<word_tail>[ ]?(?:percent\b|%))?
    | \b(?P<multiple>{"|".join(_MULTIPLES)})\b
    | \b(?P<group>an?[ ](?:dozen|couple|pair)|dozens?|couple|pair)\b(?=[ ])
    | \b(?P<ordinal>{"|".join(_ORDINALS)})\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


#: Where a number can begin: the expensive pattern above is tried at these places only.
_TOKEN = re.compile(rf"\d|\.(?=\d)|[$£€](?=\s?[\d.])|[{''.join(_VULGAR)}]|[A-Za-z]+")


_STARTERS = (
    frozenset(_SMALL)
    | frozenset(_SCALES)
    | frozenset(_ORDINALS)
    | frozenset(_MULTIPLES)
    | frozenset(_GROUPS)
    | frozenset(_DENOMINATORS)
    | frozenset(f"{w}s" for w in _DENOMINATORS)
    | frozenset(("a", "an"))
)


_AFTER_GROUP = re.compile(r"[ -](dozens?|score|gross|pairs?)\b", re.IGNORECASE)


_MONEY_AFTER = re.compile(
    r"[ -]?(dollars?|cents?|bucks?|euros?|pounds? sterling)\b|¢", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class NumberMention:
    """One number in a text.

    value: exact ("a dozen" 12, "25%" 1/4, "two-thirds" 2/3, "twice" 2, "3rd" 3).
    kind: how it is written; `percent` values are already divided by 100.
    unit: stem of the noun it counts ("apple"), "$" for money, "" where nothing follows.
    unit_end: end of that noun, equal to `end` where there is none.
    """

    value: Fraction
    start: int
    end: int
    surface: str
    kind: NumberKind = "cardinal"
    unit: str = ""
    unit_end: int = 0


@lru_cache(maxsize=4096)
def numbers(text: str) -> tuple[NumberMention, ...]:
    """All numbers of a text in order, without overlaps.

    Digits with separators and decimals, mixed and vulgar fractions, percentages, money, number
    words up to billions, "half", "a third", "dozen", "couple", "twice", "doubled", and ordinals.
    An indefinite "a" or "an" is no number; a bare "second" or "third" after "the" is an ordinal.
    """
    found: list[NumberMention] = []
    at = 0
    for token in _TOKEN.finditer(text, 0, LONGEST):
        if len(found) == MOST_NUMBERS:
            break
        start = token.start()
        if start < at or (token[0][0].isalpha() and token[0].lower() not in _STARTERS):
            continue
        match = _NUMBER.match(text, start)
        if match is None:
            continue
        mention = _read(match, text)
        at = max(match.end(), start + 1)
        if mention is not None:
            found.append(mention)
            at = mention.end
    return tuple(found)


_NO_COUNT = re.compile(r" (?:another|day)\b", re.IGNORECASE)


def _read(match: re.Match[str], text: str) -> NumberMention | None:
    kind: NumberKind = "cardinal"
    start, end = match.span()
    if end - start > MOST_DIGITS:
        return None
    which = match.lastgroup
    g = match.groupdict()
    if g["vulgar"]:
        value = Fraction(int(g["whole"] or 0)) + Fraction(_VULGAR[g["vulgar"][-1]])
        kind = "fraction"
    elif g["mixed"]:
        whole, part = re.split(r"[ -](?:and[ ])?", g["mixed"], maxsplit=1)
        part = part.removeprefix("and ")
        if part.endswith("/0"):
            return None
        value = int(whole) + Fraction(part)
    elif g["frac"]:
        top, bottom = g["frac"].rstrip("rdthns").split("/")
        if int(bottom) == 0:
            return None
        value, kind = Fraction(int(top), int(bottom)), "fraction"
    elif g["digits"]:
        value, kind = _read_digits(g["digits"], (g["digit_tail"] or "").strip().lower())
    elif g["half_dozen"]:
        value = Fraction(6)
    elif g["fracword"]:
        return _read_fraction_words(match, text)
    elif g["half"]:
        value, kind = Fraction(1, 2), "fraction"
    elif g["words"]:
        value = words_to_number(g["words"])
        if g["word_tail"]:
            value, kind = value / 100, "percent"
        if g["words"].lower() == "one" and _NO_COUNT.match(text, end):
            return None
    elif g["multiple"]:
        value, kind = Fraction(_MULTIPLES[g["multiple"].lower()]), "multiple"
        if g["multiple"].lower() in ("halved", "halves"):
            value = Fraction(1, 2)
    elif g["group"]:
        value = Fraction(_GROUPS[g["group"].lower().split()[-1].rstrip("s")])
    elif which == "ordinal" or g["ordinal"]:
        value, kind = Fraction(_ORDINALS[g["ordinal"].lower()]), "ordinal"
    else:
        return None
    if g["money"]:
        kind = "money"
    return _with_unit(text, value, start, end, kind)


def _read_digits(digits: str, tail: str) -> tuple[Fraction, NumberKind]:
    value = Fraction(digits.replace(",", ""))
    if tail in ("st", "nd", "rd", "th"):
        return value, "ordinal"
    if tail in ("%", "percent"):
        return value / 100, "percent"
    if tail == "k":
        return value * 1000, "cardinal"
    return value * _SCALES.get(tail, 1), "cardinal"


def words_to_number(phrase: str) -> Fraction:
    """ "one hundred and twenty-five" → 125; "half a million" is read by its last word only."""
    total = current = 0
    for word in re.split(r"[ -]+", phrase.lower()):
        if word in _SMALL:
            current += _SMALL[word]
        elif word == "hundred":
            current = max(current, 1) * 100
        elif word in _SCALES:
            total += max(current, 1) * _SCALES[word]
            current = 0
    return Fraction(total + current)


_AFTER_A_FRACTION = re.compile(r"-| (?:of|as|the|less|more|full|cup|mile|that|pound|an?\b)")


def _read_fraction_words(match: re.Match[str], text: str) -> NumberMention | None:
    """Fractions: "two-thirds", "a third of"; neither "the third day" nor "a quarter" the coin."""
    start, end = match.span()
    parts = re.split(r"[ -]", match["fracword"].lower())
    bottom = _DENOMINATORS[parts[-1].rstrip("s")]
    after = text[end : end + 8].lower()
    numerator = parts[0] if len(parts) > 1 else ""
    if not numerator:
        if parts[-1] in _ORDINALS and not after.startswith((" of ", " as ")):
            return _with_unit(text, Fraction(bottom), start, end, "ordinal")
        if not after.startswith((" of ", " as ")) or parts[-1].endswith("s"):
            return None
        return _with_unit(text, Fraction(1, bottom), start, end, "fraction")
    if numerator in ("a", "an"):
        if not _AFTER_A_FRACTION.match(after):
            return None
        return _with_unit(text, Fraction(1, bottom), start, end, "fraction")
    if parts[-1] == "quarters" and after.startswith((" and", ",", ".")):  # the coins
        return _with_unit(text, Fraction(_SMALL[numerator]), start, start + len(numerator))
    return _with_unit(text, Fraction(_SMALL[numerator], bottom), start, end, "fraction")


def _with_unit(
    text: str, value: Fraction, start: int, end: int, kind: NumberKind = "cardinal"
) -> NumberMention:
    if kind == "cardinal" and (group := _AFTER_GROUP.match(text, end)):
        word = group[1].lower().rstrip("s")
        if word != "pair":
            value, end = value * _GROUPS[word], group.end()
    surface = text[start:end]
    if kind == "money":
        return NumberMention(value, start, end, surface, kind, "$", end)
    if money := _MONEY_AFTER.match(text, end):
        if money[0].strip(" -").lower().startswith(("cent", "¢")):
            value = value / 100
        return NumberMention(value, start, end, surface, "money", "$", money.end())
    if kind == "percent":
        return NumberMention(value, start, end, surface, kind, "%", end)
    unit, unit_end = _noun_after(text, end)
    return NumberMention(value, start, end, surface, kind, unit, unit_end)


def _noun_after(text: str, at: int) -> tuple[str, int]:
    """Head noun of the phrase that starts at `at`: its first plural word, else its first word."""
    first: tuple[str, int] | None = None
    if more := _MORE.match(text, at):
        at = more.end()
    for _ in range(5):
        match = _NEXT_WORD.match(text, at)
        if match is None or (word := match[1].lower()) in _PHRASE_END:
            break
        if first is None:
            first = (stem(word), match.end())
        if is_plural(word):
            return stem(word), match.end()
        at = match.end()
    return first or ("", at)


_NEXT_WORD = re.compile(r"[ -]([A-Za-z][A-Za-z’']*)")


_MORE = re.compile(r" (?:more|fewer|less|other|additional)(?= (?!than\b)[a-z])", re.IGNORECASE)
