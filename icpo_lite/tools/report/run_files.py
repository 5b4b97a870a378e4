"""What lies in run directories, read without owning them and without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from icpo_lite.core.errors import UsageError
from icpo_lite.core.files import read_metrics
from icpo_lite.core.paths import no_run_at, recipe_home

Row = Mapping[str, Any]
#: Steps at the beginning and the end of a run whose completions are shown.
SHOWN_STEPS = 2
#: What transformers' Trainer, and TRL's with it, keeps of a run.
TRAINER_STATE = "trainer_state.json"


@dataclass(frozen=True)
class Run:
    """One run directory. completions: step → rows of the first and the last steps."""

    name: str
    path: Path
    recipe: Row = field(repr=False)
    info: Row = field(repr=False)
    metrics: Sequence[Row] = field(repr=False)
    completions: Mapping[int, Sequence[Row]] = field(repr=False)
    finished: bool = False

    @property
    def steps(self) -> int:
        return max((int(row["step"]) for row in self.metrics), default=0)


@dataclass(frozen=True)
class Judged:
    """One model's figures (eval.json) and the file of its conversations."""

    name: str
    summary: Row = field(repr=False)
    conversations: Path


@dataclass(frozen=True)
class Judgement:
    """Models judged on the same problems. of: the one that the others are compared with."""

    title: str
    of: str
    models: tuple[Judged, ...]

    def get(self, name: str) -> Judged:
        return next(model for model in self.models if model.name == name)

    @property
    def compared(self) -> list[str]:
        return [model.name for model in self.models if model.name != self.of]


@dataclass(frozen=True)
class Sources:
    """All that a report is made of. notes: what could not be read, in plain words."""

    runs: tuple[Run, ...]
    judgements: tuple[Judgement, ...]
    notes: tuple[str, ...] = ()


def read_sources(folders: Sequence[Path]) -> Sources:
    """The runs, those that they were compared with, and every judgement in their folders; a folder
    may also be an evaluation's alone.

    Raises UsageError for a folder that is no run directory.
    """
    notes: list[str] = []
    folders = list(dict.fromkeys(folder.resolve() for folder in folders))
    require_runs(folders)
    names = _names(folders, notes)
    runs, judged, base = [], [], []
    for folder, name in zip(folders, names, strict=True):
        run = _read_run(folder, name, notes)
        runs.append(run)
        judged += _judged(name, folder / "eval", notes)
        base += _judged("base", folder / "eval-base", notes)
    for run in tuple(runs):
        for name, place in _rivals(run):
            if place.resolve() in folders:
                continue
            label = name if len(folders) == 1 else f"{name} of {run.name}"
            runs.append(_read_run(place, label, notes))
            judged += _judged(label, place / "eval", notes)
    main = _distinct_bases(base, names) + _own_last(judged, names[0])
    judgements = [Judgement("At the end of training", names[0], tuple(main))] if main else []
    if main and names[0] not in [model.name for model in main]:
        judgements = [Judgement("At the end of training", main[-1].name, tuple(main))]
    for folder, name in zip(folders, names, strict=True):
        judgements += _later_judgements(folder, name, notes)
    return Sources(tuple(runs), tuple(judgements), tuple(notes))


def require_runs(folders: Sequence[Path]) -> None:
    """Raises UsageError for a folder that is no run directory."""
    for folder in folders:
        _require_run(folder)


def _require_run(folder: Path) -> None:
    if not folder.is_dir():
        raise no_run_at(folder)
    known = ("metrics.jsonl", "recipe.yaml", "eval/eval.json", TRAINER_STATE, "comparison.json")
    later = folder.glob("eval-*/comparison.json")
    if not any((folder / name).is_file() for name in known) and not any(later):
        raise UsageError(
            f"expected a run directory with metrics.jsonl, recipe.yaml or eval/, found none of "
            f"them in {folder}; give the folder that `icpo-lite train` wrote"
        )


def _names(folders: Sequence[Path], notes: list[str]) -> list[str]:
    """`icpo` for the one run that trains on q*, folder names for several; all different."""
    if len(folders) == 1:
        recipe = _read_recipe(folders[0], notes)
        return ["icpo" if recipe.get("share_underspecified") else folders[0].name]
    names: list[str] = []
    for folder in folders:
        name, number = folder.name, 2
        while name in names or name == "base":
            name, number = f"{folder.name} ({number})", number + 1
        names.append(name)
    return names


def _read_run(folder: Path, name: str, notes: list[str]) -> Run:
    info = _read_json(folder / "run.json", notes)
    return Run(
        name=name,
        path=folder,
        recipe=_read_recipe(folder, notes),
        info=info if isinstance(info, dict) else {},
        metrics=read_metrics(folder) or _trainer_log(folder, notes),
        completions=_read_completions(folder, notes),
        finished=(folder / "finished").is_file(),
    )


def _trainer_log(folder: Path, notes: list[str]) -> list[Row]:
    """Metrics by step as TRL and transformers log them: in the folder itself, else in its latest
    checkpoint. A step's several entries are one row."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda f: (len(f.name), f.name))
    for place in (folder, *reversed(checkpoints)):
        state = _read_json(place / TRAINER_STATE, notes)
        entries = state.get("log_history") if isinstance(state, dict) else None
        if not isinstance(entries, list):
            continue
        rows: dict[int, dict[str, Any]] = {}
        for entry in entries:
            if isinstance(entry, dict) and type(entry.get("step")) is int:
                rows[entry["step"]] = {**entry, **rows.get(entry["step"], {})}
        return [rows[step] for step in sorted(rows)]
    return []


def _rivals(run: Run) -> Iterator[tuple[str, Path]]:
    """Runs that the recipe's `compare` names: `train` puts them beside the run."""
    for name in run.recipe.get("compare") or {}:
        place = Path(f"{run.path}-{name}")
        if place.is_dir():
            yield str(name), place


def _judged(name: str, place: Path, notes: list[str]) -> list[Judged]:
    summary = _read_json(place / "eval.json", notes)
    return [Judged(name, summary, place / "conversations.jsonl")] if _usable(summary) else []


def _usable(summary: Any) -> bool:
    """Whether it holds figures by setting."""
    settings = summary.get("settings") if isinstance(summary, dict) else None
    return isinstance(settings, dict) and all(isinstance(s, dict) for s in settings.values())


def _distinct_bases(found: Sequence[Judged], names: Sequence[str]) -> list[Judged]:
    """One column for bases that were judged alike, one each where they differ."""
    distinct: list[Judged] = []
    for judged, run in zip(found, names, strict=False):
        if any(judged.summary["settings"] == other.summary["settings"] for other in distinct):
            continue
        name = f"base of {run}" if distinct else "base"
        distinct.append(Judged(name, judged.summary, judged.conversations))
    return distinct


def _own_last(judged: Sequence[Judged], own: str) -> list[Judged]:
    return sorted(judged, key=lambda model: model.name == own)


def _later_judgements(folder: Path, run: str, notes: list[str]) -> Iterator[Judgement]:
    """What `icpo-lite eval` left in eval-<split>, or in the folder itself; the judged model comes
    first in its file.

    It is called by the folder's name there, and by the run's here, so that it keeps its colour.
    """
    own = folder / "comparison.json"
    for file in (own, *sorted(folder.glob("eval-*/comparison.json"))):
        found = _read_json(file, notes)
        if not isinstance(found, dict):
            continue
        models = [
            Judged(
                run if name == folder.name and run not in found else name,
                summary,
                file.parent / name / "conversations.jsonl",
            )
            for name, summary in found.items()
            if _usable(summary)
        ]
        if models:
            split = file.parent.name.removeprefix("eval-")
            title = f"{run}, judged later on the {split} split"
            if file == own:
                title = f"{models[0].name}, judged by icpo-lite eval"
            yield Judgement(title, models[0].name, (*models[1:], models[0]))


def _read_recipe(folder: Path, notes: list[str]) -> dict[str, Any]:
    file = (recipe_home(folder) or folder) / "recipe.yaml"
    try:
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError):
        _note(notes, f"{file.parent.name}/{file.name} is no readable YAML and is left out")
        return {}
    return recipe if isinstance(recipe, dict) else {}


def _read_json(file: Path, notes: list[str]) -> Any:
    try:
        return _loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        _note(notes, f"{file.parent.name}/{file.name} is no whole JSON and is left out")
        return None


def _read_completions(folder: Path, notes: list[str]) -> dict[int, list[Row]]:
    files = {
        int(file.stem.removeprefix("step-")): file
        for file in (folder / "completions").glob("step-*.jsonl")
        if file.stem.removeprefix("step-").isdecimal()
    }
    steps = sorted(files)
    shown = sorted({*steps[:SHOWN_STEPS], *steps[-SHOWN_STEPS:]})
    return {step: list(read_rows(files[step], notes)) for step in shown}


def read_rows(file: Path, notes: list[str]) -> Iterator[Row]:
    """The JSON objects of a file, a line each; lines that are none are counted in `notes`."""
    if not file.is_file():
        return
    damaged = 0
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = _loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                yield row
            else:
                damaged += 1
    if damaged:
        _note(notes, f"{file.parent.name}/{file.name}: left out {damaged} lines that are not whole")


def _loads(text: str) -> Any:
    """JSON whose NaN and infinity, which an interval of nothing has, are None."""
    return json.loads(text, parse_constant=lambda _: None)


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)
