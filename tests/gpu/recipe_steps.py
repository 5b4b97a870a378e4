"""A recipe's own steps, by `train.train`, within the memory of a smaller card; prints JSON.

The prompts are the built-in world's, made long by a system turn, and a reward tells the random
responses apart, so that every step samples, judges, updates and saves as a real one does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import warnings
from pathlib import Path

import torch

REWARD = """
def spread(prompts, completions, completion_ids, **rest):
    return [sum(ids) % 7 / 7 for ids in completion_ids]
"""
#: Fills world prompts up to some 500 byte-level tokens: GSM8K's longest have as many.
SYSTEM = "You solve problems about counting. " * 6
RECIPE = "extends: {recipe}\nreward_funcs: [spread.py:spread]\nsystem_prompt: '{system}'\n"


def write_recipe(folder: Path, recipe: str) -> Path:
    (folder / "spread.py").write_text(REWARD)
    file = folder / "steps.yaml"
    file.write_text(RECIPE.format(recipe=recipe, system=SYSTEM))
    return file


def overrides(model: str, output: Path, device: str, steps: int) -> list[str]:
    return [
        *(f"model_name_or_path={model}", f"output_dir={output}", f"device={device}"),
        *(f"max_steps={steps}", f"save_steps={steps}", "dataset_name=builtin:world"),
        *("max_prompt_length=600", "evaluation.enabled=false", "compare={}"),
        *("drop_zero_variance=false", "mask_truncated_completions=false"),
        "warm_up_steps=0",  # a random model never asks, and these steps are not what is measured
    ]


def limit_memory(gigabytes: float | None) -> None:
    """Imitate a smaller card: this process may allocate so many 10⁹ bytes."""
    if gigabytes is not None and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total), 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("model")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--limit-gb", type=float)
    parser.add_argument("--set", dest="overrides", nargs="*", default=[])
    asked = parser.parse_args()

    from safetensors.torch import load_file

    from icpo_lite.core.console import Display
    from icpo_lite.core.files import read_metrics
    from icpo_lite.recipe import load_recipe
    from icpo_lite.runs import train

    limit_memory(asked.limit_gb)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        output, printed = folder / "run", folder / "printed.txt"
        recipe = load_recipe(
            str(write_recipe(folder, asked.recipe)),
            [*overrides(asked.model, output, asked.device, asked.steps), *asked.overrides],
        )
        warned = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always", UserWarning)
        log = stack.enter_context(printed.open("w"))
        train.train(recipe, Display(total=asked.steps, live=False, file=log))
        log.flush()
        rows = read_metrics(output)
        adapter = load_file(output / "adapter_model.safetensors")
        said = [str(w.message) for w in warned if "float16" in str(w.message)]
        header = [line.strip() for line in printed.read_text().splitlines() if "float16" in line]
    on_gpu = torch.cuda.is_available() and asked.device != "cpu"
    names = (
        *("step_seconds", "sampling_seconds", "tokens_per_second", "memory_gb"),
        *("completions/mean_length", "grad_norm", "loss"),
    )
    result = {
        "recipe": asked.recipe,
        "limit_gb": asked.limit_gb,
        "steps": [{name: row.get(name) for name in names} for row in rows],
        "peak_allocated_gb": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
        "peak_reserved_gb": torch.cuda.max_memory_reserved() / 1e9 if on_gpu else None,
        "completions_a_step": recipe.prompts_per_step * recipe.num_generations,
        "micro_batch": recipe.per_device_train_batch_size,
        "steps_skipped_by_overflow": sum(row.get("grad_norm") == 0 for row in rows),
        "adapter_finite": all(bool(torch.isfinite(t).all()) for t in adapter.values()),
        "adapter_moved": any(bool(t.any()) for n, t in adapter.items() if "lora_B" in n),
        "said": header + said,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
