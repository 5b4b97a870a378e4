"""Numbers that tell a text no quantity: ordinals, names, and what things are numbered by."""

from __future__ import annotations

import re

from icpo_lite.core.numbers import NumberMention
from icpo_lite.core.words import bag

#: Things that are told apart by a number behind their name: "house 3", "grade 4".
_NUMBERED = bag(
    "house room grade level chapter day week month part phase stage round lane bus route class "
    "period section group team box bag bin jar tank shelf floor building apartment question "
    "problem test exam quiz game match set semester term district volume book track season "
    "episode trial machine container train car player runner contestant person student store "
    "shop candidate option plan type scheme figure item bucket row column case step version unit "
    "lesson line gate door bank farm school city town highway interstate flight"
)
_WORD_BEFORE = re.compile(r"([A-Za-z][\w’'-]*)[ -]#?$")
_WORD_AFTER = re.compile(r"[ -]([A-Za-z][\w’'-]*)")
#: "the first half of the trip": which one, not how much.
_HALF_IN_ORDER = re.compile(r"\b(?:first|second|last|latter) half$", re.IGNORECASE)


def is_label(text: str, mention: NumberMention) -> bool:
    """Whether a number of a text is no fact of its own, so that several shards may hold it.

    "the first day", "one of them", "a pair of shoes", "house 3", and names: a girl called Seven,
    Twelve Oaks.
    """
    return (
        mention.kind == "ordinal"
        or (mention.value == 1 and mention.kind == "cardinal")
        or mention.surface.lower().endswith(("pair", "couple", "pairs"))
        or _is_ordered_half(text, mention)
        or is_name(text, mention)
        or _is_numbering(text, mention)
    )


def _is_ordered_half(text: str, mention: NumberMention) -> bool:
    if mention.kind != "fraction":
        return False
    return _HALF_IN_ORDER.search(text, max(0, mention.start - 12), mention.end) is not None


def is_name(text: str, mention: NumberMention) -> bool:
    """Whether a number word is a proper name or part of one.

    It is where it has a capital that no sentence's opening gives it, or where another capitalised
    word follows: "Ten Bears", but "Ten bears live here".
    """
    if not mention.surface[:1].isupper() or mention.kind == "percent":
        return False
    after = _WORD_AFTER.match(text, mention.end)
    if after and after[1][0].isupper():
        return True
    if after and mention.value > 1 and after[1] in ("has", "is", "was", "does"):
        return True  # "Seven has 6 horses"
    before = text[: mention.start].rstrip("\"'“‘(* ")
    if before and before[-1] not in ".?!:\n":
        return True
    return _named_elsewhere(text, mention)


def _named_elsewhere(text: str, mention: NumberMention) -> bool:
    """Whether a word that opens a sentence stands capitalised inside another one, too."""
    at = text.find(f" {mention.surface}")
    while at > 0:
        after = text[at + 1 + len(mention.surface) : at + 2 + len(mention.surface)]
        if (text[at - 1].islower() or text[at - 1] in ",;") and not after.isalnum():
            return True
        at = text.find(f" {mention.surface}", at + 1)
    return False


def _is_numbering(text: str, mention: NumberMention) -> bool:
    if mention.kind != "cardinal" or not mention.surface.isdigit():
        return False
    before = _WORD_BEFORE.search(text, max(0, mention.start - 24), mention.start)
    if before is None or before[1].lower() not in _NUMBERED:
        return False
    return mention.unit_end == mention.end
