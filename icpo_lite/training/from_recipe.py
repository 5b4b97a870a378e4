"""A recipe's keys as the settings of a training step."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import RecipeError
from icpo_lite.rollout.from_recipe import sampling_options, wanted_engine

if TYPE_CHECKING:
    from icpo_lite.kernels.logprob import Impl
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.training.loss import LossConfig
    from icpo_lite.training.schedules import Schedule
    from icpo_lite.training.trainer import TrainSettings


def tried_settings(
    recipe: Recipe, policy: Policy, prompt_ids: Mapping[str, Sequence[int]], impl: Impl
) -> tuple[TrainSettings, str, str]:
    """The settings with what was tried on this machine, and a line on sampling and on prompts."""
    from icpo_lite.rollout.engines.registry import choose_engine
    from icpo_lite.training.prompt_sharing import choose_sharing

    settings = train_settings(recipe, impl)
    prompts = sorted(prompt_ids.values(), key=len)
    engine, sampled = choose_engine(policy, wanted_engine(recipe), prompts, settings.sampling)
    share, shared = choose_sharing(
        policy,
        recipe.share_prompts,
        prompts[len(prompts) // 2],
        rows=min(recipe.num_generations, recipe.per_device_train_batch_size or sys.maxsize),
        length=recipe.max_completion_length,
        options=settings.logprobs,
    )
    chosen = replace(
        settings,
        sampling=replace(settings.sampling, engine=engine),
        logprobs=replace(settings.logprobs, share_prompts=share),
        tried=tuple(
            name
            for name, wish in (("engine", recipe.engine), ("share_prompts", recipe.share_prompts))
            if wish == "auto"
        ),
    )
    return chosen, sampled, shared


def train_settings(recipe: Recipe, impl: Impl = "auto") -> TrainSettings:
    """What one step does; `impl` is that of the log-prob op."""
    from icpo_lite.policy.logprobs import LogprobOptions
    from icpo_lite.training.schedules import EntropyTarget
    from icpo_lite.training.token_weights import SamplingCorrection
    from icpo_lite.training.trainer import TrainSettings

    return TrainSettings(
        max_steps=recipe.max_steps,
        prompts_per_step=recipe.prompts_per_step,
        num_generations=recipe.num_generations,
        share=_schedule(
            recipe, "share_schedule", recipe.share_schedule, recipe.share_underspecified
        ),
        weight=_schedule(
            recipe, "weight_schedule", recipe.weight_schedule, recipe.underspecified_weight
        ),
        # A refill may ask for more prompts than a step has: no more at once than it has.
        sampling=sampling_options(
            recipe, max_rows=recipe.prompts_per_step * recipe.num_generations
        ),
        loss=loss_config(recipe),
        entropy_target=EntropyTarget(
            recipe.entropy_target,
            recipe.entropy_coef,
            recipe.entropy_coef_delta,
            recipe.entropy_coef_min,
            recipe.entropy_coef_max,
        )
        if recipe.entropy_target is not None
        else None,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        min_lr_ratio=recipe.min_lr_ratio,
        warmup_steps=recipe.warmup,
        optim=recipe.optim,
        weight_decay=recipe.weight_decay,
        adam_betas=(recipe.adam_beta1, recipe.adam_beta2),
        adam_epsilon=recipe.adam_epsilon,
        max_grad_norm=recipe.max_grad_norm,
        max_skipped_updates=recipe.max_skipped_updates,
        num_iterations=recipe.num_iterations,
        num_mini_batches=recipe.num_mini_batches,
        micro_batch=recipe.per_device_train_batch_size,
        scale_rewards=recipe.scale_rewards,
        drop_zero_variance=recipe.drop_zero_variance,
        dynamic_sampling=recipe.dynamic_sampling,
        max_refills=recipe.max_refills,
        keep_share=recipe.keep_share,
        top_entropy_quantile=recipe.top_entropy_quantile,
        off_policy_mask_threshold=recipe.off_policy_mask_threshold,
        demonstrations=recipe.demonstrations,
        hpt_gate=recipe.hpt_gate,
        mask_truncated_completions=recipe.mask_truncated_completions,
        correction=SamplingCorrection(
            recipe.importance_sampling_mode,
            recipe.importance_sampling_clip_min,
            recipe.importance_sampling_clip_max,
        )
        if recipe.importance_sampling_correction
        else None,
        seed=recipe.seed,
        logprobs=LogprobOptions(temperature=recipe.temperature, impl=impl),
    )


def loss_config(recipe: Recipe) -> LossConfig:
    """The objective. Raises RecipeError, with the key's line, where its parts contradict."""
    from icpo_lite.training.loss import LossConfig

    try:
        return LossConfig(
            loss_type=recipe.loss_type,
            importance_sampling_level=recipe.importance_sampling_level,
            epsilon=recipe.epsilon,
            epsilon_high=recipe.epsilon_high,
            delta=recipe.delta,
            beta=recipe.beta,
            use_bias_correction_kl=recipe.use_bias_correction_kl,
            max_completion_length=recipe.max_completion_length,
            # Steered to a target, it is 0 until the entropy has been measured.
            entropy_coef=0.0 if recipe.entropy_target is not None else recipe.entropy_coef,
            clip_cov=recipe.clip_cov,
            clip_cov_low=recipe.clip_cov_low,
            clip_cov_high=recipe.clip_cov_high,
            kl_cov=recipe.kl_cov,
            kl_cov_coef=recipe.kl_cov_coef,
            demonstration_loss="sft" if recipe.demonstrations == "hpt" else "rl_plus",
            demonstration_exponent=recipe.demonstration_exponent,
            sapo_temperature_pos=recipe.sapo_temperature_pos,
            sapo_temperature_neg=recipe.sapo_temperature_neg,
            vespo_k_pos=recipe.vespo_k_pos,
            vespo_lambda_pos=recipe.vespo_lambda_pos,
            vespo_k_neg=recipe.vespo_k_neg,
            vespo_lambda_neg=recipe.vespo_lambda_neg,
        )
    except RecipeError as error:
        key = str(error).partition(":")[0]
        raise RecipeError(f"{recipe.where(key)}: {error}") from None


def _schedule(recipe: Recipe, key: str, block: Mapping[str, Any], start: float) -> Schedule:
    """How a number moves over the run, from `start` on; `block` stands under `key`."""
    from icpo_lite.training.schedules import SCHEDULES

    if block.get("name") not in SCHEDULES:
        raise RecipeError(
            f"{recipe.where(key)}: {key}: expected a name among {', '.join(SCHEDULES)}, found "
            f"{block.get('name')!r}"
        )
    schedule, level = SCHEDULES[block["name"]]
    defaults: dict[str, Any] = {level: start}
    if block["name"] == "linear":
        defaults["over_steps"] = recipe.max_steps
    return recipe.bind(key, schedule, skip=["name"], **defaults)
