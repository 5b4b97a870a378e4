"""What each table of words and patterns is worth: figures on real data, without it and with it.

    python tests/claims/tables.py types math augment --data FOLDER --out tests/claims/tables.json

A table is a pattern, a set, a mapping or a tuple of texts at the top of a module. One after the
other is emptied, and the figure is taken again. FOLDER holds lic_turn_types_dev.jsonl (types),
lic_math_answers_dev.jsonl and
gsm8k_test.jsonl (math), gsm8k_train.jsonl (augment). The figures say what a table does
on data that its author has looked at, not what it would do on other data.

    types    rows whose type is the labelled one, and answer attempts told from the rest
    math     replies graded as they were scored
    augment  problems with a certified q*; q* that differ from those with all tables
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Problem, Shard

NEVER = re.compile(r"(?!)")
MODULES = {
    "types": (
        *("core.questions", "core.sentences", "core.thoughts", "core.words"),
        *("rewards.response_type", "rewards.settled_answers", "rewards.courtesies"),
        *("rewards.features",),
        *("rewards.feature_weights", "rewards.languages", "rewards.open_replies"),
    ),
    "math": (
        *("core.numbers", "core.plain_text", "core.thoughts"),
        *("rewards.graders.extraction", "rewards.graders.number_weights"),
        *("rewards.graders.written_numbers", "rewards.format_faults", "rewards.languages"),
    ),
    "augment": (
        *("core.numbers", "core.sentences", "core.words", "data.certificate"),
        *("data.clause_words", "data.deletions", "data.fact_details", "data.fact_lists"),
        *("data.facts", "data.labels", "data.people", "data.question_clauses"),
        *("data.shard_checks", "data.sharding", "data.unit_words", "data.verb_forms"),
    ),
}


def tables(module: Any) -> Iterator[tuple[str, Any]]:
    """(name, empty one of its kind) of the tables that a module itself sets."""
    for name, value in vars(module).items():
        if name.startswith("__"):
            continue
        if isinstance(value, re.Pattern):
            yield name, NEVER
        elif isinstance(value, frozenset | set | dict) and len(value) > 1:
            yield name, type(value)()
        elif isinstance(value, tuple) and len(value) > 2 and all(isinstance(v, str) for v in value):
            yield name, ()


def own(module: Any, name: str) -> bool:
    """Whether the module's text sets the name, rather than imports it."""
    text = Path(module.__file__).read_text(encoding="utf-8")
    return re.search(rf"^{re.escape(name)}\b[^=\n]*=", text, re.M) is not None


@contextmanager
def without(table: Any, empty: Any) -> Iterator[None]:
    """The table is empty wherever it was imported; nothing remembers what it said."""
    places = [
        (module, key)
        for name, module in list(sys.modules.items())
        if name.startswith("icpo_lite")
        for key, value in list(vars(module).items())
        if value is table
    ]
    _set(places, empty)
    try:
        yield
    finally:
        _set(places, table)


def _set(places: list[tuple[Any, str]], value: Any) -> None:
    for module, key in places:
        setattr(module, key, value)
    for name, module in list(sys.modules.items()):
        if name.startswith("icpo_lite"):
            for function in list(vars(module).values()):
                if hasattr(function, "cache_clear"):
                    function.cache_clear()


def rows(file: Path, most: int) -> list[dict[str, Any]]:
    """Rows spread evenly over a file."""
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return found[:: max(1, len(found) // most)]


def types_of(data: Path, most: int) -> Callable[[], dict[str, float]]:
    from icpo_lite.rewards.judge_agreement import SPELLINGS
    from icpo_lite.rewards.response_type import classify

    found = rows(data / "lic_turn_types_dev.jsonl", most)

    def figure() -> dict[str, float]:
        right = binary = 0
        for row in found:
            shards = [Shard(i, s.text) for i, s in enumerate(sentences(row["user"]))]
            kind = str(classify(row["assistant"], task=row["task"], shards=shards))
            label = SPELLINGS.get(row["response_type"], row["response_type"])
            right += kind == label
            binary += (kind == "answer_attempt") == (label == "answer_attempt")
        return {"type": right / len(found), "answer_or_not": binary / len(found)}

    return figure


def math_of(data: Path, most: int) -> Callable[[], dict[str, float]]:
    from icpo_lite.rewards.grading import GradingOptions, grade

    gold = [row["answer"] for row in rows(data / "gsm8k_test.jsonl", 10**9)]
    found = [r for r in rows(data / "lic_math_answers_dev.jsonl", most) if r["score"] is not None]
    options = GradingOptions(math_verify=False)

    def figure() -> dict[str, float]:
        same = 0
        for row in found:
            answer = gold[int(row["task_id"].rpartition("-")[2])]
            graded = grade("math", row["assistant"], answer, {}, options)
            same += graded.correct == (row["score"] == 1)
        return {"graded_as_scored": same / len(found)}

    return figure


def augment_of(data: Path, most: int) -> Callable[[], dict[str, float]]:
    from icpo_lite.core.types import Intent
    from icpo_lite.data.augment import augment

    problems = [
        Problem(
            problem_id=f"gsm8k_train-{i}",
            task="math",
            question=row["question"],
            answer=row["answer"].rpartition("####")[2].strip(),
            solution=row["answer"],
        )
        for i, row in enumerate(rows(data / "gsm8k_train.jsonl", most))
    ]
    whole: dict[str, str] = {}

    def figure() -> dict[str, float]:
        made = {p.problem_id: p.text for p in augment(problems) if p.intent is not Intent.COMPLETE}
        if not whole:
            whole.update(made)
        differ = sum(made.get(key) != whole.get(key) for key in {*made, *whole})
        return {"certified": len(made) / len(problems), "differ": differ / len(problems)}

    return figure


FIGURES = {"types": types_of, "math": math_of, "augment": augment_of}


def measured(name: str, data: Path, most: int) -> dict[str, Any]:
    """The figure with all tables, and without each."""
    figure = FIGURES[name](data, most)
    out: dict[str, Any] = {"all": figure()}
    for place in MODULES[name]:
        module = importlib.import_module(f"icpo_lite.{place}")
        for table, empty in list(tables(module)):
            if not own(module, table):
                continue
            try:
                with without(getattr(module, table), empty):
                    found: Any = figure()
            except Exception as error:  # what is built on a table may fail where it is empty
                found = f"{type(error).__name__}: cannot be left out"
            out[f"{place}.{table}"] = found
            print(f"{place}.{table}: {found}", flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("figures", nargs="+", choices=list(FIGURES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000, help="rows or problems of each file")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found = {name: measured(name, chosen.data, chosen.rows) for name in chosen.figures}
    if chosen.out:
        before = json.loads(chosen.out.read_text()) if chosen.out.is_file() else {}
        text = json.dumps({**before, **found}, indent=1)
        chosen.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
