"""How well the target of a question is recognised, on certified prompts of GSM8K.

    python tests/claims/question_targets.py gsm8k_train.jsonl

question_targets.jsonl holds, by problem, questions that ask for the removed fact in other words
(on) and questions that miss it (off): about a given fact, the task itself, another person, a
colour. Words and weights were chosen on the half `dev`; the half `held` was not looked at.

The last sets but one are of writers who had not read the code and who asked in words as far from
the problem's as they could: three sets of 30 problems, 60 questions on and 60 off target each.
First scores, untouched: 29 of 60 recognised with 5 false alarms (0.483, precision 0.853); after
tuning on these, 38 and 12 of the second set (0.633, 0.760; 31 and 12 before); after tuning on
both, 42 and 10 of the third (0.700, 0.808; 37 and 10 before). The first two are in `dev`, the
third is in `held`, which is under the bounds with it; 84 problems of `dev` behind them are by the
author. Exit code 1 when the held half is under recall 0.85 or under precision 0.9, as it is now.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Intent, Prompt
from icpo_lite.data.augment import AugmentOptions, augment
from icpo_lite.data.sources import read_problems
from icpo_lite.rewards.question_targets import aim

QUESTIONS = Path(__file__).with_suffix(".jsonl")


def on_target(prompt: Prompt, question: str) -> bool:
    """What the judge makes of it: at least half of what is asked for was removed."""
    found = aim(prompt, question)
    return found.hits > 0 and 2 * found.hits >= found.count


def missing_numbers(prompt: Prompt) -> set[str]:
    """The numbers of the removed facts that the prompt no longer holds."""
    left = {n.value for n in numbers(prompt.text)}
    told = {n.value for shard in prompt.removed for n in numbers(shard.text)}
    return {str(value) for value in told - left}


def cases(corpus: Path) -> Iterator[tuple[dict[str, object], Prompt]]:
    """Each row with its prompt, where the corpus still makes one that lacks the same numbers."""
    rows = {row["problem_id"]: row for row in map(json.loads, QUESTIONS.open(encoding="utf-8"))}
    problems = [p for p in read_problems(str(corpus)) if p.problem_id in rows]
    for prompt in augment(problems, AugmentOptions()):
        row = rows.get(prompt.problem_id)
        lacks = prompt.intent is Intent.UNDERSPECIFIED and row is not None
        if lacks and row is not None and set(row["lacks"]) == missing_numbers(prompt):
            yield row, prompt


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path, help="gsm8k_train.jsonl")
    parser.add_argument("--show", action="store_true", help="print what is misread in `dev`")
    args = parser.parse_args()
    counts = {half: [0, 0, 0, 0, 0] for half in ("dev", "held")}
    for row, prompt in cases(args.corpus):
        count = counts[str(row["half"])]
        count[4] += 1
        for column, wanted in (("on", True), ("off", False)):
            for question in row[column]:  # type: ignore[attr-defined]
                seen = on_target(prompt, question)
                count[2 * (not wanted)] += seen
                count[2 * (not wanted) + 1] += 1
                if args.show and seen != wanted and row["half"] == "dev":
                    print(f"{column} {row['problem_id']}: {question}")
    reached = True
    for half, (hits, on, false, off, problems) in counts.items():
        recall, precision = hits / max(1, on), hits / max(1, hits + false)
        print(f"{half}: {problems} problems, recall {hits}/{on} = {recall:.3f}, false alarms "
              f"{false}/{off} = {false / max(1, off):.3f}, precision {precision:.3f}")  # fmt: skip
        reached &= half == "dev" or (recall >= 0.85 and precision >= 0.9)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
