"""Where a question points by the rules: to the statement that it is most like, or to none.

A question is compared with every fact of a problem, removed or given, and with the problem's own
question (`fact_likeness`).

The tables: written by hand as ordinary English. tests/claims/question_targets.py measures what is
built on them.
"""

from __future__ import annotations

import re

from icpo_lite.core.sentences import entities
from icpo_lite.core.words import bag, stem
from icpo_lite.rewards.fact_likeness import beyond, closest, covers
from icpo_lite.rewards.fact_reading import Asked, Frame, read_question
from icpo_lite.rewards.near_misses import near_miss
from icpo_lite.rewards.rewording import reworded
from icpo_lite.rewards.subject_keys import says_nothing

#: A question must be this much like a fact (see `fact_likeness`), like a given one or the task.
_LIKE, _LIKE_GIVEN, _LIKE_GOAL = 0.2, 0.5, 0.25
#: Of two facts about as alike, a person asks for the one that they cannot read.
_NEARLY_GIVEN, _NEARLY_GOAL = 0.92, 1.0
#: A question that names nothing ("how much is it?") needs one fact that fits better than others.
_CLEARLY = 1.1
#: What is left of the likeness to the task when a question says more, and of a removed fact.
_BEYOND = 0.8
#: A question that covers this many given facts in full asks for everything, so for nothing.
_SHOTGUN = 2


def points_at(unit: str, frame: Frame) -> str:
    """What a question asks for: a "removed" fact, a "given" one, the "goal", or "elsewhere"."""
    unit = reworded(unit, frame.words)
    question = read_question(unit, frame)
    says_nothing_at_all = not (question.about or question.quantity.sorts)
    if says_nothing_at_all or _stranger(unit, frame) or _other_rate(question, frame):
        return "elsewhere"
    lacked = [fact for fact in frame.removed if not near_miss(unit, question, fact, frame)]
    removed = closest(question, lacked, frame)
    given = closest(question, frame.readable, frame)
    goal = closest(question, [frame.goal], frame) * (_BEYOND if beyond(question, frame) else 1.0)
    plainly = any(f.tells.compared for f in lacked) and not question.quantity.compared
    nearly = _NEARLY_GIVEN if question.about and not plainly else _CLEARLY
    beaten = removed <= max(nearly * given, _NEARLY_GOAL * goal)
    if removed >= _LIKE and not beaten and not asks_for_everything(question, frame):
        return "removed"
    if given >= _LIKE_GIVEN and given > max(removed, goal):
        return "given"
    return "goal" if goal >= _LIKE_GOAL else "elsewhere"


def asks_for_everything(question: Asked, frame: Frame) -> bool:
    """Whether a question names so many given facts in full that it asks for nothing."""
    return covers(question, frame.given) >= _SHOTGUN


def _other_rate(question: Asked, frame: Frame) -> bool:
    """Whether a question is for a rate over a time that the problem knows nothing of."""
    return bool(question.per) and not any(
        word.startswith(per) or (per == "day" and word in _DAYS)
        for per in question.per
        for word in frame.nouns
    )


_DAYS = frozenset(
    stem(w) for w in bag("daily today tomorrow yesterday night nightly morning evening")
)
#: What shows that the word that opens a question is a name: "Ann's age is", "Ann bought".
_OPENS_AS_NAME = re.compile(
    r"['’]s?\b| (?:and [A-Z]|is|was|are|were|has|had|have|does|did|do|will|would|can|could|should"
    r"|[a-z]{2,12}(?:ed|s))\b"
)
#: Of several words, or "I'd".
_NO_NAME = re.compile(r" |^I'")


def _stranger(unit: str, frame: Frame) -> bool:
    """Whether a question names somebody of whom the problem knows nothing.

    Words that a list merely writes in capitals ("Cost per Gift") are nobody's name.
    """
    people = {
        span.text
        for span in entities(unit)
        if not _NO_NAME.search(span.text) and (span.start or _OPENS_AS_NAME.match(unit, span.end))
    }
    return any(
        not says_nothing(word)
        and stem(word) not in frame.weight
        and stem(word) not in frame.people
        and stem(word) not in frame.nouns
        for word in people
    )
