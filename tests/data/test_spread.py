"""Reward spreads by hand, from completions as `train` writes them."""

import json

import pytest

from icpo_lite.core.errors import DataError
from icpo_lite.data.reward_spread import reward_spreads


def write(run, step, rows):
    folder = run / "completions"
    folder.mkdir(exist_ok=True)
    lines = [
        json.dumps(
            {"prompt_id": p, "problem_id": p.partition("/")[0], "removed_ids": r, "reward": x}
        )
        for p, r, x in rows
    ]
    (folder / f"step-{step:06}.jsonl").write_text("\n".join(lines) + "\n")


def test_spreads_by_hand(tmp_path):
    # Rewards 0 and 1 have a standard deviation of 0.5, equal rewards of 0; complete prompts count
    # for nothing; shard 2 of "a" is seen twice, 0.5 and 0, mean 0.25.
    write(tmp_path, 1, [("a/u", [2], 0.0), ("a/u", [2], 1.0), ("a/c", [], 1.0), ("a/c", [], 0.0)])
    write(
        tmp_path,
        2,
        [("a/u", [2], 1.0), ("a/u", [2], 1.0), ("b/u", [1, 3], 0.0), ("b/u", [1, 3], 1.0)],
    )
    assert reward_spreads(tmp_path) == {("a", 2): 0.25, ("b", 1): 0.5, ("b", 3): 0.5}


def test_a_broken_row_is_named(tmp_path):
    write(tmp_path, 1, [("a/u", [2], 0.0)])
    with (tmp_path / "completions/step-000001.jsonl").open("a") as file:
        file.write('{"prompt_id": "a/u"}\n')
    with pytest.raises(DataError, match=r"step-000001.jsonl:2: .*reward"):
        reward_spreads(tmp_path)


def test_a_run_without_completions_is_refused(tmp_path):
    with pytest.raises(DataError, match="icpo-lite train"):
        reward_spreads(tmp_path)
