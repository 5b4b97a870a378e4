"""`icpo-lite train`: train a recipe, or resume an interrupted run."""

from __future__ import annotations

import json

import click

from icpo_lite.cli.recipe_command import RecipeCommand, recipe_arguments


@click.command(cls=RecipeCommand)
@recipe_arguments()
@click.option(
    "--compare",
    multiple=True,
    metavar="NAME[=RECIPE]",
    help="Train another run beside this one and compare: rlvr, or a recipe under a name.",
)
@click.option(
    "--resume-anyway",
    is_flag=True,
    help="Resume although a key that decides what is learned has changed.",
)
@click.option("--extend", is_flag=True, help="Train a finished run on to a larger max_steps.")
@click.option("--no-user-code", is_flag=True, help="Refuse a recipe that names functions.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads of this run; by default its share of the cores.",
)
def train(
    recipe: str,
    overrides: tuple[str, ...],
    compare: tuple[str, ...],
    resume_anyway: bool,
    extend: bool,
    no_user_code: bool,
    threads: int | None,
) -> None:
    """Train RECIPE: a file, or a shipped recipe such as tiny.

    KEY=VALUE changes keys of the recipe: max_steps=20 reward.targeted=0.8. The same command
    resumes an interrupted run; a run that is done only shows its result.
    """
    from icpo_lite.recipe import load_recipe
    from icpo_lite.recipe.section import TWIN

    if compare:
        named = dict(part.partition("=")[::2] for part in compare)
        block = {name: path or TWIN for name, path in named.items()}
        overrides = (*overrides, f"compare={json.dumps(block)}")
    loaded = load_recipe(recipe, overrides)
    own = {
        "reward_funcs": bool(loaded.reward_funcs),
        "simulated_user": ".py:" in loaded.simulated_user,
    }
    if no_user_code and (key := next((key for key, named in own.items() if named), None)):
        raise click.UsageError(
            f"{loaded.where(key)}: --no-user-code refuses {key}; take the key out"
        )
    from icpo_lite.policy.libraries import without_collecting

    with without_collecting():
        from icpo_lite.runs.train import train as train_run

    train_run(loaded, resume_anyway=resume_anyway, extend=extend, threads=threads)
