"""The peak of live tensor bytes of real training steps, beside what `plan` says.

    python tests/reliability/measure_memory.py

A random Qwen2 of D 1024 and 8 layers goes through the project's own Trainer on the CPU: sampling,
log-probs, backward, optimizer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from live_tensors import LiveTensors, tensors_of

from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.policy.load import load_policy, load_tokenizer
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.from_recipe import bind_judge, bind_reward
from icpo_lite.tools.cards import on_cpu
from icpo_lite.tools.memory_model import MemoryPlan, plan_memory
from icpo_lite.tools.model_shape import shape_of
from icpo_lite.tools.planner import job_of
from icpo_lite.training import trainer, updater
from icpo_lite.training.from_recipe import untried

SHAPE = {
    "model_type": "qwen2",
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 4096,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}


def random_model(folder: Path, **shape: Any) -> Path:
    """A random model of SHAPE with the tokenizer of the embedded one."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = load_tokenizer("builtin:tiny")
    values = {**SHAPE, **shape}
    kind = values.pop("model_type")
    config = AutoConfig.for_model(
        kind, **values, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def measured_peaks(recipe: Any, *, steps: int = 2, explain: bool = False) -> LiveTensors:
    """Run `steps` steps of the recipe with prompts and replies of full length."""
    policy = load_policy(recipe)
    prompts, _ = training_prompts(recipe)
    # One prompt is a token shorter, so that rows are padded as in every real batch.
    full = list(range(5, 5 + recipe.max_prompt_length))
    ids = {p.prompt_id: [i % 90 + 5 for i in full] for p in prompts}
    made = trainer.Trainer(
        policy,
        PromptPool(prompts, seed=recipe.seed),
        ids,
        bind_judge(recipe, policy),
        bind_reward(recipe),
        recipe,
        untried(recipe),
    )
    shown = LiveTensors(tensors_of(policy.model), explain=explain)
    with watched(shown, made), shown:
        for number in range(steps):
            shorten(ids, made, number)
            made.step()
    return shown


def shorten(ids: dict[str, list[int]], made: Any, number: int) -> None:
    draw = made.pool.draw

    def drawn(*args: Any) -> Any:
        prompts = draw(*args)
        ids[prompts[0].prompt_id] = ids[prompts[0].prompt_id][1:]
        made.pool.draw = draw
        return prompts

    made.pool.draw = drawn


@contextmanager
def watched(live: LiveTensors, made: Any) -> Any:
    """Names the phases of a step."""
    wrapped = [
        (trainer, "sample_groups", "sampling"),
        (updater, "completion_logprobs", "forward"),
        (torch.Tensor, "backward", "backward"),
        (made.updater.optimizer, "step", "optimizer"),
    ]
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in wrapped]
    for (owner, name, phase), (_, _, call) in zip(wrapped, kept, strict=True):

        def inside(*args: Any, _call: Any = call, _phase: str = phase, **kwargs: Any) -> Any:
            with live.phase(_phase):
                return _call(*args, **kwargs)

        setattr(owner, name, inside)
    try:
        yield
    finally:
        for owner, name, call in kept:
            setattr(owner, name, call)


SMALL = (
    *(
        "compare={}",
        "drop_zero_variance=false",
        "count_zero_variance=true",
        "evaluation.enabled=false",
        "device=cpu",
    ),
    # The plan counts prompts that are not shared, the worst case of engines and models.
    *("engine=native", "share_prompts=false"),
    *("prompts_per_step=2", "num_generations=2", "max_prompt_length=120"),
    *("max_completion_length=8", "load_in_4bit=true", "dtype=float32"),
)
CASES = (
    (),
    ("gradient_checkpointing=true",),
    ("dtype=bfloat16",),
    ("dtype=bfloat16", "gradient_checkpointing=true", "per_device_train_batch_size=2"),
    ("load_in_4bit=false", "dtype=bfloat16", "gradient_checkpointing=true"),
    ("load_in_4bit=false", "dtype=bfloat16", "per_device_train_batch_size=2"),
    ("load_in_4bit=false", "per_device_train_batch_size=1"),
    ("max_prompt_length=40", "per_device_train_batch_size=1", "num_generations=16"),
    ("lora_target_modules=[q_proj, v_proj]", "dtype=bfloat16"),
)


def compared(model: Path, overrides: Sequence[str], *, explain: bool = False) -> tuple[Any, Any]:
    """(what was measured, what is planned) for a recipe with these overrides."""
    recipe = load_recipe("tiny", [f"model_name_or_path={model}", *SMALL, *overrides])
    shape = shape_of(json.loads((model / "config.json").read_text()))
    return measured_peaks(recipe, explain=explain), plan_memory(shape, job_of(recipe, on_cpu()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--explain", action="store_true", help="what is alive at each peak")
    parser.add_argument("overrides", nargs="*", help="one case of your own")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "model")
        for case in [tuple(given.overrides)] if given.overrides else CASES:
            began = time.monotonic()
            live, plan = compared(model, case, explain=given.explain)
            show(case, live, plan, time.monotonic() - began)


def show(case: Sequence[str], live: LiveTensors, plan: MemoryPlan, seconds: float) -> None:
    measured = max(live.peaks.values())
    print(
        f"{' '.join(case) or 'as it is'}: measured {measured / 1e6:.1f} MB, planned "
        f"{plan.tensors / 1e6:.1f} MB ({plan.tensors / measured - 1:+.1%}), {seconds:.0f} s"
    )
    for phase in plan.phases:
        had, said = live.peaks.get(phase.name, 0), plan.at(phase.name)
        print(f"  {phase.name:10} {had / 1e6:8.1f} {said / 1e6:8.1f} {said / max(had, 1) - 1:+.1%}")
    for name, alive in live.at_peak.items():
        print(f"--- {name}")
        sizes: Counter[str] = Counter()
        for size, label in alive:
            sizes[label] += size
        for label, size in sizes.most_common(24):
            print(f"{size / 1e6:9.2f} {label}")


if __name__ == "__main__":
    main()
