"""Math: which number a reply commits to, and whether it is the gold one.

Values are exact (`Fraction`), so 18 = 18.0 = $18.00 = 36/2. The last committed answer counts: a
reply that boxes 5 and then boxes 7 has answered 7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from icpo_lite.core.errors import GraderError
from icpo_lite.core.numbers import numbers
from icpo_lite.rewards.features import strip_markup, strip_thought


@dataclass(frozen=True, slots=True)
class Value:
    """A number as it was written: its exact value, whether in percent, digits after the point."""

    amount: Fraction
    percent: bool = False
    decimals: int = 0


_FRAC = re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}")
_FRAC_BARE = re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)")
_GROUPED = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]}.]\s)(?<![\w)\]}.%])[-−]\s?)?(?:[$€£¥]\s?)?(?P<minus>-)?"
    rf"(?:(?P<whole>\d+)[ ]+(?P<mixed>\d+/\d+)(?![\d/])"
    rf"|(?P<ratio>\d+(?:\.\d+)?\s?/\s?\d+(?:\.\d+)?)(?![\d/])"
    rf"|(?P<digits>{_GROUPED}|\d+(?:\.\d+)?|\.\d+)(?P<power>e[+-]?\d+\b)?)"
    r"(?P<scale>\s?(?:thousand|million|billion)\b)?(?P<percent>\s?\\?%|\s+percent\b)?",
    re.IGNORECASE,
)
_SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9}


def values(text: str) -> list[tuple[Value, int, int]]:
    """Every number of a text with its span, in order; number words only where no digit stands."""
    found = [(value, m.start(), m.end()) for m in _NUMBER.finditer(text) if (value := _value(m))]
    if found or not any(c.isalpha() for c in text):
        return found
    return [
        (
            Value(m.value * 100 if m.kind == "percent" else m.value, m.kind == "percent"),
            m.start,
            m.end,
        )
        for m in numbers(text)
        if m.kind != "ordinal"
    ]


def _value(match: re.Match[str]) -> Value | None:
    decimals = 0
    try:
        if mixed := match["mixed"]:
            amount = int(match["whole"]) + Fraction(mixed)
        elif ratio := match["ratio"]:
            top, bottom = ratio.split("/")
            amount = Fraction(top.strip()) / Fraction(bottom.strip())
        else:
            digits = match["digits"].replace(",", "")
            decimals = len(digits.partition(".")[2])
            amount = Fraction(digits + _small_power(match["power"] or ""))
    except ZeroDivisionError:
        return None
    if scale := match["scale"]:
        amount *= _SCALE[scale.strip().lower()]
    if match["sign"] or match["minus"]:
        amount = -amount
    return Value(amount, bool(match["percent"]), decimals)


def _small_power(power: str) -> str:
    """An exponent, or nothing when it is absurd: "1e999999999" must not fill the memory."""
    return power if len(power) <= 4 else ""


def tidy(text: str) -> str:
    """Markup that hides a number made plain: fractions, grouping, money, percent."""
    text = strip_markup(text).replace("{,}", ",")
    if "\\" in text:
        text = _FRAC_BARE.sub(r"\1/\2", _FRAC.sub(r"\1/\2", text))
        text = text.replace("\\%", "%").replace("\\,", "").replace("\\approx", "=")
    return text


# ------------------------------------------------------------------------------------ extraction

_BOXED = re.compile(r"\\boxed\s*\{")
_HASHES = re.compile(r"####\s*([^\n]+)")
_ANSWER = re.compile(
    r"\banswer[\s*_]*(?:\([^)\n]{0,40}\)\s*)?(?:is\b|would be\b|will be\b|[:=])", re.IGNORECASE
)
#: Characters behind "answer is" that may hold the answer, and of a reply that are looked at.
_REACH, _LOOKED_AT = 300, 20_000
#: Boxes that are looked into, from the end.
_MOST_BOXES = 20
_BOLD = re.compile(r"(?<!\w)\*\*(?=\S)([^*\n]*[^\s*])\*\*")
_DIGIT = re.compile(r"\d")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_CONCLUDES = re.compile(r"\b(?:therefore|thus|hence|so|conclusion|final|answer)\b", re.IGNORECASE)
_TOTALS = re.compile(r"\b(?:in total|altogether|remains|result|overall|total)\b", re.IGNORECASE)
_CHECKS = re.compile(r"\b(?:verif\w+|check\w*|matches)\b", re.IGNORECASE)
_AFTER_VERB = re.compile(
    r"(?:=|≈|\b(?:is|are|was|were|be|equals?|to|takes?|needs?|has|have|had|makes?|made|earns?"
    r"|gets?|costs?|exactly|approximately|about|only|spent|eaten|worth)\b[:\s*]*)\s*[$€£]?\s*$",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    r"\?|\b(?:please|if you|let me know|feel free|would you|for example|e\.g\.|note)\b", re.I
)


@lru_cache(maxsize=16384)
def extract(reply: str) -> str | None:
    """The answer that a reply commits to, as written; None where no number stands.

    In this order, the last of each: `\\boxed{}`, `#### `, "answer is …" or "Answer: …", a
    concluding sentence ("Therefore …", "… in total …"), and else the last number of the text.
    """
    reply = strip_thought(reply)[-_LOOKED_AT:]
    if boxed := _last_boxed(reply):
        return boxed
    if hashes := _HASHES.findall(reply):
        found = values(tidy(hashes[-1]))
        if found:
            return _cut(tidy(hashes[-1]), found[-1])
    for stated in reversed(_statements(reply)):
        if found_in := _of_statement(stated):
            return found_in
    return _of_conclusion(reply)


def _statements(reply: str) -> list[str]:
    """What stands behind each "answer is", up to the next one."""
    heads = list(_ANSWER.finditer(reply))
    ends = [*(m.start() for m in heads[1:]), len(reply)]
    return [
        reply[m.end() : min(end, m.end() + _REACH)] for m, end in zip(heads, ends, strict=False)
    ]


def _last_boxed(reply: str) -> str | None:
    for match in reversed(list(_BOXED.finditer(reply))[-_MOST_BOXES:]):
        content = _balanced(reply, match.end())
        text = tidy(content)
        if found := values(text):
            return _cut(text, found[-1])
    return None


def _balanced(text: str, start: int) -> str:
    """From just behind an opening brace to its closing one, or to the end."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[start:at]
    return text[start:]


def _of_statement(stated: str) -> str | None:
    """Of "**3 trucks** for all 80 stones": what is bold, else behind the verb, else the first."""
    for sentence in _SENTENCE.split(stated):
        if values(tidy(sentence)):
            return _of_sentence(sentence)
    return None


#: Sentences with numbers, from the end, among which the conclusion is looked for.
_LAST = 6


def _of_conclusion(reply: str) -> str | None:
    last, asking = _last_with_numbers(reply)
    last = last or asking
    if not last:
        found = values(reply)
        return _cut(reply, found[-1]) if found else None
    for concludes in (_CONCLUDES.search, _BOLD.search, _TOTALS.search):
        for sentence in last:
            concluding = concludes(sentence) and not _CHECKS.search(sentence)
            if concluding and (answer := _of_sentence(sentence)):
                return answer
    return next(filter(None, map(_of_sentence, last)), None)


def _last_with_numbers(reply: str) -> tuple[list[str], list[str]]:
    """The last sentences that tell a number and those that ask or offer beside one, last first."""
    telling: list[str] = []
    asking: list[str] = []
    for sentence in reversed(_SENTENCE.split(reply)):
        if _DIGIT.search(sentence):
            (asking if _REQUEST.search(sentence) else telling).append(sentence)
            if len(telling) == _LAST:
                break
    return telling, asking


def _of_sentence(sentence: str) -> str | None:
    if bold := [b for b in _BOLD.findall(sentence) if _DIGIT.search(b) and values(tidy(b))]:
        return _of_phrase(tidy(bold[0]))
    return _of_phrase(tidy(sentence))


def _of_phrase(text: str) -> str | None:
    found = values(text)
    if not found:
        return None
    if "=" in text[found[0][1] :] or "≈" in text:
        return _cut(text, found[-1])
    for number in found:
        if _AFTER_VERB.search(text[max(0, number[1] - 40) : number[1]]):
            return _cut(text, number)
    return _cut(text, found[0])


def _cut(text: str, number: tuple[Value, int, int]) -> str:
    return text[number[1] : number[2]].strip()


# --------------------------------------------------------------------------------------- grading


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
    (1/3 against 0.33); 33.3 is not 33.
    """
    pairs = [(given.amount, gold.amount)]
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


def _endless(value: Fraction) -> bool:
    bottom = value.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    return bottom != 1


@lru_cache(maxsize=65536)
def equal(extracted: str, gold: str) -> bool:
    """Whether the last number of an extracted answer is the gold number."""
    found = values(tidy(extracted))
    return bool(found) and same_value(found[-1][0], gold_value(gold))


_VARIABLE = re.compile(r"^\s*\$?\s*[a-zA-Z]\s*=")
_SYMBOL = re.compile(r"\\|\^|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])|[(\[{;]")


@lru_cache(maxsize=8192)
def is_plain(gold: str) -> bool:
    """Whether a gold answer is one number with at most a unit; "(3, 4)" and "2\\pi" are not."""
    text = _VARIABLE.sub("", tidy(gold.rpartition("####")[2]).strip(" $."))
    return len(values(text)) == 1 and not _SYMBOL.search(text)


_DRESSING = re.compile(r"\s|\\left|\\right|\\!|\\,|\\;|\$|\\displaystyle|\.$")


def symbolic_answer(reply: str) -> str | None:
    """What a reply boxes, or says behind "answer is", whole; None where it does neither."""
    reply = strip_thought(reply)[-_LOOKED_AT:]
    if matches := list(_BOXED.finditer(reply)):
        return _balanced(reply, matches[-1].end()).strip() or None
    stated = _statements(reply)
    return stated[-1].strip().split("\n")[0].strip(" *$.") or None if stated else None


def same_symbols(given: str, gold: str) -> bool:
    """Equal as written, blanks and LaTeX dressing apart: what can be said without math-verify."""

    def bare(text: str) -> str:
        text = _TEXT.sub(r"\1", text.rpartition("####")[2]).replace("\\dfrac", "\\frac")
        return _DRESSING.sub("", _DRESSING.sub("", text).replace("\\tfrac", "\\frac"))

    return bare(given) == bare(gold)


_TEXT = re.compile(r"\\(?:text|mathrm|boxed)\s*\{([^{}]*)\}")

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
