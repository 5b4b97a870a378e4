"""The ids of a large corpus, before step 1: encoded once, then read from the cache.

    python tests/benchmarks/start_up.py FILE [--rows 75000] [--other CHECKOUT]

FILE: JSON lines with a `question` each. They are repeated with other numbers until there are enough
rows. The first start and the second are processes of their own; seconds are of processor time,
memory is the peak above what the process had before. CHECKOUT: an earlier icpo-lite, which encoded
each chat at every start.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def corpus(file: Path, rows: int) -> list[str]:
    """Questions, each round with every number larger by one than the round before."""
    found = [json.loads(line)["question"] for line in file.read_text().splitlines()]

    def with_numbers(text: str, more: int) -> str:
        return re.sub(r"\d+", lambda m: str(int(m[0]) + more), text)

    return [with_numbers(found[i % len(found)], i // len(found)) for i in range(rows)]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def start(file: Path, rows: int, model: str) -> None:
    """One start in this process, as JSON."""
    from icpo_lite.core.types import Message
    from icpo_lite.policy.load import load_policy
    from icpo_lite.recipe.sections import PolicyKeys

    try:
        from icpo_lite.rollout.kept_chat_ids import kept_chat_ids
    except ImportError:  # an earlier one

        def kept_chat_ids(policy, chats):
            return [policy.encode_chat(chat) for chat in chats]

    policy = load_policy(PolicyKeys(model_name_or_path=model, device="cpu"))
    chats = [[Message("user", text)] for text in corpus(file, rows)]
    before, began = peak_mb(), time.process_time()
    ids = kept_chat_ids(policy, chats)
    seconds, tokens = time.process_time() - began, sum(map(len, ids))
    print(json.dumps({"seconds": seconds, "mb": peak_mb() - before, "tokens": tokens}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=75_000)
    parser.add_argument("--model", default="builtin:tiny")
    parser.add_argument("--other", type=Path, default=None, help="an earlier checkout")
    parser.add_argument("--one", action="store_true", help="one start, as JSON")
    asked = parser.parse_args()
    if asked.one:
        start(asked.file, asked.rows, asked.model)
        return
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, str(asked.file), "--one"]
        command += ["--rows", str(asked.rows), "--model", asked.model]
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        for name in ("encoded", "from the cache", *(["at the other"] if asked.other else [])):
            if name == "at the other":
                environment["PYTHONPATH"] = str(asked.other)
            done = subprocess.run(command, env=environment, check=True, capture_output=True)
            found = json.loads(done.stdout.splitlines()[-1])
            a_row = found["tokens"] / asked.rows
            print(
                f"{name}: {found['seconds']:.1f} s, {found['mb']:.0f} MB more, "
                f"{asked.rows:,} rows of {a_row:.0f} tokens"
            )


if __name__ == "__main__":
    main()
