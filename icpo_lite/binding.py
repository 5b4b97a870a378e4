"""A recipe's keys as the objects that do the work; the one place that reads most of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.errors import RecipeError, UsageError
from icpo_lite.types import Message, Problem, Prompt, Reward, Shard, Turn, Verdict

if TYPE_CHECKING:
    from icpo_lite.policy.load import ModelSpec, Policy
    from icpo_lite.policy.sampling import SamplingOptions
    from icpo_lite.recipe import Recipe
    from icpo_lite.rewards.judge import Judge
    from icpo_lite.rollout import RewardRule
    from icpo_lite.trainer import TrainSettings

WORLD = "builtin:world"
#: Problems drawn from the built-in world for training; 80 steps of 16 prompts see each once.
WORLD_PROBLEMS = 2048


def model_spec(recipe: Recipe) -> ModelSpec:
    """What `policy.load` needs."""
    from icpo_lite.policy.load import ModelSpec

    targets = recipe.lora_target_modules
    return ModelSpec(
        model_name_or_path=recipe.model_name_or_path,
        backend=recipe.backend,
        load_in_4bit=recipe.load_in_4bit,
        device=recipe.device,
        dtype=recipe.dtype,
        attn_implementation=recipe.attn_implementation,
        trust_remote_code=recipe.trust_remote_code,
        gradient_checkpointing=recipe.gradient_checkpointing,
        lora_r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        lora_target_modules=targets if isinstance(targets, str) else tuple(targets),
        seed=recipe.seed,
    )


def sampling_options(recipe: Recipe, **changes: Any) -> SamplingOptions:
    """How replies are drawn in training, or with some options changed."""
    from icpo_lite.policy.sampling import SamplingOptions

    training = SamplingOptions(
        max_new_tokens=recipe.max_completion_length,
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        top_k=recipe.top_k,
    )
    return replace(training, **changes)


def train_settings(recipe: Recipe) -> TrainSettings:
    """What one step does."""
    from icpo_lite.loss import LossConfig
    from icpo_lite.policy.logprobs import LogprobOptions
    from icpo_lite.trainer import TrainSettings

    return TrainSettings(
        max_steps=recipe.max_steps,
        prompts_per_step=recipe.prompts_per_step,
        num_generations=recipe.num_generations,
        share_underspecified=recipe.share_underspecified,
        sampling=sampling_options(recipe),
        loss=LossConfig(
            loss_type=recipe.loss_type,
            importance_sampling_level=recipe.importance_sampling_level,
            epsilon=recipe.epsilon,
            epsilon_high=recipe.epsilon_high,
            delta=recipe.delta,
            beta=recipe.beta,
            max_completion_length=recipe.max_completion_length,
        ),
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        min_lr_ratio=recipe.min_lr_ratio,
        warmup_steps=recipe.warmup,
        optim=recipe.optim,
        weight_decay=recipe.weight_decay,
        adam_betas=(recipe.adam_beta1, recipe.adam_beta2),
        adam_epsilon=recipe.adam_epsilon,
        max_grad_norm=recipe.max_grad_norm,
        num_iterations=recipe.num_iterations,
        num_mini_batches=recipe.num_mini_batches,
        micro_batch=recipe.per_device_train_batch_size,
        scale_rewards=recipe.scale_rewards,
        drop_zero_variance=recipe.drop_zero_variance,
        mask_truncated_completions=recipe.mask_truncated_completions,
        seed=recipe.seed,
        logprobs=LogprobOptions(temperature=recipe.temperature),
    )


def training_prompts(recipe: Recipe) -> tuple[list[Prompt], str]:
    """The prompts to train on, and one line that says what they are.

    Raises DataError when the corpus cannot be read or holds none.
    """
    from icpo_lite.data.worlds import world_problems, world_prompts

    if recipe.dataset_name != WORLD:
        raise NotImplementedError
    problems = list(world_problems(recipe.dataset_train_split, WORLD_PROBLEMS, seed=recipe.seed))
    prompts = list(world_prompts(problems, seed=recipe.seed, **recipe.augment))
    return _with_system(prompts, recipe.system_prompt), f"{len(prompts)} from the built-in world"


def evaluation_problems(recipe: Recipe) -> list[Problem]:
    """The problems that `evaluation` judges on, shards set; the same for every run and seed."""
    return read_evaluation_problems(
        None, recipe, split=recipe.evaluation.split, count=recipe.evaluation.problems, seed=0
    )


def read_evaluation_problems(
    data: str | None, recipe: Recipe | None, *, split: str, count: int, seed: int
) -> list[Problem]:
    """`count` problems with shards, from `data`, else the recipe's data set, else the world."""
    from icpo_lite.data.worlds import world_problems

    name = data or (recipe.dataset_name if recipe else WORLD)
    if name == WORLD:
        return list(world_problems(split, count, seed=seed))
    raise NotImplementedError


def choose_shard(reply: str, still_open: Sequence[Shard], shards: Sequence[Shard]) -> int | None:
    """The open shard that a reply asks for (`conversation.Chooser`)."""
    from icpo_lite.rewards.asking import asked_for

    return asked_for(reply, still_open, shards)


def bind_reward(recipe: Recipe) -> RewardRule:
    """The reward rule with its options checked, and the user's own functions added to it."""
    from icpo_lite.rewards.icpo import REWARDS

    name = recipe.reward["name"]
    if name not in REWARDS:
        raise RecipeError(
            f"{recipe.where('reward')}: reward: expected one of {', '.join(REWARDS)}, "
            f"found {name!r}"
        )
    spec = REWARDS[name]
    options = recipe.bind("reward", spec.options, skip=["name"])
    return partial(_rewarded, spec.function, options)


def _rewarded(
    function: Callable[..., Reward], options: Any, prompt: Prompt, verdict: Verdict, turn: Turn
) -> Reward:
    return function(prompt, verdict, turn, options)


def bind_judge(recipe: Recipe | None, policy: Policy) -> Judge:
    """The judge that the recipe names; by rules where there is no recipe."""
    from icpo_lite.rewards.judge import Judge

    return Judge()


def _with_system(prompts: list[Prompt], system: str | None) -> list[Prompt]:
    if not system:
        return prompts
    opening = Message("system", system)
    return [replace(p, messages=(opening, *p.messages)) for p in prompts]


def load_model(name: str, *, device: str = "auto") -> tuple[Policy, Recipe | None]:
    """A run directory with its recipe, or a bare model (folder, hub name, builtin:tiny)."""
    from icpo_lite.policy.load import ModelSpec, load_policy
    from icpo_lite.recipe import load_recipe

    folder = Path(name)
    home = next((f for f in (folder, folder.parent) if (f / "recipe.yaml").is_file()), None)
    if home is None or not folder.is_dir():
        return load_policy(ModelSpec(name, device=device)), None
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder}: expected a run with an adapter, found one that has not finished; train it "
            "to the end, or give one of its checkpoint folders"
        )
    recipe = load_recipe(home / "recipe.yaml")
    spec = replace(model_spec(recipe), device=device, lora_r=None)
    return load_policy(spec, adapter=folder), recipe
