"""Graders of actions, databases and code, and the sandbox that code runs in."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import actions, code, sandbox, sql_worker
from icpo_lite.rewards.grading import GradingOptions, grade

# ------------------------------------------------------------------------------------- actions

GOLD = [
    {"spotify.play": {"artist": ["Taylor Swift"], "duration": [20]}},
    {"spotify.play": {"artist": ["Maroon 5"], "duration": [15, "15"]}},
]


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("[spotify.play(artist='Taylor Swift', duration=20), "
         "spotify.play(artist='Maroon 5', duration=15)]", True),
        ("[spotify.play(artist='Maroon 5', duration=15), "
         "spotify.play(artist='Taylor Swift', duration=20)]", True),
        ("[spotify.play(artist='taylor-swift', duration=20), "
         "spotify.play(artist='MAROON_5', duration='15')]", True),
        ("```python\n[spotify.play(artist='Maroon 5', duration=15), "
         "spotify.play(artist='Taylor Swift', duration=20)]\n```", True),
        ("Here you are: spotify.play('Taylor Swift', 20) and spotify.play('Maroon 5', 15).", True),
        ("[spotify.play(artist='Taylor Swift', duration=20)]", False),
        ("[spotify.play(artist='Taylor Swift', duration=20), "
         "spotify.play(artist='Taylor Swift', duration=20)]", False),
        ("[spotify.play(artist='Taylor Swift', duration=20.0), "
         "spotify.play(artist='Maroon 5', duration=15)]", False),
        ("[spotify.play(artist='Taylor Swift', duration=20, loud=True), "
         "spotify.play(artist='Maroon 5', duration=15)]", False),
        ("[play(artist='Taylor Swift', duration=20), play(artist='Maroon 5', duration=15)]", False),
        ("No call at all.", False),
        ("[spotify.play(artist='Taylor", False),
    ],
)  # fmt: skip
def test_calls_in_any_order_with_bfcls_tolerance(reply: str, right: bool) -> None:
    assert grade("actions", reply, GOLD).correct is right


@pytest.mark.parametrize(
    ("given", "allowed", "right"),
    [
        ("f(x=3)", {"x": [3.0]}, True),  # an int stands for a float
        ("f(x=3.0)", {"x": [3]}, False),
        ("f(x=True)", {"x": [1]}, False),
        ("f(x=true)", {"x": [True]}, True),
        ("f()", {"x": ["", 3]}, True),  # "" marks an optional argument
        ("f()", {"x": [3]}, False),
        ("f(x=['a', 'B'])", {"x": [["A", "b"]]}, True),
        ("f(x=['b', 'a'])", {"x": [["a", "b"]]}, False),
        ("f(x={'city': 'Bonn'})", {"x": [{"city": ["Bonn", "Berlin"]}]}, True),
        ("f(x={'city': 'Rome'})", {"x": [{"city": ["Bonn", "Berlin"]}]}, False),
        ("f(x=(1, 2))", {"x": [[1, 2]]}, True),
    ],
)
def test_values(given: str, allowed: dict[str, list[object]], right: bool) -> None:
    calls = actions.parse_calls(given)
    assert calls is not None
    assert actions.correct(calls, [("f", allowed)]) is right


def test_calls_that_fit_several_are_matched_one_to_one() -> None:
    """f(1) fits both allowed calls, f(2) only the first: greedy matching would fail."""
    allowed = [("f", {"x": [1, 2]}), ("f", {"x": [1]})]
    assert actions.correct([("f", {"x": 1}), ("f", {"x": 2})], allowed)
    assert not actions.correct([("f", {"x": 2}), ("f", {"x": 2})], allowed)


def test_parsing_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "x"
    grade("actions", f"[f(x=open({str(target)!r}, 'w'))]", GOLD)
    assert not target.exists()


def test_gold_calls_may_be_a_string_and_nonsense_is_an_error() -> None:
    assert grade("actions", "[f(x=1)]", "[f(x=1)]").correct
    assert grade("actions", "[f(x=1)]", '[{"f": {"x": [1]}}]').correct
    with pytest.raises(GraderError, match=r"a\.jsonl:2: expected the gold calls"):
        grade("actions", "[f(x=1)]", 7, row="a.jsonl:2")


def test_deep_nesting_is_no_crash() -> None:
    assert not grade("actions", "[f(x=" + "(" * 5000 + ")" * 5000 + ")]", GOLD).correct
    start = time.process_time()
    grade("actions", "f(" * 20000, GOLD)
    assert time.process_time() - start < 10


# ------------------------------------------------------------------------------------ database

SCHEMA = {
    "schema": "CREATE TABLE t(name TEXT, n REAL);INSERT INTO t VALUES ('a', 1), ('b', 2), ('b', 2);"
}


@pytest.mark.parametrize(
    ("query", "gold", "right"),
    [
        ("SELECT name FROM t", "SELECT t.name FROM t ORDER BY 1 DESC", False),
        ("SELECT name FROM t ORDER BY name DESC", "SELECT t.name FROM t ORDER BY 1 DESC", True),
        ("SELECT name FROM t ORDER BY name DESC", "SELECT name FROM t", True),
        ("SELECT DISTINCT name FROM t", "SELECT name FROM t", False),
        ("SELECT 1", "SELECT 1.0", True),
        ("SELECT no_such FROM t", "SELECT name FROM t", False),
        ("WITH x AS (SELECT name FROM t) SELECT name FROM x", "SELECT name FROM t", True),
    ],
)
def test_execution_match(query: str, gold: str, right: bool) -> None:
    assert grade("database", f"```sql\n{query};\n```", gold, SCHEMA).correct is right


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE t",
        "DELETE FROM t",
        "INSERT INTO t VALUES ('c', 3)",
        "PRAGMA writable_schema = 1",
        "ATTACH DATABASE '/tmp/x.db' AS y",
        "SELECT load_extension('x')",
    ],
)
def test_queries_may_only_read(query: str) -> None:
    with sql_worker.connect(SCHEMA["schema"], "", 1.0) as database, pytest.raises(sqlite3.Error):
        sql_worker.run_query(database, query, 1.0)


def test_an_endless_query_is_stopped() -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
    start = time.monotonic()
    options = GradingOptions(query_seconds=0.3)
    assert not grade("database", endless, "SELECT 1", SCHEMA, options).correct
    assert time.monotonic() - start < 5


def test_a_database_file_is_opened_read_only(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA["schema"])
    columns = {"db_path": str(path)}
    assert grade("database", "SELECT count(*) FROM t;", "SELECT 3", columns).correct
    with pytest.raises(GraderError, match="expected a SQLite file"):
        grade("database", "SELECT 1;", "SELECT 1", {"db_path": str(tmp_path / "no")})


def test_a_gold_query_that_fails_is_an_error() -> None:
    with pytest.raises(GraderError, match="expected a gold query that runs"):
        grade("database", "SELECT 1;", "SELECT no_such", SCHEMA)


# ---------------------------------------------------------------------------------------- code

needs_isolation = pytest.mark.skipif(
    bool(sandbox.why_not()), reason=f"no isolation here: {sandbox.why_not()}"
)
RUN = GradingOptions(allow_code_execution=True, code_seconds=5.0)
TESTS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0"


def test_code_is_off_unless_the_recipe_agrees() -> None:
    with pytest.raises(GraderError, match="allow_code_execution: true"):
        grade("code", "```python\npass\n```", "assert True")


@needs_isolation
@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("def add(a, b):\n    return a + b", True),
        ("def add(a, b):\n    return a - b", False),
        ("def add(a, b)\n    return a + b", False),
        ("import os\nos._exit(0)", False),
        ("raise SystemExit(0)", False),
        ("def add(a, b):\n    while True: pass", False),
    ],
)
def test_the_last_fenced_block_is_run_against_the_tests(code: str, right: bool) -> None:
    options = RUN.model_copy(update={"code_seconds": 1.5 if "while" in code else 60.0})
    reply = f"First:\n```python\nraise ValueError\n```\nBetter:\n```python\n{code}\n```"
    assert grade("code", reply, TESTS, options=options).correct is right


@needs_isolation
def test_kinds_of_tests() -> None:
    reply = "```python\ndef add(a, b):\n    return a + b\n```"
    check = "def check(candidate):\n    assert candidate(1, 1) == 2"
    assert grade("code", reply, check, {"entry_point": "add"}, RUN).correct
    assert grade("code", reply, [{"input": [1, 2], "output": 3}], {"fn_name": "add"}, RUN).correct
    assert not grade(
        "code", reply, [{"input": [1, 2], "output": 4}], {"fn_name": "add"}, RUN
    ).correct
    echo = "```python\nprint(int(input()) + 1)\n```"
    assert grade("code", echo, '[{"input": "3\\n", "output": "4\\n"}]', {}, RUN).correct
    assert not grade("code", echo, {"inputs": ["3\n"], "outputs": ["5"]}, {}, RUN).correct
    with pytest.raises(GraderError, match="expected the tests"):
        grade("code", reply, [], {}, RUN)


def test_code_without_a_fence() -> None:
    assert code.extract_code("Sure:\ndef f():\n    pass") == "def f():\n    pass"
    assert code.extract_code("I would rather not.") is None


@needs_isolation
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import socket\nsocket.create_connection(('192.0.2.1', 80), 1)", "not permitted"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 22), 1)", "not permitted"),
        ("open('/etc/x', 'w')", "No such file"),
        ("open('/x', 'w')", "Read-only"),
        ("import os\nos.listdir('/home')", "No such file"),
        ("x = 'a' * 10**9", "MemoryError"),
        ("open('big', 'w').write('x' * 10**8)", "File too large"),
        ("while True: print('x' * 1000)", "bytes of output"),
        ("while True: pass", "no end within"),
        ("import os\nwhile True: os.fork()", ""),
        ("import os\nos.setuid(0)", "permitted"),
        ("raise KeyError('k')", "KeyError"),
    ],
)
def test_what_a_program_may_not_do(program: str, reason: str) -> None:
    # What ends by itself may take its time on a busy machine.
    seconds = 1.5 if "while" in program else 60.0
    outcome = sandbox.run(program, sandbox.Limits(seconds=seconds, memory_mb=256))
    assert not outcome.finished
    assert reason in outcome.reason


@needs_isolation
def test_it_starts_in_an_empty_directory_with_nothing_of_ours() -> None:
    os.environ["ICPO_LITE_TEST_SECRET"] = "s3cret"
    program = (
        "import os\nassert os.listdir('.') == []\nopen('a', 'w').write('x')\n"
        "assert 's3cret' not in str(os.environ)\nprint(input())"
    )
    outcome = sandbox.run(program, stdin="hello\n")
    assert outcome.finished, outcome.reason
    assert outcome.output.strip() == "hello"
    del os.environ["ICPO_LITE_TEST_SECRET"]


@needs_isolation
def test_children_are_killed_with_their_parent() -> None:
    """A child that has left its session and group is gone too: its mark is in no process."""
    mark = "icpo-lite-orphan-7261"
    program = f"""
import os, sys, time
child = os.fork()
if child == 0:
    os.setsid()
    code = "import time; print('{mark}', flush=True); time.sleep(99)"
    os.execv(sys.executable, [sys.executable, "-S", "-c", code])
time.sleep(WAIT)
"""
    for wait in (True, False):
        source = program.replace("WAIT", "99" if wait else "3")
        outcome = sandbox.run(source, sandbox.Limits(seconds=6.0 if wait else 60.0))
        assert outcome.finished is not wait
        assert mark in outcome.output, "the child had not started"
        time.sleep(0.1)
        assert mark not in _all_command_lines()


def _all_command_lines() -> str:
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # ended meanwhile
            continue
    return "\n".join(lines)


def test_without_isolation_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "why_not", lambda: "no namespaces")
    with pytest.raises(GraderError, match=r"row 3: expected a system that can isolate"):
        grade("code", "```python\npass\n```", "assert True", options=RUN, row="row 3")


def test_a_grader_that_crashes_names_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr("icpo_lite.rewards.grading.GRADERS", {"math": broken})
    with pytest.raises(GraderError, match=r"corpus\.jsonl:9: the math grader failed: ZeroDiv"):
        grade("math", "7", "7", row="corpus.jsonl:9")
