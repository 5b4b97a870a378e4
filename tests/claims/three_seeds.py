"""What the README claims of the tiny recipe, measured: three seeds, base and RLVR beside ICPO.

    python tests/claims/three_seeds.py --out runs/three-seeds

Each seed is one `icpo-lite train tiny` with its RLVR twin, judged on 140 problems x 8 runs, then
judged again on the `transfer` split, templates and wordings that RL never saw. Prints one table,
writes results.json, and ends with exit code 1 when a seed misses a bound.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from icpo_lite.runlog import git_commit, versions

COMMAND = [sys.executable, "-m", "icpo_lite"]
MODELS = ("base", "rlvr", "icpo")
ROWS = (
    ("FULL P", "settings", "full", "P"),
    ("CONCAT P", "settings", "concat", "P"),
    ("SHARDED P", "settings", "sharded", "P"),
    ("SHARDED A90", "settings", "sharded", "A90"),
    ("SHARDED U", "settings", "sharded", "U"),
    ("of P lucky", "settings", "sharded", "lucky"),
    ("clean history P", "settings", "clean_history", "P"),
    ("asks on q*", "rates", "clarification_rate", None),
    ("asks for what lacks", "rates", "targeted_rate", None),
    ("over-asks on q", "rates", "over_asking_rate", None),
)


def figure(summary: dict[str, Any], kind: str, name: str, part: str | None) -> float:
    entry = summary[kind][name]
    return float((entry if part is None else entry[part])["value"])


def run_seed(seed: int, split: str, out: Path) -> dict[str, Any]:
    folder = out / f"seed-{seed}"
    began = time.monotonic()
    train = [*COMMAND, "train", "tiny", f"seed={seed}", f"output_dir={folder}"]
    train += [f"evaluation.split={split}", "evaluation.problems=140", "evaluation.runs=8"]
    subprocess.run([*train, "log_completions_steps=0", "logging_steps=40"], check=True)
    seconds = time.monotonic() - began
    places = {
        "base": folder / "eval-base",
        "rlvr": Path(f"{folder}-rlvr") / "eval",
        "icpo": folder / "eval",
    }
    found = {n: json.loads((p / "eval.json").read_text()) for n, p in places.items()}
    transfer = folder / "transfer"
    compare = f"base,rlvr={folder}-rlvr"
    judge = [*COMMAND, "eval", str(folder), "--split", "transfer", "--compare", compare]
    subprocess.run([*judge, "--problems", "140", "--runs", "8", "-o", str(transfer)], check=True)
    moved = json.loads((transfer / "comparison.json").read_text())
    moved["icpo"] = moved.pop(folder.name)
    return {"seed": seed, "seconds": seconds, split: found, "transfer": moved}


def misses(results: list[dict[str, Any]], split: str) -> list[str]:
    """The bounds that a seed does not reach."""
    out = []
    for r in results:
        get = {m: {label: figure(r[split][m], *path) for label, *path in ROWS} for m in MODELS}
        icpo, base, rlvr = get["icpo"], get["base"], get["rlvr"]
        for rival, name in ((base, "base"), (rlvr, "RLVR")):
            if icpo["SHARDED P"] < 2 * rival["SHARDED P"]:
                out.append(f"seed {r['seed']}: SHARDED is under twice that of {name}")
        if icpo["FULL P"] < base["FULL P"] - 2:
            out.append(f"seed {r['seed']}: FULL is more than 2 points under base")
        if icpo["over-asks on q"] > 3:
            out.append(f"seed {r['seed']}: over-asking is above 3 %")
    return out


def table(results: list[dict[str, Any]], part: str) -> str:
    lines = [f"| {part} | base | RLVR | ICPO | ICPO by seed |", "|---|---|---|---|---|"]
    for label, *path in ROWS:
        cells = []
        for model in MODELS:
            values = [figure(r[part][model], *path) for r in results]
            spread = f" ± {stdev(values):.1f}" if model != "base" and len(values) > 1 else ""
            cells.append(f"{mean(values):.1f}{spread}")
        own = ", ".join(f"{figure(r[part]['icpo'], *path):.1f}" for r in results)
        lines.append(f"| {label} | {' | '.join(cells)} | {own} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test", help="dev while anything is being chosen")
    args = parser.parse_args()
    results = [run_seed(seed, args.split, args.out) for seed in args.seeds]
    facts = {
        "command": " ".join(["python", "tests/claims/three_seeds.py", *sys.argv[1:]]),
        "commit": git_commit(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} cores",
        "versions": versions(),
    }
    for r in results:
        for part in (args.split, "transfer"):
            for summary in r[part].values():
                for setting in summary["settings"].values():
                    setting.pop("scores")
    text = json.dumps({**facts, "results": results}, indent=1)
    (args.out / "results.json").write_text(text + "\n")
    print("\n" + table(results, args.split) + "\n\n" + table(results, "transfer"))
    print(
        "\nseconds a seed, training and judging: "
        + ", ".join(f"{r['seconds']:.0f}" for r in results)
    )
    missed = misses(results, args.split)
    print("\n".join(missed) or "every seed reaches every bound")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
