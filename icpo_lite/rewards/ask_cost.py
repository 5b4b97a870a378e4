"""The price of a question, where a prompt's system turn names one.

A policy that is trained on many prices asks by the one that it is told: at 0 whenever something is
missing, at a high one only where it would hardly be right otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from icpo_lite.core.types import QUESTIONS, Prompt, Reward, RewardChange, Turn


def with_ask_cost(change: RewardChange | None) -> RewardChange:
    """What `change` makes of the rewards of a step, less the price of each question."""

    def changed(
        rewards: Sequence[Reward], prompts: Sequence[Prompt], turns: Sequence[Turn]
    ) -> list[Reward]:
        given = list(rewards) if change is None else change(rewards, prompts, turns)
        return [_paid(r, p, t) for r, p, t in zip(given, prompts, turns, strict=True)]

    return changed


def _paid(reward: Reward, prompt: Prompt, turn: Turn) -> Reward:
    asks = turn.verdict is not None and turn.verdict.response_type in QUESTIONS
    if not asks or not prompt.ask_cost:
        return reward
    parts = {**reward.components, "ask_cost": -prompt.ask_cost}
    return replace(reward, total=reward.total - prompt.ask_cost, components=parts)
