"""The reading list says what the code can do: a name that is here is a key with a value."""

import importlib.util
from pathlib import Path
from typing import get_args

import pytest
from reading_list import STATUSES, TABLE, entries, rendered

from icpo_lite.cli import COMMANDS, cli
from icpo_lite.data.from_recipe import prompt_pool
from icpo_lite.recipe import Recipe, load_recipe
from icpo_lite.recipe.method_sections import (
    ADVANTAGES,
    GROUP_REWARDS,
    SEGMENTS,
    SHAPINGS,
    TOKEN_WEIGHTS,
)
from icpo_lite.recipe.objective_sections import LossType
from icpo_lite.rewards.from_recipe import bind_conversation_reward, bind_reward_change, target_by
from icpo_lite.training.advantage_rules import Advantages
from icpo_lite.training.conversations import Conversations
from icpo_lite.training.reply_shaping import ReplyShaping
from icpo_lite.training.segments import Segments

ENTRIES = {entry["name"]: entry for entry in entries()}
HERE = {name: entry for name, entry in ENTRIES.items() if entry["status"] == "here"}


def test_the_table_is_written_from_the_list() -> None:
    assert TABLE.read_text(encoding="utf-8") == rendered(), "run python tests/reading_list.py"


def test_every_entry_says_what_became_of_it() -> None:
    assert len(ENTRIES) == len(entries()), "a name stands twice"
    for name, entry in ENTRIES.items():
        assert entry["status"] in STATUSES, name
        needed = {"here": "keys", "command": "command", "not": "why"}[entry["status"]]
        assert entry.get(needed), f"{name}: {needed} is missing"
        assert set(entry) <= {"name", "arxiv", "what", "status", "keys", "command", "why"}, name


@pytest.mark.parametrize("name", HERE)
def test_a_name_that_is_here_is_a_recipe_key_with_its_value(name: str) -> None:
    """Loaded together with the tiny recipe, and bound where a block's owner checks it."""
    keys = HERE[name]["keys"]
    for key in keys:
        assert key.partition("=")[0].partition(".")[0] in Recipe.model_fields, key
    recipe = load_recipe("tiny", keys)
    Advantages(recipe)
    ReplyShaping(recipe)
    Segments.of(recipe)
    bind_reward_change(recipe)
    target_by(recipe)
    prompt_pool(recipe, [])
    if recipe.rollout == "conversation":
        bind_conversation_reward(recipe)
        Conversations(recipe)


@pytest.mark.parametrize("name", [n for n, e in ENTRIES.items() if e["status"] == "command"])
def test_a_command_is_one(name: str) -> None:
    command, *options = ENTRIES[name]["command"].split()
    assert command in COMMANDS
    known = {option for p in cli.get_command(None, command).params for option in p.opts}
    assert set(options) <= known


def test_every_small_method_is_an_arm_of_the_table() -> None:
    """`tests/claims/objectives.py` can be asked for all that is here beside the tiny recipe."""
    path = Path(__file__).parent / "claims" / "objectives.py"
    spec = importlib.util.spec_from_file_location("objectives_of_claims", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, keys in module.ARMS.items():
        given = [key.replace("{dapo}", "runs/dapo") for key in keys]
        assert load_recipe("tiny", [*module.SHARED, *given]), name
    said = {key for keys in module.ARMS.values() for key in keys}
    for name in (*ADVANTAGES, *TOKEN_WEIGHTS, *GROUP_REWARDS, *SEGMENTS, *SHAPINGS):
        assert name in ("group", "none") or any(name in key for key in said), name
    for loss in get_args(LossType):
        assert loss == "dapo" or f"loss_type={loss}" in said, loss
