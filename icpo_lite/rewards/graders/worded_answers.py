"""Math whose gold answer is no number: "ellipse", "Evelyn", "no solution", "(C)", "x + y".

A reply's type is read off numbers elsewhere; here a reply answers where it boxes something or says
what the answer is, or where its last sentence names the gold answer. Words compare without case,
articles, LaTeX's text macros and marks; what denies the gold answer, or names another beside it, is
not right.
"""

from __future__ import annotations

import re

from icpo_lite.core.numbers import numbers
from icpo_lite.core.plain_text import spoken
from icpo_lite.core.sentences import sentences
from icpo_lite.rewards.courtesies import without_closing
from icpo_lite.rewards.graders.extraction import whole_statement

_MACRO = re.compile(r"\\(?:text\w*|mbox|math(?:rm|bf|it|sf)|operatorname|boxed)\s*\{([^{}]*)\}")
#: Words alone, with the brackets and marks that may stand around them.
_WORDS = re.compile(r"[\s(\[\"'“*]*[A-Za-z][A-Za-z'’ ,-]*[)\]\"'”*.\s]*")
_NO_WORD = re.compile(r"[^\w'’-]+")
_ARTICLE = re.compile(r"\b(?:an?|the) ")
_MOST_WORDS = 8
#: So long a gold word can stand anywhere in a statement; a shorter one opens it ("no", "yes", "B").
_TELLING = 4
_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|or|either|unless|without|no|cannot|\w+n['’]t|unknown|unclear"
    r"|undetermined|depends|perhaps|maybe|missing)\b"
)


def has_no_number(gold: str) -> bool:
    """Whether a gold answer holds no number, in digits or in words."""
    text = bare(gold)
    return not re.search(r"\d", text) and not numbers(text)


def in_words(gold: str) -> bool:
    """Whether a gold answer is words, or the letter of a choice, and no expression."""
    text = bare(gold)
    named = re.search(r"[A-Za-z]{2}", text) or re.fullmatch(r"[(\[\s]*[A-Z][)\]\s.]*", text)
    return bool(named and _WORDS.fullmatch(text)) and len(text.split()) <= _MOST_WORDS


def bare(answer: str) -> str:
    """An answer without what marks it and LaTeX's macros around words."""
    text = answer.rpartition("####")[2].replace("\\ ", " ").replace("$", " ")
    while text != (text := _MACRO.sub(r"\1", text)):
        pass
    return text.strip()


def states(reply: str, gold: str) -> str:
    """The words with which a reply answers a task whose gold answer is no number; "" for none."""
    text = without_closing(spoken(reply))
    said = _statement(text)
    if said and "?" not in text and not denies(plain_words(said), plain_words(bare(gold))):
        return said
    return _last_naming(text, gold) if in_words(gold) else ""


def is_right(reply: str, gold: str) -> tuple[bool, str | None]:
    """Whether a reply names a gold answer in words, and what it states."""
    said = _statement(reply)
    if said is not None:
        return _names(said, gold), said
    found = _last_naming(without_closing(spoken(reply)), gold)
    return bool(found), found or None


#: "The answer is no." states something where the gold answer is words, and nothing among numbers.
_NO = re.compile(
    r"\banswer(?: is|:) (no(?![^.,;\n]*\b(?:known|given|clear|way)\b)[^\n]*)", re.IGNORECASE
)


def _statement(reply: str) -> str | None:
    said = whole_statement(reply)
    if said is None and (no := _NO.search(reply)):
        return no[1].strip(" *$.")
    return said


def _last_naming(text: str, gold: str) -> str:
    """The last sentence of a text where it names the gold answer and asks nothing; else ""."""
    told = [s.text.strip() for s in sentences(text) if s.text.strip()]
    last = told[-1] if told else ""
    asks = "?" in text or len(plain_words(bare(gold))) < _TELLING
    return last if not asks and _names(last, gold) else ""


def _names(statement: str, gold: str) -> bool:
    said, wanted = plain_words(bare(statement)), plain_words(bare(gold))
    if said == wanted:
        return True
    if len(wanted) < _TELLING:
        return said.startswith(f"{wanted} ") and not denies(said, wanted)
    return f" {wanted} " in f" {said} " and not denies(said, wanted)


def denies(said: str, wanted: str) -> bool:
    """Whether words beside the gold answer deny it, doubt it, or put another beside it."""
    return bool(_DENIED.search(f" {said} ".replace(f" {wanted} ", " ")))


def plain_words(text: str) -> str:
    """Words in small letters between single blanks, without articles and marks."""
    words = " ".join(_NO_WORD.split(text.casefold())).strip(" -'")
    return _ARTICLE.sub("", words)
