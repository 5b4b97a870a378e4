"""A recipe as a trainer, and what it leaves to the machine, tried out on it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from icpo_lite.core.errors import ModelError
from icpo_lite.data.from_recipe import (
    later_prompts,
    prompt_pool,
    require_kinds,
    training_prompts,
)
from icpo_lite.policy.load import load_policy, prepare
from icpo_lite.policy.logprobs import LogprobOptions
from icpo_lite.policy.wide_logits import wide_logits
from icpo_lite.recipe.objective_sections import steps_of
from icpo_lite.rewards.from_recipe import bind_judge, bind_reward, bind_reward_change
from icpo_lite.rollout.engines.fixed_step import choose_fixed_step
from icpo_lite.rollout.engines.registry import ENGINES, TRIED_PROMPTS, choose_engine
from icpo_lite.rollout.from_recipe import recipe_ids, sampling_options, wanted_engine
from icpo_lite.training.advantage_rules import Advantages
from icpo_lite.training.logged_groups import LoggedReplies, logged_only
from icpo_lite.training.prompt_sharing import choose_sharing
from icpo_lite.training.reply_shaping import ReplyShaping, TokenShaping
from icpo_lite.training.sampling_check import check_sampling, readable_failure
from icpo_lite.training.segments import Segments
from icpo_lite.training.trainer import Chosen, Later, Trainer
from icpo_lite.training.update_rows import fitting_update_rows

if TYPE_CHECKING:
    from icpo_lite.policy.kernels.logprob import Impl
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.rollout.noise import SamplingOptions


def untried(recipe: Recipe, impl: Impl = "auto") -> Chosen:
    """Engine and prompt sharing as the recipe says, the plain ones where it says auto."""
    # A refill may ask for more prompts than a step has: no more at once than it has.
    rows = recipe.prompts_per_step * recipe.num_generations
    return Chosen(
        sampling_options(recipe, max_rows=rows, entropy_tau=TokenShaping(recipe).tau),
        LogprobOptions(temperature=recipe.temperature, impl=impl),
    )


def tried(
    recipe: Recipe, policy: Policy, prompt_ids: Mapping[str, Sequence[int]], impl: Impl
) -> tuple[Chosen, str, str]:
    """What was the fastest on this machine, and a line on sampling and on prompts."""
    plain = untried(recipe, impl)
    prompts = sorted(prompt_ids.values(), key=len)
    wish = wanted_engine(recipe)
    with readable_failure(policy, wish):
        engine, sampled = choose_engine(policy, wish, prompts, plain.sampling)
    captured, said = _captured(policy, engine, prompts, plain.sampling)
    sampled += said
    update_rows = fitting_update_rows(policy, recipe, len(prompts[-1]))
    most = recipe.per_device_train_batch_size or update_rows or sys.maxsize
    share, shared = choose_sharing(
        policy,
        recipe.share_prompts,
        prompts[len(prompts) // 2],
        rows=min(recipe.num_generations, most),
        length=recipe.max_completion_length,
        options=plain.logprobs,
    )
    wishes = (("engine", recipe.engine), ("share_prompts", recipe.share_prompts))
    chosen = Chosen(
        plain.sampling.but(engine=engine, captured=captured),
        plain.logprobs.but(shared_prompts=share),
        tuple(name for name, wish in wishes if wish == "auto"),
        update_rows,
    )
    if update_rows:
        shared += f"; an update takes {update_rows} responses at once, as memory has room for"
    chosen, agreed = _agreeing(policy, prompts, chosen)
    return chosen, f"{sampled}; {agreed}", shared


def _captured(
    policy: Policy, engine: str, prompts: Sequence[Sequence[int]], options: SamplingOptions
) -> tuple[bool, str]:
    """Whether the native engine decodes by a recorded step, and what to say of it: on a GPU."""
    if engine != "native" or policy.device.torch_device.type != "cuda":
        return False, ""
    policy.set_training(False)
    with wide_logits(policy):
        captured, said = choose_fixed_step(policy, prompts[-TRIED_PROMPTS:], options)
    return captured, f"; {said}"


def _agreeing(
    policy: Policy, prompts: Sequence[Sequence[int]], chosen: Chosen
) -> tuple[Chosen, str]:
    """What was chosen, its samples compared with training; of engines tried, the native one where
    the fastest does not agree."""
    engine = chosen.sampling.engine
    try:
        return chosen, check_sampling(policy, prompts, chosen.sampling, chosen.logprobs)
    except ModelError as error:
        spare = "engine" in chosen.tried and ENGINES["native"].unfit(policy) is None
        if engine == "native" or not spare:
            raise
        native = replace(chosen, sampling=chosen.sampling.but(engine="native"))
        agreed = check_sampling(policy, prompts, native.sampling, native.logprobs)
        return native, f"not taken: {error}; native, {agreed}"


def later_of(
    recipe: Recipe, policy: Policy, prompt_ids: Mapping[str, Sequence[int]]
) -> Later | None:
    """The run's prompts once `system_prompt` is dropped."""
    if recipe.system_prompt_steps is None:
        return None
    prompts = {p.prompt_id: p for p in later_prompts(recipe, policy) if p.prompt_id in prompt_ids}
    ids = {name: policy.encode_chat(p.messages) for name, p in prompts.items()}
    return Later(steps_of(recipe.system_prompt_steps, recipe.max_steps), prompts, ids)


def require_methods(recipe: Recipe) -> None:
    """Raises RecipeError and DataError for options that nobody has, before a model is loaded."""
    Advantages(recipe)
    ReplyShaping(recipe)
    Segments.of(recipe)
    LoggedReplies.of(recipe)


def trainer_of(recipe: Recipe) -> Trainer:
    """A trainer with policy, prompts, judge and reward as the recipe names them."""
    prepare(recipe)  # before a user's reward functions import transformers, which unsloth patches
    reward, change = bind_reward(recipe), bind_reward_change(recipe)
    policy = load_policy(recipe)
    prompts, _ = training_prompts(recipe, policy)
    prompt_ids = recipe_ids(recipe, policy, prompts)
    prompts = logged_only(recipe, [p for p in prompts if p.prompt_id in prompt_ids])
    require_kinds(recipe, prompts)
    pool = prompt_pool(recipe, prompts)
    judge, later = bind_judge(recipe, policy), later_of(recipe, policy, prompt_ids)
    chosen = untried(recipe)
    return Trainer(policy, pool, prompt_ids, judge, reward, recipe, chosen, change, later=later)
