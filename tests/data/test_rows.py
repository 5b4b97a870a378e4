"""Rows are data: every shape of a cell is read as what it is, or refused with its place."""

from __future__ import annotations

import bz2
import csv
import gzip
import itertools
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Message, Problem, Prompt
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
        refused = str(error)
        assert refused.startswith("rows.jsonl:1: expected")
        return
    all_said = "\n".join(m.content for p in prompts for m in p.messages)
    said = [s for name in names if name in row for s in spoken(row[name])]
    assert all(sentence in all_said for sentence in said)
    assert not holds_a_printed_list(all_said)
    assert all(p.answer == "5" for p in prompts if "choices" not in p.columns)
    # Beside choices 5 has to be one of them.
    assert all(p.answer in p.columns.get("choices", {"": "5"}).values() for p in prompts)


# ------------------------------------------------------------------------------------ known shapes


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("72", "72"),
        (72, "72"),
        (72.0, "72"),
        (0.25, "0.25"),
        (1e-7, "0.0000001"),
        (["72"], "72"),
        ([1.0], "1"),
        ("['72']", "72"),
        ({"value": 72}, "72"),
        (["72", 72.0, "seventy-two"], "72"),
        ({"text": ["72", "72"], "answer_start": [3, 9]}, "72"),
        ({"role": "assistant", "content": "2*36\n#### 72"}, "72"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "#### 72"}]}], "72"),
        ({"choices": [{"message": {"content": "So \\boxed{72}."}}]}, "72"),
        ("2*36=72\n#### 72\nI hope that this helps with 3 things!", "72"),
        ("####\n72", "72"),
        ("First 2 and 36 are multiplied. The answer is 72.", "72"),
        ("Each of the 2 boxes holds 36 pens.\nTogether that makes 72.", "72"),
        ("[2, 5]", "[2, 5]"),
        ("x^2 + 3 x y - 4 y^2 + 5 x + 7", "x^2 + 3 x y - 4 y^2 + 5 x + 7"),
    ],
)
def test_an_answer_is_the_value_and_not_its_spelling(
    tmp_path: Path, answer: Any, gold: str
) -> None:
    assert only(jsonl(tmp_path / "a.jsonl", GSM | {"answer": answer})).answer == gold


@pytest.mark.parametrize(
    "answer",
    [
        *(True, False, None, [], {}, ["1", "2", 3], {"a": 1}, "nothing at all", float("inf")),
        *(["5", "7"], {"text": ["5", "7"]}, "['5', '7']", ["5", "five or 7"], ["yes", "no"]),
        *([[1, 2]], "Of the 12 pens in the box 5 are red and 7 are blue, as you can see."),
    ],
)
def test_an_answer_that_is_no_value_is_refused(tmp_path: Path, answer: Any) -> None:
    path = jsonl(tmp_path / "a.jsonl", GSM | {"answer": answer})
    with pytest.raises(DataError, match=r"^a\.jsonl:1: expected .*answer.*on_bad_row: skip$"):
        only(path)


def test_a_rewarded_models_ground_truth_is_an_answer(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "user", "content": "What is 6 times 12?"}],
        "reward_model": {"style": "rule", "ground_truth": "72"},
    }
    problem = only(jsonl(tmp_path / "a.jsonl", row))
    assert (problem.task, problem.question, problem.answer) == ("math", "What is 6 times 12?", "72")
    plain = {"question": "What is 6 times 12?", "ground_truth": "72"}
    assert only(jsonl(tmp_path / "b.jsonl", plain)).answer == "72"


def test_alpaca_rows_keep_their_input(tmp_path: Path) -> None:
    row = {"instruction": "Add the numbers.", "input": "2, 3", "output": "5"}
    problem = only(jsonl(tmp_path / "a.jsonl", row))
    assert (problem.question, problem.answer) == ("Add the numbers.\n\n2, 3", "5")
    whole = row | {"text": "### Instruction:\nAdd the numbers.\n### Input:\n2, 3\n### Response:\n5"}
    assert only(jsonl(tmp_path / "b.jsonl", whole)).question == problem.question
    assert only(jsonl(tmp_path / "c.jsonl", row | {"input": ""})).question == "Add the numbers."
    more = row | {"system": "Be brief.", "history": [["Hi, add 1 and 1.", "2"]]}
    assert only(jsonl(tmp_path / "d.jsonl", more)).opening == (
        Message("system", "Be brief."),
        Message("user", "Hi, add 1 and 1."),
        Message("assistant", "2"),
    )


def test_a_passage_stands_before_its_question(tmp_path: Path) -> None:
    row = {"Body": "Ann has 2 pens and buys 3.", "Question": "How many has she?", "Answer": 5.0}
    problem = only(jsonl(tmp_path / "a.jsonl", row))
    assert problem.question == "Ann has 2 pens and buys 3.\n\nHow many has she?"
    assert problem.answer == "5"


def test_the_whole_chat_before_the_last_answer_is_the_prompt(tmp_path: Path) -> None:
    turns = [
        ("system", "Be brief."),
        ("user", "Ann has 2 pens."),
        ("assistant", "And?"),
        ("user", "She buys 3."),
        ("user", "How many has she?"),
        ("assistant", "2+3=5\n#### 5"),
    ]
    open_ai = {"messages": [{"role": r, "content": c} for r, c in turns]}
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    share_gpt = {"conversations": [{"from": names[r], "value": c} for r, c in turns]}
    own = {"dlg": [{"wer": names[r], "was": c} for r, c in turns]}
    columns = {"messages": "dlg", "role": "wer", "content": "was"}
    for name, row, options in (
        ("a.jsonl", open_ai, {}),
        ("b.jsonl", share_gpt, {}),
        ("c.jsonl", own, {"columns": columns}),
        ("d.jsonl", {"question": open_ai["messages"]}, {}),
        ("e.jsonl", {"messages": json.dumps(open_ai["messages"])}, {}),
    ):
        problem = only(jsonl(tmp_path / name, row), **options)
        assert problem.opening == (
            Message("system", "Be brief."),
            Message("user", "Ann has 2 pens."),
            Message("assistant", "And?"),
        )
        assert problem.question == "She buys 3.\n\nHow many has she?"
        assert (problem.answer, problem.columns) == ("5", {})


def test_choices_reach_the_prompt_and_a_letter_means_its_choice(tmp_path: Path) -> None:
    row = {"question": "What is 2 + 3?", "choices": ["4", "5"], "answer": "5"}
    problem = only(jsonl(tmp_path / "a.jsonl", row))
    assert (problem.question, problem.answer) == ("What is 2 + 3?\n\nA. 4\nB. 5", "5")
    for answer in (1, "B"):
        assert only(jsonl(tmp_path / "b.jsonl", row | {"answer": answer})).answer == "5"
    for answer in (2, "C", "6"):
        path = jsonl(tmp_path / "c.jsonl", row | {"answer": answer})
        with pytest.raises(DataError, match="an answer that is one of the choices"):
            only(path)


def test_turns_that_no_prompt_can_hold_are_refused(tmp_path: Path) -> None:
    user = {"role": "user", "content": "What is 2 + 3?"}
    for turn, reason in (
        ({"role": "tool", "content": "5"}, 'found one by "tool"'),
        (
            {"role": "assistant", "content": None, "tool_calls": []},
            "the words of each turn, found none",
        ),
        ({"role": "system", "content": "Be brief."}, "a system turn at the beginning alone"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "'image_url'"),
        ({"role": "user", "content": True}, "words of each turn, found true"),
    ):
        path = jsonl(tmp_path / "a.jsonl", {"messages": [user, turn]})
        with pytest.raises(DataError, match=rf"^a\.jsonl:1: expected .*({reason})"):
            only(path)


def test_two_different_questions_are_refused_and_columns_decide(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", GSM | {"problem": "Bob has 2 pens. How many?"})
    with pytest.raises(DataError, match="different ones in question and problem; say which"):
        only(path)
    assert only(path, columns={"question": "problem"}).question == "Bob has 2 pens. How many?"


def test_a_label_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", GSM | {"ambiguity_kind": "vague amount"})
    with pytest.raises(DataError, match=r"'ambiguity_kind', which looks like a label.*\{lacks: "):
        only(path)


# ------------------------------------------------------------------------------------------- files

ROWS = [{"question": f"What is {i}; doubled, I mean?", "answer": str(2 * i)} for i in range(1, 9)]


def as_csv(path: Path, delimiter: str) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)


def test_every_format_gives_the_same_problems(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    for delimiter, name in itertools.product(",;\t|", ("csv",)):
        as_csv(tmp_path / f"{ord(delimiter)}.{name}", delimiter)
    as_csv(tmp_path / "a.tsv", "\t")
    for name, text in (
        ("a.jsonl", lines),
        ("a.json", lines),
        ("b.json", json.dumps(ROWS)),
        ("c.json", json.dumps({"data": ROWS})),
        ("d.json", json.dumps({"version": 1, "rows": [{"row": row} for row in ROWS]}, indent=2)),
        ("e.json", json.dumps({"train": ROWS, "test": ROWS[:1]})),
        ("f.json", json.dumps({"info": {}, "data": {"train": ROWS, "test": ROWS[:1]}})),
        ("g.json", json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]})),
        ("h.jsonl", "".join(json.dumps(json.dumps(row)) + "\n" for row in ROWS)),
    ):
        (tmp_path / name).write_text(text)
    for packed, suffix in ((gzip, "gz"), (bz2, "bz2"), (lzma, "xz")):
        (tmp_path / f"a.jsonl.{suffix}").write_bytes(packed.compress(lines.encode()))
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress((tmp_path / "59.csv").read_bytes()))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 18
    for file in files:
        found = list(read_problems(file))
        assert [(p.question, p.answer) for p in found] == [tuple(r.values()) for r in ROWS], file
        assert found[0].source.startswith(file.name)
    assert len(list(read_problems(tmp_path / "e.json", split="test"))) == 1
    assert only(tmp_path / "e.json", split="test").problem_id == "e-1"


def test_a_single_row_may_fill_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps({"messages": [{"role": "user", "content": "2+3?"}], "answer": 5}, indent=1)
    )
    assert only(path).answer == "5"


def test_files_that_are_not_what_they_say_are_one_line(tmp_path: Path) -> None:
    cases = {
        "a.jsonl.gz": (b"no gzip", "expected a file packed as .gz"),
        "b.jsonl.gz": (
            gzip.compress(json.dumps(GSM).encode() + b"\n")[:-9],
            "expected a file packed as .gz",
        ),
        "c.json": (b'{"data": [{"question": "2?"}', r"c\.json:1: expected one JSON object"),
        "d.parquet.gz": (b"", "expected a file that ends in .jsonl"),
        "e.json": (b'{"train": [{"a": 1}], "dev": [{"a": 1}]}', "found train, dev; name one"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        split = "test" if name == "e.json" else "train"
        with pytest.raises(DataError, match=message):
            list(read_problems(tmp_path / name, split=split))


def test_answers_in_a_file_of_their_own_are_joined_by_id(tmp_path: Path) -> None:
    asked = [
        {"id": f"x_{i}", "question": [[{"role": "user", "content": f"Area {i}?"}]], "function": []}
        for i in range(3)
    ]
    known = [{"id": f"x_{i}", "ground_truth": [{"area": {"a": [i]}}]} for i in (2, 1, 0)]
    jsonl(tmp_path / "x.jsonl", *asked)
    jsonl(tmp_path / "x_answers.jsonl", *known)
    (tmp_path / "possible_answer").mkdir()
    jsonl(tmp_path / "y.json", *asked)
    jsonl(tmp_path / "possible_answer" / "y.json", *known)
    for name in ("x.jsonl", "x_answers.jsonl", "y.json", "possible_answer/y.json"):
        found = list(read_problems(tmp_path / name))
        assert [p.question for p in found] == ["Area 0?", "Area 1?", "Area 2?"]
        assert [p.answer for p in found] == [[{"area": {"a": [i]}}] for i in range(3)]
    jsonl(tmp_path / "x_answers.jsonl", *known[:2])
    with pytest.raises(DataError, match=r"x\.jsonl:1: expected an answer in x_answers\.jsonl"):
        list(read_problems(tmp_path / "x.jsonl"))
    # A file that holds its answers is left alone, whatever lies beside it.
    jsonl(tmp_path / "z.jsonl", GSM | {"id": 1})
    jsonl(tmp_path / "z_answers.jsonl", GSM | {"id": 1})
    assert only(tmp_path / "z.jsonl").answer == "5"


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.jsonl", '{"question": "Tom has 4 figs.", "question": "How many?", "answer": "4"}\n',
         "a.jsonl:1: expected each name once in an object, found 'question' twice"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "a", "content": "b"}]}\n',
         "found 'content' twice"),
        ("a.json", '[{"question": "Tom has 4 figs.", "question": "b", "answer": "4"}]',
         "found the name 'question' twice in one object"),
        ("a.csv", "question,question,answer\na,b,4\n",
         "a.csv:1: expected each column once, found 'question' twice"),
    ],
)  # fmt: skip
def test_a_name_written_twice_loses_no_text(
    tmp_path: Path, name: str, text: str, where: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as refused:
        list(read_problems(tmp_path / name))
    assert where in str(refused.value)
