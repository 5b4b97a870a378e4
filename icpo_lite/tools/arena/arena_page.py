"""The arena as one HTML file: its table, the arms' curves, and a conversation of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from icpo_lite import __version__
from icpo_lite.core.files import json_rows, read_metrics, write_atomically
from icpo_lite.core.visible_text import visible
from icpo_lite.tools.arena.arena_results import (
    ARENA_HEAD,
    BASE,
    Results,
    arena_rows,
    cell,
    gains,
    title_of,
)
from icpo_lite.tools.report import svg
from icpo_lite.tools.report.charts import Chart, Series, smooth, thin, window_of

_HOMES = ("arena", "report")
#: Curves over the sampled tokens: metric, title, what it is in, factor.
CURVES = (
    ("conversation/solved", "Conversations solved", "% of a step's conversations", 100.0),
    ("clarification_rate", "Asks where something lacks", "% of first replies", 100.0),
    ("accuracy", "Right on whole prompts", "% of first replies", 100.0),
    ("entropy", "Entropy", "nats a token", 1.0),
    ("distill/kl", "Distance from the teacher", "nats a taught token", 1.0),
    ("grad_norm", "Gradient norm", "", 1.0),
)
#: Most conversations of an arm that are looked at for one that all arms led.
_LOOKED_AT = 2000


@dataclass(frozen=True)
class Shown:
    """One arm's conversation on the problem that is shown of all. said: (role, text, remark)."""

    arm: str
    ending: str
    said: tuple[tuple[str, str, str], ...]


def write_page(
    output: Path,
    text: str,
    results: Results,
    runs: Mapping[str, Path],
    judged: Mapping[str, Path],
) -> None:
    """Write the page.

    text: the report in Markdown, whose first lines say how it was made. runs: an arm's run whose
    curves are drawn. judged: the folder of an arm's judgement, whose conversations are read.
    """
    title, _, facts = text.partition("\n\n")
    slots = {arm: i % svg.SLOTS for i, arm in enumerate(results.models)}
    answer, talks = _conversations(judged)
    environment = Environment(
        # The report's style is this page's too.
        loader=ChoiceLoader([PackageLoader(f"icpo_lite.tools.{name}") for name in _HOMES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"draw": svg.draw, "sample": svg.sample}
    page = environment.get_template("arena.html").render(
        title=title.removeprefix("# "),
        facts=facts.partition("\n\n")[0],
        version=__version__,
        head=ARENA_HEAD,
        splits={split: list(arena_rows(results, split)) for split in results.parts},
        gains={split: gains(results, split) for split in results.parts},
        legend=[(title_of(arm), slots[arm]) for arm in results.models],
        charts=[*_reached(results, slots), *_curves(runs, slots)],
        answer=answer,
        talks=talks,
    )
    write_atomically(output, visible(page).encode())


def _reached(results: Results, slots: Mapping[str, int]) -> Iterator[Chart]:
    """FULL and SHARDED of every arm, with their intervals, as the first split shows them."""
    split = next(iter(results.parts))
    series = []
    for arm in results.models:
        found = [cell(results, split, arm, ("settings", s, "P")) for s in ("full", "sharded")]
        points = [(float(x), c.value) for x, c in enumerate(found) if c]
        ends = [(float(x), c.low, c.high) for x, c in enumerate(found) if c]
        series.append(Series(title_of(arm), slots[arm], tuple(points), intervals=tuple(ends)))
    yield Chart(
        "reached",
        f"Score on {split}",
        "",
        "points, 95 % interval over problems",
        tuple(series),
        categories=("FULL", "SHARDED"),
        marks="dots",
        y_range=(0.0, 100.0),
    )


def _curves(runs: Mapping[str, Path], slots: Mapping[str, int]) -> Iterator[Chart]:
    """Metrics of each arm's run over the tokens that it had sampled."""
    rows = {arm: read_metrics(run) for arm, run in runs.items()}
    for metric, title, unit, factor in CURVES:
        series = []
        for arm, own in rows.items():
            spent = accumulate(float(row.get("tokens/sampled") or 0.0) for row in own)
            points = [
                (tokens / 1000, factor * float(row[metric]))
                for tokens, row in zip(spent, own, strict=True)
                if isinstance(row.get(metric), int | float)
            ]
            if points:
                smoothed = smooth(points, window_of(len(points)))
                series.append(Series(title_of(arm), slots[arm], thin(smoothed)))
        chart = Chart(
            "curve-" + metric.replace("/", "-").replace("_", "-"),
            title,
            "thousand sampled tokens",
            unit,
            tuple(series),
        )
        if not chart.empty:
            yield chart


def _conversations(judged: Mapping[str, Path]) -> tuple[str, list[Shown]]:
    """(the answer, one conversation of each arm on the same problem), in SHARDED.

    That one where most arms differ from the base: a problem that all solve shows nothing.
    """
    rows = {arm: _sharded(place) for arm, place in judged.items()}
    common = set.intersection(*(set(own) for own in rows.values())) if rows else set()
    if not common:
        return "", []
    reference = rows.get(BASE, next(iter(rows.values())))

    def differs(key: tuple[str, int]) -> tuple[int, int, tuple[str, int]]:
        gained = sum(own[key]["score"] > reference[key]["score"] for own in rows.values())
        return -gained, -len(reference[key]["shards"]), key

    chosen = min(common, key=differs)
    led = {arm: own[chosen] for arm, own in rows.items()}
    shown = [Shown(title_of(arm), _ending(row), _said(row)) for arm, row in led.items()]
    return str(reference[chosen].get("answer", "")), shown


def _sharded(place: Path) -> dict[tuple[str, int], Mapping[str, Any]]:
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    for file in sorted(place.glob("*/conversations.jsonl")):
        for row in json_rows(file, "setting", "problem_id"):
            if row["setting"] == "sharded" and len(found) < _LOOKED_AT:
                found[row["problem_id"], row["run"]] = row
    return found


def _ending(row: Mapping[str, Any]) -> str:
    return "right" if row["score"] >= 1 else "wrong"


def _said(row: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (turn["role"], turn["content"], str(turn.get("response_type", "")).replace("_", " "))
        for turn in _turns(row)
    )


def _turns(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    turns: Sequence[Mapping[str, Any]] = row.get("turns") or ()
    return turns
