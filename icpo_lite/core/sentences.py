"""Sentences and names of a text, as spans into it.

Pure functions over `str`, written for word problems and for short chat turns in English. They are
heuristics, linear in the length of the text.

The tables: written by hand and tried on lic_turn_types_dev.jsonl, so figures on that file are of
data that the author has seen; a model held out is judged in `icpo_lite.tools.train_judge`.
tests/claims/tables.json has what each is worth alone: without `_CAPITAL` 11 points fewer of 153
problems are certified.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from icpo_lite.core.plain_text import LONGEST
from icpo_lite.core.words import _WORD, bag, is_plural


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch `text[start:end]` of a longer text."""

    start: int
    end: int
    text: str


_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Sr|Jr|Prof|Mt|vs|etc|approx|No|lbs?|oz|ft|sq|hr|min|e\.g|i\.e|a\.m|p\.m|U\.S|[A-Z])"
    r"|\b[ap]\.m)\.$"
)


#: Characters before a point among which an abbreviation stands.
_ABBREVIATED = 12


#: Where a chat turn breaks into pieces: behind a closing mark, at a new line. Unlike `sentences` it
#: knows no abbreviations, and takes a tenth of the time.
BREAK = re.compile(r"(?<=[.!?])\s+|\n+")
#: What begins a line of a list.
ITEM = re.compile(r"^[^\S\n]*(?:\d+[.)]|[-*•])\s", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)]*(?=\s|$|[A-Z])|\n+")


def sentences(text: str) -> tuple[Span, ...]:
    """The sentences of a text, trimmed; a decimal point or "Mr." ends none, a newline does."""
    found: list[Span] = []
    start = 0
    for match in _SENTENCE_END.finditer(text, 0, LONGEST):
        if match[0][0] == "." and not _ends_sentence(text, start, match):
            continue
        _add_span(found, text, start, match.end())
        start = match.end()
    _add_span(found, text, start, len(text))
    return tuple(found)


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    before = text[max(start, match.start() - _ABBREVIATED) : match.start() + 1]
    after = text[match.end() : match.end() + 2].lstrip()
    if match.end() < len(text) and not text[match.end()].isspace():
        previous = text[match.start() - 1] if match.start() else " "
        return previous.islower() and match.start() - start > 8
    if _LETTER.search(before) and _opener(text, match.end()) in _OPENERS:
        return True  # "twice as many as Pond B. If there are 32 …"
    if _ABBREVIATION.search(before):
        return bool(re.search(r"\b[ap]\.m\.$", before)) and after[:1].isupper()
    return True


#: A single letter and a point behind a word in lower case or a name: "Pond B.", not "J. R. R.".
_LETTER = re.compile(r"[a-z] [A-Z]\.$")
_OPENERS = bag(
    "The He She They If When While After Before How What There In On At For Then Each Every Both "
    "His"
    " Her Their This These It Its All Some Another Next Finally However Since Assuming Suppose"
)


def _opener(text: str, at: int) -> str:
    return text[at : at + 20].split(maxsplit=1)[0].rstrip(",") if text[at : at + 20].strip() else ""


def _add_span(found: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.strip()
    if stripped:
        start += len(piece) - len(piece.lstrip())
        found.append(Span(start, start + len(stripped), stripped))


_CAPITAL = re.compile(
    r"\b(?:(?:Mrs?|Ms|Dr|Prof|St)\. )?[A-Z][a-z’']+(?: (?:Jr|Sr)\.|(?: [A-Z][a-z’']+)+)?"
)


_NOT_NAMES = bag(
    "A An The He She It They We You I His Her Its Their Our Your My This These Those "
    "That There If When While After Before During Since Then Next Finally First Second "
    "Third How What Where Who Which Why In On At To For From By With Of And Or But So As "
    "Each Every All Both Some Most Half Twice One Two Three Four Five Six Seven Eight "
    "Nine Ten Eleven Twelve Fifteen Twenty Thirty Forty Fifty Sixty Seventy Eighty "
    "Ninety Hundred Given Assuming Suppose Let Find Calculate Determine Compute Express "
    "Round Yesterday Today Tomorrow Tonight Later Now Last However Also Out Over Once "
    "Only Everyone Nobody Between Because Although Though Until Unless Without Within "
    "Initially Originally Additionally Together Currently Usually Normally Another Other "
    "Their Per Not No Yes Can Could Would Should Will Do Does Did Is Are Was Were Has "
    "Have Had Be Please Sure Thanks Ok Okay Let's Here Under Through Altogether Instead "
    "Besides Unfortunately Monday Tuesday Wednesday Thursday Friday Saturday Sunday "
    "January February March April May June July August September October November "
    "December Christmas Easter Halloween"
)


def entities(text: str) -> tuple[Span, ...]:
    """Capitalised names, in order, each occurrence; no days, months or sentence openers.

    A capitalised word that opens a sentence counts when it also stands capitalised elsewhere, or
    is no ordinary word in lower case in the text ("Bakers bake …; the bakers" is no name).
    """
    lower = {w for w in _WORD.findall(text) if w.islower()}
    found: list[Span] = []
    for match in _CAPITAL.finditer(text):
        start, surface = match.start(), match[0]
        while surface and (first := surface.split(" ", 1)[0].rstrip("'’")) in _NOT_NAMES:
            start += len(surface.split(" ", 1)[0]) + 1
            surface = text[start : match.end()]
            if not surface or first == surface:
                break
        surface = re.sub(r"['’]s?$", "", surface)
        if not surface or surface in _NOT_NAMES or not surface[0].isupper():
            continue
        head = surface.split(" ", 1)[0]
        singular = head.lower().rstrip("s")
        if head.lower() in lower or (is_plural(head) and singular in lower):
            continue
        found.append(Span(start, start + len(surface), surface))
    return tuple(found)
