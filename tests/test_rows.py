"""Rows are data: every shape of a cell is read as what it is, or refused with its place."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Problem, Prompt
from icpo_lite.data.labelled_rows import holds_labels, read_labelled
from icpo_lite.data.row_columns import NAMES
from icpo_lite.data.sources import read_problems
from icpo_lite.evaluation.given_prompts import as_complete_prompt

GSM = {"question": "Ann has 2 pens and buys 3. How many?", "answer": "5"}


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def only(path: Path, **options: Any) -> Problem:
    (problem,) = read_problems(path, **options)
    return problem


def read(path: Path, **options: Any) -> list[Prompt]:
    """The prompts of a file as they stand in it."""
    if holds_labels(path):
        return read_labelled(path, **options)
    return [as_complete_prompt(problem) for problem in read_problems(path, **options)]


# ------------------------------------------------------------------------------------ every column

#: Every sentence that the user or the system says in a row below begins so.
SAID = "Said"
CELLS: dict[str, Callable[[str], Any]] = {
    "text": lambda said: said,
    "list": lambda said: [said],
    "long list": lambda said: [said, 7, None],
    "empty list": lambda said: [],
    "dictionary": lambda said: {"text": said},
    "strange dictionary": lambda said: {"x": said, "y": 7},
    "parts": lambda said: [
        {"type": "text", "text": said},
        {"type": "text", "text": f"{said} again 7."},
    ],
    "picture": lambda said: [{"type": "image_url", "image_url": {"url": "x"}}, {"text": said}],
    "turns": lambda said: [
        {"role": "system", "content": f"{said} by the system."},
        {"role": "user", "content": f"{said} at first 7?"},
        {"role": "assistant", "content": "7"},
        {"role": "user", "content": [{"type": "text", "text": said}]},
    ],
    "tool turns": lambda said: [
        {"role": "user", "content": said},
        {"role": "tool", "content": "7"},
    ],
    "completion": lambda said: {"choices": [{"message": {"role": "assistant", "content": said}}]},
    "printed": lambda said: str([said]),
    "printed dictionary": lambda said: str({"text": said}),
    "as JSON": lambda said: json.dumps([said]),
    "true": lambda said: True,
    "false": lambda said: False,
    "integer": lambda said: 7,
    "fraction": lambda said: 7.5,
    "null": lambda said: None,
    "nested": lambda said: [[said, {"a": [said]}]],
}
#: Columns whose words are the user's or the system's, and must reach the prompt.
SPOKEN = ("question", "messages", "context", "system", "history", "choices", "underspecified")


def spoken(value: Any) -> list[str]:
    """The sentences that begin as SAID in a cell."""
    if isinstance(value, dict):
        return [s for v in value.values() for s in spoken(v)]
    if isinstance(value, list):
        return [s for v in value for s in spoken(v)]
    return [value] if isinstance(value, str) and value.startswith(SAID) else []


def holds_a_printed_list(value: Any) -> bool:
    return isinstance(value, str) and any(mark in value for mark in ("{'", "['", '{"', '["'))


@pytest.mark.parametrize("ours", NAMES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_read_as_what_it_is_or_its_row_is_refused(
    tmp_path: Path, ours: str, cell: str
) -> None:
    for theirs in NAMES[ours]:
        try_cell(tmp_path, ours, theirs, cell)


def try_cell(tmp_path: Path, ours: str, theirs: str, cell: str) -> None:
    value = CELLS[cell](f"{SAID} {theirs} 7?")
    base = {} if ours in ("question", "messages") else dict(GSM)
    if ours not in ("answer", "calls", "query", "tests"):
        base["answer"] = "5"
    elif theirs != "answer":
        base.pop("answer", None)
    path = jsonl(tmp_path / "rows.jsonl", base | {theirs: value})
    try:
        prompts = read(path)
    except DataError as error:
        text = str(error)
        assert "rows.jsonl" in text
        assert "\n" not in text
        assert "expected" in text
        assert "found" in text
        return
    for prompt in prompts:
        for message in prompt.messages:
            assert not holds_a_printed_list(message.content)
        assert not holds_a_printed_list(prompt.answer)
        assert not holds_a_printed_list(prompt.solution)
        assert not any(holds_a_printed_list(s.text) for s in (*prompt.shards, *prompt.removed))
    if ours in SPOKEN:
        all_said = "\n".join(m.content for p in prompts for m in p.messages)
        assert all(sentence in all_said for sentence in spoken(value))


@pytest.mark.parametrize("seeds", range(8))
def test_no_sentence_of_a_generated_row_is_lost(tmp_path: Path, seeds: int) -> None:
    for seed in range(100 * seeds, 100 * seeds + 100):
        try_row(tmp_path, seed)


def try_row(tmp_path: Path, seed: int) -> None:
    """A row of one to five spoken columns, each cell of any shape that holds words."""
    rng = random.Random(seed)
    shapes = ["text", "list", "dictionary", "parts", "turns", "printed", "as JSON"]
    names = [n for ours in SPOKEN for n in NAMES[ours] if n != "task"]
    row: dict[str, Any] = {"answer": rng.choice(["5", 5, 5.0, [5], ["5"], {"value": 5}])}
    for name in rng.sample(names, rng.randint(1, 5)):
        row[name] = CELLS[rng.choice(shapes)](f"{SAID} {name} {rng.randint(1, 9)}?")
    path = jsonl(tmp_path / "rows.jsonl", row)
    try:
        prompts = read(path)
    except DataError as error:
        assert str(error).startswith("rows.jsonl:1: expected")
        return
    all_said = "\n".join(m.content for p in prompts for m in p.messages)
    said = [s for name in names if name in row for s in spoken(row[name])]
    assert all(sentence in all_said for sentence in said)
    assert not holds_a_printed_list(all_said)
    assert all(p.answer == "5" for p in prompts)
