"""Keys of small policies for tests, short to write."""

from typing import Any

from icpo_lite.recipe.sections import LoraKeys, ModelKeys, PolicyKeys


def model_keys(name: str, **keys: Any) -> ModelKeys:
    """A bare model, or one with LoRA weights where any of LoRA's keys is given."""
    if set(keys) & set(LoraKeys.model_fields):
        return PolicyKeys(model_name_or_path=name, **{"lora_alpha": 16, **keys})
    return ModelKeys(model_name_or_path=name, **keys)
