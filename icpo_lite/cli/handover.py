"""`icpo-lite handover`: a recipe for TRL or verl, where one GPU is not enough."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icpo_lite.cli.common_options import output_option
from icpo_lite.cli.recipe_command import RecipeCommand, recipe_arguments
from icpo_lite.core.visible_text import echo

if TYPE_CHECKING:
    from icpo_lite.tools.handover.left_behind import Side


@click.command(cls=RecipeCommand)
@recipe_arguments()
@click.option(
    "--to",
    "side",
    type=click.Choice(["trl", "verl"]),
    required=True,
    help="trl: a script for TRL's GRPOTrainer and accelerate. verl: its config and reward file.",
)
@output_option("Folder to write.", required=True)
def handover(recipe: str, overrides: tuple[str, ...], side: Side, output: Path) -> None:
    """Write a folder with which TRL or verl trains RECIPE on many GPUs.

    It holds the prompts of the whole run, the recipe's reward, its loss, LoRA and schedule in the
    other side's names, and a README with the command to start and with what is different there.
    Needs no GPU. The adapter that comes back is judged by `icpo-lite eval` and shown by
    `icpo-lite report` as one of our own.
    """
    from icpo_lite.recipe import load_recipe
    from icpo_lite.tools.handover.folder import hand_over

    made = hand_over(load_recipe(recipe, overrides), side, output)
    name = {"trl": "TRL", "verl": "verl"}[side]
    echo(_filled(made.described))
    echo(_filled(f"{made.place}: {', '.join(made.files)}"))
    echo(f"\nWhat {name} does not have:")
    for line in made.left:
        echo(_filled(f"- {line}", "  "))
    echo(f"\nNext: {made.command.format(place=shlex.quote(str(made.place)))}")


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, 80, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
