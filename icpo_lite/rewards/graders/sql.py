"""Database: run the predicted and the gold query on SQLite and compare what they return.

The database is built in memory from the row's schema (SQL text) or read from a file that is
opened read-only. Queries run under an authorizer that allows reading alone, and are stopped after
a time. Rows compare as a multiset, in order when the gold query orders them.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import GraderError

_FENCE = re.compile(r"```(?:sql\w*)?[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_QUERY = re.compile(r"\b(?:select|with)\b[^;]*", re.IGNORECASE)
_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_LARGE = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})
#: Virtual-machine steps between two looks at the clock.
_STEPS = 10_000
_MOST_ROWS = 100_000


def extract_query(reply: str) -> str | None:
    """The last fenced query of a reply, or the last statement that starts with SELECT or WITH."""
    for block in reversed(_FENCE.findall(reply)):
        if match := _QUERY.search(block):
            return match[0].strip()
    found = _QUERY.findall(reply)
    return found[-1].strip() if found and "```" not in reply else None


def connect(columns: Mapping[str, Any]) -> sqlite3.Connection:
    """The row's database: `schema` (SQL that builds it) or `db_path` (a file, opened read-only).

    Raises GraderError where there is neither, or where building it fails.
    """
    if schema := columns.get("schema"):
        database = sqlite3.connect(":memory:")
        try:
            database.executescript(str(schema))
        except sqlite3.Error as error:
            raise GraderError(f"expected SQL in column schema, found {error}") from error
        return database
    if path := columns.get("db_path"):
        file = Path(str(path))
        if not file.is_file():
            raise GraderError(f"expected a SQLite file in column db_path, found none at {file}")
        return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    raise GraderError("expected a column schema (SQL) or db_path (a SQLite file), found neither")


def _only_read(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    allowed = action in _READING
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _LARGE:
        allowed = False
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def run_query(database: sqlite3.Connection, query: str, seconds: float) -> list[tuple[Any, ...]]:
    """What a query returns; sqlite3.Error for one that is wrong, takes too long or writes."""
    deadline = time.monotonic() + seconds
    database.set_authorizer(_only_read)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 16 << 20)
    database.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS)
    try:
        rows = database.execute(query).fetchmany(_MOST_ROWS + 1)
    finally:
        database.set_progress_handler(None, 0)
        database.set_authorizer(None)
    if len(rows) > _MOST_ROWS:
        raise sqlite3.OperationalError(f"more than {_MOST_ROWS} rows")
    return rows


def correct(query: str, gold: str, columns: Mapping[str, Any], seconds: float) -> bool:
    """Whether a query returns what the gold query returns.

    A predicted query that fails is wrong; a gold query that fails is a GraderError.
    """
    database = connect(columns)
    try:
        try:
            wanted = run_query(database, gold, seconds)
        except sqlite3.Error as error:
            raise GraderError(
                f"expected a gold query that runs, found {error}: {gold!r}"
            ) from error
        try:
            given = run_query(database, query, seconds)
        except (sqlite3.Error, sqlite3.Warning):
            return False
    finally:
        database.close()
    return same_rows(given, wanted, ordered=bool(re.search(r"\border\s+by\b", gold, re.I)))


def same_rows(
    given: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]], *, ordered: bool
) -> bool:
    """Equal rows; 2 = 2.0, and floats to nine digits."""
    mine, theirs = [_row(r) for r in given], [_row(r) for r in wanted]
    return mine == theirs if ordered else Counter(mine) == Counter(theirs)


def _row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(float(f"{v:.9g}") if isinstance(v, int | float) else v for v in row)
