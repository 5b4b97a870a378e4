"""Groups of conversations: G of each prompt, played turn by turn in one batch, then rewarded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from icpo_lite.core.turns import prompt_after
from icpo_lite.core.types import (
    Group,
    Judge,
    Prompt,
    Reward,
    RewardChange,
    RewardContext,
    RewardRule,
    Shard,
    TrainerState,
    Trajectory,
    Turn,
    Verdict,
    in_context,
)
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.rollout.branching import ArpoOptions, Brancher
from icpo_lite.rollout.conversation import (
    Chooser,
    Conversation,
    Telling,
    User,
    converse,
    start_training,
)
from icpo_lite.rollout.groups import require_finite
from icpo_lite.rollout.growing import GrowingTalker
from icpo_lite.rollout.noise import Key
from icpo_lite.rollout.sampler import SamplingOptions

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy


_NOTHING = Reward(0.0)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One reply of a conversation: the prompt as it stood, the reply, what the rule pays for it."""

    prompt: Prompt
    turn: Turn
    reward: Reward = _NOTHING


#: Rewards of all replies of one conversation, in order; its own reward is their sum.
ConversationRule = Callable[[Sequence[Spoken]], list[Reward]]


def converse_groups(
    policy: Policy,
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    judge: Judge,
    *,
    num_generations: int,
    options: SamplingOptions,
    seed: int,
    step: int,
    first_place: int = 0,
    max_turns: int,
    choose: Chooser,
    user: User | None = None,
    tellings: Sequence[Telling] | None = None,
    arpo: ArpoOptions | None = None,
) -> list[Group]:
    """G conversations from each prompt on, all replies judged.

    The user tells what the prompt lacks, one shard a turn: the one that the reply asks for, else
    the next (`conversation.converse`). Noise is keyed by (seed, step, place in the step, turn,
    sample); a first turn draws what `groups.sample_groups` draws. first_place: how many prompts of
    this step were sampled before. tellings: how the user tells what each prompt lacks; None is one
    shard a turn, all of them. arpo: when conversations branch (`branching`); None is never.
    """
    places: list[Key] = [(seed, step, first_place + p) for p in range(len(prompts))]
    talker = GrowingTalker(policy, options, dict(zip(places, prompt_ids, strict=True)))
    brancher = None if arpo is None else Brancher(talker, arpo, num_generations)
    starts = list(zip(prompts, places, tellings or [Telling()] * len(prompts), strict=True))
    play = partial(
        converse,
        talker=talker,
        judge=judge,
        choose=choose,
        say=_verbatim,
        seed=seed,
        setting="training",
        max_turns=max_turns,
        user=user,
    )
    first = num_generations if brancher is None else brancher.first
    # Made once for all turns; a model that judges or plays the user needs its layers as they are.
    alone = user is None and arpo is None and getattr(judge, "local", False)
    with dense_layers(policy) if alone else nullcontext():
        done = play(
            [start_training(p, run, place, t) for p, place, t in starts for run in range(first)],
            branch=None if brancher is None else brancher.copies,
        )
    if brancher is not None:
        left = [(start, run) for start in starts for run in brancher.missing(start[1])]
        done += play([start_training(p, run, place, t) for (p, place, t), run in left])
    rows: dict[Key, list[Trajectory]] = {place: [] for place in places}
    for talk in sorted(done, key=lambda talk: talk.run):
        rows[talk.place].append(_trajectory(talk, talker))
    return [Group(prompt, tuple(rows[place])) for prompt, place, _ in starts]


def _verbatim(known: Sequence[Shard], new: Shard) -> str:
    return new.text


def _trajectory(talk: Conversation, talker: GrowingTalker) -> Trajectory:
    """The conversation as it is trained on, up to its last reply of a token."""
    assert talk.began is not None
    between = iter(talker.between[(*talk.place, talk.run)])
    turns: list[Turn] = []
    for turn in talk.went_on:
        if turn.role == "assistant" and not turn.token_ids:
            # The model has no room for more: the user's last word was in vain.
            turns.pop()
            break
        turns.append(replace(turn, token_ids=next(between)) if turn.role == "user" else turn)
    return Trajectory(talk.began, tuple(talker.openings[talk.place]), tuple(turns))


def spoken(trajectory: Trajectory) -> list[Spoken]:
    """Every reply of a trajectory beside the prompt as it stood, with its reward so far."""
    return [
        Spoken(prompt_after(trajectory.prompt, trajectory.turns[:i]), turn, turn.reward or _NOTHING)
        for i, turn in enumerate(trajectory.turns)
        if turn.role == "assistant"
    ]


def reward_conversations(
    groups: Sequence[Group],
    rule: RewardRule,
    whole: ConversationRule,
    change: RewardChange | None = None,
    progress: TrainerState | None = None,
) -> list[Group]:
    """Every reply with its reward, every conversation with their sum.

    rule: of a reply by itself. whole: makes of these the rewards of one conversation's replies.
    change: adds to them what the user's own functions give of each reply. progress: of the run.
    Raises NumericsError when one is not a number.
    """
    talks = [spoken(t) for g in groups for t in g.trajectories]
    talks = [[replace(s, reward=rule(s.prompt, _verdict(s), s.turn)) for s in t] for t in talks]
    rewards = [reward for talk in talks for reward in whole(talk)]
    if change is not None:
        said = [s for talk in talks for s in talk]
        counts = [sum(len(t.replies) for t in g.trajectories) for g in groups]
        numbers = tuple(i for i, count in enumerate(counts) for _ in range(count))
        change = in_context(change, RewardContext(numbers, progress or TrainerState()))
        rewards = change(rewards, [s.prompt for s in said], [s.turn for s in said])
    left = iter(rewards)

    def rewarded(trajectory: Trajectory) -> Trajectory:
        turns = tuple(
            replace(turn, reward=require_finite(next(left), trajectory.prompt))
            if turn.role == "assistant"
            else turn
            for turn in trajectory.turns
        )
        total = added([t.reward for t in turns if t.reward is not None])
        return replace(trajectory, turns=turns, reward=total)

    return [
        replace(group, trajectories=tuple(rewarded(t) for t in group.trajectories))
        for group in groups
    ]


def added(rewards: Sequence[Reward]) -> Reward:
    """The sum of rewards, component by component."""
    parts: dict[str, float] = {}
    for reward in rewards:
        for name, value in reward.components.items():
            parts[name] = parts.get(name, 0.0) + value
    return Reward(sum(r.total for r in rewards), parts)


def _verdict(said: Spoken) -> Verdict:
    assert said.turn.verdict is not None, "replies are judged as they come"
    return said.turn.verdict
