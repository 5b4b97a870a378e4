"""What a reply does, read from its surface: it asks, gives up, supposes, or commits to an answer.

A cue is a group of phrases with one meaning; a phrase counts where it stands as whole words. The
phrases are ordinary English for that meaning, so they hold across models. `read` looks at the
whole reply, its opening and its end apart, because where a cue stands tells as much as the cue:
"for example" before "please provide" is help with a question, "therefore … = 9." at the end is
an answer.

The tables: written by hand and tried on lic_turn_types_dev.jsonl, so figures on that file are of
data that the author has seen; a model held out is judged in `icpo_lite.tools.train_judge`.
tests/claims/tables.json has what each is worth alone: on 164 rows `_NUMBER` is worth 2.4 points of
the seven types, `_NOT_WORD` 1.8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from icpo_lite.core.plain_text import spoken
from icpo_lite.core.sentences import BREAK, ITEM
from icpo_lite.core.thoughts import parted

CUES: dict[str, tuple[str, ...]] = {
    # a request to the user for something
    "request": (
        "please provide", "please share", "please tell", "please specify", "please clarify",
        "please give", "please supply", "please let me know", "please confirm", "please state",
        "please indicate", "please include", "please also", "please send", "could you", "can you",
        "would you", "let me know the", "let me know how", "let me know what", "let me know which",
        "let me know whether", "tell me", "kindly", "you provide", "you can provide",
        "you could provide", "you share", "you can share", "you tell me", "you give me",
        "you can give", "you specify", "you let me know", "you clarify", "you supply",
        "i need", "i'll need", "i still need", "i would need", "i require",
    ),
    "offer": (
        "i can", "i'll", "i will", "i'd", "help you", "we can then", "then i", "for you",
        "once you", "once i", "once we", "once these", "once this", "with this information i",
        "happy to help", "assist you", "guide you",
    ),
    # what is missing
    "need": (
        "we need", "we still need", "would need", "still need", "need to know", "need more",
        "needs to know", "required to", "is required", "are required", "is needed",
        "need additional", "need specific", "need information", "need the", "must know",
        "more information", "additional details", "more details", "specific information",
        "additional information is", "following information", "following details", "missing",
        "necessary information", "more context",
    ),
    "lack": (
        "cannot", "can't", "can not", "unable", "impossible", "not possible", "insufficient",
        "not enough", "isn't enough", "not sufficient", "don't have", "do not have", "don't know",
        "do not know", "doesn't provide", "does not provide", "doesn't specify",
        "does not specify", "doesn't give", "doesn't include", "not provided", "not specified",
        "not given", "not stated", "isn't provided", "isn't specified", "unknown", "lacks",
        "lacking", "without knowing", "without more", "without the", "without this", "without that",
        "without additional", "without specific", "without any", "without further",
        "without these", "unless", "not directly", "doesn't directly", "remains unknown",
        "depends on", "not sure", "no information", "undetermined", "cannot be determined",
    ),
    "exact": (
        "specific numbers", "specific values", "specific details", "exact number", "exact value",
        "exact amount", "exact total", "the exact", "actual numbers", "actual values", "actual",
        "an exact", "a specific", "the specific", "definitive",
    ),
    # what is only supposed
    "suppose": (
        "for example", "for instance", "example", "hypothetical", "hypothetically", "suppose",
        "let's say", "imagine", "assume", "assumed", "assumption", "assuming", "e g",
        "illustration", "illustrative", "placeholder", "for demonstration", "say you",
    ),
    "would": (
        "would be", "would have", "could be", "might be", "may be", "could have", "either", "vary",
        "varies", "possible", "if we", "if he", "if she", "if they", "if it", "if each", "if the",
        "if there", "if a", "or", "several possibilities",
    ),
    "symbolic": (
        "let x be", "be the number", "denote", "variable", "variables", "in terms of", "expressed",
        "expression", "represents", "represent", "relationship", "algebraic", "values for",
        "value for", "value of", "values of", "substitute", "plug in",
    ),
    "method": (
        "formula", "general", "follow these steps", "steps to", "identify", "gather", "typically",
        "generally", "you can use", "you would", "you'll", "you need to", "how to", "approach",
    ),
    "apology": (
        "sorry", "unfortunately", "i'm afraid", "apologize", "i cannot", "i can't", "i'm unable",
        "i am unable", "i don't have", "i do not have", "i'm not able", "however", "but",
    ),
    # what commits
    "conclude": (
        "therefore", "thus", "hence", "final answer", "the answer is", "in total", "a total of",
        "in conclusion", "so the total", "so the final", "final", "altogether", "in all",
    ),
    "update": (
        "updated", "update", "recalculate", "now that we", "now that", "now let's", "new total",
        "with this new", "the new", "additional information that", "with the additional",
        "all the information", "have all", "now we have", "now have", "remains the same",
        "still", "as before", "previous", "previously", "already", "earlier", "recap",
    ),
    "work": (
        "let's calculate", "calculate the total", "breakdown", "step by step", "step 1", "step 2",
        "step 3", "first", "next", "then", "add", "subtract", "multiply", "divide", "given",
        "sum of", "solution", "calculation", "calculations", "both", "all",
    ),
    "partial": (
        "so far", "only", "of these", "still don't", "we now know", "we know", "additional",
        "the other", "yet", "first",
    ),
    "courtesy": (
        "does this make sense", "does that make sense", "anything else", "other questions",
        "further questions", "further assistance", "need further", "if you have any",
        "feel free", "let me know if", "would you like",
    ),
    # words that only the company of others makes telling
    "you": ("you", "your"),
    "i": ("i", "i'm", "i'll", "i'd", "i've", "me", "my"),
    "wonder": ("how", "what", "which", "whether", "know"),
    "provide": ("provide", "provided", "share", "give", "supply", "specify", "clarify"),
    "find out": ("determine", "figure out", "find out", "find"),
    "will": ("will", "will be", "there are", "that is", "takes"),
    "if": ("if", "when", "once"),
    "details": ("information", "details", "data", "numbers", "figures", "values"),
    "such as": ("such as", "like", "etc", "e g", "any", "some", "other"),
    "thanks": ("thank", "thanks", "great", "got it", "okay", "yes"),
    "invent": (
        "let's say", "let's assume", "let's suppose", "let's consider", "suppose", "imagine",
        "hypothetical", "for example", "for instance", "for illustration", "example",
    ),
    "sum": ("total", "sum", "combined", "overall"),
    "needed": ("needed", "required", "exactly", "approximately"),
}  # fmt: skip

_TEXT_MACRO = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\s*\{([^{}]*)\}")
_LATEX_NOISE = re.compile(r"\\[\[\]()!,;:]|\\quad|\\left|\\right|\{,\}")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_DIGIT = re.compile(r"\d")
_BOXED = re.compile(r"\\boxed\s*\{\s*([^{}]*)")
_VALUE_AT_END = re.compile(r"=\s*(?:\\?\$\s*)?-?\d[\d,./]*[^=\n?]{0,40}$", re.MULTILINE)
_VARIABLE_AT_END = re.compile(r"[=+×*/-]\s*(?:\d+)?[a-z](?:_\w+)?\s*(?:[).,]|$)", re.MULTILINE)
_STATED = re.compile(
    r"\b(?:answer|total|result|therefore|thus|so|hence|conclusion|is|are|=|of|be|takes?|need)\b"
    r"[^.?!\n]{0,60}\d"
)
_NOT_WORD = {ord(c): " " for c in '*#`_|()[]{}<>"“”,;:!?.…–—/\\=+×$%~\n\t'} | {
    ord("’"): "'",
    ord("‘"): "'",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A reply as the judge sees it.

    text: lower case, without hidden thought, markup and LaTeX dressing. sentences: of `text`.
    flat, head, tail: words alone between single blanks, of the whole, the first two sentences and
    the last three. words: how many.
    """

    text: str
    sentences: tuple[str, ...]
    flat: str
    head: str
    tail: str
    words: int
    thinking: bool


def strip_markup(reply: str) -> str:
    """What a reply says, without emphasis marks and LaTeX dressing; `\\boxed{}` stays."""
    return undressed(spoken(reply))


def undressed(text: str) -> str:
    """A `plain` text without emphasis marks and LaTeX dressing."""
    if "\\" in text:
        text = _LATEX_NOISE.sub("", _TEXT_MACRO.sub(r"\1", text.replace("\\$", "$")))
    return text.replace("**", "")


@lru_cache(maxsize=8192)
def read(reply: str) -> Reading:
    """The parts of a reply that cues are looked for in."""
    text = strip_markup(reply).lower()
    pieces = (piece.strip(" \t-*#•|_=`") for piece in BREAK.split(text))
    sentences = tuple(piece for piece in pieces if piece)
    flat = flatten(text)
    return Reading(
        text=text,
        sentences=sentences,
        flat=flat,
        head=flatten(" ".join(sentences[:2])),
        tail=flatten(" ".join(sentences[-3:])),
        words=(flat.count(" ") - 1 if flat.strip() else 0) + len(_UNSPACED.findall(text)) // 2,
        thinking=parted(reply).unfinished,
    )


#: Characters of scripts without blanks; two of them make about a word.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


def flatten(text: str) -> str:
    """Words between single blanks, one in front and one behind: " how many apples "."""
    return f" {' '.join(text.translate(_NOT_WORD).split())} "


def found(phrases: tuple[str, ...], flat: str) -> list[str]:
    """The phrases that stand in a flattened text as whole words."""
    return [phrase for phrase in phrases if f" {phrase} " in flat]


#: Of each cue the phrases as (first word, phrase between blanks).
_PHRASES = {
    name: tuple((p.partition(" ")[0], f" {p} ") for p in phrases) for name, phrases in CUES.items()
}


#: Pieces of a sentence that asks or offers; plain substring search is five times a pattern's speed.
ASKS = (
    "?", "please", "if you ", "let me know", "feel free", "once you", "could you", "i need",
    "we need", "need to know", "i can calculate", "i'll",
)  # fmt: skip
SUPPOSES = re.compile(
    r"\bif\b|\bassum|\bsuppos|\bwould\b|hypothetical|example|\bwithout\b|unknown|cannot|can't"
)
_CONCLUDES = re.compile(r"\b(?:therefore|thus|so|hence|total|final|answer|result|will|still|=)\b")
_IF_NUMBER = re.compile(r"\bif\b[^.?!\n]{0,60}\d")


def conclusion_of(reading: Reading) -> tuple[str, float]:
    """The last sentence that tells a number and asks nothing, and how far from the end it is."""
    count = len(reading.sentences)
    for back, sentence in enumerate(reversed(reading.sentences)):
        if _DIGIT.search(sentence) and not any(p in sentence for p in ASKS):
            return sentence, back / count
    return "", 1.0


@lru_cache(maxsize=256)
def features(reading: Reading) -> Mapping[str, float]:
    """Numbers in [0, 1] that the scorecards weigh; names are cue, or cue@place, or a fact."""
    out: dict[str, float] = {}
    flat, head, tail = reading.flat, reading.head, reading.tail
    words = frozenset(flat.split())
    for name, phrases in _PHRASES.items():
        hits = [p for first, p in phrases if first in words and p in flat]
        out[name] = min(len(hits), 4) / 4
        out[f"{name}@head"] = float(any(p in head for p in hits))
        out[f"{name}@tail"] = float(any(p in tail for p in hits))
    text, last = reading.text, reading.sentences[-1] if reading.sentences else ""
    end = " ".join(reading.sentences[-3:])
    boxed = _BOXED.findall(text)
    out["question"] = min(text.count("?"), 4) / 4
    out["question@tail"] = float("?" in end)
    out["boxed number"] = float(any(_NUMBER.search(b) for b in boxed))
    out["boxed words"] = float(any(not _NUMBER.search(b) for b in boxed))
    out["number@last"] = float(bool(_NUMBER.search(last)))
    out["number@tail"] = float(bool(_NUMBER.search(end)))
    out["stated@tail"] = float(bool(_STATED.search(end)))
    out["value"] = min(len(_VALUE_AT_END.findall(text)), 4) / 4
    out["variable"] = min(len(_VARIABLE_AT_END.findall(text)), 4) / 4
    conclusion, back = conclusion_of(reading)
    supposed = bool(SUPPOSES.search(conclusion))
    out["words after the conclusion"] = back
    out["conclusion is supposed"] = float(supposed)
    out["plain conclusion"] = float(not supposed and bool(_CONCLUDES.search(conclusion)))
    out["numbers supposed"] = min(len(_IF_NUMBER.findall(text)), 3) / 3 if "if" in words else 0.0
    out["items"] = min(len(ITEM.findall(text)), 6) / 6
    out["digits"] = min(len(_NUMBER.findall(text)) / max(reading.words, 1), 0.25) * 4
    out["under 60 words"] = float(reading.words < 60)
    out["under 100 words"] = float(reading.words < 100)
    out["over 200 words"] = float(reading.words > 200)
    out["thinking"] = float(reading.thinking)
    return out
