"""Rows of code, function calls and database questions → what their graders and prompts need.

    code      `Problem.answer` is {"tests": sources or [{"input", "output"}, …], "setup": source,
              "entry_point": name}; with "fn_name" where pairs are calls, and "prompt" where the
              question is code that a reply may go on from (HumanEval)
    actions   the list of allowed calls (BFCL's form, calls as JSON, or calls as Python text)
    database  the gold query; the columns `schema` (SQL) or `db_path` (a file) hold the database,
              and `schema_text` what a prompt shows of it

`take(name)` gives a column by our name and marks it as used; `row` is the whole row.
"""

from __future__ import annotations

import ast
import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from icpo_lite.core.files import read_json
from icpo_lite.core.paths import inside
from icpo_lite.core.words import bag
from icpo_lite.data.cells import text_of, unpacked

Take = Callable[[str], Any]
Row = Mapping[str, Any]

#: Where corpora keep the database of a `db_id`, in the folder of their rows.
_FOLDERS = (
    *("", "database", "databases", "test_database", "spider/database", "spider/databases"),
    *("train_databases", "dev_databases", "train/train_databases", "dev/dev_databases"),
)
_SUFFIXES = (".sqlite", ".db", ".sqlite3")
#: A longer schema is cut in the prompt.
_LONGEST_SCHEMA = 20_000


class TaskRowError(Exception):
    """A row that is not what its task promises: (what was expected, what was found)."""


# -------------------------------------------------------------------------------------------- code


def code_gold(take: Take, reply: str, row: Row) -> tuple[dict[str, Any], str]:
    """(answer, solution) of a code row."""
    tests = _tests(take("tests"))
    answer = {"tests": tests, "setup": _lines(take("setup")), "entry_point": _name(take)}
    function = row.get("fn_name")
    if isinstance(tests, Mapping):
        function = tests.get("fn_name") or function
        answer["tests"] = _paired(tests)
    if function:
        answer["fn_name"] = str(function)
    return answer, _solution(take("solution")) or reply


def _lines(setup: Any) -> str:
    if isinstance(setup, str) and setup.lstrip().startswith("["):
        with contextlib.suppress(ValueError):
            setup = read_json(setup)
    lines = setup if isinstance(setup, list) else [setup or ""]
    if not all(isinstance(line, str) for line in lines):
        raise TaskRowError("setup code", repr(setup)[:60])
    return "\n".join(lines)


def _name(take: Take) -> str:
    entry_point = take("entry_point") or ""
    if not isinstance(entry_point, str):
        raise TaskRowError("the name of a function in entry_point", repr(entry_point)[:60])
    return entry_point


def with_prompt(answer: Mapping[str, Any], question: str) -> dict[str, Any]:
    """The answer with the code that a question is, which a reply may go on from (HumanEval)."""
    if not re.search(r"^[ \t]*(?:async )?def ", question, re.MULTILINE):
        return dict(answer)
    return {**answer, "prompt": question}


def _tests(given: Any) -> Any:
    """Sources as a list of texts, pairs as a list of mappings or a mapping of two lists."""
    if isinstance(given, str) and given.lstrip().startswith(("[", "{")):
        with contextlib.suppress(ValueError):  # then it is source that starts so
            given = read_json(given)
    if isinstance(given, Mapping) and (
        {"inputs", "outputs"} <= set(given) or {"input", "output"} <= set(given)
    ):
        return given
    listed = given if isinstance(given, list) else [given]
    texts = all(isinstance(t, str) and t.strip() for t in listed)
    pairs = all(isinstance(t, Mapping) and {"input", "output"} <= set(t) for t in listed)
    if not listed or not (texts or pairs):
        raise TaskRowError("tests", repr(given)[:60])
    return listed


def _paired(tests: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`{"inputs": […], "outputs": […]}` as a list of pairs."""
    names = ("inputs", "outputs") if "inputs" in tests else ("input", "output")
    given, wanted = (v if isinstance(v, list) else [v] for v in (tests[n] for n in names))
    if len(given) != len(wanted) or not given:
        raise TaskRowError("as many outputs as inputs", f"{len(wanted)} for {len(given)}")
    return [{"input": i, "output": o} for i, o in zip(given, wanted, strict=True)]


def _solution(given: Any) -> str:
    """The reference solution; the first of several (a list, or a list as JSON)."""
    found = unpacked(given)
    if isinstance(found, list) and all(isinstance(s, str) for s in found):
        return next((s for s in found if s.strip()), "")
    return found if isinstance(found, str) else text_of(found, "a solution as source")


_DEFINITION = re.compile(r"^(?:async )?def\s+(\w+)\s*\(", re.MULTILINE)


def with_signature(question: str, answer: Mapping[str, Any], solution: str) -> str:
    """The question with the name that its tests call, where it does not say it itself.

    MBPP's "Write a function to remove odd numbers." cannot be solved without: the tests know the
    function by its name, and in which order its arguments come.
    """
    signature = _signature(answer, solution)
    name = signature.partition("(")[0]
    if not signature or re.search(rf"\b{re.escape(name)}\b", question):
        return question
    return f"{question.rstrip()}\nName the function `{signature}`."


def _signature(answer: Mapping[str, Any], solution: str) -> str:
    """ "remove_Occ(s, ch)", of the function that the tests call; "" where they name none."""
    called = _tested_name(answer)
    try:
        body = ast.parse(solution).body if called else []
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        body = []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == called:
            return f"{called}({ast.unparse(node.args)})"
    return called


def _tested_name(answer: Mapping[str, Any]) -> str:
    named = answer.get("entry_point") or answer.get("fn_name") or ""
    sources = [t for t in answer["tests"] if isinstance(t, str)]
    if named or not sources:
        return str(named) if str(named).isidentifier() else ""
    common: set[str] = set(_CALLED.findall(sources[0]))
    for source in sources[1:]:
        common &= set(_CALLED.findall(source))
    mine = [name for name in common if name not in _PYTHONS]
    return mine[0] if len(mine) == 1 else ""


_CALLED = re.compile(r"\b([A-Za-z_]\w*)\(")
_PYTHONS = bag(
    "abs all any assert bool dict float frozenset int isinstance len list map max min not "
    "print range repr round set sorted str sum tuple type zip and or in is check"
)


# ----------------------------------------------------------------------------------------- actions


def actions_gold(take: Take, reply: str) -> tuple[Any, str]:
    """(allowed calls, solution) of an actions row."""
    calls = take("calls")
    if calls is None:
        calls = reply or None
    if isinstance(calls, str) and calls.lstrip().startswith(("[{", "{", "[[")):
        try:
            calls = read_json(calls)
        except ValueError:
            raise TaskRowError("possible_answer as JSON", repr(calls[:60])) from None
    if isinstance(calls, Mapping) and calls:
        calls = [calls]
    if isinstance(calls, str) and re.match(r"\s*\[?\s*[A-Za-z_][\w.]*\(", calls):
        return [calls.strip()], reply
    if not isinstance(calls, list) or not calls:
        raise TaskRowError("a list of allowed calls", repr(calls)[:60])
    if any(isinstance(call, list) for call in calls):
        raise TaskRowError("the calls of one turn", f"those of {len(calls)} turns")
    return calls, reply


def functions(given: Any) -> list[Any]:
    """The functions of an actions row as a list, however the row holds them."""
    if isinstance(given, str):
        try:
            given = read_json(given)
        except ValueError:
            return [given] if given.strip() else []
    if isinstance(given, Mapping):
        given = [given]
    return [_described(f) for f in given] if isinstance(given, list) else []


def _described(function: Any) -> Any:
    """A function that is described in JSON, as text, as what it describes."""
    if isinstance(function, str) and function.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            return read_json(function)
    return function


# ---------------------------------------------------------------------------------------- database


def database_gold(take: Take, reply: str) -> tuple[str, str]:
    """(gold query, solution) of a database row."""
    query = take("query") or take("answer")
    if not isinstance(query, str) or not re.match(r"[^\[{\s]", query.strip()):
        raise TaskRowError("a gold query", repr(query)[:60])
    return query, reply


def database_columns(row: Row, folder: Path | None) -> dict[str, Any]:
    """`schema` or `db_path` for the grader, and `schema_text` for the prompt, as far as they exist.

    A path is taken from the folder of the data file on. A row with a `db_id` alone finds its file
    where Spider and BIRD keep it.
    """
    found: dict[str, Any] = {}
    script: Any = next(
        (row[n] for n in ("schema", "schema_sql", "context") if _is_sql(row.get(n))), None
    )
    path = _database_file(row, folder)
    if path is not None:
        found["db_path"] = str(path)
    if script is not None and (path is None or "schema" in row):
        found["schema"] = script
    shown = str(row.get("schema_text") or (_shown(str(script)) if script else ""))
    if not shown and path is not None:
        shown = file_schema(path)
    if shown:
        found["schema_text"] = shown[:_LONGEST_SCHEMA]
    return found


def _is_sql(value: Any) -> bool:
    return isinstance(value, str) and bool(re.search(r"\bcreate\s+table\b", value, re.IGNORECASE))


def _database_file(row: Row, folder: Path | None) -> Path | None:
    for name in ("db_path", "db_file", "database_path"):
        if isinstance(given := row.get(name), str) and given:
            path = inside(folder or Path(), given)
            if path is None:
                raise TaskRowError("a db_path in the folder of the data", repr(given)[:60])
            return path
    database = row.get("db_id")
    if folder is None or not isinstance(database, str) or not re.fullmatch(r"[\w.-]+", database):
        return None
    return next((f for f in _candidates(folder, database) if f.is_file()), None)


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    for place in _FOLDERS:
        for suffix in _SUFFIXES:
            for file in (f"{place}/{name}/{name}{suffix}", f"{place}/{name}{suffix}"):
                if (path := inside(folder, file.lstrip("/"))) is not None:
                    yield path


_STATEMENT = re.compile(r"(?:[^;'\"]++|'[^']*+'|\"[^\"]*+\")++")


def _shown(script: str) -> str:
    """The statements of a script that make tables and views, without those that fill them."""
    made = [m[0].strip() for m in _STATEMENT.finditer(re.sub(r"--[^\n]*", "", script))]
    return "\n".join(f"{s};" for s in made if re.match(r"create\b", s, re.IGNORECASE))


def file_schema(path: Path) -> str:
    """What makes the tables of a SQLite file; "" for a file that cannot be read."""
    if not path.is_file():
        return ""
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as db:
            rows = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    except sqlite3.Error:
        return ""
    return "\n".join(f"{sql};" for (sql,) in rows if not re.match(r"create\s+index", sql, re.I))
