"""What a user says in a prompt: the whole problem in one turn, or its facts over several turns."""

from __future__ import annotations

import random
from collections.abc import Sequence

from icpo_lite.core.types import Message, Problem
from icpo_lite.data.certificate import Removal
from icpo_lite.data.clause_words import counted
from icpo_lite.data.deletions import number_cut
from icpo_lite.data.removal_draws import Draft
from icpo_lite.data.text_edits import apply

#: What the assistant says between turns in which the user goes on by himself.
NEUTRAL_TURNS = (
    "Okay. What else should I know?",
    "Thank you. Is there anything else?",
    "Understood. Please go on.",
    "Got it. Do you have more details?",
)


def user_turns(
    draft: Draft, removals: Sequence[Removal], *, seed: int, mid_conversation: float
) -> tuple[Message, ...]:
    """One user turn, or several where the prompt is drawn to start mid-conversation.

    A `q*` then says each removed fact without its number, where its certificate rests on that
    gap; where a fact cannot be said so, neither its `q*` nor its `q` is taken apart.
    mid_conversation: the fraction of prompts that start so.
    """
    problem, shards = draft.problem, draft.sharding.shards if draft.sharding else ()
    rng = random.Random(f"turns/{seed}/{problem.problem_id}/{bool(removals)}")
    gaps = {r.shard_id: _with_gap(r) for r in draft.removals}
    told = {s.shard_id: s.text for s in shards if not s.is_question}
    if removals:
        told |= {shard_id: gap or "" for shard_id, gap in gaps.items()}
        told |= {shard.shard_id: "" for r in removals for shard in r.along}
    kept = [text for text in told.values() if text]
    whole = any(gap is None for gap in gaps.values())
    if not kept or whole or rng.random() >= mid_conversation:
        return (Message("user", without(problem, removals)),)
    later = sorted(rng.sample(range(len(kept)), rng.randint(1, len(kept))))
    opening = [text for i, text in enumerate(kept) if i not in later]
    question = next(s.text for s in shards if s.is_question)
    ordered = [question, *opening] if rng.random() < 0.5 else [*opening, question]
    messages = [Message("user", " ".join(ordered))]
    for index in later:
        messages.append(Message("assistant", rng.choice(NEUTRAL_TURNS)))
        messages.append(Message("user", kept[index]))
    return tuple(messages)


def without(problem: Problem, removals: Sequence[Removal]) -> str:
    """The question as it reads once the removals are made."""
    if not removals:
        return problem.question
    return apply(problem.question, [r.cut for r in removals])


def _with_gap(removal: Removal) -> str | None:
    """A removed fact as a user tells it who leaves its number out; None where that cannot be said.

    Empty where the whole clause went, or a value that is no number.
    """
    if removal.cut.kind == "clause" or removal.value is None:
        return ""
    text = removal.fact.shard.text
    for mention in counted(text):
        cut = number_cut(text, mention, 0)
        if mention.value == removal.value and cut is not None:
            return apply(text, [cut])
    return None
