"""The scale of float16's loss: its gradients vanish or overflow without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe


def loss_scaler(policy: Policy, recipe: Recipe) -> torch.amp.GradScaler:
    """A scaler that is on for float16 alone; other dtypes have the range."""
    half = policy.device.dtype is torch.float16
    return torch.amp.GradScaler(
        policy.device.torch_device.type,
        enabled=half,
        growth_interval=growth_interval(recipe),
    )


def growth_interval(recipe: Recipe) -> int:
    """Updates without an overflow after which the loss scale doubles: a twentieth of the run's.

    torch's 2,000 outlast most runs, so that a scale which one bad update had lowered stayed low.
    """
    updates = recipe.max_steps * recipe.num_iterations * recipe.num_mini_batches
    return min(max(updates // 20, 10), 2000)
