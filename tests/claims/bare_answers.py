"""Underspecified prompts of answers without solutions: GSM8K with its solutions stripped.

    python tests/claims/bare_answers.py gsm8k_train.jsonl --read 100 --seed 777

Prints how many problems get a certified q* by rules and the search for equations alone, how many of
the numbers that were removed the stripped solutions use in a way that can be followed, and pairs to
be read one by one, drawn by the seed.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Intent, Problem, Prompt
from icpo_lite.data.augment import AugmentOptions, augment
from icpo_lite.data.solution_equations import solution_graph
from icpo_lite.data.sources import read_problems


def stripped(file: Path, folder: Path) -> Iterator[Problem]:
    """The problems with what follows `####` as their whole answer."""
    bare = folder / file.name
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [
        json.dumps({"question": r["question"], "answer": r["answer"].rpartition("####")[2].strip()})
        for r in rows
    ]
    bare.write_text("\n".join(lines) + "\n")
    return read_problems(bare)


def used_by_solution(prompt: Prompt, whole: Problem) -> bool:
    """Whether the solution that was stripped needs one of the numbers of what was removed."""
    mentions = numbers(whole.question)
    graph = solution_graph(whole.solution, whole.answer, mentions)
    needed = {mentions[i].value for i in (graph.needs() if graph else ())}
    gone = {n.value for shard in prompt.removed for n in numbers(shard.text)}
    return bool(needed & gone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--read", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = augment(stripped(given.file, Path(folder)), AugmentOptions(), seed=given.seed)
        prompts = list(made)
    whole = {p.problem_id: p for p in read_problems(given.file)}
    lacking = [p for p in prompts if p.intent is Intent.UNDERSPECIFIED]
    followed = sum(used_by_solution(p, whole[p.problem_id]) for p in lacking)
    summary = made.summary
    share = 100 * summary.certified / summary.problems
    print(f"{summary.certified} of {summary.problems} problems have a certified q* ({share:.1f} %)")
    print(f"levels {dict(summary.levels)}; dropped {dict(summary.dropped.most_common())}")
    print(f"{followed} of {len(lacking)} lack a number that the stripped solution is seen to use")
    order = random.Random(given.seed)
    for prompt in order.sample(lacking, min(given.read, len(lacking))):
        print(f"\n{prompt.problem_id}\n  q   {whole[prompt.problem_id].question}")
        print(f"  q*  {prompt.text}\n  {prompt.certificate.out_of_reach}")


if __name__ == "__main__":
    main()
