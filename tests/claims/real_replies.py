"""What right and wrong replies of real models earn on complete problems, model by model.

    python tests/claims/real_replies.py FILE [--labels LABELS] [--show 5]

FILE holds JSON lines (.gz or not) with `prompt`, `answer` (GSM8K's), `source_model`, `reply`, and
`intent` where it is not always complete. A reply is paid where it is typed an answer attempt and
graded right. Whether it *is* right is read here by other means than the grader's: the last box, or
what the last sentence with a number says; LABELS, a JSON object from row number to true or false,
overrules that where somebody has looked (real_replies_labels.json: a reply that answers "once").
Ends with 1 where a model has more than 2 % of its right replies unpaid or more than 0.5 % of its
wrong ones paid.

Nothing in extraction is fitted: it is rules, and the weights that type long prose come from other
conversations. So a model is a stranger as long as nobody has read its replies to change a rule.
Figures of the first look, when the rules had been written on three other models (unpaid of right):
Qwen-32B 1.1 %, QwQ 0.0 %, o3-mini 2.7 %. What those looks taught went into the rules afterwards, so
that today's lower figures for all six are no longer those of strangers.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from icpo_lite.core.types import Intent, Message, Prompt, ResponseType
from icpo_lite.rewards.judge import Judge

MOST_UNPAID, MOST_PAID = 0.02, 0.005
_NUMBER = re.compile(r"(?<![\d.])-?\d+(?:\.\d+)?(?:/\d+)?")
_GROUP = re.compile(r"(?<=\d)(?:\{,\}|,\\!|,|\\,|[\u2009\u202f\u00a0 ])(?=\d{3}(?!\d))")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


def rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows to complete problems, with their number in the file."""
    read = gzip.open if file.suffix == ".gz" else open
    with read(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            if row.get("intent", "complete") == "complete":
                yield number, row


def is_right(reply: str, answer: str) -> bool:
    """Whether a person who looks at the last box or the last sentence would call a reply right."""
    gold = Fraction(answer.split("####")[-1].strip().replace(",", "").replace("$", ""))
    told = reply.split("</think>")[-1]
    boxes = [found for box in _boxes(told) if (found := _numbers(box))]
    if boxes:
        return gold in boxes[-1]
    telling = [s for s in _SENTENCE.split(told) if re.search(r"\d", s) and s.rstrip()[-1] != "?"]
    if not telling:
        return False
    last = telling[-1]
    return gold in _numbers(last.rpartition("=")[2] if "=" in last else last)


def _boxes(text: str) -> Iterator[str]:
    for match in re.finditer(r"\\boxed\s*\{", text):
        depth, at = 1, match.end()
        while at < len(text) and depth:
            depth += (text[at] == "{") - (text[at] == "}")
            at += 1
        yield text[match.end() : at - 1]


def _numbers(text: str) -> list[Fraction]:
    text = re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", _GROUP.sub("", text))
    found = []
    for match in _NUMBER.finditer(text):
        try:
            found.append(Fraction(match[0]))
        except (ValueError, ZeroDivisionError):
            continue
    return found


@dataclass
class Tally:
    """Of one model: right replies and those unpaid, wrong ones and those paid."""

    right: int = 0
    unpaid: int = 0
    wrong: int = 0
    paid: int = 0

    def add(self, right: bool, paid: bool) -> bool:
        """Counts one reply; whether it was treated as it deserves."""
        self.right += right
        self.wrong += not right
        self.unpaid += right and not paid
        self.paid += paid and not right
        return right == paid

    def __str__(self) -> str:
        unpaid, paid = self.unpaid / max(self.right, 1), self.paid / max(self.wrong, 1)
        return (
            f"{self.right:>6} right, unpaid {self.unpaid:>4} ({unpaid:6.2%})   "
            f"{self.wrong:>5} wrong, paid {self.paid:>3} ({paid:6.2%})"
        )

    @property
    def holds(self) -> bool:
        """Whether both bounds are kept."""
        return self.unpaid <= MOST_UNPAID * self.right and self.paid <= MOST_PAID * self.wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--labels", type=Path, help="rows that somebody has looked at")
    parser.add_argument("--show", type=int, default=0, help="ends of mistreated replies to show")
    args = parser.parse_args()
    labels = json.loads(args.labels.read_text()) if args.labels else {}
    tallies: dict[str, Tally] = {}
    judge, shown = Judge(), 0
    for number, row in rows(args.file):
        name, reply = row["source_model"], row["reply"]
        message = Message("user", row["prompt"])
        prompt = Prompt(name, str(number), "math", Intent.COMPLETE, (message,), row["answer"])
        verdict = judge.judge(prompt, reply)
        paid = verdict.response_type is ResponseType.ANSWER_ATTEMPT and bool(verdict.correct)
        right = labels.get(str(number), is_right(reply, row["answer"]))
        if not tallies.setdefault(name, Tally()).add(right, paid) and shown < args.show:
            shown += 1
            gold = row["answer"].split("####")[-1].strip()
            print(f"row {number}, {name}: {verdict.response_type}, read {verdict.extracted!r}, "
                  f"gold {gold}: … {reply[-200:]!r}\n")  # fmt: skip
    for name, tally in sorted(tallies.items()):
        print(f"{name:<20}{tally}{'' if tally.holds else '   MISSED'}")
    return 0 if all(tally.holds for tally in tallies.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
