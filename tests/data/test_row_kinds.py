"""Every kind of row × every column of it × every shape of a cell × every format of a file.

What the user or the system says reaches the prompt, and no prompt and no gold answer holds a list
or dictionary as Python or JSON spells it; or the row is refused, with its file and what to change.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_rows import CELLS, SAID, holds_a_printed_list, read, spoken

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Intent, Prompt

WEATHER = {"name": "weather", "description": "Of a city.", "parameters": {"type": "dict"}}
ASKED = f"{SAID} first 7?"
KINDS: dict[str, dict[str, Any]] = {
    "math": {"question": ASKED, "answer": "5", "system": f"{SAID} system.", "id": "a"},
    "worked": {"problem": ASKED, "solution": "2+3=\\boxed{5}", "level": "Level 1"},
    "alpaca": {"instruction": ASKED, "input": f"{SAID} second.", "output": "It is 5."},
    "chat": {"messages": [{"role": "user", "content": ASKED}], "answer": 5},
    "choices": {"question": ASKED, "choices": ["5", "7"], "answer": "5"},
    "code": {"text": ASKED, "test_list": ["assert f(1) == 2"], "code": "def f(x):\n return x + 1"},
    "actions": {
        "question": ASKED,
        "function": [WEATHER],
        "ground_truth": [{"weather": {"city": ["Rome"]}}],
    },
    "database": {
        "question": ASKED,
        "query": "SELECT a FROM t",
        "schema": "CREATE TABLE t (a INTEGER);",
    },
    "MiP": {"question": ASKED, "insufficient_question": f"{SAID} less?", "answer": "#### 5"},
    "AskBench": {
        "ori_question": ASKED,
        "degraded_question": f"{SAID} less?",
        "expected_answer": "5",
        "required_points": ["how many"],
        "degraded_info": "The number.",
    },
    "UMWP": {"id": 3, "question": ASKED, "answer": [5.0], "answerable": True, "relevant_ids": None},
    "IN3": {"task": ASKED, "vague": True, "missing_details": [{"description": "the budget"}]},
    "CLAMBER": {
        "question": ASKED,
        "context": f"{SAID} context.",
        "clarifying_question": "Which one?",
        "require_clarification": 1,
    },
    "MediQ": {
        "question": ASKED,
        "context": [f"{SAID} one.", f"{SAID} two."],
        "options": {"A": "Gout", "B": "Flu"},
        "answer": "Flu",
        "facts": ["1. One."],
    },
    "When2Call": {
        "uuid": "u",
        "question": ASKED,
        "orig_question": "Of Rome 7?",
        "correct_answer": "request_for_info",
        "answers": {"tool_call": '{"name": "weather", "arguments": {}}'},
        "tools": [json.dumps(WEATHER)],
        "held_out_param": "city",
    },
    "own": {
        "complete": ASKED,
        "underspecified": f"{SAID} less?",
        "answer": 5,
        "missing_points": ["how many"],
    },
}
#: Columns whose words are the user's or the system's.
SPEAKERS = frozenset(
    (
        *("question", "problem", "instruction", "input", "messages", "text", "system", "context"),
        *("choices", "options", "insufficient_question", "ori_question", "degraded_question"),
        *("task", "complete", "underspecified"),
    )
)


def jsonl(path: Path, row: Any) -> Path:
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


def packed(path: Path, row: Any) -> Path:
    path.write_bytes(gzip.compress(json.dumps(row).encode() + b"\r\n\r\n"))
    return path


def with_mark(path: Path, row: Any) -> Path:
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([row], indent=1).encode())
    return path


def semicolons(path: Path, row: Any) -> Path:
    """A table knows text alone: a list stands in it as JSON."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(texts), delimiter=";")
        writer.writeheader()
        writer.writerow(texts)
    return path


def parquet(path: Path, row: Any) -> Path:
    arrow = pytest.importorskip("pyarrow")
    arrow.parquet = pytest.importorskip("pyarrow.parquet")
    try:
        arrow.parquet.write_table(arrow.Table.from_pylist([row]), path)
    except arrow.ArrowException:  # a column of Parquet holds one type, and no empty structure
        arrow.parquet.write_table(arrow.Table.from_pylist([{"question": ASKED}]), path)
    return path


FORMATS: dict[str, Callable[[Path, Any], Path]] = {
    "a.jsonl": jsonl,
    "b.json": with_mark,
    "c.json": lambda path, row: jsonl(path, {"data": [row]}),
    "d.jsonl.gz": packed,
    "e.jsonl": lambda path, row: jsonl(path, json.dumps(row)),
    "f.csv": semicolons,
    "g.parquet": parquet,
}


def tried(path: Path, row: dict[str, Any]) -> list[Prompt] | None:
    """The prompts of a file, all of them sound; None where it is refused as it should be."""
    try:
        prompts = read(path)
    except DataError as error:
        told = str(error)
        assert path.name in told
        assert "\n" not in told
        assert all(word in told for word in ("expected", "found")), told
        assert ";" in told, told  # behind it stands what to change
        return None
    for prompt in prompts:
        told_of = (*prompt.removed, *prompt.shards)
        texts = [*(m.content for m in prompt.messages), prompt.answer, prompt.solution]
        texts += [*(s.text for s in told_of), *prompt.targets]
        assert not any(holds_a_printed_list(text) for text in texts), (row, texts)
    return prompts


def all_said(prompts: list[Prompt]) -> str:
    return "\n".join(m.content for prompt in prompts for m in prompt.messages)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_from_every_format(tmp_path: Path, kind: str) -> None:
    row = KINDS[kind]
    kept = [s for name, value in row.items() if name in SPEAKERS for s in spoken(value)]
    seen = set()
    for name, write in FORMATS.items():
        prompts = tried(write(tmp_path / name, row), row)
        assert prompts is not None, (kind, name)
        assert all(sentence in all_said(prompts) for sentence in kept)
        seen.add(tuple((p.text, p.intent, str(p.answer)) for p in prompts))
    assert len(seen) == 1, seen


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_of_a_kind_takes_every_cell_or_refuses_it(tmp_path: Path, kind: str) -> None:
    formats = itertools.cycle(FORMATS.items())
    for column, (cell, make) in itertools.product(KINDS[kind], CELLS.items()):
        row = KINDS[kind] | {column: make(f"{SAID} {column} 7?")}
        name, write = next(formats)
        prompts = tried(write(tmp_path / name, row), row)
        if prompts is None or name == "g.parquet":
            continue
        kept = [s for c, value in row.items() if c in SPEAKERS for s in spoken(value)]
        missed = [sentence for sentence in kept if sentence not in all_said(prompts)]
        assert not missed, (column, cell, name, missed)


@pytest.mark.parametrize("seeds", range(2))
def test_rows_of_several_columns_and_shapes_lose_nothing(tmp_path: Path, seeds: int) -> None:
    for seed in range(100 * seeds, 100 * seeds + 100):
        rng = random.Random(seed)
        row = dict(rng.choice(list(KINDS.values())))
        for column in rng.sample(list(row), min(2, len(row))):
            row[column] = CELLS[rng.choice(list(CELLS))](f"{SAID} {column} {seed}?")
        if rng.random() < 0.3:
            row["history"] = [[f"{SAID} before {seed}?", "5"]]
        name = rng.choice([n for n in FORMATS if n != "g.parquet"])
        prompts = tried(FORMATS[name](tmp_path / name, row), row)
        if prompts is not None:
            kept = [s for c in row if c in SPEAKERS for s in spoken(row[c])]
            assert all(sentence in all_said(prompts) for sentence in kept), row


def test_a_label_decides_the_intent_in_every_format(tmp_path: Path) -> None:
    for name, write in FORMATS.items():
        for label, intent in ((True, Intent.COMPLETE), (False, Intent.UNDERSPECIFIED)):
            row = {"question": ASKED, "answer": 5, "answerable": label}
            prompts = tried(write(tmp_path / name, row), row)
            assert prompts is not None
            assert [p.intent for p in prompts] == [intent]
