"""Math: which number a reply commits to, and whether it is the gold one.

Values are exact (`Fraction`), so 18 = 18.0 = $18.00 = 36/2. Hard evidence outranks weak: a box,
then "the answer is", then the last sentence that tells a number; words such as "so" or "total" in
an earlier sentence decide nothing. The last committed answer counts: a reply that boxes 5 and then
boxes 7 has answered 7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from icpo_lite.core.errors import GraderError
from icpo_lite.core.plain_text import spoken
from icpo_lite.rewards import languages
from icpo_lite.rewards.courtesies import without_closing
from icpo_lite.rewards.graders.written_numbers import (
    Found,
    Value,
    answers,
    in_words,
    tidy,
    values,
)

__all__ = ["Value", "equal", "extract", "gold_value", "tidy", "values"]

# ------------------------------------------------------------------------------------ extraction

_BOXED = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_ANSWER = re.compile(
    r"\b(?:answer|solution|result)[\s*_]{0,4}(?:\([^()\n]{0,40}\)\s{0,2})?"
    r"(?:(?:is|would be|will be|comes out (?:to|as))\b(?! (?:not|no)\b)|[:=])"
    r"|^[#*_\s]{0,6}(?:the )?final answer[*_ ]{0,4}$"
    rf"|{languages.ANSWER}",
    re.IGNORECASE | re.MULTILINE,
)
#: Characters behind "answer is" that may hold the answer.
_REACH = 400
#: Boxes that are looked into, from the end.
_MOST_BOXES = 20
_BOLD = re.compile(r"(?<!\w)\*\*(?=\S)([^*\n]{0,200}[^\s*])\*\*")
_DIGIT = re.compile(r"\d")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
#: Sentences that look back at an answer, or beyond it.
_ASIDE = re.compile(
    r"\b(?:verif\w+|check\w*|matches|confirm\w*|double-check\w*|note that|remember)\b|^\W*note\b",
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

    how: "box"; "marked" ("#### 7", "the answer is 7"); "confirmed", where the last sentence tells
    what the working before it came to; "told" for any other number. words: as they stand.
    """

    text: str
    how: Literal["box", "marked", "confirmed", "told"]
    words: str = ""


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
    if found := hard_evidence(text):
        return found
    told = _of_conclusion(text)
    if not told:
        return None
    return Stated(told, "confirmed" if _confirmed(text, told) else "told", told)


def _confirmed(text: str, told: str) -> bool:
    """Whether a number of the last sentence is the result of an equation."""
    last = _SENTENCE.split(text.rstrip())[-1]
    telling, _ = _last_with_numbers(text)
    found = answers(told)
    results = _results(text)
    return bool(telling and telling[0] == last and found and found[-1][0].amount in results)


def hard_evidence(text: str) -> Stated | None:
    """A boxed or marked answer in a reply that is `spoken` already."""
    if boxed := _last_boxed(text):
        return boxed
    if hashes := list(_HASHES.finditer(text)):
        line = tidy(hashes[-1][1])
        if found := values(line):
            return Stated(_cut(line, (answers(line) or found)[-1]), "marked", hashes[-1][0])
    heads = list(_ANSWER.finditer(text))
    ends = [*(m.start() for m in heads[1:]), len(text)]
    for head, end in reversed(list(zip(heads, ends, strict=False))):
        if answer := _of_statement(text[head.end() : min(end, head.end() + _REACH)]):
            return Stated(answer, "marked", f"{' '.join(head[0].split())} {answer}")
    return None


def _last_boxed(text: str) -> Stated | None:
    for match in reversed(list(_BOXED.finditer(text))[-_MOST_BOXES:]):
        content = _balanced(text, match.end())
        plain = tidy(content)
        if found := values(plain):
            fit = answers(plain)
            answer = _cut(plain, _of_box(plain, fit)) if fit else plain.strip()
            return Stated(answer, "box", f"\\boxed{{{content}}}")
    return None


def _of_box(text: str, found: list[Found]) -> Found:
    """Of "x = 5 hours for 3 men" the first number behind the last equals sign."""
    at = max(text.rfind("="), text.rfind("≈"))
    behind = [number for number in found if number[1] > at]
    return behind[0] if behind and at >= 0 else found[-1]


def _balanced(text: str, start: int) -> str:
    """From just behind an opening brace to its closing one, or to the end."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[start:at]
    return text[start:]


_IMMEDIATE = re.compile(r"[\s*_$:\\({\[~≈=-]{0,8}(?:about |approximately |exactly )?[$€£]?")
_WORKS = re.compile(r"^\W{0,9}(?:to|first|let|since|we|step|given|if)\b|=", re.IGNORECASE)


def _of_statement(text: str) -> str | None:
    """Behind "answer": the number that stands there at once, else the first sentence's number, or
    the conclusion of what follows where "Answer:" merely opens the working."""
    sentences = [s for s in _SENTENCE.split(text) if values(tidy(s))]
    if not sentences:
        return None
    first = tidy(sentences[0])
    if (found := answers(first)) and _IMMEDIATE.fullmatch(first[: found[0][1]]):
        rest = first[found[0][2] :]
        if "=" not in rest and not re.match(r"\s?[-+*/×÷]\s?[$\d]", rest):
            return _cut(first, found[0])
    if len(sentences) > 1 and _WORKS.search(sentences[0]):
        return _of_conclusion(text)
    return _of_sentence(sentences[0], ())


def _of_conclusion(text: str) -> str | None:
    telling, asking = _last_with_numbers(text)
    results = _results(text)
    for sentence in telling[:_LAST] or asking:
        if answer := _of_sentence(sentence, results):
            return answer
    found = values(tidy(text[-_REACH:]))
    return _cut(tidy(text[-_REACH:]), found[-1]) if found else None


#: Sentences with numbers, from the end, among which the conclusion is looked for.
_LAST = 6


def _last_with_numbers(text: str) -> tuple[list[str], list[str]]:
    """The last sentences that tell a number, and those that ask or look back, last first."""
    telling: list[str] = []
    asking: list[str] = []
    for sentence in reversed(_SENTENCE.split(text)):
        if not sentence.strip() or not (_DIGIT.search(sentence) or in_words(sentence)):
            continue
        beside = _REQUEST.search(sentence) or (_ASIDE.search(sentence) and len(telling) == 0)
        (asking if beside else telling).append(sentence)
        if len(telling) == _LAST or len(asking) > _LAST:
            break
    return telling, asking


#: What stands behind the last equals signs of a text: the results that its working came to.
_MOST_RESULTS = 4
_RESULT = re.compile(r"[=≈]([^=≈\n]{1,80})(?=$|\n|[^=≈])")


def _results(text: str) -> tuple[Fraction, ...]:
    """Values of the last equations, last first."""
    out: list[Fraction] = []
    at = len(text)
    while len(out) < _MOST_RESULTS and (at := max(text.rfind("=", 0, at), text.rfind("≈", 0, at))) >= 0:
        found = answers(tidy(text[at + 1 : at + 80].split("\n\n")[0].split("=")[0]))
        if found:
            out.append(found[0][0].amount)
    return tuple(out)


def _of_sentence(sentence: str, results: tuple[Fraction, ...]) -> str | None:
    bold = [b for b in _BOLD.findall(sentence) if not b.endswith(":") and values(tidy(b))]
    if bold and (answer := _of_phrase(tidy(bold[-1]), results)):
        return answer
    return _of_phrase(tidy(sentence), results)


def _of_phrase(text: str, results: tuple[Fraction, ...]) -> str | None:
    found = answers(text)
    if not found:
        return None
    at = max(text.rfind("="), text.rfind("≈"))
    if at >= 0 and (behind := [number for number in found if number[1] > at]):
        return _cut(text, _behind_equals(text, behind))
    found = [*found, *(w for w in _words(text, found) if w[0].amount in results)]
    for result in results:
        if same := [number for number in found if number[0].amount == result]:
            return _cut(text, same[0])
    return _cut(text, max(found, key=lambda number: (_weight(text, number), -number[1])))


def _words(text: str, found: list[Found]) -> list[Found]:
    return [w for w in in_words(text) if not any(f[1] <= w[1] < f[2] for f in found)]


_NEW_CLAUSE = re.compile(r"[,;]\s|\b(?:so|then|therefore|leaving|which)\b")


def _behind_equals(text: str, behind: list[Found]) -> Found:
    """The first number behind the sign; a later one where a new clause goes on to tell it."""
    first = behind[0]
    for number in behind[1:]:
        between = text[first[2] : number[1]]
        if _NEW_CLAUSE.search(between) and _weight(text, number) > 0:
            return number
    return first


_AFTER_VERB = re.compile(
    r"(?:\b(?:is|are|was|were|be|been|equals?|takes?|needs?|has|have|had|makes?|made|earns?|earned"
    r"|gets?|costs?|pays?|paid|spends?|spent|eaten|worth|receives?|received|saves?|saved|sells?"
    r"|leaves?|lasts?|exactly|approximately|about|another|additional|extra|up to|total of"
    r"|average of)\b[:\s*]{0,4})[$€£]?$",
    re.IGNORECASE,
)
_TOTAL = re.compile(r"\b(?:total|average|sum|maximum|minimum) of [$€£]?$", re.IGNORECASE)
_AFTER_PREPOSITION = re.compile(
    r"\b(?:in|for|over|after|during|within|of|with|from|per|by|every|each|when|all|on|at|than|only if)"
    r" (?:the |all |these |those |his |her |their |its |a )?(?:\w{2,12} )?[$€£]?$",
    re.IGNORECASE,
)
_CONDITION = re.compile(r"^\W{0,9}(?:if|since|because|when|given|after|as)\b[^,]{0,200}$", re.IGNORECASE)
_IF_BEFORE = re.compile(r"\b(?:if|when|because|since) [^,]{0,100}$", re.IGNORECASE)
_COMPOUND = re.compile(r"-[a-z]", re.IGNORECASE)


def _weight(text: str, number: Found) -> int:
    """How much a number looks like what its sentence is there to tell."""
    before = text[max(0, number[1] - 120) : number[1]]
    if _COMPOUND.match(text, number[2]):
        return -4
    if _TOTAL.search(before):
        return 3
    weight = 2 if _AFTER_VERB.search(before) else -1 if _AFTER_PREPOSITION.search(before) else 0
    aside = _CONDITION.match(text[: number[1]][-220:]) or _IF_BEFORE.search(before)
    return weight - 3 if aside else weight


def _cut(text: str, number: Found) -> str:
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


_VARIABLE = re.compile(r"^\s*\$?\s*[a-zA-Z]\s*=")
_SYMBOL = re.compile(r"\\|\^|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])|[(\[{;]")


@lru_cache(maxsize=8192)
def is_plain(gold: str) -> bool:
    """Whether a gold answer is one number with at most a unit; "(3, 4)" and "2\\pi" are not."""
    text = _VARIABLE.sub("", tidy(gold.rpartition("####")[2]).strip(" $."))
    found = values(text)
    if len(found) != 1:
        return False
    unit = _UNIT.sub("", text[found[0][2] :])
    return not _SYMBOL.search(f"{text[: found[0][1]]} {unit}")


#: Units and halves of the day behind a number that look like symbols: "5 m", "25°C", "2 p.m.".
_UNIT = re.compile(r"^\s?(?:(?:°\s?[CF]|[mglLhst]|[ap]\.m)(?![A-Za-z])\.?|km/h|m/s)")


_DRESSING = re.compile(r"\s|\\left|\\right|\\!|\\,|\\;|\$|\\displaystyle|\.$")


def symbolic_answer(reply: str) -> str | None:
    """What a reply boxes, or says behind "answer is", whole; None where it does neither."""
    reply = spoken(reply)
    if matches := list(_BOXED.finditer(reply)):
        return _balanced(reply, matches[-1].end()).strip() or None
    heads = list(_ANSWER.finditer(reply))
    if not heads:
        return None
    behind = reply[heads[-1].end() : heads[-1].end() + _REACH]
    return behind.strip().split("\n")[0].strip(" *$.") or None


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
