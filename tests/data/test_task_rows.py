"""Rows of code, calls and queries in the shapes of corpora, from the file to the grade."""

import json
import sqlite3
from pathlib import Path

import pytest
from task_cases import action_rows, human_eval_rows, mbpp_rows, spider_rows, write_rows

from icpo_lite.core.errors import DataError, GraderError
from icpo_lite.data.sources import read_problems
from icpo_lite.rewards.graders import sandbox
from icpo_lite.rewards.graders.reply_code import extract_code
from icpo_lite.rewards.graders.row_tests import called_function, read_tests
from icpo_lite.rewards.grading import GradingOptions, grade

needs_isolation = pytest.mark.skipif(
    bool(sandbox.why_not()), reason=f"no isolation here: {sandbox.why_not()}"
)
RUN = GradingOptions(allow_code_execution=True, code_seconds=20.0)
HUMAN_EVAL = Path(__file__).parents[3] / "shared" / "data" / "humaneval.jsonl"


def read(folder, row, **more):
    (problem,) = read_problems(write_rows(folder / "rows.jsonl", [row]), **more)
    return problem


def right(problem, reply):
    return grade(problem.task, reply, problem.answer, problem.columns, RUN).correct


# -------------------------------------------------------------------------------------------- code

ADD = "def add(a, b):\n    return a + b"
ADD_WRONG = "def add(a, b):\n    return a - b"
ECHO = "n = int(input())\nprint(n + 1)"
#: Rows that ask for the same function, each as another corpus has it.
SHAPES = {
    "mbpp": {"text": "Add two numbers.", "code": ADD, "test_list": ["assert add(2, 3) == 5"]},
    "mbpp, sanitized": {
        "prompt": "Add two numbers.",
        "code": ADD,
        "test_imports": ["import math"],
        "test_list": ["assert math.isclose(add(2, 3), 5)", "assert add(1, 1) == 2"],
    },
    "mbpp, with setup": {
        "text": "Add two numbers.",
        "code": ADD,
        "test_setup_code": "FIVE = 5",
        "test_list": ["assert add(2, 3) == FIVE"],
    },
    "human_eval": {
        "prompt": 'def add(a, b):\n    """Add two numbers."""\n',
        "canonical_solution": "    return a + b\n",
        "entry_point": "add",
        "test": "def check(candidate):\n    assert candidate(2, 3) == 5",
    },
    "one script": {"question": "Add.", "solution": ADD, "tests": "assert add(2, 3) == 5"},
    "test functions": {
        "question": "Add.",
        "solution": ADD,
        "tests": "def test_small():\n    assert add(2, 3) == 5",
    },
    "unittest": {
        "question": "Add.",
        "solution": ADD,
        "entry_point": "add",
        "tests": "import unittest\nclass Tests(unittest.TestCase):\n"
        "    def test_small(self):\n        self.assertEqual(add(2, 3), 5)",
    },
    "pairs of a function": {
        "question": "Add.",
        "solution": ADD,
        "fn_name": "add",
        "tests": [{"input": [2, 3], "output": 5}],
    },
    "input_output": {
        "question": "Add.",
        "solutions": json.dumps([ADD]),
        "input_output": json.dumps({"fn_name": "add", "inputs": [[2, 3]], "outputs": [5]}),
    },
}
PROGRAMS = {
    "pairs": {"question": "Add 1.", "tests": [{"input": "3\n", "output": "4\n"}]},
    "input_output": {
        "question": "Add 1.",
        "input_output": json.dumps({"inputs": ["3\n", "-1\n"], "outputs": ["4", "0"]}),
    },
    "lines": {"question": "Add 1.", "tests": {"inputs": [["3"]], "outputs": [["4"]]}},
}


@needs_isolation
@pytest.mark.parametrize("shape", SHAPES)
def test_a_function_is_graded_in_every_shape_of_row(tmp_path, shape):
    problem = read(tmp_path, SHAPES[shape], task="code")
    assert right(problem, f"```python\n{ADD}\n```")
    assert not right(problem, f"```python\n{ADD_WRONG}\n```")
    assert not right(problem, "```python\ndef other(a, b):\n    return a + b\n```")
    if "Solution" not in shape and ("pairs" in shape or "input" in shape):
        method = "class Solution:\n    def add(self, a, b):\n        return a + b"
        assert right(problem, f"```python\n{method}\n```")


@needs_isolation
@pytest.mark.parametrize("shape", PROGRAMS)
def test_a_program_is_graded_over_standard_streams(tmp_path, shape):
    problem = read(tmp_path, PROGRAMS[shape], task="code")
    assert right(problem, f"```python\n{ECHO}\n```")
    assert not right(problem, f"```python\n{ECHO.replace('+ 1', '+ 2')}\n```")


@pytest.mark.parametrize("row", [mbpp_rows()[0], human_eval_rows()[0], *SHAPES.values()])
def test_code_rows_are_told_by_their_columns(tmp_path, row):
    assert read(tmp_path, row).task == "code"


def test_a_function_is_named_where_its_tests_know_its_name(tmp_path):
    problem = read(tmp_path, mbpp_rows()[0])
    assert problem.question.endswith("divisible by 3.\nName the function `count_0(numbers)`.")
    named = {**mbpp_rows()[0], "text": "Write count_0, which counts."}
    assert read(tmp_path, named).question == "Write count_0, which counts."
    assert read(tmp_path, human_eval_rows()[0]).question == human_eval_rows()[0]["prompt"].strip()


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("x = 1", "tests that try something"),
        ("def helper():\n    assert False", "tests that try something"),
        ("def check(candidate):\n    assert candidate(1)", "add a column entry_point"),
        ("assert f(1) ==", "tests in Python"),
        ({"inputs": ["1"], "outputs": []}, "as many outputs as inputs"),
        ([{"input": "1"}], "a test with input and output"),
        ([], "the tests of a code row"),
    ],
)
def test_tests_that_test_nothing_are_an_error(tests, message):
    with pytest.raises(GraderError, match=message):
        read_tests(tests, {})


def test_the_function_under_test_is_what_all_asserts_call():
    assert called_function(["assert set(near((3, 4))) == {3}", "assert near([]) == []"]) == "near"
    assert called_function(["assert f(1) == g(1)"]) == ""


BODY = "    total = 0\n    for x in xs:\n        total += x\n    return total"
PROMPT = 'import math\n\n\ndef total(xs):\n    """Add them up."""\n'
WHOLE = PROMPT + BODY
REPLIES = {
    "body": BODY,
    "body, its first indentation lost": BODY.strip(),
    "body at the margin": "total = 0\nfor x in xs:\n    total += x\nreturn total",
    "body, fenced": f"```python\n{BODY}\n```",
    "body, fenced, stripped": f"```\n{BODY.strip()}\n```",
    "body in prose": f"The body is:\n\n{BODY}\n\nIt adds all of them.",
    "whole": WHOLE,
    "function": f"def total(xs):\n{BODY}",
    "function in prose": f"Here it is:\n\ndef total(xs):\n{BODY}\n\nThat is all. Done!",
    "fenced": f"```python\ndef total(xs):\n{BODY}\n```",
    "fenced, unclosed": f"```python\ndef total(xs):\n{BODY}",
    "fenced with tildes": f"~~~python\ndef total(xs):\n{BODY}\n~~~",
    "fenced in a list": "1. So:\n\n   ```python\n   def total(xs):\n       return sum(xs)\n   ```",
    "with an example": f"```python\ndef total(xs):\n{BODY}\n```\nUse:\n```python\ntotal([1])\n```",
    "with its output": f"```python\ndef total(xs):\n{BODY}\n```\nIt prints\n```\n6\n```",
    "better later": "```python\ndef total(xs):\n    return 0\n```\nNo:\n```python\n"
    f"def total(xs):\n{BODY}\n```",
    "a helper before": "```python\ndef add(a, b):\n    return a + b\n```\nthen\n```python\n"
    "def total(xs):\n    t = 0\n    for x in xs:\n        t = add(t, x)\n    return t\n```",
    "tags": f"[PYTHON]\ndef total(xs):\n{BODY}\n[/PYTHON]",
    "windows": f"```python\r\ndef total(xs):\r\n{BODY}\r\n```".replace("\n", "\r\n"),
    "behind a thought": f"<think>def total(xs): return 1</think>\ndef total(xs):\n{BODY}",
    "behind a lone end of thought": f"def total(xs):\n    return 1\n</think>\n{BODY}",
    "a lambda": "```python\ntotal = lambda xs: sum(xs)\n```",
}


@pytest.mark.parametrize("name", REPLIES)
def test_the_program_of_a_reply(name):
    program = extract_code(REPLIES[name], entry_point="total", prompt=PROMPT)
    scope = {}
    exec(program, scope)
    assert scope["total"]([1, 2, 3]) == 6


@pytest.mark.parametrize("reply", ["I would rather not.", "", "Which list do you mean?", "None"])
def test_words_are_no_program(reply):
    assert extract_code(reply, entry_point="total", prompt=PROMPT) is None


@needs_isolation
@pytest.mark.skipif(not HUMAN_EVAL.is_file(), reason="HumanEval is not here")
def test_published_solutions_are_right_whole_and_as_bodies():
    """Every eighth row; `tests/claims/tasks.py` grades all of them."""
    for problem in list(read_problems(HUMAN_EVAL))[::8]:
        assert right(problem, problem.solution), problem.problem_id
        assert right(problem, f"```python\n{problem.answer['prompt']}\n{problem.solution}```")
        assert not right(problem, "    return NotImplemented\n")


@pytest.mark.parametrize("piece", ["def f(", "```\n", "    ", "import a\n", "(", "def a():\n", "#"])
def test_no_code_reply_takes_long(piece):
    import time

    reply = piece * (100_000 // len(piece))
    started = time.process_time()
    extract_code(reply, entry_point="total", prompt=PROMPT)
    assert time.process_time() - started < 0.2  # 0.05 where nothing else runs


# ----------------------------------------------------------------------------------------- actions


@pytest.mark.parametrize(
    "calls",
    [
        [{"f": {"x": [1]}}],
        json.dumps([{"f": {"x": [1]}}]),
        {"f": {"x": [1]}},
        [{"name": "f", "arguments": {"x": 1}}],
        json.dumps([{"name": "f", "arguments": {"x": 1}}]),
        ["f(x=1)"],
        "[f(x=1)]",
    ],
)
def test_gold_calls_in_every_shape_of_row(tmp_path, calls):
    row = {"question": "Call f with 1.", "functions": json.dumps([{"name": "f"}])}
    problem = read(tmp_path, {**row, "possible_answer": calls})
    assert problem.task == "actions"
    assert problem.columns["functions"] == [{"name": "f"}]
    assert right(problem, "f(x=1)")
    assert not right(problem, "f(x=2)")


def test_calls_of_several_turns_are_refused(tmp_path):
    row = {**action_rows()[0], "ground_truth": [["f(x=1)"], ["g()"]]}
    with pytest.raises(DataError, match="expected the calls of one turn, found those of 2 turns"):
        read(tmp_path, row)


# ---------------------------------------------------------------------------------------- database


def test_a_schema_is_shown_without_the_rows_that_fill_it(tmp_path):
    problem = read(tmp_path, spider_rows()[0])
    assert problem.task == "database"
    assert problem.columns["schema_text"] == (
        "CREATE TABLE singer (name TEXT, country TEXT, age INTEGER);"
    )
    assert right(problem, "```sql\nSELECT count(*) FROM singer WHERE country = 'France'\n```")
    assert not right(problem, "```sql\nSELECT count(*) FROM singer\n```")


@pytest.mark.parametrize(
    "place",
    [
        "database/shop/shop.sqlite",
        "spider/databases/shop/shop.sqlite",
        "train_databases/shop/shop.sqlite",
        "dev_databases/shop/shop.sqlite",
        "shop.db",
    ],
)
@pytest.mark.parametrize("query", ["query", "SQL"])
def test_a_database_is_found_by_its_id(tmp_path, place, query):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(tmp_path / place) as database:
        database.executescript("CREATE TABLE t (x INT); INSERT INTO t VALUES (1), (2);")
    row = {"question": "How many?", query: "SELECT count(*) FROM t", "db_id": "shop"}
    problem = read(tmp_path, row)
    assert problem.task == "database"
    assert problem.columns["schema_text"] == "CREATE TABLE t (x INT);"
    assert right(problem, "```sql\nSELECT 2\n```")
    assert not right(problem, "```sql\nSELECT 3\n```")


def test_a_path_is_taken_from_the_folder_of_the_rows(tmp_path):
    with sqlite3.connect(tmp_path / "a.sqlite") as database:
        database.executescript("CREATE TABLE t (x INT); INSERT INTO t VALUES (1);")
    row = {"question": "How many?", "query": "SELECT count(*) FROM t", "db_path": "a.sqlite"}
    assert right(read(tmp_path, row), "```sql\nSELECT 1\n```")
