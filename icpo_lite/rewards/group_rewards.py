"""What a reply earns beside the others of its group: the table that `group_rewards` names.

    diversity  r + weight d, or (1 - weight) r + weight d, for questions to prompts that lack
               something, d = 1 - mean likeness to the other questions of the group
               (after MultiRole-R1's shaped reward, arXiv 2507.20187)
    win_rate   the share of the other replies that r beats, ties half (SPO, arXiv 2401.04056)

d is ours: likeness is shared words over all words of two questions. MultiRole-R1's is a weighted
sum of eight measures of one text (words, token entropy, sentence lengths and patterns, ...), which
questions of ten words are too short for; its reward is the second form. SPO asks a preference
model which of two replies is better; here the one that earns more is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from icpo_lite.core.types import QUESTIONS, Intent, Prompt, Reward, RewardContext, Turn
from icpo_lite.core.words import words


class GroupRewardOptions(BaseModel):
    """A reward without numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DiversityOptions(GroupRewardOptions):
    """The weight of `diversity`, and how it is paid."""

    weight: float = Field(0.1, gt=0, description="what a question earns that nobody else asks")
    mixed: bool = Field(
        False, description="whether the reward makes room for it: (1 - weight) r + weight d"
    )

    @model_validator(mode="after")
    def _leaves_a_reward(self) -> Self:
        if self.mixed and self.weight > 1:
            raise ValueError(f"mixed: expected a weight up to 1, found {self.weight:g}")
        return self


def likeness(one: str, other: str) -> float:
    """Shared words over all words of two texts, 0 to 1."""
    a, b = (set(words(text.lower())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0


def win_rates(rewards: Sequence[float]) -> list[float]:
    """Of each reward the share of the others that it beats, ties counted half; needs two."""
    others = len(rewards) - 1
    return [
        (sum((r > s) + 0.5 * (r == s) for s in rewards) - 0.5) / others if others else r
        for r in rewards
    ]


def _diversity(
    rewards: Sequence[Reward],
    prompts: Sequence[Prompt],
    turns: Sequence[Turn],
    options: DiversityOptions,
) -> list[Reward]:
    asks = [_asks(p, t) for p, t in zip(prompts, turns, strict=True)]
    out = []
    for i, reward in enumerate(rewards):
        if not asks[i]:
            out.append(reward)
            continue
        others = [t.content for j, t in enumerate(turns) if asks[j] and j != i]
        alike = [likeness(turns[i].content, other) for other in others]
        worth = options.weight * (1 - (sum(alike) / len(alike) if alike else 0.0))
        left = 1 - options.weight if options.mixed else 1.0
        parts = {name: left * part for name, part in reward.components.items()}
        out.append(Reward(left * reward.total + worth, {**parts, "diversity": worth}))
    return out


def _asks(prompt: Prompt, turn: Turn) -> bool:
    lacks = prompt.intent is Intent.UNDERSPECIFIED
    return lacks and turn.verdict is not None and turn.verdict.response_type in QUESTIONS


def _win_rate(
    rewards: Sequence[Reward],
    prompts: Sequence[Prompt],
    turns: Sequence[Turn],
    options: GroupRewardOptions,
) -> list[Reward]:
    if len(rewards) < 2:
        return list(rewards)
    return [Reward(rate, {"win_rate": rate}) for rate in win_rates([r.total for r in rewards])]


@dataclass(frozen=True, slots=True)
class GroupReward:
    """A reward of the table: its options model, and a function of one group's replies."""

    options: type[GroupRewardOptions]
    function: Callable[..., list[Reward]] | None


GROUP_REWARDS: dict[str, GroupReward] = {
    "none": GroupReward(GroupRewardOptions, None),
    "diversity": GroupReward(DiversityOptions, _diversity),
    "win_rate": GroupReward(GroupRewardOptions, _win_rate),
}


def by_group(function: Callable[..., list[Reward]], options: GroupRewardOptions) -> Any:
    """The function of a group as one of all replies of a step, beside the context they stand in.

    Without a context every reply stands alone: nothing is added, and nothing compared.
    """

    def changed(
        rewards: Sequence[Reward],
        prompts: Sequence[Prompt],
        turns: Sequence[Turn],
        context: RewardContext,
    ) -> list[Reward]:
        places: dict[int, list[int]] = defaultdict(list)
        for i in range(len(rewards)):
            places[context.groups[i] if context.groups else i].append(i)
        out = list(rewards)
        for rows in places.values():
            if len(rows) < 2:
                continue
            made = function(
                [rewards[i] for i in rows],
                [prompts[i] for i in rows],
                [turns[i] for i in rows],
                options,
            )
            for i, reward in zip(rows, made, strict=True):
                out[i] = reward
        return out

    return changed
