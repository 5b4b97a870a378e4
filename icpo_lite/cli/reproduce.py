"""`icpo-lite reproduce`: base, RLVR and ICPO with the same seeds, as one table."""

from __future__ import annotations

from pathlib import Path

import click

from icpo_lite.cli.recipe_command import RecipeCommand, recipe_arguments
from icpo_lite.core.next_step import next_line


@click.command(cls=RecipeCommand)
@recipe_arguments(default="tiny")
@click.option("--seeds", default="0,1,2", show_default=True, help="Seeds, by comma.")
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
    "--also", multiple=True, metavar="SPLIT", help="Judge the runs on this split too: transfer."
)
def reproduce(
    recipe: str,
    overrides: tuple[str, ...],
    seeds: str,
    out: Path | None,
    split: str | None,
    problems: int,
    runs: int,
    also: tuple[str, ...],
) -> None:
    """Train RECIPE by ICPO and by plain RLVR with every seed and judge both beside the base.

    The same data, steps and evaluation for all. KEY=VALUE changes keys of all runs. The same
    command goes on where it was interrupted, and only shows the table when all is done.
    """
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
    )
    results = run_plan(plan, click.echo)
    click.echo(f"\n{report(plan, results)}\nResults: {plan.out / 'results.json'}")
    click.echo(next_line("report", *map(plan.folder, plan.seeds)))


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts) or len({*parts}) < len(parts):
        raise click.UsageError(f"--seeds: expected different numbers by comma, found {text!r}")
    return tuple(map(int, parts))
