"""One of several choices: a reply names it by its letter, by its words, or by both.

What a reply boxes or calls its answer counts first, then a line that holds a letter or a choice
alone, then the one choice that its last sentence names. Letters count where they stand as such:
"(B)", "B.", "option B"; "A man of 40" names no choice A. A reply that names two settles on none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from icpo_lite.core.plain_text import spoken
from icpo_lite.core.sentences import sentences
from icpo_lite.rewards.courtesies import without_closing
from icpo_lite.rewards.graders.extraction import whole_statement
from icpo_lite.rewards.graders.worded_answers import bare, denies, plain_words

#: What a reply names where it names more than one.
SEVERAL = ""
_HEAD = re.compile(
    r"^\W*(?:(?:so|thus|therefore|hence|the|my|correct|right|best|final|most likely|answer|it|is)"
    r"\W+)*(?:(?:option|choice|letter)\W+)?"
    r"(?:\((?P<a>\w{1,2})\)|\[(?P<b>\w{1,2})\]|\**(?P<c>\w{1,2})\**(?=\s*(?:$|[).:,;\n–—-]|\s(?:because|since|as)\b)))",
    re.IGNORECASE,
)
_MENTION = re.compile(
    r"\b(?:option|choice|answer) \(?([A-Z]|\d{1,2})\)?(?!\w)|\(([A-Z])\)"
    r"|\b(?:is|choose|pick|select|with|chose) \**([A-Z])\**(?=\W*$)"
)
_MORE = re.compile(r"^[\s).:*\]]*(?:,|and|or|/|&)\s*(?:option |choice )?\(?(\w)\)?(?![\w’'])")
_HASHES = re.compile(r"^####[ \t]*(\S[^\n]*)", re.MULTILINE)


def choices_in(columns: Mapping[str, Any]) -> dict[str, str]:
    """The choices that a prompt's columns hold, letter → words; {} without."""
    found = columns.get("choices")
    if not isinstance(found, Mapping) or not found:
        return {}
    texts = all(isinstance(k, str) and isinstance(v, str) for k, v in found.items())
    return dict(found) if texts else {}


def chosen(reply: str, choices: Mapping[str, str]) -> str | None:
    """The letter of the choice that a reply settles on, SEVERAL of more than one, None of none."""
    text = without_closing(spoken(reply)).strip()
    if said := _HASHES.findall(text):
        return _of_statement(said[-1], choices)
    if (said_whole := whole_statement(text)) is not None:
        return _of_statement(said_whole, choices)
    if "?" in text:
        return None  # it asks
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    for line in dict.fromkeys((*lines[-1:], *lines[:1])):
        if (found := _alone(line, choices)) is not None:
            return found
    last = sentences(text)[-1:] if text else []
    return _mentioned(last[0].text, choices) if last else None


def _of_statement(said: str, choices: Mapping[str, str]) -> str | None:
    """The choice that a statement begins with or names."""
    first = sentences(said)[0].text if len(said) > _SHORT else said
    found = _labelled(said, choices)
    return found if found is not None else _mentioned(first, choices)


#: Of a longer statement its first sentence counts.
_SHORT = 60


def _alone(line: str, choices: Mapping[str, str]) -> str | None:
    """The choice of a line that is a letter, or a letter with its words, or words alone."""
    found = _labelled(line, choices)
    if found is not None:
        return found
    said = plain_words(bare(line))
    return next((label for label, text in choices.items() if plain_words(text) == said), None)


def _labelled(said: str, choices: Mapping[str, str]) -> str | None:
    """The choice whose letter a text begins with."""
    text = bare(said)
    head = _HEAD.match(text)
    label = next(filter(None, head.groups()), "") if head else ""
    whole = head is not None and not text[head.end() :].strip(" ).:*\"'")
    known = {key.casefold(): key for key in choices}
    found = label if label in choices else known.get(label.casefold()) if whole else None
    if found is None:
        return _with_words(text, choices)
    more = _MORE.match(text[head.end() :]) if head else None
    if more and known.get(more[1].casefold(), found) != found and more[1] in choices:
        return SEVERAL
    named = _named(text[head.end() :] if head else "", choices)
    return found if named in (None, found) or not _is_whole(text, head, choices) else SEVERAL


def _is_whole(text: str, head: re.Match[str] | None, choices: Mapping[str, str]) -> bool:
    """Whether a letter is followed by the words of a choice and by nothing else."""
    rest = plain_words(text[head.end() :]) if head else ""
    return rest in {plain_words(words) for words in choices.values()}


def _with_words(text: str, choices: Mapping[str, str]) -> str | None:
    """ "B Herpes": a letter without a mark, before its own words."""
    said = plain_words(text)
    for label, words in choices.items():
        if said.startswith(f"{label.casefold()} {plain_words(words)}"):
            return label
    return None


def _mentioned(sentence: str, choices: Mapping[str, str]) -> str | None:
    """The one choice that a sentence names by its words, else by its letter."""
    if "?" in sentence:
        return None
    if (found := _named(sentence, choices)) is not None:
        return found
    letters = {next(filter(None, m.groups())) for m in _MENTION.finditer(sentence)} & set(choices)
    if not letters or denies(plain_words(sentence), ""):
        return None
    return letters.pop() if len(letters) == 1 else SEVERAL


#: What the choice is held against: "gout rather than herpes".
_AGAINST = re.compile(r"\b(?:rather than|instead of|as opposed to|unlike|in contrast to)\b.*")


def _named(text: str, choices: Mapping[str, str]) -> str | None:
    """The choice whose words a text holds; one that stands inside another's words counts once."""
    said = f" {_AGAINST.sub('', plain_words(bare(text)))} "
    words = {label: plain_words(bare(choice)) for label, choice in choices.items()}
    held = {label: w for label, w in words.items() if w and f" {w} " in said}
    best = {
        label: w
        for label, w in held.items()
        if not any(w != other and f" {w} " in f" {other} " for other in held.values())
    }
    if not best:
        return None
    if len(best) > 1:
        return SEVERAL
    ((label, wanted),) = best.items()
    return SEVERAL if denies(said, wanted) else label
