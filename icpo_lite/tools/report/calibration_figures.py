"""From judgements to charts of calibration: whether a model knows when to ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from icpo_lite.tools.report.charts import Chart, Series
from icpo_lite.tools.report.run_files import Judgement

#: Rates that an ask_threshold moves: key, title, rate, caption.
BY_THRESHOLD = (
    (
        "under",
        "asks on q*",
        "asks_underspecified",
        "Asking where something is missing, by the threshold that chat and eval take.",
    ),
    (
        "over",
        "over-asks on q",
        "over_asks",
        "Asking where nothing is missing, by the same threshold.",
    ),
)


def calibration_charts(
    number: int, judgement: Judgement, colour: Mapping[str, int]
) -> tuple[Chart, ...]:
    """Reliability, risk against coverage, and what a threshold on P(ask) would do."""

    def series(block: str, x: str, y: str) -> Iterator[Series]:
        for model in judgement.models:
            rows = (model.summary.get("calibration") or {}).get(block) or []
            held = [r for r in rows if r.get(x) is not None and r.get(y) is not None]
            points = tuple(sorted((float(r[x]), float(r[y])) for r in held))
            if points:
                yield Series(model.name, colour[model.name], points)

    chart = partial(Chart, x_range=(0.0, 1.0), y_range=(0.0, 1.0))
    charts = (
        chart(
            f"calibration-{number}-reliability",
            "Reliability",
            "predicted probability of asking",
            "share that asked",
            tuple(series("reliability", "predicted", "observed")),
            caption="On the dashed line the model asks as often as its probabilities say.",
            reference="diagonal",
        ),
        chart(
            f"calibration-{number}-risk",
            "Risk and coverage",
            "share of answers kept (coverage)",
            "share wrong (risk)",
            tuple(series("risk_coverage", "coverage", "risk")),
            caption="Answers kept from the least to the most doubtful: a line that rises to the "
            "right says that doubt is where the errors are.",
        ),
        *(
            chart(
                f"calibration-{number}-threshold-{name}",
                f"Threshold: {title}",
                "ask_threshold",
                "share that asks",
                tuple(series("thresholds", "threshold", rate)),
                caption=caption,
            )
            for name, title, rate, caption in BY_THRESHOLD
        ),
    )
    return tuple(chart for chart in charts if not chart.empty)
