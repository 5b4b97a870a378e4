"""The same charts as PNG files, for papers and slides; needs matplotlib (extra `report`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import UsageError
from icpo_lite.tools.report.charts import Chart
from icpo_lite.tools.report.marks import Mark, marks_of

COLOURS = (
    *("#5b6470", "#0b5fa5", "#b8430b", "#00734f"),
    *("#8f4a83", "#7a5c00", "#1f7a8c", "#8c2d2d"),
)
DASHES = ((0, (5, 2)), "solid", (0, (7, 2, 2, 2)), (0, (2, 2)))
MARKERS = "os^D"


def write_pngs(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """One file a chart, `folder`/<key>.png, 200 dots an inch; returns the files.

    Raises UsageError where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "--png: expected matplotlib, found none; pip install 'icpo-lite[report]'"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for chart in charts:
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        _draw(chart, figure.add_subplot())
        files.append(folder / f"{chart.key}.png")
        figure.savefig(files[-1], dpi=200, metadata={"Software": "icpo-lite"})
    return files


def _draw(chart: Chart, axes: Any) -> None:
    drawn: dict[str, dict[str, Any]] = {}  # of each series one mark of a kind, for the legend
    for mark in marks_of(chart):
        artist = _mark(axes, mark)
        if mark.kind in ("line", "bar", "dot"):
            drawn.setdefault(mark.series, {}).setdefault(mark.kind, artist)
    if chart.categories:
        axes.set_xticks(range(len(chart.categories)), [_plain(c) for c in chart.categories])
    axes.set_xlim(*chart.x_bounds())
    axes.set_ylim(*chart.y_bounds())
    axes.set_title(_plain(chart.title), fontsize=10, loc="left")
    axes.set_xlabel(_plain(chart.x_label), fontsize=9)
    axes.set_ylabel(_plain(chart.y_label), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(chart.series) > 1:
        handles = [tuple(artists.values()) for artists in drawn.values()]
        axes.legend(handles, [_plain(name) for name in drawn], fontsize=8, frameon=False)


def _mark(axes: Any, mark: Mark) -> Any:
    """Draw a mark; returns matplotlib's object for it."""
    xs, ys = zip(*mark.points, strict=True)
    colour = COLOURS[mark.slot % len(COLOURS)]
    if mark.kind == "bar":
        return axes.bar(sum(xs) / 2, mark.value, width=xs[1] - xs[0], color=colour)
    styles: dict[str, dict[str, Any]] = {
        "reference": {"color": "#888888", "linewidth": 0.8, "linestyle": "--"},
        "raw": {"color": colour, "alpha": 0.25, "linewidth": 0.8},
        "line": {"color": colour, "linestyle": DASHES[mark.slot % len(DASHES)]},
        "whisker": {"color": colour, "linewidth": 1.2},
        "dot": {
            "color": colour,
            "linestyle": "none",
            "marker": MARKERS[mark.slot % len(MARKERS)],
            "markersize": 5,
        },
    }
    return axes.plot(xs, ys, **styles[mark.kind])[0]


def _plain(text: str) -> str:
    """Without matplotlib's own markup: a name with dollar signs is no formula."""
    return text.replace("$", r"\$")
