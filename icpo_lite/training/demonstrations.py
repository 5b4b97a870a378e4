"""What a good reply looks like, beside the sampled ones: RL-PLUS and HPT.

For a complete prompt it is the corpus's own solution, for an underspecified one the question that
asks for what it lacks. A demonstration is a trajectory of its group like any other, marked as
such: it is judged and rewarded with the samples, and counted among none of their figures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch

from icpo_lite.core.types import QUESTIONS, Group, Intent, Prompt, Trajectory, Turn
from icpo_lite.policy.chat_marks import harmless_text
from icpo_lite.policy.chat_template import end_of_turn
from icpo_lite.training.advantages import hpt_gate, zero_variance
from icpo_lite.training.asking_demonstrations import asking_demonstration

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

HybridPolicy = Literal["none", "rl_plus", "hpt"]

#: GSM8K's calculator marks: they are for a calculator, and no reader wants to see them.
_MARKS = re.compile(r"<<[^<>]*>>")


def join_demonstrations(
    groups: Sequence[Group], policy: Policy, max_completion_length: int
) -> list[Group]:
    """Each group with its prompt's demonstration as one more trajectory, where there is one."""
    end_id = turn_end_id(policy)

    def joined(group: Group) -> Group:
        ids = group.trajectories[0].prompt_ids
        shown = demonstration(group.prompt, ids, policy, end_id, max_completion_length)
        return replace(group, trajectories=(*group.trajectories, shown)) if shown else group

    return [joined(group) for group in groups]


def demonstration(
    prompt: Prompt, prompt_ids: tuple[int, ...], policy: Policy, end_id: int, limit: int
) -> Trajectory | None:
    """The reply that a prompt deserves; None without one, or with one of more than `limit` tokens.

    end_id: closes the reply (`turn_end_id`).
    """
    if prompt.intent is Intent.COMPLETE:
        text = _MARKS.sub("", prompt.solution)
    else:
        text = asking_demonstration(prompt) or ""
    if not text:
        return None
    # Where the prompt has opened a thought, an answer begins behind it.
    opening = policy.encode_text(policy.shut_thought)
    ids = policy.encode_text(harmless_text(policy.tokenizer, text, "assistant"))
    turn = Turn("assistant", text, (*opening, *ids, end_id), stop_reason="eos")
    if len(turn.token_ids) > limit:
        return None
    return Trajectory(prompt, prompt_ids, (turn,), demonstration=True)


def turn_end_id(policy: Policy) -> int:
    """The token with which this model's chat template closes an assistant's turn.

    Behind it a template may write the end of the whole chat (Phi's), which no reply is ended by.
    """
    written = end_of_turn(policy.tokenizer)
    if written is not None:
        return written
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


def fit_to_follow(groups: Sequence[Group], *, rare: bool) -> list[Group]:
    """The groups without demonstrations that the judge does not call right: no example to follow.

    rare: leaves out those, too, whose group has already asked: where they join it (RL-PLUS), a
    question is shown to groups in which nobody asks.
    """

    def stays(group: Group, trajectory: Trajectory) -> bool:
        if not trajectory.demonstration:
            return True
        asked = group.prompt.intent is Intent.UNDERSPECIFIED and bool(_succeeds(group).any())
        return succeeds(trajectory) and not (rare and asked)

    return [
        replace(g, trajectories=tuple(t for t in g.trajectories if stays(g, t))) for g in groups
    ]


def succeeds(trajectory: Trajectory) -> bool:
    """Whether a reply does what its prompt calls for: answers it rightly, or asks."""
    verdict = trajectory.reply.verdict
    if verdict is None:
        return False
    if trajectory.prompt.intent is Intent.UNDERSPECIFIED:
        return verdict.response_type in QUESTIONS
    return bool(verdict.correct)


def gated(groups: Sequence[Group], gate: float, spread: float) -> list[Group]:
    """HPT (arXiv 2509.04419): each group as its demonstration alone, or as its samples alone.

    gate: the share of right samples (on `q*`: of questions) up to which the demonstration is
    learned from (`advantages.hpt_gate`). A group without a demonstration keeps its samples.

    Ours: both kinds of demonstration are shown at one rate, since solutions alone teach to answer
    everything. Where one kind is shown less often, flat groups of it, whose samples teach nothing
    (rewards within `spread`), learn from their demonstrations, too.
    """
    shown = [_shown(group) is not None for group in groups]
    failing = [s and _fails(g, gate) for s, g in zip(shown, groups, strict=True)]
    learned = {i for i, fails in enumerate(failing) if fails}
    for intent in Intent:
        kind = [i for i, g in enumerate(groups) if shown[i] and g.prompt.intent is intent]
        spare = [i for i in kind if i not in learned and _is_flat(groups[i], spread)]
        wanted = round(_rate(groups, shown, failing) * len(kind))
        learned |= set(spare[: max(0, wanted - sum(failing[i] for i in kind))])
    return [_alone(g) if i in learned else sampled_only([g])[0] for i, g in enumerate(groups)]


def _rate(groups: Sequence[Group], shown: Sequence[bool], failing: Sequence[bool]) -> float:
    """Of the groups that have a demonstration, the share that need it: of the worse kind."""
    rates = [0.0]
    for intent in Intent:
        kind = [i for i, g in enumerate(groups) if shown[i] and g.prompt.intent is intent]
        if kind:
            rates.append(sum(failing[i] for i in kind) / len(kind))
    return max(rates)


def _shown(group: Group) -> Trajectory | None:
    return next((t for t in group.trajectories if t.demonstration), None)


def _alone(group: Group) -> Group:
    return replace(group, trajectories=tuple(t for t in group.trajectories if t.demonstration))


def _succeeds(group: Group) -> torch.Tensor:
    """[1, G] bool: which samples do what the prompt calls for."""
    (samples,) = sampled_only([group])
    return torch.tensor([[succeeds(t) for t in samples.trajectories]])


def _fails(group: Group, gate: float) -> bool:
    return bool(hpt_gate(_succeeds(group), gate))


def _is_flat(group: Group, spread: float) -> bool:
    (samples,) = sampled_only([group])
    return bool(zero_variance(torch.tensor([samples.rewards]), spread))
