"""A run directory or a bare model as a loaded policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from icpo_lite.core.errors import UsageError
from icpo_lite.recipe import load_recipe
from icpo_lite.recipe.sections import ModelKeys, PolicyKeys

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe


def load_model(name: str, *, device: str = "auto") -> tuple[Policy, Recipe | None]:
    """A run directory with its recipe, or a bare model (folder, hub name, builtin:tiny)."""
    from icpo_lite.policy.load import load_policy

    folder = Path(name)
    homes = [folder, folder.parent] if folder.name.startswith("checkpoint-") else [folder]
    home = next((f for f in homes if (f / "recipe.yaml").is_file()), None)
    if home is None or not folder.is_dir():
        return load_policy(ModelKeys(model_name_or_path=name, device=device)), None
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder}: expected a run with an adapter, found one that has not finished; train it "
            "to the end, or give one of its checkpoint folders"
        )
    recipe = load_recipe(home / "recipe.yaml")
    # Replies here are not sampled by vLLM, whose memory the model would go without.
    keys = PolicyKeys.of(recipe).but(device=device, use_vllm=False)
    return load_policy(keys, adapter=folder, trainable=False), recipe
