"""DAPO's soft overlong penalty (arXiv 2503.14476, equation 13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icpo_lite.core.types import (
    Prompt,
    Reward,
    RewardChange,
    Turn,
)

if TYPE_CHECKING:
    pass


def with_overlong_penalty(
    change: RewardChange | None, max_completion_length: int, soft_punish_cache: int
) -> RewardChange:
    """`change`, then DAPO's penalty on length (`advantages.soft_overlong_penalty`)."""

    def changed(
        rewards: Sequence[Reward], prompts: Sequence[Prompt], turns: Sequence[Turn]
    ) -> list[Reward]:
        before = change(rewards, prompts, turns) if change else rewards
        lengths = torch.tensor([float(len(turn.token_ids)) for turn in turns])
        penalties = soft_overlong_penalty(lengths, max_completion_length, soft_punish_cache)
        return [
            Reward(r.total + cost, {**r.components, "overlong": cost})
            for r, cost in zip(before, penalties.tolist(), strict=True)
        ]

    return changed


def soft_overlong_penalty(lengths: Tensor, max_length: int, cache: int) -> Tensor:
    """DAPO's penalty on length, added to the reward (arXiv 2503.14476 eq. 13).

    lengths, of any shape, in tokens -> 0 up to max_length - cache, then falling linearly to -1
    at max_length and beyond. cache > 0.
    """
    over = lengths - (max_length - cache)
    return -(over / cache).clamp(0.0, 1.0)
