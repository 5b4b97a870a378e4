"""Do two checkouts do the same? The same runs in both, and the SHA-256 of what they leave.

    python tests/claims/same_run.py BEFORE AFTER --data FOLDER

BEFORE, AFTER: checkouts, or what an earlier call wrote with -o. FOLDER holds gsm8k_train.jsonl and
lic_turn_types_dev.jsonl. Compared are the adapter's weights, metrics.jsonl without times and
memory, and eval.json of short runs of the tiny recipe, and what `augment` and `classify` write.
Ends with 1 where anything differs.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = {
    "plain": (),
    "grpo": ("num_iterations=2", "num_mini_batches=2", "loss_type=grpo", "beta=0.02"),
    "generate": ("engine=generate",),
}
COMMON = (
    *("seed=7", "max_steps=20", "evaluation.problems=20", "evaluation.runs=2", "compare={}"),
    "device=cpu",
)
#: What depends on the moment.
TIMED = {"tokens_per_second", "sampling_seconds", "step_seconds", "memory_gb"}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def untimed(file: Path) -> bytes:
    """metrics.jsonl without times, keys in order."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if k not in TIMED} for row in rows]
    return json.dumps(kept, sort_keys=True).encode()


def measured(checkout: Path, data: Path) -> dict[str, str]:
    """Name of each output → its SHA-256."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}

    def command(*arguments: str) -> bytes:
        line = [sys.executable, "-m", "icpo_lite", *arguments]
        return subprocess.run(
            line, cwd=folder, env=environment, check=True, capture_output=True
        ).stdout

    found = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, overrides in RUNS.items():
            command("train", "tiny", *COMMON, *overrides, f"output_dir={name}")
            run = folder / name
            found[f"{name}: adapter"] = digest((run / "adapter_model.safetensors").read_bytes())
            found[f"{name}: metrics"] = digest(untimed(run / "metrics.jsonl"))
            found[f"{name}: eval.json"] = digest((run / "eval" / "eval.json").read_bytes())
        command("augment", str(data / "gsm8k_train.jsonl"), "-o", "prompts.jsonl")
        found["augment gsm8k_train"] = digest((folder / "prompts.jsonl").read_bytes())
        command("classify", str(data / "lic_turn_types_dev.jsonl"), "-o", "types.jsonl")
        found["classify lic_turn_types_dev"] = digest((folder / "types.jsonl").read_bytes())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, help="keep what BEFORE gave")
    options = parser.parse_args()
    sides = []
    for side in filter(None, (options.before, options.after)):
        sides.append(
            json.loads(side.read_text()) if side.is_file() else measured(side, options.data)
        )
    if options.output:
        options.output.write_text(json.dumps(sides[0], indent=1) + "\n")
    same = True
    for name, value in sides[0].items():
        equal = all(side.get(name) == value for side in sides)
        same &= equal
        print(f"{'equal ' if equal else 'DIFFER'}  {name:30}  {value}")
    return not same


if __name__ == "__main__":
    sys.exit(main())
