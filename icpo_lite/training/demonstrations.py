"""The corpus's own solutions beside the sampled replies: RL-PLUS and HPT.

A demonstration is a trajectory of its group like any other, marked as such: it is judged and
rewarded with the samples, and counted among none of their figures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch

from icpo_lite.core.types import Group, Intent, Trajectory, Turn
from icpo_lite.policy.chat_marks import harmless_text
from icpo_lite.training.advantages import hpt_gate

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

HybridPolicy = Literal["none", "rl_plus", "hpt"]

#: GSM8K's calculator marks: they are for a calculator, and no reader wants to see them.
_MARKS = re.compile(r"<<[^<>]*>>")


def join_demonstrations(
    groups: Sequence[Group], policy: Policy, max_completion_length: int
) -> list[Group]:
    """Each group on a complete prompt with the reference solution as one more trajectory.

    Underspecified prompts get none: the reference solution uses what they lack. Nor does a prompt
    without a solution, or with one of more than `max_completion_length` tokens.
    """
    end_id = turn_end_id(policy)
    return [_joined(group, policy, end_id, max_completion_length) for group in groups]


def _joined(group: Group, policy: Policy, end_id: int, limit: int) -> Group:
    prompt = group.prompt
    if prompt.intent is not Intent.COMPLETE or not prompt.solution:
        return group
    text = harmless_text(policy.tokenizer, _MARKS.sub("", prompt.solution), "assistant")
    ids = policy.encode_text(text)
    turn = Turn("assistant", text, (*ids, end_id), stop_reason="eos")
    if len(turn.token_ids) > limit:
        return group
    prompt_ids = group.trajectories[0].prompt_ids
    shown = Trajectory(prompt, prompt_ids, (turn,), demonstration=True)
    return replace(group, trajectories=(*group.trajectories, shown))


def turn_end_id(policy: Policy) -> int:
    """The token with which this model's chat template closes an assistant's turn."""
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = policy.tokenizer.apply_chat_template(chat, tokenize=False)
    ids = policy.encode_text(text)
    closing = [token for token in ids if token in policy.end_ids]
    return int(closing[-1] if closing else min(policy.end_ids))


def sampled_only(groups: Sequence[Group]) -> list[Group]:
    """The groups without their demonstrations: what the policy itself has said."""
    return [
        replace(g, trajectories=tuple(t for t in g.trajectories if not t.demonstration))
        for g in groups
    ]


def right_only(groups: Sequence[Group]) -> list[Group]:
    """The groups without demonstrations that the grader calls wrong: no example to follow."""

    def stays(trajectory: Trajectory) -> bool:
        verdict = trajectory.reply.verdict
        return not trajectory.demonstration or bool(verdict and verdict.correct)

    return [replace(g, trajectories=tuple(filter(stays, g.trajectories))) for g in groups]


def gated(groups: Sequence[Group], gate: float) -> list[Group]:
    """HPT (arXiv 2509.04419): each group as its demonstration alone, or as its samples alone.

    gate: the share of right samples up to which the demonstration is learned from
    (`advantages.hpt_gate`). A group without a demonstration keeps its samples.
    """
    return [_gated(group, gate) for group in groups]


def _gated(group: Group, gate: float) -> Group:
    shown = tuple(t for t in group.trajectories if t.demonstration)
    (samples,) = sampled_only([group])
    verdicts = [t.reply.verdict for t in samples.trajectories]
    right = torch.tensor([[bool(v and v.correct) for v in verdicts]])
    return replace(group, trajectories=shown) if shown and hpt_gate(right, gate) else samples
