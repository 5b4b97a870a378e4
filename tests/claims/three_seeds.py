"""The bounds that the README's claims about the tiny recipe rest on, seed by seed.

    python tests/claims/three_seeds.py --out runs/three-seeds

That is `icpo-lite reproduce tiny --also transfer`, with exit code 1 when a seed misses a bound.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from icpo_lite.tools.reproduce import Plan, Results, report, reproduce, rows


def misses(results: Results, split: str) -> list[str]:
    """The bounds that a seed does not reach."""
    figures = {
        label: {
            model: cell.by_seed
            for model, cell in zip(results.models, cells, strict=True)
            if cell is not None
        }
        for label, _, cells in rows(results, split)
    }
    out = []
    for i, seed in enumerate(results.seeds):
        sharded, full = figures["SHARDED P"], figures["FULL P"]
        for rival in ("base", "rlvr"):
            if sharded["icpo"][i] < 2 * sharded[rival][i]:
                out.append(f"seed {seed}: SHARDED is under twice that of {rival}")
        if full["icpo"][i] < full["base"][i] - 2:
            out.append(f"seed {seed}: FULL is more than 2 points under base")
        if figures["over-asks on q"]["icpo"][i] > 3:
            out.append(f"seed {seed}: over-asking is above 3 %")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test", help="dev while anything is being chosen")
    args = parser.parse_args()
    plan = Plan(
        recipe="tiny",
        out=args.out,
        seeds=tuple(args.seeds),
        split=args.split,
        problems=140,
        runs=8,
        also=("transfer",),
        overrides=("log_completions_steps=0", "logging_steps=40"),
    )
    results = reproduce(plan, print)
    print(f"\n{report(plan, results)}")
    missed = misses(results, args.split)
    print("\n".join(missed) or "every seed reaches every bound")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
