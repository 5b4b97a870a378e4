"""Figures of several models side by side: rows, remarks, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from icpo_lite.evaluation.metrics import paired_difference


def comparison_rows(
    summaries: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the comparison table: one column a model, "P [low, high]" in a cell."""
    names = list(summaries)
    rows = []
    for label, path, form in (*LINES, *_task_lines(summaries)):
        figures = [figure_at(summaries[name], path) for name in names]
        if any(figure is not None for figure in figures):
            rows.append([label, *("-" if f is None else _cell(form, f) for f in figures)])
    for label, path, form in _NUMBERS:
        numbers = [figure_at(summaries[name], path) for name in names]
        if any(number is not None for number in numbers):
            rows.append([label, *("-" if n is None else form.format(n) for n in numbers)])
    return ["", *names], rows


def judged_problems(summary: Mapping[str, Any]) -> str:
    """How many problems the figures come from: "1 problem", fewer than were asked for where the
    data have no more."""
    held = [len(s["scores"]) for s in summary.get("settings", {}).values() if s.get("scores")]
    count = max(held, default=(summary.get("judged_with") or {}).get("problems", "?"))
    return f"{count} problem{'' if count == 1 else 's'}"


def data_rows(name: str, summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of one model's figures by data set, one row each."""
    header = [name, "q", "q*", *(label for label, *_ in _OF_DATA)]
    rows = []
    for data, figures in summary.get("data", {}).items():
        cells = [figures.get(key) for _, key, _ in _OF_DATA]
        shown = [
            "-" if f is None else _cell(form, f)
            for f, (*_, form) in zip(cells, _OF_DATA, strict=True)
        ]
        rows.append([data, str(figures["complete"]), str(figures["underspecified"]), *shown])
    return header, rows


def _cell(form: str, figure: Mapping[str, float]) -> str:
    """A figure in its form; 0.95 as .95, so that it is no wider than points are."""
    text = form.format(**figure)
    return text.replace("0.", ".") if form == _OF_ONE else text


def fitting(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> Iterator[tuple[list[str], list[list[str]]]]:
    """The table in as many pieces as `width` characters ask for, each with the first column."""
    widths = [max(len(row[i]) for row in (header, *rows)) + 2 for i in range(len(header))]
    at = 1
    while at < len(header):
        end = at + 1
        while end < len(header) and widths[0] + sum(widths[at : end + 1]) <= width:
            end += 1
        yield [header[0], *header[at:end]], [[row[0], *row[at:end]] for row in rows]
        at = end


def remarks(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What must be said with the table."""
    counts = [s["certified"] for s in summaries.values() if "certified" in s]
    lines = []
    if counts and not counts[0]["instructions"]:
        lines.append(
            "uncertified: nothing proves that these q* need a question; facts were left out at "
            "random, so take the rates of asking as an indication"
        )
    elif counts and counts[0]["instructions"] < counts[0]["of"]:
        lines.append(
            f"rates of asking on q* are those of the {counts[0]['instructions']} of "
            f"{counts[0]['of']} problems with a certified one"
        )
    return lines


def _task_lines(
    summaries: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """A line for each setting of each task, where there is more than one task."""
    tasks = {
        task: settings for s in summaries.values() for task, settings in s.get("tasks", {}).items()
    }
    for task, settings in tasks.items():
        for name in settings:
            yield f"{task} {name.upper()} P", ("tasks", task, name, "P"), POINTS


def differences(summaries: Mapping[str, Mapping[str, Any]], of: str) -> list[str]:
    """One line a setting and other: `of` minus the other over the same instructions."""
    lines = []
    for other in summaries:
        if other == of:
            continue
        for setting, figures in summaries[of]["settings"].items():
            if setting not in _PAIRED or setting not in summaries[other]["settings"]:
                continue
            others = summaries[other]["settings"][setting]["scores"]
            if figures["scores"].keys() != others.keys():
                lines.append(f"{setting.upper()} {of} - {other}: judged on other problems")
                continue
            d = paired_difference(figures["scores"], others)
            lines.append(
                f"{setting.upper()} {of} - {other}: {d['value']:+.1f} "
                f"[{d['low']:+.1f}, {d['high']:+.1f}], {d['won']} problems won, {d['lost']} lost"
            )
    return lines


#: Settings whose paired differences are shown.
_PAIRED = ("full", "concat", "sharded", "recap", "snowball")


_OF_ONE = "{value:.2f} [{low:.2f}, {high:.2f}]"


POINTS = "{value:.1f} [{low:.0f}, {high:.0f}]"


LINES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("FULL P", ("settings", "full", "P"), POINTS),
    ("CONCAT P", ("settings", "concat", "P"), POINTS),
    ("SHARDED P", ("settings", "sharded", "P"), POINTS),
    ("SHARDED A90", ("settings", "sharded", "A90"), POINTS),
    ("SHARDED U", ("settings", "sharded", "U"), POINTS),
    ("of P lucky guesses", ("settings", "sharded", "lucky"), POINTS),
    ("RECAP P", ("settings", "recap", "P"), POINTS),
    ("SNOWBALL P", ("settings", "snowball", "P"), POINTS),
    ("clean history P", ("settings", "clean_history", "P"), POINTS),
    ("asks on q*", ("rates", "clarification_rate"), POINTS),
    ("asks for what lacks", ("rates", "targeted_rate"), POINTS),
    ("over-asks on q", ("rates", "over_asking_rate"), POINTS),
    ("declines a contradiction", ("contradictory", "abstention_rate"), POINTS),
    ("answers it", ("contradictory", "answer_rate"), POINTS),
    ("of these as before", ("contradictory", "conditional_accuracy"), POINTS),
    ("AUROC of q* against q", ("calibration", "auroc"), _OF_ONE),
)


#: Figures of one data set that has prompts of its own.
_OF_DATA: tuple[tuple[str, str, str], ...] = (
    ("asks on q*", "clarification_rate", POINTS),
    ("for what lacks", "targeted_rate", POINTS),
    ("over-asks on q", "over_asking_rate", POINTS),
    ("AUROC", "auroc", _OF_ONE),
    ("right on q", "accuracy", POINTS),
)
#: Figures without an interval.
_NUMBERS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("never answers, of 100", ("settings", "sharded", "first_answer_by_fifth", "5"), "{:.1f}"),
    ("SHARDED turns", ("settings", "sharded", "turns"), "{:.2f}"),
    ("SHARDED tokens", ("settings", "sharded", "tokens"), "{:.0f}"),
    ("entropy FULL", ("settings", "full", "entropy"), "{:.3f}"),
    ("entropy SHARDED", ("settings", "sharded", "entropy"), "{:.3f}"),
)


def figure_at(summary: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = summary
    for key in path:
        value = value[int(key)] if isinstance(value, list) else value.get(key)
        if value is None:
            return None
    return value
