"""Which number a reply to a math problem commits to, and on what evidence.

Hard evidence outranks weak: a box, then "the answer is", then the last sentence that tells a
number. Within that sentence a number weighs by where it stands ("costs $5" more than "in 5 days")
and by whether the working came to it; words such as "so" or "total" in an earlier sentence decide
nothing. The last committed answer counts: a reply that boxes 5 and then boxes 7 has answered 7.

The tables were written by hand beside lic_math_answers_dev.jsonl; tests/claims/tables.json has
what each is worth there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from icpo_lite.core.plain_text import spoken
from icpo_lite.core.sentences import BREAK
from icpo_lite.rewards import languages
from icpo_lite.rewards.courtesies import without_closing
from icpo_lite.rewards.graders.number_weights import COMPOUND, OPERATOR, weight_of
from icpo_lite.rewards.graders.written_numbers import (
    Found,
    Value,
    answers,
    in_words,
    tidy,
    values,
)

_BOXED = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_ANSWER = re.compile(
    r"(?<![^\W_])answer[\s*_\"'”]{0,4}(?:\([^()\n]{0,40}\)\s{0,2})?"
    r"(?:(?:is|would be|will be|comes (?:out )?(?:to|as))\b(?! (?:not|no)\b)|[:=→])"
    r"|^[#*_\s]{0,6}(?:the )?(?:final )?answer[*_ ]{0,4}$|^\W{0,6}ans\b\.?[*_ ]{0,4}[:=]"
    rf"|{languages.ANSWER}",
    re.IGNORECASE | re.MULTILINE,
)
#: Characters behind "answer is" that may hold the answer.
_REACH = 400
#: Boxes that are looked into, from the end.
_MOST_BOXES = 20
_BOLD = re.compile(r"(?<!\w)\*\*(?=\S)([^*\n]{0,200}[^\s*])\*\*")
_DIGIT = re.compile(r"\d")
#: Sentences that look back at an answer, or beyond it, and tell none themselves.
_ASIDE = re.compile(
    r"^\W*(?:note|remember|\(|keep in mind|p\.?s\.)|\bnote that\b|\b(?:which|this|that|it|answer"
    r"|result)"
    r" (?:also )?(?:matches|checks|agrees)\b"
    r"|^\W*(?:this|these|that|it) (?:ensures?|assum\w+|calculations?|includes?|accounts?|takes"
    r"|approach|estimate|solution|is (?:because|based|under|assuming|an? (?:estimate|approximation"
    r"|assumption)))\b",
    re.IGNORECASE,
)
#: Where a reply goes back over its answer; what stands before is the answer.
_CHECKING = re.compile(
    r"^\W*(?:(?:to|let's|let us|we can|you can|now|just to)(?: \w+){0,2} (?:verify|check"
    r"|double-check)\b|(?:verification|check|double-check|proof)\W*$|(?:verification|check)\s?:)",
    re.IGNORECASE,
)
_CORRECTS = re.compile(
    r"\b(?:therefore|thus|hence|final\w*|answer(?! is (?:correct|right|confirmed|verified))"
    r"|doesn't|does not|don't|didn't|not match"
    r"|incorrect|mistake|wrong|instead|wait|however|actually"
    r"|correction)\b",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    r"\?|\b(?:please|if you (?:have|need|want|know|can|could|provide|would)|let me know"
    r"|feel free|would you|for example|e\.g\.)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Stated:
    """An answer as it was written, and the kind of evidence that it stands on.

    value: None where what is stated is no single number ("10-15", "2\\pi"). how: "box"; "marked"
    ("#### 7", "the answer is 7"); "confirmed", where the last sentence tells what the working
    before it came to; "told" for any other number. words: the statement.
    """

    text: str
    value: Value | None
    how: Literal["box", "marked", "confirmed", "told"]
    words: str


#: A number of a text, as it is written there.
Told = tuple[str, Value]


def extract(reply: str) -> str | None:
    """The answer that a reply commits to, as written; None where no number stands.

    In this order, the last of each: `\\boxed{}`, `#### `, "answer is …" or "Answer: …", the last
    sentence that tells a number and asks for nothing.
    """
    found = stated(reply)
    return found.text if found else None


@lru_cache(maxsize=16384)
def stated(reply: str) -> Stated | None:
    """The answer of a reply with the kind of evidence that it stands on."""
    text = without_closing(spoken(reply))
    if found := _boxed(text) or _hashed(text) or _marked(text) or _opening(text):
        return found
    text = _standing(_unchecked(text))
    told = _of_conclusion(text)
    if told is None:
        return None
    return Stated(*told, "confirmed" if _confirmed(text, told) else "told", told[0])


#: "It isn't 41, it's 42."
_DENIED = re.compile(
    r"\b(?:is|are|was|were)(?:n['’]t| not) [^;,.!?\n\d]{0,20}\d[\d,]{0,12}[;,]"
    r"(?= (?:but|it|rather)\b)",
    re.IGNORECASE,
)
#: "I'd say 41, no wait, 42."
_TAKEN_BACK = re.compile(
    r"\b(?:no,? wait|scratch that|correction|make that|or rather)\b[,:;—– -]{0,4}"
    r"(?=[^.!?\n]{0,60}\d)",
    re.IGNORECASE,
)
#: So many of them are looked at, from the end.
_MOST_TAKEN_BACK = 5


def _standing(text: str) -> str:
    """A reply without what its own sentence takes back."""
    text = _DENIED.sub("", text)
    for match in reversed(list(_TAKEN_BACK.finditer(text))[-_MOST_TAKEN_BACK:]):
        start = max(text.rfind(mark, 0, match.start()) for mark in ".!?\n") + 1
        text = text[:start] + " " + text[match.end() :]
    return text


def _boxed(text: str) -> Stated | None:
    for match in reversed(list(_BOXED.finditer(text))[-_MOST_BOXES:]):
        content = _balanced(text, match.end())
        plain = tidy(content)
        if _DIGIT.search(plain) or values(plain):
            return _whole(plain, "box", f"\\boxed{{{content}}}")
    return None


def _hashed(text: str) -> Stated | None:
    for match in reversed(list(_HASHES.finditer(text))):
        line = tidy(match[1])
        if _DIGIT.search(line) or values(line):
            return _whole(line, "marked", match[0])
    return None


def _whole(text: str, how: Literal["box", "marked"], words: str) -> Stated:
    """Of "x = 5 hours" the number behind the last equals sign, else the last; of what holds no
    number that can be an answer, the whole."""
    found = answers(text)
    at = _last_equals(text, len(text))
    behind = [number for number in found if number[1] > at]
    if not found or (at >= 0 and not behind):
        return Stated(text.strip(), None, how, words)
    return Stated(*_told(text, behind[0] if at >= 0 else found[-1]), how, words)


def _marked(text: str) -> Stated | None:
    heads = list(_ANSWER.finditer(text))
    ends = [*(m.start() for m in heads[1:]), len(text)]
    for head, end in reversed(list(zip(heads, ends, strict=False))):
        behind = text[head.end() : min(end, head.end() + _REACH)]
        if told := _of_statement(behind):
            return Stated(*told, "marked", f"{' '.join(head[0].split())} {told[0]}")
        if _DIGIT.search(first := behind.strip().split("\n")[0]):
            return Stated(tidy(first), None, "marked", first)
    return None


#: A first line that is an answer alone, and what explains it: "**7 hours**", "Explanation: …".
_ALONE = re.compile(
    r"\W{0,6}(?:[a-z]{1,12}\s?=\s?)?[$€£-]{0,2}\d[\d,./: ]*(?:e\d+)?(?:\s?%|\s?[a-z/°]{1,12}){0,2}"
    r"(?:\s?\([a-z -]{1,30}\))?\W{0,4}",
    re.IGNORECASE,
)
_EXPLAINS = re.compile(
    r"\W{0,6}(?:explanation|explained|reason(?:ing)?|because|here(?:'s| is)|work(?:ing)?|solution"
    r"|calculations?|justification|steps?|details|how (?:i|we|to)|why)\b",
    re.IGNORECASE,
)


def _opening(text: str) -> Stated | None:
    """The answer that stands alone on the first line, before its explanation."""
    first, _, rest = text.strip().partition("\n")
    if not _EXPLAINS.match(rest.lstrip()[:40]):
        return None
    first = tidy(first[:80])
    found = answers(first) if _ALONE.fullmatch(first) else []
    return Stated(*_told(first, found[0]), "marked", first) if len(found) == 1 else None


def _balanced(text: str, start: int) -> str:
    """From just behind an opening brace to its closing one, or to the end."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[start:at]
    return text[start:]


_IMMEDIATE = re.compile(
    r"[\s*_$:\\({\[~≈=\"'`>-]{0,8}(?:about |approximately |exactly |[a-z]\s?=\s?)?[$€£]?",
    re.IGNORECASE,
)
_WORKS = re.compile(r"^\W{0,9}(?:to|first|let|since|we|step|given|if)\b|=", re.IGNORECASE)
_GOES_ON = re.compile(r"=|^\s?[-+*/×÷]\s?[$\d]")


def _of_statement(text: str) -> Told | None:
    """Behind "answer": the number that stands there at once, else the first sentence's number, or
    the conclusion of what follows where "Answer:" merely opens the working."""
    sentences = [s for s in BREAK.split(text) if answers(tidy(s))]
    if not sentences:
        return None
    first = tidy(sentences[0])
    found = answers(first)
    at_once = _IMMEDIATE.fullmatch(first[: found[0][1]])
    if at_once and not _GOES_ON.search(first[found[0][2] :]):
        return _told(first, found[0])
    if len(sentences) > 1 and _WORKS.search(sentences[0]):
        return _of_conclusion(text)
    return _of_sentence(sentences[0], ())


def _of_conclusion(text: str) -> Told | None:
    results = _results(text)
    telling, asking = _last_with_numbers(text, results)
    for sentence in telling or asking:
        if told := _of_sentence(sentence, results):
            return told
    tail = tidy(text[-_REACH:])
    found = answers(tail)
    return _told(tail, found[-1]) if found else None


def _confirmed(text: str, told: Told) -> bool:
    """Whether a number of the last sentence is the result of an equation."""
    results = _results(text)
    telling, _ = _last_with_numbers(text, results)
    ends = bool(telling) and telling[0] == BREAK.split(text.rstrip())[-1]
    if not ends or _OPEN_END.search(text):
        return False
    worked = tidy(text[-_WORKED:])
    return told[1].amount in results or told[0] in _EQUALS.findall(worked)


#: Characters of working before a last sentence that words of a result are looked for in.
_WORKED = 1500
_EQUALS = re.compile(
    r"\b(?:equals|(?:is|are) equal to|which (?:is|equals|makes|gives|means)|results in) "
    r"([$€£]?\d[\d,.]*\d|\d)"
)
#: An end in the middle of a calculation.
_OPEN_END = re.compile(r"(?:[-+*/×÷=(]|\\times|\\cdot|\\div)\s{0,3}$")


def _unchecked(text: str) -> str:
    """A text without the check of its answer at the end, where that finds nothing wrong."""
    for match in list(BREAK.finditer(text))[-_MOST_SENTENCES:]:
        if _CHECKING.match(text[match.end() : match.end() + 80].split("\n")[0]):
            before, check = text[: match.start()], text[match.end() :]
            if _DIGIT.search(before[-_REACH:]) and not _CORRECTS.search(check):
                return before
    return text


#: Sentences with numbers, from the end, among which the conclusion is looked for, and sentences
#: that are looked at for them.
_LAST, _MOST_SENTENCES = 6, 150


def _last_with_numbers(text: str, results: tuple[Fraction, ...]) -> tuple[list[str], list[str]]:
    """The last sentences that tell a number, and those that ask or look back, last first.

    A number in words counts where it is a result, where the text holds no digits, or where the
    last sentence concludes with it ("so the total is five").
    """
    telling: list[str] = []
    asking: list[str] = []
    no_digits = not _DIGIT.search(text)
    for sentence in reversed(BREAK.split(text)[-_MOST_SENTENCES:]):
        if not _DIGIT.search(sentence):
            concludes = not telling and bool(_CONCLUDES.search(sentence[-_LONGEST_SENTENCE:]))
            read = no_digits or results or concludes
            words = in_words(sentence[-_LONGEST_SENTENCE:]) if read else []
            if concludes and words:
                words, concludes = words[-1:], words[-1][0].amount != 1
            if not any(no_digits or concludes or w[0].amount in results for w in words):
                continue
        beside = _REQUEST.search(sentence) or (not telling and _ASIDE.search(sentence))
        (asking if beside else telling).append(sentence)
        if len(telling) == _LAST or len(asking) > _LAST:
            break
    return telling, asking


#: The beginning of a sentence that tells what the working came to, and words that name it.
_CONCLUDES = re.compile(
    r"^\W*(?:so|thus|therefore|hence|consequently|in conclusion|in total|in all|in the end"
    r"|altogether|finally|(?:i|we) get|(?:that|this|which) (?:leaves|makes|gives|is|comes))\b|∴"
    r"|\b(?:result|solution|total|final|value|amount|outcome|answer)\b[^.]{0,60}"
    r"\b(?:is|are|was|be|equals|to|as|of)\b",
    re.IGNORECASE,
)
#: Characters of a sentence, from its end, and numbers in it that are weighed.
_LONGEST_SENTENCE, _MOST_NUMBERS = 800, 40
#: How many of the last equations are looked at for what the working came to.
_MOST_RESULTS = 4


def _results(text: str) -> tuple[Fraction, ...]:
    """Values of the last equations, last first; "= 3 × 5" is none before it is worked out."""
    out: list[Fraction] = []
    at = len(text)
    while len(out) < _MOST_RESULTS and (at := _last_equals(text, at)) >= 0:
        side = tidy(text[at + 1 : at + 80].split("\n\n")[0].split("=")[0])
        found = answers(side)
        if found and not OPERATOR.match(side, found[0][2]):
            out.append(found[0][0].amount)
    return tuple(out)


def _last_equals(text: str, end: int) -> int:
    return max(text.rfind("=", 0, end), text.rfind("≈", 0, end))


#: Signs before what a line comes to, beside those of an equation.
_ARROWS = "→⇒⟹➔⟶"


def _last_sign(text: str) -> int:
    """Where the last equals sign or arrow stands; -1 for none."""
    if text.isascii():
        return _last_equals(text, len(text))
    return max(_last_equals(text, len(text)), *(text.rfind(arrow) for arrow in _ARROWS))


def _of_sentence(sentence: str, results: tuple[Fraction, ...]) -> Told | None:
    sentence = sentence[-_LONGEST_SENTENCE:]
    bold = " ".join(b for b in _BOLD.findall(sentence) if not b.endswith(":"))
    marked = frozenset(value.amount for value, _, _ in values(tidy(bold)))
    return _of_phrase(tidy(sentence), results, marked)


def _of_phrase(
    text: str, results: tuple[Fraction, ...], bold: frozenset[Fraction] = frozenset()
) -> Told | None:
    found = answers(text)
    at = _last_sign(text)
    behind = [number for number in found if number[1] > at]
    if at >= 0 and behind:
        return _told(text, _behind_equals(text, behind))
    found = found[-_MOST_NUMBERS:]
    found = [*found, *(w for w in _words(text, found) if not found or w[0].amount in results)]
    if not found:
        return None
    chinese = bool(_NO_BLANKS.search(text))  # the conclusion is the last clause of a sentence

    def rank(number: Found) -> tuple[int, int]:
        amount = number[0].amount
        meant = {amount, number[0].other}  # "25 cents" where the working came to $0.25
        known = 3 if meant & set(results[:1]) else bool(meant & set(results))
        compound = 3 * (amount in results[:1] and bool(COMPOUND.match(text, number[2])))
        at = number[1] if chinese else -number[1]
        return weight_of(text, number) + known + compound + 3 * (amount in bold), at

    return _told(text, max(found, key=rank))


_NO_BLANKS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


def _words(text: str, found: list[Found]) -> list[Found]:
    return [w for w in in_words(text) if not any(f[1] <= w[1] < f[2] for f in found)]


_NEW_CLAUSE = re.compile(r"[,;]\s|\b(?:so|then|therefore|leaving|which)\b")


def _behind_equals(text: str, behind: list[Found]) -> Found:
    """The first number behind the sign; a later one where a new clause goes on to tell it."""
    first = behind[0]
    for number in behind[1:]:
        between = text[first[2] : number[1]]
        if _NEW_CLAUSE.search(between) and weight_of(text, number) > 0:
            return number
    return first


def _told(text: str, number: Found) -> Told:
    return text[number[1] : number[2]].strip(), number[0]


def whole_statement(reply: str) -> str | None:
    """What a reply boxes, or says behind "answer is", whole; None where it does neither."""
    text = spoken(reply)
    if matches := list(_BOXED.finditer(text)):
        return _balanced(text, matches[-1].end()).strip() or None
    heads = list(_ANSWER.finditer(text))
    if not heads:
        return None
    behind = text[heads[-1].end() : heads[-1].end() + _REACH]
    return behind.strip().split("\n")[0].strip(" *$.") or None
