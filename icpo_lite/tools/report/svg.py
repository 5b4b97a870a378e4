"""Charts as inline SVG. Colours come from the page's style (classes s0 … s7), text is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from icpo_lite.tools.report.charts import STEP, Chart, Point, number, ticks
from icpo_lite.tools.report.marks import Mark, marks_of

WIDTH, HEIGHT = 360, 232
LEFT, TOP, BOTTOM = 42, 14, 40
#: Longest name written beside a line; the legend has it whole.
LABEL = 11
SLOTS = 8


class _Plane:
    """From the chart's numbers to places in the picture."""

    def __init__(self, chart: Chart) -> None:
        self.x_low, self.x_high = chart.x_bounds()
        self.y_low, self.y_high = chart.y_bounds()
        labelled = [_elided(s.name) for s in chart.series] if chart.marks == "line" else []
        self.right = WIDTH - 10 - (6 + 6.4 * max(map(len, labelled), default=0))

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(LEFT + share * (self.right - LEFT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def draw(chart: Chart) -> Markup:
    """The whole <svg>, with title and description for those who cannot see it."""
    plane = _Plane(chart)
    parts = [*_axes(chart, plane), *(_mark(plane, mark) for mark in marks_of(chart))]
    if chart.marks == "line":
        parts += _labels(chart, plane)
    head = Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-labelledby="{k}-t {k}-d" data-chart="{k}" '
        'data-plot="{l} {r} {t} {b}"><title id="{k}-t">{title}</title><desc id="{k}-d">{d}</desc>'
    ).format(
        w=WIDTH,
        h=HEIGHT,
        k=chart.key,
        l=LEFT,
        r=round(plane.right, 1),
        t=TOP,
        b=HEIGHT - BOTTOM,
        title=chart.title,
        d=described(chart),
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def described(chart: Chart) -> str:
    """The chart in words: what is against what, and where each line begins and ends."""
    said = [f"{chart.y_label} by {chart.x_label}."]
    for series in chart.series:
        if not series.points:
            continue
        if chart.categories:
            values = (f"{chart.categories[int(x)]} {number(y)}" for x, y in series.points)
            said.append(f"{series.name}: {', '.join(values)}.")
        else:
            (x0, y0), (x1, y1) = series.points[0], series.points[-1]
            said.append(
                f"{series.name}: from {number(y0)} at {number(x0)} to {number(y1)} at {number(x1)}."
            )
    return " ".join(said)


def _text(x: float, y: float, text: str, classes: str) -> Markup:
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(x, y, classes, text)


def _axes(chart: Chart, plane: _Plane) -> Iterator[Markup]:
    base = HEIGHT - BOTTOM
    for value in ticks(plane.y_low, plane.y_high):
        y = plane.y(value)
        yield Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, y, round(plane.right, 1))
        yield _text(LEFT - 5, y + 4, number(value), "tick end")
    yield Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, base, round(plane.right, 1))
    for i, name in enumerate(chart.categories):
        for line, word in enumerate(_two_lines(name)):
            yield _text(plane.x(i), base + 14 + 11 * line, word, "tick mid")
    if not chart.categories:
        for value in ticks(plane.x_low, plane.x_high, whole=chart.x_label == STEP):
            yield _text(plane.x(value), base + 14, number(value), "tick mid")
    middle = (LEFT + plane.right) / 2
    yield _text(round(middle, 1), HEIGHT - 3, chart.x_label, "label mid")


def _two_lines(name: str) -> list[str]:
    words = name.replace("_", " ").split(" ")
    half = (len(words) + 1) // 2
    return [" ".join(words[:half]), " ".join(words[half:])] if len(name) > 8 else [" ".join(words)]


def _mark(plane: _Plane, mark: Mark) -> Markup:
    slot = mark.slot % SLOTS
    places = [(plane.x(x), plane.y(y)) for x, y in mark.points]
    if mark.kind == "bar":
        (left, top), (right, base) = places
        return Markup(
            '<rect class="fill s{}" x="{}" y="{}" width="{}" height="{}">'
            "<title>{}: {}</title></rect>"
        ).format(
            slot,
            left,
            top,
            round(right - left, 1),
            round(max(base - top, 0.8), 1),
            mark.series,
            number(mark.value),
        )
    if mark.kind == "dot":
        return Markup('<path class="dot s{}" d="{}"><title>{}: {}</title></path>').format(
            slot, marker(slot, *places[0]), mark.series, number(mark.value)
        )
    if mark.kind == "whisker":
        (at, low), (_, high) = places
        return Markup('<path class="whisker s{}" d="M{} {}V{}"/>').format(slot, at, low, high)
    classes = {
        "reference": "reference",
        "raw": f"line raw s{slot}",
        "line": f"line s{slot} d{slot}",
    }
    drawn = Markup('<path class="{}" d="{}"/>').format(classes[mark.kind], _path(places))
    if mark.kind == "line":  # it may be smoothed anew
        drawn = drawn[:-2] + Markup(' data-series="{}"/>').format(mark.series)
    return drawn


def _path(places: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in places)


def marker(slot: int, x: float, y: float, size: float = 4.2) -> str:
    """Circle, square, triangle, diamond in turn: series differ by more than their colour."""
    r, w, h = size, size * 1.15, size * 1.25
    shapes = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r * 0.9:.1f} {y - r * 0.9:.1f}h{r * 1.8:.1f}v{r * 1.8:.1f}h{-r * 1.8:.1f}z",
        f"M{x:.1f} {y - h:.1f}l{w:.1f} {h * 1.6:.1f}h{-2 * w:.1f}z",
        f"M{x:.1f} {y - h:.1f}l{w:.1f} {h:.1f}l{-w:.1f} {h:.1f}l{-w:.1f} {-h:.1f}z",
    )
    return shapes[slot % len(shapes)]


def _labels(chart: Chart, plane: _Plane) -> Iterator[Markup]:
    """Names at the ends of their lines, moved apart where lines end close together."""
    ends = sorted(
        ((plane.y(series.points[-1][1]), series) for series in chart.series if series.points),
        key=lambda end: end[0],
    )
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + 12) if places else y)
    over = max((places[-1] if places else 0) - (HEIGHT - BOTTOM - 5), 0)
    for place, (_, series) in zip(places, ends, strict=True):
        at = round(max(place - over, TOP) + 4, 1)
        slot = series.slot % SLOTS
        yield _text(round(plane.right + 6, 1), at, _elided(series.name), f"name s{slot}")


def _elided(name: str) -> str:
    """Both ends of a long name: names of several runs begin alike."""
    half = LABEL // 2
    return name if len(name) <= LABEL else f"{name[:half].rstrip()}…{name[-half:].lstrip()}"


def sample(slot: int) -> Markup:
    """A piece of line with its marker, for legends."""
    slot %= SLOTS
    return Markup(
        '<svg class="sample" viewBox="0 0 34 12" aria-hidden="true"><path class="line s{0} d{0}" '
        'd="M1 6H33"/><path class="dot s{0}" d="{1}"/></svg>'
    ).format(slot, escape(marker(slot, 17, 6)))
