"""Training in conversations against training on single prompts: the tiny recipe, one table.

    python tests/claims/conversations.py --out runs/conversations --split dev

Every arm stops at the same number of sampled tokens, what 80 steps of single prompts sample: a step
of conversations samples more of them, so it makes fewer steps, and the learning rate falls by
tokens. A run that is done is not made again. Prints a Markdown table and writes conversations.json:
means and standard deviations over seeds, and of SHARDED P and U the paired difference to `single
turn`, a problem's mean over the seeds, with its 95 % bootstrap interval over problems.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from objectives import COMMAND, cpu_seconds

from icpo_lite.core.files import read_metrics
from icpo_lite.evaluation.metrics import paired_difference, performance, unreliability
from icpo_lite.runs.run_directory import git_commit, versions

#: Four optimizer steps of what a step samples: no arm is worse for it, conversations are better.
SHARED = (
    *("compare={}", "evaluation.enabled=false", "log_completions_steps=0", "logging_steps=40"),
    "num_mini_batches=4",
)
#: No arm makes so many steps: tokens end a run.
BUDGET = ("max_sampled_tokens=145000", "max_steps=200")
#: Arm -> (recipe, overrides).
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rlvr": ("tiny-rlvr", ()),
    "single turn, paper": ("tiny", ("reward=paper",)),
    "single turn": ("tiny", ()),
    "single turn, sec": ("tiny", ("prompt_curriculum=sec",)),
    "rlaar": ("tiny-rlaar", ()),
    "talks": ("tiny-multiturn", ()),
    **{
        f"talks, {credit}": ("tiny-multiturn", (f"credit={credit}",))
        for credit in ("trajectory", "mapo", "igpo", "r2g", "em", "equalized")
    },
    "talks, an end counts 1": ("tiny-multiturn", ("conversation_reward=intent",)),
    "talks, arpo": ("tiny-multiturn", ("branching=arpo",)),
    "talks, pieces": ("tiny-multiturn", ("shard_curriculum=rlaar",)),
    "talks, sec": ("tiny-multiturn", ("prompt_curriculum=sec",)),
}
AGAINST = "single turn"
COLUMNS = ("tokens", "SHARDED P", "SHARDED U", "FULL P", "asks on q*", "over-asks", "lucky")


def summary_of(arm: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One run's eval.json and the tokens that it sampled; made unless they lie there already."""
    slug = "".join(c if c.isalnum() else "-" for c in arm)
    folder = args.out / f"{slug}-{seed}"
    judged, log = folder / args.split / "comparison.json", Path(f"{folder}.log")
    if not judged.is_file():
        recipe, overrides = ARMS[arm]
        chosen = [*SHARED, *BUDGET, *overrides, f"seed={seed}"]
        cpu_seconds([*COMMAND, "train", recipe, *chosen, f"output_dir={folder}"], log)
        size = ("--problems", str(args.problems), "--runs", str(args.runs))
        settings = ("--split", args.split, "--settings", "full,sharded,underspecified")
        place = ("-o", str(folder / args.split))
        cpu_seconds([*COMMAND, "eval", str(folder), *settings, *size, *place], log)
        print(f"{arm}, seed {seed}: done", file=sys.stderr)
    (summary,) = json.loads(judged.read_text()).values()
    rows = read_metrics(folder)
    sampled = sum(r["tokens_per_second"] * r["step_seconds"] for r in rows)
    return {**summary, "tokens": sampled, "by_problem": by_problem(folder, args)}


def by_problem(folder: Path, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """P and U in SHARDED of each problem of one run."""
    runs: dict[str, list[float]] = {}
    (kept,) = (folder / args.split).glob("*/conversations.jsonl")
    for row in map(json.loads, kept.read_text().splitlines()):
        if row["setting"] == "sharded":
            runs.setdefault(row["problem_id"], []).append(100 * row["score"])
    table = np.array(list(runs.values()))
    return {
        "P": dict(zip(runs, performance(table).tolist(), strict=True)),
        "U": dict(zip(runs, unreliability(table).tolist(), strict=True)),
    }


def figures(summary: dict[str, Any]) -> dict[str, float]:
    settings, rates = summary["settings"], summary["rates"]
    return {
        "tokens": summary["tokens"],
        "SHARDED P": settings["sharded"]["P"]["value"],
        "SHARDED U": settings["sharded"]["U"]["value"],
        "FULL P": settings["full"]["P"]["value"],
        "asks on q*": rates["clarification_rate"]["value"],
        "over-asks": rates["over_asking_rate"]["value"],
        "lucky": settings["sharded"]["lucky"]["value"],
    }


def shift(some: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], figure: str) -> str:
    """Paired difference in SHARDED; * where 0 is outside its interval."""

    def means(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
        of = [run["by_problem"][figure] for run in runs]
        return {problem: mean(one[problem] for one in of) for problem in of[0]}

    found = paired_difference(means(some), means(others))
    apart = found["low"] > 0 or found["high"] < 0
    return f"{found['value']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]{' *' * apart}"


def cell(column: str, values: Sequence[float]) -> str:
    if column == "tokens":
        return f"{mean(values) / 1000:.0f}k"
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    heads = ("arm", *COLUMNS, *(f"{of} minus {AGAINST}" for of in ("P", "U")))
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm, summaries in results.items():
        rows = [figures(s) for s in summaries]
        cells = [cell(column, [row[column] for row in rows]) for column in COLUMNS]
        against = results.get(AGAINST)
        apart = [shift(summaries, against, of) if against and arm != AGAINST else "" for of in "PU"]
        lines.append(f"| {arm} | {' | '.join([*cells, *apart])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--split", default="dev", help="dev for choices, test once")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--problems", type=int, default=70)
    parser.add_argument("--runs", type=int, default=8)
    args = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in args.only}
    for seed in args.seeds:  # a seed of all arms first: half a table is a table
        for arm in args.only:
            results[arm].append(summary_of(arm, seed, args))
    facts = {
        "command": " ".join(["python", "tests/claims/conversations.py", *sys.argv[1:]]),
        "commit": git_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "seeds": args.seeds,
    }
    found = {arm: [figures(s) for s in some] for arm, some in results.items()}
    (args.out / "conversations.json").write_text(
        json.dumps({**facts, "table": table(results).splitlines(), "results": found}, indent=1)
        + "\n"
    )
    print(table(results))


if __name__ == "__main__":
    main()
