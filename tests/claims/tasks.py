"""Gold answers of published rows, graded: function calls in every format, HumanEval's solutions.

    python tests/claims/tasks.py BFCL.jsonl BFCL_answers.jsonl HUMANEVAL.jsonl

Prints, for each format, how many gold calls are graded right and how many changed ones wrong; then
how many of HumanEval's solutions are right whole and as the body alone, how many of their wrong
twins (a body that returns nothing) are wrong, and how many rows have a certified q*.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "rewards"))
from test_call_formats import FORMATS, first_values, wrong

from icpo_lite.core.types import Problem
from icpo_lite.data.shard_checks import RejectedError
from icpo_lite.data.sources import read_problems
from icpo_lite.data.value_shards import shard_by_values
from icpo_lite.rewards.grading import GradingOptions, grade

RUN = GradingOptions(allow_code_execution=True, code_seconds=20.0)
BODIES: dict[str, Callable[[Problem], str]] = {
    "body": lambda p: p.solution,
    "body, as a decoder strips it": lambda p: p.solution.strip(),
    "body, fenced": lambda p: f"```python\n{p.solution}```",
    "body, in prose": lambda p: f"The body is:\n\n{p.solution}\n\nIt covers all cases.",
    "whole": lambda p: p.answer["prompt"] + "\n" + p.solution,
    "whole, fenced, in prose": lambda p: (
        f"Sure!\n```python\n{p.answer['prompt']}\n{p.solution}```\nFor example:\n"
        f"```python\nprint({p.answer['entry_point']})\n```"
    ),
    "wrong: returns nothing": lambda p: "    return None\n",
}


def calls(rows: Path, answers: Path) -> None:
    golds = {row["id"]: row["ground_truth"] for row in map(json.loads, answers.open())}
    found = [row for row in map(json.loads, rows.open()) if row["id"] in golds]
    for name, form in FORMATS.items():
        right = refused = 0
        for row in found:
            gold, columns = golds[row["id"]], {"functions": row["function"]}
            first = first_values(gold)
            right += grade("actions", form(first), gold, columns).correct
            function, arguments = first[0]
            key = next(iter(arguments))
            bad = [(function, {**arguments, key: wrong(arguments[key])}), *first[1:]]
            refused += not grade("actions", form(bad), gold, columns).correct
        print(f"{name:<32} right {right}/{len(found)}, changed refused {refused}/{len(found)}")


def solutions(path: Path) -> None:
    problems = list(read_problems(path))
    for name, form in BODIES.items():

        def graded(problem: Problem, form: Callable[[Problem], str] = form) -> bool:
            return grade("code", form(problem), problem.answer, problem.columns, RUN).correct

        with ThreadPoolExecutor(2) as pool:
            right = list(pool.map(graded, problems))
        failing = [p.problem_id for p, ok in zip(problems, right, strict=True) if not ok]
        shown = failing[:5] if len(failing) < len(problems) else "all"
        print(f"{name:<32} right {sum(right)}/{len(problems)}, not: {shown}")


def twins(problems: Sequence[Problem]) -> str:
    """How many problems have a certified q*."""

    def removals(problem: Problem) -> Any:
        try:
            return shard_by_values(problem).removals
        except RejectedError:
            return ()

    return f"{sum(bool(removals(p)) for p in problems)}/{len(problems)}"


if __name__ == "__main__":
    bfcl, bfcl_answers, human_eval = map(Path, sys.argv[1:4])
    calls(bfcl, bfcl_answers)
    solutions(human_eval)
    print("certified q*, HumanEval:", twins(list(read_problems(human_eval))))
