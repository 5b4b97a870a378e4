"""Keys of small policies for tests, short to write."""

from typing import Any

import torch

from icpo_lite.policy.load import Policy, load_policy
from icpo_lite.recipe.sections import LoraKeys, ModelKeys, PolicyKeys


def model_keys(name: str, **keys: Any) -> ModelKeys:
    """A bare model, or one with LoRA weights where any of LoRA's keys is given."""
    if set(keys) & set(LoraKeys.model_fields):
        return PolicyKeys(model_name_or_path=name, **{"lora_alpha": 16, **keys})
    return ModelKeys(model_name_or_path=name, **keys)


def tiny_with_noise() -> Policy:
    """The embedded model with LoRA weights that say something, the same in every test."""
    loaded = load_policy(model_keys("builtin:tiny", device="cpu", lora_r=8))
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02, generator=noise)
    return loaded
