"""Database: run the predicted and the gold query on SQLite and compare what they return.

The database is built in memory from the row's schema (SQL text) or read from a file that is
opened read-only. All SQL runs in a process of its own (`sql_worker`), bounded in memory, time and
bytes; the rows are compared here, as a multiset, in order when the gold query orders them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import plain_values

_FENCE = re.compile(r"```(?:sql\w*)?[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_QUERY = re.compile(r"\b(?:select|with)\b[^;]*", re.IGNORECASE)
#: For a worker to start, and beyond a query's own time for what SQLite does not interrupt.
_START_SECONDS = 60.0
_GRACE_SECONDS = 2.0
_MEMORY_BYTES = 768 << 20
_LONGEST_QUERY = 1 << 20
#: The worker's first lines: its modules come as text, since it is started without a search path.
_BOOT = r"""
import sys
def module(name, text):
    made = sys.modules[name] = type(sys)(name)
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules.get(parent) or module(parent, ""), last, made)
    exec(compile(text, name, "exec"), vars(made))
    return made
*names_and_texts, _ = sys.argv[1:]
for at in range(0, len(names_and_texts), 2):
    last = module(*names_and_texts[at : at + 2])
last.main()
"""


def extract_query(reply: str) -> str | None:
    """The last fenced query of a reply, or the last statement that starts with SELECT or WITH."""
    for block in reversed(_FENCE.findall(reply)):
        if match := _QUERY.search(block):
            return match[0].strip()
    found = _QUERY.findall(reply)
    return found[-1].strip() if found and "```" not in reply else None


def correct(query: str, gold: str, columns: Mapping[str, Any], seconds: float) -> bool:
    """Whether a query returns what the gold query returns.

    A predicted query that fails is wrong; a gold query that fails is a GraderError.
    """
    schema, path = _database(columns)
    if len(query) > _LONGEST_QUERY:
        return False
    with _WORKER.job(schema, path, [gold, query], seconds) as job:
        kind, told = job.answer(seconds)
        if kind != "built":
            raise GraderError(f"expected SQL in column schema, found {told}")
        kind, wanted = job.answer(seconds)
        if kind != "rows":
            raise GraderError(f"expected a gold query that runs, found {wanted}: {gold!r}")
        kind, given = job.answer(seconds)
    if kind != "rows":
        return False
    return same_rows(given, wanted, ordered=bool(re.search(r"\border\s+by\b", gold, re.I)))


def _database(columns: Mapping[str, Any]) -> tuple[str, str]:
    """(schema, path as SQLite's URI), one of them empty. Raises GraderError for neither."""
    if schema := columns.get("schema"):
        return str(schema), ""
    if path := columns.get("db_path"):
        file = Path(str(path))
        if not file.is_file():
            raise GraderError(f"expected a SQLite file in column db_path, found none at {file}")
        return "", f"{file.resolve().as_uri()}?mode=ro&immutable=1"
    raise GraderError("expected a column schema (SQL) or db_path (a SQLite file), found neither")


class _Worker:
    """One process for one job after another; started when needed, and anew after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    @contextlib.contextmanager
    def job(
        self, schema: str, path: str, queries: Sequence[str], seconds: float
    ) -> Iterator[_Worker]:
        """One database and its queries, whose answers the caller takes in order."""
        data = plain_values.encode([schema, path, list(queries), seconds])
        if len(data) > plain_values.MOST_BYTES:
            raise GraderError(
                f"expected a schema of at most {plain_values.MOST_BYTES} bytes, found {len(data)}; "
                "give the database as a file in column db_path"
            )
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            whole = False
            try:
                plain_values.send(process.stdin, data)
                yield self
                whole = True
            except BrokenPipeError:
                raise GraderError("expected the SQL process to take a job, it has ended") from None
            finally:
                if not whole:  # answers are left over that no later job may take
                    self.close()

    def answer(self, seconds: float) -> tuple[str, Any]:
        """The next answer; ("error", why) where the process is late or has ended."""
        try:
            kind, told = plain_values.decode(self._bytes(seconds + _GRACE_SECONDS))
        except TimeoutError:
            self.close()
            return "error", f"no end within {seconds:g} s"
        except (EOFError, ValueError, TypeError, plain_values.NotPlainError):
            self.close()
            return "error", "more memory or time than a query may use"
        return str(kind), told

    def _bytes(self, seconds: float) -> bytes:
        if self._process is None or self._process.stdout is None:
            raise EOFError
        deadline = time.monotonic() + seconds
        source = self._process.stdout.fileno()
        size = int.from_bytes(_read(source, 8, deadline), "big")
        if size > plain_values.MOST_BYTES:
            raise EOFError
        return _read(source, size, deadline)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        package = __name__.rpartition(".")[0]
        folder = Path(__file__).parent
        modules = [
            word
            for name in ("plain_values", "sql_worker")
            for word in (f"{package}.{name}", (folder / f"{name}.py").read_text(encoding="utf-8"))
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _BOOT, *modules, str(_MEMORY_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath},
            cwd="/" if os.name == "posix" else None,
        )
        if self.answer(_START_SECONDS)[0] != "ready":
            raise GraderError("expected the process for SQL to start, it has ended")
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            self._process = None


def _read(source: int, count: int, deadline: float) -> bytes:
    poll, data = select.poll(), bytearray()
    poll.register(source, select.POLLIN)
    while len(data) < count:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        part = os.read(source, count - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


_WORKER = _Worker()


def same_rows(
    given: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]], *, ordered: bool
) -> bool:
    """Equal rows; 2 = 2.0, and floats to nine digits."""
    mine, theirs = [_row(r) for r in given], [_row(r) for r in wanted]
    return mine == theirs if ordered else Counter(mine) == Counter(theirs)


def _row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(float(f"{v:.9g}") if isinstance(v, int | float) else v for v in row)
