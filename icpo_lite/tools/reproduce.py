"""Every cure for getting lost on the same terms: one table, one page, on this machine.

Each arm (`arena.arms`) is trained with each seed, up to as many sampled tokens as the first one
that is trained takes, and judged on the same problems; what trains nothing is judged once. Every
part is an `icpo-lite` process of its own, and what is done is kept: the same command goes on where
it was interrupted, and a further arm or seed costs itself alone.

    OUT/icpo/seed-0/            a run; its judgement beside it in seed-0.eval/
    OUT/cleaned.eval/           the judgement of what trains nothing
    OUT/budget.json             sampled tokens of every arm
    OUT/results.json, .md, .html  what came out
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.core.files import read_json, read_metrics, write_atomically
from icpo_lite.core.oom import Say
from icpo_lite.core.outputs import Kind, check_output, holds
from icpo_lite.recipe import Recipe, load_recipe
from icpo_lite.runs.run_directory import git_commit, machine, versions
from icpo_lite.tools.arena.arena_page import write_page
from icpo_lite.tools.arena.arena_results import (
    TRAINED,
    Cost,
    Results,
    Summary,
    arena_table,
    gains,
    paper_table,
    rows,
    table,
)
from icpo_lite.tools.arena.arms import ARMS, USUAL, trained_as
from icpo_lite.tools.arena.units import PartInterruptedError as PartInterruptedError
from icpo_lite.tools.arena.units import Run, Unit, play

#: What a reproduction leaves in its folder.
REPRODUCED = Kind(
    "an earlier reproduction", holds("results.json", "budget.json", "*/seed-*"), folder=True
)
#: Thresholds on P(ask) that are tried on other problems than those that are judged, and how many.
THRESHOLDS, TRIED_PROBLEMS, TRIED_RUNS = (0.05, 0.1, 0.2, 0.4), 40, 2
#: An arm may take so many times the recipe's steps until its tokens are spent.
MOST_STEPS = 8


@dataclass(frozen=True)
class Plan:
    """What is trained and judged.

    recipe: file or shipped name. arms: of `arena.arms`. split, problems, runs: of the judging, the
    recipe's where None. also: more splits that the finished runs are judged on. overrides: for
    every run. jobs: parts side by side.
    """

    recipe: str
    out: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    split: str | None = None
    problems: int | None = None
    runs: int | None = None
    also: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    arms: tuple[str, ...] = USUAL
    jobs: int = 1

    @property
    def trained(self) -> tuple[str, ...]:
        """The arms that are trained; the first says how many tokens each may sample."""
        names = [name for name in self.arms if ARMS[name].trains]
        return tuple(sorted(names, key=lambda name: name != TRAINED))

    def loaded(self, arm: str, seed: int, budget: int | None = None) -> Recipe:
        """The recipe of one run. Raises RecipeError before anything is trained."""
        return load_recipe(
            trained_as(self.recipe, ARMS[arm]).recipe, self.changes(arm, seed, budget)
        )

    def changes(self, arm: str, seed: int, budget: int | None = None) -> list[str]:
        """Overrides of one run. budget: tokens that it samples; None is as its steps come to."""
        start = load_recipe(self.recipe, self.overrides)
        spent = [] if budget is None else [f"max_sampled_tokens={budget}"]
        spent += [] if budget is None else [f"max_steps={MOST_STEPS * start.max_steps}"]
        return [
            *trained_as(self.recipe, ARMS[arm]).overrides,
            *self.overrides,
            *spent,
            f"seed={seed}",
            f"output_dir={self.folder(arm, seed)}",
            "evaluation.enabled=false",
            "compare={}",
        ]

    def folder(self, arm: str, seed: int) -> Path:
        return self.out / arm / f"seed-{seed}"

    def splits(self, recipe: Recipe) -> tuple[str, ...]:
        return (self.split or recipe.evaluation.split, *self.also)

    def place(self, arm: str, seed: int, split: str) -> Path:
        """Where a judgement lies."""
        end = "eval" if split not in self.also else f"eval-{split}"
        if not ARMS[arm].trains:
            return self.out / f"{arm}.{end}"
        folder = self.folder(arm, seed)
        return folder.with_name(f"{folder.name}.{end}")


def reproduce(plan: Plan, say: Say, run: Run | None = None) -> Results:
    """Do what is left of the plan and write the results; returns them.

    run: carries out one command line and returns its exit code (a process of its own).

    Raises RecipeError before anything starts, and IcpoError when a part fails.
    """
    first = plan.loaded(plan.trained[0], plan.seeds[0])
    for arm in plan.trained:
        plan.loaded(arm, plan.seeds[0], 1)
    check_output(plan.out, REPRODUCED, inputs=(plan.recipe,))
    plan.out.mkdir(parents=True, exist_ok=True)
    budget = _budget(plan, run, say)
    chains = [_chain(plan, arm, seed, budget, first) for arm in plan.trained for seed in plan.seeds]
    play([*chains, *_served(plan, first, say)], jobs=plan.jobs, run=run, say=say)
    play(_asking(plan, first, say), jobs=plan.jobs, run=run, say=say)
    results = collect(plan, first)
    write_results(plan, results)
    runs = {arm: plan.folder(arm, plan.seeds[0]) for arm in plan.trained}
    talks = {arm: plan.place(arm, plan.seeds[0], plan.splits(first)[0]) for arm in plan.arms}
    write_page(plan.out / "results.html", report(plan, results), results, runs, talks)
    return results


def _budget(plan: Plan, run: Run | None, say: Say) -> int:
    """Tokens that each run may sample: those of the first arm's first seed, once it is trained."""
    kept, arm, seed = plan.out / "budget.json", plan.trained[0], plan.seeds[0]
    asked = {"recipe": plan.recipe, "overrides": list(plan.overrides)}
    found = _read(kept)
    if found and {k: found.get(k) for k in asked} == asked:
        return int(found["sampled_tokens"])
    play([[_train(plan, arm, seed, None)]], jobs=1, run=run, say=say)
    spent = int(cost_of(plan.folder(arm, seed)).sampled)
    text = json.dumps({**asked, "sampled_tokens": spent, "arm": arm, "seed": seed}, indent=1)
    write_atomically(kept, text.encode())
    return spent


def _train(plan: Plan, arm: str, seed: int, budget: int | None) -> Unit:
    recipe = trained_as(plan.recipe, ARMS[arm]).recipe
    arguments = ("train", recipe, *plan.changes(arm, seed, budget))
    return Unit(f"{ARMS[arm].title}, seed {seed}", arguments, plan.folder(arm, seed), "finished")


def _chain(plan: Plan, arm: str, seed: int, budget: int, first: Recipe) -> list[Unit]:
    """One run and its judgements. The run that the budget was read off is there already."""
    kept = _read(plan.out / "budget.json")
    own = (kept.get("arm"), kept.get("seed")) == (arm, seed)
    chain = [_train(plan, arm, seed, None if own else budget)]
    folder = str(plan.folder(arm, seed))
    for split in plan.splits(first):
        place = plan.place(arm, seed, split)
        chain.append(_judged(f"{ARMS[arm].title}, seed {seed}", folder, plan, first, split, place))
    return chain


def _judged(
    title: str, model: str, plan: Plan, first: Recipe, split: str, place: Path, *more: str
) -> Unit:
    options = first.evaluation
    problems, runs = plan.problems or options.problems, plan.runs or options.runs
    arguments = [
        *("eval", model, "--split", split, "--problems", str(problems), "--runs", str(runs)),
        *(("--max-turns", str(options.max_turns)) if options.max_turns else ()),
        *("--temperature", str(options.temperature), "--device", first.device),
        *("--settings", ",".join(options.settings), "-o", str(place)),
    ]
    return Unit(f"{title}, judged", (*arguments, *more), place, "comparison.json")


def _reference(plan: Plan) -> str:
    """The run whose base and whose way of judging the untrained arms have."""
    return str(plan.folder(plan.trained[0], plan.seeds[0]))


def _served(plan: Plan, first: Recipe, say: Say) -> list[list[Unit]]:
    """What trains nothing, judged; and what chooses a threshold."""
    chains = []
    for name in plan.arms:
        arm = ARMS[name]
        if arm.trains:
            continue
        if arm.threshold:
            chains.append([_threshold(plan, first, level) for level in THRESHOLDS])
            continue
        chains.append(
            [
                _judged(
                    arm.title,
                    _reference(plan),
                    plan,
                    first,
                    split,
                    plan.place(name, 0, split),
                    *("--adapter-off", *arm.served),
                )
                for split in plan.splits(first)
            ]
        )
    return chains


def _threshold(plan: Plan, first: Recipe, level: float) -> Unit:
    """One threshold on problems that are not judged: the world's dev split, else training rows."""
    split = "dev" if first.dataset_name.startswith("builtin:") else first.dataset_train_split
    place = plan.out / f"threshold-{level:g}.eval"
    unit = _judged(f"threshold {level:g}", _reference(plan), plan, first, split, place)
    arguments = list(unit.arguments)
    for option, value in (("--problems", TRIED_PROBLEMS), ("--runs", TRIED_RUNS)):
        arguments[arguments.index(option) + 1] = str(value)
    arguments[arguments.index("--settings") + 1] = "full,sharded"
    arguments += ["--adapter-off", "--ask-threshold", f"{level:g}"]
    return Unit(unit.title, tuple(arguments), place, unit.done)


def _asking(plan: Plan, first: Recipe, say: Say) -> list[list[Unit]]:
    """The base with the threshold whose FULL and SHARDED were best together."""
    for name in plan.arms:
        if not ARMS[name].threshold:
            continue
        reached = {level: _both(_threshold(plan, first, level).place) for level in THRESHOLDS}
        best = max(reached, key=lambda level: reached[level])
        say(f"threshold {best:g}: FULL and SHARDED are {reached[best]:.1f} on average")
        served = ("--adapter-off", "--ask-threshold", f"{best:g}")
        title, model = ARMS[name].title, _reference(plan)
        return [
            [
                _judged(title, model, plan, first, split, plan.place(name, 0, split), *served)
                for split in plan.splits(first)
            ]
        ]
    return []


def _both(place: Path) -> float:
    settings = _only(place)["settings"]
    return mean(float(settings[name]["P"]["value"]) for name in ("full", "sharded"))


def _only(place: Path) -> Summary:
    """The figures of a judgement of one model."""
    found = _read(place / "comparison.json")
    if len(found) != 1:
        raise RunDirectoryError(
            f"{place}: expected the judgement of one model, found {len(found)}; delete the folder "
            "and run this again"
        )
    figures: Summary = next(iter(found.values()))
    return figures


def collect(plan: Plan, first: Recipe) -> Results:
    """The figures that the finished parts have left on the disk."""
    parts = {
        split: {
            seed: {arm: _only(plan.place(arm, seed, split)) for arm in plan.arms}
            for seed in plan.seeds
        }
        for split in plan.splits(first)
    }
    costs = {
        arm: tuple(cost_of(plan.folder(arm, seed)) for seed in plan.seeds) for arm in plan.trained
    }
    return Results(plan.seeds, plan.arms, parts, costs)


def cost_of(run: Path) -> Cost:
    """What a run took, as its metrics tell."""
    rows = read_metrics(run)

    def total(name: str) -> float:
        return sum(float(row.get(name) or 0.0) for row in rows)

    peak = max((float(row.get("memory_gb") or 0.0) for row in rows), default=0.0)
    return Cost(
        total("tokens/sampled"), total("tokens/trained"), total("step_seconds"), peak, len(rows)
    )


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


def report(plan: Plan, results: Results) -> str:
    """Tables and gains of all splits, and what they were made with."""
    first = load_recipe(plan.recipe, plan.overrides)
    judged = first.evaluation
    lines = [
        f"# {first.path.stem}: {first.model_name_or_path} on {first.dataset_name}",
        "",
        f"Seeds {', '.join(map(str, results.seeds))}; {first.max_steps} steps of "
        f"{first.prompts_per_step} prompts x {first.num_generations} responses each; "
        f"{plan.problems or judged.problems} problems x {plan.runs or judged.runs} runs, "
        f"temperature {judged.temperature:g}. "
        "Points: mean over seeds ± standard deviation over seeds [95 % interval over problems, of "
        "one seed on average]. Single-turn is FULL, the whole problem in one turn; multi-turn is "
        "SHARDED, one fact a turn. Every trained arm samples as many tokens as the first one; what "
        "is not trained is judged once. Differences are paired over problems.",
    ]
    for split in results.parts:
        lines += ["", arena_table(results, split), "", paper_table(results, split), ""]
        lines += [table(results, split), ""]
        lines += [f"- {gain}" for gain in gains(results, split)]
    return "\n".join(lines) + "\n"


def write_results(plan: Plan, results: Results) -> None:
    """results.md and results.json in the plan's folder."""
    write_atomically(plan.out / "results.md", report(plan, results).encode())
    facts = {
        "recipe": plan.recipe,
        "overrides": list(plan.overrides),
        "seeds": list(results.seeds),
        "arms": list(results.models),
        "budget": _read(plan.out / "budget.json"),
        "costs": {arm: [asdict(cost) for cost in costs] for arm, costs in results.costs.items()},
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
