"""What a shell may be told while a command is typed; no model and no torch is loaded for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Iterable

SHELLS = ("bash", "zsh", "fish")


def complete_recipe(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Shipped recipes by name, and files of the working directory."""
    from icpo_lite.recipe import shipped_recipes

    named = [CompletionItem(n) for n in shipped_recipes() if n.startswith(incomplete)]
    return [*named, CompletionItem(incomplete, type="file")]


def complete_key(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Keys of a recipe, each with what it means."""
    from icpo_lite.recipe import Recipe

    fields = Recipe.model_fields.items()
    return [
        CompletionItem(f"{key}=", help=str(field.description).partition(":")[0])
        for key, field in fields
        if key.startswith(incomplete)
    ]


def complete_run(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Run directories below `runs`, and folders."""
    from icpo_lite.core.paths import is_run

    return [
        *_named(map(str, filter(is_run, _folders(Path("runs")))), incomplete),
        *_dirs(incomplete),
    ]


def complete_model(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Run directories, the built-in model, and folders."""
    return [*_named(["builtin:tiny"], incomplete), *complete_run(ctx, param, incomplete)]


def _named(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _dirs(incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if path.is_dir())
    except OSError:
        return []


def script(shell: str, group: click.Command) -> str:
    """What a shell runs at its start to complete `icpo-lite`."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    source = found(group, {}, "icpo-lite", "_ICPO_LITE_COMPLETE").source()
    if shell == "bash":  # a key is followed by its value, not by a space
        add = "COMPREPLY+=($value)"
        source = source.replace(add, f"{add}\n            [[ $value == *= ]] && compopt -o nospace")
    return source
