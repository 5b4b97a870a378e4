"""Demonstrations of asking: for a `q*`, the short question that asks for what it lacks.

The question is written from the fact that was removed (`data/asking_questions.py`) and kept only
where the matcher of targets, which rewards sampled questions, calls it targeted, so that nothing is
shown to the policy that its own reward would not pay.
"""

from __future__ import annotations

from icpo_lite.core.types import Prompt
from icpo_lite.data.asking_questions import asking_question
from icpo_lite.rewards.question_targets import aim


def asking_demonstration(prompt: Prompt) -> str | None:
    """The question that a prompt calls for; None where nothing lacks or no question hits it."""
    return asking_question(prompt, asks_for_removed) if prompt.removed else None


def asks_for_removed(prompt: Prompt, question: str) -> bool:
    """Whether a question asks for a fact that the prompt lacks, and for nothing else."""
    found = aim(prompt, question)
    return 0 < found.hits == found.count
