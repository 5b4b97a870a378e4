"""A run directory or a bare model as a loaded policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icpo_lite.core.errors import UsageError
from icpo_lite.core.paths import at_home, no_run_at, reads_as_path
from icpo_lite.recipe import load_recipe
from icpo_lite.recipe.sections import ModelKeys, PolicyKeys

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe


@dataclass(frozen=True)
class FoundModel:
    """A run or a bare model that was looked at and not loaded. recipe: the run's."""

    name: str
    recipe: Recipe | None = None

    def load(self, device: str) -> Policy:
        from icpo_lite.policy.load import load_policy

        if self.recipe is None:
            # The built-in model is judged as it is trained.
            in_4bit = True if self.name.startswith("builtin:") else "auto"
            keys = ModelKeys(model_name_or_path=self.name, device=device, load_in_4bit=in_4bit)
            return load_policy(keys)
        # Replies here are not sampled by vLLM, whose memory the model would go without.
        trained = PolicyKeys.of(self.recipe).but(device=device, use_vllm=False)
        return load_policy(trained, adapter=at_home(self.name), trainable=False)


def find_model(name: str) -> FoundModel:
    """A run directory with its recipe, or a bare model (folder, hub name, builtin:tiny).

    Nothing is loaded and no hub is asked. Raises UsageError for a folder that is neither, for a
    run without an adapter, and for a path at which there is nothing.
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
    homes = [folder, folder.parent] if folder.name.startswith("checkpoint-") else [folder]
    home = next((f for f in homes if (f / "recipe.yaml").is_file()), None)
    if home is None:
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"expected a run directory or a model, found neither recipe.yaml nor config.json "
                f"in {name}; give the folder that `icpo-lite train` wrote"
            )
        return FoundModel(name)
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder}: expected a run with an adapter, found one that has not finished; train it "
            "to the end, or give one of its checkpoint folders"
        )
    return FoundModel(name, load_recipe(home / "recipe.yaml"))


def load_model(name: str, *, device: str = "auto") -> tuple[Policy, Recipe | None]:
    """What `find_model` finds, loaded, and the recipe of a run."""
    found = find_model(name)
    return found.load(device), found.recipe
