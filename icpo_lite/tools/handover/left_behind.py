"""What another trainer does not have of a recipe, in plain words, for the folder's README.

Each line belongs to a key that this recipe uses; a recipe that does without is told nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from icpo_lite.rewards.from_recipe import judge_needs_policy, reward_spec
from icpo_lite.rewards.icpo import GuardedOptions

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe
    from icpo_lite.tools.handover.handed_prompts import HandedPrompts

Side = Literal["trl", "verl"]


def left_behind(handed: HandedPrompts, side: Side) -> list[str]:
    """What the other side does differently or not at all, a sentence or two each."""
    recipe = handed.recipe
    own = _only_trl(recipe) if side == "trl" else _only_verl(recipe)
    rest = (*_objective(recipe, side), *_prompts(handed, side), *_running(recipe))
    return [*own, *_lora(recipe, "TRL" if side == "trl" else "verl"), *rest]


def _prompts(handed: HandedPrompts, side: Side) -> Iterator[str]:
    recipe = handed.recipe
    if recipe.rollout == "conversation":
        yield (
            "rollout: conversation: one reply to each prompt is trained, and the keys of whole "
            "conversations (conversation_reward, credit, branching …) are not read."
        )
    if any(len(p.messages) > p.opening + 1 for p in handed.prompts):
        yield (
            "Prompts that start mid-conversation go along as chats, and one reply to each is "
            "trained. The user does not answer it there: no multi-turn training, no simulated "
            "user."
        )
    else:
        yield "One reply to each prompt is trained: no multi-turn training, no simulated user."
    if recipe.system_prompt_steps is not None:
        yield "system_prompt_steps: every row keeps the words of system_prompt."
    if odd := sum(not handed.reader.reads_alike(p) for p in handed.prompts):
        yield (
            f"{odd} prompts offer functions. icpo-lite hands them to the chat template as tools; "
            "there the prompt tells them in words."
        )
    if recipe.share_schedule["name"] == "adaptive":
        yield (
            "share_schedule: adaptive goes by what is measured while training; the rows hold its "
            "start throughout."
        )
    if recipe.chat_template_kwargs and side == "trl":
        yield "chat_template_kwargs are in the tokenizer that train.py makes, not in GRPOConfig."


def _objective(recipe: Recipe, side: Side) -> Iterator[str]:
    name = "TRL" if side == "trl" else "verl"
    if recipe.scale_rewards == "group" and recipe.min_reward_std:
        yield (
            f"min_reward_std: {recipe.min_reward_std:g}, the least that a group's spread counts "
            f"as: {name} divides by the spread itself, so that small differences of reward become "
            "large advantages. Watch for replies that differ by a small weight of `guarded` alone."
        )
    if not recipe.count_zero_variance:
        yield (
            f"count_zero_variance: false: {name} counts flat groups where losses are averaged, so "
            "updates are smaller. A larger learning_rate makes up for it."
        )
    moving = recipe.weight_schedule["name"] != "constant"
    if recipe.underspecified_weight != 1.0 or moving:
        yield "underspecified_weight: both kinds of prompt weigh the same there."
    if recipe.multi_objective_aggregation != "sum_then_normalize":
        yield (
            "multi_objective_aggregation: the parts of a reward go over as their sum, so they "
            "cannot be scaled one by one."
        )
    yield from _small_methods(recipe, name)
    if recipe.demonstrations != "none":
        yield f"demonstrations: {recipe.demonstrations}: replies are sampled, none is given."
    if recipe.distill != "none":
        alone = "" if recipe.pays else " Its rewards are all 0, so that nothing is learned there."
        yield f"distill: {recipe.distill}: nobody teaches beside the rewards.{alone}"
    if recipe.max_sampled_tokens is not None:
        yield f"max_sampled_tokens: the run ends with its {recipe.max_steps} steps alone."
    if recipe.warm_up_steps and recipe.share_underspecified:
        yield (
            "warm_up_steps: a model that hardly asks is not shown questions first, and a group in "
            "which nobody asks teaches nothing. Train a few steps here, or begin with SFT."
        )
    if recipe.warmup:
        yield "The warm-up begins at a learning rate of 0, an update later than here."


def _small_methods(recipe: Recipe, name: str) -> Iterator[str]:
    """What is made of a group here, and nowhere else."""
    if recipe.advantage["name"] != "group":
        rule = recipe.advantage["name"]
        yield f"advantage: {rule}: {name} has the group's own, as scale_rewards says."
    for key, block, lost in (
        ("advantage_shaping", recipe.advantage_shaping, "advantages stay as they are."),
        ("token_weights", recipe.token_weights, "every reply and token counts alike."),
        ("segments", recipe.segments, "all tokens of a reply have one advantage."),
        ("group_rewards", recipe.group_rewards, "each reply is rewarded by itself."),
    ):
        if block["name"] != "none":
            yield f"{key}: {block['name']}: {lost}"
    if recipe.logged_completions is not None:
        yield "logged_completions: replies are sampled, none is given."
    if recipe.prompt_curriculum["name"] == "eva":
        yield "prompt_curriculum: eva: the rows hold every prompt that it would choose from."


def _lora(recipe: Recipe, name: str) -> Iterator[str]:
    """What LoRA begins as here, and not there."""
    start = recipe.init_lora_weights
    if recipe.adapter_name_or_path is not None:
        yield f"adapter_name_or_path: LoRA begins anew; merge the adapter first, or give {name} it."
    if start is not True and (start != "gaussian" or name != "TRL"):
        yield f"init_lora_weights: {start}: LoRA begins as peft's own, without a change."


def _only_trl(recipe: Recipe) -> Iterator[str]:
    if recipe.dynamic_sampling:
        yield "dynamic_sampling: flat groups are not sampled again; they teach nothing."
    if recipe.clip_cov is not None or recipe.kl_cov is not None:
        yield "clip_cov and kl_cov: no token is left out or held back by its covariance."
    if recipe.load_in_4bit and recipe.lora_dtype == "float32":
        yield "lora_dtype: on a 4-bit base TRL holds LoRA's weights as bfloat16."
    if recipe.importance_sampling_correction is True and not recipe.use_vllm:
        yield "importance_sampling_correction: TRL corrects what vLLM sampled, and nothing else."
    if judge_needs_policy(recipe):
        yield (
            "The judge asks the base model, which each process loads a second time beside the one "
            "that it trains: plan the memory for both."
        )


def _only_verl(recipe: Recipe) -> Iterator[str]:
    if recipe.use_dora:
        yield "use_dora: plain LoRA."
    if recipe.load_in_4bit:
        yield (
            "load_in_4bit: verl holds the frozen weights as bfloat16, four times the memory, "
            "spread over its GPUs."
        )
    if recipe.lora_dropout:
        yield "lora_dropout: none."
    yield (
        "What `guarded` takes from a reply's tokens: verl hands over its text alone, so its "
        "tokens are counted anew, and one that fills the whole length counts as cut off."
        if _goes_by_tokens(recipe)
        else "Whether a reply was cut off is read off its length: verl hands over its text alone."
    )
    if recipe.mask_truncated_completions:
        yield "mask_truncated_completions: cut-off replies stay in the loss."
    if recipe.lr_scheduler_type == "linear":
        yield "lr_scheduler_type: linear: verl has constant and cosine; config.yaml says cosine."
    if recipe.scale_rewards == "batch":
        yield "scale_rewards: batch: a group's own spread divides its advantages."
    for key, off in (("entropy_target", None), ("off_policy_mask_threshold", None)):
        if getattr(recipe, key) is not off:
            yield f"{key}: none."
    if recipe.top_entropy_quantile < 1:
        yield "top_entropy_quantile: every token is trained."
    if recipe.use_bias_correction_kl and recipe.beta:
        yield "use_bias_correction_kl: the KL term is not multiplied by the ratio."
    if recipe.importance_sampling_correction and "mask" in recipe.importance_sampling_mode:
        yield "importance_sampling_mode: tokens outside the bounds are not masked."


def _goes_by_tokens(recipe: Recipe) -> bool:
    options = recipe.bind("reward", reward_spec(recipe).options, skip=["name"])
    return isinstance(options, GuardedOptions) and bool(
        options.max_tokens or recipe.soft_punish_cache
    )


def _running(recipe: Recipe) -> Iterator[str]:
    if recipe.eval_steps or recipe.early_stopping_patience:
        yield "eval_steps and what hangs on them: no small evaluations, no best checkpoint."
    if recipe.stop_on:
        yield "stop_on: nothing ends a run that always asks; look at the rates in its log."
    yield (
        "The care around a run: no reward self-test before the first step, no smaller batches "
        "after an out of memory, no skipped updates at NaN, no resume bit for bit."
    )
