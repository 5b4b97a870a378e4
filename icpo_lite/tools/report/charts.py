"""What a figure shows, apart from how it is drawn; and the arithmetic that figures share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Point = tuple[float, float]
#: x, lower and upper end.
Interval = tuple[float, float, float]

#: What runs along the foot of a curve of training: whole numbers.
STEP = "training step"
#: Points of one line that are drawn at most; more would only make the file larger.
MOST_POINTS = 400
#: Points of one line that a page holds to smooth them anew.
MOST_LOGGED = 2000


@dataclass(frozen=True)
class Series:
    """One model's or run's part of a figure.

    slot: its colour, dash and marker, the same for a name in all figures of a report.
    raw: what `points` were smoothed from. intervals: drawn behind the points. logged: all that was
    logged, for smoothing it otherwise.
    """

    name: str
    slot: int
    points: tuple[Point, ...]
    raw: tuple[Point, ...] = ()
    intervals: tuple[Interval, ...] = ()
    logged: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Chart:
    """One figure. categories: names of x = 0, 1, …; without them x is a number.

    reference: a dashed line from corner to corner of the data's range, or along y = 0. window:
    points that a smoothed one is the mean of.
    """

    key: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    caption: str = ""
    categories: tuple[str, ...] = ()
    marks: Literal["line", "dots", "bars"] = "line"
    y_range: tuple[float, float] | None = None
    x_range: tuple[float, float] | None = None
    reference: Literal["diagonal", "zero"] | None = None
    window: int = 1

    @property
    def empty(self) -> bool:
        return not any(series.points for series in self.series)

    def y_bounds(self) -> tuple[float, float]:
        """The range of y, of all that is drawn where none is given."""
        if self.y_range:
            return self.y_range
        values = [y for s in self.series for _, y in (*s.points, *s.raw)]
        values += [end for s in self.series for _, *ends in s.intervals for end in ends]
        values += [0.0] if self.marks == "bars" or self.reference == "zero" else []
        return _widened(min(values, default=0.0), max(values, default=1.0))

    def x_bounds(self) -> tuple[float, float]:
        if self.x_range:
            return self.x_range
        if self.categories:
            return -0.5, len(self.categories) - 0.5
        values = [x for s in self.series for x, _ in (*s.points, *s.raw)]
        low, high = min(values, default=0.0), max(values, default=1.0)
        return (low, high) if high > low else (low - 1, high + 1)

    def shifted(self, number: int, x: float) -> float:
        """Where the `number`th series stands at category x, so that series stand side by side."""
        return x + (number - (len(self.series) - 1) / 2) * self.width if self.categories else x

    @property
    def width(self) -> float:
        """Room of one series beside the others, in categories."""
        most = {"bars": 0.5, "dots": 0.22, "line": 0.07}[self.marks]
        return min(0.8 / max(len(self.series), 1), most)


def _widened(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    return (low if low == 0 else low - room), high + room


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """About `count` round numbers inside [low, high]: 1, 2, 2.5 or 5 times a power of ten apart.

    whole: integers alone, as steps are.
    """
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.9)
    if whole:
        step = math.ceil(step)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def window_of(count: int) -> int:
    """Points that a smoothed point is the mean of: about a tenth, odd, at most 51."""
    return min(max(count // 10, 1), 51) | 1


def smooth(points: Sequence[Point], window: int) -> tuple[Point, ...]:
    """Each y as the mean of the `window` points around it, of fewer at the ends."""
    half = window // 2
    out = []
    for i, (x, _) in enumerate(points):
        near = points[max(i - half, 0) : i + half + 1]
        out.append((x, fmean(y for _, y in near)))
    return tuple(out)


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """At most `most` points that keep every peak: the lowest and the highest of each stretch."""
    if len(points) <= most:
        return tuple(points)
    stretches = max((most - 2) // 2, 1)
    kept = {0, len(points) - 1}
    for k in range(stretches):
        part = range(k * len(points) // stretches, (k + 1) * len(points) // stretches)
        kept |= {min(part, key=lambda i: points[i][1]), max(part, key=lambda i: points[i][1])}
    return tuple(points[i] for i in sorted(kept))


def pool(points: Sequence[Point], most: int = MOST_LOGGED) -> tuple[Point, ...]:
    """At most `most` points: means of as many equal stretches, so that means of them stay right."""
    size = -(-len(points) // most) or 1
    if size == 1:
        return tuple(points)
    parts = (points[i : i + size] for i in range(0, len(points), size))
    return tuple((fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts)


def number(value: float) -> str:
    """As short as it can be read: 1,200; 12.3; 0.04; 2e-06."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.1g}"
    return f"{value:.3g}"
