"""A recipe's keys as sampling options and as prompts that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icpo_lite.core.types import Prompt
    from icpo_lite.recipe import Recipe
    from icpo_lite.rollout.kept_chat_ids import Reader
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


def recipe_ids(
    recipe: Recipe, reader: Reader, prompts: Sequence[Prompt]
) -> dict[str, tuple[int, ...]]:
    """Token ids of each prompt by its id, as long as the recipe allows (`encode_prompts`)."""
    from icpo_lite.rollout.groups import encode_prompts

    lengths = (recipe.max_prompt_length, recipe.max_completion_length)
    return encode_prompts(reader, prompts, *lengths, recipe.on_long_prompt)
