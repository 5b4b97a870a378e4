"""Figures from finished conversations; all scores 0 to 100.

For one instruction with scores of N runs (arXiv 2505.06120): P is their mean, A90 the 90th
percentile, U the 90th minus the 10th percentile (numpy's linear method). Each is then averaged
over instructions. Intervals are percentile bootstraps over instructions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from icpo_lite.conversation import Conversation
from icpo_lite.types import NON_ANSWERS, QUESTIONS, ResponseType

RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """A mean over instructions with its 95 % interval, in points."""

    value: float
    low: float
    high: float


def score_table(conversations: Iterable[Conversation]) -> np.ndarray:
    """Scores [instructions, runs], 0 to 100, instructions in order of first appearance."""
    rows: dict[str, list[float]] = defaultdict(list)
    for talk in conversations:
        rows[talk.problem.problem_id].append(100.0 * talk.score)
    return np.array(list(rows.values()))


def performance(scores: np.ndarray) -> np.ndarray:
    """P of each instruction from scores [instructions, runs]."""
    return scores.mean(axis=1)


def aptitude(scores: np.ndarray) -> np.ndarray:
    """A90 of each instruction."""
    return np.percentile(scores, 90, axis=1)


def unreliability(scores: np.ndarray) -> np.ndarray:
    """U of each instruction."""
    return np.percentile(scores, 90, axis=1) - np.percentile(scores, 10, axis=1)


def interval(values: np.ndarray, *, seed: int = 0) -> Figure:
    """Mean of one number an instruction, with a bootstrap interval over instructions."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(values), size=(RESAMPLES, len(values)))
    means = values[draws].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Figure(float(values.mean()), float(low), float(high))


def per_instruction(
    conversations: Sequence[Conversation], measure: Callable[[Conversation], float]
) -> np.ndarray:
    """Mean of `measure` over the runs of each instruction, times 100."""
    rows: dict[str, list[float]] = defaultdict(list)
    for talk in conversations:
        rows[talk.problem.problem_id].append(100.0 * measure(talk))
    return np.array([np.mean(row) for row in rows.values()])


def _first_type(talk: Conversation) -> ResponseType:
    verdict = talk.replies[0].verdict
    assert verdict is not None, "conversations are judged as they go"
    return verdict.response_type


def summarise(by_setting: Mapping[str, Sequence[Conversation]]) -> dict[str, Any]:
    """All figures of one model as JSON-able numbers; each setting's P keeps its values for pairing.

    Over-asking is read off FULL (everything was there), asking off `underspecified`.
    """
    out: dict[str, Any] = {"settings": {}, "rates": {}}
    for name, talks in by_setting.items():
        if name == "underspecified":
            continue
        scores = score_table(talks)
        out["settings"][name] = {
            "P": asdict(interval(performance(scores))),
            "A90": asdict(interval(aptitude(scores))),
            "U": asdict(interval(unreliability(scores))),
            "lucky": asdict(interval(per_instruction(talks, lambda t: float(t.lucky)))),
            "turns": float(np.mean([len(t.replies) for t in talks])),
            "scores": {
                pid: float(p)
                for pid, p in zip(
                    dict.fromkeys(t.problem.problem_id for t in talks),
                    performance(scores),
                    strict=True,
                )
            },
        }
    if asked := by_setting.get("underspecified"):
        out["rates"]["clarification_rate"] = _rate(asked, QUESTIONS)
        out["rates"]["non_answer_rate"] = _rate(asked, NON_ANSWERS)
        out["rates"]["targeted_rate"] = asdict(
            interval(per_instruction(asked, lambda t: float(bool(_targeted(t)))))
        )
    if whole := by_setting.get("full"):
        out["rates"]["over_asking_rate"] = _rate(whole, QUESTIONS)
    return out


def _rate(talks: Sequence[Conversation], types: frozenset[ResponseType]) -> dict[str, float]:
    return asdict(interval(per_instruction(talks, lambda t: float(_first_type(t) in types))))


def _targeted(talk: Conversation) -> bool | None:
    verdict = talk.replies[0].verdict
    return verdict.targeted if verdict else None


def paired_difference(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    """a minus b over the same instructions, with interval and instructions won and lost."""
    if a.keys() != b.keys():
        raise ValueError("paired figures need the same instructions on both sides")
    diff = np.array([a[k] - b[k] for k in a])
    return {
        **asdict(interval(diff)),
        "won": int((diff > 0).sum()),
        "lost": int((diff < 0).sum()),
    }
