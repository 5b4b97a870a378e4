"""Training in conversations against training on single prompts: the tiny recipe, one table.

    python tests/claims/conversations.py --out runs/conversations --split dev

Every arm stops at the same number of sampled tokens, what 80 steps of single prompts sample: a step
of conversations samples more of them, so it makes fewer steps, and the learning rate falls by
tokens. A run that is done is not made again. Prints a Markdown table and writes conversations.json:
means and standard deviations over seeds, and of SHARDED P the paired difference to `single turn`,
the problems of all seeds together, with its 95 % bootstrap interval.
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

from objectives import COMMAND, cpu_seconds

from icpo_lite.core.files import read_metrics
from icpo_lite.evaluation.metrics import paired_difference
from icpo_lite.runs.run_directory import git_commit, versions

SHARED = ("compare={}", "evaluation.enabled=false", "log_completions_steps=0", "logging_steps=40")
#: No arm makes so many steps: tokens end a run.
BUDGET = ("max_sampled_tokens=145000", "max_steps=200")
#: What all arms in conversations share: half of the prompts lack something, none starts midway.
TALKS = ("share_underspecified=0.5", "augment.mid_conversation=0")
#: Arm -> (recipe, overrides).
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rlvr": ("tiny-rlvr", ()),
    "single turn, paper": ("tiny", ("reward=paper",)),
    "single turn": ("tiny", ()),
    "single turn, sec": ("tiny", ("prompt_curriculum=sec",)),
    "rlaar": ("tiny-rlaar", ()),
    "talks": ("tiny-multiturn", TALKS),
    **{
        f"talks, {credit}": ("tiny-multiturn", (*TALKS, f"credit={credit}"))
        for credit in ("gtpo", "mapo", "igpo", "r2g", "em", "equalized")
    },
    "talks, arpo": ("tiny-multiturn", (*TALKS, "branching=arpo")),
    "talks, pieces": ("tiny-multiturn", (*TALKS, "shard_curriculum=rlaar")),
    "talks, sec": ("tiny-multiturn", (*TALKS, "prompt_curriculum=sec")),
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
    return {**summary, "tokens": sum(r["tokens_per_second"] * r["step_seconds"] for r in rows)}


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


def shift(some: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> str:
    """Paired difference of SHARDED P, problems of all seeds together; * where 0 is outside."""

    def scores(summaries: Sequence[dict[str, Any]]) -> dict[str, float]:
        return {
            f"{seed}/{problem}": value
            for seed, summary in enumerate(summaries)
            for problem, value in summary["settings"]["sharded"]["scores"].items()
        }

    found = paired_difference(scores(some), scores(others))
    apart = found["low"] > 0 or found["high"] < 0
    return f"{found['value']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]{' *' * apart}"


def cell(column: str, values: Sequence[float]) -> str:
    if column == "tokens":
        return f"{mean(values) / 1000:.0f}k"
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    heads = ("arm", *COLUMNS, f"SHARDED P minus {AGAINST}")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm, summaries in results.items():
        rows = [figures(s) for s in summaries]
        cells = [cell(column, [row[column] for row in rows]) for column in COLUMNS]
        against = results.get(AGAINST)
        apart = shift(summaries, against) if against and arm != AGAINST else ""
        lines.append(f"| {arm} | {' | '.join(cells)} | {apart} |")
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
        json.dumps({**facts, "results": found}, indent=1) + "\n"
    )
    print(table(results))


if __name__ == "__main__":
    main()
