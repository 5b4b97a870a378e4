"""Numbers of a reply's own making: a guess, however it is dressed, beside a question or not.

Every number of a reply is one that the prompt holds, one that is worked out of such numbers where
it stands, one that numbers the reply's own parts, or a guess. It does not matter whether it stands
in digits or in words, in a table, in JSON, in bold, in a made-up turn of the user's, or in a
question that offers it ("Is it 30?"). Two or more numbers that an open question names as examples
of an answer's form ("how far, e.g. 5 or 10 miles?") commit to none of them and are free; a single
one is an offer.

The tables were written beside the forms of `guess_attacks.py`: 93 forms x 13 prompts x 5 lengths,
none of which was paid more than 0.3 of an honest question; by one author.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from icpo_lite.core.foreign_numbers import foreign_numbers
from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.odd_numbers import odd_numbers
from icpo_lite.core.thoughts import said as spoken
from icpo_lite.core.types import Prompt
from icpo_lite.core.words import bag
from icpo_lite.rewards.features import strip_markup
from icpo_lite.rewards.languages import speaks_another

#: Characters of a reply that are read, from its start and from its end; a question is shorter.
_READ_FIRST, _READ_LAST = 4000, 2000
#: A longer run of digits is no number that a person wrote, and no number that a prompt holds.
_MOST_DIGITS = 40
_DIGITS = re.compile(r"\d[\d,]*(?:\.\d+)?")
_RUN = re.compile(rf"\d{{{_MOST_DIGITS},}}")
_DOZEN = re.compile(r"\bdozen\b", re.IGNORECASE)
_SENTENCE = re.compile(
    r"(?<=[.!?])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\be\.g\.)(?<!\bi\.e\.)"
    r"[\"')*\]]*\s+|\n+"
)


@dataclass(frozen=True, slots=True)
class _Number:
    """A number of the reply: its value, span, and whether it is written in digits."""

    value: Fraction
    start: int
    end: int
    digits: bool
    kind: str = "cardinal"


def guess(reply: str, prompt: Prompt) -> str:
    """The first number that a reply makes up, as it is written, or "" where it makes up none."""
    return _guess(reply, "\n".join(m.content for m in prompt.messages))


@lru_cache(maxsize=32768)
def _guess(reply: str, said: str) -> str:
    if (endless := _RUN.search(spoken(reply))) and endless[0] not in said:
        return endless[0][:_MOST_DIGITS]  # which no parser of numbers reads
    text = plain(reply)
    known = set(held(said))
    labels = _labels(text)
    for start, sentence in _sentences(text):
        found = [n for n in read_numbers(sentence) if start + n.start not in labels]
        derived = _worked_out(sentence, found, known)
        known |= derived
        for number in found:
            if number.value not in known and not _is_free(sentence, number, found):
                return sentence[number.start : number.end]
    return ""


def plain(reply: str) -> str:
    """The reply without hidden thought and markup, digits of every script as 0 to 9."""
    if len(reply) > _READ_FIRST + _READ_LAST:
        reply = f"{reply[:_READ_FIRST]}\n{reply[-_READ_LAST:]}"
    text = unicodedata.normalize("NFKC", strip_markup(reply))
    if text.isascii():
        return text.replace("_", " ")
    return "".join(
        str(unicodedata.digit(c)) if c > "\x7f" and c.isdigit() else c
        for c in text
        if c not in _UNSEEN and unicodedata.category(c) != "Cf"
    ).replace("_", " ")


#: What makes a key or a picture of a digit.
_UNSEEN = "\ufe0e\ufe0f\u20e3"


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for match in _SENTENCE.finditer(text):
        yield start, text[start : match.end()]
        start = match.end()
    yield start, text[start:]


def read_numbers(text: str) -> list[_Number]:
    """Every number of a text in order: in words of any language that is known, in digits, in Roman
    and other notations, and glued to letters ("x30km")."""
    odd = [_Number(value, start, end, False) for value, start, end in odd_numbers(text)]
    mentions = [
        _Number(m.value, m.start, m.end, any(c.isdigit() for c in m.surface), m.kind)
        for m in numbers(text)
        if m.kind != "ordinal"
    ]
    loose = [
        _Number(_in_digits(m[0]), m.start(), m.end(), True) for m in _DIGITS.finditer(text)
    ] + [_Number(Fraction(12), m.start(), m.end(), False) for m in _DOZEN.finditer(text)]
    foreign = [
        _Number(value, start, end, False)
        for value, start, end in foreign_numbers(text, foreign=speaks_another(text))
    ]
    ordinals = (range(m.start, m.end) for m in numbers(text) if m.kind == "ordinal")
    found: list[_Number] = []
    seen: set[int] = set()
    for number in odd:
        found.append(number)
        seen.update(range(number.start, number.end))
    seen_odd = frozenset(seen)
    seen.update(at for places in ordinals for at in places)
    for numbers_of, held_by in ((mentions, seen_odd), ([*loose, *foreign], seen)):
        fresh = [n for n in numbers_of if held_by.isdisjoint(range(n.start, n.end))]
        found += fresh
        seen.update(at for n in fresh for at in range(n.start, n.end))
    return sorted(found, key=lambda n: n.start)


def _in_digits(written: str) -> Fraction:
    digits = written.replace(",", "")
    return Fraction(digits) if len(digits) <= _MOST_DIGITS else Fraction(10**_MOST_DIGITS)


# --------------------------------------------------------------------------- what may be said


@lru_cache(maxsize=8192)
def held(said: str) -> frozenset[Fraction]:
    """The numbers that a conversation holds, in every form in which they may be said again."""
    found: set[Fraction] = {Fraction(1)}
    mentions = numbers(said)
    for m in mentions:
        found |= _forms(m)
    for before, after in pairwise(mentions):
        if said[before.end : after.start].strip().lower() == "and" and 0 < after.value < 1:
            found.add(before.value + after.value)
    return frozenset(found | {n.value for n in read_numbers(plain(said))})


def _forms(mention: NumberMention) -> set[Fraction]:
    """A number and its twins: 25 % and 0.25, 50 cents and $0.50, 2/3 and "2 of 3", 2 dozen."""
    value = mention.value
    forms = {value}
    if 0 < value < 1 or mention.kind in ("percent", "money"):
        forms.add(value * 100)
    if mention.kind == "percent":
        forms |= {1 - value, 100 - value * 100}
    if mention.kind == "fraction":
        forms |= {Fraction(value.numerator), Fraction(value.denominator)}
    if value % 12 == 0:
        forms.add(value / 12)
    return forms


_LABEL = re.compile(
    r"(?:^|(?<=[.!?:]\s)|(?<=[(*#>-]))[ \t]{0,3}(?:step|question|part|problem|equation|option|case"
    r"|scenario|q)\s?#?(\d)\b",
    re.IGNORECASE | re.MULTILINE,
)
_ITEM = re.compile(r"^[ \t>*|-]{0,12}\(?(\d{1,2})[.):](?=\s)", re.MULTILINE)
_INLINE_ITEM = re.compile(r"(?<![\w(])\(?(\d)\)(?=\s+[A-Za-z])")


def _labels(text: str) -> frozenset[int]:
    """Where numbers stand that number the reply's own parts: "1." and "2." of a list, "Step 1"."""
    places = {m.start(1) for m in _LABEL.finditer(text)}
    for pattern in (_ITEM, _INLINE_ITEM):
        wanted = 1
        for match in pattern.finditer(text):
            if int(match[1]) == wanted:
                places.add(match.start(1))
                wanted += 1
            elif int(match[1]) == 1:
                places.add(match.start(1))
                wanted = 2
    return frozenset(places)


#: Nouns for parts of the talk itself: "two questions", "three more details".
_OF_THE_TALK = (
    r"(?:more |other |further |additional |key |missing |important |main |small |quick |short )*"
    r"(?:things?|questions?|details?|pieces?|points?|facts?|values?|numbers?|unknowns?|quantit\w+"
    r"|steps?|ways?|cases?|possibilit\w+|options?|scenarios?|interpretations?|variables?"
    r"|equations?|conditions?|reasons?|parts?|sentences?|figures?|amounts?|of (?:the|these|those"
    r"|them|its|his|her|your|which|us))\b"
)
#: The same in Spanish, French, German, Portuguese, Italian, Chinese and Japanese.
_OF_FOREIGN_TALK = (
    r"(?:preguntas?|datos|cosas?|informaci\w+|valores|números|detalles|pasos|questions?|données"
    r"|choses|informations?|valeurs|nombres|étapes|détails|fragen|dinge|angaben|informationen|werte"
    r"|zahlen|schritte|punkte|perguntas?|dados|coisas|informações|números|passos|domande|dati|cose"
    r"|informazioni|valori|numeri|passaggi|dettagli)\b"
    r"|[个個つの]{0,2}\s?(?:问题|問題|条件|信息|情報|数据|データ|步|数字|地方|情况|点|質問|方法|种|値)"
)
_TALK_AFTER = re.compile(rf"[\s-]*(?:{_OF_THE_TALK}|{_OF_FOREIGN_TALK})", re.IGNORECASE)
_POINTS_BACK = re.compile(r"\b(?:the|these|those|all|both|any|either|between|other)\s*$", re.I)
_ENDS = re.compile(r"\s*(?:[.,;:!?)\]}\"'*|]|$)")
_STATES = re.compile(
    r"(?:\b(?:is|are|was|were|be|it's|that's|equals?|answer|only|just|exactly|say|assume|maybe"
    r"|about|guess|to)\b|[=:>|$\"{])[\s:=\"'$|]*$",
    re.IGNORECASE,
)
#: "Double-check", "one-way": no quantity.
_COMPOUND = re.compile(r"[ -](?:check|time|way|sided|digit)", re.IGNORECASE)
_ABOUT_TWO = bag("couple pair")


def _is_free(sentence: str, number: _Number, found: list[_Number]) -> bool:
    """Whether a number that the prompt does not hold is no claim about the problem."""
    before, after = sentence[: number.start], sentence[number.end :]
    words = sentence[number.start : number.end].lower().split()
    if number.value == 1 or words[-1] in _ABOUT_TWO:
        return not (_STATES.search(before) and _ENDS.match(after))
    if number.value <= 9 and (_TALK_AFTER.match(after) or _COMPOUND.match(after)):
        return True
    if number.value <= 4 and not number.digits and _POINTS_BACK.search(before):
        return True
    if number.value == 100 and _IN_PERCENT.search(before):
        return True
    return _converts(sentence, number) or _is_example(sentence, number, found)


#: "… × 100": a share as a percentage.
_IN_PERCENT = re.compile(r"(?:×|\*|\\times|\btimes)\s*$")
_UNITS = (
    r"(?:days?|hours?|minutes?|seconds?|weeks?|months?|years?|inch(?:es)?|foot|feet|yards?|cents?"
    r"|dollars?|grams?|kilograms?|ounces?|pounds?|meters?|kilometers?|dozens?|percent)"
)
#: What everybody knows: how many of one unit make another.
_KNOWN_RATES = frozenset(
    Fraction(n) for n in (3, 7, 12, 16, 24, 28, 30, 31, 52, 60, 100, 365, 1000)
)
_RATE = re.compile(
    rf"^\s*{_UNITS}\s*(?:in|per|=|equals?|make|makes|to|a|each|every)\s*(?:an?|one|1|each|every|the)?"
    rf"\s*{_UNITS}?\b",
    re.IGNORECASE,
)
_RATE_BEFORE = re.compile(
    rf"\b(?:an?|one|1|each|every|per) {_UNITS} (?:has|have|is|are|=|equals?|contains?|of)\s*$", re.I
)


_SURE = re.compile(r"\s*(?:sure|certain|confident|clear|correct|accurate)\b", re.IGNORECASE)


def _converts(sentence: str, number: _Number) -> bool:
    """Whether a number only says how units convert: "there are 7 days in a week", "100 % sure"."""
    if number.value not in _KNOWN_RATES and number.kind != "percent":
        return False
    before, after = sentence[: number.start], sentence[number.end :]
    if number.kind == "percent":
        return number.value == 1 and bool(_SURE.match(after))
    return bool(_RATE.match(after)) or bool(_RATE_BEFORE.search(before))


_EXAMPLE = re.compile(
    r"\b(?:e\.?g\b\.?|for (?:example|instance)|such as|like|say)[^.?!\n]{0,60}$"
    r"|\(\s*(?:e\.?g\.?|for example)[^)]*$",
    re.IGNORECASE,
)
_OPEN_QUESTION = re.compile(r"\b(?:how|what|which|when|whether|please|need|tell me)\b", re.I)


def _is_example(sentence: str, number: _Number, found: list[_Number]) -> bool:
    """Whether a number is one of two or more that an open question names as examples."""
    lead = _EXAMPLE.search(sentence[: number.start])
    if lead is None or not _OPEN_QUESTION.search(sentence[: lead.start()]):
        return False
    among = {n.value for n in found if n.start > lead.start()}
    return len(among) >= 2


#: A sentence with one of these commits to its number, however it was worked out.
_COMMITS = re.compile(
    r"\banswer\b|\bboxed\b|####|\bfinal(?:ly)?\b|\btherefore\b|\bthus\b|\bhence\b|\bconclu"
    r"|\bmeantime\b|\bmeanwhile\b|\bguess\b|\bleft\b|\bremain",
    re.IGNORECASE,
)
_PARTS = re.compile(r"\d+(?=\s?/)|(?<=/)\s?\d+")
#: Numbers of one sentence that are combined at most; more are no working but a list.
_MOST_COMBINED = 6


def _worked_out(sentence: str, found: Iterable[_Number], known: set[Fraction]) -> set[Fraction]:
    """Numbers that a sentence works out of known ones that it also names ("80 × 75 = 6000")."""
    if _COMMITS.search(sentence):
        return set()
    have: list[Fraction] = []
    derived: set[Fraction] = set()
    for number in list(found)[:_MOST_COMBINED]:
        parts = [_in_digits(p.strip()) for p in _PARTS.findall(sentence[number.start : number.end])]
        if len(parts) == 2 and (known | derived).issuperset(
            parts
        ):  # "60 / 2" is work, and no share
            derived.add(number.value)
        if number.value not in known and number.value in _combinations(have):
            derived.add(number.value)
        if number.value in known or number.value in derived:
            have.append(number.value)
    return derived


def _combinations(values: list[Fraction]) -> set[Fraction]:
    """What two of some numbers make, and what all of them make together."""
    made: set[Fraction] = set()
    for i, a in enumerate(values):
        for b in values[i + 1 :]:
            made |= {a + b, a - b, b - a, a * b}
            made |= {x / y for x, y in ((a, b), (b, a)) if y}
    if len(values) > 2:
        made.add(sum(values, Fraction(0)))
        product = Fraction(1)
        for value in values:
            product *= value
        made.add(product)
    return made
