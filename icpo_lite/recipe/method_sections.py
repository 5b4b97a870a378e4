"""The section of a recipe for the small methods around a group, and what cannot go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from icpo_lite.recipe.objective_sections import CLIPPED_LOSSES, GROUP_LOSSES
from icpo_lite.recipe.section import Section, named_schedule, refuse

if TYPE_CHECKING:
    from icpo_lite.recipe.keys import Recipe

#: Names of the blocks below; a test holds each list to the table that acts on it.
ADVANTAGES = ("group", "canon", "bnpo_paper", "rae", "gdpo", "rloo", "opo")
SHAPINGS = ("none", "aspo")
TOKEN_WEIGHTS = ("none", "hapo", "d3s")
GROUP_REWARDS = ("none", "diversity", "win_rate")
SEGMENTS = ("none", "spo")

Block = Annotated[dict[str, Any], BeforeValidator(named_schedule)]


class MethodKeys(Section):
    """What is made of a group before it is learned from."""

    advantage: Block = Field(
        {"name": "group"},
        description="how rewards become advantages: group (as scale_rewards says), canon, "
        "bnpo_paper, rae, gdpo, rloo or opo; or a block {name: canon, metric: length, alpha: 0.9}",
    )
    advantage_shaping: Block = Field(
        {"name": "none"},
        description="a bias on right replies alone: none, or {name: aspo, metric: shorter, "
        "push: -2.0, limit: 0.7}; metric: ask_early goes by where the first question ends",
    )
    token_weights: Block = Field(
        {"name": "none"},
        description="which replies and tokens count how much: none, hapo (advantage, clip and "
        "temperature by a token's entropy) or d3s (replies that spread the advantages, tokens of "
        "large |A| H); or a block {name: d3s, replies: 0.5, across: true, tokens: 0.2, anneal: "
        "0.5} or {name: hapo, tau: 0.05, signed: true}",
    )
    segments: Block = Field(
        {"name": "none"},
        description="credit within a reply: none, or {name: spo, below: 0.9, most: 3, samples: 4, "
        "only_unlikely: false}, which cuts it where tokens were unlikely and samples on from each "
        "cut to value it",
    )
    group_rewards: Block = Field(
        {"name": "none"},
        description="what a reply earns beside the others of its group: none, {name: diversity, "
        "weight: 0.1, mixed: false} for questions that others do not ask, or win_rate, the share "
        "that it beats",
    )
    logged_completions: str | None = Field(
        None,
        min_length=1,
        description="a run whose completions are learned from instead of new samples; null samples",
    )

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for key, block, names in (
            ("advantage", self.advantage, ADVANTAGES),
            ("advantage_shaping", self.advantage_shaping, SHAPINGS),
            ("token_weights", self.token_weights, TOKEN_WEIGHTS),
            ("segments", self.segments, SEGMENTS),
            ("group_rewards", self.group_rewards, GROUP_REWARDS),
        ):
            if block.get("name") not in names:
                refuse(
                    key,
                    f"expected a name among {', '.join(names)}, found {block.get('name')!r}",
                )
        return self


def check_methods(recipe: Recipe) -> None:
    """Refuses what cannot go together, a line for each."""
    _check_advantage(recipe)
    _check_loss(recipe)
    _check_token_weights(recipe)
    _check_segments(recipe)
    if recipe.advantage_shaping["name"] != "none" and recipe.credit != "trajectory":
        refuse("advantage_shaping", f"it biases whole replies, {_credit(recipe)}")
    if recipe.group_rewards["name"] != "none" and recipe.rollout == "conversation":
        refuse("group_rewards", "it compares single replies; set rollout: single_turn")
    if recipe.logged_completions is not None:
        _check_logged(recipe)


def _check_advantage(recipe: Recipe) -> None:
    name = recipe.advantage["name"]
    if name == "group":
        return
    if recipe.credit != "trajectory":
        refuse("advantage", f"{name} compares whole replies, {_credit(recipe)}")
    if recipe.multi_objective_aggregation != "sum_then_normalize":
        refuse(
            "advantage",
            "multi_objective_aggregation: normalize_then_sum is advantage: gdpo; leave it out",
        )
    if recipe.scale_rewards != "group":
        refuse(
            "scale_rewards",
            f"advantage: {name} has a scale of its own and does not read it; leave it out",
        )
    if name == "canon" and recipe.demonstrations != "none":
        refuse("advantage", "canon splits sampled replies; set demonstrations: none")
    if name == "rae" and recipe.dynamic_sampling:
        refuse(
            "dynamic_sampling",
            "advantage: rae learns from groups of equal rewards too; set dynamic_sampling: false",
        )
    if name == "bnpo_paper" and _more_than_right_or_wrong(recipe):
        refuse(
            "advantage",
            "bnpo_paper takes the mean reward for a probability: expected reward: paper or "
            "accuracy and nothing added to it (reward_funcs, group_rewards, ask_costs, "
            "soft_punish_cache)",
        )


def _more_than_right_or_wrong(recipe: Recipe) -> bool:
    added = recipe.reward_funcs or recipe.ask_costs or recipe.soft_punish_cache
    conversation = recipe.rollout == "conversation"
    named = recipe.reward["name"] not in ("paper", "accuracy")
    return bool(added) or named or conversation or recipe.group_rewards["name"] != "none"


def _check_loss(recipe: Recipe) -> None:
    loss = recipe.loss_type
    if loss in ("refuel", "copg"):
        if recipe.scale_rewards != "none":
            refuse("loss_type", f"{loss} compares rewards as they are; set scale_rewards: none")
        if recipe.advantage["name"] != "group":
            refuse("advantage", f"loss_type: {loss} compares rewards as they are; leave it out")
    if loss in GROUP_LOSSES:
        if recipe.credit != "trajectory":
            refuse("loss_type", f"{loss} compares whole replies, {_credit(recipe)}")
        for key, idle in (
            ("token_weights", {"name": "none"}),
            ("segments", {"name": "none"}),
            ("top_entropy_quantile", 1.0),
            ("importance_sampling_correction", ("auto", False)),
            ("off_policy_mask_threshold", None),
        ):
            found = getattr(recipe, key)
            if found != idle and not (isinstance(idle, tuple) and found in idle):
                refuse(key, f"loss_type: {loss} compares whole replies and weighs no tokens")
    if loss == "a_lol" and recipe.logged_completions is None:
        refuse(
            "loss_type", "a_lol learns from logged replies; set logged_completions: runs/earlier"
        )


def _check_token_weights(recipe: Recipe) -> None:
    name = recipe.token_weights["name"]
    if name == "none":
        return
    if recipe.top_entropy_quantile < 1:
        refuse("token_weights", f"{name} chooses tokens by itself; set top_entropy_quantile: 1")
    if name != "hapo":
        return
    if recipe.loss_type not in CLIPPED_LOSSES or recipe.importance_sampling_level != "token":
        refuse(
            "token_weights",
            f"hapo moves the clip of each token's ratio: expected a loss_type among "
            f"{', '.join(CLIPPED_LOSSES)} and importance_sampling_level: token",
        )
    for key, idle in (("clip_cov", None), ("kl_cov", None), ("delta", None)):
        if getattr(recipe, key) != idle:
            refuse("token_weights", f"hapo has a clip of its own; leave {key} out")
    if recipe.advantage["name"] != "group" or recipe.scale_rewards != "group":
        refuse(
            "token_weights",
            "hapo has an advantage of its own, over a group's tokens; leave advantage and "
            "scale_rewards out",
        )
    if recipe.credit != "trajectory":
        refuse("token_weights", f"hapo compares whole replies, {_credit(recipe)}")
    if recipe.demonstrations != "none" or recipe.segments["name"] != "none":
        refuse(
            "token_weights", "hapo weighs sampled replies; leave demonstrations and segments out"
        )
    if recipe.use_vllm or recipe.engine in ("continuous", "vllm"):
        refuse(
            "token_weights",
            "hapo's temperature needs an engine that draws here: set engine: native, generate, "
            "unsloth or auto",
        )


def _check_segments(recipe: Recipe) -> None:
    if recipe.segments["name"] == "none":
        return
    for key, idle in (
        ("rollout", "single_turn"),
        ("demonstrations", "none"),
        ("logged_completions", None),
        ("advantage", {"name": "group"}),
        ("advantage_shaping", {"name": "none"}),
        ("group_rewards", {"name": "none"}),
        ("multi_objective_aggregation", "sum_then_normalize"),
    ):
        if getattr(recipe, key) != idle:
            refuse(
                "segments",
                f"spo values stretches of single sampled replies by itself; leave {key} out",
            )


def _check_logged(recipe: Recipe) -> None:
    for key, idle in (
        ("rollout", "single_turn"),
        ("demonstrations", "none"),
        ("dynamic_sampling", False),
        ("off_policy_mask_threshold", None),
    ):
        if getattr(recipe, key) != idle:
            refuse("logged_completions", f"its replies are given, not sampled; leave {key} out")
    if recipe.token_weights["name"] == "hapo":
        refuse("logged_completions", "hapo's temperature is for sampling; set token_weights: d3s")
    if recipe.advantage["name"] == "canon" and recipe.advantage.get("metric") == "entropy":
        refuse(
            "logged_completions", "logged replies have no log-probs; set advantage.metric: length"
        )


def _credit(recipe: Recipe) -> str:
    return f"credit: {recipe.credit} turns; set credit: trajectory"
