"""A GRPO step beside TRL's on a CPU, by the harness of tests/gpu, in processor time.

    python tests/benchmarks/trl_step.py [--steps 3] [--turns 1]

A random Qwen2 of 38.6 M parameters, 16 replies of 96 tokens, float32, one thread. Both take turns,
each in a process of its own whose clocks are those of processor time; the figure is the median over
all steps of a way. Each way's first step is given apart: libraries warm up in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

#: Runs a script of the harness on processor time. Those who wait keep their own clock: while they
#: do, processor time stands still.
TIMED = """
import concurrent.futures, multiprocessing.connection, queue, subprocess, threading
import runpy, sys, time
time.monotonic = time.perf_counter = time.process_time
sys.path.insert(0, {folder!r})
sys.argv = [{script!r}, *sys.argv[1:]]
runpy.run_path({script!r}, run_name="__main__")
"""
CHANGES = (
    *("prompts_per_step=2", "num_generations=8", "max_completion_length=96"),
    *("per_device_train_batch_size=16", "load_in_4bit=false", "dtype=float32", "rehearse=false"),
    *("optim=adamw_torch", "gradient_checkpointing=false"),
)


def save_model(folder: Path) -> None:
    import torch
    from model_families import END, EOS, PAD, save_tokenizer
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=320,
        hidden_size=640,
        intermediate_size=1728,
        num_hidden_layers=9,
        num_attention_heads=10,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        pad_token_id=PAD,
        eos_token_id=[EOS, END],
        bos_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")
    model.save_pretrained(folder)
    save_tokenizer(folder)


def steps(script: str, model: Path, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each step, and the mean length of its replies."""
    file = TESTS / "gpu" / script
    code = TIMED.format(folder=str(file.parent), script=str(file))
    command = [sys.executable, "-c", code, "qwen7b", str(model), "--device", "cpu"]
    print(f"{script} …", flush=True)
    done = subprocess.run(
        [*command, "--steps", str(count), "--set", *CHANGES],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{script}: {done.stderr[-1500:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if "trl" in found:
        return found["step_seconds"], found["mean_length"]
    rows = found["steps"]
    return [r["step_seconds"] for r in rows], [r["completions/mean_length"] for r in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--turns", type=int, default=1)
    asked = parser.parse_args()
    found: dict[str, list[list[float]]] = {"recipe_steps.py": [], "trl_steps.py": []}
    with tempfile.TemporaryDirectory() as name:
        save_model(Path(name))
        for _ in range(asked.turns):
            for script, turns in found.items():
                seconds, lengths = steps(script, Path(name), asked.steps)
                turns.append(seconds)
                told = ", ".join(f"{s:.1f}" for s in seconds)
                print(f"{script}: {told} s, replies of {lengths} tokens", flush=True)
    ours, theirs = found.values()
    for what, part in (("first", slice(0, 1)), ("later", slice(1, None))):
        ways = [[s for turn in turns for s in turn[part]] for turns in (ours, theirs)]
        if all(ways):
            a, b = map(statistics.median, ways)
            print(f"{what} steps: {a:.1f} s here, {b:.1f} s there, {b / a:.2f} times the speed")


if __name__ == "__main__":
    main()
