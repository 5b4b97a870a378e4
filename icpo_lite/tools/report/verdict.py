"""What the figures come to, in plain words: better, worse, or not to be told apart."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from icpo_lite.evaluation.table import judged_problems
from icpo_lite.tools.report.figures import metric_points
from icpo_lite.tools.report.run_files import Judged, Judgement, Row, Run
from icpo_lite.tools.report.tables import ENDS, mean_of_ends

#: Fewer problems than these say little, whatever their intervals.
FEW_PROBLEMS = 30
#: … and fewer than these nothing: the interval of one problem has no width at all.
LEAST_PROBLEMS = 5

Kind = Literal["better", "worse", "unclear", "unknown", "plain"]


@dataclass(frozen=True)
class Measure:
    """A figure that decides. words: the sentence about its value, after "asks" or "solves".

    sign: 1 where more is better, -1 where less is. setting: whose P it is; "" for a rate.
    """

    name: str
    words: str
    path: tuple[str, ...]
    sign: int = 1
    setting: str = ""
    unit: str = " %"


MEASURES = (
    Measure("asking", "asks {} where something is missing", ("rates", "clarification_rate")),
    Measure("asking for what lacks", "asks for what lacks in {}", ("rates", "targeted_rate")),
    Measure(
        "needless asking", "asks {} where nothing is missing", ("rates", "over_asking_rate"), -1
    ),
    Measure(
        "SHARDED",
        "solves {} when told one fact a turn (SHARDED)",
        ("settings", "sharded", "P"),
        setting="sharded",
    ),
    Measure(
        "FULL",
        "solves {} when told everything at once (FULL)",
        ("settings", "full", "P"),
        setting="full",
    ),
)


@dataclass(frozen=True)
class Claim:
    """One sentence, and what it says of the model."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Verdict:
    """A judgement in words. headlines: a sentence a rival. claims: figure by figure, against the
    first of them. caveats: what else must be known to believe it."""

    title: str
    headlines: tuple[Claim, ...]
    claims: tuple[Claim, ...]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """A measure of the judged model beside another's. change: own minus other's, None where
    nothing can be told of it; lacks: what it would take."""

    measure: Measure
    own: Row
    other: Row | None
    change: Row | None
    lacks: str = "intervals"

    @property
    def kind(self) -> Kind:
        if self.other is None:
            return "plain"
        if self.change is None:
            return "unknown"
        low, high = self.change["low"], self.change["high"]
        if low <= 0 <= high:
            return "unclear"
        return "better" if (low > 0) == (self.measure.sign > 0) else "worse"


def verdicts(
    judgements: Sequence[Judgement], differences: Sequence[Sequence[Row]], runs: Sequence[Run]
) -> list[Verdict]:
    """One of each judgement; where there is none, what is known without it.

    differences: of each judgement the paired ones (`tables.paired_differences`).
    """
    if not judgements:
        return [_unjudged(runs)] if runs else []
    found = zip(judgements, differences, strict=True)
    return [_verdict(judgement, paired, runs) for judgement, paired in found]


def _verdict(judgement: Judgement, paired: Sequence[Row], runs: Sequence[Run]) -> Verdict:
    own = judgement.get(judgement.of)
    others = sorted(judgement.compared, key=lambda name: name != "base")
    if not others:
        found = [_found(m, own, None, paired) for m in MEASURES]
        alone = Claim(
            "unknown",
            "There is nothing to compare it with, so whether training changed "
            f"it is not known; {_command(runs, 'eval', '--compare', 'base')} judges the "
            "base too.",
        )
        return Verdict(judgement.title, (alone,), _claims(found, ""), _caveats(judgement, runs))
    by_other = {
        name: [f for m in MEASURES if (f := _found(m, own, judgement.get(name), paired))]
        for name in others
    }
    headlines = tuple(_headline(own.name, name, found) for name, found in by_other.items())
    first = others[0]
    return Verdict(
        judgement.title, headlines, _claims(by_other[first], first), _caveats(judgement, runs)
    )


def _found(
    measure: Measure, own: Judged, other: Judged | None, paired: Sequence[Row]
) -> _Found | None:
    """None where the judged model has no such figure."""
    value = _figure(own, measure)
    if value is None:
        return None
    rival = _figure(other, measure) if other else None
    change = None
    if other is not None and rival is not None:
        change = next(
            (
                d
                for d in paired
                if measure.setting and d["setting"] == measure.setting and d["other"] == other.name
            ),
            None,
        ) or difference(value, rival)
        change = change if _known(change) else None
    if 0 < _problems(own) < LEAST_PROBLEMS:
        return _Found(measure, value, rival, None, "more problems")
    return _Found(measure, value, rival, change)


def _problems(model: Judged) -> int:
    """The most that a setting was judged on, 0 where that is not known."""
    settings = model.summary["settings"].values()
    return max((len(s["scores"]) for s in settings if s.get("scores")), default=0)


def _figure(model: Judged, measure: Measure) -> Row | None:
    value: Any = model.summary
    for key in measure.path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) and _number(value.get("value")) else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _known(figure: Row | None) -> bool:
    return figure is not None and all(_number(figure.get(k)) for k in ("value", "low", "high"))


def difference(a: Row, b: Row) -> Row | None:
    """a minus b from their own intervals; None where one has none.

    Newcombe's way (Statistics in Medicine 17, 1998): each end is as far from the difference as the
    two ends that it comes from, squared and added. It takes the two for independent; judged on the
    same problems they rather rise and fall together, so that it is too wide rather than too narrow.
    """
    if not (_known(a) and _known(b)):
        return None
    value = a["value"] - b["value"]
    down = math.hypot(a["value"] - a["low"], b["high"] - b["value"])
    up = math.hypot(a["high"] - a["value"], b["value"] - b["low"])
    return {"value": value, "low": value - down, "high": value + up}


# ------------------------------------------------------------------------------------- sentences


def _claims(found: Sequence[_Found | None], other: str) -> tuple[Claim, ...]:
    return tuple(Claim(f.kind, _sentence(f, other)) for f in found if f is not None)


def _sentence(found: _Found, other: str) -> str:
    measure, value = found.measure, amount(found.own["value"])
    said = measure.words.format(f"{value}{measure.unit}")
    if not other:
        return f"{said}{_interval(found.own)}"
    if found.other is None:
        return f"{said}; {other} was not judged on that"
    before = f"{amount(found.other['value'])}{measure.unit}"
    said += f", was {before}" if other == "base" else f", {other} {before}"
    if found.change is None:
        return f"{said}; without {found.lacks} this may be chance"
    points = f"{_signed(found.change['value'])} points{_interval(found.change, signed=True)}"
    if found.kind == "unclear":
        return f"{said}: {points} includes 0, so no difference is shown"
    return f"{said}: {found.kind}, {points}"


def _headline(own: str, other: str, found: Sequence[_Found]) -> Claim:
    by_kind = {
        kind: [f.measure.name for f in found if f.kind == kind]
        for kind in ("better", "worse", "unclear", "unknown")
    }
    words = {
        "better": "better in",
        "worse": "worse in",
        "unclear": "no difference shown in",
        "unknown": f"not to be told without {found[0].lacks if found else ''}:",
    }
    parts = [f"{words[kind]} {_listed(names)}" for kind, names in by_kind.items() if names]
    if not parts:
        return Claim("unknown", f"{own} and {other} were judged on nothing in common.")
    kind: Kind = "unclear"
    if bool(by_kind["better"]) != bool(by_kind["worse"]):
        kind = "better" if by_kind["better"] else "worse"
    elif not (by_kind["better"] or by_kind["unclear"]):
        kind = "unknown"
    return Claim(kind, f"{own} against {other}: {'; '.join(parts)}.")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def amount(value: float) -> str:
    """Whole from 10 on, one decimal below it, where a point is a large part."""
    return f"{value:.0f}" if abs(value) >= 9.95 or value == 0 else f"{value:.1f}"


def _signed(value: float) -> str:
    return ("+" if value > 0 else "−" if value < 0 else "") + f"{abs(value):.1f}"


def _interval(figure: Row, *, signed: bool = False) -> str:
    if not _known(figure):
        return ""
    form = _signed if signed else amount
    return f" [{form(figure['low'])}, {form(figure['high'])}]"


# --------------------------------------------------------------------------------------- caveats


def _caveats(judgement: Judgement, runs: Sequence[Run]) -> tuple[str, ...]:
    said = []
    model = judgement.get(judgement.of)
    if 0 < _problems(model) < FEW_PROBLEMS:
        number = judged_problems(model.summary)
        said.append(
            f"Only {number} {'was' if number.startswith('1 ') else 'were'} judged; figures of so "
            "few jump about."
        )
    return (*said, *_unfinished(runs[:1]))


def _unfinished(runs: Sequence[Run]) -> list[str]:
    said = []
    for run in runs:
        asked = run.recipe.get("max_steps")
        if isinstance(asked, int) and run.metrics and not run.finished and run.steps < asked:
            said.append(f"Training is not finished: step {run.steps} of {asked}.")
    return said


def _unjudged(runs: Sequence[Run]) -> Verdict:
    """What a run's own curves say, which is about the prompts that it trains on."""
    run = runs[0]
    claims = []
    for metric, words in (
        ("clarification_rate", "asks {} where something is missing"),
        ("over_asking_rate", "asks {} where nothing is missing"),
        ("accuracy", "solves {} of the complete prompts"),
    ):
        ends = mean_of_ends([y for _, y in metric_points(run, metric, 100.0)])
        if ends:
            first, last = map(amount, ends)
            claims.append(Claim("plain", f"{words.format(f'{last} %')}, was {first} %"))
    command = _command(runs, "eval", "--compare", "base")
    headline = "No evaluation yet: what it does with problems outside its training is not known"
    caveats = _unfinished(runs[:1])
    if claims:
        caveats.append(
            f"These are prompts of training, with its sampling: means of its last {ENDS} steps and "
            f"of its first {ENDS}."
        )
    asked = run.recipe.get("evaluation")
    comes = isinstance(asked, Mapping) and asked.get("enabled", True) and not run.finished
    judge = f"the end of training judges it, or {command}" if comes else f"{command} judges it"
    claim = Claim("unknown", f"{headline}; {judge}.")
    return Verdict("In training", (claim,), tuple(claims), tuple(caveats))


def _command(runs: Sequence[Run], name: str, *options: str) -> str:
    folder = runs[0].path if runs else Path("RUN")
    here = Path.cwd()
    folder = folder.relative_to(here) if folder.is_relative_to(here) else folder
    return shlex.join(["icpo-lite", name, str(folder), *options])
