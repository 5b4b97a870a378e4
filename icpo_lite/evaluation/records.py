"""A conversation as a line of conversations.jsonl, and what the figures need of that line.

Figures are made of lines, never of live conversations, so that a judgement that was interrupted
and one that was not go the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icpo_lite.core.types import NON_ANSWERS, QUESTIONS, ResponseType, Turn
from icpo_lite.rollout.conversation import Conversation

Row = Mapping[str, Any]
#: Tokens of a reply's beginning that are kept: what `openings.learn` looks at.
KEPT_TOKENS = 4


def row_of(setting: str, talk: Conversation) -> dict[str, Any]:
    """The line of one finished conversation."""
    return {
        "setting": setting,
        "problem_id": talk.problem.problem_id,
        "task": talk.problem.task,
        "run": talk.run,
        "score": talk.score,
        "lucky": talk.lucky,
        "answer": talk.problem.answer,
        "shards": [s.text for s in talk.problem.shards],
        "certified": talk.certified,
        **_given_facts(talk),
        "turns": [_turn_row(turn) for turn in talk.turns],
    }


def _given_facts(talk: Conversation) -> dict[str, Any]:
    """Of a corpus's own prompt: its data set, its place, and whether it is told what lacks."""
    prompt = talk.prompt_given
    if prompt is None:
        return {}
    return {
        "data": talk.problem.columns.get("dataset", ""),
        "source": prompt.source,
        "told": bool(prompt.removed or prompt.targets),
    }


def _turn_row(turn: Turn) -> dict[str, Any]:
    row: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.verdict is None:
        return row
    verdict = turn.verdict
    return row | {
        "response_type": str(verdict.response_type),
        "correct": verdict.correct,
        "extracted": verdict.extracted,
        "targeted": verdict.targeted,
        "repeats_given": verdict.repeats_given,
        "tokens": len(turn.token_ids),
        "nll": None if turn.content and not turn.logprobs else -sum(turn.logprobs),
        "opening": list(turn.token_ids[:KEPT_TOKENS]),
        "stop_reason": turn.stop_reason,
    }


@dataclass(frozen=True, slots=True)
class Said:
    """One judged reply. nll: negative log-prob of all its tokens, in nats; None where a server
    tells none."""

    response_type: ResponseType
    correct: bool | None
    targeted: bool | None
    tokens: int
    nll: float | None
    opening: tuple[int, ...] = ()

    @property
    def attempts(self) -> bool:
        return self.response_type is ResponseType.ANSWER_ATTEMPT

    @property
    def asks(self) -> bool:
        return self.response_type in QUESTIONS

    @property
    def declines(self) -> bool:
        """Whether it is one of the types that the paper rewards on q*."""
        return self.response_type in NON_ANSWERS


@dataclass(frozen=True, slots=True)
class Record:
    """One conversation as the figures see it. replies: those of the policy, in order.

    graded: whether there is a gold answer. told: whether it is known what the prompt lacks. data:
    the data set, where the prompts are its own. lacks: whether the prompt is a q*.
    """

    problem_id: str
    task: str
    run: int
    score: float
    lucky: bool
    shards: int
    replies: tuple[Said, ...]
    certified: bool = True
    prompt: tuple[tuple[str, str], ...] = ()
    graded: bool = True
    told: bool = True
    data: str = ""
    lacks: bool = False

    @property
    def first_attempt(self) -> int | None:
        """Turn of the first answer attempt, from 1; None where there is none."""
        return next((t for t, said in enumerate(self.replies, start=1) if said.attempts), None)

    def fifth(self, turn: int) -> int:
        """Which fifth of the conversation a turn lies in: floor(5 (turn - 1) / shards)."""
        return min(4, 5 * (turn - 1) // max(self.shards, 1))


def read_row(row: Row) -> Record:
    """What the figures need of a line. prompt: what stands before the policy's first reply."""
    turns: Sequence[Row] = row["turns"]
    first = next((i for i, t in enumerate(turns) if "response_type" in t), len(turns))
    return Record(
        problem_id=row["problem_id"],
        task=row["task"],
        run=row["run"],
        score=row["score"],
        lucky=row["lucky"],
        shards=len(row["shards"]),
        replies=tuple(
            Said(
                ResponseType(t["response_type"]),
                t["correct"],
                t["targeted"],
                t["tokens"],
                t["nll"],
                tuple(t["opening"]),
            )
            for t in turns
            if "response_type" in t
        ),
        certified=row["certified"],
        prompt=tuple((t["role"], t["content"]) for t in turns[:first]),
        graded=row.get("answer", "") is not None,
        told=row.get("told", True),
        data=row.get("data", ""),
        lacks=row.get("setting") == "underspecified",
    )
