"""Sampled replies as rows of completions/, and the group that is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from icpo_lite.core.types import Group, Intent, Trajectory, Turn


def completion_rows(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    for group in groups:
        advantages = group.advantages or (None,) * len(group.trajectories)
        for trajectory, advantage in zip(group.trajectories, advantages, strict=True):
            yield {**_completion_row(trajectory), "advantage": advantage}


def _completion_row(trajectory: Trajectory) -> dict[str, Any]:
    prompt, reply = trajectory.prompt, trajectory.reply
    assert reply.verdict is not None
    assert trajectory.reward is not None
    row = {
        "prompt_id": prompt.prompt_id,
        "problem_id": prompt.problem_id,
        "intent": str(prompt.intent),
        "prompt": [{"role": m.role, "content": m.text} for m in prompt.messages],
        "removed": [s.text for s in prompt.removed],
        "removed_ids": [s.shard_id for s in prompt.removed],
        "completion": reply.content,
        "tokens": sum(len(turn.token_ids) for turn in trajectory.replies),
        "stop_reason": reply.stop_reason,
        "response_type": str(reply.verdict.response_type),
        "correct": reply.verdict.correct,
        "reward": trajectory.reward.total,
        "rewards": dict(trajectory.reward.components),
    }
    if len(trajectory.turns) > 1:
        row["turns"] = [_turn_row(turn) for turn in trajectory.turns]
    return row


def _turn_row(turn: Turn) -> dict[str, Any]:
    """One turn of a conversation: what was said, and of a reply what it was and what it earned."""
    said: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.role == "user":
        return {**said, "told": list(turn.told)}
    if turn.verdict is not None:
        said["response_type"] = str(turn.verdict.response_type)
        said |= {"correct": turn.verdict.correct, "targeted": turn.verdict.targeted}
    if turn.reward is not None:
        said |= {"reward": turn.reward.total, "rewards": dict(turn.reward.components)}
    if turn.gold_prob is not None:
        said["gold_prob"] = turn.gold_prob
    return {**said, "tokens": len(turn.token_ids), "advantage": turn.advantage}


def most_telling(groups: Sequence[Group], turn: int) -> Group:
    """The group whose rewards differ most, an underspecified and a complete prompt in turn."""
    wanted = (Intent.UNDERSPECIFIED, Intent.COMPLETE)[(turn - 1) % 2]
    some = [g for g in groups if g.prompt.intent is wanted] or list(groups)
    return max(some, key=lambda g: max(g.rewards) - min(g.rewards))
