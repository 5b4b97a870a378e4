"""`icpo-lite reproduce`: every cure with the same seeds and tokens, as one table and one page."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icpo_lite.cli.recipe_command import RecipeCommand, recipe_arguments
from icpo_lite.core.next_step import next_line

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


@click.command(cls=RecipeCommand)
@recipe_arguments(default="tiny")
@click.option(
    "--arms",
    default="base,rlvr,icpo",
    show_default=True,
    help="By comma, of base, threshold, cleaned, recap, snowball, mediator (these train nothing), "
    "rlvr, icpo-paper, icpo, rlaar, maigo, fic, icpo-maigo; all is every one but recap, snowball "
    "and mediator.",
)
@click.option(
    "--seeds", default="3", show_default=True, help="How many seeds, or which, by comma: 0,1,2."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder for runs and results. [default: runs/reproduce-RECIPE]",
)
@click.option("--split", default=None, help="Split that is judged. [default: the recipe's]")
@click.option(
    "--problems",
    type=click.IntRange(min=1),
    default=140,
    show_default=True,
    help="Problems judged on.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Conversations a problem and setting.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=None,
    help="Parts side by side. [default: one a core for the built-in model on a CPU, else 1]",
)
@click.option(
    "--also", multiple=True, metavar="SPLIT", help="Judge the runs on this split too: transfer."
)
def reproduce(
    recipe: str,
    overrides: tuple[str, ...],
    arms: str,
    seeds: str,
    out: Path | None,
    split: str | None,
    problems: int,
    runs: int,
    jobs: int | None,
    also: tuple[str, ...],
) -> None:
    """Train RECIPE by every method of --arms with every seed, and judge all beside the base.

    The same data, sampled tokens and problems for all: table, paired differences, costs, and one
    HTML page with curves and a conversation of each. An arm of which a recipe is shipped (of tiny:
    tiny-maigo) is trained by that. KEY=VALUE changes keys of all runs. The same command goes on
    where it was interrupted, arm by arm, and only shows the table when all is done.
    """
    from icpo_lite.tools.arena.arms import named_arms
    from icpo_lite.tools.reproduce import Plan, report
    from icpo_lite.tools.reproduce import reproduce as run_plan

    plan = Plan(
        recipe=recipe,
        out=out or Path("runs") / f"reproduce-{Path(recipe).stem}",
        seeds=_seeds(seeds),
        split=split,
        problems=problems,
        runs=runs,
        also=also,
        overrides=overrides,
        arms=named_arms(arms),
    )
    first = plan.loaded(plan.trained[0], plan.seeds[0])
    plan = replace(plan, jobs=jobs or _jobs(first))
    results = run_plan(plan, click.echo)
    click.echo(f"\n{report(plan, results)}\nResults: {plan.out / 'results.html'}")
    click.echo(next_line("report", *(plan.folder(arm, plan.seeds[0]) for arm in plan.trained)))


def _jobs(recipe: Recipe) -> int:
    """Runs of the built-in model take one thread each; any other takes all that there is."""
    small = recipe.model_name_or_path.startswith("builtin:") and recipe.device in ("cpu", "auto")
    return len(os.sched_getaffinity(0)) if small else 1


def _seeds(text: str) -> tuple[int, ...]:
    """One number is how many, from 0 on; with a comma they are the seeds themselves."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts) or len({*parts}) < len(parts):
        raise click.UsageError(
            f"--seeds: expected how many, or different numbers by comma, found {text!r}"
        )
    seeds = tuple(map(int, parts))
    if "," in text:
        return seeds
    if not seeds[0]:
        raise click.UsageError(
            "--seeds: expected at least one, found 0; seed 0 alone is --seeds 0,"
        )
    return tuple(range(seeds[0]))
