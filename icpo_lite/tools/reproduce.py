"""Base, RLVR and ICPO with the same seeds and budget on this machine, as the paper's table.

Every seed is one `icpo-lite train` in a process of its own, RLVR beside it, judged on the same
problems; the base is judged with it. What is done is kept: the same command goes on where it was
interrupted.

    OUT/seed-0/, OUT/seed-0-rlvr/    the runs
    OUT/seed-0/eval-transfer/        judged again on another split, where one was asked for
    OUT/results.json, OUT/results.md what came out
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from icpo_lite.core.errors import IcpoError, RunDirectoryError
from icpo_lite.core.files import read_json, write_atomically
from icpo_lite.core.oom import Say
from icpo_lite.core.outputs import Kind, check_output, holds
from icpo_lite.core.parent import start_bound
from icpo_lite.evaluation.metrics import paired_difference
from icpo_lite.evaluation.table import LINES, POINTS, figure_at
from icpo_lite.recipe import Recipe, load_recipe
from icpo_lite.recipe.section import TWIN
from icpo_lite.runs.run_directory import git_commit, machine, versions

COMMAND = (sys.executable, "-m", "icpo_lite")
#: What a reproduction leaves in its folder.
REPRODUCED = Kind("an earlier reproduction", holds("results.json", "seed-*"), folder=True)
BASE, TRAINED = "base", "icpo"
#: One model's figures, as eval.json holds them.
Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is trained and judged.

    recipe: file or shipped name. split, problems, runs: of the judging, the recipe's where None.
    also: more splits of the data that the finished runs are judged on. overrides: for every run.
    """

    recipe: str
    out: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    split: str | None = None
    problems: int | None = None
    runs: int | None = None
    also: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def loaded(self, seed: int) -> Recipe:
        """The recipe of one seed. Raises RecipeError before anything is trained."""
        return load_recipe(self.recipe, self.arguments(seed))

    def arguments(self, seed: int) -> list[str]:
        """Overrides of one seed's `train`."""
        asked = {"split": self.split, "problems": self.problems, "runs": self.runs}
        judging = [f"evaluation.{k}={v}" for k, v in asked.items() if v is not None]
        # A recipe that names no other gets the twin without underspecified prompts.
        compared = load_recipe(self.recipe, self.overrides).compare or {"rlvr": TWIN}
        return [
            *(self.overrides),
            f"seed={seed}",
            f"output_dir={self.folder(seed)}",
            "evaluation.enabled=true",
            *judging,
            f"compare={json.dumps(compared)}",
        ]

    def folder(self, seed: int) -> Path:
        return self.out / f"seed-{seed}"


class PartInterruptedError(IcpoError):
    """A part was interrupted and has saved its work."""

    exit_code = 130


@dataclass(frozen=True)
class Results:
    """All figures. parts: split -> seed -> model -> its figures."""

    seeds: tuple[int, ...]
    models: tuple[str, ...]
    parts: Mapping[str, Mapping[int, Mapping[str, Summary]]]


def reproduce(plan: Plan, say: Say, run: Callable[[list[str]], int] | None = None) -> Results:
    """Do what is left of the plan and write the results; returns them.

    run: carries out one command line and returns its exit code (a process of its own).

    Raises RecipeError before anything starts, and IcpoError when a part fails.
    """
    recipes = {seed: plan.loaded(seed) for seed in plan.seeds}
    check_output(plan.out, REPRODUCED, inputs=(plan.recipe,))
    plan.out.mkdir(parents=True, exist_ok=True)
    for seed in plan.seeds:
        say(f"\nseed {seed}: {plan.folder(seed)}")
        _do(["train", plan.recipe, *plan.arguments(seed)], run)
        for split in plan.also:
            _judge_again(plan, seed, split, recipes[seed], run, say)
    results = collect(plan, recipes)
    write_results(plan, results)
    return results


def _do(arguments: list[str], run: Callable[[list[str]], int] | None) -> None:
    command = [*COMMAND, *arguments]
    code = (run or _run)(command)
    if code in (130, -2):
        raise PartInterruptedError("interrupted; the same command goes on from there")
    if code:
        raise IcpoError(
            f"`icpo-lite {shlex.join(arguments)}` ended with exit code {code}; correct what it "
            "says, then run the same command again"
        )


def _run(command: list[str]) -> int:
    """Its exit code, 130 after Ctrl-C, for which it is given the time to save its work."""
    interrupted = False
    with start_bound(command) as process:
        while True:
            try:
                code = process.wait()
                return 130 if interrupted and code else code
            except KeyboardInterrupt:
                interrupted = True
                process.terminate()  # to a run that Ctrl-C has reached as well the same wish


def _judge_again(
    plan: Plan,
    seed: int,
    split: str,
    recipe: Recipe,
    run: Callable[[list[str]], int] | None,
    say: Say,
) -> None:
    """The finished runs on another split, unless that is done with the same options."""
    place = _place_of(plan, seed, split)
    asked = {"steps": recipe.max_steps, **recipe.evaluation.model_dump(mode="json")}
    if (place / "comparison.json").is_file() and _read(place / "asked.json") == asked:
        say(f"{split} is judged: {place}")
        return
    folder, options = plan.folder(seed), recipe.evaluation
    compared = [f"{name}={folder}-{name}" for name in recipe.compare]
    _do(
        [
            *("eval", str(folder), "--split", split, "--compare", ",".join([BASE, *compared])),
            *("--problems", str(options.problems), "--runs", str(options.runs)),
            *(("--max-turns", str(options.max_turns)) if options.max_turns else ()),
            *("--temperature", str(options.temperature), "--device", recipe.device),
            *("--settings", ",".join(options.settings), "-o", str(place)),
        ],
        run,
    )
    write_atomically(place / "asked.json", json.dumps(asked).encode())


def _place_of(plan: Plan, seed: int, split: str) -> Path:
    return plan.folder(seed) / f"eval-{split}"


def collect(plan: Plan, recipes: Mapping[int, Recipe]) -> Results:
    """The figures that the finished parts have left on the disk."""
    parts: dict[str, dict[int, dict[str, Summary]]] = {}
    models: tuple[str, ...] = ()
    for seed, recipe in recipes.items():
        folder = plan.folder(seed)
        places = {BASE: folder / "eval-base"}
        places |= {name: Path(f"{folder}-{name}") / "eval" for name in recipe.compare}
        places[TRAINED] = folder / "eval"
        models = tuple(places)
        found = {name: _read(place / "eval.json") for name, place in places.items()}
        parts.setdefault(recipe.evaluation.split, {})[seed] = found
        for split in plan.also:
            moved = dict(_read(_place_of(plan, seed, split) / "comparison.json"))
            moved[TRAINED] = moved.pop(folder.name)
            parts.setdefault(split, {})[seed] = {name: moved[name] for name in models}
    return Results(tuple(recipes), models, parts)


def _read(file: Path) -> Any:
    """A JSON file, {} where there is none."""
    try:
        return read_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RunDirectoryError(
            f"{file}: expected figures as JSON, found {error}; delete the file and run this again"
        ) from None


# ----------------------------------------------------------------------------------- the table


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
        # The base is one model: what differs between its seeds is nothing.
        stdev(values) if len(values) > 1 and model != BASE else None,
        values,
    )


def rows(results: Results, split: str) -> Iterator[tuple[str, str, list[Cell | None]]]:
    """Label, form and one cell a model, of the figures that were measured."""
    for label, path, form in LINES:
        cells = [cell(results, split, model, path) for model in results.models]
        if any(cells):
            yield label, form, cells


#: Names of models as the paper's table writes them.
_TITLES = {BASE: "base", "rlvr": "RLVR", TRAINED: "ICPO"}


def table(results: Results, split: str) -> str:
    """The table of one split in Markdown."""
    titles = [_TITLES.get(model, model) for model in results.models]
    many = len(results.seeds) > 1
    head = [split, *titles, *(["ICPO by seed"] if many else [])]
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
        lines.append(f"| {_TITLES.get(model, model)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def gains(results: Results, split: str) -> list[str]:
    """ICPO minus every other model, problem by problem, the scores of a problem averaged over
    seeds; intervals over problems."""
    lines = []
    for model in results.models[:-1]:
        for setting in ("full", "sharded"):
            try:
                own, other = (_scores(results, split, m, setting) for m in (TRAINED, model))
                d = paired_difference(own, other)
            except (KeyError, ValueError):
                continue  # a setting that was not judged, or on other problems
            lines.append(
                f"{setting.upper()} ICPO - {_TITLES.get(model, model)}: {d['value']:+.1f} "
                f"[{d['low']:+.1f}, {d['high']:+.1f}], {d['won']} problems won, {d['lost']} lost"
            )
    return lines


def _scores(results: Results, split: str, model: str, setting: str) -> dict[str, float]:
    seeds = [m[model]["settings"][setting]["scores"] for m in results.parts[split].values()]
    return {problem: mean(scores[problem] for scores in seeds) for problem in seeds[0]}


def report(plan: Plan, results: Results) -> str:
    """Tables and gains of all splits, and what they were made with."""
    first = plan.loaded(plan.seeds[0])
    judged = first.evaluation
    lines = [
        f"# {first.path.stem}: {first.model_name_or_path} on {first.dataset_name}",
        "",
        f"Seeds {', '.join(map(str, results.seeds))}; {first.max_steps} steps of "
        f"{first.prompts_per_step} prompts x {first.num_generations} responses each; "
        f"{judged.problems} problems x {judged.runs} runs, temperature {judged.temperature:g}. "
        "Points: mean over seeds ± standard deviation over seeds [95 % interval over problems, of "
        "one seed on average]. Single-turn is FULL, the whole problem in one turn; multi-turn is "
        "SHARDED, one fact a turn.",
    ]
    for split in results.parts:
        lines += ["", paper_table(results, split), "", table(results, split), ""]
        lines += [f"- {gain}" for gain in gains(results, split)]
    return "\n".join(lines) + "\n"


def write_results(plan: Plan, results: Results) -> None:
    """results.md and results.json in the plan's folder."""
    write_atomically(plan.out / "results.md", report(plan, results).encode())
    facts = {
        "recipe": plan.recipe,
        "overrides": list(plan.overrides),
        "seeds": list(results.seeds),
        "commit": git_commit(),
        "machine": machine(),
        "versions": versions(),
        "parts": {
            split: {
                "table": {
                    label: {m: asdict(c) for m, c in zip(results.models, cells, strict=True) if c}
                    for label, _, cells in rows(results, split)
                },
                "differences": gains(results, split),
            }
            for split in results.parts
        },
    }
    write_atomically(plan.out / "results.json", (json.dumps(facts, indent=1) + "\n").encode())
