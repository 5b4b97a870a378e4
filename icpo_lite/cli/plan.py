"""`icpo-lite plan`: memory, disk and time of a recipe before it runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from icpo_lite.cli.recipe_command import RecipeCommand, recipe_arguments
from icpo_lite.core.fitted import fitted
from icpo_lite.core.next_step import next_line

if TYPE_CHECKING:
    from icpo_lite.tools.planner import Fit, RunPlan


@click.command(cls=RecipeCommand)
@recipe_arguments()
@click.option(
    "--card",
    help="Plan for one card alone: T4, L4, 3060, 3070, 3080, 3090, '4060 Ti' (16 GB), 4070, 4080, "
    "4090, 5090, A100 (40 GB), H100, H200, cpu, or a size such as 16GB.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as JSON, in bytes.")
def plan(recipe: str, overrides: tuple[str, ...], card: str | None, as_json: bool) -> None:
    """Say what RECIPE needs: memory by part, disk, download, hours.

    Reads the model's config.json and no weights. For this machine, then for each card, it says
    whether the recipe fits, and else the overrides with which it does. Times are estimated until
    a run here has measured a step.
    """
    import json

    from icpo_lite.recipe import load_recipe
    from icpo_lite.tools.cards import card_named
    from icpo_lite.tools.planner import plan_run

    loaded = load_recipe(recipe, overrides)
    chosen = card_named(card) if card else None
    made = plan_run(loaded, _model_folder(loaded.model_name_or_path), chosen)
    if as_json:
        click.echo(json.dumps(made.as_json(), indent=2))
        return
    for line in _lines(made, recipe, one_card=chosen is not None):
        click.echo(fitted(line))
    click.echo(next_line("train", recipe, *overrides))


def _model_folder(name: str) -> str:
    from icpo_lite.policy.load import model_path

    return model_path(name)


def _lines(made: RunPlan, given: str, *, one_card: bool) -> Iterator[str]:
    recipe = made.recipe
    total = sum(made.memory.parameters.values())
    yield f"{recipe.model_name_or_path}: {total:,} weights, after {made.source}"
    yield ("" if one_card else "This machine: ") + _verdict(made.machine, recipe.max_steps)
    yield ""
    yield from _memory(made)
    yield ""
    if made.fits and not one_card:
        for fit in made.fits:
            yield _verdict(fit, recipe.max_steps)
    if any(fit.step_seconds for fit in (made.machine, *made.fits)):
        yield (
            "Times are estimated, not measured: from each card's published bandwidth and "
            "arithmetic, every reply of full length. Half or twice as long would be no surprise."
        )
    yield ""
    disk = made.disk
    yield (
        f"Disk: {_size(disk.output)} in {recipe.output_dir} ({disk.checkpoints} checkpoints of "
        f"{_size(disk.checkpoint)} at most); download: "
        + (f"about {_size(disk.download)}, once" if disk.download else "nothing")
    )
    yield _time(made, given)
    yield from _evaluation(made)


def _memory(made: RunPlan) -> Iterator[str]:
    memory = made.memory
    yield f"Memory on {made.card.name}, every prompt and completion of full length:"
    for name, size in memory.stays.items():
        tied = name == "lm_head" and made.shape.tied
        yield _row(name, "tied to the embeddings" if tied else _size(size))
    yield f"  the highest phase is {memory.highest.name}:"
    for name, size in memory.highest.parts.items():
        if size:
            yield _row(f"  {name}", _size(size))
    if memory.context:
        yield _row("CUDA context and workspaces", f"{_size(memory.context)} (an allowance)")
    yield _row("peak", _size(memory.peak))
    others = [p for p in memory.phases if p is not memory.highest]
    low = ", ".join(f"{p.name} {_size(memory.at(p.name) + memory.context)}" for p in others)
    yield f"  (in the other phases: {low})"
    if made.vllm:
        yield f"  {made.vllm}"


def _row(name: str, value: str) -> str:
    return f"  {name:<48}{value:>10}"


def _verdict(fit: Fit, steps: int) -> str:
    card = f"{fit.card.name:<8} {_size(fit.card.usable):>10}  "
    split = f"; sampling splits its batch in {fit.parts}" if fit.parts > 1 else ""
    hours = f", {_hours(fit.step_seconds * steps)}" if fit.step_seconds else ""
    if fit.evaluation_seconds:
        hours += f" and {_hours(fit.evaluation_seconds)} of evaluation"
    if fit.fits:
        return f"{card}fits ({_size(fit.plan.peak)}{split}){hours}"
    needs = f"{card}does not fit (needs {_size(fit.plan.peak)})"
    if fit.changes:
        return f"{needs}; fits with {' '.join(fit.changes)}{split}{hours}"
    return f"{needs}; no setting makes it fit: take a smaller model"


def _hours(seconds: float) -> str:
    """A rough time, in words that are no more exact than it is."""
    if seconds < 600:
        return "minutes"
    if seconds < 5400:
        return f"about {round(seconds / 300) * 5} min"
    hours = seconds / 3600
    return f"about {hours:.0f} h" if hours >= 10 else f"about {round(hours * 2) / 2:g} h"


def _time(made: RunPlan, given: str) -> str:
    from icpo_lite.core.console import clock

    recipe = made.recipe
    if made.seconds is None:
        return (
            f"Time: not measured yet; `icpo-lite train {shlex.quote(given)} max_steps=3 "
            f"output_dir=runs/trial evaluation.enabled=false`, then plan with "
            "output_dir=runs/trial"
        )
    seconds, steps = made.seconds
    whole = clock(seconds * recipe.max_steps)
    return (
        f"Time: {seconds:.1f} s a step (median of {steps} in {recipe.output_dir}), {whole} for "
        f"{recipe.max_steps} steps on that machine, without the evaluation"
    )


def _evaluation(made: RunPlan) -> Iterator[str]:
    from icpo_lite.core.console import clock
    from icpo_lite.tools.planner import USUAL_SHARDS, evaluation_replies

    recipe, replies = made.recipe, evaluation_replies(made.recipe)
    if not replies:
        return
    if made.evaluation is None:
        a_step = recipe.prompts_per_step * recipe.num_generations
        took = f"the sampling of {replies / a_step:.0f} steps"
    else:
        took = f"{clock(made.evaluation)} at that rate"
    yield (
        f"Evaluation: at most {replies:,} replies of this run and the base, with {USUAL_SHARDS} "
        f"facts a problem: {took}"
    )


def _size(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB" if size >= 100 << 20 else f"{size / (1 << 20):.1f} MiB"
