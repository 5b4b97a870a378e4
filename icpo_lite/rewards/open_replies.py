"""Types of replies to open tasks, for which no form of an answer is known.

"Plan a trip to Paris" is answered by a plan, whatever it looks like. A reply to such a task asks,
gives up, or answers; what is told beside a question decides whether it answers all the same.
"""

from __future__ import annotations

from icpo_lite.core.types import ResponseType
from icpo_lite.rewards.features import CUES, found, read
from icpo_lite.rewards.question_targets import asked

#: Words told beside questions from which a reply has set about the task. A courtesy before a
#: question ("I'd be happy to help you plan your trip!") has fewer.
TOLD = 40
#: A reply of up to this many words that says what it cannot do is a refusal.
SHORT = 60


def type_of_open(reply: str) -> tuple[ResponseType, str, bool]:
    """The type of a reply that says something, its evidence, and whether it answers as well."""
    questions = asked(reply)
    worded = tuple(q.lower() for q in questions)
    reading = read(reply)
    told = sum(len(s.split()) for s in reading.sentences if not _asks(s, worded))
    if questions and told < TOLD:
        several = len(questions) > 1
        kind = ResponseType.INTERROGATION if several else ResponseType.CLARIFICATION
        return kind, questions[0], False
    gives_up = found(CUES["lack"], reading.flat) + found(CUES["apology"], reading.flat)
    if gives_up and reading.words <= SHORT:
        return ResponseType.REFUSAL, gives_up[0], False
    return ResponseType.ANSWER_ATTEMPT, "sets about the task", True


def _asks(sentence: str, questions: tuple[str, ...]) -> bool:
    """Whether a sentence is one of the questions, or holds one."""
    return "?" in sentence or any(q in sentence or sentence.strip() in q for q in questions)
