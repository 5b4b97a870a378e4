"""What the learned judge reads off a reply: the rules' own facts, word n-grams, character n-grams.

Everything is a number with a name, so that a weight can be read and a card can list them. Nothing
of the prompt is read: a reply is typed the same wherever it stands. Numbers are written 0 and
single letters x before n-grams are taken, so that "18" and "3x + 2" are forms and not values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from icpo_lite.core.types import TaskName
from icpo_lite.rewards import features
from icpo_lite.rewards.features import ASKS, Reading
from icpo_lite.rewards.question_targets import asked
from icpo_lite.rewards.response_type import explain

#: Longest word n-gram of each place: whole, first sentence, last, last three, the sentence that
#: concludes, sentences that ask.
PLACES = {"w": 2, "h": 3, "l": 3, "t": 2, "c": 3, "q": 3}
#: Character n-grams: their length, and how much of a reply's two ends they are taken from.
CHARACTERS, HEAD, TAIL = 4, 120, 240
#: Characters of a sentence, or of a reply's start, that are looked at.
REACH = 6000
#: Sentences that n-grams are taken from, half of them from each end.
_MOST = 200

_TOKEN = re.compile(r"0|[a-z][a-z']*|[?=%$×*/+:\\-]")
_LETTER = re.compile(r"(?<![\w'])[b-hj-z](?![\w'])")
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d[\d,.]*")
_LENGTHS = (20, 40, 60, 80, 100, 150, 200, 300)
_HYPOTHESIS = re.compile(r" (?:hypothetical|assum|suppose |let us assume |example )")
_WITH_LETTER = re.compile(r"\d\s*[a-z]\b(?!')|\b[b-hj-z]\b\s*[-+=]|[-+]\s*[a-z]\b")
#: Characters of a conclusion that show whether it ends in a number.
_END = 80
_ENDS_IN_NUMBER = re.compile(r"\d[\d,.%$\\() ]*\W*$")
_ITEM = re.compile(r"^[ \t]*(?:\d+[.)]|[-*•])\s", re.MULTILINE)

_CALL = re.compile(r"\b[A-Za-z_][\w.]{0,80}\(")
_OPENS_WITH_CALL = re.compile(r"\W{0,9}(?:\w{1,30}\s)?\W{0,3}[\w.]{1,80}\(")
#: An argument that names no value: none, a question mark, "unknown", "some_team", "target_value".
_NO_VALUE = re.compile(
    r"=\s*(?:none\b|null\b|\?|\.\.\.|<[^>\n]{0,60}>"
    r"|['\"](?:unknown|unspecified|tbd|n/a|none|any|some_\w{1,40}|\w{0,40}_(?:name|variable|value)"
    r")?['\"])",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"\[[^\[\]]*\]|\{[^{}]*\}|```.*?```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Parts:
    """A reply read once for all features. asking: of each sentence, whether it asks or offers."""

    reading: Reading
    asking: tuple[bool, ...]
    conclusion: str
    back: float
    questions: int


@lru_cache(maxsize=64)
def _parts(reply: str) -> _Parts:
    reading = features.read(reply)
    asking = tuple([_asks(sentence) for sentence in reading.sentences])
    return _Parts(reading, asking, *features.conclusion_of(reading), len(asked(reply)))


def _asks(sentence: str) -> bool:
    for piece in ASKS:  # noqa: SIM110 - a generator takes twice as long, and this is half the cost
        if piece in sentence:
            return True
    return False


def facts(reply: str, task: TaskName) -> dict[str, float]:
    """The rules' features and what follows from them, each in [0, 1]."""
    parts = _parts(reply)
    reading = parts.reading
    out = features.features(reading)
    marks = reading.text.count("?")
    for n in range(1, 5):
        out[f"asks {n}"] = float(parts.questions >= n)
    for n in _LENGTHS:
        out[f"over {n} words"] = float(reading.words > n)
    out["no ?"] = float(marks == 0)
    out["one ?"] = float(marks == 1)
    out["several ?"] = float(marks > 1)
    out |= {name: float(holds) for name, holds in _combined(parts).items()}
    if task != "math":
        out |= _act_facts(reply, reading, task)
    return out


def _combined(parts: _Parts) -> dict[str, bool]:
    """What a conclusion, the questions and the suppositions of a reply look like together."""
    reading, conclusion = parts.reading, parts.conclusion
    supposed = bool(features.SUPPOSES.search(conclusion))
    hypothesis = bool(_HYPOTHESIS.search(reading.flat))
    concludes, asking, brief = bool(conclusion), parts.questions > 0, reading.words < 100
    asks_last = bool(parts.asking) and parts.asking[-1]
    return {
        "last sentence asks": asks_last,
        "last sentence has ?": bool(reading.sentences) and reading.sentences[-1].endswith("?"),
        "conclusion has a letter": _WITH_LETTER.search(conclusion) is not None,
        "conclusion ends in a number": _ENDS_IN_NUMBER.search(conclusion[-_END:]) is not None,
        "last sentence concludes": parts.back == 0.0,
        "boxed": "boxed" in reading.text,
        "supposes and concludes": hypothesis and concludes and not supposed,
        "supposes in its conclusion": hypothesis and supposed,
        "supposes and asks": hypothesis and any(parts.asking[-4:]),
        "concludes and asks": concludes and asks_last and not supposed,
        "asks without conclusion": asking and not concludes,
        "asks one thing, short": brief and parts.questions == 1,
        "asks several, short": brief and parts.questions > 1,
        "asks, long": asking and not brief,
        "asks beside a formula": asking and "=" in reading.text,
        "asks without a digit": asking and not _DIGIT.search(reading.text),
        "asks in a list": asking and _ITEM.search(reading.text) is not None,
        "asks nowhere": not any(parts.asking),
    }


def _act_facts(reply: str, reading: Reading, task: TaskName) -> dict[str, float]:
    """Facts for tasks whose answer is a call, a query or code: the rules' type and its form."""
    by_rules = explain(reply, task=task).response_type.value
    calls = len(_CALL.findall(reply[:REACH]))
    outside = len(_BRACKETED.sub("", reply[:REACH]).split())
    opening = reply.lstrip()[:2]
    pleads = " please " in reading.flat
    supposes = " if " in reading.flat or " assum" in reading.flat
    out = {f"rules: {by_rules}": 1.0, f"rules: {by_rules}, long": float(reading.words > 40)}
    out |= {f"over {n} words outside": float(outside > n) for n in (0, 5, 15, 30, 60)}
    return out | {
        name: float(value)
        for name, value in {
            "no call": calls == 0,
            "several calls": calls > 1,
            "opens with a call": _OPENS_WITH_CALL.match(reply) is not None,
            "opens with [": opening[:1] == "[",
            "opens with [{": opening == "[{",
            "fence": "```" in reply,
            "argument without a value": _NO_VALUE.search(reply[:REACH]) is not None,
            "call and please": calls > 0 and pleads,
            "call and if": calls > 0 and supposes,
            "please, no call": calls == 0 and pleads,
            "bare": reading.words <= 12,
        }.items()
    }


def word_grams(reply: str) -> Iterator[str]:
    """Word n-grams of each place, as "place words"; one may come several times."""
    parts = _parts(reply)
    sentences = parts.reading.sentences
    read = {i: _tokens(sentences[i]) for i in _shown(sentences)}
    for i, words in read.items():
        yield from _grams("w", words)
        if parts.asking[i]:
            yield from _grams("q", words)
        if sentences[i] == parts.conclusion:
            yield from _grams("c", words)
    if read:
        yield from _grams("h", read[0])
        yield from _grams("l", read[len(sentences) - 1])
        for i in range(max(0, len(sentences) - 3), len(sentences)):
            yield from _grams("t", read[i])


def _shown(sentences: Sequence[str]) -> list[int]:
    """The sentences that n-grams are taken from: of very many, those at the ends."""
    count = len(sentences)
    return [i for i in range(count) if i < _MOST // 2 or i >= count - _MOST // 2]


def _tokens(sentence: str) -> list[str]:
    """Words and signs between two marks; numbers are 0, single letters x."""
    plain = _LETTER.sub("x", _NUMBER.sub("0", sentence[:REACH]))
    return ["<", *_TOKEN.findall(plain), ">"]


def _grams(place: str, words: Sequence[str]) -> Iterator[str]:
    yield from [f"{place} {word}" for word in words]
    yield from [f"{place} {first} {second}" for first, second in pairwise(words)]
    if PLACES[place] > 2:
        three = zip(words, words[1:], words[2:], strict=False)
        yield from [f"{place} {first} {second} {third}" for first, second, third in three]


def character_grams(reply: str) -> Iterator[str]:
    """Character n-grams of the two ends of a reply, as "<gram" and ">gram"."""
    text = features.read(reply).text
    head = _NUMBER.sub("0", " ".join(text[: 2 * HEAD].split()))[:HEAD]
    tail = _NUMBER.sub("0", " ".join(text[-2 * TAIL :].split()))[-TAIL:]
    for end, shown in (("<", head), (">", tail)):
        for i in range(len(shown) - CHARACTERS + 1):
            yield end + shown[i : i + CHARACTERS]
