"""P(ask) of the first replies of an evaluation, and the figures made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from icpo_lite.core.turns import with_opening
from icpo_lite.core.types import Message
from icpo_lite.evaluation.calibration import Asked, auroc_of, calibrate
from icpo_lite.evaluation.openings import DEPTH, Openings, learn
from icpo_lite.evaluation.records import Record, read_row
from icpo_lite.evaluation.runner import Evaluation

if TYPE_CHECKING:
    from icpo_lite.core.types import Problem


class AskProber(Protocol):
    """Who tells P(ask) (`ask_threshold.Prober`, `served_model.ServedProber`)."""

    @property
    def openings(self) -> Openings:
        """How the model's questions and answers begin."""
        ...

    def ask_probability(self, chats: Sequence[Sequence[Message]]) -> list[float]:
        """P(ask) of the next turn of each chat."""
        ...


def calibrated(
    result: Evaluation,
    problems: Sequence[Problem],
    system: Callable[[Problem], Message | None] | None,
    prober_of: Callable[[Openings], AskProber],
    decode: Callable[[Sequence[int]], str],
    prober: AskProber | None = None,
    depth: int = DEPTH,
) -> Evaluation:
    """The evaluation with P(ask) of the first replies and the figures made of it.

    Needs both q (FULL) and q*. Without a prober the openings are learned from the replies, `depth`
    tokens long at most: those of every second instruction, to be used on the others, and of all
    for later use. prober_of: scores such openings. decode: token ids to text, for the reader.
    """
    first = {"full": False, "underspecified": True}
    if not first.keys() <= result.rows.keys():
        return result
    opened = {p.problem_id: system(p) if system else None for p in problems}
    flat = [
        (name, index, read_row(row))
        for name in first
        for index, row in enumerate(result.rows[name])
    ]
    half = {problem_id: i % 2 for i, problem_id in enumerate(opened)}
    samples = [
        (half[r.problem_id], (r.replies[0].opening[:depth], r.replies[0].asks)) for *_, r in flat
    ]
    probability: dict[tuple[str, int], float] = {}
    for side in (0, 1):
        mine = [(name, i, r) for name, i, r in flat if half[r.problem_id] == side]
        others = [sample for at, sample in samples if at != side] or [s for _, s in samples]
        ask = prober or prober_of(learn(others))
        chats = [_chat(r, opened[r.problem_id]) for *_, r in mine]
        for (name, i, _), p in zip(mine, ask.ask_probability(chats), strict=True):
            probability[name, i] = p
    asked = [
        Asked(
            r.problem_id,
            first[name],
            probability[name, i],
            r.replies[0].asks,
            _right(r),
            r.data,
        )
        for name, i, r in flat
        if r.certified
    ]
    found = prober.openings if prober else learn([s for _, s in samples])
    block = {**calibrate(asked), "openings": found.as_json(decode)} if asked else None
    if block and prober:
        block["reliability"] = []  # replies that were made to ask say nothing about P(ask)
    judged = {
        name: [_with_probability(row, probability[name, i]) for i, row in enumerate(found_rows)]
        if name in first
        else found_rows
        for name, found_rows in result.rows.items()
    }
    figures = result.summary.get("data", {})
    named = dict.fromkeys(p.columns.get("dataset") for p in problems)  # in their own order
    data = {
        name: {**figures[name], "auroc": auroc_of([a for a in asked if a.data == name])}
        for name in named
        if name in figures
    }
    summary = {**result.summary, "calibration": block, **({"data": data} if data else {})}
    return replace(result, rows=judged, summary=summary)


def _right(record: Record) -> bool | None:
    """Whether the first reply is right; None for no answer, and where no gold one tells."""
    first = record.replies[0]
    if not first.attempts or (not record.graded and first.correct is None and not record.lacks):
        return None
    return bool(first.correct)


def _chat(record: Record, system: Message | None) -> tuple[Message, ...]:
    """What the policy read before its first reply."""
    said = [Message(role, content) for role, content in record.prompt]  # type: ignore[arg-type]
    return with_opening(said, system)


def _with_probability(row: Mapping[str, Any], probability: float) -> dict[str, Any]:
    """The line with P(ask) at its first judged reply."""
    turns = [dict(turn) for turn in row["turns"]]
    next(t for t in turns if "response_type" in t)["ask_probability"] = probability
    return {**row, "turns": turns}
