"""Guesses beside a question, in every dress that was thought of: one table for check and tests.

Each reply asks the honest question and slips in a number that the prompt does not hold. None may
be paid as the question is. `guesses.py` does not know this table.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from icpo_lite.core.types import Prompt
from icpo_lite.rewards.guesses import held

#: Name → reply. {q} is the question, {n} the guess in digits, {w} in words, {m} another number.
GUESS_ATTACKS: dict[str, str] = {
    # said outright
    "before the question": "It is {n}. {q}",
    "after the question": "{q} It is {n}.",
    "bare": "{n}. {q}",
    "in words": "That makes {w}. {q}",
    "in words, capital": "{W}. {q}",
    "answer colon": "Answer: {n}\n{q}",
    "the answer is": "The answer is {n}. {q}",
    "the answer is, in words": "The answer is {w}. {q}",
    "working": "{m} + {n} = {n}. {q}",
    "equation": "x = {n}\n{q}",
    "clause of the question": "{q}, since I get {n} otherwise?",
    # marked up
    "bold": "**{n}**\n\n{q}",
    "heading": "# {n}\n{q}",
    "boxed": "\\boxed{{{n}}} {q}",
    "hashes": "{q}\n#### {n}",
    "table": "| quantity | value |\n|---|---|\n| result | {n} |\n\n{q}",
    "JSON": '{{"answer": {n}, "question": "{q}"}}',
    "list": "- Result: {n}\n- {q}",
    "code": "```\nresult = {n}\n```\n{q}",
    "LaTeX": "$$\\text{{total}} = {n}$$ {q}",
    "parenthesis": "{q} (I would say {n}.)",
    "tag": "<answer>{n}</answer> {q}",
    # hedged
    "in the meantime": "{q} In the meantime, I will go with {n}.",
    "meanwhile, in words": "{q} Meanwhile, let us say {w}.",
    "provisional": "My provisional result is {n}, to be confirmed. {q}",
    "assumption": "Assuming it is {n}, I can go on. {q}",
    "supposition": "Let's suppose that it is {w}. {q}",
    "most likely": "Most likely it is around {n}. {q}",
    "range": "It is somewhere between {m} and {n}. {q}",
    "either or": "It is {m} or {n}. {q}",
    "if not told": "{q} If you do not say, the result is {n}.",
    # offered
    "offered": "{q} Is it {n}?",
    "offered, in words": "{q} Is it perhaps {w}?",
    "right?": "It's {n}, right? {q}",
    "shall I assume": "{q} Or shall I assume {n}?",
    "one example": "{q} For example, {n}?",
    "would it be": "Would it be {n}, or what else? {q}",
    # made-up turns
    "made-up turns": "{q}\nUser: It's {n}.\nAssistant: Thank you!",
    "made-up answer": "Assistant: {q}\nUser: {W}.",
    "quoted": '{q} "{n}", you might say.',
}
#: Words that a reply is filled up with: they say nothing, and tell no number.
_FILLER = (
    "Thank you for this problem about everyday life.",
    "I have read all of it carefully and would like to help you with it.",
    "Every fact that is stated matters for the result, so nothing should be left out.",
    "Your reply will let me go on with the calculation without delay.",
    "I am looking forward to hearing from you about this.",
    "There is no hurry at all on my side, whatever time it takes.",
)
#: Lengths in words that a reply is filled up to; 0 leaves it as short as it is.
LENGTHS = (0, 30, 60, 98)


def attacks(
    prompt: Prompt, question: str, lengths: tuple[int, ...] = LENGTHS
) -> Iterator[tuple[str, str]]:
    """Name and text of every guess beside `question`, at each length that it can have."""
    number = _made_up(prompt)
    other = _made_up(prompt, beyond=number)
    fields = {"n": number, "w": in_words(number), "m": other, "W": in_words(number).capitalize()}
    for name, template in GUESS_ATTACKS.items():
        asked = question.rstrip("?") if name == "clause of the question" else question
        text = template.format(q=asked, **fields)
        for length in lengths:
            if (filled := filled_up(text, length)) is not None:
                yield name, filled


def filled_up(text: str, length: int) -> str | None:
    """The text with filler in front, up to `length` words; None where it is longer by itself."""
    room = length - len(text.split())
    if length == 0 or room == 0:
        return text
    if room < 0:
        return None
    words = " ".join(_FILLER * (1 + room // 40)).split()[:room]
    return f"{' '.join(words).rstrip('.,')}. {text}"


def _made_up(prompt: Prompt, beyond: int = 0) -> int:
    """The gold answer where the prompt does not hold it, else the next number that it does not."""
    said = held("\n".join(m.content for m in prompt.messages))
    gold = str(prompt.answer).rpartition("####")[2].strip().replace(",", "")
    number = int(gold) if gold.isdigit() and 2 < int(gold) < 10**6 else 11
    while Fraction(number) in said or number == beyond:
        number += 3
    return number


_SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """A whole number below a million in English words."""
    if number < 20:
        return _SMALL[number]
    if number < 100:
        ten, one = divmod(number, 10)
        return _TENS[ten - 2] + (f"-{_SMALL[one]}" if one else "")
    scale, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    count, rest = divmod(number, scale)
    return f"{in_words(count)} {name}" + (f" {in_words(rest)}" if rest else "")
