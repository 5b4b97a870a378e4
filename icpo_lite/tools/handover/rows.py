"""Handed prompts as the rows of another trainer's data set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from icpo_lite.core.errors import RecipeError
from icpo_lite.recipe import Recipe
from icpo_lite.rewards.from_recipe import judge_needs_policy
from icpo_lite.tools.handover.handed_prompts import HandedPrompts, packed

#: The column (TRL) or entry of `extra_info` (verl) with all that the reward needs of a prompt.
ROW = "prompt_row"


def trl_rows(handed: HandedPrompts) -> Iterator[dict[str, Any]]:
    """TRL's conversational column `prompt`, and what the reward and a reader want to know."""
    for prompt in handed.drawn():
        yield {
            "prompt": handed.reader.turns(prompt),
            "prompt_id": prompt.prompt_id,
            "problem_id": prompt.problem_id,
            "task": str(prompt.task),
            "intent": str(prompt.intent),
            ROW: packed(prompt),
        }


def verl_rows(handed: HandedPrompts) -> Iterator[dict[str, Any]]:
    """verl's five columns."""
    require_no_policy(handed.recipe)
    for index, prompt in enumerate(handed.drawn()):
        answer = prompt.answer
        yield {
            "data_source": f"icpo-lite/{prompt.dataset or prompt.task}",
            "prompt": handed.reader.turns(prompt),
            "ability": str(prompt.task),
            "reward_model": {
                "style": "rule",
                "ground_truth": answer if isinstance(answer, str) else json.dumps(answer),
            },
            "extra_info": {
                "index": index,
                "prompt_id": prompt.prompt_id,
                "intent": str(prompt.intent),
                ROW: packed(prompt),
            },
        }


def require_no_policy(recipe: Recipe) -> None:
    """Raises RecipeError where the judge asks the model itself: verl's reward workers have none."""
    if judge_needs_policy(recipe):
        raise RecipeError(
            f"{recipe.where('judge')}: expected a judge that needs no model (rules, linear or "
            "endpoint, target_by: rules or judge), found one that asks the policy, which verl's "
            "reward workers do not hold; change judge or reward.target_by, or --to trl"
        )
