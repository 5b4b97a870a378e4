"""A chart as the marks that it is drawn of, the same for every format that draws them.

Marks stand in the chart's own numbers, those of several series side by side, in the order in which
they are drawn: what comes later lies on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from icpo_lite.tools.report.charts import Chart, Point, Series

#: Part of a series' room that its bar fills.
BAR_FILLS = 0.88


@dataclass(frozen=True)
class Mark:
    """One thing that is drawn, at one or more points.

    reference: a dashed line that belongs to no series. raw: what a line was smoothed from.
    whisker: an interval, from its lower to its upper end. bar: its top left and bottom right
    corners. value: the y that a bar or a dot stands for.
    """

    kind: Literal["reference", "raw", "line", "bar", "whisker", "dot"]
    points: tuple[Point, ...]
    series: str = ""
    slot: int = 0
    value: float = 0.0


def marks_of(chart: Chart) -> Iterator[Mark]:
    """All marks of a chart: its reference, then one series after the other."""
    (left, right), (bottom, top) = chart.x_bounds(), chart.y_bounds()
    if chart.reference == "zero":
        yield Mark("reference", ((left, 0.0), (right, 0.0)))
    elif chart.reference == "diagonal":
        low, high = max(left, bottom), min(right, top)
        yield Mark("reference", ((low, low), (high, high)))
    for place, series in enumerate(chart.series):
        yield from _of_series(chart, place, series)


def _of_series(chart: Chart, place: int, series: Series) -> Iterator[Mark]:
    name, slot = series.name, series.slot
    points = tuple((chart.shifted(place, x), y) for x, y in series.points)
    if series.raw:
        yield Mark("raw", series.raw, name, slot)
    if chart.marks == "line" and len(points) > 1:
        yield Mark("line", points, name, slot)
    if chart.marks == "bars":
        half = chart.width * BAR_FILLS / 2
        for x, y in points:
            corners = ((x - half, max(y, 0.0)), (x + half, min(y, 0.0)))
            yield Mark("bar", corners, name, slot, y)
    for x, low, high in series.intervals:
        at = chart.shifted(place, x)
        yield Mark("whisker", ((at, low), (at, high)), name, slot)
    dotted = chart.marks == "dots" or bool(series.intervals) or len(points) == 1
    if dotted and chart.marks != "bars":
        for x, y in points:
            yield Mark("dot", ((x, y),), name, slot, y)
