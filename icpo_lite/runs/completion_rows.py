"""Sampled replies as rows of completions/, and the group that is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from icpo_lite.core.types import Group, Intent, Trajectory

if TYPE_CHECKING:
    pass


def completion_rows(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    for group in groups:
        advantages = group.advantages or (None,) * len(group.trajectories)
        for trajectory, advantage in zip(group.trajectories, advantages, strict=True):
            yield {**_completion_row(trajectory), "advantage": advantage}


def _completion_row(trajectory: Trajectory) -> dict[str, Any]:
    prompt, reply = trajectory.prompt, trajectory.reply
    assert reply.verdict is not None
    assert reply.reward is not None
    return {
        "prompt_id": prompt.prompt_id,
        "problem_id": prompt.problem_id,
        "intent": str(prompt.intent),
        "prompt": [{"role": m.role, "content": m.text} for m in prompt.messages],
        "removed": [s.text for s in prompt.removed],
        "removed_ids": [s.shard_id for s in prompt.removed],
        "completion": reply.content,
        "tokens": len(reply.token_ids),
        "stop_reason": reply.stop_reason,
        "response_type": str(reply.verdict.response_type),
        "correct": reply.verdict.correct,
        "reward": reply.reward.total,
        "rewards": dict(reply.reward.components),
    }


def most_telling(groups: Sequence[Group], turn: int) -> Group:
    """The group whose rewards differ most, an underspecified and a complete prompt in turn."""
    wanted = (Intent.UNDERSPECIFIED, Intent.COMPLETE)[(turn - 1) % 2]
    some = [g for g in groups if g.prompt.intent is wanted] or list(groups)
    return max(some, key=lambda g: max(g.rewards) - min(g.rewards))
