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
    r"\banswer[\s*_]{0,4}(?:\([^()\n]{0,40}\)\s{0,2})?"
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
#: Sentences that look back at an answer, or beyond it, and tell none themselves.
_ASIDE = re.compile(
    r"^\W*(?:note|remember|\(|keep in mind|p\.?s\.)|\bnote that\b|\b(?:which|this|that|it|answer|result)"
    r" (?:also )?(?:matches|checks|agrees)\b"
    r"|^\W*(?:this|these|that|it) (?:ensures?|assum\w+|calculations?|includes?|accounts?|takes"
    r"|approach|estimate|solution|is (?:because|based|under|assuming|an? (?:estimate|approximation"
    r"|assumption)))\b",
    re.IGNORECASE,
)
#: Where a reply goes back over its answer; what stands before is the answer.
_CHECKING = re.compile(
    r"^\W*(?:(?:to|let's|let us|we can|you can|now|just to)(?: \w+){0,2} (?:verify|check|double-check"
    r"|confirm)\b|(?:verification|check|double-check|proof)\W*$|(?:verification|check)\s?:)",
    re.IGNORECASE,
)
_CORRECTS = re.compile(
    r"\b(?:doesn't|does not|don't|didn't|not match|incorrect|mistake|wrong|instead|wait|however|actually"
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
    text = _unchecked(text).rstrip()
    results = _results(text)
    telling, _ = _last_with_numbers(text, results)
    found = answers(told) or in_words(told)
    ends = bool(telling) and telling[0] == _SENTENCE.split(text)[-1] and not _OPEN_END.search(text)
    if not (ends and found):
        return False
    return found[-1][0].amount in results or told in _EQUALS.findall(tidy(telling[0]))


_EQUALS = re.compile(
    r"\b(?:equals|(?:is|are) equal to|which (?:is|equals|makes|gives|means)|results in) ([$€£]?\d[\d,.]*\d|\d)"
)


#: An end in the middle of a calculation.
_OPEN_END = re.compile(r"(?:[-+*/×÷=(]|\\times|\\cdot|\\div)\s{0,3}$")


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
    text = _unchecked(text)
    results = _results(text)
    telling, asking = _last_with_numbers(text, results)
    for sentence in telling or asking:
        if answer := _of_sentence(sentence, results):
            return answer
    tail = tidy(text[-_REACH:])
    found = values(tail)
    return _cut(tail, found[-1]) if found else None


def _unchecked(text: str) -> str:
    """A text without the check of its answer at the end, where that finds nothing wrong."""
    for match in _SENTENCE.finditer(text):
        if _CHECKING.match(text[match.end() : match.end() + 80].split("\n")[0]):
            before, check = text[: match.start()], text[match.end() :]
            if _DIGIT.search(before[-_REACH:]) and not _CORRECTS.search(check):
                return before
    return text


#: Sentences with numbers, from the end, among which the conclusion is looked for.
_LAST = 6


def _last_with_numbers(
    text: str, results: tuple[Fraction, ...]
) -> tuple[list[str], list[str]]:
    """The last sentences that tell a number, and those that ask or look back, last first.

    A number in words counts where it is a result, or where the text holds no digits.
    """
    telling: list[str] = []
    asking: list[str] = []
    no_digits = not _DIGIT.search(text)
    for sentence in reversed(_SENTENCE.split(text)):
        if not _DIGIT.search(sentence):
            words = in_words(sentence) if no_digits or results else []
            if not any(no_digits or word[0].amount in results for word in words):
                continue
        beside = _REQUEST.search(sentence) or (not telling and _ASIDE.search(sentence))
        (asking if beside else telling).append(sentence)
        if len(telling) == _LAST or len(asking) > _LAST:
            break
    return telling, asking


#: How many of the last equations are looked at for what the working came to.
_MOST_RESULTS = 4
_OPERATOR = re.compile(
    r"\s?(?:[a-z%]{1,12}\s|\([^()\d]{0,40}\)\s)?(?:[-+*/×÷·](?=\s?[$€£(]?\d)|minus\b|plus\b|times \d"
    r"|divided by\b|multiplied by\b)",
    re.IGNORECASE,
)


def _results(text: str) -> tuple[Fraction, ...]:
    """Values of the last equations, last first; "= 3 × 5" is none before it is worked out."""
    out: list[Fraction] = []
    at = len(text)
    while len(out) < _MOST_RESULTS and (at := _last_equals(text, at)) >= 0:
        side = tidy(text[at + 1 : at + 80].split("\n\n")[0].split("=")[0])
        found = answers(side)
        if found and not _OPERATOR.match(side, found[0][2]):
            out.append(found[0][0].amount)
    return tuple(out)


def _last_equals(text: str, end: int) -> int:
    return max(text.rfind("=", 0, end), text.rfind("≈", 0, end))


def _of_sentence(sentence: str, results: tuple[Fraction, ...]) -> str | None:
    bold = " ".join(b for b in _BOLD.findall(sentence) if not b.endswith(":"))
    marked = frozenset(value.amount for value, _, _ in values(tidy(bold)))
    return _of_phrase(tidy(sentence), results, marked)


def _of_phrase(
    text: str, results: tuple[Fraction, ...], bold: frozenset[Fraction] = frozenset()
) -> str | None:
    found = answers(text)
    if (at := _last_equals(text, len(text))) >= 0:
        if behind := [number for number in found if number[1] > at]:
            return _cut(text, _behind_equals(text, behind))
    found = [*found, *(w for w in _words(text, found) if not found or w[0].amount in results)]
    if not found:
        return None

    def rank(number: Found) -> tuple[int, int]:
        amount = number[0].amount
        known = (2 if amount in results[:1] else 1) if amount in results else 0
        compound = 3 * (amount in results[:1] and bool(_COMPOUND.match(text, number[2])))
        return _weight(text, number) + known + compound + 3 * (amount in bold), -number[1]

    return _cut(text, max(found, key=rank))


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
    r"\b(?:is|are|was|were|be|been|equals?|equal to|equates to|equivalent to|comes? to|came to"
    r"|amounts? to|results? in|gives?|gave|yields?|takes?|took|needs?|needed|has|have|had|makes?|made"
    r"|earns?|earned|gets?|got|costs?|pays?|paid|spends?|spent|eats?|eaten|ate|worth|receives?|received"
    r"|saves?|saved|sells?|sold|weighs?|leaves?|left with|leaving|lasts?|remains?|requires?|reach(?:es)?"
    r"|totals?|totaling|exactly|approximately|about|another|additional|extra|up to)"
    r"(?: (?:him|her|them|it|me|us|you|only|just|exactly|about|approximately|around|an? additional"
    r"|an? extra|a total of|at least|at most|another|[A-Z]\w{1,12}))?[:\s*]{1,4}[$€£]?$"
)
_TOTAL = re.compile(r"\b(?:total|average|sum|maximum|minimum) of [$€£]?$", re.IGNORECASE)
_AFTER_PREPOSITION = re.compile(
    r"\b(?:in|for|over|after|during|within|of|with|from|per|by|every|each|when|all|on|at|than|only if"
    r"|minus|plus|times)"
    r" (?:the |all |these |those |his |her |their |its |a )?(?:\w{2,12} )?[$€£]?$",
    re.IGNORECASE,
)
_IF_BEFORE = re.compile(
    r"(?:\b(?:if|when|because|since|given|assuming)|(?:^|[,.;:] )\W{0,5}(?:after|as|with)) [^,]{0,160}$",
    re.IGNORECASE,
)
_DOING_BEFORE = re.compile(r"(?:^|, )\W{0,5}(?:by )?\w{2,12}ing [^,]{0,40}$", re.IGNORECASE)
_COMPOUND = re.compile(r"-[a-z]", re.IGNORECASE)
_OPERATED = re.compile(r"[-+*/×÷]\s?[$€£(]?$|\b(?:minus|plus|times|divided by|multiplied by) [$€£]?$")


def _weight(text: str, number: Found) -> int:
    """How much a number looks like what its sentence is there to tell."""
    before = text[max(0, number[1] - 170) : number[1]]
    if _COMPOUND.match(text, number[2]):
        return -4
    if _OPERATOR.match(text, number[2]) or _OPERATED.search(before):
        return -2
    if _TOTAL.search(before):
        return 3
    weight = 2 if _AFTER_VERB.search(before) else -1 if _AFTER_PREPOSITION.search(before) else 0
    weight -= 3 * bool(_IF_BEFORE.search(before))
    weight -= bool(_DOING_BEFORE.search(before))
    return weight - 2 * (before.rfind("(") > before.rfind(")"))


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
