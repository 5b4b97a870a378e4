"""The same steps with TRL's GRPOTrainer and QLoRA: same checkpoint, prompts and lengths; JSON."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from recipe_steps import overrides, write_recipe


def spread(completions: Any, completion_ids: list[list[int]], **rest: Any) -> list[float]:
    return [sum(ids) % 7 / 7 for ids in completion_ids]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("model")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--set", dest="overrides", nargs="*", default=[])
    asked = parser.parse_args()

    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, TrainerCallback

    from icpo_lite.core.device import choose_device
    from icpo_lite.data.from_recipe import training_prompts
    from icpo_lite.policy.load import load_tokenizer
    from icpo_lite.recipe import load_recipe

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds.append(time.monotonic() - self.began)

    device = choose_device(asked.device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = load_recipe(
            str(write_recipe(folder, asked.recipe)),
            [*overrides(asked.model, folder / "run", asked.device, asked.steps), *asked.overrides],
        )
        prompts, _ = training_prompts(recipe)
        rows = [
            {"prompt": [{"role": m.role, "content": m.content} for m in p.messages]}
            for p in prompts[: 4 * asked.steps * recipe.prompts_per_step]
        ]
        completions = recipe.prompts_per_step * recipe.num_generations
        micro = recipe.per_device_train_batch_size or completions
        arguments = trl.GRPOConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=completions // micro,
            num_generations=recipe.num_generations,
            max_completion_length=recipe.max_completion_length,
            temperature=recipe.temperature,
            beta=recipe.beta,
            learning_rate=recipe.learning_rate,
            max_steps=asked.steps,
            gradient_checkpointing=recipe.gradient_checkpointing,
            bf16=device.dtype is torch.bfloat16,
            fp16=device.dtype is torch.float16,
            use_cpu=device.torch_device.type == "cpu",
            optim=recipe.optim,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
        )
        model = AutoModelForCausalLM.from_pretrained(
            asked.model, dtype=device.dtype, device_map={"": device.torch_device}
        )
        clock = Clock()
        trainer = trl.GRPOTrainer(
            model=model,
            reward_funcs=spread,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=load_tokenizer(asked.model),
            peft_config=LoraConfig(
                r=recipe.lora_r,
                lora_alpha=recipe.lora_alpha,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            callbacks=[clock],
        )
        trainer.train()
        lengths = [
            row["completions/mean_length"]
            for row in trainer.state.log_history
            if "completions/mean_length" in row
        ]
    on_gpu = device.torch_device.type == "cuda"
    result = {
        "trl": trl.__version__,
        "step_seconds": clock.seconds,
        "mean_length": lengths,
        "completions_a_step": completions,
        "peak_allocated_gb": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
