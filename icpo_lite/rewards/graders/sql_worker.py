"""The process that runs SQL nobody has read: a data set's schema, a gold query, a reply's query.

It starts by this text and imports nothing of the package but `plain_values`. SQLite is told by an
authorizer what a statement may do; memory, time, rows and bytes are bounded; no file can be
written. One job after another comes on standard input, until that ends.
"""

from __future__ import annotations

import sqlite3
import sys
import time

from icpo_lite.rewards.graders import plain_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READING = {
    *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION),
    sqlite3.SQLITE_RECURSIVE,
}
#: What a schema may do: make tables, views, indices and triggers, and fill them.
_BUILDING = _READING | {
    *(sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_VIEW),
    *(sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_TABLE),
    *(sqlite3.SQLITE_CREATE_TEMP_INDEX, sqlite3.SQLITE_CREATE_TEMP_VIEW),
    *(sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_DROP_VIEW),
    *(sqlite3.SQLITE_DROP_TRIGGER, sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_REINDEX),
    *(sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE),
    *(sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_ANALYZE),
}
_REFUSED_FUNCTIONS = frozenset(
    {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
)
#: Settings that dumps of databases open with; all others are refused.
_SETTINGS = frozenset(
    [
        *("foreign_keys", "encoding", "user_version", "application_id", "case_sensitive_like"),
        *("synchronous", "journal_mode", "defer_foreign_keys", "recursive_triggers"),
        "ignore_check_constraints",
    ]
)
#: Virtual-machine steps between two looks at the clock.
_STEPS = 10_000
_MOST_ROWS = 100_000
_MOST_VALUE_BYTES = 16 << 20
_MOST_BYTES = plain_values.MOST_BYTES // 2
_HEAP_BYTES = 192 << 20


def connect(schema: str, path: str, seconds: float) -> sqlite3.Connection:
    """A database in memory, built by a schema; or the one in a file, which is only read.

    Raises sqlite3.Error where that fails or takes too long.
    """
    uri = path or ":memory:"
    database = sqlite3.connect(uri, uri=bool(path), isolation_level=None)
    limits = {
        sqlite3.SQLITE_LIMIT_LENGTH: _MOST_VALUE_BYTES,
        sqlite3.SQLITE_LIMIT_ATTACHED: 0,
        sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
    }
    for limit, most in limits.items():
        database.setlimit(limit, most)
    for setting in (f"hard_heap_limit = {_HEAP_BYTES}", "temp_store = 2", "trusted_schema = 0"):
        database.execute(f"PRAGMA {setting}")
    if schema:
        _bounded(database, seconds, _may_build, lambda: database.executescript(schema))
    return database


def run_query(database: sqlite3.Connection, query: str, seconds: float) -> list[tuple[Any, ...]]:
    """What a query returns; sqlite3.Error for one that is wrong, takes too much or writes."""
    return list(_bounded(database, seconds, _may_read, lambda: _rows(database, query)))


def _bounded(database: sqlite3.Connection, seconds: float, allowed: Any, work: Any) -> Any:
    deadline = time.monotonic() + seconds
    database.set_authorizer(allowed)
    database.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS)
    try:
        return work()
    finally:
        database.set_progress_handler(None, 0)
        database.set_authorizer(None)


def _rows(database: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    left = _MOST_BYTES
    for row in database.execute(query):
        rows.append(row)
        left -= sum(len(v) + 9 if isinstance(v, str | bytes) else 9 for v in row) + 9
        if left < 0 or len(rows) > _MOST_ROWS:
            raise sqlite3.OperationalError(f"more than {_MOST_ROWS} rows or {_MOST_BYTES} bytes")
    return rows


def _may_read(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    return _allow(action in _READING and not _refused_function(action, second))


def _may_build(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action == sqlite3.SQLITE_PRAGMA:
        return _allow((first or "").lower() in _SETTINGS)
    return _allow(action in _BUILDING and not _refused_function(action, second))


def _refused_function(action: int, name: str | None) -> bool:
    return action == sqlite3.SQLITE_FUNCTION and (name or "").lower() in _REFUSED_FUNCTIONS


def _allow(allowed: bool) -> int:
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def answers(schema: str, path: str, queries: list[str], seconds: float) -> Any:
    """("built", "") or ("error", why), then for each query ("rows", …) or ("error", why)."""
    try:
        database = connect(schema, path, seconds)
    except (sqlite3.Error, sqlite3.Warning, MemoryError, ValueError) as error:
        yield "error", f"{type(error).__name__}: {error}"
        return
    yield "built", ""
    for query in queries:
        try:
            yield "rows", run_query(database, query, seconds)
        except (sqlite3.Error, sqlite3.Warning, MemoryError, ValueError) as error:
            yield "error", f"{error}" or type(error).__name__
    database.close()


def limit_process(memory_bytes: int) -> None:
    """What SQLite does not bound itself, where the system can (not on Windows)."""
    try:
        import resource
    except ImportError:
        return
    bounds = {"RLIMIT_AS": memory_bytes, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    for name, most in bounds.items():
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (ValueError, OSError):  # macOS bounds no address space
            continue


def main() -> None:
    limit_process(int(sys.argv[-1]))
    given, back = sys.stdin.buffer, sys.stdout.buffer
    plain_values.send(back, plain_values.encode(("ready", "")))
    while True:
        try:
            job = plain_values.decode(plain_values.receive(given))
        except EOFError:
            return
        for answer in answers(*job):
            try:
                data = plain_values.encode(answer)
            except (plain_values.NotPlainError, MemoryError):
                data = plain_values.encode(("error", "more than can be told"))
            plain_values.send(back, data)
