"""`icpo-lite init`: a recipe with every key, its value and what it means."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icpo_lite.cli.option_command import OptionCommand
from icpo_lite.core.errors import RecipeError
from icpo_lite.core.next_step import next_line
from icpo_lite.core.visible_text import echo

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

TINY_MODEL = "builtin:tiny"
#: A heading stands before these keys.
HEADINGS = {
    "model_name_or_path": "Model",
    "lora_r": "LoRA",
    "dataset_name": "Data",
    "reward": "Reward",
    "prompts_per_step": "Sampling",
    "loss_type": "Objective",
    "learning_rate": "Optimisation",
    "output_dir": "Output",
    "compare": "Judging",
}
#: What people change, on top.
FIRST = (
    *("model_name_or_path", "dataset_name", "share_underspecified", "max_prompt_length"),
    *("max_completion_length", "prompts_per_step", "learning_rate", "max_steps"),
)
WIDTH = 92


@click.command(cls=OptionCommand)
@click.argument("path", type=click.Path(path_type=Path), default=Path("recipe.yaml"))
@click.option(
    "--model",
    default=TINY_MODEL,
    show_default=True,
    help="Model to train: a hub name, a folder or builtin:tiny.",
)
@click.option(
    "--dataset",
    default=None,
    help="Problems to train on: builtin:world, a .jsonl or .parquet file, or a hub name. "
    "[default: builtin:world for builtin:tiny, else openai/gsm8k]",
)
def init(path: Path, model: str, dataset: str | None) -> None:
    """Write a recipe to PATH with every key explained (default: recipe.yaml).

    Values start from the shipped recipe that fits the model; the tokenizer and the first rows of
    the data say the lengths, the columns and whether asking can be learned from them. The eight
    keys that people change come first. An existing file is never overwritten.
    """
    if path.exists():
        found = "a folder" if path.is_dir() else "one"
        raise RecipeError(f"expected no file at {path}, found {found}; name another path")
    from icpo_lite.cli.first_values import UNSEEN

    text, said = starting_recipe(model, dataset, path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RecipeError(f"expected no file at {path}, found one; name another path") from None
    except FileNotFoundError:
        raise RecipeError(f"expected a folder {path.parent}, found none; create it") from None
    for line in said:
        echo(line)
    echo(f"Wrote {path}.")
    if any(line.startswith(UNSEEN) for line in said):
        echo(f"Correct that in {path} first: see its dataset_name and columns.")
        echo(next_line("docs", "data", also=("preview", path)))
        return
    echo(next_line("preview", path, also=("train", path)))


def starting_recipe(model: str, dataset: str | None, path: Path) -> tuple[str, list[str]]:
    """YAML of a whole recipe for `model`, each key under its meaning, and what was found out."""
    values, said = starting_values(model, dataset, path)
    return _written(values, path), said


def starting_values(
    model: str, dataset: str | None, path: Path
) -> tuple[dict[str, Any], list[str]]:
    """The value of each key, and what the model and the data that are named have said."""
    from icpo_lite.cli.first_values import data_values, length_values
    from icpo_lite.recipe import load_recipe
    from icpo_lite.recipe.section import TWIN

    base = load_recipe("tiny" if model == TINY_MODEL else "qwen1.5b")
    values = base.model_dump(exclude={"gradient_accumulation_steps"})
    values |= {"model_name_or_path": model, "output_dir": f"runs/{path.stem}"}
    said: list[str] = []
    if dataset is not None:
        values |= {"dataset_name": dataset, "dataset_config": None, "columns": {}}
    if values["compare"]:
        values["compare"] = {"rlvr": TWIN}  # the twin of this very recipe, as it is edited
    if dataset is not None and not dataset.startswith("builtin:"):
        found, look, said = data_values(dataset, base)
        values |= {**found, "augment": values["augment"] | found.get("augment", {})}
        lengths, more = length_values(model, look, base)
        values |= lengths
        said += more
        if values["share_underspecified"] == 0 or look is None or not look.replies:
            values["compare"] = {}
    return values, said


def _written(values: dict[str, Any], path: Path) -> str:
    from icpo_lite.recipe import Evaluation, Recipe
    from icpo_lite.rewards.icpo import NAMED_REWARDS

    weights = NAMED_REWARDS[values["reward"]["name"]].options
    values["reward"] = values["reward"] | weights(**_without_name(values["reward"])).model_dump()
    blocks: dict[str, type[BaseModel]] = {"reward": weights, "evaluation": Evaluation}

    lines = [
        f"# A recipe for icpo-lite: icpo-lite train {path}",
        "# Every key is here with its meaning; delete what you leave as it is.",
        "",
        f"# {' What people change ':-^{WIDTH - 2}}",
    ]
    for key in FIRST:
        lines += ["", *_comment(Recipe.model_fields[key]), *_entry(key, values[key])]
    for key, value in values.items():
        if key in HEADINGS and key in FIRST:
            lines += ["", f"# {f' {HEADINGS[key]} ':-^{WIDTH - 2}}"]
        if key in FIRST:
            continue
        if key in HEADINGS:
            lines += ["", f"# {f' {HEADINGS[key]} ':-^{WIDTH - 2}}"]
        lines += ["", *_comment(Recipe.model_fields[key])]
        lines += _block(key, value, blocks[key]) if key in blocks else _entry(key, value)
    return "\n".join(lines) + "\n"


def _without_name(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "name"}


def _block(key: str, values: dict[str, Any], options: type[BaseModel]) -> list[str]:
    """A block of options, each on its own line under its meaning."""
    lines = [f"{key}:"]
    for name, value in values.items():
        if name in options.model_fields:
            lines += _comment(options.model_fields[name], indent="  ")
        lines += _entry(name, value, indent="  ")
    return lines


def _comment(field: FieldInfo, indent: str = "") -> list[str]:
    return textwrap.wrap(
        str(field.description),
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_on_hyphens=False,
    )


def _entry(key: str, value: Any, indent: str = "") -> list[str]:
    """`key: value`; a list or block stands in brackets on the key's own line."""
    from icpo_lite.recipe import dump_yaml

    text = dump_yaml({key: value}, blocks=not isinstance(value, list | dict))
    return [f"{indent}{line}" for line in text.splitlines()]
