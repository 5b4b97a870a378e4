"""A recipe's keys as verl's configuration, in verl's own names.

Read in verl 0.9.1 (its wheel's `trainer/config`, `trainer/ppo/core_algos.py` and
`workers/engine/fsdp`); a test holds every name to that release's list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import RecipeError
from icpo_lite.recipe.objective_sections import UpdateKeys
from icpo_lite.recipe.section import default_of

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

#: loss_type → how verl averages token losses.
AVERAGES = {
    "dapo": "token-mean",
    "bnpo": "token-mean",
    "cispo": "token-mean",
    "sapo": "seq-mean-token-mean",
    "grpo": "seq-mean-token-mean",
    "dr_grpo": "seq-mean-token-sum-norm",
}
#: A bound of the ratio that is never met: verl's loss always has one, where `delta` may be off.
UNBOUNDED = 1e4


def config(recipe: Recipe, model: str) -> dict[str, Any]:
    """config.yaml of a handover folder; run.sh adds the places of its files.

    model: a hub name, or the folder that holds the model. Raises RecipeError for a loss that verl
    does not have.
    """
    return {
        "hydra": {"searchpath": ["pkg://verl.trainer.config"]},
        "defaults": ["ppo_trainer", "_self_"],
        "data": _data(recipe),
        "actor_rollout_ref": {
            "model": _model(recipe, model),
            "actor": _actor(recipe),
            "ref": {"log_prob_micro_batch_size_per_gpu": _rows(recipe)},
            "rollout": _rollout(recipe),
        },
        "algorithm": _algorithm(recipe),
        "reward": {"custom_reward_function": {"name": "compute_score"}},
        "trainer": _trainer(recipe),
    }


def _rows(recipe: Recipe) -> int:
    return recipe.per_device_train_batch_size or recipe.num_generations


def _data(recipe: Recipe) -> dict[str, Any]:
    return {
        "train_batch_size": recipe.prompts_per_step,
        "max_prompt_length": recipe.max_prompt_length,
        "max_response_length": recipe.max_completion_length,
        # The order of the rows holds the fraction of underspecified prompts.
        "shuffle": False,
        "seed": recipe.seed,
        "val_max_samples": recipe.prompts_per_step,
        "trust_remote_code": recipe.trust_remote_code,
        "apply_chat_template_kwargs": dict(recipe.chat_template_kwargs),
    }


def _model(recipe: Recipe, model: str) -> dict[str, Any]:
    targets = recipe.lora_target_modules
    return {
        "path": model,
        "trust_remote_code": recipe.trust_remote_code,
        "lora_rank": recipe.lora_r,
        # verl knows alpha / r alone.
        "lora_alpha": recipe.lora_alpha * (recipe.lora_r**0.5 if recipe.use_rslora else 1),
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "enable_gradient_checkpointing": recipe.gradient_checkpointing,
    }


def _actor(recipe: Recipe) -> dict[str, Any]:
    mode, low, high = _loss(recipe)
    return {
        "ppo_mini_batch_size": recipe.prompts_per_step // recipe.num_mini_batches,
        "ppo_micro_batch_size_per_gpu": _rows(recipe),
        "ppo_epochs": recipe.num_iterations,
        "policy_loss": mode,
        "loss_agg_mode": AVERAGES[recipe.loss_type],
        "loss_scale_factor": recipe.max_completion_length,
        "clip_ratio": low,
        "clip_ratio_low": low,
        "clip_ratio_high": high,
        "clip_ratio_c": recipe.delta or UNBOUNDED,
        "tau_pos": recipe.sapo_temperature_pos,
        "tau_neg": recipe.sapo_temperature_neg,
        "entropy_coeff": recipe.entropy_coef,
        "use_kl_loss": recipe.beta > 0,
        "kl_loss_coef": recipe.beta,
        "kl_loss_type": "low_var_kl",
        "grad_clip": recipe.max_grad_norm,
        "optim": {
            **_optimizer(recipe),
            "lr": recipe.learning_rate,
            "lr_warmup_steps": recipe.warmup or -1,
            "lr_scheduler_type": "constant" if recipe.lr_scheduler_type == "constant" else "cosine",
            "min_lr_ratio": recipe.min_lr_ratio,
            "weight_decay": recipe.weight_decay,
            "betas": [recipe.adam_beta1, recipe.adam_beta2],
            "clip_grad": recipe.max_grad_norm,
        },
    }


def _optimizer(recipe: Recipe) -> dict[str, Any]:
    """Another AdamW than torch's with its own epsilon, where the recipe asks for one."""
    out: dict[str, Any] = {}
    if recipe.optim != "adamw_torch":
        name = "PagedAdamW8bit" if recipe.optim.startswith("paged") else "AdamW8bit"
        out = {"optimizer": name, "optimizer_impl": "bitsandbytes.optim"}
    if recipe.adam_epsilon != default_of(UpdateKeys, "adam_epsilon"):
        out["override_optimizer_config"] = {"eps": recipe.adam_epsilon}
    return out


def _loss(recipe: Recipe) -> tuple[dict[str, Any], float, float]:
    """`policy_loss`, and the lower and upper clip distance."""
    if recipe.loss_type not in AVERAGES:
        raise RecipeError(
            f"{recipe.where('loss_type')}: loss_type: expected one that verl has "
            f"({', '.join(AVERAGES)}), found {recipe.loss_type}; change it, or --to trl"
        )
    if recipe.loss_type == "cispo":  # verl clips at 1 + high, ours caps at epsilon_high itself
        return {"loss_mode": "cispo"}, 1.0, recipe.high - 1
    mode: dict[str, Any] = {"loss_mode": "sapo" if recipe.loss_type == "sapo" else "vanilla"}
    if recipe.importance_sampling_level != "token":  # one reply is one turn
        mode = {"loss_mode": "gspo"}
    if recipe.clip_cov is not None:
        mode = {
            "loss_mode": "clip_cov",
            "clip_cov_ratio": recipe.clip_cov,
            "clip_cov_lb": recipe.clip_cov_low,
            "clip_cov_ub": recipe.clip_cov_high,
        }
    if recipe.kl_cov is not None:
        mode = {
            "loss_mode": "kl_cov",
            "kl_cov_ratio": recipe.kl_cov,
            "ppo_kl_coef": recipe.kl_cov_coef,
        }
    return mode, recipe.epsilon, recipe.high


def _rollout(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": "vllm",
        "n": recipe.num_generations,
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "top_k": recipe.top_k or -1,
        "tensor_model_parallel_size": 1,
        "gpu_memory_utilization": recipe.vllm_gpu_memory_utilization if recipe.use_vllm else 0.5,
        "load_format": "safetensors",  # the frozen base, which LoRA's updates do not carry
        "seed": recipe.seed,
        "log_prob_micro_batch_size_per_gpu": _rows(recipe),
    }


def _algorithm(recipe: Recipe) -> dict[str, Any]:
    out: dict[str, Any] = {
        "adv_estimator": "grpo",
        "norm_adv_by_std_in_grpo": recipe.scale_rewards != "none",
        "use_kl_in_reward": False,
    }
    if recipe.dynamic_sampling:
        out["filter_groups"] = {
            "enable": True,
            "metric": "reward",
            "max_num_gen_batches": 1 + recipe.max_refills,
        }
    level, _, form = recipe.importance_sampling_mode.partition("_")
    if recipe.importance_sampling_correction and form == "truncate":
        out["rollout_correction"] = {
            "rollout_is": level,
            "rollout_is_threshold": recipe.importance_sampling_clip_max or UNBOUNDED,
        }
    return out


def _trainer(recipe: Recipe) -> dict[str, Any]:
    trackers = [name for name in recipe.report_to if name in ("tensorboard", "wandb")]
    return {
        "project_name": "icpo-lite",
        "experiment_name": recipe.path.stem,
        "logger": ["console", *trackers],
        "total_epochs": 1,
        "total_training_steps": recipe.max_steps,
        "save_freq": recipe.save_steps,
        "max_actor_ckpt_to_keep": recipe.save_total_limit,
        "val_before_train": False,
        "test_freq": -1,
    }


REWARD_FILE = '''\
"""The reward of recipe.yaml as verl calls it: `reward.custom_reward_function` names this file."""

from pathlib import Path

from icpo_lite.integrations import verl

RECIPE = Path(__file__).resolve().with_name("recipe.yaml")


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """The score of one response, and what is shown beside it."""
    return verl.compute_score(data_source, solution_str, ground_truth, extra_info, recipe=RECIPE)
'''

RUN_FILE = """\
#!/usr/bin/env bash
# Trains with verl on this machine, or on the Ray cluster that RAY_ADDRESS names, where every node
# sees this folder. What stands behind it overrides config.yaml:
#   bash run.sh trainer.n_gpus_per_node=8 trainer.nnodes=2
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec python3 -m verl.trainer.main_ppo --config-path "$here" --config-name config \\
    data.train_files="$here/train.parquet" data.val_files="$here/train.parquet" \\
    reward.custom_reward_function.path="$here/reward.py" \\
    trainer.default_local_dir="$here/checkpoints" "$@"
"""
