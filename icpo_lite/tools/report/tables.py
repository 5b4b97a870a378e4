"""The numbers behind the figures, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from icpo_lite.evaluation.metrics import paired_difference
from icpo_lite.tools.report.charts import number
from icpo_lite.tools.report.figures import CURVES, FIFTHS, metric_points, settings_of
from icpo_lite.tools.report.run_files import Judged, Judgement, Row, Run

#: Steps at either end of a run whose mean stands in the table of curves.
ENDS = 10
#: Share of replies that are no answer attempts by fifth, as the paper gives it (arXiv 2601.15330);
#: the base's second bin is printed 47 there, but its two halves then add to 110.
PAPER_NON_ANSWERS = {
    "base": (43, 37, 25, 21, 14),
    "RLVR": (37, 26, 20, 13, 9),
    "ICPO": (83, 62, 43, 23, 18),
}


@dataclass(frozen=True)
class Cell:
    """A value as text, and the interval that stands below it."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table. group: the heading it stands under."""

    group: str
    label: str
    cells: tuple[Cell, ...]


def comparison_lines(judgement: Judgement) -> list[Line]:
    """Every figure of every model; lines that no model holds are left out."""
    lines = []
    for setting in settings_of(judgement):
        group = setting.replace("_", " ").upper()
        measures: dict[str, str] = {"P": "P", "A90": "A90", "U": "U", "lucky": "of P lucky guesses"}
        for key, label in measures.items():
            lines.append(_line(group, label, judgement, ("settings", setting, key)))
        for key, label in (("turns", "turns"), ("tokens", "tokens"), ("entropy", "entropy, nats")):
            lines.append(_line(group, label, judgement, ("settings", setting, key)))
    rates = {
        "clarification_rate": "asks on q*, %",
        "targeted_rate": "asks for what lacks, %",
        "non_answer_rate": "no answer attempt on q*, %",
        "over_asking_rate": "over-asks on q, %",
    }
    for key, label in rates.items():
        lines.append(_line("Asking", label, judgement, ("rates", key)))
    auroc = ("calibration", "auroc")
    lines.append(_line("Calibration", "AUROC, q* from q", judgement, auroc, digits=2))
    return [line for line in lines if any(cell.value != "–" for cell in line.cells)]


def _line(
    group: str, label: str, judgement: Judgement, path: Sequence[str], digits: int = 1
) -> Line:
    return Line(group, label, tuple(_cell(_at(model, path), digits) for model in judgement.models))


def _at(model: Judged, path: Sequence[str]) -> Any:
    value: Any = model.summary
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _cell(figure: Any, digits: int) -> Cell:
    if isinstance(figure, int | float):
        return Cell(number(float(figure)))
    if not isinstance(figure, Mapping) or figure.get("value") is None:
        return Cell("–")
    value, low, high = (figure.get(key) for key in ("value", "low", "high"))
    form = f"{{:.{digits}f}}"
    known = low is not None and high is not None
    return Cell(form.format(value), f"{form.format(low)} to {form.format(high)}" if known else "")


def paired_differences(judgement: Judgement) -> tuple[list[dict[str, Any]], list[str]]:
    """P of the judged model minus each other's, a row a setting; and what cannot be paired."""
    own = judgement.get(judgement.of)
    rows, unpaired = [], []
    for other in judgement.compared:
        others = []
        for setting in settings_of(judgement):
            a = _at(own, ("settings", setting, "scores"))
            b = _at(judgement.get(other), ("settings", setting, "scores"))
            if not a or not b:
                continue
            if a.keys() != b.keys():
                others.append(setting.replace("_", " ").upper())
                continue
            found = paired_difference(a, b)
            equal = len(a) - int(found["won"]) - int(found["lost"])
            rows.append({"setting": setting, "other": other, "equal": equal, **found})
        if others:
            unpaired.append(f"{other} was judged on other problems in {', '.join(others)}")
    return rows, unpaired


def curve_lines(runs: Sequence[Run]) -> list[Line]:
    """Mean of the first and of the last steps of each curve."""
    lines = []
    for curve in CURVES:
        cells = []
        for run in runs:
            ys = [y for _, y in metric_points(run, curve.metric, 100.0 if curve.share else 1.0)]
            ends = mean_of_ends(ys)
            cells.append(Cell(f"{number(ends[0])} → {number(ends[1])}" if ends else "–"))
        if any(cell.value != "–" for cell in cells):
            lines.append(Line("", f"{curve.title}, {curve.unit}", tuple(cells)))
    return lines


def mean_of_ends(values: Sequence[float]) -> tuple[float, float] | None:
    """Means of the first and of the last steps; None where there is none."""
    return (fmean(values[:ENDS]), fmean(values[-ENDS:])) if values else None


def fifth_lines(judgement: Judgement) -> list[Line]:
    """The numbers of the paper's figures: a line a model and block, with n."""
    lines = []
    for model in judgement.models:
        for setting in settings_of(judgement):
            figures = model.summary["settings"].get(setting) or {}
            if len(figures.get("scores") or {}) == 0 or setting not in (
                "sharded",
                "snowball",
                "recap",
            ):
                continue
            name = setting.upper()
            first = figures.get("first_answer_by_fifth")
            if first:
                cells = tuple(Cell("–" if v is None else f"{v:.1f}") for v in first)
                lines.append(Line(f"{name} first answer, % of conversations", model.name, cells))
            for block, label, value in (
                ("non_answers_by_fifth", f"{name} no answer attempt, % of replies", "share"),
                ("accuracy_by_first_answer", f"{name} P by first answer, points", "value"),
            ):
                if rows := figures.get(block):
                    cells = tuple(_with_n(row, value) for row in rows)
                    lines.append(Line(label, model.name, (*cells, Cell(""))))
    return sorted(
        lines, key=lambda line: list(dict.fromkeys(x.group for x in lines)).index(line.group)
    )


def _with_n(row: Row | None, value: str) -> Cell:
    if not row or row.get(value) is None:
        return Cell("–")
    known = row.get("low") is not None and row.get("high") is not None
    interval = f"{row['low']:.0f} to {row['high']:.0f}, " if known else ""
    return Cell(f"{row[value]:.1f}", f"{interval}n {row.get('n', '?')}")


def fifth_header() -> tuple[str, ...]:
    return (*(f"{name} fifth" for name in FIFTHS), "never")


def recipe_differences(runs: Sequence[Run]) -> list[Line]:
    """Keys in which the runs' recipes differ."""
    flat = [dict(_flat(run.recipe)) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    return [
        Line("", key, tuple(Cell(_short(one.get(key, "–"))) for one in flat))
        for key in keys
        if key not in ("output_dir", "resume_from_checkpoint")
        and not key.startswith(("compare", "evaluation"))
        and len({repr(one.get(key)) for one in flat if one}) > 1
    ]


def differences_in_words(runs: Sequence[Run], most: int = 3) -> dict[str, str]:
    """Of each run but the first that has a recipe what its recipe says otherwise than the first's;
    for a legend."""
    lines = recipe_differences(runs)
    said = {}
    for place, run in enumerate(runs):
        own = [
            (line.label, line.cells[place].value)
            for line in lines
            if place and run.recipe and line.cells[place] != line.cells[0]
        ]
        words = [f"{key}: {value}" for key, value in own[:most]]
        words += [f"{len(own) - most} more"] if len(own) > most else []
        said[run.name] = ", ".join(words)
    return said


def _flat(value: Row, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found += _flat(item, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", item))
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"
