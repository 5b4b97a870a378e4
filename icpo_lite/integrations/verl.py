"""A recipe for verl: the columns of its parquet file, and its reward function.

verl gives a reward function one response at a time, as text, on a thread of its own. Its tokens are
counted anew where the reward goes by them. `icpo-lite handover RECIPE --to verl` writes a whole
folder. Read in verl 0.9.1.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import UsageError
from icpo_lite.core.types import QUESTIONS, Intent
from icpo_lite.tools.handover.handed_prompts import handed_prompts, opened
from icpo_lite.tools.handover.reply_rewards import ReplyRewards
from icpo_lite.tools.handover.rows import ROW, require_no_policy, verl_rows

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


def dataset(recipe: Recipe | str | Path) -> list[dict[str, Any]]:
    """The rows of verl's parquet file for the whole run, in their order (`data.shuffle: false`)."""
    return list(verl_rows(handed_prompts(opened(recipe))))


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
