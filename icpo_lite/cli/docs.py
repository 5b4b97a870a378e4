"""`icpo-lite docs`: the guide in the terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import click

#: Lines are hard to read beyond this width.
_WIDEST = 100


def topics() -> dict[str, Path]:
    """Name → file of every topic; the guide comes first."""
    folder = Path(str(resources.files("icpo_lite") / "docs"))
    files = sorted(folder.glob("*.md"), key=lambda file: (file.stem != "guide", file.stem))
    return {file.stem: file for file in files}


def title(text: str) -> str:
    """What a page's first heading says."""
    return text.partition("\n")[0].lstrip("# ").strip()


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in topics() if name.startswith(incomplete)]


@click.command()
@click.argument("topic", required=False, shell_complete=_complete)
@click.option("--raw", is_flag=True, help="Print Markdown as it is written.")
def docs(topic: str | None, raw: bool) -> None:
    """Read TOPIC: guide, data, keys … or the name of a recipe's key. Without one, list them.

    Off a terminal the Markdown is printed as it is written.
    """
    known = topics()
    if topic is None:
        click.echo(_listing(known))
        return
    if topic.removesuffix(".md") in known:
        text = known[topic.removesuffix(".md")].read_text(encoding="utf-8")
        _show(without_marks(text), raw=raw)
        return
    if found := _key_entry(topic, known):
        _show(found, raw=raw)
        return
    from icpo_lite.core.errors import UsageError
    from icpo_lite.recipe import Recipe
    from icpo_lite.recipe.messages import nearest

    raise UsageError(
        f"expected a topic ({', '.join(known)}) or a key of a recipe, found {topic!r}"
        f"{nearest(topic, [*known, *Recipe.model_fields])}"
    )


def _listing(known: Mapping[str, Path]) -> str:
    width = max(map(len, known))
    lines = ["Topics, each read with `icpo-lite docs TOPIC`:", ""]
    lines += [
        f"  {name:<{width}}  {title(file.read_text('utf-8'))}" for name, file in known.items()
    ]
    lines += ["", "`icpo-lite docs KEY` says what a key of a recipe means: icpo-lite docs beta"]
    return "\n".join(lines)


def _key_entry(name: str, known: Mapping[str, Path]) -> str:
    """What the page of keys has on one key; "" for no key."""
    from icpo_lite.recipe import Recipe
    from icpo_lite.recipe.names import ALIASES

    key = ALIASES.get(name, name)
    if key not in Recipe.model_fields or "keys" not in known:
        return ""
    lines = known["keys"].read_text(encoding="utf-8").splitlines()
    at = lines.index(f"### `{key}`")
    end = next((i for i in range(at + 1, len(lines)) if lines[i].startswith("#")), len(lines))
    return "\n".join(lines[at:end]).strip() + "\n"


def without_marks(text: str) -> str:
    """The page without comments, which are for those who write it."""
    return re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)


def _show(text: str, *, raw: bool) -> None:
    if raw or not sys.stdout.isatty():
        click.echo(text, nl=not text.endswith("\n"))
        return
    import shutil

    from rich.console import Console
    from rich.markdown import Markdown

    width = min(shutil.get_terminal_size().columns, _WIDEST)
    console = Console(width=width)
    with console.capture() as shown:
        console.print(Markdown(text, hyperlinks=False))
    # As git does: colours pass through, and what fits the screen ends at once.
    os.environ.setdefault("LESS", "FRX")
    click.echo_via_pager(shown.get(), color=True)
