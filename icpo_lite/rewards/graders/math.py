"""Math: is the number that a reply commits to the gold one?

Values are exact (`Fraction`), so 18 = 18.0 = $18.00 = 36/2. Which number it is that a reply commits
to is found in `extraction`, how it may be written in `written_numbers`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders.extraction import extract, stated, whole_statement
from icpo_lite.rewards.graders.written_numbers import Value, answers, tidy, values

__all__ = [
    "Value",
    "equal",
    "extract",
    "gold_value",
    "is_plain",
    "lic_equal",
    "same_symbols",
    "same_value",
    "stated",
    "tidy",
    "values",
    "whole_statement",
]


@lru_cache(maxsize=8192)
def gold_value(answer: str) -> Value:
    """The number after the last `####`, or the last number; GraderError where there is none."""
    text = tidy(answer.rpartition("####")[2])
    found = values(text)
    if not found:
        raise GraderError(
            f"expected a number in the gold answer of a math row, found {answer!r}; "
            "change the row, or the recipe's answer column"
        )
    return found[-1][0]


def same_value(given: Value, gold: Value) -> bool:
    """Equal, or equal once one of them is read as a percentage, or rounded as it was written.

    Rounding counts only for two or more decimals of a gold value that has no finite decimal form
    (1/3 against 0.33); 33.3 is not 33. 2:00 pm is 2 and 14, and not 2 am.
    """
    if given.half or gold.half:
        return _same_time(given, gold)
    pairs = [(given.amount, gold.amount)]
    if given.other is not None:
        pairs.append((given.other, gold.amount))
    if gold.other is not None:
        pairs.append((given.amount, gold.other))
    if given.percent != gold.percent:
        ratio = gold.amount if gold.percent else gold.amount * 100
        pairs.append((given.amount if given.percent else given.amount * 100, ratio))
    for a, b in pairs:
        if a == b:
            return True
        endless = _endless(b)
        if endless and given.decimals >= 2 and abs(a - b) <= Fraction(1, 2 * 10**given.decimals):
            return True
    return False


def _same_time(given: Value, gold: Value) -> bool:
    if {given.half, gold.half} == {"am", "pm"}:
        return False
    return bool(_hours(given) & _hours(gold))


def _hours(time: Value) -> set[Fraction]:
    """The hours of the day that a clock time can mean, as said and out of 24."""
    said = time.amount
    if time.half == "pm" and said < 12:
        return {said, said + 12}
    return {said, said - 12} if time.half == "am" and said >= 12 else {said}


def _endless(value: Fraction) -> bool:
    bottom = value.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    return bottom != 1


@lru_cache(maxsize=65536)
def equal(extracted: str, gold: str) -> bool:
    """Whether the last number of an extracted answer is the gold number."""
    found = answers(tidy(extracted))
    return bool(found) and same_value(found[-1][0], gold_value(gold))


_VARIABLE = re.compile(r"^\s{0,5}\$?\s{0,5}[a-zA-Z]\s{0,5}=")
_SYMBOL = re.compile(r"\\|\^|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])|[(\[{;]")


@lru_cache(maxsize=8192)
def is_plain(gold: str) -> bool:
    """Whether a gold answer is one number with at most a unit; "(3, 4)" and "2\\pi" are not."""
    text = _VARIABLE.sub("", tidy(gold.rpartition("####")[2]).strip(" $."))
    text = _WRAPPED.sub(r"\1", text)
    found = values(text)
    if len(found) != 1:
        return False
    unit = _UNIT.sub("", text[found[0][2] :])
    return not _SYMBOL.search(f"{text[: found[0][1]]} {unit}")


_WRAPPED = re.compile(r"^\(([^(),;]*)\)$")
#: Units and halves of the day behind a number that look like symbols: "5 m", "25°C", "2 p.m.".
_UNIT = re.compile(
    r"^\s{0,3}(?:[A-Za-z]{1,4}/[A-Za-z]{1,4}|°\s?[CF]|[mglLhst]|[ap]\.m)(?![A-Za-z])\.?"
)


_DRESSING = re.compile(r"\s|\\left|\\right|\\!|\\,|\\;|\$|\\displaystyle|\.$")


def same_symbols(given: str, gold: str) -> bool:
    """Equal as written, blanks and LaTeX dressing apart: what can be said without math-verify."""

    def bare(text: str) -> str:
        text = _TEXT.sub(r"\1", text.rpartition("####")[2]).replace("\\dfrac", "\\frac")
        return _DRESSING.sub("", _DRESSING.sub("", text).replace("\\tfrac", "\\frac"))

    return bare(given) == bare(gold)


_TEXT = re.compile(r"\\(?:text|mbox|mathrm|boxed)\s*\{([^{}]*)\}")

# ------------------------------------------------------------------- Lost in Conversation's rule

_LIC_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def lic_equal(extracted: str, gold: str) -> bool:
    """Lost in Conversation's comparison of strings, kept with its faults for comparable figures.

    The last thing that looks like a number, without commas; where it ends in ".00", the characters
    "." and "0" are stripped from its end, so that "$100.00" becomes "$1" and is wrong.
    """
    found = _LIC_NUMBER.findall(extracted)
    if not found:
        return False
    given = found[-1].replace(",", "").rstrip(".")
    if given.endswith(".00"):
        given = given.rstrip(".0")
    return given.lstrip("$") == gold.rpartition("####")[2].strip().replace(",", "")
