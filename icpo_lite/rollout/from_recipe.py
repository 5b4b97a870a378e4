"""A recipe's keys as sampling options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe
    from icpo_lite.rollout.sampler import SamplingOptions


def wanted_engine(recipe: Recipe) -> str:
    """The engine that the recipe asks for, or auto."""
    return "vllm" if recipe.use_vllm else recipe.engine


def sampling_options(recipe: Recipe, **changes: Any) -> SamplingOptions:
    """How replies are drawn in training, or with some options changed."""
    from icpo_lite.rollout.sampler import SamplingOptions

    training = SamplingOptions(
        max_new_tokens=recipe.max_completion_length,
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        top_k=recipe.top_k,
        engine=wanted_engine(recipe),
    )
    return training.but(**changes)
