"""From run directories to one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from icpo_lite import __version__
from icpo_lite.core.diagnostics import diagnose
from icpo_lite.core.files import redact, write_atomically
from icpo_lite.core.outputs import Kind, begins_with, check_output
from icpo_lite.core.visible_text import visible
from icpo_lite.evaluation.table import judged_problems
from icpo_lite.tools.report import figures, reader, svg, tables
from icpo_lite.tools.report.calibration_figures import calibration_charts
from icpo_lite.tools.report.charts import Chart, number
from icpo_lite.tools.report.run_files import Judgement, Run, read_sources
from icpo_lite.tools.report.verdict import verdicts

BUILT_IN = "builtin:tiny"
#: Conversations that stand in the page itself, for browsers without scripts too.
MOST_UNPACKED = 200
#: Milliseconds between two looks of a live page.
POLL_MS = 2000


@dataclass(frozen=True)
class Options:
    """conversations: entries of the reader at most, None for all that there is room for. png:
    write the figures as files too."""

    conversations: int | None = None
    png: bool = False


@dataclass(frozen=True)
class Rendered:
    """A page before it is written. charts: what can be drawn as files. shown, total: conversations
    in the reader, and how many there are."""

    text: str
    charts: tuple[Chart, ...]
    shown: int
    total: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Live:
    """What a page that is served says of its run. words: how the run stands. version: of what is
    shown."""

    words: str
    version: str


@dataclass(frozen=True)
class Report:
    """What was written. shown, total: conversations in the reader, and how many there are."""

    path: Path
    pngs: tuple[Path, ...]
    shown: int
    total: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Section:
    """A judgement with all that is drawn and listed of it."""

    judgement: Judgement
    number: int
    facts: str
    tiles: tuple[tuple[str, str, str, str], ...]
    lines: Sequence[tables.Line]
    differences: Sequence[Mapping[str, Any]]
    unpaired: Sequence[str]
    comparison: tuple[Chart, ...]
    paper: tuple[Chart, ...]
    fifths: Sequence[tables.Line]
    calibration: tuple[Chart, ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        return (*self.comparison, *self.paper, *self.calibration)


def make_report(folders: Sequence[Path], output: Path, options: Options) -> Report:
    """Write the report of these run directories to `output`.

    Raises UsageError for a folder that is no run directory, RunDirectoryError where the file
    cannot be written.
    """
    if options.png:
        check_output(_figures_of(output), FIGURES, inputs=folders)
    made = render(folders, options.conversations)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, made.text.encode())
    pngs: list[Path] = []
    if options.png:
        from icpo_lite.tools.report.png import write_pngs

        pngs = write_pngs(made.charts, _figures_of(output))
    return Report(output, tuple(pngs), made.shown, made.total, made.notes)


def render(
    folders: Sequence[Path], conversations: int | None = None, live: Live | None = None
) -> Rendered:
    """The page about these run directories. live: of one that is served, which follows its run.

    Raises UsageError for a folder that is no run directory.
    """
    sources = read_sources(folders)
    notes = list(sources.notes)
    runs = sources.runs
    colour = figures.slots(runs, sources.judgements)
    sections = [_section(i, j, colour) for i, j in enumerate(sources.judgements, start=1)]
    training = figures.training_charts(runs, colour)
    others = figures.other_training_charts(runs, colour)
    entropy = figures.entropy_chart(runs, colour)
    chosen = reader.select(sources.judgements, conversations, notes)
    first = reader.some_of(chosen.entries, MOST_UNPACKED)
    unpacked = {entry.place for entry in first}
    environment = _environment(colour)
    script = environment.get_template("report.js").render(live=live is not None, poll_ms=POLL_MS)
    curves = (*training, *([entropy] if entropy else []))
    text = environment.get_template("report.html").render(
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        live=live,
        version=__version__,
        runs=runs,
        verdicts=verdicts(sources.judgements, [s.differences for s in sections], runs),
        sections=sections,
        training=training,
        others=others,
        curve_lines=tables.curve_lines(runs),
        entropy=entropy,
        selection=chosen,
        entries=first,
        packed=_packed(environment, [e for e in chosen.entries if e.place not in unpacked]),
        types=_types(chosen),
        compared=list(dict.fromkeys(name for e in chosen.entries for name in e.outcomes)),
        steps=reader.training_steps(runs),
        diagnosis={run.name: [f.text for f in diagnose(run.metrics)] for run in runs},
        recipe_lines=tables.recipe_differences(runs),
        recipe_words=tables.differences_in_words(runs),
        fifth_header=tables.fifth_header(),
        paper_non_answers=tables.PAPER_NON_ANSWERS,
        miniature=any(run.recipe.get("model_name_or_path") == BUILT_IN for run in runs),
        notes=notes,
        values=_values((*curves, *others)),
    )
    charts = (*curves, *(chart for section in sections for chart in section.charts))
    return Rendered(visible(text), charts, len(chosen.entries), chosen.total, tuple(notes))


def _packed(environment: Environment, entries: Sequence[reader.Entry]) -> str:
    """Entries as the page shows them, compressed: thousands are read when they are looked at."""
    if not entries:
        return ""
    entry = vars(environment.get_template("entry.html").module)["entry"]
    text = "\0".join(visible(str(entry(one))) for one in entries)
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode()


def _figures_of(output: Path) -> Path:
    return output.with_name(f"{output.stem}-figures")


def _only_figures(folder: Path) -> bool:
    """Whether all that lies in a folder are figures that a report has written."""
    mark = begins_with("icpo-lite")
    return all(f.suffix == ".png" and f.is_file() and mark(f) for f in folder.iterdir())


FIGURES = Kind("an earlier report's figures", _only_figures, folder=True)


def _environment(colour: Mapping[str, int]) -> Environment:
    environment = Environment(
        loader=PackageLoader("icpo_lite.tools.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "draw": svg.draw,
        "sample": svg.sample,
        "number": number,
        "facts": _run_facts,
        "recipe": _recipe_text,
        "words": lambda text: text.replace("_", " "),
    }
    environment.globals["colour"] = colour
    return environment


def _section(place: int, judgement: Judgement, colour: Mapping[str, int]) -> _Section:
    differences, unpaired = tables.paired_differences(judgement)
    return _Section(
        judgement=judgement,
        number=place,
        facts=_judged_with(judgement),
        tiles=tuple(_tiles(judgement, differences)),
        lines=tables.comparison_lines(judgement),
        differences=differences,
        unpaired=unpaired,
        comparison=figures.comparison_charts(place, judgement, colour, differences),
        paper=figures.paper_charts(place, judgement, colour),
        fifths=tables.fifth_lines(judgement),
        calibration=calibration_charts(place, judgement, colour),
    )


def _judged_with(judgement: Judgement) -> str:
    """How it was judged, as far as the file says."""
    own = judgement.get(judgement.of).summary
    facts = own.get("judged_with") or {}
    said = []
    problems = judged_problems(own)
    if not problems.startswith("?"):
        split = f" of the {facts['split']} split" if facts.get("split") else ""
        of = f" ({judgement.of})" if len(_problem_sets(judgement)) > 1 else ""
        said.append(f"{problems}{split}{of}")
    if facts.get("runs"):
        said.append(f"{facts['runs']} runs each")
    if facts.get("temperature") is not None:
        said.append(f"temperature {facts['temperature']:g}")
    return ", ".join(said)


def _problem_sets(judgement: Judgement) -> set[frozenset[str]]:
    """The different sets of problems that the models were judged on."""
    return {
        frozenset(setting.get("scores") or ())
        for model in judgement.models
        for setting in model.summary["settings"].values()
    }


def _tiles(
    judgement: Judgement, differences: Sequence[Mapping[str, Any]]
) -> Sequence[tuple[str, str, str, str]]:
    """Name, value, interval and the differences of the figures that matter most."""
    own = judgement.get(judgement.of).summary
    wanted = [
        ("SHARDED P", ("settings", "sharded", "P"), "sharded", ""),
        ("FULL P", ("settings", "full", "P"), "full", ""),
        ("asks on q*", ("rates", "clarification_rate"), "", " %"),
        ("over-asks on q", ("rates", "over_asking_rate"), "", " %"),
    ]
    tiles = []
    for label, (block, key, *inner), setting, unit in wanted:
        figure = (own.get(block) or {}).get(key)
        for name in inner:
            figure = (figure or {}).get(name)
        if not figure or figure.get("value") is None:
            continue
        against = "; ".join(
            f"{d['value']:+.1f} against {d['other']}"
            for d in differences
            if setting and d["setting"] == setting
        )
        ends = (figure.get("low"), figure.get("high"))
        interval = "" if None in ends else "{:.1f} to {:.1f}".format(*ends)
        tiles.append((label, f"{figure['value']:.1f}{unit}", interval, against))
    return tiles


def _types(chosen: reader.Selection) -> list[str]:
    return sorted({t for entry in chosen.entries for talk in entry.talks for t in talk.types})


def _run_facts(run: Run) -> dict[str, str]:
    """What a person asks first of a run."""
    recipe, info = run.recipe, run.info
    asked = recipe.get("max_steps")
    steps = f"{run.steps} of {asked}" if asked and asked != run.steps else f"{run.steps}"
    if asked and not run.finished:
        steps += ", not finished"
    machine = info.get("machine") or {}
    versions = info.get("versions") or {}
    command = [str(part) for part in info.get("command") or []]
    facts = {
        "directory": run.path.name,
        "model": str(recipe.get("model_name_or_path") or info.get("model") or ""),
        "steps": steps,
        "objective": ", ".join(
            str(part)
            for part in (
                recipe.get("loss_type"),
                (recipe.get("reward") or {}).get("name"),
                f"{recipe['share_underspecified']:.0%} underspecified"
                if isinstance(recipe.get("share_underspecified"), int | float)
                else None,
            )
            if part
        ),
        "device": ", ".join(
            str(part) for part in (info.get("device"), info.get("dtype")) if part
        ).replace("torch.", ""),
        "seed": str(recipe.get("seed", info.get("seed", ""))),
        "started": str(info.get("started") or "").replace("T", " ").replace("Z", " UTC"),
        "commit": str(info.get("commit") or "")[:12],
        "versions": ", ".join(f"{k} {versions[k]}" for k in _VERSIONS if k in versions),
        "machine": ", ".join(
            [
                str(machine["system"]),
                str(machine.get("architecture", "")),
                f"{machine['cpus']} CPUs",
            ]
            if machine.get("system") and machine.get("cpus")
            else []
        ),
        "command": shlex.join(["icpo-lite", *command[1:]]) if command else "",
    }
    return {name: value for name, value in facts.items() if value}


_VERSIONS = ("icpo-lite", "python", "torch", "transformers", "peft", "bitsandbytes")


def _recipe_text(run: Run) -> str:
    text: str = yaml.safe_dump(redact(run.recipe), sort_keys=False, allow_unicode=True)
    return text


def _values(charts: Sequence[Chart]) -> dict[str, Any]:
    """What was logged of the curves: for values at the pointer, other smoothing, and CSV."""
    return {
        chart.key: {
            "title": chart.title,
            "x": list(chart.x_bounds()),
            "y": list(chart.y_bounds()),
            "window": chart.window,
            "series": [
                {"name": s.name, "points": [[x, float(f"{y:.6g}")] for x, y in s.logged]}
                for s in chart.series
            ],
        }
        for chart in charts
    }


__all__ = ["Live", "Options", "Rendered", "Report", "make_report", "render"]
