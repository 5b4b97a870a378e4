"""Conversation rollouts in training: who the user is, and what the replies are paid by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from icpo_lite.core.types import Group, Judge, Prompt, RewardChange, RewardRule
from icpo_lite.rewards.from_recipe import bind_conversation_reward, choose_shard
from icpo_lite.rollout.conversation_groups import converse_groups, reward_conversations
from icpo_lite.rollout.growing import user_turn_ids

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.rollout.noise import SamplingOptions


class Conversations:
    """`rollout: conversation`: samples a step's groups as conversations and rewards them."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._whole = bind_conversation_reward(recipe)

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
        return converse_groups(
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
        )

    def longest(self, policy: Policy, prompts: Iterable[Prompt], reply: int) -> int:
        """Tokens of the longest conversation behind any of the prompts, every reply of `reply`."""
        most = max(prompts, key=lambda p: (len(p.removed), sum(len(s.text) for s in p.removed)))
        told = most.removed[: self.recipe.max_assistant_turns - 1]
        words = (user_turn_ids(policy, shard.text, ended=True) for shard in told)
        return reply * (1 + len(told)) + sum(map(len, words))

    def rewarded(
        self, groups: Sequence[Group], rule: RewardRule, change: RewardChange | None
    ) -> list[Group]:
        """Every reply and every conversation with its reward."""
        return reward_conversations(groups, rule, self._whole, change)
