"""Prompts to judged groups: sample, say what each reply is, reward it, compare within the group."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from icpo_lite.core.errors import DataError, NumericsError
from icpo_lite.core.types import (
    Completion,
    Group,
    Judge,
    Message,
    Prompt,
    Reward,
    RewardChange,
    RewardContext,
    RewardRule,
    TrainerState,
    Trajectory,
    Turn,
    Verdict,
    in_context,
)
from icpo_lite.rollout.engines.fitting_rows import fitting_rows
from icpo_lite.rollout.engines.registry import engine_for
from icpo_lite.rollout.kept_chat_ids import Reader, kept_chat_ids
from icpo_lite.rollout.sampler import SamplingOptions, sample

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy


def as_turn(completion: Completion) -> Turn:
    """A sampled reply as a turn, not judged yet."""
    return Turn(
        "assistant",
        completion.text,
        completion.token_ids,
        completion.logprobs,
        completion.stop_reason,
    )


@dataclass(frozen=True)
class PolicyTalker:
    """The policy as a partner in a conversation (`conversation.Talker`); threads may share it."""

    policy: Policy
    options: SamplingOptions

    def once(self) -> PolicyTalker:
        """This talker for conversations of one reply: no keys and values are kept for the next."""
        return replace(self, options=self.options.but(memory=None))

    def reply(
        self, chats: Sequence[Sequence[Message]], keys: Sequence[tuple[int | str, ...]]
    ) -> list[Turn]:
        """The next turn of each chat; the same call gives the same turns."""
        return self.turns(self.encoded(chats), keys)

    def turns(
        self, prompts: Sequence[Sequence[int]], keys: Sequence[tuple[int | str, ...]]
    ) -> list[Turn]:
        """The next turn after each row of token ids.

        A row with more tokens than the model has room for gets an empty, cut-off turn.
        """
        room = self.policy.max_positions - self.options.max_new_tokens
        fit = [i for i, ids in enumerate(prompts) if len(ids) <= room]
        turns = [Turn("assistant", "", stop_reason="length") for _ in prompts]
        for i, turn in zip(
            fit, self._sampled([prompts[i] for i in fit], [keys[i] for i in fit]), strict=True
        ):
            turns[i] = turn
        return turns

    def encoded(self, chats: Sequence[Sequence[Message]]) -> list[tuple[int, ...]]:
        """Token ids of each chat, up to the header that opens the assistant's turn."""
        with _TOKENIZING:
            return self.policy.encode_chats(chats)

    def _sampled(
        self, prompts: Sequence[Sequence[int]], keys: Sequence[tuple[int | str, ...]]
    ) -> list[Turn]:
        """One reply a prompt; runs of one problem that still read alike share the prompt's KV."""
        if not prompts:
            return []
        runs = _runs_alike(prompts, keys)
        each = prompts[::runs]
        shared = [key[:-1] for key in keys[::runs]] if runs > 1 else keys
        groups = sample(self.policy, each, n=runs, options=self._fitting(prompts), keys_P=shared)
        return [as_turn(completion) for group in groups for completion in group]

    def _fitting(self, prompts: Sequence[Sequence[int]]) -> SamplingOptions:
        """Options with no more rows than free memory holds, where that changes no sample."""
        if not engine_for(self.policy, self.options.engine).keyed:
            return self.options
        longest = max(map(len, prompts)) + self.options.max_new_tokens
        fit = fitting_rows(self.policy, longest)
        return self.options.but(max_rows=min(fit, self.options.max_rows or fit))


#: Fast tokenizers refuse to be used by two threads at once.
_TOKENIZING = threading.Lock()


def _runs_alike(prompts: Sequence[Sequence[int]], keys: Sequence[tuple[int | str, ...]]) -> int:
    """n where prompts come in equal runs of n whose keys differ in their last part, 0 to n - 1.

    1 where they do not: then every prompt is sampled by itself.
    """
    last = [key[-1] if key else None for key in keys]
    count = next((i for i, part in enumerate(last) if i and part == 0), len(last))
    whole = last == list(range(count)) * (len(last) // count)
    groups = range(0, len(keys), count)
    alike = whole and all(
        prompts[i] == prompts[g] and keys[i][:-1] == keys[g][:-1]
        for g in groups
        for i in range(g, g + count)
    )
    return count if alike else 1


def encode_prompts(
    policy: Reader,
    prompts: Sequence[Prompt],
    max_prompt_length: int,
    max_completion_length: int,
    on_long_prompt: Literal["error", "drop"] = "error",
) -> dict[str, tuple[int, ...]]:
    """Token ids of each prompt by its id; `drop` leaves out those that are too long.

    Raises DataError, naming the longest, when a prompt has more than `max_prompt_length` tokens:
    a prompt that is cut has lost a condition without anybody knowing. Also when it leaves no room
    for a completion among the model's positions.
    """
    found = kept_chat_ids(policy, [p.messages for p in prompts])
    encoded = {p.prompt_id: ids for p, ids in zip(prompts, found, strict=True)}
    if on_long_prompt == "drop":
        room = min(max_prompt_length, policy.max_positions - max_completion_length)
        short = {name: ids for name, ids in encoded.items() if len(ids) <= room}
        # Where a kind of prompt is gone altogether, the limit is at fault and is told below.
        if {p.intent for p in prompts if p.prompt_id in short} == {p.intent for p in prompts}:
            return short
    longest = max(prompts, key=lambda p: len(encoded[p.prompt_id]))
    if (length := len(encoded[longest.prompt_id])) > max_prompt_length:
        count = sum(len(ids) > max_prompt_length for ids in encoded.values())
        raise DataError(
            f"{longest.source or longest.prompt_id}: {count} of {len(prompts)} prompts are longer "
            f"than max_prompt_length: {max_prompt_length} tokens, this one has {length}; raise "
            f"max_prompt_length to {length} or take the rows out"
        )
    if length + max_completion_length > policy.max_positions:
        raise DataError(
            f"{longest.source or longest.prompt_id}: a prompt of {length} tokens and "
            f"max_completion_length: {max_completion_length} need {length + max_completion_length} "
            f"positions, this model has {policy.max_positions}; lower max_completion_length"
        )
    return encoded


def sample_groups(
    policy: Policy,
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    *,
    num_generations: int,
    options: SamplingOptions,
    seed: int,
    step: int,
    first_place: int = 0,
) -> list[Group]:
    """G replies to each prompt; noise is keyed by (seed, step, place in the step, sample).

    first_place: how many prompts of this step were sampled before.
    """
    keys = [(seed, step, first_place + place) for place in range(len(prompts))]
    replies_PG = sample(policy, prompt_ids, n=num_generations, options=options, keys_P=keys)
    return [
        Group(prompt, tuple(Trajectory(prompt, tuple(ids), (as_turn(c),)) for c in replies))
        for prompt, ids, replies in zip(prompts, prompt_ids, replies_PG, strict=True)
    ]


def judge_groups(groups: Sequence[Group], judge: Judge) -> list[Group]:
    """The last turn of every trajectory with its verdict."""
    flat = [
        (g.prompt, t.reply.content, t.reply.stop_reason) for g in groups for t in g.trajectories
    ]
    verdicts = iter(judge.judge_many(flat))
    return [
        _each(group, lambda t: _with_reply(t, replace(t.reply, verdict=next(verdicts))))
        for group in groups
    ]


def reward_groups(
    groups: Sequence[Group],
    rule: RewardRule,
    change: RewardChange | None = None,
    progress: TrainerState | None = None,
) -> list[Group]:
    """Every trajectory with its reward. Raises NumericsError when one is not a number.

    change: adds to the rule's rewards what the user's own functions give. progress: of the run.
    """
    trajectories = [t for group in groups for t in group.trajectories]
    prompts, turns = [t.prompt for t in trajectories], [t.reply for t in trajectories]
    rewards = [rule(p, _verdict(t), t) for p, t in zip(prompts, turns, strict=True)]
    if change is not None:
        numbers = tuple(i for i, group in enumerate(groups) for _ in group.trajectories)
        context = RewardContext(numbers, progress or TrainerState())
        rewards = in_context(change, context)(rewards, prompts, turns)
    left = iter(rewards)

    def rewarded(trajectory: Trajectory) -> Trajectory:
        reward = require_finite(next(left), trajectory.prompt)
        turn = replace(trajectory.reply, reward=reward)
        return replace(_with_reply(trajectory, turn), reward=reward)

    return [_each(group, rewarded) for group in groups]


def require_finite(reward: Reward, prompt: Prompt) -> Reward:
    """The reward; raises NumericsError, naming the prompt, when it is not a number."""
    if reward.total != reward.total or abs(reward.total) == float("inf"):
        raise NumericsError(
            f"reward: {reward.total} for {prompt.prompt_id} ({dict(reward.components)}); "
            "expected a finite number"
        )
    return reward


def _verdict(turn: Turn) -> Verdict:
    assert turn.verdict is not None, "replies are judged before they are rewarded"
    return turn.verdict


def _each(group: Group, change: Callable[[Trajectory], Trajectory]) -> Group:
    return replace(group, trajectories=tuple(change(t) for t in group.trajectories))


def _with_reply(trajectory: Trajectory, turn: Turn) -> Trajectory:
    return replace(trajectory, turns=(*trajectory.turns[:-1], turn))
