"""How well the target of a question is recognised, on certified prompts of GSM8K.

    python tests/claims/question_targets.py gsm8k_train.jsonl
    python tests/claims/question_targets.py gsm8k_train.jsonl --leave-out

question_targets.jsonl holds, by problem, questions that ask for the removed fact in other words
(on) and questions that miss it (off): about a given fact, the task itself, another person, a
colour, something that the problem does not tell. `writer` says who wrote them: the author of the
rules, or one of seven (b0 to b2, c1, c2, d1, d2) who had read no code and were told to keep away
from the problem's words. The judge (`rewards/learned_targets.py`) is fitted on the half `dev`, so
that its figures there are of what it has seen; with --leave-out (which needs scikit-learn) every
writer is judged by a model that has seen none of their questions: recall 0.754 and precision 0.898
for c1 (rules alone 0.552, 0.831), 0.804 and 0.850 for c2 (0.704, 0.793). The half `held` was in no
fit: recall 213 of 276 (0.772), precision 0.914. b2's figures were seen while features were chosen
(0.750, 0.865; rules 0.700, 0.808); those of d1 and d2 were seen before the last choice, that the
rules' word adds to the sum: 0.700 and 0.894 (without it 0.642 and 0.928; rules 0.767 and 0.821).
Exit code 1 when `held` is under recall 0.85 or precision 0.9, as it is now.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from icpo_lite.core.types import Prompt
from icpo_lite.rewards.question_targets import aim
from icpo_lite.tools.target_examples import read_cases

QUESTIONS = Path(__file__).with_suffix(".jsonl")


def on_target(prompt: Prompt, question: str) -> bool:
    """What the judge makes of it: at least half of what is asked for was removed."""
    found = aim(prompt, question)
    return found.hits > 0 and 2 * found.hits >= found.count


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path, help="gsm8k_train.jsonl")
    parser.add_argument("--show", action="store_true", help="print what is misread in `dev`")
    parser.add_argument("--leave-out", action="store_true", help="judge writers unseen, by name")
    args = parser.parse_args()
    if args.leave_out:
        from icpo_lite.tools import train_targets

        given = argparse.Namespace(data=QUESTIONS, corpus=args.corpus, out=None)
        train_targets.train(given, print)
    counts: dict[str, list[int]] = {}
    for row, prompt in read_cases(QUESTIONS, args.corpus):
        for column, wanted in (("on", True), ("off", False)):
            for question in row[column]:
                seen = on_target(prompt, question)
                for name in (row["half"], f"{row['half']} {row['writer']}"):
                    count = counts.setdefault(name, [0, 0, 0, 0])
                    count[2 * (not wanted)] += seen
                    count[2 * (not wanted) + 1] += 1
                if args.show and seen != wanted and row["half"] == "dev":
                    print(f"{column} {row['problem_id']}: {question}")
    reached = True
    for name, (hits, on, false, off) in sorted(counts.items()):
        recall, precision = hits / max(1, on), hits / max(1, hits + false)
        print(f"{name}: recall {hits}/{on} = {recall:.3f}, false alarms {false}/{off} = "
              f"{false / max(1, off):.3f}, precision {precision:.3f}")  # fmt: skip
        reached &= name != "held" or (recall >= 0.85 and precision >= 0.9)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
