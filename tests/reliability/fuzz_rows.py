"""Mutated rows of the four kinds of task: each is read, cut, written, judged, or told in one line.

    python tests/reliability/fuzz_rows.py --count 2000

A row of math, actions, code or database is changed at random: in its bytes, or in its JSON, where
values are replaced, renamed, wrapped, doubled and swapped. What is left is read as a corpus, made
into prompts by rules, written and read again, and replies of the row's own (its solution, whole
and changed) are judged with it, code and queries in their sandboxes. Nothing but a DataError or a
GraderError of one plain line may come of it, in time, and no file outside the folder.
"""

from __future__ import annotations

import json
import random
import sys
import time
import unicodedata
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from fuzz import mutated
from fuzz_endpoint import NO_WRITING, Outcome, main
from task_cases import action_rows, human_eval_rows, math_rows, mbpp_rows, spider_rows

#: Of one test of code or one query; and of one row with all that is done with it.

SECONDS, ROW_SECONDS = 1.0, 40.0
#: Values that a corpus should not hold where others stand.
ODD: list[Any] = [
    *(None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, "", " ", "\x00", "\ud800"),
    *("\u202e\x1b[2J", "x" * 20_000, "9" * 5000, "../../x", "/etc/passwd", "٣", "#### 1/0"),
    *("<<1/0=1>>", "<<9**9**9=1>>", "[" * 3000, "(" * 3000, "{}", "[]", "null", "1e999"),
    *([], {}, [None], [[]], {"": 1}, {"a": {"b": {"c": []}}}, [1, "a", {}]),
    *("ATTACH 'out.db' AS x; CREATE TABLE x.t (a)", "VACUUM INTO 'out.db'", "SELECT 1; SELECT 2"),
    *("while True: pass", "import os; os._exit(0)", "raise SystemExit", "assert f() == f()"),
    *("def check(c): pass", "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n+1 FROM r) SELECT n"),
]


def kinds() -> dict[str, list[dict[str, Any]]]:
    """Whole rows by their kind; code has two forms."""
    return {
        "math": math_rows(),
        "actions": action_rows(),
        "code": [*mbpp_rows(), *human_eval_rows()],
        "database": spider_rows(),
    }


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(a dict or list, one of its keys) for all that a row holds."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def changed(row: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A row with one to three changes of its JSON."""
    made = deepcopy(row)
    for _ in range(rng.randint(1, 3)):
        found = list(places(made))
        if not found:
            break
        holder, key = rng.choice(found)
        value = holder[key]
        kind = rng.randrange(8)
        if kind == 0:
            holder[key] = deepcopy(rng.choice(ODD))
        elif kind == 1:
            del holder[key]
        elif kind == 2 and isinstance(value, str):
            holder[key] = mutated(value.encode(), rng).decode(errors="replace")
        elif kind == 3:
            holder[key] = [value]
        elif kind == 4:
            holder[key] = json.dumps(value)
        elif kind == 5:
            other, place = rng.choice(found)
            holder[key] = deepcopy(other.get(place) if isinstance(other, dict) else other)
        elif kind == 6 and isinstance(holder, dict):
            holder[rng.choice(["answer", "question", "id", "tests", "db_id", "x" * 300])] = value
        else:
            holder[key] = value * 2 if isinstance(value, str | list) else {"value": value}
    return made


def line_of(row: dict[str, Any], rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return mutated(json.dumps(row).encode(), rng)
    return json.dumps(changed(row, rng)).encode()


def replies(row: dict[str, Any], rng: random.Random) -> list[str]:
    """Two replies to a row: its own solution as a model would write it, and that one changed."""
    code = row.get("code") or row.get("canonical_solution")
    said = row.get("query") or row.get("answer") or row.get("ground_truth")
    told = f"```python\n{code}\n```" if code else f"The answer is {said}."
    if "query" in row:
        told = f"```sql\n{said}\n```"
    return [told, mutated(told.encode(), rng).decode(errors="replace")]


def try_row(line: bytes, answers: list[str], folder: Path) -> str:
    """How a row ends: "judged", or the name of the one-line error that tells what is wrong."""
    from icpo_lite.core.errors import DataError, GraderError
    from icpo_lite.data.augment import AugmentOptions, augment
    from icpo_lite.data.prompt_file import read_prompts, write_prompts
    from icpo_lite.data.sources import read_problems
    from icpo_lite.rewards.grading import GradingOptions
    from icpo_lite.rewards.judge import Judge

    corpus, made = folder / "rows.jsonl", folder / "prompts.jsonl"
    corpus.write_bytes(line + b"\n")
    grading = GradingOptions(allow_code_execution=True, code_seconds=SECONDS, query_seconds=SECONDS)
    judge = Judge(grading=grading)
    try:
        write_prompts(made, augment(read_problems(corpus), AugmentOptions()))
        prompts = list(read_prompts(made))
        for reply in answers:
            judge.judge(prompts[0], reply)
    except (DataError, GraderError) as error:
        told = str(error)
        if {unicodedata.category(c) for c in told} & NO_WRITING or len(told) > 2000:
            raise AssertionError(f"not one plain line: {told[:300]!r}") from error
        return type(error).__name__
    return "judged"


def fuzz(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Try `count` rows, each kind as often; the ends are counted by kind."""
    rng, outcome, rows = random.Random(seed), Outcome(), kinds()
    work = folder / "rows"
    work.mkdir()
    for number in range(count):
        kind = list(rows)[number % len(rows)]
        row = rng.choice(rows[kind])
        line, answers, begun = line_of(row, rng), replies(row, rng), time.monotonic()
        try:
            end = try_row(line, answers, work)
        except BaseException as error:
            end = type(error).__name__
            outcome.broken.append(f"{number} {kind}: {end}: {error!r:.300} from {line[:300]!r}")
        if (took := time.monotonic() - begun) > ROW_SECONDS:
            outcome.broken.append(f"{number} {kind}: took {took:.1f} s for {line[:200]!r}")
        if strangers := {p.name for p in work.iterdir()} - {"rows.jsonl", "prompts.jsonl"}:
            outcome.broken.append(f"{number} {kind}: written: {strangers} by {line[:200]!r}")
        outcome.ends[f"{kind} {end}"] += 1
    return outcome


if __name__ == "__main__":
    sys.exit(main(fuzz, "Fuzz rows of the four kinds of task.", "rows"))
