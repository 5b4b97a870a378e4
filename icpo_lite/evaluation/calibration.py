"""Does the model know when to ask? Figures from its probability of asking (METHOD.md, section 4).

P(ask) is that of the first reply: for a chat, the probability under the policy that its next turn
opens as its questions do (`evaluation.openings`, scored by the log-prob op). It is a number for
each prompt, without the noise of a few sampled replies, and can be set against a threshold before
anything is sampled.

    AUROC          a q* drawn at random gets a higher P(ask) than a q; interval over instructions,
                   whose q and q* are drawn together
    reliability    P(ask) in tenths against the share of sampled replies that did ask; empty where
                   an `ask_threshold` made replies ask
    risk_coverage  answer attempts of q and q* together, kept from the lowest P(ask) on: coverage is
                   the share kept, risk the share of those that is wrong
    thresholds     what `ask_threshold` t makes of the asking rates: a prompt above t asks, one
                   below asks as often as before
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from icpo_lite.evaluation.intervals import Figure, between, draws

# Fine below 0.05: there lies every prompt of a model that hardly asks.
THRESHOLDS = (0.001, 0.002, 0.005, 0.01, 0.02, *(round(0.05 * k, 2) for k in range(1, 20)))
TENTHS = 10
#: Points of the risk-coverage curve.
POINTS = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """One first reply. lacks: whether its prompt is a q*. correct: None for a non-answer.

    data: the data set, where the prompts are its own.
    """

    problem_id: str
    lacks: bool
    probability: float
    asks: bool
    correct: bool | None
    data: str = ""


def calibrate(replies: Sequence[Asked]) -> dict[str, Any]:
    """The `calibration` block of eval.json; all numbers 0 to 1."""
    p = np.array([r.probability for r in replies])
    lacks = np.array([r.lacks for r in replies])
    asks = np.array([r.asks for r in replies], dtype=float)
    return {
        "auroc": auroc_of(replies),
        "reliability": reliability(p, asks),
        "risk_coverage": risk_coverage(replies),
        "thresholds": [_at_threshold(t, p, lacks) for t in THRESHOLDS],
        "mean_ask_probability": {
            "underspecified": _mean(p[lacks]),
            "complete": _mean(p[~lacks]),
        },
        "asked": {"underspecified": _mean(asks[lacks]), "complete": _mean(asks[~lacks])},
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def auroc(replies: Sequence[Asked]) -> Figure | None:
    """P(p of a q* > p of a q) + half of P(equal), 0 to 1; None without one of the two."""
    names = list(dict.fromkeys(r.problem_id for r in replies))
    place = {name: i for i, name in enumerate(names)}
    index = np.array([place[r.problem_id] for r in replies])
    p = np.array([r.probability for r in replies])
    lacks = np.array([r.lacks for r in replies])
    if lacks.all() or not lacks.any():
        return None
    wins, pairs = _pairs(p[lacks], index[lacks], p[~lacks], index[~lacks], len(names))
    counts = np.stack([np.bincount(row, minlength=len(names)) for row in draws(len(names), 0)])
    below = ((counts @ pairs) * counts).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = ((counts @ wins) * counts).sum(axis=1) / below
    return Figure(float(wins.sum() / pairs.sum()), *between(resampled, len(names)))


def auroc_of(replies: Sequence[Asked]) -> dict[str, float] | None:
    """The AUROC as JSON has it; None without one of the two kinds."""
    found = auroc(replies) if replies else None
    return None if found is None else asdict(found)


def _pairs(
    above: np.ndarray, above_at: np.ndarray, below: np.ndarray, below_at: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Won and all pairs [instructions, instructions] of a q* (row) and a q (column)."""
    below_n = np.bincount(below_at, minlength=count).astype(float)
    wins, pairs = np.zeros((count, count)), np.zeros((count, count))
    for value, at in zip(above, above_at, strict=True):
        won = (value > below) + 0.5 * (value == below)
        wins[at] += np.bincount(below_at, weights=won, minlength=count)
        pairs[at] += below_n
    return wins, pairs


def reliability(p: np.ndarray, asks: np.ndarray) -> list[dict[str, Any]]:
    """Mean P(ask) and share that asked, by tenths of P(ask); empty tenths are left out."""
    tenth = np.minimum((p * TENTHS).astype(int), TENTHS - 1)
    return [
        {
            "predicted": float(p[tenth == k].mean()),
            "observed": float(asks[tenth == k].mean()),
            "n": int((tenth == k).sum()),
        }
        for k in range(TENTHS)
        if (tenth == k).any()
    ]


def risk_coverage(replies: Sequence[Asked]) -> list[dict[str, float]]:
    """Share wrong among the answer attempts with the lowest P(ask), by the share kept."""
    tried = sorted((r.probability, not r.correct) for r in replies if r.correct is not None)
    if not tried:
        return []
    p = np.array([probability for probability, _ in tried])
    wrong = np.cumsum([w for _, w in tried])
    # Attempts of equal P(ask) cannot be told apart: a point lies behind the last of them.
    ends = np.flatnonzero(np.append(p[1:] > p[:-1], True)) + 1
    wanted = np.ceil(np.arange(1, POINTS + 1) * len(p) / POINTS).astype(int)
    kept = sorted({int(ends[np.searchsorted(ends, n)]) for n in wanted})
    return [{"coverage": n / len(p), "risk": float(wrong[n - 1] / n)} for n in kept]


def _at_threshold(t: float, p: np.ndarray, lacks: np.ndarray) -> dict[str, Any]:
    asking = np.where(p > t, 1.0, p)
    return {
        "threshold": t,
        "asks_underspecified": _mean(asking[lacks]),
        "over_asks": _mean(asking[~lacks]),
    }
