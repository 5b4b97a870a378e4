"""From runs and judgements to charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from icpo_lite.tools.report.charts import (
    STEP,
    Chart,
    Interval,
    Point,
    Series,
    pool,
    smooth,
    thin,
    window_of,
)
from icpo_lite.tools.report.run_files import Judged, Judgement, Row, Run

#: Settings in the order of Lost in Conversation (arXiv 2505.06120), then ours.
SETTINGS = ("full", "concat", "sharded", "recap", "snowball", "clean_history")
FIFTHS = ("1st", "2nd", "3rd", "4th", "5th")
#: Of points and per cent, with room for the mark at 100.
PERCENT = (0.0, 104.0)
#: Figures of a setting that models are compared by: name, title, axis, caption.
BY_SETTING = (
    (
        "P",
        "Averaged performance",
        "setting",
        "Mean score over problems and runs, with 95 % intervals over problems.",
    ),
    (
        "U",
        "Unreliability",
        "setting (lower is better)",
        "90th minus 10th percentile of a problem's runs, averaged over problems.",
    ),
)
#: Settings whose conversations have a course, the most telling first.
_COURSES = ("sharded", "recap", "snowball")


@dataclass(frozen=True)
class Curve:
    """A metric of metrics.jsonl as a figure. share: logged 0 to 1, shown in per cent."""

    metric: str
    title: str
    unit: str
    caption: str = ""
    share: bool = False


CURVES = (
    Curve("reward", "Reward", "reward a response", "Mean over all responses of a step."),
    Curve("accuracy", "Accuracy", "% right", "Of the replies to complete prompts (q).", True),
    Curve(
        "clarification_rate",
        "Clarification",
        "% that ask",
        "Of the replies to underspecified prompts (q*): one or more questions.",
        True,
    ),
    Curve(
        "over_asking_rate",
        "Over-asking",
        "% that ask",
        "Of the replies to complete prompts: questions that nobody needed.",
        True,
    ),
    Curve(
        "entropy", "Entropy", "nats a token", "Mean over the sampled tokens that are trained on."
    ),
    Curve("completions/mean_length", "Length", "tokens a response"),
    Curve(
        "completions/clipped_ratio",
        "Cut off",
        "% of responses",
        "Responses that reached max_completion_length.",
        True,
    ),
    Curve(
        "clip_ratio/region_mean",
        "Clipped ratios",
        "% of tokens",
        "Tokens whose ratio left the clip range; 0 with one update a batch, where it is 1.",
        True,
    ),
    Curve(
        "frac_reward_zero_std",
        "Zero-variance groups",
        "% of groups",
        "Groups whose rewards are all equal: nothing is learned from them.",
        True,
    ),
    Curve("conversation/solved", "Solved", "% of conversations", "Right in the end.", True),
    Curve(
        "conversation/after_asking",
        "Solved after asking",
        "% of conversations",
        "Of those whose prompt lacked something: asked for it, and right once nothing lacked.",
        True,
    ),
    Curve("conversation/turns", "Turns", "replies a conversation"),
    Curve("loss", "Loss", "loss", "Near 0 by construction: advantages of a group add up to 0."),
)
#: Not worth a figure: constants of bookkeeping.
_UNDRAWN = frozenset({"step", "updates"})


def slots(runs: Sequence[Run], judgements: Sequence[Judgement]) -> dict[str, int]:
    """Name → colour: 0 for the base, the first run 1, the others in turn."""
    names = [run.name for run in runs]
    names += [model.name for judgement in judgements for model in reversed(judgement.models)]
    if judgements and runs:  # the judged model is the run, under whatever name
        names = [runs[0].name, *names]
    ordered = dict.fromkeys(name for name in names if name != "base")
    return {"base": 0, **{name: i for i, name in enumerate(ordered, start=1)}}


# ------------------------------------------------------------------------------ training


def training_charts(runs: Sequence[Run], colour: Mapping[str, int]) -> tuple[Chart, ...]:
    """The curves that everybody looks at, smoothed and raw."""
    charts = (_curve(curve, runs, colour) for curve in CURVES)
    return tuple(chart for chart in charts if not chart.empty)


def other_training_charts(runs: Sequence[Run], colour: Mapping[str, int]) -> tuple[Chart, ...]:
    """Everything else that was logged and ever changed."""
    shown = {curve.metric for curve in CURVES} | _UNDRAWN
    names = dict.fromkeys(name for run in runs for row in run.metrics for name in row)
    charts = (
        _curve(Curve(name, name, name.rsplit("/", 1)[-1]), runs, colour)
        for name in names
        if name not in shown and _varies(runs, name)
    )
    return tuple(chart for chart in charts if not chart.empty)


def _varies(runs: Sequence[Run], metric: str) -> bool:
    return len({row[metric] for run in runs for row in run.metrics if _is_number(row, metric)}) > 1


def _is_number(row: Row, metric: str) -> bool:
    value = row.get(metric)
    return isinstance(value, int | float) and not isinstance(value, bool)


def metric_points(run: Run, metric: str, scale: float = 1.0) -> tuple[Point, ...]:
    """(step, value) of the rows that hold the metric; of a step logged twice the later."""
    found = {
        float(row["step"]): scale * float(row[metric])
        for row in run.metrics
        if _is_number(row, metric)
    }
    return tuple(sorted(found.items()))


def _curve(curve: Curve, runs: Sequence[Run], colour: Mapping[str, int]) -> Chart:
    scale = 100.0 if curve.share else 1.0
    logged = {run.name: metric_points(run, curve.metric, scale) for run in runs}
    window = window_of(max(map(len, logged.values()), default=0))
    series = [
        Series(
            name, colour[name], thin(smooth(points, window)), raw=thin(points), logged=pool(points)
        )
        for name, points in logged.items()
        if points
    ]
    key = "curve-" + "".join(c if c.isalnum() else "-" for c in curve.metric)
    return Chart(
        key,
        curve.title,
        STEP,
        curve.unit,
        tuple(series),
        caption=curve.caption,
        window=window,
    )


# ------------------------------------------------------------------------------ the paper's


def entropy_chart(runs: Sequence[Run], colour: Mapping[str, int]) -> Chart | None:
    """Figure 4: entropy over training."""
    curve = Curve("entropy", "Entropy over training", "nats a token")
    chart = _curve(curve, runs, colour)
    if chart.empty:
        return None
    return Chart(
        "paper-entropy",
        "Entropy over training",
        chart.x_label,
        chart.y_label,
        chart.series,
        caption="After the paper's Figure 4. There RLVR falls to about 0.1 and ICPO stays near "
        "0.3 nats; levels of another model and vocabulary do not compare, the direction does.",
        y_range=(0.0, chart.y_bounds()[1]),
        window=chart.window,
    )


def paper_charts(number: int, judgement: Judgement, colour: Mapping[str, int]) -> tuple[Chart, ...]:
    """Figures 1 and 2: where first answers fall, who declines to answer when, and what it earns."""
    course = next(
        (
            c
            for c in _COURSES
            if any(_block(m, c, "first_answer_by_fifth") for m in judgement.models)
        ),
        None,
    )
    if course is None:
        return ()
    models = judgement.models
    where = course.upper()
    charts = (
        Chart(
            f"paper-{number}-first-answer",
            "First answer attempt",
            "fifth of the conversation",
            "% of conversations",
            tuple(_first_answers(m, course, colour) for m in models),
            caption=f"{where}: in which fifth of the conversation the first answer comes, and how "
            "many never give one. Bars of one colour add up to 100.",
            categories=(*FIFTHS, "never"),
            marks="bars",
        ),
        Chart(
            f"paper-{number}-non-answers",
            "Replies that are no answer attempt",
            "fifth of the conversation",
            "% of replies",
            tuple(_by_fifth(m, course, "non_answers_by_fifth", "share", colour) for m in models),
            caption=f"{where}: asking, discussing, hedging or refusing, by fifth of the "
            "conversation; bars are 95 % intervals over problems. A fifth without replies has "
            "no point.",
            categories=FIFTHS,
            marks="line",
            y_range=PERCENT,
        ),
        Chart(
            f"paper-{number}-accuracy",
            "Accuracy by first answer",
            "fifth of the first answer attempt",
            "P, points",
            tuple(
                _by_fifth(m, course, "accuracy_by_first_answer", "value", colour) for m in models
            ),
            caption=f"{where}: P of the conversations whose first answer falls in a fifth, with "
            "95 % intervals. Early answers are guesses; a model that waits knows more.",
            categories=FIFTHS,
            marks="dots",
            y_range=PERCENT,
        ),
    )
    return tuple(chart for chart in charts if not chart.empty)


def _block(model: Judged, setting: str, name: str) -> Any:
    return (model.summary["settings"].get(setting) or {}).get(name)


def _of_setting(name: str, model: Judged, setting: str) -> Row | None:
    found: Row | None = _block(model, setting, name)
    return found


def _first_answers(model: Judged, course: str, colour: Mapping[str, int]) -> Series:
    shares = _block(model, course, "first_answer_by_fifth") or []
    points = tuple((float(i), float(v)) for i, v in enumerate(shares) if v is not None)
    return Series(model.name, colour[model.name], points)


def _by_fifth(
    model: Judged, course: str, block: str, value: str, colour: Mapping[str, int]
) -> Series:
    figures = list(enumerate(_block(model, course, block) or []))
    return _figures_series(
        model.name, colour, [(float(i), figure) for i, figure in figures], value=value
    )


def _figures_series(
    name: str,
    colour: Mapping[str, int],
    figures: Sequence[tuple[float, Row | None]],
    value: str = "value",
) -> Series:
    """Values with intervals at places; what holds no value is left out."""
    held = [(x, figure) for x, figure in figures if figure and figure.get(value) is not None]
    points: tuple[Point, ...] = tuple((x, float(f[value])) for x, f in held)
    intervals: tuple[Interval, ...] = tuple(
        (x, float(f["low"]), float(f["high"]))
        for x, f in held
        if f.get("low") is not None and f.get("high") is not None
    )
    return Series(name, colour[name], points, intervals=intervals)


# ------------------------------------------------------------------------------ comparison


def comparison_charts(
    number: int, judgement: Judgement, colour: Mapping[str, int], differences: Sequence[Row]
) -> tuple[Chart, ...]:
    """P by setting, rates of asking, and paired differences, each with its intervals."""
    settings = settings_of(judgement)
    rates = {
        "clarification_rate": "asks on q*",
        "targeted_rate": "asks for what lacks",
        "non_answer_rate": "no answer on q*",
        "over_asking_rate": "over-asks on q",
    }
    held = [
        r for r in rates if any((m.summary.get("rates") or {}).get(r) for m in judgement.models)
    ]
    charts = (
        *(
            Chart(
                f"compare-{number}-{name.lower()}",
                f"{title} {name}",
                axis,
                "points of 100",
                _over(judgement, colour, settings, partial(_of_setting, name)),
                caption=caption,
                categories=tuple(s.replace("_", " ") for s in settings),
                marks="dots",
                y_range=PERCENT,
            )
            for name, title, axis, caption in BY_SETTING
        ),
        Chart(
            f"compare-{number}-rates",
            "Asking",
            "first reply",
            "% of replies",
            _over(judgement, colour, held, lambda m, r: (m.summary.get("rates") or {}).get(r)),
            caption="Questions where something is missing (q*: more is better) and where nothing "
            "is (q: fewer is better), with 95 % intervals.",
            categories=tuple(rates[r] for r in held),
            marks="dots",
            y_range=PERCENT,
        ),
        _difference_chart(number, judgement, colour, differences),
    )
    return tuple(chart for chart in charts if not chart.empty)


def settings_of(judgement: Judgement) -> list[str]:
    """Settings that some model was judged in: known ones in their order, then the others."""
    found = dict.fromkeys(s for m in judgement.models for s in m.summary["settings"])
    return [s for s in SETTINGS if s in found] + [s for s in found if s not in SETTINGS]


def _over(
    judgement: Judgement,
    colour: Mapping[str, int],
    places: Sequence[str],
    figure: Callable[[Judged, str], Row | None],
) -> tuple[Series, ...]:
    return tuple(
        _figures_series(
            model.name, colour, [(float(i), figure(model, p)) for i, p in enumerate(places)]
        )
        for model in judgement.models
    )


def _difference_chart(
    number: int, judgement: Judgement, colour: Mapping[str, int], differences: Sequence[Row]
) -> Chart:
    settings = list(dict.fromkeys(d["setting"] for d in differences))
    series = tuple(
        _figures_series(
            other,
            colour,
            [(float(settings.index(d["setting"])), d) for d in differences if d["other"] == other],
        )
        for other in judgement.compared
    )
    return Chart(
        f"compare-{number}-differences",
        f"{judgement.of} minus …",
        "setting",
        "points, paired",
        series,
        caption="Difference in P over the same problems, with 95 % intervals: above the dashed "
        f"line {judgement.of} is better.",
        categories=tuple(s.replace("_", " ") for s in settings),
        marks="dots",
        reference="zero",
    )
