"""Numbers as people and models write them, each with its exact value and where it stands.

Grouping by commas, points and any blank, decimal commas, money, percent, mixed and LaTeX fractions,
powers of ten, scales ("2 million", "5 dozen"), clock times, units with exponents, number words.
The ends of a range ("10-15", "between 10 and 15") are no answer, and neither is what multiplies a
symbol ("2\\pi").

The tables: written by hand and tried on lic_math_answers_dev.jsonl, so figures on that file are of
data that the author has seen. tests/claims/tables.json has what each is worth alone: number words
other than the pattern as a whole change nothing on 138 replies.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice, pairwise

from icpo_lite.core.foreign_numbers import foreign_numbers
from icpo_lite.core.numbers import numbers
from icpo_lite.core.plain_text import MOST_NUMBERS, plain
from icpo_lite.rewards import languages
from icpo_lite.rewards.features import undressed


@dataclass(frozen=True, slots=True)
class Value:
    """A number as it was written: its exact value, whether in percent, digits after the point.

    half: of a clock time "am", "pm" or "clock" (24 hours, or it does not say), else "".
    other: the value in another unit that the writer may mean: 5 of "5 dozen", 0.75 of "75 cents".
    """

    amount: Fraction
    percent: bool = False
    decimals: int = 0
    half: str = ""
    other: Fraction | None = None


Found = tuple[Value, int, int]

# -------------------------------------------------------------------------------------------- LaTeX

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_VULGARS = dict(
    zip(
        "½⅓⅔¼¾⅕⅖⅗⅘⅙⅛⅜⅝⅞",
        re.findall(r"\S+", "1/2 1/3 2/3 1/4 3/4 1/5 2/5 3/5 4/5 1/6 1/8 3/8 5/8 7/8"),
        strict=True,
    )
)
_VULGAR = re.compile(rf"(\d)?\s?([{''.join(_VULGARS)}])")
_PARTS = {"a half": "1/2", "one half": "1/2", "a third": "1/3", "a quarter": "1/4",
          "three quarters": "3/4", "two thirds": "2/3"}  # fmt: skip
_AND_A_PART = re.compile(rf"(?<=\d) and ({'|'.join(_PARTS)})\b", re.IGNORECASE)
_GROUP_MARKS = re.compile(r"(?<=\d)(?:\{,\}|\\[,;:! ]|~|,\\!)(?=\d{3}(?!\d))")
_SPACES = re.compile(r"\\[,;:! ]|~")
_DEGREES = re.compile(r"\^\s?\{?\s?\\circ\s?\}?|\\degree\b")
_TIMES_TEN = re.compile(
    r"(?<=\d)\s?(?:\\times|\\cdot|[×·⋅*]|x(?=\s?10))\s?10\s?\^\s?[{(]?\s?([-−+]?\d{1,4})(?:\s?[})])?"
)
_POWER = re.compile(r"(?<![\w.^])(\d{1,6})\s?\^\s?\{?\s?(\d{1,9})\s?\}?(?!\d|\.\d)")
#: The exponent of a unit or a variable: cm^2, s^{-1}.
_EXPONENT = re.compile(r"(?<=[A-Za-zµ°Ω)])\s?\^\s?\{?\s?[-−+]?\d{1,2}\s?\}?")
_PART = r"\{\s{0,3}\$?\s?(-?[\d.,]{1,40})\s{0,3}\}"
_FRAC = re.compile(rf"(?P<whole>\d\s?)?\\[dtc]?frac\s?{_PART}\s?{_PART}")
_FRAC_BARE = re.compile(r"(?P<whole>\d\s?)?\\[dtc]?frac\s?(\d)\s?(\d)(?!\d)")
_ROOT = re.compile(r"\\sqrt\s?\{?\s?(\d{1,30})\s?\}?|√\s?(\d{1,30})")
_SWAPS = (("\\%", "%"), ("\\approx", "="), ("\\$", "$"), ("\\ ", " "), ("\\cdot", "·"),
          ("\\times", "×"), ("\\div", "÷"), ("{,}", ","))  # fmt: skip


@lru_cache(maxsize=16384)
def tidy(text: str) -> str:
    """Markup that hides a number made plain: fractions, powers, roots, grouping, units, money."""
    text = plain(text)
    text = _AND_A_PART.sub(_part_of, text)
    if not text.isascii():
        text = _VULGAR.sub(lambda m: f"{m[1] or ''} {_VULGARS[m[2]]}", text)
        text = _RAISED.sub(lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
    if "\\" in text or "~" in text or "{," in text:
        text = _SPACES.sub(" ", _GROUP_MARKS.sub(",", text))
        text = _DEGREES.sub("°", text)
    text = undressed(text)
    if "^" in text:
        text = _EXPONENT.sub("", _POWER.sub(_raise, _TIMES_TEN.sub(r"e\1", text)))
    if "\\" in text or "√" in text:
        text = _FRAC_BARE.sub(_over, _FRAC.sub(_over, text))
        text = _ROOT.sub(_root, text)
        for macro, sign in _SWAPS:
            text = text.replace(macro, sign)
    return text


def _part_of(match: re.Match[str]) -> str:
    return f" {_PARTS[match[1].lower()]}"


def _over(match: re.Match[str]) -> str:
    whole, top, bottom = match.groups()
    return f"{whole.strip()} {top}/{bottom}" if whole else f"{top}/{bottom}"


def _raise(match: re.Match[str]) -> str:
    base, exponent = int(match[1]), int(match[2])
    if base > 1 and exponent * math.log10(base) > 40:
        return " … "
    return str(base**exponent)


def _root(match: re.Match[str]) -> str:
    square = int(match[1] or match[2])
    root = math.isqrt(square)
    return str(root) if root * root == square else "√"


# ------------------------------------------------------------------------------------------ numbers

_DIGITS = (
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)"  # 1,234.5
    r"|\d{1,3}(?:\.\d{3})+,\d{1,2}(?!\d)"  # 1.234,5
    r"|\d{1,3}(?:\.\d{3}){2,}(?![\d.,]\d)(?!\d)"  # 1.234.567
    r"|[1-9]\d{0,2}(?: \d{3})+(?:[.,]\d{1,2})?(?![\d/]|[ ]?/|[-:]\w)"  # 1 234 567,5
    r"|(?<![\d,(\[])\d+,\d{1,2}(?![\d,)\]]|\.\d)"  # 5,40
    r"|\d+(?:\.\d+)?|\.\d+"
)
#: What a minus sign stands behind: an operand. A sign behind a Chinese word is the number's own.
_ENDS = r"[A-Za-z\d_\u00c0-\u024f)\]}.]"
#: The end of an English word; a word of a script without blanks may follow at once.
_WORD_END = r"(?![a-z\d_])"
_NUMBER = re.compile(
    rf"(?P<sign>(?<!{_ENDS}\s)(?<!{_ENDS})(?<!%)[-−]\s?)?(?:[$€£¥₹]\s?)?(?P<minus>(?<!{_ENDS})(?<!%)-)?"
    r"(?:(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)(?::[0-5]\d)?(?![\d:])(?:\s?(?P<half>[ap])\.?m\b)?"
    r"|(?P<oclock>1[0-2]|[1-9])\s?(?:(?P<noon>[ap])\.?m\b|o'clock\b)"
    r"|(?P<whole>\d+)(?:[ ]{1,8}|[ ]and[ ])(?P<mixed>\d+/\d+)(?![\d/])"
    r"|(?P<ratio>\d+(?:\.\d+)?\s?/\s?\d+(?:\.\d+)?)(?![\d/])"
    rf"|(?P<digits>{_DIGITS})(?P<power>e[+-]?\d+{_WORD_END})?)"
    rf"(?P<scale>\s?(?:hundred|thousand|million|billion|trillion|dozen){_WORD_END}|k{_WORD_END}"
    r"|\s?[万萬億亿])?"
    rf"(?P<percent>\s?\\?%|\s?percent{_WORD_END})?(?P<cents>\s?(?:cents?{_WORD_END}|¢))?",
    re.IGNORECASE,
)
_SCALE = {
    "k": 10**3, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9,
    "trillion": 10**12, "dozen": 12, "万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8,
}  # fmt: skip
_DIGIT = re.compile(r"\d")
#: What makes of the number before it a factor or a base: "2\\pi", "3x", "5√2", "10^x".
_FACTOR_OF = re.compile(r"\s?(?:\^|\\pi\b|π|\\sqrt|√|\\theta\b|θ)|[xyzn](?![a-z\d])")
#: A power that a float holds; a larger one is no answer and would fill the memory.
_MOST_POWER = 300
_NOON = re.compile(r"\b(?:12 )?(noon|midnight)\b", re.IGNORECASE)


def values(text: str) -> list[Found]:
    """Every number of a text with its span, in order; number words only where no digit stands."""
    matches = islice(_NUMBER.finditer(text), MOST_NUMBERS)
    found = [(value, m.start(), m.end()) for m in matches if (value := _value(m))]
    if found or not any(c.isalpha() for c in text):
        return found
    return in_words(text)


#: A word and nothing beside it: whoever answers "elf" speaks of no elf.
_LONE_WORD = re.compile(r"\W*[^\W\d_]+\W*")


def in_words(text: str) -> list[Found]:
    """The numbers that a text tells in words: "twelve", "a dozen", "noon"; no ordinals."""
    if at := _NOON.search(text):
        half = "pm" if at[1].lower() == "noon" else "am"
        return [(Value(Fraction(12), half=half), at.start(), at.end())]
    found = [
        (
            Value(m.value * 100 if m.kind == "percent" else m.value, m.kind == "percent"),
            m.start,
            m.end,
        )
        for m in numbers(text)
        if m.kind != "ordinal" and not _DIGIT.search(m.surface)
    ]
    if not found:
        foreign = foreign_numbers(text, foreign=True)
        another = _LONE_WORD.fullmatch(text) or languages.speaks_another(text)
        if foreign and not another:  # "once" is a word of English, too
            foreign = foreign_numbers(text, foreign=False)
        return [(Value(value), start, end) for value, start, end in foreign]
    return _with_halves(text, found)


_AND = re.compile(r"\s(?:and|&)\s", re.IGNORECASE)


def _with_halves(text: str, found: list[Found]) -> list[Found]:
    """ "three and a half" as one number."""
    out: list[Found] = []
    for number in found:
        fraction = 0 < number[0].amount < 1 and not number[0].percent
        if out and fraction and _AND.fullmatch(text[out[-1][2] : number[1]]):
            whole = out.pop()
            number = (Value(whole[0].amount + number[0].amount), whole[1], number[2])
        out.append(number)
    return out


def answers(text: str) -> list[Found]:
    """The values of a text that can be an answer: no end of a range."""
    found = values(text)
    out = set()
    for i, (first, second) in enumerate(pairwise(found)):
        if _ranges(text, first, second):
            out |= {i, i + 1}
    return [number for i, number in enumerate(found) if i not in out]


_DASH = re.compile(r"\s?[–—]\s?|-")
_TO = re.compile(r"\s?(?:[a-z°$%]{1,8}\s)?(?:to|or|until)\s[$€£]?", re.IGNORECASE)
_BETWEEN = re.compile(r"\b(?:between|from)\s[$€£]?$", re.IGNORECASE)
_UPTO = re.compile(r"\s?(?:[a-z°$%]{1,8}\s)?(?:and|to|until)\s[$€£]?", re.IGNORECASE)


def _ranges(text: str, first: Found, second: Found) -> bool:
    """Whether two neighbouring numbers are the ends of a range; "15-10 = 5" is a difference."""
    between, before = text[first[2] : second[1]], text[max(0, first[1] - 10) : first[1]]
    if _BETWEEN.search(before):
        return bool(_UPTO.fullmatch(between))
    if not (_DASH.fullmatch(between) or _TO.fullmatch(between)):
        return False
    rising = first[0].amount < second[0].amount
    return rising and not text[second[2] : second[2] + 3].lstrip().startswith("=")


def _value(match: re.Match[str]) -> Value | None:
    text, end = match.string, match.end()
    if match["minute"] or match["oclock"]:
        return _clock(match)
    if _FACTOR_OF.match(text, end):
        return None
    decimals = 0
    try:
        if mixed := match["mixed"]:
            amount = int(match["whole"]) + Fraction(mixed)
        elif ratio := match["ratio"]:
            top, bottom = ratio.split("/")
            amount = Fraction(top.strip()) / Fraction(bottom.strip())
        else:
            digits, power = _point(match["digits"]), match["power"] or ""
            if len(power) > 5 or (power and abs(int(power[1:])) > _MOST_POWER):
                return None
            decimals = len(digits.partition(".")[2])
            amount = Fraction(digits + power)
    except ZeroDivisionError:
        return None
    if match["sign"] or match["minus"]:
        amount = -amount
    other = amount / 100 if match["cents"] else None
    if scale := (match["scale"] or "").strip().lower():
        other = amount if scale == "dozen" else None
        amount *= _SCALE[scale]
    return Value(amount, bool(match["percent"]), decimals, other=other)


def _clock(match: re.Match[str]) -> Value | None:
    hours = int(match["hour"] or match["oclock"])
    if hours > 24:
        return None
    half = (match["half"] or match["noon"] or "").lower()
    amount = Fraction(60 * hours + int(match["minute"] or 0), 60)
    return Value(amount, half=f"{half}m" if half else "clock")


def _point(digits: str) -> str:
    """Digits without grouping and with a decimal point, whichever way they were written."""
    digits = digits.replace(" ", "")
    comma, point = digits.rfind(","), digits.rfind(".")
    if comma < 0:
        return digits.replace(".", "") if digits.count(".") > 1 else digits
    decimal = comma > point >= 0 or (point < 0 and len(digits) - comma - 1 < 3)
    if decimal:
        return digits.replace(".", "").replace(",", ".")
    return digits.replace(",", "")
