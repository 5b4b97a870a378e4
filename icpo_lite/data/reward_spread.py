"""How much rewards differed when a fact was missing, read from the completions of a run.

A group whose replies all earn the same teaches nothing; removing the fact over which replies
differ most keeps groups informative (the rule of eva, arXiv 2411.00062, for what to remove).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import fmean, pstdev

from icpo_lite.core.errors import DataError
from icpo_lite.data.logged_rows import logged_rows


def reward_spreads(run: str | Path) -> dict[tuple[str, int], float]:
    """(problem_id, shard_id) → mean standard deviation of a group's rewards without that shard.

    run: a run directory whose `completions/` were written by `train`. Raises DataError when it
    holds none.
    """
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    removed: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for file, row in logged_rows(run, ("reward", "prompt_id", "problem_id", "removed_ids")):
        key = (file, row["prompt_id"])
        groups[key].append(float(row["reward"]))
        removed[key] = [(row["problem_id"], shard) for shard in row["removed_ids"]]
    spreads: dict[tuple[str, int], list[float]] = defaultdict(list)
    for key, rewards in groups.items():
        for place in removed[key]:
            spreads[place].append(pstdev(rewards))
    if not spreads:
        raise DataError(
            f"expected a run with completions of underspecified prompts in {run}, found none; "
            "give a directory that `icpo-lite train` has written"
        )
    return {place: fmean(values) for place, values in spreads.items()}
