"""A real language model before and after: asked, trained plainly, trained to ask, and cured.

    python tests/claims/real_model.py --model FOLDER_OR_HUB_NAME --out runs/real

Arms: the model as it is; with a system prompt that permits asking; made to ask above a threshold of
P(ask) that is chosen on dev; RLVR; ICPO on its own; ICPO after the warm-up of a model that hardly
asks, with or without demonstrations and the floor under a group's std; the warm-up alone.
Trained arms see the same number of prompts and replies, and their sampled tokens are counted.
Judged on held-out problems of the built-in world, and on published sets of complete and
insufficient problems where --data names them. What is done is not done again. Prints a Markdown
table and writes real_model.json: figures with 95 % intervals over problems, machine, versions,
commit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from icpo_lite.core.files import read_metrics
from icpo_lite.evaluation.intervals import interval
from icpo_lite.runs.run_directory import git_commit, versions

COMMAND = [sys.executable, "-m", "icpo_lite"]
PLAIN = ("evaluation.enabled=false", "compare={}", "log_completions_steps=0")
#: Trained arms: what differs from the recipe.
TRAINED: dict[str, tuple[str, ...]] = {
    "rlvr": ("share_underspecified=0", "reward=accuracy", "warm_up_steps=0"),
    "icpo": ("warm_up_steps=0",),
    "icpo, warmed up": (),
    "warm-up alone": ("max_steps=1", "learning_rate=1e-12"),
    "icpo, warmed up, hpt": ("demonstrations=hpt",),
    "icpo, warmed up, no floor": ("min_reward_std=0",),
}
#: The model untrained, and what `eval` is told.
UNTRAINED: dict[str, tuple[str, ...]] = {
    "base": (),
    "base, permitted to ask": ("--system", "ask"),
    "base, threshold": (),
}
DEFAULT = (
    *("base", "base, permitted to ask", "base, threshold", "rlvr", "icpo, warmed up"),
    "warm-up alone",
)
RATES = {
    "asks on q*": "clarification_rate",
    "targeted": "targeted_rate",
    "over-asks": "over_asking_rate",
}


def slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text).split())


class Arena:
    """Trains and judges arms in `out`; each command's output goes to a log beside its result."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, args.out
        self.out.mkdir(parents=True, exist_ok=True)

    def command(self, command: Sequence[str], log: Path) -> None:
        with log.open("ab") as out:
            status = subprocess.run([*COMMAND, *command], stdout=out, stderr=out).returncode
        if status:
            raise SystemExit(f"{' '.join(command)} failed; see {log}")

    def trained(self, name: str, seed: int) -> Path:
        """The run of an arm; trained, or gone on with, unless it is finished."""
        folder = self.out / f"{slug(name)}-{seed}"
        if not (folder / "finished").is_file():
            keys = [*PLAIN, *self.args.set, *TRAINED[name], f"seed={seed}"]
            keys += [f"model_name_or_path={self.args.model}", f"output_dir={folder}"]
            started = time.monotonic()
            self.command(["train", self.args.recipe, *keys], Path(f"{folder}.log"))
            (folder / "seconds").write_text(f"{time.monotonic() - started:.0f}")
        return folder

    def threshold(self, model: Path | str) -> float:
        """That of P(ask) which on dev parts best what lacks something from what is whole.

        P(ask) is told by what the threshold will be held against; 1 makes nothing ask.
        """
        told = self.judged("base, threshold", model, ("--ask-threshold", "1"), None, split="dev")
        calibration = told["calibration"]
        best = max(
            calibration["thresholds"], key=lambda t: t["asks_underspecified"] - t["over_asks"]
        )
        return float(best["threshold"])

    def judged(
        self,
        name: str,
        model: Path | str,
        more: Sequence[str],
        data: str | None,
        *,
        split: str | None = None,
    ) -> Any:
        """The summary of one arm on one data set."""
        args = self.args
        split = split or args.split
        where = slug(Path(data).stem) if data else "world"
        place = self.out / "judged" / f"{slug(name)}-{where}-{split}"
        found = place / "comparison.json"
        if not found.is_file():
            size = ["--runs", str(args.runs), "--problems", str(args.problems)]
            what = ["--data", data] if data else ["--settings", "full,sharded,underspecified"]
            if data:
                size = ["--problems", str(args.problems)]
            else:
                what += ["--split", split]
            place.parent.mkdir(parents=True, exist_ok=True)
            tokens = ["--max-new-tokens", str(args.tokens)]
            self.command(
                ["eval", str(model), *what, *size, *tokens, *more, "-o", str(place)],
                Path(f"{place}.log"),
            )
        (summary,) = json.loads(found.read_text()).values()
        return summary


def figures(summary: Mapping[str, Any]) -> dict[str, list[float]]:
    """Each figure with its interval: [value, low, high]."""
    out = {}
    for name, found in summary.get("settings", {}).items():
        if "P" in found:
            out[f"{name.upper()} P"] = _with_interval(found["P"])
    for label, name in RATES.items():
        if found := summary.get("rates", {}).get(name):
            out[label] = _with_interval(found)
    if found := (summary.get("calibration") or {}).get("auroc"):
        out["AUROC of P(ask)"] = _with_interval(found)
    return out


def scores(arena: Arena, name: str, seeds: Sequence[int | None], setting: str) -> dict[str, float]:
    """An arm's mean score of each problem in one setting, over its seeds and runs."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        label = name if seed is None else f"{name}, seed {seed}"
        place = arena.out / "judged" / f"{slug(label)}-world-{arena.args.split}"
        (kept,) = place.glob("*/conversations.jsonl")
        for row in map(json.loads, kept.read_text().splitlines()):
            if row["setting"] == setting:
                found.setdefault(row["problem_id"], []).append(row["score"])
    return {problem: 100 * sum(of) / len(of) for problem, of in found.items()}


def paired(arena: Arena, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Differences of the trained arms to what they are held against, over the same problems."""
    seeds = {name: arena.args.seeds if name in TRAINED else [None] for name in names}
    out: dict[str, dict[str, list[float]]] = {}
    for ours in [name for name in names if name.startswith("icpo")]:
        for other in [name for name in ("base", "rlvr") if name in names]:
            for setting in ("full", "sharded"):
                a = scores(arena, ours, seeds[ours], setting)
                b = scores(arena, other, seeds[other], setting)
                apart = np.array([a[problem] - b[problem] for problem in a])
                of = out.setdefault(f"{ours} - {other}", {})
                of[f"{setting.upper()} P"] = _with_interval(asdict(interval(apart)))
    return out


def _with_interval(found: Mapping[str, float]) -> list[float]:
    return [found["value"], found.get("low", found["value"]), found.get("high", found["value"])]


def cost(run: Path) -> dict[str, float]:
    """What a run sampled, and how long it took."""
    rows = read_metrics(run)
    recipe = (run / "recipe.yaml").read_text()
    keys = dict(line.split(": ", 1) for line in recipe.splitlines() if ": " in line)
    per_step = int(keys["prompts_per_step"]) * int(keys["num_generations"])
    warm = run / "warm_up.json"
    return {
        "steps": len(rows),
        "sampled_tokens": sum(r["completions/mean_length"] * per_step for r in rows),
        "step_seconds": sorted(r["step_seconds"] for r in rows)[len(rows) // 2],
        "warm_up": json.loads(warm.read_text()) if warm.is_file() else None,
    }


def _without_folders(word: str) -> str:
    """A path of this machine by its last part: it means nothing elsewhere."""
    return Path(word).name if Path(word).exists() else word


def _shown(head: str, value: Sequence[float]) -> str:
    digits = 2 if head.startswith("AUROC") else 1
    middle, low, high = (f"{one:.{digits}f}" for one in value)
    return f"{middle} [{low}, {high}]"


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    heads = sorted({h for found in results.values() for h in found["world"]})
    lines = [f"| arm | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, found in results.items():
        cells = []
        for head in heads:
            value = found["world"].get(head)
            cells.append(_shown(head, value) if value else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--recipe", default="qwen0.5b")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=DEFAULT, choices=[*UNTRAINED, *TRAINED])
    parser.add_argument("--split", default="test", help="dev while anything is being chosen")
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=80, help="longest reply when judged")
    parser.add_argument("--data", nargs="*", default=[], help="published sets of asking")
    parser.add_argument("--set", nargs="*", default=[], help="keys of the recipe, KEY=VALUE")
    args = parser.parse_args()
    arena = Arena(args)
    results: dict[str, dict[str, Any]] = {}
    record: dict[str, Any] = {}
    for name in args.arms:
        for seed in args.seeds if name in TRAINED else [None]:
            run = args.model if seed is None else arena.trained(name, seed)
            label = name if seed is None else f"{name}, seed {seed}"
            more = UNTRAINED.get(name, ())
            if name == "base, threshold":
                more = ("--ask-threshold", str(arena.threshold(args.model)))
            found = {"world": figures(arena.judged(label, run, more, None))}
            for data in args.data:
                found[Path(data).stem] = figures(arena.judged(label, run, more, data))
            if seed is not None:
                found["cost"] = cost(Path(run))
            results[label] = found
            record = {
                "command": " ".join(_without_folders(word) for word in sys.argv[1:]),
                "commit": git_commit(),
                "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}",
                "versions": versions(),
                "arms": results,
            }
            (args.out / "real_model.json").write_text(json.dumps(record, indent=1))
    record["paired"] = paired(arena, args.arms)
    (args.out / "real_model.json").write_text(json.dumps(record, indent=1))
    print(table(results))
    for name, found in record["paired"].items():
        print(f"{name}: " + ", ".join(f"{k} {_shown(k, v)}" for k, v in found.items()))


if __name__ == "__main__":
    main()
