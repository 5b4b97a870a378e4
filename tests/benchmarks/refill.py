"""Sampling replies of very uneven lengths: refilled rows beside the same rows in chunks.

    python tests/benchmarks/refill.py [--model FOLDER] [--other CHECKOUT] [--turns 5]

256 replies of 10 to 400 tokens (each reply's length is drawn beforehand), 64 rows at once. Both
ways take turns, each in a process of its own; the figure is the median of the turns' ratios.
--other is a checkout whose engine is the second way; without it the second way is this engine on
64 replies at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPLIES, ROWS, SHORTEST, LONGEST, GROUP = 256, 64, 10, 400, 8


def lengths() -> list[int]:
    """Of every reply: most are short, as where a model asks, and a few reach the limit."""
    drawn = random.Random(0)
    span = LONGEST - SHORTEST
    return [SHORTEST + round(span * drawn.random() ** 3) for _ in range(REPLIES)]


def measure(model: str, *, chunks: bool) -> dict[str, Any]:
    """One turn in this process: seconds, tokens, and a digest of each reply."""
    import hashlib

    import torch

    from icpo_lite.policy.load import load_policy
    from icpo_lite.recipe.sections import PolicyKeys
    from icpo_lite.rollout import noise
    from icpo_lite.rollout.engines import native
    from icpo_lite.rollout.sampler import sample

    keys = PolicyKeys(model_name_or_path=model, device="cpu", load_in_4bit=model == "builtin:tiny")
    policy = load_policy(keys)
    wanted = {("length", p, g): n for (p, g), n in zip(_places(), lengths(), strict=True)}
    plain_noise, plain_draw = noise.noise_of, noise.draw

    def noise_of(keys, length, device):  # type: ignore[no-untyped-def]
        """The last number of a row says how long its reply is."""
        found = plain_noise(keys, length, device)
        found += 2.0  # no number of a row that goes on
        for row, key in enumerate(keys):
            found[row, wanted[tuple(key)] - 1] += 2.0
        return found

    def draw(logits, numbers, options, *line):  # type: ignore[no-untyped-def]
        """As before; the end token where the reply has its length, and no other end."""
        end = min(policy.end_ids)
        logits = logits.clone()
        logits[:, sorted(policy.end_ids)] = -30.0
        token, logp = plain_draw(logits, numbers % 1.0, options, *line)
        return token.masked_fill(numbers >= 4.0, end), logp

    loops = [native]
    with contextlib.suppress(ImportError):  # an earlier checkout has but one
        from icpo_lite.rollout.engines import shared_rows

        loops.append(shared_rows)
    for loop in loops:
        loop.noise_of, loop.draw = noise_of, draw
    ids = torch.arange(5, 5 + 60).tolist()
    prompts = [[*ids, 5 + p] for p in range(REPLIES // GROUP)]
    names = [("length", p) for p in range(len(prompts))]
    options = noise.SamplingOptions(LONGEST, max_rows=ROWS)
    sample(policy, prompts[:1], n=GROUP, options=options, keys_P=names[:1])  # warms up
    started, cpu = time.perf_counter(), time.process_time()
    if chunks:
        each = ROWS // GROUP
        groups = []
        for first in range(0, len(prompts), each):
            part = slice(first, first + each)
            groups += sample(policy, prompts[part], n=GROUP, options=options, keys_P=names[part])
    else:
        groups = sample(policy, prompts, n=GROUP, options=options, keys_P=names)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    said = [c.token_ids for g in groups for c in g]
    assert sorted(map(len, said)) == sorted(lengths()), "replies have the lengths that were drawn"
    digests = [hashlib.blake2b(repr(ids).encode(), digest_size=6).hexdigest() for ids in said]
    return {"seconds": seconds, "cpu": cpu, "tokens": sum(map(len, said)), "samples": digests}


def _places() -> list[tuple[int, int]]:
    return [(p, g) for p in range(REPLIES // GROUP) for g in range(GROUP)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin:tiny")
    parser.add_argument("--other", default="")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--one", choices=["refilled", "chunks"], help="one turn, as JSON")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.model, chunks=asked.one == "chunks")))
        return
    here = str(Path(__file__).resolve().parents[2])
    ways = {"refilled": here, "chunks": asked.other or here}
    found: dict[str, list[dict]] = {name: [] for name in ways}  # type: ignore[type-arg]
    for _ in range(asked.turns):
        for name, tree in ways.items():
            command = [sys.executable, __file__, "--one", name, "--model", asked.model]
            out = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": tree}, check=True, capture_output=True
            )
            found[name].append(json.loads(out.stdout.splitlines()[-1]))
    for unit in ("seconds", "cpu"):
        ratios = [b[unit] / a[unit] for a, b in zip(*found.values(), strict=True)]
        print(f"{unit}: {statistics.median(ratios):.2f} times as fast, turns {ratios}")
    one, other = ([turn["samples"] for turn in turns] for turns in found.values())
    again = all(samples == turns[0] for turns in (one, other) for samples in turns)
    same = sum(a == b for a, b in zip(one[0], other[0], strict=True))
    rate = statistics.median(t["tokens"] / t["seconds"] for t in found["refilled"])
    print(f"{rate:,.0f} tokens a second; {same} of {REPLIES} replies are the same in both ways")
    print(f"each way gave the same in all turns: {again}")


if __name__ == "__main__":
    main()
