"""The parts of the GPU suite, one after another, each in a process of its own.

The JSON is written anew after every part: what is cut off leaves what was measured before it.

A part that cannot run here, or for which no time is left, is skipped with the reason; a part that
fails leaves the end of what it printed. The exit code is 1 when a part failed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

#: Without these nothing of the suite runs; the others are peers, skipped by name.
NEEDED = (
    *("torch", "triton", "numpy", "transformers", "peft", "bitsandbytes", "safetensors"),
    *("accelerate", "tokenizers", "pydantic", "yaml", "click", "jinja2", "pytest", "hypothesis"),
)
PACKAGES = (
    *("torch", "triton", "transformers", "peft", "bitsandbytes", "trl", "unsloth"),
    *("liger-kernel", "cut-cross-entropy", "unsloth_zoo"),
)
#: Size → disk in GB of its NF4 checkpoint.
DISK_GB = {"7b": 6, "14b": 10, "32b": 20, "tiny": 0}
#: One step of short replies, and no rehearsal of the worst case before it: what is measured is the
#: step. The memory of full length is a step of its own (`FULL`).
SHORT = ("max_completion_length=128", "rehearse=false")
FULL = ("rehearse=false",)
#: What a CPU can do of a recipe in seconds.
TINY = (
    *("prompts_per_step=2", "num_generations=2", "max_completion_length=6"),
    *("per_device_train_batch_size=2", "optim=adamw_torch"),
)


@dataclass(frozen=True)
class Setup:
    """Where the suite runs. tiny: small shapes in the real ones' place."""

    device: str
    tiny: bool
    work: Path
    deadline: float

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"


@dataclass(frozen=True)
class Part:
    """name: in the JSON and of --only. seconds: its bound on a GPU, by arithmetic
    (docs/gpu-suite.md); after half as long again it is ended. needs: why it cannot run, or ""."""

    name: str
    seconds: float
    run: Callable[[Setup], Any]
    needs: Callable[[Setup], str] = lambda setup: ""


# ---------------------------------------------------------------------------------- what is run


def python(setup: Setup, *arguments: str, **environment: str) -> str:
    """Standard output of a Python process; raises RuntimeError with the end of what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=max(setup.left, 1),
        check=False,
    )
    if done.returncode:
        tail = (done.stderr.strip() or done.stdout.strip())[-1500:]
        raise RuntimeError(f"exit code {done.returncode}: {tail}")
    return done.stdout


def last_json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return found


def marked_tests(setup: Setup) -> Any:
    arguments = ["-m", "pytest", "-q", "-m", "gpu", "-W", "ignore", "tests"]
    printed = python(setup, *arguments, ICPO_TEST_DEVICE=setup.device)
    return {"summary": printed.strip().splitlines()[-1]}


def outliers(setup: Setup) -> Any:
    """50 steps in float16 on a tiny model whose residual and products leave its range."""
    from model_families import save_planted

    folder = save_planted(setup.work / "planted", written=0.6)
    result = steps(
        setup,
        "tiny",
        folder,
        None,
        *("dtype=float16", "load_in_4bit=false", "max_completion_length=8", "prompts_per_step=4"),
        *("num_generations=4", "per_device_train_batch_size=8"),
        count=50,
    )
    if not (result["adapter_finite"] and result["adapter_moved"] and result["said"]):
        raise RuntimeError(f"expected overflows found and a finite adapter, found {result}")
    result["steps"] = result["steps"][-1:]
    return result


def checkpoint(setup: Setup, shape: str) -> Path:
    """The random NF4 checkpoint of a shape, made once, by another process."""
    shape = "tiny" if setup.tiny else shape
    folder = setup.work / shape
    if not (folder / "config.json").is_file():
        for other in DISK_GB:  # one at a time on the disk
            if other != shape:
                shutil.rmtree(setup.work / other, ignore_errors=True)
        python(setup, str(HERE / "shapes.py"), str(folder), shape, setup.device)
    return folder


def steps(
    setup: Setup, recipe: str, model: Path, limit_gb: float | None, *changes: str, count: int = 2
) -> dict[str, Any]:
    limit = [] if limit_gb is None else ["--limit-gb", str(limit_gb)]
    return last_json(
        python(
            setup,
            *(str(HERE / "recipe_steps.py"), recipe, str(model), "--device", setup.device),
            *("--steps", str(count), *limit, "--set", *changes),
        )
    )


def within(shape: str, limit_gb: float) -> Callable[[Setup], Any]:
    """One step of full length of the recipe of a size within the memory of a card."""

    def part(setup: Setup) -> Any:
        model = checkpoint(setup, shape)
        changes = TINY if setup.tiny else ()
        result = steps(setup, f"qwen{shape}", model, limit_gb, *FULL, *changes, count=1)
        if setup.on_gpu and result["peak_reserved_gb"] > limit_gb:
            raise RuntimeError(f"expected at most {limit_gb} GB, found {result}")
        return result

    return part


def step_time(setup: Setup) -> Any:
    """A 7B step of 64 completions of 128 tokens, ours and TRL's, one after the other.

    Two steps each, of which the second counts: the first compiles.
    """
    model = checkpoint(setup, "7b")
    # The whole card for both, and the same micro-batch.
    changes = (*SHORT, *(TINY if setup.tiny else ("per_device_train_batch_size=8",)))
    ours = steps(setup, "qwen7b", model, None, *changes)
    found = {"ours": ours, "ours_seconds": ours["steps"][-1]["step_seconds"]}
    if not importlib.util.find_spec("trl"):
        return {**found, "trl": "skipped: trl is not installed"}
    trl = last_json(
        python(
            setup,
            *(str(HERE / "trl_steps.py"), "qwen7b", str(model), "--device", setup.device),
            *("--set", *changes),
        )
    )
    seconds = trl["step_seconds"][-1]
    return {**found, "trl": trl, "trl_seconds": seconds, "ratio": seconds / found["ours_seconds"]}


def bench(setup: Setup) -> Any:
    output = setup.work / "bench.json"
    small = ("--cpu", "--shapes", "small", "--tokens", "64", "--repeats", "1", "--peers", "none")
    shapes = ("--shapes", "qwen2.5-7b,llama-3.1-8b")
    real = ("--part", "logprob", *shapes, "--tokens", "4096", "--repeats", "5", "--peers", "all")
    chosen = real if setup.on_gpu else small
    python(setup, "-m", "icpo_lite", "bench", *chosen, "-o", str(output))
    return json.loads(output.read_text())


# -------------------------------------------------------------------------------- what is needed


def gpu_or_tiny(setup: Setup) -> str:
    return "" if setup.on_gpu or setup.tiny else "needs an NVIDIA GPU; --device cpu --shapes tiny"


def room_for(shape: str, limit_gb: float) -> Callable[[Setup], str]:
    def needs(setup: Setup) -> str:
        if setup.tiny:
            return ""
        if not setup.on_gpu:
            return gpu_or_tiny(setup)
        total = torch.cuda.get_device_properties(0).total_memory / 1e9
        if total < limit_gb:
            return f"needs {limit_gb:g} GB of GPU memory, this one has {total:.0f}"
        free = shutil.disk_usage(setup.work).free / 1e9
        if free < DISK_GB[shape] + 2:
            return f"needs {DISK_GB[shape] + 2} GB of disk in {setup.work}, {free:.0f} are free"
        return ""

    return needs


#: What needs the largest card and the log-prob path come first: a short lease still gives them. The
#: bounds add up to 460 s.
PARTS = (
    Part("32b-23gb", 130, within("32b", 23), room_for("32b", 23)),
    Part("bench", 60, bench, gpu_or_tiny),
    Part("7b-11gb", 60, within("7b", 11), room_for("7b", 11)),
    Part("7b-time", 70, step_time, room_for("7b", 20)),
    Part("14b-15gb", 80, within("14b", 15), room_for("14b", 15)),
    Part("tests", 40, marked_tests, gpu_or_tiny),
    Part("float16", 20, outliers, gpu_or_tiny),
)


def missing() -> list[str]:
    """Packages of NEEDED that cannot be imported here."""
    return [name for name in NEEDED if not importlib.util.find_spec(name)]


# ------------------------------------------------------------------------------------------ report


def attempt(part: Part, setup: Setup) -> dict[str, Any]:
    began = time.monotonic()
    if setup.on_gpu:  # a part may not take the time of those after it
        setup = replace(setup, deadline=min(setup.deadline, began + 1.5 * part.seconds))
    if why := part.needs(setup):
        return {"name": part.name, "status": "skipped", "reason": why}
    if setup.on_gpu and setup.left < part.seconds:
        why = f"takes about {part.seconds:.0f} s, {max(setup.left, 0):.0f} s are left"
        return {"name": part.name, "status": "skipped", "reason": why}
    try:
        outcome = {"status": "ok", "result": part.run(setup)}
    except subprocess.TimeoutExpired:
        outcome = {
            "status": "failed",
            "reason": f"took longer than {time.monotonic() - began:.0f} s",
        }
    except Exception as error:  # a part that breaks must not take the others with it
        outcome = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return {"name": part.name, **outcome, "seconds": round(time.monotonic() - began, 1)}


def machine(setup: Setup) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    found: dict[str, Any] = {
        "device": setup.device,
        "shapes": "tiny" if setup.tiny else "real",
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
        found["gpu_memory_gb"] = torch.cuda.get_device_properties(0).total_memory / 1e9
        found["compute_capability"] = list(torch.cuda.get_device_capability(0))
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shapes", choices=("real", "tiny"), default="real")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS])
    parser.add_argument("--preflight", action="store_true", help="Only say what is missing here.")
    asked = parser.parse_args()
    if lacking := missing():
        print(f"missing: {' '.join(lacking)}; icpo_lite/docs/gpu-suite.md says how to carry wheels")
        return 2
    if asked.preflight:
        print("Every package that the suite needs is here.")
        return 0
    return run(asked)


def run(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    there = asked.device == "cpu" or torch.cuda.is_available()
    parts: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="icpo-gpu-") as work:
        device = asked.device if there else "none"
        deadline = began + 60 * asked.minutes - 15
        setup = Setup(device, asked.shapes == "tiny" and there, Path(work), deadline)
        about = {"command": " ".join(["tests/gpu/run.sh", *sys.argv[1:]]), **machine(setup)}
        for part in PARTS:
            if asked.only and part.name not in asked.only:
                continue
            parts.append(attempt(part, setup))
            last = parts[-1]
            print(f"{last['name']:10} {last['status']:8} {last.get('reason', '')}", flush=True)
            report = {**about, "seconds": round(time.monotonic() - began, 1), "parts": parts}
            asked.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"Written to {asked.output}.")
    return int(any(part["status"] == "failed" for part in parts))


if __name__ == "__main__":
    sys.exit(main())
