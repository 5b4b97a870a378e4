"""A recipe: one YAML file that says everything about a run.

    recipe = load_recipe("recipes/tiny.yaml", ["max_steps=20", "reward.targeted=0.8"])

Reading is strict: unknown and duplicate keys, wrong types and contradictions are refused with
one line that names the file, the line and the nearest name that exists. A recipe is data, never
code. Keys carry TRL's names where TRL has one; those of axolotl, LLaMA-Factory and unsloth are
either understood (`ALIASES`) or answered with the key to use (`EXPLAINED`).

`augment` and `reward` stay plain mappings here, because the rooms that own their options stand
higher; `Recipe.bind` checks them against the owner's options model, with file and line.
"""

from icpo_lite.recipe.keys import Recipe
from icpo_lite.recipe.loading import (
    compared_recipes,
    load_recipe,
    resolved_yaml,
    shipped_recipes,
)
from icpo_lite.recipe.names import ALIASES, EXPLAINED
from icpo_lite.recipe.run_sections import Evaluation
from icpo_lite.recipe.strict_yaml import dump_yaml

__all__ = [
    "ALIASES",
    "EXPLAINED",
    "Evaluation",
    "Recipe",
    "compared_recipes",
    "dump_yaml",
    "load_recipe",
    "resolved_yaml",
    "shipped_recipes",
]
