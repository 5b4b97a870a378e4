"""Files → problems: the shapes of rows that exist, and every way in which a row can be bad."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Shard
from icpo_lite.data import sources
from icpo_lite.data.sources import MAX_ROW_BYTES, boxed, read_problems

GSM = {"question": "Ann has 2 pens and buys 3. How many?", "answer": "2+3=<<2+3=5>>5\n#### 5"}


def jsonl(path: Path, rows: list[Any], encoding: str = "utf-8") -> Path:
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)
    path.write_bytes(text.encode(encoding))
    return path


def only(path: Path, **options: Any) -> Any:
    (problem,) = read_problems(path, **options)
    return problem


def test_gsm8k_rows_give_the_answer_after_the_marks(tmp_path: Path) -> None:
    problem = only(jsonl(tmp_path / "a.jsonl", [GSM]))
    assert (problem.problem_id, problem.task, problem.answer) == ("a-1", "math", "5")
    assert problem.solution == GSM["answer"]
    assert problem.source == "a.jsonl:1"
    assert problem.columns == {}


def test_math_rows_give_the_boxed_answer(tmp_path: Path) -> None:
    row = {
        "problem": "What is half of 3/2?",
        "solution": r"It is $\boxed{\frac{3}{4}}$.",
        "level": 1,
    }
    problem = only(jsonl(tmp_path / "a.jsonl", [row]))
    assert problem.answer == r"\frac{3}{4}"
    assert problem.solution == row["solution"]
    assert problem.columns == {"level": 1}


def test_the_last_box_counts_and_an_open_one_is_none() -> None:
    assert boxed(r"\boxed{1} then \boxed{x^{2}+1}") == "x^{2}+1"
    assert boxed(r"\boxed{1") is None


def test_code_rows_keep_their_tests(tmp_path: Path) -> None:
    rows = [
        {"text": "Write f.", "code": "def f(): pass", "test_list": ["assert f()"], "task_id": 7},
        {"prompt": "def g():", "test": "def check(c): pass", "entry_point": "g", "task_id": "H/0"},
    ]
    mbpp, human_eval = read_problems(jsonl(tmp_path / "a.jsonl", rows))
    assert mbpp.task == human_eval.task == "code"
    assert mbpp.problem_id == "7"
    assert mbpp.answer == {"tests": ["assert f()"], "setup": "", "entry_point": ""}
    assert mbpp.solution == "def f(): pass"
    assert human_eval.answer["entry_point"] == "g"


def test_function_calls_keep_the_allowed_values_and_the_functions(tmp_path: Path) -> None:
    calls = [{"area": {"base": [10], "height": [5]}}]
    row = {
        "question": [[{"role": "user", "content": "Area of base 10, height 5?"}]],
        "function": [{"name": "area"}],
        "ground_truth": json.dumps(calls),
    }
    problem = only(jsonl(tmp_path / "a.jsonl", [row]))
    assert problem.task == "actions"
    assert problem.question == "Area of base 10, height 5?"
    assert problem.answer == calls
    assert problem.columns["functions"] == [{"name": "area"}]


def test_chat_messages_give_question_and_answer(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How many legs do 2 cats have?"},
        {"role": "assistant", "content": "2*4=8\n#### 8"},
    ]
    problem = only(jsonl(tmp_path / "a.jsonl", [{"messages": turns}]))
    assert problem.question == "How many legs do 2 cats have?"
    assert problem.answer == "8"


def test_shards_that_come_with_a_row_are_kept(tmp_path: Path) -> None:
    row = GSM | {"shards": [{"shard_id": 1, "shard": "How many?"}, {"shard_id": 2, "shard": "2."}]}
    problem = only(jsonl(tmp_path / "a.jsonl", [row]))
    assert problem.shards == (Shard(0, "How many?", is_question=True), Shard(1, "2."))


def test_a_column_mapping_names_their_columns(tmp_path: Path) -> None:
    row = {"frage": "Wie viele Beine haben 2 Katzen?", "loesung": "8", "id": "x"}
    path = jsonl(tmp_path / "a.jsonl", [row])
    problem = only(path, columns={"question": "frage", "answer": "loesung"})
    assert (problem.question, problem.answer, problem.problem_id) == (row["frage"], "8", "x")
    with pytest.raises(DataError, match=r"a\.jsonl:1: expected a column 'text'.*columns frage"):
        only(path, columns={"question": "text"})
    with pytest.raises(DataError, match="found 'frage'; write"):
        only(path, columns={"frage": "question"})


def test_csv_and_tsv_and_parquet_give_the_same_problems(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i}, doubled?", "answer": str(2 * i)} for i in range(1, 600)]
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["question", "answer"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    read = [list(read_problems(tmp_path / f"a.{s}")) for s in ("csv", "tsv", "parquet")]
    assert [p.question for p in read[0]] == [r["question"] for r in rows]
    for other in read[1:]:
        assert [(p.question, p.answer) for p in other] == [(p.question, p.answer) for p in read[0]]
    assert read[2][256].source == "a.parquet:257"


def test_limit_stops_reading(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [GSM, GSM, "{broken"])
    assert len(list(read_problems(path, limit=2))) == 2


BAD_ROWS = {
    "one JSON object a line": ["{broken", "[1, 2]"],
    "a question": [
        {"answer": "5"},
        {"question": "  ", "answer": "5"},
        {"question": 3, "answer": "5"},
    ],
    "an answer": [{"question": "How many?"}],
    "a number in the answer": [{"question": "How many?", "answer": "it depends"}],
    "tests": [{"question": "Write f.", "tests": [""]}],
    "a user turn in the messages": [{"messages": [{"role": "assistant", "content": "hi"}]}],
    "a list of allowed calls": [{"question": "Call it.", "possible_answer": {}}],
}


@pytest.mark.parametrize(
    ("reason", "row"), [(reason, row) for reason, rows in BAD_ROWS.items() for row in rows]
)
def test_a_bad_row_is_named_with_file_and_line_or_counted(
    tmp_path: Path, reason: str, row: Any
) -> None:
    path = jsonl(tmp_path / "a.jsonl", [GSM, row])
    with pytest.raises(
        DataError, match=rf"^a\.jsonl:2: expected {reason}.*on_bad_row: skip$"
    ) as at:
        list(read_problems(path))
    assert "\n" not in str(at.value)
    counted: Counter[str] = Counter()
    assert len(list(read_problems(path, on_bad_row="skip", bad_rows=counted))) == 1
    assert counted == {reason: 1}


@pytest.mark.parametrize(
    "line",
    [
        '{"question": "caf\\ud800?", "answer": "5"}',
        "[" * 100_000,
        '{"question": "5?", "answer": ' + "9" * 5000 + "}",
    ],
)
def test_rows_made_to_hurt_are_bad_rows(tmp_path: Path, line: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", [GSM, line])
    assert len(list(read_problems(path, on_bad_row="skip"))) == 1


def test_what_json_cannot_hold_does_not_travel_along(tmp_path: Path) -> None:
    line = json.dumps(GSM | {"level": float("nan"), "kind": "sum"})
    assert only(jsonl(tmp_path / "a.jsonl", [line])).columns == {"kind": "sum"}


def test_an_id_may_come_once(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [GSM | {"id": 4}, GSM | {"id": 4}])
    with pytest.raises(DataError, match=r"a\.jsonl:2: expected each id once, found 4 again"):
        list(read_problems(path))


def test_bytes_that_are_not_utf8_are_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(GSM).encode() + b'\n{"question": "caf\xe9 5?", "answer": "5"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: expected UTF-8, found byte 0xe9"):
        list(read_problems(path))
    table = tmp_path / "a.csv"
    table.write_bytes(b"question,answer\nHow many?,5\ncaf\xe9?,5\n")
    assert len(list(read_problems(table, on_bad_row="skip"))) == 1


def test_a_byte_order_mark_is_no_part_of_the_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [GSM], encoding="utf-8-sig")
    assert only(path).answer == "5"


def test_csv_rows_need_a_value_for_each_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nHow many?,5\nonly one\na,1,too many\n")
    counted: Counter[str] = Counter()
    assert len(list(read_problems(path, on_bad_row="skip", bad_rows=counted))) == 1
    assert counted == {"a value for each column": 2}


def test_a_line_of_ten_megabytes_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        for row in (GSM, GSM | {"question": "x" * 10_000_000}, GSM):
            file.write(json.dumps(row) + "\n")
    counted: Counter[str] = Counter()
    tracemalloc.start()
    problems = list(read_problems(path, on_bad_row="skip", bad_rows=counted))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [p.source for p in problems] == ["a.jsonl:1", "a.jsonl:3"]
    assert sum(counted.values()) == 1
    assert peak < 6 * MAX_ROW_BYTES


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        path = jsonl(tmp_path / f"{rows}.jsonl", [GSM] * rows)
        tracemalloc.start()
        for _ in read_problems(path):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(10)
    assert peak(5000) < peak(500) + 20_000


def test_missing_empty_and_unusable_sources_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "a.txt").write_text("hello")
    jsonl(tmp_path / "bad.jsonl", [{"x": 1}])
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    cases = {
        "none.jsonl": "expected a data file at .*none.jsonl, found none",
        "empty.jsonl": "found none; it is empty",
        "a.txt": "expected a file that ends in .jsonl",
        "bad.parquet": "expected a Parquet file",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message):
            list(read_problems(tmp_path / name))
    with pytest.raises(DataError, match=r"found none \(1 × expected a question\)"):
        list(read_problems(tmp_path / "bad.jsonl", on_bad_row="skip"))
    with pytest.raises(DataError, match="expected a task of"):
        list(read_problems(tmp_path / "bad.jsonl", task="poetry"))  # type: ignore[arg-type]


def test_a_hub_split_is_read_from_its_parquet_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    import pyarrow
    import pyarrow.parquet

    local = tmp_path / "shard.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([GSM]), local)
    files = [
        "main/train-00000-of-00001.parquet",
        "main/test-00000-of-00001.parquet",
        "socratic/train-00000-of-00001.parquet",
    ]
    asked = []

    def download(name: str, file: str, **_: Any) -> str:
        asked.append(file)
        return str(local)

    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *a, **k: files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    (problem,) = read_problems("openai/gsm8k", config="main", split="train")
    assert problem.answer == "5"
    assert problem.source == "openai/gsm8k/main/train-00000-of-00001.parquet:1"
    assert asked == ["main/train-00000-of-00001.parquet"]
    with pytest.raises(DataError, match="split 'dev' of 'main' in openai/gsm8k, found main/test"):
        list(read_problems("openai/gsm8k", config="main", split="dev"))


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", refuse)
    with pytest.raises(DataError, match="found: no route to host; check the name"):
        list(sources.read_problems("openai/gsm8k"))


def test_a_row_of_another_task_says_which(tmp_path: Path) -> None:
    row = {"prompt": "def f(x):\n", "test": "assert f(1) == 2", "canonical_solution": "return 2"}
    path = tmp_path / "code.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(
        DataError, match=r"code\.jsonl:1: expected rows of the task math.*task: code"
    ):
        list(read_problems(path, task="math"))
