"""A recipe for verl: the columns of its parquet file, and its reward function.

verl gives a reward function one response at a time, as text, on a thread of its own. Its tokens are
counted anew where the reward goes by them. `icpo-lite handover RECIPE --to verl` writes a whole
folder. Read in verl 0.9.1.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import RecipeError, UsageError
from icpo_lite.core.types import QUESTIONS, Intent
from icpo_lite.integrations.handed_prompts import HandedPrompts, handed_prompts, opened, packed
from icpo_lite.integrations.reply_rewards import ReplyRewards
from icpo_lite.rewards.from_recipe import judge_needs_policy

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

#: The entry of `extra_info` that holds all that the reward needs of a prompt.
ROW = "prompt_row"


def dataset(recipe: Recipe | str | Path) -> list[dict[str, Any]]:
    """The rows of verl's parquet file for the whole run, in their order (`data.shuffle: false`)."""
    return list(rows(handed_prompts(opened(recipe))))


def rows(handed: HandedPrompts) -> Iterator[dict[str, Any]]:
    """The rows of `dataset`: verl's five columns."""
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


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    recipe: Recipe | str | Path,
    **_: Any,
) -> dict[str, float]:
    """The recipe's reward of one response as `score`, and what verl shows beside it.

    recipe: the recipe, or the file that holds it, which is read once a process. extra_info: that
    of the row; the gold answer in it is the one that counts. Threads may call this side by side.
    """
    row = (extra_info or {}).get(ROW)
    if row is None:
        raise UsageError(
            f"compute_score: expected {ROW!r} in extra_info, found "
            f"{', '.join(extra_info or ()) or 'nothing'}; train on the parquet file that "
            "`icpo-lite handover` wrote"
        )
    rewards = _rewards(recipe)
    with _TOKENIZING:  # a fast tokenizer serves one thread at a time
        ids = rewards.reader.encode_text(solution_str)
        # Its end token was decoded away; a response without one is as long as it may be.
        if len(ids) < rewards.recipe.max_completion_length:
            ids = (*ids, min(rewards.reader.end_ids))
        reply = rewards.reply(row, solution_str, ids)
    (judged,), _rates = rewards.judged([reply])
    verdict, lacks = judged.verdict, reply.prompt.intent is Intent.UNDERSPECIFIED
    return {
        "score": judged.reward.total,
        "acc": float(bool(verdict.correct)),
        "asks": float(verdict.response_type in QUESTIONS),
        "underspecified": float(lacks),
    }


_TOKENIZING = threading.Lock()
_MAKING = threading.Lock()


def _rewards(recipe: Recipe | str | Path) -> ReplyRewards:
    with _MAKING:
        return _made(recipe if isinstance(recipe, str | Path) else _Held(recipe))


class _Held:
    """A recipe as a key of the cache: itself and no other."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __hash__(self) -> int:
        return id(self.recipe)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.recipe is other.recipe


@lru_cache(maxsize=8)
def _made(named: str | Path | _Held) -> ReplyRewards:
    rewards = ReplyRewards(named.recipe if isinstance(named, _Held) else opened(named))
    require_no_policy(rewards.recipe)
    rewards.ready()
    return rewards
