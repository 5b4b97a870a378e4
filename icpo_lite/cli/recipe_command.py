"""Commands that take `RECIPE [KEY=VALUE]...`, and what they say of a key written as an option."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from icpo_lite.cli.completion import complete_key, complete_recipe

#: Where other commands write.
_OUTPUTS = ("o", "output", "out")


class RecipeCommand(click.Command):
    """A command whose recipe's keys are overrides: `--learning_rate 3` is told to drop its dashes.

    That is how TRL, axolotl and LLaMA-Factory take them.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if told := _as_override(error.option_name, given):
                raise click.UsageError(told, ctx) from None
            raise


def recipe_arguments(**recipe: Any) -> Callable[[Any], Any]:
    """The arguments RECIPE and KEY=VALUE. recipe: what else RECIPE has, such as a default."""

    def declared(command: Any) -> Any:
        keys = click.argument(
            "overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_key
        )
        return click.argument("recipe", shell_complete=complete_recipe, **recipe)(keys(command))

    return declared


def _as_override(option: str, given: list[str]) -> str:
    """How an option that names a key is written here; "" where it names none."""
    from icpo_lite.recipe import Recipe
    from icpo_lite.recipe.names import ALIASES, EXPLAINED

    named, _, _ = option.lstrip("-").partition("=")
    first, dot, rest = named.partition(".")
    key = "output_dir" if first in _OUTPUTS else first.replace("-", "_")
    if key in EXPLAINED:
        return f"{option}: {key} is not a key of icpo-lite; {EXPLAINED[key]}"
    key = ALIASES.get(key, key)
    if key not in Recipe.model_fields:
        return ""
    value = _value_of(option, given) or ("true" if _is_flag(key, rest) else "VALUE")
    return (
        f"{option}: keys of the recipe are written without dashes; write {key}{dot}{rest}={value}"
    )


def _value_of(option: str, given: list[str]) -> str:
    """What was given with an option, behind `=` or as the next argument, quoted; "" for nothing."""
    for at, argument in enumerate(given):
        name, equals, value = argument.partition("=")
        if name != option.partition("=")[0]:
            continue
        if not equals:
            following = given[at + 1] if at + 1 < len(given) else ""
            is_value = bool(following) and not re.match(r"--|-[a-zA-Z]|\w[\w.]*=", following)
            value = following if is_value else ""
        return f"'{value}'" if re.search(r"[\s{}\[\]()*?&|;<>$'\"]", value) else value
    return ""


def _is_flag(key: str, rest: str) -> bool:
    from icpo_lite.recipe import Recipe

    return not rest and "bool" in str(Recipe.model_fields[key].annotation)
