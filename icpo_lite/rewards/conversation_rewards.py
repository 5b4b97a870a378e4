"""What the replies of a whole conversation earn: the table that a recipe chooses from.

Each rule takes all replies of one conversation, beside the prompt as it stood at each, and gives
each a reward; the conversation's own is their sum. A reply is *early* while the prompt still lacks
a removed shard: nothing but a question is called for there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from icpo_lite.core.types import QUESTIONS, Intent, ResponseType, Reward
from icpo_lite.rewards.question_targets import aim
from icpo_lite.rollout.conversation_groups import ConversationRule, Spoken

#: PIR counts turns up to so many.
_PIR_TURNS = 5


class CostOptions(BaseModel):
    """What talking costs under any of the rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question_cost: float = Field(0.0, ge=0, description="taken off for every question")
    turn_cost: float = Field(0.0, ge=0, description="taken off for every reply")


class IntentOptions(CostOptions):
    """The weights of `intent`."""

    turns: float = Field(
        1.0,
        ge=0,
        description="what the rewards of all single replies are worth together: each counts by the "
        "number of replies that the prompt calls for",
    )
    terminal: float = Field(1.0, ge=0, description="a right last answer with nothing missing")
    after_asking: float = Field(
        0.0, ge=0, description="added to it where a question had asked for what was missing"
    )


class AskedOptions(CostOptions):
    """The weight of `after_asking`."""

    unasked: float = Field(
        0.0, ge=0, le=1, description="a right answer to a prompt that lacked something, unasked"
    )


class TernaryOptions(CostOptions):
    """The weight of `ternary`."""

    abstained: float = Field(
        0.0, ge=-1, le=1, description="a conversation that ends without an answer attempt"
    )


def _intent(talk: Sequence[Spoken], options: IntentOptions) -> list[Reward]:
    """The reward of each reply by itself, and the right answer at the end (ours).

    A prompt that lacks n shards calls for n + 1 replies, and no conversation has more.
    """
    share = options.turns / (1 + len(talk[0].prompt.removed))
    rewards = [
        Reward(share * s.reward.total, {k: share * v for k, v in s.reward.components.items()})
        for s in talk
    ]
    parts = {}
    if _right(talk[-1]) and not _early(talk[-1]):
        parts["terminal"] = options.terminal
        if options.after_asking and _asked_well(talk):
            parts["after_asking"] = options.after_asking
    return [*rewards[:-1], _plus(rewards[-1], parts)]


def _terminal(talk: Sequence[Spoken], options: CostOptions) -> list[Reward]:
    """1 where the last answer attempt is right: Lost in Conversation's own score."""
    attempts = [s for s in talk if _attempt(s)]
    return _at_the_end(talk, terminal=float(bool(attempts) and _right(attempts[-1])))


def _after_asking(talk: Sequence[Spoken], options: AskedOptions) -> list[Reward]:
    """1 for a right last answer, where the prompt lacked something only after asking for it."""
    if not _right(talk[-1]) or _early(talk[-1]):
        return _at_the_end(talk, after_asking=0.0)
    whole = not _early(talk[0]) or _asked_well(talk)
    return _at_the_end(talk, after_asking=1.0 if whole else options.unasked)


def _pir(talk: Sequence[Spoken], options: CostOptions) -> list[Reward]:
    """PIR: wrong 0; right 0.5; right after questions 0.5 + 0.5 help + 0.5 (5 - turns) / 4.

    help: the share of questions that asked for what was missing (PIR asks a model how helpful each
    was). Turns count up to 5.
    """
    if not _right(talk[-1]):
        return _at_the_end(talk, pir=0.0)
    asked = [s for s in talk if _asks(s)]
    if not asked:
        return _at_the_end(talk, pir=0.5)
    helpful = sum(_targeted(s) for s in asked) / len(asked)
    brief = (_PIR_TURNS - min(len(talk), _PIR_TURNS)) / (_PIR_TURNS - 1)
    return _at_the_end(talk, pir=0.5 + 0.5 * helpful + 0.5 * brief)


def _askbench(talk: Sequence[Spoken], options: CostOptions) -> list[Reward]:
    """AskBench, reply by reply: an early one is an asking turn, the others are final turns.

    Asking turn: all that lacks asked for 1, some of it 0.8, none -0.8, answered anyway -2. Final
    turn: right 1, wrong -1, still asking -2.
    """
    return [Reward(worth, {"askbench": worth}) for worth in map(_askbench_turn, talk)]


def _askbench_turn(said: Spoken) -> float:
    if not _early(said):
        if _attempt(said):
            return 1.0 if _right(said) else -1.0
        return -2.0
    if _attempt(said):
        return -2.0
    if not _targeted(said):
        return -0.8
    hits = aim(said.prompt, said.turn.content).hits
    return 1.0 if max(hits, 1) >= len(said.prompt.removed) else 0.8


def _ternary(talk: Sequence[Spoken], options: TernaryOptions) -> list[Reward]:
    """Right 1, no answer `abstained`, wrong -1 (arXiv 2601.20126; -0.25 to 0.3 was best)."""
    last = talk[-1]
    worth = (1.0 if _right(last) else -1.0) if _attempt(last) else options.abstained
    return _at_the_end(talk, ternary=worth)


def _rlaar(talk: Sequence[Spoken], options: CostOptions) -> list[Reward]:
    """RLAAR (arXiv 2510.18731): the right last answer, or none where the list of shards ends early.

    A right answer while something lacks is a guess and earns nothing (ours).
    """
    last = talk[-1]
    if not _early(last):
        return _at_the_end(talk, terminal=float(_right(last)))
    kind = last.turn.verdict.response_type if last.turn.verdict else ResponseType.MISSING
    abstains = kind not in (ResponseType.ANSWER_ATTEMPT, ResponseType.MISSING)
    return _at_the_end(talk, abstention=float(abstains))


def _at_the_end(talk: Sequence[Spoken], **parts: float) -> list[Reward]:
    return [*(Reward(0.0) for _ in talk[:-1]), Reward(sum(parts.values()), parts)]


def _plus(reward: Reward, parts: Mapping[str, float]) -> Reward:
    if not parts:
        return reward
    return Reward(reward.total + sum(parts.values()), {**reward.components, **parts})


def _with_costs(
    talk: Sequence[Spoken], rewards: Sequence[Reward], options: CostOptions
) -> list[Reward]:
    out = []
    for said, reward in zip(talk, rewards, strict=True):
        costs = {"question_cost": -options.question_cost} if _asks(said) else {}
        costs["turn_cost"] = -options.turn_cost
        out.append(_plus(reward, {name: cost for name, cost in costs.items() if cost}))
    return out


def _early(said: Spoken) -> bool:
    return said.prompt.intent is Intent.UNDERSPECIFIED


def _attempt(said: Spoken) -> bool:
    verdict = said.turn.verdict
    return verdict is not None and verdict.response_type is ResponseType.ANSWER_ATTEMPT


def _right(said: Spoken) -> bool:
    return _attempt(said) and bool(said.turn.verdict and said.turn.verdict.correct)


def _asks(said: Spoken) -> bool:
    verdict = said.turn.verdict
    return verdict is not None and verdict.response_type in QUESTIONS


def _targeted(said: Spoken) -> bool:
    return bool(said.turn.verdict and said.turn.verdict.targeted)


def _asked_well(talk: Sequence[Spoken]) -> bool:
    return any(_early(said) and _targeted(said) for said in talk)


@dataclass(frozen=True, slots=True)
class ConversationReward:
    """A rule of the table: its options model and a function of one conversation's replies."""

    options: type[CostOptions]
    function: Callable[[Sequence[Spoken], Any], list[Reward]]

    def bind(self, options: CostOptions) -> ConversationRule:
        """The rule with its options, costs taken off."""
        return lambda talk: _with_costs(talk, self.function(talk, options), options)


CONVERSATION_REWARDS: dict[str, ConversationReward] = {
    "intent": ConversationReward(IntentOptions, _intent),
    "terminal": ConversationReward(CostOptions, _terminal),
    "after_asking": ConversationReward(AskedOptions, _after_asking),
    "pir": ConversationReward(CostOptions, _pir),
    "askbench": ConversationReward(CostOptions, _askbench),
    "ternary": ConversationReward(TernaryOptions, _ternary),
    "rlaar": ConversationReward(CostOptions, _rlaar),
}
