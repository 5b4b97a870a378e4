"""A `q*` of a coding task by removal of one requirement beside the task itself.

Where no condition of the task can go (`data/code_conditions.py`), what a request says besides it
may: what a word of its own means ("a string is happy if …"), what comes out in a special case ("if
there is no such number, return -1"), in which way something is done. The task and the function's
name stay. *Out of reach*: the tests ask for it and no word of it is left. *Visibly incomplete*: the
word stands in the request and nothing says what it means, or "a certain value" stands there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Problem
from icpo_lite.core.words import bag, content_words, stem
from icpo_lite.data.certificate import Removal
from icpo_lite.data.code_arguments import is_of_arguments
from icpo_lite.data.code_conditions import (
    DOES,
    Found,
    cut_out,
    only_function,
    removed,
    states_task,
)
from icpo_lite.data.code_text import CodeText
from icpo_lite.data.sharding import Sharding


def requirement_removal(problem: Problem, code: CodeText) -> tuple[Sharding, Removal] | None:
    """The request with a requirement as a fact, and the removal; None where it has none."""
    named = only_function(code)
    if named is None:
        return None
    told = [s.text for s in sentences(code.prose)]
    for i, sentence in enumerate(told):
        others = told[:i] + told[i + 1 :]
        for found in _requirements(sentence, others, _tests(problem)):
            gone = told[i + 1 :] if found.words.endswith(":") else _repeats(found, others)
            kept = [s for s in others if s not in gone]
            stays = [*kept, found.left] if found.gap else kept
            if any(DOES.search(s) for s in gone) or not any(states_task(s) for s in stays):
                continue
            own = content_words(found.words) - content_words(" ".join([*kept, found.left]))
            if not own and not _LITERAL.fullmatch(found.words):
                continue
            tells = bool(own & _words_of(named[1]))
            span = named.span(1)
            cut = cut_out(problem.question, code, found, gone, span, tells=tells)
            if cut is not None:
                return removed(problem, code, found, (kept, gone), cut)
    return None


def _tests(problem: Problem) -> str:
    """The tests of a coding task as one text, whatever shape they have."""
    answer = problem.answer
    if not isinstance(answer, Mapping):
        return str(answer)
    return "\n".join(str(value) for name, value in answer.items() if name != "prompt")


def _repeats(found: Found, others: Sequence[str]) -> list[str]:
    """The sentences that say more of what is gone: they share a word with it that is its own."""
    left = content_words(found.left)
    own = content_words(found.words) - left - _COMMON
    tasks = [s for s in others if states_task(s)]
    own -= content_words(" ".join(tasks))
    more = (s for s in others if s not in tasks and not is_of_arguments(s))
    return [s for s in more if content_words(s) & own or _EXAMPLE.match(s)]


_EXAMPLE = re.compile(r"\W*(?:for (?:example|instance)|example|e\.g)\b", re.IGNORECASE)


def _words_of(name: str) -> frozenset[str]:
    """Stems of the words that a name is made of."""
    return frozenset(stem(w.lower()) for w in re.findall(r"[A-Z]?[a-z]+", name))


def _requirements(sentence: str, others: Sequence[str], tests: str) -> Iterator[Found]:
    """What of a sentence can go, the strongest first."""
    if not is_of_arguments(sentence):
        yield from _meaning(sentence, others)
        yield from _way(sentence)
    yield from _special_case(sentence, tests)


# ------------------------------------------------------------------------------ what a word means

_MEANS = re.compile(
    r"(?P<head>[^:]{3,80}?)(?P<if> (?:if and only if|only if|iff|if|when)\b"
    r"|,? means? (?:that )?|,? (?:is|are) (?:defined )?(?=(?:an? |the |as |when "
    r")))(?P<body>.{8,400})$",
    re.IGNORECASE | re.DOTALL,
)
#: What opens another sentence than one that says what a word means, or a name of code.
_NO_HEAD = re.compile(
    r"\W*(?i:if|when|otherwise|note|return|in case|else|you)\b|.*(?:[a-z][A-Z]|\b(?:since|because"
    r"|which)\b)"
)
#: Words of no meaning of their own, and those whose meaning everybody knows.
_COMMON = frozenset(
    stem(w)
    for w in bag(
        "string list array number integer element word letter digit character input output function"
        " vowel consonant prime palindrome palindromic fibonacci collatz median mean average sum"
        " product factorial frequency triangle right-angled square cube roman md5 ascii rotation"
        " round rounding subarray sub-array bracket parenthesis name value sequence order index"
        " conjecture shift operation given return node object check position dictionary key tuple"
        " set pair length size empty result case binary decimal hexadecimal matrix row column path"
        " absolute deviation valid version term first last next two one each right angle sort "
        "sorted count item entry"
    )
)


def _meaning(sentence: str, others: Sequence[str]) -> Iterator[Found]:
    """ "A string is happy if its letters differ": what the task calls happy."""
    match = _MEANS.match(sentence)
    if match is None or _NO_HEAD.match(match["head"]) or DOES.search(match["head"]):
        return
    if term := _term(match["head"], others):
        body = match["body"].strip(" .:,")
        fact = f"The meaning of {term!r}: {body}."
        yield Found(sentence, 0, len(sentence), "", fact, term)


_VALID = frozenset({"valid", "good", "correct"})


def _term(head: str, others: Sequence[str]) -> str:
    """The word, or the words in a row, that a task calls something by; "" where it does not."""
    tasks = content_words(" ".join(s for s in others if states_task(s)))
    head = re.split(r" of ", head, maxsplit=1)[0].lower()
    told = re.findall(r"[a-z]{3,}", head)
    runs: list[str] = []
    for word in told:
        own = stem(word) in tasks and stem(word) not in _COMMON
        runs.append(f"{runs.pop()} {word}".strip() if own and runs else word if own else "")
    named = [run for run in runs if run]
    return next((w for w in told if w in _VALID and stem(w) in tasks), "") or (named or [""])[-1]


# -------------------------------------------------------------------------- what a special case is

_LITERAL = re.compile(
    r"-?\d+(?:\.\d+)?|None|True|False|\[\]|''|\"\"|an? empty (?:list|string|tuple|array|dict\w*)"
    r"|empty string|'[^']{1,12}'|\"[^\"]{1,12}\"",
    re.IGNORECASE,
)
_RETURNS = r"(?:(?:the function|it|you) (?:should|must|will) )?(?:returns?|output)"
_CASE_FIRST = re.compile(
    rf"\W*(?:if|when|in case)\b(?P<case>.{{4,160}}?),? (?:then )?{_RETURNS} (?P<gone>.{{1,80}}?)"
    r"(?=[.;]?\s*$)",
    re.IGNORECASE | re.DOTALL,
)
_CASE_LAST = re.compile(
    rf"(?:note:? )?{_RETURNS} (?P<gone>.{{1,60}}?) "
    r"(?P<case>(?:if|when|in case|for (?:an? |the )?(?:empty|invalid))\b.{4,160})$",
    re.IGNORECASE | re.DOTALL,
)
_TWO_CASES = re.compile(r"\b(?:otherwise|else)\b", re.IGNORECASE)
_EMPTY = re.compile(r"\bempty\b", re.IGNORECASE)
#: What everybody would return for nothing.
_NATURAL = re.compile(r"(?:an? )?empty\b.*|\[\]|''|\"\"|0", re.IGNORECASE)


_POINTS = re.compile(r"(?:them|it|that|this|those)\b", re.IGNORECASE)
_TRUTH = re.compile(r"\W?(?:true|false|yes|no)\W?", re.IGNORECASE)


def _special_case(sentence: str, tests: str) -> Iterator[Found]:
    """ "If there is no such number, return -1": what comes out then."""
    match = _CASE_FIRST.match(sentence) or _CASE_LAST.match(sentence)
    if match is None or _TWO_CASES.search(sentence):
        return
    gone = match["gone"].strip()
    if _EMPTY.search(match["case"]) and _NATURAL.fullmatch(gone):
        return
    if _LITERAL.fullmatch(gone) and not _asked_for(gone, tests):
        return
    if _POINTS.match(gone) or _TRUTH.fullmatch(gone):
        return  # whoever returns true elsewhere returns false here
    start, end = match.span("gone")
    fact = f"The certain value: {gone}."
    yield Found(sentence, start, end, "a certain value", fact)


def _asked_for(literal: str, tests: str) -> bool:
    """Whether the tests hold a value that a request names."""
    forms = {"list": "[]", "array": "[]", "tuple": "()", "string": "", "dict": "{}"}
    kind = re.match(r"(?:an? )?empty ([a-z]+)", literal, re.IGNORECASE)
    if kind:
        return forms.get(kind[1].lower(), "{}") in tests
    return literal.strip("'\"") in tests


# -------------------------------------------------------------------------- how something is done

_WAY = re.compile(
    r"\bin (?:such )?a (?:manner|way)(?: such)? that (?P<body>.{8,300})$", re.IGNORECASE | re.DOTALL
)


def _way(sentence: str) -> Iterator[Found]:
    """ "… in such a way that it swaps the case of all letters"."""
    if match := _WAY.search(sentence):
        fact = f"The certain way: {match['body'].strip(' .')}."
        yield Found(sentence, match.start(), match.end(), "in a certain way", fact)
