"""What a model would say that knows the gold answer of a mathematics row, and what spoils one.

A gold answer is not tried as it stands in the row: what a model says is the number in it, plain,
boxed or in a sentence. Where a grader then finds the right answer wrong, the row's gold is at
fault: it is a list that was printed, has more behind it than the answer, or is a sentence of which
nobody can tell which number counts.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.types import Prompt
from icpo_lite.rewards.graders.choice_answers import choices_in
from icpo_lite.rewards.graders.math import is_plain
from icpo_lite.rewards.graders.worded_answers import bare, in_words
from icpo_lite.rewards.grading import grade

#: Names of the ways in which a right answer is said, as rows of the check's table.
WAYS = ("gold", "gold, boxed", "gold, in a sentence")
_SYMBOLS = re.compile(
    r"\\|\^|_|^\s*[(\[{].*[)\]}]\s*$|[a-zA-Z]\s*=|[a-zA-Z]\s*[+*/-]|[+*/-]\s*[a-zA-Z]|\d[a-zA-Z]\b"
)
_PRINTED = re.compile(r"[\[{(]\s*(?:['\"]|\{)|\bNone\b|\bnull\b|\b(?:True|False)\b")
_WORD = re.compile(r"[A-Za-z]{2,}")
_ASIDE = re.compile(r"\d[^()\n]*\([^()]*\)\s*\.?\s*$")
#: Words from which a gold answer is a sentence.
_SENTENCE = 6


def fault(answer: Any) -> str:
    """Why no right answer could match a gold answer of mathematics, in a few words; "" for none."""
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return f"a {type(answer).__name__}"
    text = _marked(answer)
    if not text:
        return "an empty one"
    if "\\" not in text and _PRINTED.search(text):
        return "a printed list or dictionary"
    if "\n" in text:
        return "more than one line"
    several = len({n.value for n in _counted(text)}) > 1
    if several and not _SYMBOLS.search(text):
        if len(_WORD.findall(text)) >= _SENTENCE:
            return "a sentence with several numbers"
        if _ASIDE.search(text):
            return "a number with others in brackets behind it"
    return "" if _matched(text, answer) else "words that hide the number"


def _matched(text: str, answer: Any) -> bool:
    """Whether the number alone is right; tried where a grader sees more than a number."""
    said = _number(text)
    if said is None or is_plain(text):
        return True
    try:
        return grade("math", f"The answer is {said}.", str(answer)).correct
    except GraderError:
        return False


def ways_of_saying(answer: Any) -> dict[str, str]:
    """The right answer as a model says it: plain, in a box, in a sentence."""
    text = _marked(answer)
    said = _number(text)
    plain, sentence = said, f"that comes to {said} in total."
    if in_words(text):
        said = bare(text)
        texts = (f"The answer is {said}.", f"\\boxed{{\\text{{{said}}}}}", f"So, it is {said}.")
        texts = texts if len(said) > 3 else (*texts[:2], f"So, the answer is {said}, I think.")
        return dict(zip(WAYS, texts, strict=True))
    if said is None:  # an expression: said as it is written, where a grader looks for one
        said = text
        plain = text if numbers(text) and "\\" not in text else f"\\boxed{{{text}}}"
        sentence = f"we get $\\boxed{{{text}}}$ in the end."
    texts = (f"The answer is {plain}.", f"\\boxed{{{said}}}", f"Putting it together, {sentence}")
    return dict(zip(WAYS, texts, strict=True))


def right_choice(prompt: Prompt) -> tuple[str, str] | None:
    """Letter and words of the choice that is the gold answer; None where there are no choices."""
    if prompt.task != "math":
        return None
    found = choices_in(prompt.columns).items()
    return next(((label, text) for label, text in found if text == prompt.answer), None)


def another_choice(prompt: Prompt) -> str:
    """The letter of a choice that is not the gold answer."""
    found = choices_in(prompt.columns).items()
    return next((label for label, text in found if text != prompt.answer), "?")


def hedge(one: str, other: str) -> str:
    """Two answers at once, each as a reply gives it ("The answer is 5.")."""
    return f"It could be {_last_of(one)} or {_last_of(other)}, depending on the rest."


def _last_of(reply: str) -> str:
    found = numbers(reply)
    return found[-1].surface if found else reply.rpartition(" is ")[2].rstrip(".")


def ways_of_choosing(label: str, words: str) -> dict[str, str]:
    """The right choice as a model names it: by its letter, boxed, by its words."""
    texts = (f"The answer is {label}.", f"\\boxed{{{label}}}", f"So, the answer is {words}.")
    return dict(zip(WAYS, texts, strict=True))


def _marked(answer: Any) -> str:
    return str(answer).rpartition("####")[2].strip()


def _counted(text: str) -> list[NumberMention]:
    return [n for n in numbers(text) if n.kind != "ordinal"]


def _number(text: str) -> str | None:
    """The one number of a gold answer in plain digits; None where it is more than a number."""
    if _SYMBOLS.search(text):
        return None
    found = _counted(text)
    if not found or len({n.value for n in found}) > 1:
        return None
    digits = re.escape(found[0].surface.lstrip("$€£ "))
    minus = "-" if re.search(rf"[-−]\s?[$€£]?\s?{digits}", text) else ""
    if found[0].kind == "percent":
        return f"{minus}{_digits(found[0].value * 100)}%"
    return f"{minus}{_digits(found[0].value)}"


def _digits(value: Fraction) -> str:
    """18, 2.5 or 1/3: as short as it can be said."""
    bottom = value.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    if value.denominator == 1:
        return str(value.numerator)
    if bottom != 1 or value.denominator > 10**12:
        return f"{value.numerator}/{value.denominator}"
    return format(Decimal(value.numerator) / Decimal(value.denominator), "f")
