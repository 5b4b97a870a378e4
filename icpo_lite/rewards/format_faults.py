"""Faults of form that let a reply earn more than it says: found in the text alone.

The tables: Written by hand; no figure of their own was measured, the tests hold examples.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from icpo_lite.core.plain_text import capped, spoken
from icpo_lite.core.sentences import BREAK
from icpo_lite.core.thoughts import said
from icpo_lite.core.types import NON_ANSWERS, ResponseType, TaskName
from icpo_lite.rewards.languages import foreign
from icpo_lite.rewards.question_targets import asked

_ATTEMPT = ResponseType.ANSWER_ATTEMPT
_LABEL = re.compile(
    r"^[^\w\n]*(?:" + "|".join(t.value.replace("_", "[ _]") for t in NON_ANSWERS | {_ATTEMPT})
    + r"|hedge|refuse|response[ _]type)\b[^\w\n:-]*(?:[:\n-]|$)",
    re.IGNORECASE | re.MULTILINE,
)  # fmt: skip
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060\ufeff\ufffd]"
)
#: Marks of a chat template are out of place everywhere; fences and tags where prose is wanted.
_TEMPLATE = re.compile(r"<\|[^|\n]{1,40}\|>|\[/?INST\]|<</?SYS>>")
_MARKUP = re.compile(r"```|</?(?!think>)[a-z]{2,15}(?:\s[^<>\n]{0,60})?/?>", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")


@lru_cache(maxsize=32768)
def faults(reply: str, prompt_text: str) -> tuple[str, ...]:
    """Names of the faults of a reply: label, control, template, language, echo, repetition."""
    raw, reply, prompt_text = capped(said(reply)), spoken(reply), capped(prompt_text)
    checks = {
        "label": bool(_LABEL.search(raw)),
        "control": bool(_CONTROL.search(raw)),
        "template": bool(_TEMPLATE.search(raw)),
        "language": foreign(reply) and not foreign(prompt_text),
        "echo": echoes(reply, prompt_text),
        "repetition": repeats_itself(reply),
    }
    return tuple(name for name, found in checks.items() if found)


def marked_up(reply: str, task: TaskName) -> bool:
    """Whether a reply in prose carries code fences or tags; other tasks want their fences."""
    return task == "math" and bool(_MARKUP.search(capped(said(reply))))


def echoes(reply: str, prompt_text: str) -> bool:
    """Whether a reply hands the prompt back: its own words, and most of a question in it.

    80 % of the reply's word triples stand in the prompt, and 80 % of the triples of one of the
    prompt's sentences that ask stand in the reply.
    """
    told = _triples(reply)
    if not told or 10 * len(told & _triples(prompt_text)) < 8 * len(told):
        return False
    asks = (_triples(s) for s in BREAK.split(prompt_text) if "?" in s)
    return any(t and 10 * len(t & told) >= 8 * len(t) for t in asks)


@lru_cache(maxsize=8192)
def _triples(text: str) -> frozenset[tuple[str, ...]]:
    words = [w.lower() for w in _WORD.findall(text)]
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def repeats_itself(reply: str) -> bool:
    """Whether one sentence of five words or more stands there three times."""
    counts = Counter(s.strip() for s in BREAK.split(reply) if s.count(" ") >= 4)
    return any(n >= 3 for n in counts.values())


_DOUBT = re.compile(
    r"\b(?:i'm|i am) (?:not (?:sure|certain)|unsure|guessing)\b|\bi (?:don't|do not) know\b"
    r"|\bi (?:can't|cannot|can not) (?:answer|say|tell|determine|solve|be sure)\b"
    r"|\bnot enough information\b|\binsufficient information\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=32768)
def both_ways(reply: str) -> bool:
    """Whether an answer comes with a question to the user or with an outright doubt."""
    reply = spoken(reply)
    return bool(asked(reply)) or bool(_DOUBT.search(reply))
