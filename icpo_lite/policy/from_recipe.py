"""A recipe or a name as a loaded policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from icpo_lite.core.errors import UsageError

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.policy.spec import ModelSpec
    from icpo_lite.recipe import Recipe


def model_spec(recipe: Recipe) -> ModelSpec:
    """What `policy.load` needs."""
    from icpo_lite.policy.spec import ModelSpec

    targets = recipe.lora_target_modules
    return ModelSpec(
        model_name_or_path=recipe.model_name_or_path,
        backend=recipe.backend,
        load_in_4bit=recipe.load_in_4bit,
        device=recipe.device,
        dtype=recipe.dtype,
        attn_implementation=recipe.attn_implementation,
        trust_remote_code=recipe.trust_remote_code,
        gradient_checkpointing=recipe.gradient_checkpointing,
        lora_r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        lora_target_modules=targets if isinstance(targets, str) else tuple(targets),
        lora_dtype=recipe.lora_dtype,
        seed=recipe.seed,
        use_vllm=recipe.use_vllm,
    )


def load_model(name: str, *, device: str = "auto") -> tuple[Policy, Recipe | None]:
    """A run directory with its recipe, or a bare model (folder, hub name, builtin:tiny)."""
    from icpo_lite.policy.load import load_policy
    from icpo_lite.policy.spec import ModelSpec
    from icpo_lite.recipe import load_recipe

    folder = Path(name)
    homes = [folder, folder.parent] if folder.name.startswith("checkpoint-") else [folder]
    home = next((f for f in homes if (f / "recipe.yaml").is_file()), None)
    if home is None or not folder.is_dir():
        return load_policy(ModelSpec(name, device=device)), None
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder}: expected a run with an adapter, found one that has not finished; train it "
            "to the end, or give one of its checkpoint folders"
        )
    recipe = load_recipe(home / "recipe.yaml")
    # Replies here are not sampled by vLLM, whose memory the model would go without.
    spec = replace(model_spec(recipe), device=device, lora_r=None, use_vllm=False)
    return load_policy(spec, adapter=folder), recipe
