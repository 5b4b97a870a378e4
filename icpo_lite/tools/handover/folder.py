"""The folder that another trainer starts from, and what it says of itself."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from icpo_lite import __version__
from icpo_lite.core.files import disk_errors, redact, write_atomically
from icpo_lite.core.outputs import Kind, check_output, holds
from icpo_lite.core.paths import HANDOVER
from icpo_lite.policy.start_adapter import with_own_keys
from icpo_lite.recipe import Recipe, dump_yaml
from icpo_lite.recipe.input_paths import with_absolute_paths
from icpo_lite.rewards.from_recipe import bind_reward, bind_reward_change
from icpo_lite.tools.handover import trl_keys, verl_keys
from icpo_lite.tools.handover.handed_prompts import HandedPrompts, handed_prompts
from icpo_lite.tools.handover.left_behind import Side, left_behind
from icpo_lite.tools.handover.rows import require_no_policy, trl_rows, verl_rows

#: Releases that the names were read in.
READ_IN = {"trl": "1.16.0", "verl": "0.9.1"}
FOLDER = Kind("an earlier handover", holds(HANDOVER), folder=True)
_WIDTH = 80
#: Rows of one group of a parquet file.
_ROWS = 1024


@dataclass(frozen=True)
class Handover:
    """What was written. rows: prompts of the whole run. left: what the other side lacks."""

    place: Path
    described: str
    rows: int
    files: tuple[str, ...]
    left: tuple[str, ...]
    command: str


def hand_over(recipe: Recipe, side: Side, place: Path) -> Handover:
    """Write the folder for `side`; a second time over an earlier one of the same place.

    Raises what `train` would raise for a recipe that cannot be trained, and UsageError where
    something else lies at `place`.
    """
    recipe = with_own_keys(recipe)
    inputs = [recipe.path, *(recipe.folder / _file(name) for name in recipe.reward_funcs)]
    check_output(place, FOLDER, inputs=inputs)
    bind_reward(recipe)
    bind_reward_change(recipe)
    if side == "verl":
        require_no_policy(recipe)
        verl_keys.config(recipe, "")
    handed = handed_prompts(recipe)
    left = left_behind(handed, side)
    with disk_errors("write", place):
        place.mkdir(parents=True, exist_ok=True)
        # First of all, so that half a folder is known as one and may be written over.
        write_atomically(place / HANDOVER, _facts(recipe, side))
        count = _write_rows(handed, side, place / "train.parquet")
        for name in recipe.reward_funcs:
            (place / _file(name)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(recipe.folder / _file(name), place / _file(name))
    kept = with_absolute_paths(recipe).model_copy(update={"compare": {}})
    texts = {"recipe.yaml": _recipe_text(kept), **_programs(handed, side, place)}
    command = COMMANDS[side]
    described = f"{count:,} rows for {recipe.max_steps:,} steps: {handed.described}"
    texts["README.md"] = _readme(recipe, side, described, left)
    for name, text in texts.items():
        write_atomically(place / name, text.encode())
    own = tuple(_file(name) for name in recipe.reward_funcs)
    files = (*sorted(("train.parquet", *texts)), *own)
    return Handover(place, described, count, files, tuple(left), command)


def _recipe_text(recipe: Recipe) -> str:
    """The recipe with all its defaults, secrets taken out: the folder goes elsewhere."""
    whole = recipe.model_dump(mode="json", exclude={"gradient_accumulation_steps"})
    return dump_yaml(redact(whole))


def _file(function: str) -> str:
    return function.rpartition(":")[0]


def _facts(recipe: Recipe, side: Side) -> bytes:
    facts = {"to": side, "recipe": str(recipe.path), "icpo_lite": __version__, **READ_IN}
    return f"{json.dumps(facts, indent=2)}\n".encode()


def _write_rows(handed: HandedPrompts, side: Side, path: Path) -> int:
    """The rows in groups, so that a long run's never lie in memory all at once."""
    rows = trl_rows(handed) if side == "trl" else verl_rows(handed)
    aside = path.with_name(f".{path.name}")
    count, writer = 0, None
    try:
        for batch in _batches(rows):
            table = pa.Table.from_pylist(batch, schema=writer.schema if writer else None)
            writer = writer or parquet.ParquetWriter(aside, table.schema)
            writer.write_table(table)
            count += len(batch)
    finally:
        if writer:
            writer.close()
    aside.replace(path)
    return count


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _programs(handed: HandedPrompts, side: Side, place: Path) -> dict[str, str]:
    recipe = handed.recipe
    if side == "trl":
        return {"train.py": trl_keys.script(recipe, recipe.path.stem)}
    model = handed.reader.path
    if recipe.model_name_or_path.startswith("builtin:"):  # it lies in this installation alone
        shutil.copytree(model, place / "model", dirs_exist_ok=True)
        model = str((place / "model").resolve())
    head = "# Overrides of verl's ppo_trainer.yaml; run.sh adds where this folder's files lie.\n"
    return {
        "config.yaml": head + dump_yaml(verl_keys.config(recipe, model)),
        "reward.py": verl_keys.REWARD_FILE,
        "run.sh": verl_keys.RUN_FILE,
    }


COMMANDS: dict[str, str] = {
    "trl": "accelerate launch --multi_gpu --num_processes 8 {place}/train.py",
    "verl": "bash {place}/run.sh trainer.n_gpus_per_node=8",
}


# ------------------------------------------------------------------------------------- README.md


def _readme(recipe: Recipe, side: Side, described: str, left: Sequence[str]) -> str:
    name = {"trl": "TRL", "verl": "verl"}[side]
    return "\n".join(
        [
            f"# {recipe.path.stem}, handed over to {name}",
            "",
            *_filled(f"Written by `icpo-lite handover`, version {_own_version()}. {described}."),
            "",
            "## Train",
            "",
            *(_trl_steps(recipe) if side == "trl" else _verl_steps()),
            "",
            "## What goes along",
            "",
            *_listed(_goes_along(recipe, side)),
            "",
            f"## What {name} does not have",
            "",
            *_listed(left),
            "",
            "## What comes back",
            "",
            *(_trl_back() if side == "trl" else _verl_back()),
            "",
        ]
    )


def _own_version() -> str:
    try:
        return version("icpo-lite")
    except PackageNotFoundError:
        return __version__


def _filled(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _listed(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in _filled(f"- {text}", "  ")]


def _trl_steps(recipe: Recipe) -> list[str]:
    rows = recipe.prompts_per_step * recipe.num_generations // recipe.num_mini_batches
    return [
        *_filled(
            "On the machine with the GPUs, beside the torch that is there, and from this folder:"
        ),
        "",
        "    pip install PATH_OF_ICPO_LITE 'trl>=1.15' peft bitsandbytes accelerate datasets",
        "    accelerate launch --multi_gpu --num_processes 8 train.py",
        "",
        *_filled(
            f"Any number of processes does, as long as an update's {rows} completions can be "
            "dealt out evenly: `train.py` says how, and what to change. Without "
            "a GPU: `torchrun --nproc_per_node 2 train.py`. Several machines, DeepSpeed and FSDP "
            "are accelerate's: `accelerate config`. The same command goes on from the last "
            "checkpoint."
        ),
    ]


def _verl_steps() -> list[str]:
    return [
        *_filled("On the machine with the GPUs, in verl's own environment, from this folder:"),
        "",
        "    pip install --no-deps PATH_OF_ICPO_LITE",
        "    pip install pydantic pyyaml httpx rich",
        "    bash run.sh trainer.n_gpus_per_node=8",
        "",
        *_filled(
            "On several nodes, start Ray on each and give run.sh the number; the folder must lie "
            "at the same place on all of them:"
        ),
        "",
        "    ray start --head                      # on the first node",
        "    ray start --address=FIRST_NODE:6379   # on every other one",
        "    bash run.sh trainer.nnodes=2 trainer.n_gpus_per_node=8",
        "",
        *_filled("Names were read in verl 0.9.1. What stands behind run.sh overrides config.yaml."),
    ]


def _goes_along(recipe: Recipe, side: Side) -> list[str]:
    numbers = "train.py" if side == "trl" else "config.yaml"
    lines = [
        "train.parquet: the prompts of the whole run in the order in which `icpo-lite train` "
        "draws them, each with its certificate and what it lacks. Nothing may shuffle them.",
        f"The reward `{recipe.reward['name']}` with all its parts: judge `{recipe.judge}`, graders "
        "and weights of recipe.yaml, by the intent of each prompt.",
        f"{numbers}: loss, LoRA, batch and schedule under the other side's names.",
    ]
    if recipe.reward_funcs:
        files = ", ".join(dict.fromkeys(_file(name) for name in recipe.reward_funcs))
        lines.append(f"Your own rewards ({files}); what they import must be installed there.")
    if recipe.endpoint is not None and recipe.endpoint.api_key_env:
        lines.append(f"Not the key in {recipe.endpoint.api_key_env}: set that variable there.")
    return lines


def _trl_back() -> list[str]:
    return [
        *_filled("A peft adapter in `adapter/`, judged and shown as one of our own:"),
        "",
        "    icpo-lite eval adapter --compare base",
        "    icpo-lite report adapter",
    ]


def _verl_back() -> list[str]:
    return [
        *_filled("Checkpoints, which verl makes a peft adapter of:"),
        "",
        "    python3 -m verl.model_merger merge --backend fsdp \\",
        "        --local_dir checkpoints/global_step_N/actor --target_dir merged",
        "",
        *_filled("It lies in `merged/lora_adapter`, judged and shown as one of our own:"),
        "",
        "    icpo-lite eval merged/lora_adapter --compare base",
        "    icpo-lite report merged/lora_adapter",
    ]
