"""Lost in Conversation's own instructions → problems that our graders grade."""

import base64
import json
import pickle
import sqlite3
import zlib
from collections import Counter

import pytest

from icpo_lite.core.errors import DataError
from icpo_lite.data.sources import read_problems
from icpo_lite.data.system_prompts import opening_turn
from icpo_lite.rewards.grading import GradingOptions, grade


def shards(*texts):
    return [{"shard_id": i, "shard": text} for i, text in enumerate(texts, start=1)]


MATH = {
    "task_id": "sharded-GSM8K/1",
    "task": "math",
    "shards": shards("how many pens?", "Ann has 2 pens", "she buys 3"),
    "question": "Ann has 2 pens and buys 3. How many pens has she?",
    "answer": "2+3=<<2+3=5>>5\n#### 5",
}
ACTIONS = {
    "task_id": "sharded-BFCL/parallel_1",
    "task": "actions",
    "shards": shards("play something", "by Ann", "for 20 minutes"),
    "fully_specified_question": "Play 20 minutes of Ann.",
    "function": [{"name": "spotify.play", "parameters": {}}],
    "reference_answer": [{"spotify.play": {"artist": ["Ann"], "duration": [20]}}],
    "language": "Python",
}
DATABASE = {
    "task_id": "sharded-spider-val-1",
    "task": "database",
    "shards": shards("look at museums", "those without visitors", "their names"),
    "fully_specified_question": "Names of the museums without a visitor?",
    "reference_sql": "SELECT name FROM museum WHERE visitors = 0",
    "schema_sql": "CREATE TABLE museum (name TEXT, visitors INT);",
    "db_id": "museums",
}
CASES = [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]
CODE = {
    "task_id": "sharded-livecodebench/1",
    "task": "code",
    "shards": shards("add numbers", "and one more"),
    "question_content": "Add the numbers of a list and one more.",
    "starter_code": "class Solution:\n    def total(self, xs, y):",
    "metadata": json.dumps({"func_name": "total"}),
    "public_test_cases": json.dumps(CASES),
    "private_test_cases": base64.b64encode(
        zlib.compress(pickle.dumps(json.dumps([{**CASES[0], "input": "[]\n1", "output": "1"}])))
    ).decode(),
}
SUMMARY = {"task_id": "s/1", "task": "summary", "shards": [{"shard_id": 1, "doc_idxs": [0]}]}


def read(tmp_path, *rows, array=True, **options):
    path = tmp_path / "instructions.json"
    text = json.dumps(rows, indent=1) if array else "\n".join(map(json.dumps, rows))
    path.write_text(text)
    return list(read_problems(path, **options))


@pytest.mark.parametrize("array", [True, False])
def test_an_array_and_json_lines_read_alike(tmp_path, array):
    (problem,) = read(tmp_path, MATH, array=array)
    assert (problem.problem_id, problem.task) == ("sharded-GSM8K/1", "math")
    assert (problem.question, problem.answer) == (MATH["question"], "5")
    assert [(s.text, s.is_question) for s in problem.shards] == [
        ("how many pens?", True),
        ("Ann has 2 pens", False),
        ("she buys 3", False),
    ]


def test_tasks_without_a_grader_are_counted_and_left_out(tmp_path):
    bad = Counter()
    translated = {**MATH, "task": "translation", "task_id": "t"}
    found = read(tmp_path, SUMMARY, MATH, SUMMARY | {"task": "data2text"}, translated, bad_rows=bad)
    assert [p.task for p in found] == ["math"]
    assert bad["a task that is graded here, found 'summary'"] == 1
    assert sum(bad.values()) == 3
    with pytest.raises(DataError, match=r"found none.*graded here"):
        read(tmp_path, SUMMARY)


def test_actions_are_graded_by_their_calls(tmp_path):
    (problem,) = read(tmp_path, ACTIONS)
    assert problem.question == "Play 20 minutes of Ann."
    right, wrong = "[spotify.play(artist='Ann', duration=20)]", "[spotify.play(artist='Ben')]"
    assert grade("actions", right, problem.answer, problem.columns).correct
    assert not grade("actions", wrong, problem.answer, problem.columns).correct


def test_databases_are_found_beside_the_file(tmp_path):
    bad = Counter()
    assert [p.task for p in read(tmp_path, MATH, DATABASE, bad_rows=bad)] == ["math"]
    assert "spider/databases" in next(iter(bad))
    place = tmp_path / "spider" / "databases" / "museums"
    place.mkdir(parents=True)
    with sqlite3.connect(place / "museums.sqlite") as database:
        database.executescript(
            DATABASE["schema_sql"] + "INSERT INTO museum VALUES ('Dull', 0), ('Fun', 9);"
        )
    (problem,) = read(tmp_path, DATABASE)
    reply = "```sql\nSELECT name FROM museum WHERE visitors < 1\n```"
    assert grade("database", reply, problem.answer, problem.columns).correct
    reply = "```sql\nSELECT name FROM museum\n```"
    assert not grade("database", reply, problem.answer, problem.columns).correct


@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("class Solution:\n    def total(self, xs, y):\n        return sum(xs) + y", True),
        ("def total(xs, y):\n    return sum(xs) + y", True),
        ("def some_name(xs, y):\n    return sum(xs) + y", True),
        ("def total(xs, y):\n    return 6", False),
    ],
)
def test_code_is_run_against_public_and_packed_private_tests(tmp_path, code, right):
    (problem,) = read(tmp_path, CODE)
    assert len(problem.answer) == 2
    options = GradingOptions(allow_code_execution=True)
    reply = f"```python\n{code}\n```"
    assert grade("code", reply, problem.answer, problem.columns, options).correct is right


def test_programs_read_standard_input(tmp_path):
    row = {**CODE, "metadata": "{}", "private_test_cases": ""}
    row["public_test_cases"] = [{"input": "3\n", "output": "4\n", "testtype": "stdin"}]
    (problem,) = read(tmp_path, row)
    options = GradingOptions(allow_code_execution=True)
    reply = "```python\nprint(int(input()) + 1)\n```"
    assert grade("code", reply, problem.answer, problem.columns, options).correct


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return (print, ("run",))

    packed = base64.b64encode(zlib.compress(pickle.dumps(Runs()))).decode()
    with pytest.raises(DataError, match=r"instructions\.json\[1\]: expected test cases as JSON"):
        read(tmp_path, {**CODE, "private_test_cases": packed})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"question": ""}, "expected text in question"),
        ({"shards": shards("how many?", " ")}, "expected shards with text, found one without"),
    ],
)
def test_faulty_rows_are_named(tmp_path, change, words):
    with pytest.raises(DataError, match=rf"instructions\.json\[2\]: {words}"):
        read(tmp_path, MATH, {**MATH, "task_id": "other", **change})


def test_an_id_occurs_once(tmp_path):
    with pytest.raises(DataError, match="each id once"):
        read(tmp_path, MATH, MATH)


def test_a_broken_array_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text("[{]")
    with pytest.raises(DataError, match=r"array of JSON objects in a\.json") as error:
        list(read_problems(tmp_path / "a.json"))
    assert "\n" not in str(error.value)


def test_system_turns_hold_what_a_task_cannot_do_without(tmp_path):
    (problem,) = read(tmp_path, ACTIONS)
    for choice in ("lic", "neutral", "Be brief.", None):
        assert "spotify.play" in opening_turn(choice, problem).text
    assert opening_turn("none", problem) is None
    assert opening_turn("Be brief.", problem).content == "Be brief."
    (problem,) = read(tmp_path, MATH)
    assert "math" in opening_turn("lic", problem).text
    assert opening_turn("Be brief.", problem).text == "Be brief."
    assert opening_turn(None, problem) is None
