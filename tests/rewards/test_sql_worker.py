"""SQL of data sets and of replies: what it may do, what it may use, and whose files it sees."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path

import pytest

from icpo_lite.core.errors import DataError, GraderError
from icpo_lite.core.paths import inside
from icpo_lite.data.sources import read_problems
from icpo_lite.rewards.graders import sql

SCHEMA = {"schema": "CREATE TABLE t(name TEXT, n INT); INSERT INTO t VALUES ('a', 1), ('b', 2);"}
MANY = "t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l, t m, t n, t o, t p, t q, t r"


@pytest.mark.parametrize(
    "schema",
    [
        "ATTACH '{folder}/a.db' AS y; CREATE TABLE y.t(a);",
        "CREATE TABLE t(a); VACUUM INTO '{folder}/b.db';",
        "VACUUM;",
        "PRAGMA writable_schema = 1;",
        "PRAGMA temp_store_directory = '{folder}';",
        "PRAGMA data_store_directory = '{folder}';",
        "SELECT load_extension('{folder}/x');",
        "SELECT writefile('{folder}/c', 'x');",
        "CREATE TABLE t(a); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT load_extension('x'); "
        "END; INSERT INTO t VALUES (1);",
        "CREATE VIRTUAL TABLE v USING csv(filename='/etc/passwd');",
        "CREATE VIRTUAL TABLE v USING dbstat;",
    ],
)
def test_a_schema_may_build_tables_alone(schema: str, tmp_path: Path) -> None:
    columns = {"schema": schema.format(folder=tmp_path)}
    with pytest.raises(GraderError, match="expected SQL in column schema, found"):
        sql.correct("SELECT 1", "SELECT 1", columns, 2.0)
    assert list(tmp_path.iterdir()) == []


def test_a_usual_dump_builds() -> None:
    dump = (
        "PRAGMA foreign_keys=OFF; BEGIN TRANSACTION; CREATE TABLE t(a INTEGER PRIMARY KEY, b); "
        "INSERT INTO t VALUES (1, 'x'); CREATE INDEX i ON t(b); CREATE VIEW v AS SELECT b FROM t; "
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET b = upper(b); END; COMMIT;"
        "ALTER TABLE t ADD COLUMN c; DELETE FROM t WHERE a = 9;"
    )
    assert sql.correct("SELECT b FROM v", "SELECT 'x'", {"schema": dump}, 5.0)


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT count(*) FROM {MANY}, {MANY.replace('t ', 't x')}",
        "SELECT printf('%.*c', 1000000000, 'x')",
        "SELECT replace(hex(zeroblob(7000000)), '0', 'aaaaaaaaaaaa')",
        f"SELECT zeroblob(9000000) FROM {MANY}",
        f"SELECT randomblob(1000) x FROM {MANY} ORDER BY x",
        f"SELECT 1 FROM {MANY}",
        "SELECT '\ud800'",
        "SELECT n FROM t\0",
        "SELECT 1; SELECT 2",
        f"SELECT '{'x' * (17 << 20)}'",
        "ATTACH ':memory:' AS y",
    ],
    ids=lambda query: query[:30],
)
def test_a_query_is_bounded_and_the_next_one_is_answered(query: str) -> None:
    start = time.monotonic()
    assert not sql.correct(query, "SELECT n FROM t", SCHEMA, 1.0)
    assert time.monotonic() - start < 20
    assert sql.correct("SELECT n FROM t", "SELECT n FROM t", SCHEMA, 30.0)


def test_a_schema_without_end_is_bounded() -> None:
    endless = (
        "CREATE TABLE t(a); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
        "INSERT INTO t SELECT x FROM c;"
    )
    with pytest.raises(GraderError, match="expected SQL in column schema"):
        sql.correct("SELECT 1", "SELECT 1", {"schema": endless}, 1.0)


def test_a_worker_that_is_killed_is_replaced() -> None:
    assert sql.correct("SELECT 1", "SELECT 1", SCHEMA, 30.0)
    process = sql._WORKER._process
    assert process is not None
    process.kill()
    process.wait()
    assert sql.correct("SELECT 1", "SELECT 1", SCHEMA, 30.0)
    assert sql._WORKER._process is not process


def test_values_of_every_type_compare() -> None:
    query = "SELECT 1, 1.5, 'ü', NULL, x'00ff', 9e999"
    assert sql.correct(query, query, SCHEMA, 30.0)
    assert not sql.correct("SELECT x'00'", "SELECT x'01'", SCHEMA, 30.0)


# ------------------------------------------------------------------------------------------ paths


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "db").mkdir(parents=True)
    for file in (folder / "db" / "own.sqlite", tmp_path / "other.sqlite"):
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE t(a)")
    (folder / "link.sqlite").symlink_to(tmp_path / "other.sqlite")
    (folder / "up").symlink_to(tmp_path)
    (folder / "near.sqlite").symlink_to("db/own.sqlite")
    return folder


def test_what_lies_in_a_folder(data: Path) -> None:
    own = (data / "db" / "own.sqlite").resolve()
    assert inside(data, "db/own.sqlite") == inside(data, own) == inside(data, "near.sqlite") == own
    assert inside(data, "db/../db/own.sqlite") == own
    for other in ("../other.sqlite", "link.sqlite", "up/other.sqlite", "/etc/passwd", "~/x", "a\0"):
        assert inside(data, other) is None


@pytest.mark.parametrize("given", ["../other.sqlite", "link.sqlite", "up/other.sqlite", "{abs}"])
def test_a_database_outside_the_data_is_a_bad_row(data: Path, given: str) -> None:
    given = given.format(abs=data.parent / "other.sqlite")
    row = {"question": "How many?", "query": "SELECT count(*) FROM t", "db_path": given}
    (data / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="a db_path in the folder of the data"):
        list(read_problems(data / "rows.jsonl", task="database"))


def test_a_database_of_the_data_is_found_from_anywhere(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = {"question": "How many?", "query": "SELECT 1", "db_path": "db/own.sqlite"}
    (data / "rows.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    (problem,) = read_problems(data / "rows.jsonl", task="database")
    assert problem.columns["db_path"] == os.path.realpath(data / "db" / "own.sqlite")
    assert sql.correct("SELECT count(*) FROM t", "SELECT 0", problem.columns, 30.0)


def test_the_name_of_a_lic_database_leads_nowhere_else(data: Path) -> None:
    row = {
        "task_id": "x", "task": "database", "db_id": "../../../other",
        "question": "How many?", "reference_sql": "SELECT 1",
        "shards": [{"shard_id": 1, "shard": "How many?"}],
    }  # fmt: skip
    (data / "spider" / "databases").mkdir(parents=True)
    (data / "spider" / "databases" / ".." / "other.sqlite").write_bytes(b"")
    (data / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError):
        list(read_problems(data / "rows.jsonl"))
