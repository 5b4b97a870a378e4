"""A recipe's keys as arguments of TRL's GRPOConfig, in TRL's own names, and the script with them.

Most keys bear TRL's name already and go as they are. What TRL counts otherwise is counted here:
its steps are optimizer updates, its schedules are transformers'. A test holds every name and the
defaults that are left out to the installed TRL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import RecipeError

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

#: Written always: what a reader looks for, and where TRL's own default is another.
ALWAYS = (
    *("loss_type", "epsilon", "epsilon_high", "beta", "scale_rewards"),
    *("importance_sampling_level", "use_bias_correction_kl", "mask_truncated_completions"),
    *("num_generations", "num_iterations", "max_completion_length"),
    *("temperature", "top_p", "top_k", "learning_rate", "gradient_checkpointing", "seed"),
)
#: Written where the recipe's value is not its default, which is TRL's too.
WHERE_SET = (
    *("delta", "sapo_temperature_pos", "sapo_temperature_neg", "vespo_k_pos", "vespo_lambda_pos"),
    *("vespo_k_neg", "vespo_lambda_neg", "top_entropy_quantile", "off_policy_mask_threshold"),
    *("entropy_coef", "trust_remote_code", "use_vllm"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
)


#: Losses that TRL's GRPOTrainer has under the same name.
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")


def updates_of(recipe: Recipe) -> int:
    """Optimizer updates of one of our steps: what TRL calls a step."""
    return recipe.num_iterations * recipe.num_mini_batches


def config_arguments(recipe: Recipe) -> dict[str, Any]:
    """The arguments of GRPOConfig that do not depend on the machine.

    Raises RecipeError for a loss that TRL does not have.
    """
    if recipe.loss_type not in LOSSES:
        raise RecipeError(
            f"{recipe.where('loss_type')}: loss_type: expected one that TRL has "
            f"({', '.join(LOSSES)}), found {recipe.loss_type}; change it, or train here"
        )
    defaults = type(recipe).model_fields
    out = {key: getattr(recipe, key) for key in ALWAYS}
    out |= {
        key: getattr(recipe, key)
        for key in WHERE_SET
        if getattr(recipe, key) != defaults[key].get_default(call_default_factory=True)
    }
    if recipe.importance_sampling_level == "turn":  # of one reply, which is one turn
        out["importance_sampling_level"] = "sequence"
    out["generation_batch_size"] = recipe.prompts_per_step * recipe.num_generations
    if recipe.optim != "adamw_torch":
        out["optim"] = recipe.optim
    if recipe.entropy_target is not None:
        steered = ("entropy_target", "entropy_coef_delta", "entropy_coef_min", "entropy_coef_max")
        out |= {"use_adaptive_entropy": True, **{key: getattr(recipe, key) for key in steered}}
    if recipe.use_vllm:
        out |= _vllm(recipe)
    return out | schedule_arguments(recipe) | _run_arguments(recipe)


def _vllm(recipe: Recipe) -> dict[str, Any]:
    out: dict[str, Any] = {
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": recipe.vllm_gpu_memory_utilization,
        "vllm_enable_sleep_mode": recipe.vllm_enable_sleep_mode,
        "vllm_max_model_length": recipe.max_prompt_length + recipe.max_completion_length,
        "vllm_importance_sampling_correction": bool(recipe.importance_sampling_correction),
    }
    for ours in ("mode", "clip_max", "clip_min"):
        out[f"vllm_importance_sampling_{ours}"] = getattr(recipe, f"importance_sampling_{ours}")
    return out


def schedule_arguments(recipe: Recipe) -> dict[str, Any]:
    """The learning rate's course in transformers' names, the same as ours after the warm-up."""
    updates, kind = updates_of(recipe), recipe.lr_scheduler_type
    out: dict[str, Any] = {"max_steps": recipe.max_steps * updates}
    if recipe.warmup:
        out["warmup_steps"] = recipe.warmup * updates
    if kind == "constant":
        # transformers' plain `constant` leaves the warm-up out.
        return out | {"lr_scheduler_type": "constant_with_warmup" if recipe.warmup else "constant"}
    if not recipe.min_lr_ratio:
        return out | {"lr_scheduler_type": kind}
    return out | {
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": {
            "num_decay_steps": (recipe.max_steps - recipe.warmup) * updates,
            "decay_type": kind,
            "min_lr_ratio": recipe.min_lr_ratio,
        },
    }


def _run_arguments(recipe: Recipe) -> dict[str, Any]:
    updates = updates_of(recipe)
    return {
        "save_steps": recipe.save_steps * updates,
        "save_total_limit": recipe.save_total_limit,
        "logging_steps": recipe.logging_steps * updates,
        "report_to": list(recipe.report_to) or "none",
    }


def rows_at_once(recipe: Recipe) -> int:
    """Completions that a process computes at once where nobody says how many: a group."""
    return recipe.per_device_train_batch_size or recipe.num_generations


def lora_arguments(recipe: Recipe) -> dict[str, Any]:
    """The arguments of peft's LoraConfig; `left_behind` says which starts it goes without."""
    targets, start = recipe.lora_target_modules, recipe.init_lora_weights
    return {
        "r": recipe.lora_r,
        "lora_alpha": recipe.lora_alpha,
        "lora_dropout": recipe.lora_dropout,
        "target_modules": targets if isinstance(targets, str) else list(targets),
        **{key: True for key in ("use_rslora", "use_dora") if getattr(recipe, key)},
        **({"init_lora_weights": start} if start == "gaussian" else {}),
        "task_type": "CAUSAL_LM",
    }


def script(recipe: Recipe, name: str) -> str:
    """train.py of a handover folder."""
    rows = recipe.prompts_per_step * recipe.num_generations // recipe.num_mini_batches
    bf16, fp16 = (
        _AUTO
        if recipe.dtype == "auto"
        else (str(recipe.dtype == kind) for kind in ("bfloat16", "float16"))
    )
    return _SCRIPT.format(
        name=name,
        prompts=recipe.prompts_per_step,
        generations=recipe.num_generations,
        rows=rows,
        at_once=rows_at_once(recipe),
        bf16=bf16,
        fp16=fp16,
        config=_lines(config_arguments(recipe), 8),
        lora=_lines(lora_arguments(recipe), 12),
        quantization=_QUANTIZED if recipe.load_in_4bit else "None",
        attention=(
            f', "attn_implementation": {_code(recipe.attn_implementation)}'
            if recipe.attn_implementation
            else ""
        ),
    )


def _lines(arguments: Mapping[str, Any], indent: int) -> str:
    return "\n".join(f"{' ' * indent}{key}={_code(value)}," for key, value in arguments.items())


def _code(value: Any) -> str:
    """A value as Python writes it, its texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_code(k)}: {_code(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_code, value))}]"
    return repr(value)


_AUTO = ("cuda and torch.cuda.get_device_capability() >= (8, 0)", "cuda and not bf16")
_QUANTIZED = """\
BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        if cuda  # on a CPU its layers may lose their gradients
        else None"""

_SCRIPT = '''\
"""{name} with TRL's GRPOTrainer, on any number of GPUs: `accelerate launch train.py`.

The prompts stand in train.parquet in the order of the steps, the reward comes from recipe.yaml
through icpo-lite, all else is written out here in TRL's names. Read in TRL 1.16.0. The same command
goes on from the last checkpoint.
"""

import os
import shutil
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer

from icpo_lite.integrations.trl import model, reward_funcs, tokenizer

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "recipe.yaml"
OUT = HERE / "adapter"

# A step samples {prompts} prompts x {generations} completions, an update takes {rows} of them, on
# any number of processes. AT_ONCE, those that one of these computes at once, is for its memory
# alone.
AT_ONCE = {at_once}


def main() -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    at_once = min(AT_ONCE, {rows} // processes)
    if not at_once or {rows} % (at_once * processes):
        sys.exit(
            f"expected {rows} completions to be a multiple of {{processes}} processes x "
            f"AT_ONCE {{at_once}}; change the number of processes, or AT_ONCE in train.py"
        )
    cuda = torch.cuda.is_available()
    bf16 = {bf16}
    fp16 = {fp16}
    dtype = torch.bfloat16 if bf16 else torch.float16 if fp16 else torch.float32
    config = GRPOConfig(
        output_dir=str(OUT),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps={rows} // (at_once * processes),
{config}
        model_init_kwargs={{"dtype": dtype, "use_safetensors": True{attention}}},
        shuffle_dataset=False,  # the order holds the fraction of underspecified prompts
        remove_unused_columns=False,  # the reward reads them
        ddp_find_unused_parameters=False,
        log_completions=True,
        num_completions_to_print=2,
        bf16=bf16,
        fp16=fp16,
        use_cpu=not cuda,
    )
    trainer = GRPOTrainer(
        model=model(RECIPE),
        args=config,
        reward_funcs=reward_funcs(RECIPE),
        train_dataset=Dataset.from_parquet(str(HERE / "train.parquet")),
        processing_class=tokenizer(RECIPE),
        peft_config=LoraConfig(
{lora}
        ),
        quantization_config={quantization},
    )
    last = get_last_checkpoint(str(OUT)) if OUT.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    trainer.save_model(str(OUT))
    trainer.save_state()
    if trainer.is_world_process_zero():
        shutil.copy(RECIPE, OUT)  # so that icpo-lite knows what was trained
        print(f"Done. Next: icpo-lite eval {{OUT}}, then icpo-lite report {{OUT}}")


if __name__ == "__main__":
    main()
'''
