"""Figures from finished conversations; all scores and shares 0 to 100.

For one instruction with scores of N runs (arXiv 2505.06120): P is their mean, A90 the 90th
percentile, U the 90th minus the 10th percentile (numpy's linear method). Each is then averaged
over instructions. Intervals are bootstraps over instructions (`evaluation.intervals`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from icpo_lite.evaluation.intervals import Figure as Figure
from icpo_lite.evaluation.intervals import interval as interval
from icpo_lite.evaluation.intervals import ratio
from icpo_lite.evaluation.records import Record, Row, Said, read_row
from icpo_lite.evaluation.settings import SETTINGS

FIFTHS = range(5)


def score_table(records: Sequence[Record]) -> np.ndarray:
    """Scores [instructions, runs], 0 to 100, instructions in order of first appearance."""
    return 100.0 * np.array([[r.score for r in runs] for runs in _by_instruction(records)])


def performance(scores: np.ndarray) -> np.ndarray:
    """P of each instruction from scores [instructions, runs]."""
    return scores.mean(axis=1)


def aptitude(scores: np.ndarray) -> np.ndarray:
    """A90 of each instruction."""
    return np.percentile(scores, 90, axis=1)


def unreliability(scores: np.ndarray) -> np.ndarray:
    """U of each instruction."""
    return np.percentile(scores, 90, axis=1) - np.percentile(scores, 10, axis=1)


def _by_instruction(records: Sequence[Record]) -> list[list[Record]]:
    rows: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        rows[record.problem_id].append(record)
    return list(rows.values())


def _sums(records: Sequence[Record], measure: Callable[[Record], float]) -> np.ndarray:
    """Sum of `measure` over the runs of each instruction."""
    return np.array([sum(map(measure, runs)) for runs in _by_instruction(records)], dtype=float)


def share(
    records: Sequence[Record],
    part: Callable[[Record], float],
    whole: Callable[[Record], float] = lambda record: 1.0,
) -> Figure | None:
    """100 · sum of `part` / sum of `whole` over all runs; None where there is no whole."""
    return ratio(100.0 * _sums(records, part), _sums(records, whole))


def summarise(by_setting: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """All figures of one model as JSON-able numbers; each setting's P keeps its values for pairing.

    Over-asking is read off FULL (everything was there), asking off `underspecified`. What has no
    gold answer counts for the rates alone.
    """
    records = {name: [read_row(row) for row in rows] for name, rows in by_setting.items()}
    asked, whole = records.pop("underspecified", []), records.get("full", [])
    torn = records.pop("contradictory", [])
    kept = {name: [r for r in found if r.graded] for name, found in records.items()}
    graded = {name: found for name, found in kept.items() if found}
    return {
        "settings": {name: _setting(name, found) for name, found in graded.items()},
        "rates": _rates(asked, whole),
        **({"certified": _certified(asked)} if asked else {}),
        **({"contradictory": _contradictory(torn)} if torn else {}),
        **_tasks(graded),
        **_data_sets(asked, whole),
    }


def _data_sets(asked: Sequence[Record], whole: Sequence[Record]) -> dict[str, Any]:
    """The figures of each data set that was judged on prompts of its own."""
    names = list(dict.fromkeys(r.data for r in (*whole, *asked) if r.data))
    if not names:
        return {}
    out = {}
    for name in names:
        lacking = [r for r in asked if r.data == name]
        complete = [r for r in whole if r.data == name]
        graded = [r for r in complete if r.graded]
        accuracy = share(graded, lambda r: r.score) if graded else None
        out[name] = {
            "complete": len({r.problem_id for r in complete}),
            "underspecified": len({r.problem_id for r in lacking}),
            "graded": len({r.problem_id for r in graded}),
            **_rates(lacking, complete),
            "accuracy": _figure(accuracy),
        }
    return {"data": out}


def _tasks(records: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """P, A90 and U by task and setting, where there is more than one task."""
    tasks = list(dict.fromkeys(r.task for found in records.values() for r in found))
    if len(tasks) < 2:
        return {}
    return {
        "tasks": {
            task: {
                name: _headline(score_table(mine))
                for name, found in records.items()
                if (mine := [r for r in found if r.task == task])
            }
            for task in tasks
        }
    }


def _headline(scores: np.ndarray) -> dict[str, Any]:
    return {
        "P": asdict(interval(performance(scores))),
        "A90": asdict(interval(aptitude(scores))),
        "U": asdict(interval(unreliability(scores))),
    }


def _setting(name: str, records: Sequence[Record]) -> dict[str, Any]:
    scores = score_table(records)
    p = performance(scores)
    said = [reply for record in records for reply in record.replies]
    tokens = sum(reply.tokens for reply in said)
    # RECAP's closing turn comes after the conversation whose course the fifths describe.
    closing = bool(SETTINGS[name].continues)
    course = [replace(r, replies=r.replies[:-1]) for r in records] if closing else records
    return {
        **_headline(scores),
        "lucky": _figure(share(records, lambda r: r.lucky)),
        "turns": len(said) / len(records),
        "tokens": tokens / len(records),
        "entropy": _entropy(said, tokens),
        "scores": dict(
            zip(dict.fromkeys(r.problem_id for r in records), map(float, p), strict=True)
        ),
        "non_answers_by_fifth": _non_answers(course),
        "first_answer_by_fifth": _first_answers(course),
        "accuracy_by_first_answer": [_accuracy_after(course, fifth) for fifth in FIFTHS],
    }


def _entropy(said: Sequence[Said], tokens: int) -> float | None:
    """Nats a token; None where some reply's log-probs are not known."""
    known = [reply.nll for reply in said if reply.nll is not None]
    return sum(known) / max(tokens, 1) if len(known) == len(said) else None


def _figure(figure: Figure | None) -> dict[str, float] | None:
    return None if figure is None else asdict(figure)


def _non_answers(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each fifth the share of its `n` replies that try no answer (arXiv 2601.15330, Fig. 1)."""
    counts: dict[int, Counter[tuple[int, bool]]] = {
        id(record): Counter(
            (record.fifth(turn), said.attempts) for turn, said in enumerate(record.replies, start=1)
        )
        for record in records
    }

    def of(fifth: int) -> dict[str, Any]:
        def replies(record: Record) -> int:
            return counts[id(record)][fifth, True] + counts[id(record)][fifth, False]

        n = sum(map(replies, records))
        found = share(records, lambda r: counts[id(r)][fifth, False], replies)
        if found is None:
            return {"share": None, "low": None, "high": None, "n": 0}
        return {"share": found.value, "low": found.low, "high": found.high, "n": n}

    return [of(fifth) for fifth in FIFTHS]


def _first_answers(records: Sequence[Record]) -> list[float]:
    """Share of conversations by the fifth of their first answer attempt; the sixth never answer."""
    found = [_fifth_of_first(record) for record in records]
    return [100.0 * found.count(fifth) / len(found) for fifth in (*FIFTHS, None)]


def _fifth_of_first(record: Record) -> int | None:
    first = record.first_attempt
    return None if first is None else record.fifth(first)


def _accuracy_after(records: Sequence[Record], fifth: int) -> dict[str, Any] | None:
    """P of the conversations that first attempt an answer in a fifth."""
    chosen = [record for record in records if _fifth_of_first(record) == fifth]
    if not chosen:
        return None
    return {**asdict(_some(share(chosen, lambda r: r.score))), "n": len(chosen)}


def _some(figure: Figure | None) -> Figure:
    assert figure is not None, "a share of some conversations"
    return figure


# ------------------------------------------------------------------------------------------ asking


def _rates(asked: Sequence[Record], whole: Sequence[Record]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if asked:
        # Where some q* carry a certificate, only those count.
        sure = [r for r in asked if r.certified] or asked
        out["clarification_rate"] = _figure(share(sure, lambda r: r.replies[0].asks))
        out["non_answer_rate"] = _figure(share(sure, lambda r: r.replies[0].declines))
        out["targeted_rate"] = _figure(
            share(sure, lambda r: bool(r.replies[0].targeted), lambda r: float(r.told))
        )
    if whole:
        out["over_asking_rate"] = _figure(share(whole, lambda r: r.replies[0].asks))
    return out


def _contradictory(torn: Sequence[Record]) -> dict[str, Any]:
    """Of prompts that say a fact twice: how many replies decline, how many answer, and how many of
    these are what was right before (Concept Incongruence, arXiv 2505.14905)."""
    graded = [r for r in torn if r.graded]
    return {
        "instructions": len({r.problem_id for r in torn}),
        "abstention_rate": _figure(share(torn, lambda r: r.replies[0].declines)),
        "answer_rate": _figure(share(torn, lambda r: r.replies[0].attempts)),
        "conditional_accuracy": _figure(
            share(graded, lambda r: r.score, lambda r: float(r.replies[0].attempts))
        ),
    }


def _certified(asked: Sequence[Record]) -> dict[str, int]:
    """How many instructions have a certified q*, of how many; without any the rates are
    uncertified."""
    sure = {r.problem_id for r in asked if r.certified}
    return {"instructions": len(sure), "of": len({r.problem_id for r in asked})}


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
