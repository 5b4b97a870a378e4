"""What the learned judge reads off a reply: the rules' own facts, word n-grams, character n-grams.

Everything is a number with a name, so that a weight can be read and a card can list them. Nothing
of the prompt is read: a reply is typed the same wherever it stands. Numbers are written 0 and
single letters x before n-grams are taken, so that "18" and "3x + 2" are forms and not values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from icpo_lite.core.sentences import ITEM
from icpo_lite.core.types import TaskName
from icpo_lite.rewards import features
from icpo_lite.rewards.features import ASKS, Reading
from icpo_lite.rewards.question_targets import asked
from icpo_lite.rewards.response_type import explain

#: Longest word n-gram of each place: the whole reply, its first sentence, its last, the sentence
#: that concludes, sentences that ask.
PLACES = {"w": 1, "h": 2, "l": 2, "c": 2, "q": 2}
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

#: A letter beside an operator or an equals sign: "15 / t", "x = 3b + 2".
_FORMULA = re.compile(
    r"(?:^|[\s(=+*/×-])[a-z](?:_\w{1,20})?\s?[-+*/×=]"
    r"|[-+*/×=]\s?[\d.]{0,20}\s?\(?[a-z](?:_\w{1,20})?(?:$|[\s).,;])"
)
_STANDS_FOR = re.compile(
    r"\bwhere\b.{0,60}\b(?:is|represents?|stands? for|denotes?)\b|\brepresents?\b|\bin terms of\b"
)
#: Cues that are looked for in the last two sentences that neither ask nor offer.
_TOLD_CUES = ("lack", "if", "suppose", "conclude", "update")
#: Share of a reply behind its conclusion from which the conclusion stands early.
_EARLY = 0.3

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
    out = dict(features.features(reading))
    marks = reading.text.count("?")
    for n in range(1, 5):
        out[f"asks {n}"] = float(parts.questions >= n)
    for n in _LENGTHS:
        out[f"over {n} words"] = float(reading.words > n)
    out["no ?"] = float(marks == 0)
    out["one ?"] = float(marks == 1)
    out["several ?"] = float(marks > 1)
    out |= {name: float(holds) for name, holds in _combined(parts).items()}
    out |= {name: float(holds) for name, holds in _told(parts).items()}
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
        "asks in a list": asking and ITEM.search(reading.text) is not None,
        "asks nowhere": not any(parts.asking),
    }


def _told(parts: _Parts) -> dict[str, bool]:
    """How a reply ends once what asks and offers is left out: in a formula, or with a lack."""
    sentences = parts.reading.sentences
    told = [s for s, asks in zip(sentences, parts.asking, strict=True) if not asks]
    flat = features.flatten(" ".join(s[:REACH] for s in told[-2:]))
    formulas = [_FORMULA.search(s[-REACH:]) is not None for s in told[-3:]]
    at = len(sentences) - 1 - round(parts.back * len(sentences))
    behind = " ".join(s[:REACH] for s in sentences[at:][-_MOST:]) if parts.conclusion else ""
    return {
        "formula at the end": formulas[-1:] == [True],
        "formula near the end": any(formulas),
        "a letter stands for something": any(_STANDS_FOR.search(s[:REACH]) for s in told[-4:]),
        "lacks behind its conclusion": bool(
            features.found(features.CUES["lack"], features.flatten(behind))
        ),
        "concludes early": parts.back > _EARLY,
        **{f"{cue}@told": bool(features.found(features.CUES[cue], flat)) for cue in _TOLD_CUES},
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


def word_grams(reply: str) -> set[str]:
    """Word n-grams of each place, as "place words"."""
    parts = _parts(reply)
    sentences = parts.reading.sentences
    read = {i: _tokens(sentences[i]) for i in _shown(sentences)}
    grams: set[str] = set()
    for i, words in read.items():
        grams.update(_grams("w", words))
        if parts.asking[i]:
            grams.update(_grams("q", words))
        if sentences[i] == parts.conclusion:
            grams.update(_grams("c", words))
    if read:
        grams.update(_grams("h", read[0]), _grams("l", read[len(sentences) - 1]))
    return grams


def _shown(sentences: Sequence[str]) -> list[int]:
    """The sentences that n-grams are taken from: of very many, those at the ends."""
    count = len(sentences)
    return [i for i in range(count) if i < _MOST // 2 or i >= count - _MOST // 2]


def _tokens(sentence: str) -> list[str]:
    """Words and signs between two marks; numbers are 0, single letters x."""
    plain = _LETTER.sub("x", _NUMBER.sub("0", sentence[:REACH]))
    return ["<", *_TOKEN.findall(plain), ">"]


def _grams(place: str, words: Sequence[str]) -> list[str]:
    grams = [f"{place} {word}" for word in words]
    if PLACES[place] > 1:
        grams += [f"{place} {first} {second}" for first, second in pairwise(words)]
    return grams


def character_grams(reply: str) -> np.ndarray:
    """Character n-grams of the two ends of a reply, each once, as numbers in order; see `shown`.

    Four characters make a number of 32 bits, those of the end one more; what Latin-1 lacks is "?".
    """
    text = features.read(reply).text
    head = _NUMBER.sub("0", " ".join(text[: 2 * HEAD].split()))[:HEAD]
    tail = _NUMBER.sub("0", " ".join(text[-2 * TAIL :].split()))[-TAIL:]
    return np.unique(np.concatenate([_packed(head), _packed(tail) | _AT_END]))


_AT_END = np.uint64(1 << 32)


def _packed(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("latin-1", "replace"), dtype=np.uint8).astype(np.uint64)
    count = max(0, len(codes) - CHARACTERS + 1)
    packed = np.zeros(count, dtype=np.uint64)
    for i in range(CHARACTERS):
        packed = (packed << np.uint64(8)) | codes[i : i + count]
    return packed


def shown(gram: int) -> str:
    """A character n-gram as it is read, with "…" where the reply goes on."""
    text = (gram & 0xFFFFFFFF).to_bytes(CHARACTERS, "big").decode("latin-1")
    return f"…{text}" if gram >> 32 else f"{text}…"
