"""A recipe's keys as a judge, a reward and a user's own rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import RecipeError, UsageError
from icpo_lite.core.types import (
    JudgeName,
    Prompt,
    Reward,
    RewardContext,
    Shard,
    Turn,
    Verdict,
)

if TYPE_CHECKING:
    from icpo_lite.core.endpoint import EndpointOptions
    from icpo_lite.core.types import RewardChange, RewardRule
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.rewards.icpo import RewardSpec
    from icpo_lite.rewards.judge import Judge, Typer
    from icpo_lite.rewards.model_targets import Targeter
    from icpo_lite.rewards.reward_changes import Change
    from icpo_lite.rollout.conversation import User
    from icpo_lite.rollout.conversation_groups import ConversationRule, Spoken


def choose_shard(reply: str, still_open: Sequence[Shard], shards: Sequence[Shard]) -> int | None:
    """The open shard that a reply asks for (`conversation.Chooser`)."""
    from icpo_lite.rewards.question_targets import asked_for

    return asked_for(reply, still_open, shards)


def make_user(
    kind: str,
    policy: Policy,
    endpoint: EndpointOptions | None,
    *,
    seed: int,
    rows: int | None = None,
    folder: Path | None = None,
) -> User | None:
    """Who talks with the policy; None for the deterministic user.

    kind: deterministic, self (the policy with its adapter off), endpoint, or a function of the
    user's own, `file.py:name` in `folder`. rows: of the policy at once.
    """
    from icpo_lite.rollout.simulated_user import ModelUser

    if kind == "deterministic":
        return None
    if kind == "self":
        from icpo_lite.rollout.sampler import PolicyGenerator

        return ModelUser(
            PolicyGenerator(policy, adapter=False, max_rows=rows), choose_shard, seed=seed
        )
    if kind == "endpoint":
        from icpo_lite.core.endpoint import Endpoint

        if endpoint is None:
            raise UsageError("the user is a server, found none; name one under endpoint")
        return ModelUser(Endpoint(endpoint), choose_shard, seed=seed)
    from icpo_lite.rewards.function_user import FunctionUser
    from icpo_lite.rewards.user_functions import load_function

    return FunctionUser(*load_function("simulated_user", kind, folder or Path()))


def reward_spec(recipe: Recipe) -> RewardSpec:
    """The entry of the table of rewards that the recipe names."""
    from icpo_lite.rewards.icpo import NAMED_REWARDS

    return recipe.named("reward", NAMED_REWARDS)


def bind_reward(recipe: Recipe) -> RewardRule:
    """The reward rule that the recipe names, its options checked."""
    spec = reward_spec(recipe)
    target_by(recipe)  # refused here, before a model is loaded
    options = recipe.bind("reward", spec.options, skip=["name"])
    return partial(_rewarded, spec.function, options)


def _rewarded(
    function: Callable[..., Reward], options: Any, prompt: Prompt, verdict: Verdict, turn: Turn
) -> Reward:
    return function(prompt, verdict, turn, options)


def bind_conversation_reward(recipe: Recipe) -> ConversationRule:
    """The rule of whole conversations that the recipe names, its options checked."""
    from icpo_lite.rewards.conversation_rewards import CONVERSATION_REWARDS

    rule = recipe.named("conversation_reward", CONVERSATION_REWARDS)
    bound = rule.bind(recipe.bind("conversation_reward", rule.options, skip=["name"]))
    return bound if recipe.reward["name"] != "none" else _unpaid


def _unpaid(talk: Sequence[Spoken]) -> list[Reward]:
    """`reward: none`: neither a reply nor the conversation earns anything."""
    return [spoken.reward for spoken in talk]


def bind_judge(
    recipe: Recipe | None,
    policy: Policy | None,
    *,
    name: JudgeName | None = None,
    allow_code_execution: bool = False,
) -> Judge:
    """The judge that the recipe names, or a recipe's default where there is none.

    policy: needed for `judge: self` and `target_by: gold_rise`, which ask it with the adapter off.
    name: a judge in place of the recipe's. allow_code_execution: agrees to it where the recipe
    does not.
    """
    from icpo_lite.recipe.section import default_of
    from icpo_lite.recipe.sections import RewardKeys
    from icpo_lite.rewards.grading import GradingOptions
    from icpo_lite.rewards.judge import Judge

    name = name or (recipe.judge if recipe else default_of(RewardKeys, "judge"))
    typer = make_typer(name, policy, recipe.endpoint if recipe else None)
    if recipe is None:
        return Judge(GradingOptions(allow_code_execution=allow_code_execution), typer)
    grading = recipe.bind("grading", GradingOptions)
    allowed = allow_code_execution or recipe.allow_code_execution
    grading = grading.model_copy(update={"allow_code_execution": allowed})
    return Judge(grading, typer, _targeter(recipe, policy))


def make_typer(name: JudgeName, policy: Policy | None, endpoint: EndpointOptions | None) -> Typer:
    """Who names the types. Raises UsageError where the judge's model or server is not named."""
    if name == "rules":
        from icpo_lite.rewards.judge import Rules

        return Rules()
    if name == "linear":
        from icpo_lite.rewards.linear_judge import LinearTyper

        return LinearTyper()
    from icpo_lite.rewards.model_judge import EndpointTyper, SelfTyper

    if name == "self":
        if policy is None:
            raise UsageError("judge: self asks a model, found none; name one, or judge: linear")
        from icpo_lite.policy.logprobs import PolicyScorer

        return SelfTyper(PolicyScorer(policy))
    if endpoint is None:
        raise UsageError("judge: endpoint asks a server, found none; name one under endpoint")
    from icpo_lite.core.endpoint import Endpoint

    return EndpointTyper(Endpoint(endpoint))


def target_by(recipe: Recipe) -> str:
    """Who says what a question asks for, as the reward's block says it; rules where it does not.

    Raises RecipeError where it names a judge that is no model.
    """
    options = recipe.bind("reward", reward_spec(recipe).options, skip=["name"])
    chosen: str = getattr(options, "target_by", "rules")
    if chosen == "judge" and recipe.judge not in ("self", "endpoint"):
        raise RecipeError(
            f"{recipe.where('reward.target_by')}: reward.target_by: judge asks the model of "
            f"judge: self or judge: endpoint, found judge: {recipe.judge}; set one of them, or "
            "target_by: rules"
        )
    return chosen


def judge_needs_policy(recipe: Recipe) -> bool:
    """Whether judging asks the policy itself."""
    return recipe.judge == "self" or target_by(recipe) == "gold_rise"


def _targeter(recipe: Recipe, policy: Policy | None) -> Targeter | None:
    """Who says what a question asks for; None for the rules."""
    from icpo_lite.rewards.model_targets import EndpointTargets, GoldRise, SelfTargets

    chosen = target_by(recipe)
    if chosen == "judge" and recipe.judge == "endpoint" and recipe.endpoint is not None:
        from icpo_lite.core.endpoint import Endpoint

        return EndpointTargets(Endpoint(recipe.endpoint))
    if chosen == "rules" or policy is None:
        return None
    from icpo_lite.policy.logprobs import PolicyScorer

    scorer = PolicyScorer(policy)
    return GoldRise(scorer) if chosen == "gold_rise" else SelfTargets(scorer)


def bind_reward_change(recipe: Recipe) -> RewardChange | None:
    """What is added to a step's rewards: the user's own functions, the price of questions, a
    penalty on length, what the group makes of it; or None."""
    from icpo_lite.rewards.reward_changes import RewardChanges

    changes = tuple(_changes(recipe))
    return RewardChanges(changes) if changes else None


def _changes(recipe: Recipe) -> Iterator[Change]:
    from icpo_lite.rewards.ask_cost import with_ask_cost
    from icpo_lite.rewards.group_rewards import GROUP_REWARDS, by_group
    from icpo_lite.rewards.length_penalty import with_overlong_penalty

    if (own := bind_user_rewards(recipe)) is not None:
        yield own
    if recipe.ask_costs:
        yield _alone(with_ask_cost(None))
    if (cache := recipe.soft_punish_cache) is not None:
        if cache > recipe.max_completion_length:
            raise RecipeError(
                f"{recipe.where('soft_punish_cache')}: soft_punish_cache: expected at most "
                f"max_completion_length, {recipe.max_completion_length} tokens, found {cache}"
            )
        yield _alone(with_overlong_penalty(None, recipe.max_completion_length, cache))
    beside = GROUP_REWARDS[recipe.group_rewards["name"]]
    options = recipe.bind("group_rewards", beside.options, skip=["name"])
    if beside.function is not None:
        yield by_group(beside.function, options)


def _alone(change: RewardChange) -> Change:
    """A change that goes by each reply alone."""
    return lambda rewards, prompts, turns, context: change(rewards, prompts, turns)


def bind_user_rewards(recipe: Recipe) -> Change | None:
    """What adds the user's own reward functions to the rewards of a step; None without any."""
    from icpo_lite.rewards.user_functions import load_reward_funcs, with_user_rewards

    if not recipe.reward_funcs:
        return None
    functions = load_reward_funcs(recipe.reward_funcs, recipe.folder)
    weights = recipe.reward_weights

    def change(
        rewards: Sequence[Reward],
        prompts: Sequence[Prompt],
        turns: Sequence[Turn],
        context: RewardContext,
    ) -> list[Reward]:
        return with_user_rewards(rewards, functions, weights, prompts, turns, context)

    return change
