"""What an arena came to: figures over seeds, paired differences, costs, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from icpo_lite.evaluation.metrics import paired_difference
from icpo_lite.evaluation.table import LINES, POINTS, figure_at
from icpo_lite.tools.arena.arms import ARMS, PUBLISHED_OF

BASE, TRAINED = "base", "icpo"
#: One model's figures, as eval.json holds them.
Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """What one run took: sampled and trained tokens, seconds of its steps, peak memory, steps."""

    sampled: float
    trained: float
    seconds: float
    memory_gb: float
    steps: int


@dataclass(frozen=True)
class Results:
    """All figures. parts: split -> seed -> model -> its figures. costs: model -> of each seed."""

    seeds: tuple[int, ...]
    models: tuple[str, ...]
    parts: Mapping[str, Mapping[int, Mapping[str, Summary]]]
    costs: Mapping[str, Sequence[Cost]]


@dataclass(frozen=True)
class Cell:
    """A figure over the seeds, in the units of its line.

    low, high: 95 % interval over problems within a seed, averaged over seeds. spread: standard
    deviation over seeds, None where there is one seed or one model for all of them.
    """

    value: float
    low: float
    high: float
    spread: float | None
    by_seed: tuple[float, ...]

    def __str__(self) -> str:
        return self.text(POINTS)

    def text(self, form: str) -> str:
        """As its line in `LINES` writes it, with the spread behind the value."""
        number, _, interval = form.partition(" ")
        spread = "" if self.spread is None else f" ± {number.format(value=self.spread)}"
        return (
            f"{number.format(value=self.value)}{spread} "
            f"{interval.format(low=self.low, high=self.high)}"
        )


def cell(results: Results, split: str, model: str, path: Sequence[str]) -> Cell | None:
    """One figure of one model, None where a seed does not hold it."""
    found = [figure_at(by_model[model], path) for by_model in results.parts[split].values()]
    figures = [f for f in found if f is not None]
    if len(figures) < len(results.seeds):
        return None
    values = tuple(float(f["value"]) for f in figures)
    return Cell(
        mean(values),
        mean(float(f["low"]) for f in figures),
        mean(float(f["high"]) for f in figures),
        # What is not trained is one model: nothing differs between its seeds.
        stdev(values) if len(values) > 1 and _trains(model) else None,
        values,
    )


def rows(results: Results, split: str) -> Iterator[tuple[str, str, list[Cell | None]]]:
    """Label, form and one cell a model, of the figures that were measured."""
    for label, path, form in LINES:
        cells = [cell(results, split, model, path) for model in results.models]
        if any(cells):
            yield label, form, cells


def title_of(model: str) -> str:
    return ARMS[model].title if model in ARMS else model


def _trains(model: str) -> bool:
    return model not in ARMS or ARMS[model].trains


def table(results: Results, split: str) -> str:
    """The table of one split in Markdown."""
    titles = [title_of(model) for model in results.models]
    many = len(results.seeds) > 1
    last = results.models[-1]
    many = many and _trains(last)
    head = [split, *titles, *([f"{title_of(last)} by seed"] if many else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for label, form, cells in rows(results, split):
        shown = ["-" if c is None else c.text(form) for c in cells]
        if many:
            own = cells[-1]
            number = form.partition(" ")[0]
            by_seed = () if own is None else own.by_seed
            shown.append(", ".join(number.format(value=v) for v in by_seed) or "-")
        lines.append(f"| {label} | {' | '.join(shown)} |")
    return "\n".join(lines)


#: The paper's columns, and what of a setting they are.
_COLUMNS = (
    ("single-turn", ("settings", "full", "P")),
    ("multi-turn", ("settings", "sharded", "P")),
    ("multi-turn A90", ("settings", "sharded", "A90")),
    ("multi-turn U", ("settings", "sharded", "U")),
)


def paper_table(results: Results, split: str) -> str:
    """As the paper lays it out (arXiv 2601.15330): a line a model, single-turn and multi-turn."""
    lines = [f"| {' | '.join([split, *(title for title, _ in _COLUMNS)])} |"]
    lines.append("|---" * (1 + len(_COLUMNS)) + "|")
    for model in results.models:
        cells = [cell(results, split, model, path) for _, path in _COLUMNS]
        shown = ["-" if c is None else str(c) for c in cells]
        lines.append(f"| {title_of(model)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def gains(results: Results, split: str) -> list[str]:
    """Every trained arm against the base, ICPO against every other, and both cures together against
    each alone, problem by problem, a problem's scores averaged over seeds."""
    pairs = [(m, BASE) for m in results.models if m != BASE and BASE in results.models]
    pairs += [(TRAINED, m) for m in results.models if TRAINED in results.models]
    pairs += [("icpo-maigo", m) for m in ("icpo", "maigo", "fic") if "icpo-maigo" in results.models]
    lines = []
    for own, other in dict.fromkeys(pairs):
        if own == other or other not in results.models:
            continue
        for setting in ("full", "sharded"):
            if (d := difference(results, split, own, other, setting)) is not None:
                lines.append(
                    f"{setting.upper()} {title_of(own)} - {title_of(other)}: {d['value']:+.1f} "
                    f"[{d['low']:+.1f}, {d['high']:+.1f}], {d['won']} problems won, "
                    f"{d['lost']} lost"
                )
    return lines


def difference(
    results: Results, split: str, own: str, other: str, setting: str
) -> Mapping[str, Any] | None:
    """One arm minus another over the problems, with its interval; None where either was not judged
    in that setting, or on other problems."""
    try:
        mine, theirs = (_scores(results, split, m, setting) for m in (own, other))
        return paired_difference(mine, theirs)
    except (KeyError, ValueError):
        return None


def _scores(results: Results, split: str, model: str, setting: str) -> dict[str, float]:
    seeds = [m[model]["settings"][setting]["scores"] for m in results.parts[split].values()]
    return {problem: mean(scores[problem] for scores in seeds) for problem in seeds[0]}


def arena_rows(results: Results, split: str) -> Iterator[tuple[str, list[str]]]:
    """A line an arm under `ARENA_HEAD`: figures, the difference from the base, what it took."""
    for model in results.models:
        cells = [
            ("-" if (c := cell(results, split, model, path)) is None else c.text(POINTS))
            for path in _ARENA_PATHS
        ]
        moved = [
            "-"
            if model == BASE or (d := difference(results, split, model, BASE, setting)) is None
            else f"{d['value']:+.1f} [{d['low']:+.1f}, {d['high']:+.1f}]"
            for setting in ("sharded", "full")
        ]
        published = ARMS[model].published if model in ARMS else ""
        yield title_of(model), [*cells, *moved, *_took(results.costs.get(model, ())), published]


_ARENA_PATHS = (
    ("settings", "full", "P"),
    ("settings", "sharded", "P"),
    ("settings", "sharded", "U"),
    ("rates", "clarification_rate"),
    ("rates", "over_asking_rate"),
)
#: Of the columns of `arena_rows`.
ARENA_HEAD = (
    *("FULL P", "SHARDED P", "SHARDED U", "asks on q*", "over-asks on q"),
    *("SHARDED - base", "FULL - base"),
    *("sampled tokens", "trained tokens", "seconds of steps", "peak GB"),
    f"published SHARDED, {PUBLISHED_OF}",
)


def _took(costs: Sequence[Cost]) -> list[str]:
    """Of one run on average; nothing for what is not trained."""
    if not costs:
        return ["-"] * 4
    sampled, trained, seconds = (
        mean(getattr(cost, name) for cost in costs) for name in ("sampled", "trained", "seconds")
    )
    peak = max(cost.memory_gb for cost in costs)
    return [f"{sampled:,.0f}", f"{trained:,.0f}", f"{seconds:,.0f}", f"{peak:.1f}"]


def arena_table(results: Results, split: str) -> str:
    """`arena_rows` in Markdown."""
    lines = [f"| {' | '.join([split, *ARENA_HEAD])} |", "|---" * (1 + len(ARENA_HEAD)) + "|"]
    lines += [f"| {' | '.join([name, *cells])} |" for name, cells in arena_rows(results, split)]
    return "\n".join(lines)
