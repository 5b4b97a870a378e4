"""A run directory or a bare model as a loaded policy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icpo_lite.core.errors import UsageError
from icpo_lite.core.paths import at_home, no_run_at, reads_as_path, recipe_home, runs_hint
from icpo_lite.recipe import load_recipe
from icpo_lite.recipe.sections import ModelKeys, PolicyKeys

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe


@dataclass(frozen=True)
class FoundModel:
    """A run, an adapter or a bare model that was looked at and not loaded.

    recipe: the run's, or the one that the adapter was trained with. base: the model that an adapter
    without a recipe names.
    """

    name: str
    recipe: Recipe | None = None
    base: str | None = None

    def load(self, device: str) -> Policy:
        from icpo_lite.policy.load import load_policy

        if self.base is not None:
            bare = ModelKeys(model_name_or_path=self.base, device=device, load_in_4bit="auto")
            return load_policy(bare, adapter=at_home(self.name), trainable=False)
        if self.recipe is None:
            # The built-in model is judged as it is trained.
            in_4bit = True if self.name.startswith("builtin:") else "auto"
            keys = ModelKeys(model_name_or_path=self.name, device=device, load_in_4bit=in_4bit)
            return load_policy(keys)
        # Replies here are not sampled by vLLM, whose memory the model would go without.
        trained = PolicyKeys.of(self.recipe).but(device=device, use_vllm=False)
        return load_policy(trained, adapter=at_home(self.name), trainable=False)


def find_model(name: str) -> FoundModel:
    """A run directory with its recipe, an adapter of peft, or a bare model (folder, hub name,
    builtin:tiny).

    An adapter that another trainer wrote has the recipe that was handed over to it, if any.
    Nothing is loaded and no hub is asked. Raises UsageError for a folder that is none of them, for
    a run without an adapter, and for a path at which there is nothing.
    """
    folder = at_home(name)
    if name.startswith("builtin:"):
        from icpo_lite.policy.load import model_path

        model_path(name)
        return FoundModel(name)
    if not folder.is_dir():
        if reads_as_path(name):
            raise no_run_at(name)
        return FoundModel(name)
    home = recipe_home(folder)
    if home is None:
        if (folder / "adapter_config.json").is_file():
            return FoundModel(name, base=_base_of(folder))
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"expected a run directory or a model, found neither recipe.yaml nor config.json "
                f"in {name}; give the folder that `icpo-lite train` wrote{runs_hint(folder)}"
            )
        return FoundModel(name)
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder}: expected a run with an adapter, found one that has not finished; train it "
            "to the end, or give one of its checkpoint folders"
        )
    return FoundModel(name, load_recipe(home / "recipe.yaml"))


def _base_of(folder: Path) -> str:
    """The model that an adapter was trained on, as its config says."""
    file = folder / "adapter_config.json"
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, LookupError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        raise UsageError(
            f"{file}: expected base_model_name_or_path, the model that was trained, found none; "
            "write its name there, or put the recipe.yaml of the training beside it"
        )
    return base


def load_model(name: str, *, device: str = "auto") -> tuple[Policy, Recipe | None]:
    """What `find_model` finds, loaded, and the recipe of a run."""
    found = find_model(name)
    return found.load(device), found.recipe
