"""All objectives on the tiny recipe, dev split, three seeds each: where can they be told apart?

    python tests/claims/objectives.py --out runs/objectives
    python tests/claims/objectives.py --out runs/objectives --set advantages --seeds 0

With one update a batch the ratio is 1 and most objectives are the same; here every batch serves
two passes of two mini-batches. All runs of a seed draw from the same prompts. A run that is done is
not run again, one that was interrupted goes on, and a table of some arms (--only, --set) can be
filled up later. An arm that learns from another's replies waits for it. Prints a Markdown table and
writes objectives.json: means and standard deviations over seeds, and for SHARDED P the paired
difference to `dapo`, seed by seed, with its 95 % t-interval.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from icpo_lite.core.files import read_metrics
from icpo_lite.runs.run_directory import git_commit, versions

COMMAND = [sys.executable, "-m", "icpo_lite"]
SHARED = (
    *("num_iterations=2", "num_mini_batches=2", "max_steps=30", "learning_rate=1.0e-3"),
    *("compare={}", "evaluation.enabled=false", "log_completions_steps=0", "logging_steps=30"),
)
JUDGED = ("--split", "dev", "--settings", "full,sharded,underspecified,contradictory")
SIZE = ("--problems", "70", "--runs", "2")
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "rlvr (dapo)": ("share_underspecified=0", "reward=accuracy"),
    "dapo": (),
    "grpo": ("loss_type=grpo",),
    "grpo, beta 0.02": ("loss_type=grpo", "beta=0.02"),
    "bnpo": ("loss_type=bnpo", "per_device_train_batch_size=32"),
    "dr_grpo": ("loss_type=dr_grpo", "scale_rewards=none"),
    "gspo": ("importance_sampling_level=sequence", "epsilon=3.0e-4", "epsilon_high=4.0e-4"),
    "cispo": ("loss_type=cispo", "epsilon_high=5.0"),
    "sapo": ("loss_type=sapo",),
    "luspo": ("loss_type=luspo", "importance_sampling_level=sequence"),
    "vespo": ("loss_type=vespo",),
    "dapo, dynamic sampling": ("dynamic_sampling=true",),
    "dapo, entropy bonus": ("entropy_coef=0.01",),
    "dapo, entropy target": ("entropy_target=0.2",),
    "dapo, clip-cov": ("clip_cov=2.0e-4",),
    "dapo, kl-cov": ("kl_cov=2.0e-3",),
    "dapo, rl-plus": ("demonstrations=rl_plus",),
    "dapo, hpt": ("demonstrations=hpt",),
    "dapo, adaptive share": ("share_schedule={name: adaptive, low: 0.1, high: 0.5}",),
}
#: Losses of pairs of replies compare rewards as they are.
PAIRS = ("scale_rewards=none",)
#: The small methods of icpo_lite/docs/reading-list.md, each beside dapo in all else.
SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "objectives": OBJECTIVES,
    "advantages": {
        "canon, length": ("advantage={name: canon, metric: length, alpha: 0.9}",),
        "canon, entropy": ("advantage={name: canon, metric: entropy, alpha: 0.9}",),
        "reward paper": ("reward=paper",),  # what bnpo_paper is compared with
        "bnpo_paper": ("advantage=bnpo_paper", "reward=paper"),
        "rae": ("advantage=rae",),
        "rae, paper's order": ("advantage={name: rae, update_first: true}",),
        "gdpo": ("advantage=gdpo",),
        "rloo": ("advantage=rloo",),
        "opo": ("advantage=opo",),
        "aspo, shorter": ("advantage_shaping={name: aspo, metric: shorter}",),
        "aspo, ask early": ("advantage_shaping={name: aspo, metric: ask_early}",),
    },
    "losses": {
        "gmpo": ("loss_type=gmpo", "epsilon=0.4", "epsilon_high=0.4"),
        "reg_grpo": ("loss_type=reg_grpo",),
        "rec": ("loss_type=rec",),
        "rec, two-sided": ("loss_type=rec", "rec_clip=two_side"),
        "rec, ring": ("loss_type=rec", "rec_clip=ring"),
        "asymre": ("loss_type=asymre",),
        "opmd": ("loss_type=opmd",),
        "refuel": ("loss_type=refuel", *PAIRS),
        "copg": ("loss_type=copg", "beta=0.1", *PAIRS),
        "a-lol on dapo's replies": ("loss_type=a_lol", "logged_completions={dapo}"),
        "rec on dapo's replies": ("loss_type=rec", "logged_completions={dapo}"),
    },
    "tokens": {
        "hapo": ("token_weights=hapo",),
        "d3s": ("token_weights=d3s",),
        "spo": ("segments=spo",),
    },
    "rewards": {
        "diversity": ("group_rewards=diversity",),
        "win rate": ("group_rewards=win_rate",),
    },
    "data": {
        "sec": ("prompt_curriculum=sec",),
        "eva": ("prompt_curriculum=eva",),
    },
    "prompts": {
        name: (f"system_prompt={name}",)
        for name in ("ask", "ask_think", "ask_plan", "ask_code", "ask_recall", "ask_examples")
    },
}
ARMS = {name: keys for arms in SETS.values() for name, keys in arms.items()}
#: The run that others are compared with, and whose replies some learn from.
STANDARD = "dapo"
_DIGITS = {"reward": 2, "entropy": 2, "CPU s": 0, "clipped": 2}
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t, two-sided, by number of seeds
COLUMNS = (
    "reward",
    "SHARDED P",
    "FULL P",
    "asks on q*",
    "over-asks",
    "declines contradiction",
    "entropy",
    "clipped",
    "CPU s",
)


def place(name: str, seed: int, out: Path) -> Path:
    slug = "".join(c if c.isalnum() else "-" for c in name)
    return (out / f"{slug}-{seed}").resolve()


def after(first: Future[dict[str, float]] | None, *arm: Any) -> dict[str, float]:
    """One run's figures, made once the run is done whose replies it learns from."""
    if first is not None:
        first.result()
    return run(*arm)


def run(name: str, seed: int, out: Path) -> dict[str, float]:
    """One run's figures; trained and judged unless its result lies there already."""
    folder = place(name, seed, out)
    result = folder / "result.json"
    if not result.is_file():
        keys = [key.replace("{dapo}", str(place(STANDARD, seed, out))) for key in ARMS[name]]
        train = [*COMMAND, "train", "tiny", *SHARED, *keys, f"seed={seed}"]
        seconds = cpu_seconds([*train, f"output_dir={folder}"], Path(f"{folder}.log"))
        cpu_seconds(
            [*COMMAND, "eval", str(folder), *JUDGED, *SIZE, "-o", str(folder / "dev")],
            Path(f"{folder}.log"),
        )
        result.write_text(json.dumps(figures(folder, seconds)))
        print(f"{name}, seed {seed}: done", file=sys.stderr)
    return dict(json.loads(result.read_text()))


def cpu_seconds(command: Sequence[str], log: Path) -> float:
    """Run a command on one thread; its own processor time, which other work does not lengthen."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed; see {log}")
    return usage.ru_utime + usage.ru_stime


def figures(folder: Path, seconds: float) -> dict[str, float]:
    rows = read_metrics(folder)
    (summary,) = json.loads((folder / "dev" / "comparison.json").read_text()).values()

    def over(some: Sequence[Mapping[str, float]], *names: str) -> float:
        values = [row[n] for row in some for n in names if n in row]
        return mean(values) if values else 0.0

    return {
        "reward": over(rows[-10:], "reward"),
        "entropy": over(rows[-10:], "entropy"),
        # Over the whole run: the learning rate falls, and late steps hardly move the ratio.
        "clipped": 100 * over(rows, "clip_ratio/region_mean", "cispo_clip_ratio"),
        "CPU s": seconds,
        **points(summary),
    }


def points(summary: Mapping[str, Any]) -> dict[str, float]:
    found = {
        "SHARDED P": summary["settings"]["sharded"]["P"]["value"],
        "FULL P": summary["settings"]["full"]["P"]["value"],
        "asks on q*": summary["rates"]["clarification_rate"]["value"],
        "over-asks": summary["rates"]["over_asking_rate"]["value"],
    }
    if torn := summary.get("contradictory"):
        found["declines contradiction"] = torn["abstention_rate"]["value"]
    return found


def judged_base(out: Path) -> dict[str, float]:
    place = out / "base"
    if not (place / "comparison.json").is_file():
        command = [*COMMAND, "eval", "builtin:tiny", *JUDGED, *SIZE, "-o", str(place)]
        cpu_seconds(command, out / "base.log")
    (summary,) = json.loads((place / "comparison.json").read_text()).values()
    return points(summary)


def against(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Mean paired difference over seeds and half of its 95 % interval."""
    diff = [a - b for a, b in zip(values, others, strict=True)]
    return mean(diff), T_95[len(diff)] * stdev(diff) / len(diff) ** 0.5


def cell(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation over seeds; the mean alone of one seed."""
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def table(results: Mapping[str, Sequence[Mapping[str, float]]], base: Mapping[str, float]) -> str:
    had = base.keys() | {column for runs in results.values() for r in runs for column in r}
    columns = [c for c in COLUMNS if c in had]  # figures of earlier commits lack some
    heads = ("objective", *columns, "SHARDED minus dapo")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    cells = [f"{base[c]:.1f}" if c in base else "" for c in columns]
    lines.append(f"| base | {' | '.join(cells)} | |")
    for name, runs in results.items():
        cells = []
        for column in columns:
            digits = _DIGITS.get(column, 1)
            values = [r[column] for r in runs if column in r]
            cells.append(cell(values, digits))
        shift = ""
        if name != STANDARD and STANDARD in results and len(runs) in T_95:
            d, half = against(*([r["SHARDED P"] for r in results[n]] for n in (name, STANDARD)))
            shift = f"{d:+.0f} ± {half:.0f}" + (" *" if abs(d) > half else "")
        lines.append(f"| {name} | {' | '.join(cells)} | {shift} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", choices=SETS, default=list(SETS), help="groups of arms")
    parser.add_argument("--only", nargs="+", choices=ARMS, help="arms by name, in place of --set")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    args = parser.parse_args()
    wanted = args.only or [name for key in args.set for name in SETS[key]]
    # What the others are compared with comes first: arms that learn from it are in line behind it.
    names = list(dict.fromkeys([STANDARD, *wanted]))
    base = judged_base(args.out)
    pending: dict[tuple[str, int], Future[dict[str, float]]] = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        for seed in args.seeds:  # a seed of all arms first: half a table is a table
            for name in names:
                needs = any("{dapo}" in key for key in ARMS[name])
                first = pending[STANDARD, seed] if needs else None
                pending[name, seed] = pool.submit(after, first, name, seed, args.out)
        results = {n: [pending[n, s].result() for s in args.seeds] for n in names}
    facts = {
        "command": " ".join(["python", "tests/claims/objectives.py", *sys.argv[1:]]),
        "commit": git_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "seeds": args.seeds,
    }
    (args.out / "objectives.json").write_text(
        json.dumps({**facts, "base": base, "results": results}, indent=1) + "\n"
    )
    print(table(results, base))


if __name__ == "__main__":
    main()
