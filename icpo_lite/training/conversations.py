"""Conversation rollouts in training: who the user is, and what the replies are paid by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import (
    Group,
    Judge,
    Prompt,
    RewardChange,
    RewardRule,
    TrainerState,
    Trajectory,
)
from icpo_lite.policy.logprobs import continuation_logprobs
from icpo_lite.rewards.from_recipe import bind_conversation_reward, choose_shard, make_user
from icpo_lite.rewards.model_targets import gold_reply
from icpo_lite.rollout.branching import ArpoOptions
from icpo_lite.rollout.conversation import Telling, User
from icpo_lite.rollout.conversation_groups import converse_groups, reward_conversations
from icpo_lite.rollout.growing import user_turn_ids
from icpo_lite.training.curriculum import shard_curriculum

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.rollout.noise import SamplingOptions


class Conversations:
    """`rollout: conversation`: samples a step's groups as conversations and rewards them."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.curriculum = shard_curriculum(recipe)
        self._whole = bind_conversation_reward(recipe)
        self._arpo = _arpo_options(recipe)
        self._user: User | None = None

    def sampled(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        prompt_ids: Sequence[Sequence[int]],
        judge: Judge,
        sampling: SamplingOptions,
        step: int,
        first_place: int = 0,
    ) -> list[Group]:
        """G judged conversations a prompt; see `converse_groups`."""
        groups = converse_groups(
            policy,
            prompts,
            prompt_ids,
            judge,
            num_generations=self.recipe.num_generations,
            options=sampling,
            seed=self.recipe.seed,
            step=step,
            first_place=first_place,
            max_turns=self.recipe.max_assistant_turns,
            choose=choose_shard,
            user=self._user_of(policy),
            arpo=self._arpo,
            tellings=[
                self._telling(p, (step, first_place + place)) for place, p in enumerate(prompts)
            ],
        )
        return with_gold_probs(groups, policy) if self.recipe.credit == "igpo" else groups

    def _user_of(self, policy: Policy) -> User | None:
        recipe = self.recipe
        if self._user is None and recipe.simulated_user != "deterministic":
            self._user = make_user(
                recipe.simulated_user,
                policy,
                recipe.endpoint,
                seed=recipe.seed,
                folder=recipe.folder,
            )
        return self._user

    def _telling(self, prompt: Prompt, place: tuple[int, int]) -> Telling:
        """How the user of one prompt tells what it lacks; depends on seed, step and place alone."""
        if not prompt.removed:
            return Telling()
        random = Random(f"telling/{self.recipe.seed}/{place[0]}/{place[1]}")
        kept = 0
        if random.random() < self.recipe.truncated_share:
            kept = random.randint(1, len(prompt.removed))
        told = len(prompt.removed) - kept
        pieces = self.curriculum.pieces(random) if self.curriculum else None
        at_once = 1 if pieces is None else -(-told // max(pieces - 1, 1))
        ids = [s.shard_id for s in prompt.removed]
        return Telling(max(at_once, 1), frozenset(ids[told:]))

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        return self.curriculum.state if self.curriculum else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        if self.curriculum and state:
            self.curriculum.restore(state)

    def move(self, metrics: Mapping[str, float], pool: Iterable[Prompt]) -> dict[str, float]:
        """What a step showed, for the curriculum; its own figures."""
        if self.curriculum is None:
            return {}
        shown = {"curriculum/pieces": float(self.curriculum.level)}
        if (reward := metrics.get("reward/under")) is not None:
            most = 1 + max((len(p.removed) for p in pool), default=0)
            self.curriculum.saw(reward, most)
        return shown

    def longest(self, policy: Policy, prompts: Iterable[Prompt], reply: int) -> int:
        """Tokens of the longest conversation behind any of the prompts, every reply of `reply`."""
        most = max(prompts, key=lambda p: (len(p.removed), sum(len(s.text) for s in p.removed)))
        told = most.removed[: self.recipe.max_assistant_turns - 1]
        words = (user_turn_ids(policy, shard.text, ended=True) for shard in told)
        return reply * (1 + len(told)) + sum(map(len, words))

    def rewarded(
        self,
        groups: Sequence[Group],
        rule: RewardRule,
        change: RewardChange | None,
        progress: TrainerState | None = None,
    ) -> list[Group]:
        """Every reply and every conversation with its reward."""
        return reward_conversations(groups, rule, self._whole, change, progress)


def _arpo_options(recipe: Recipe) -> ArpoOptions | None:
    """When conversations branch; None for never. Raises RecipeError, with the key's line."""
    name = recipe.branching.get("name")
    if name not in ("none", "arpo"):
        raise RecipeError(
            f"{recipe.where('branching')}: branching: expected a name among none, arpo, found "
            f"{name!r}"
        )
    return None if name == "none" else recipe.bind("branching", ArpoOptions, skip=["name"])


def with_gold_probs(groups: Sequence[Group], policy: Policy) -> list[Group]:
    """Every reply with P(gold) before it: exp of the mean log-prob of the gold answer's tokens.

    Under the policy as it is, behind the sampled ids of the conversation so far (IGPO, arXiv
    2510.14967). Nothing where a prompt has no gold answer.
    """
    thoughts = policy.encode_text(policy.shut_thought)
    wanted: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
    golds = {
        g.prompt.prompt_id: policy.encode_text(gold_reply(g.prompt))
        for g in groups
        if g.prompt.answer is not None
    }
    for group in groups:
        if gold := golds.get(group.prompt.prompt_id):
            for trajectory in group.trajectories:
                wanted |= {((*row, *thoughts), gold): 0.0 for row in rows_before(trajectory)}
    sums = continuation_logprobs(policy, list(wanted))
    chances = {
        pair: math.exp(total / len(pair[1])) for pair, total in zip(wanted, sums, strict=True)
    }

    def told(trajectory: Trajectory) -> Trajectory:
        gold = golds.get(trajectory.prompt.prompt_id)
        if not gold:
            return trajectory
        before = iter(chances[(*row, *thoughts), gold] for row in rows_before(trajectory))
        turns = tuple(
            replace(turn, gold_prob=next(before)) if turn.role == "assistant" else turn
            for turn in trajectory.turns
        )
        return replace(trajectory, turns=turns)

    return [replace(g, trajectories=tuple(told(t) for t in g.trajectories)) for g in groups]


def rows_before(trajectory: Trajectory) -> list[tuple[int, ...]]:
    """The ids of the conversation before each reply."""
    row, rows = tuple(trajectory.prompt_ids), []
    for turn in trajectory.turns:
        if turn.role == "assistant":
            rows.append(row)
        row = (*row, *turn.token_ids)
    return rows
