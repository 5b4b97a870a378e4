"""The instructions of Lost in Conversation (arXiv 2505.06120), in that project's own JSON.

A row is `{task_id, task, shards: [{shard_id, shard}], …}`, the first shard the question. What a
task brings along, and what becomes of it:

    math      question, answer ("… #### 3360")
    actions   fully_specified_question, function, reference_answer (BFCL)
    database  fully_specified_question, reference_sql, schema_sql, db_id (Spider). Grading runs the
              query, so the database must lie beside the file, where that project keeps it:
              spider/databases/<db_id>/<db_id>.sqlite
    code      prompt (HumanEval) or question_content (LiveCodeBench), public_test_cases,
              private_test_cases, metadata.func_name, starter_code

Summaries, table descriptions and translations have no grader here; such rows are left out and
counted.
"""

from __future__ import annotations

import ast
import base64
import binascii
import pickletools
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from icpo_lite.core.files import read_json
from icpo_lite.core.paths import inside
from icpo_lite.core.types import Problem, Shard, TaskName
from icpo_lite.data.row_files import LeftOutError, Row

BENCHMARK = "lost_in_conversation"
#: What a row's task is called here; HumanEval and LiveCodeBench both are code.
TASKS: Mapping[str, TaskName] = {
    "math": "math",
    "gsm8k": "math",
    "actions": "actions",
    "bfcl": "actions",
    "database": "database",
    "spider": "database",
    "code": "code",
    "humaneval": "code",
    "livecodebench": "code",
}
#: Unpacked tests larger than this are no tests (a few KB of zlib can hold gigabytes).
_MOST_BYTES = 64 << 20


class NotGradedError(LeftOutError):
    """A row of a task without a grader, or without what its grader needs; the words to count by."""


class LicRowError(Exception):
    """A row that is not what its task promises: (what was expected, what was found)."""


def is_lic(row: Row) -> bool:
    """Whether a row is in Lost in Conversation's form."""
    shards = row.get("shards")
    if not {"task_id", "task"} <= row.keys() or not isinstance(shards, list) or not shards:
        return False
    return all(isinstance(s, Mapping) and "shard_id" in s for s in shards)


def to_problem(row: Row, source: str, folder: Path | None) -> Problem:
    """The problem of a row. folder: where its file lies, which the databases lie beside.

    Raises NotGradedError for what cannot be graded here, LicRowError for a faulty row.
    """
    task = TASKS.get(str(row["task"]).lower())
    if task is None:
        raise NotGradedError(f"a task that is graded here, found {str(row['task'])[:40]!r}")
    question, answer, columns = _READ[task](row, folder)
    return Problem(
        problem_id=str(row["task_id"]),
        task=task,
        question=question,
        answer=answer,
        solution=row["answer"] if task == "math" else "",
        shards=_shards(row["shards"]),
        source=source,
        columns={**columns, "benchmark": BENCHMARK},
    )


def _shards(listed: list[Mapping[str, Any]]) -> tuple[Shard, ...]:
    texts = [s.get("shard", s.get("shard_text")) for s in listed]
    found = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
    if len(found) != len(listed):
        raise LicRowError("shards with text", "one without")
    return tuple(Shard(i, text, is_question=i == 0) for i, text in enumerate(found))


def _text(row: Row, *names: str) -> str:
    """The first of these fields that holds text."""
    for name in names:
        if isinstance(value := row.get(name), str) and value.strip():
            return value.strip()
    raise LicRowError(f"text in {' or '.join(names)}", f"the fields {', '.join(list(row)[:12])}")


def _math(row: Row, folder: Path | None) -> tuple[str, str, dict[str, Any]]:
    gold = _text(row, "answer").rpartition("####")[2].strip()
    return _text(row, "question", "fully_specified_question"), gold, {}


def _actions(row: Row, folder: Path | None) -> tuple[str, Any, dict[str, Any]]:
    gold = row.get("reference_answer", row.get("answer"))
    if not gold:
        raise LicRowError("calls in reference_answer", repr(gold)[:40])
    question = _text(row, "fully_specified_question", "question")
    return question, gold, {"functions": row.get("function", row.get("functions"))}


def _database(row: Row, folder: Path | None) -> tuple[str, str, dict[str, Any]]:
    name = _text(row, "db_id")
    place = f"spider/databases/{name}/{name}.sqlite"
    file = None if folder is None else inside(folder, place)
    columns: dict[str, Any] = {"schema_text": row.get("schema_sql", "")}
    if file is not None and file.is_file():
        columns["db_path"] = str(file)
    elif row.get("schema"):  # SQL that also fills the tables
        columns["schema"] = row["schema"]
    else:
        raise NotGradedError("the database of a database row at spider/databases/ beside the file")
    question = _text(row, "fully_specified_question", "question")
    return question, _text(row, "reference_sql", "answer"), columns


def _code(row: Row, folder: Path | None) -> tuple[str, Any, dict[str, Any]]:
    question = _text(row, "question_content", "prompt", "fully_specified_question", "question")
    metadata = _loaded(row.get("metadata")) or {}
    name = metadata.get("func_name") or row.get("entry_point") or ""
    tests = [_read_test(test, bool(name)) for test in _test_cases(row)]
    columns: dict[str, Any] = {"starter_code": row.get("starter_code") or ""}
    if isinstance(row.get("prompt"), str):
        columns["code_prompt"] = row["prompt"]  # HumanEval: a reply may go on from it
    if not tests and isinstance(row.get("test"), str):
        return question, row["test"], {**columns, "entry_point": name}
    if not tests:
        raise LicRowError("test cases", "none")
    if any(isinstance(test["input"], list) for test in tests):
        columns["fn_name"] = _called(str(name))
    return question, tests, columns


def _called(name: str) -> str:
    """The function under test: by its name, a method of Solution, else the reply's last function.

    Shards do not tell the name that the benchmark's tests know it by.
    """
    return (
        f"(globals().get({name!r}) or (getattr(Solution(), {name!r}) if 'Solution' in globals() "
        "else [f for f in globals().values() if __import__('inspect').isfunction(f)][-1]))"
    )


def _test_cases(row: Row) -> list[Mapping[str, Any]]:
    found = []
    for name in ("public_test_cases", "private_test_cases"):
        cases = _loaded(row.get(name)) or []
        if not isinstance(cases, list) or not all(isinstance(c, Mapping) for c in cases):
            raise LicRowError(f"a list of cases in {name}", repr(cases)[:40])
        found += cases
    return found


def _loaded(value: Any) -> Any:
    """A value that may be written as JSON, or as JSON pickled, compressed and in base 64."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return read_json(value)
    except ValueError:
        pass
    try:
        packed = zlib.decompressobj().decompress(base64.b64decode(value), _MOST_BYTES)
        return read_json(_pickled_text(packed))
    except (binascii.Error, zlib.error, ValueError, TypeError):
        raise LicRowError("test cases as JSON", repr(value[:40])) from None


#: Of pickle's operations those that say nothing of a value, beside those that hold a text.
_FRAMING = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"})
_TEXT = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})


def _pickled_text(packed: bytes) -> str:
    """The one text that a pickle holds, read without unpickling. Raises ValueError otherwise."""
    operations = [
        (op.name, arg) for op, arg, _ in pickletools.genops(packed) if op.name not in _FRAMING
    ]
    if len(operations) != 1 or operations[0][0] not in _TEXT:
        raise ValueError(f"expected one text, found {[name for name, _ in operations][:4]}")
    return str(operations[0][1])


def _read_test(test: Mapping[str, Any], named: bool) -> dict[str, Any]:
    """A case with its arguments as a list where it calls a function, else as standard input."""
    if not {"input", "output"} <= test.keys():
        raise LicRowError("a test with input and output", repr(dict(test))[:40])
    functional = test.get("testtype", "functional" if named else "stdin") == "functional"
    if not functional:
        return {"input": str(test["input"]), "output": str(test["output"])}
    given = test["input"]
    arguments = given if isinstance(given, list) else [_value(x) for x in given.split("\n") if x]
    return {"input": arguments, "output": _value(test["output"])}


def _value(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    for read in (read_json, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
    return text


_READ: Mapping[TaskName, Callable[[Row, Path | None], tuple[str, Any, dict[str, Any]]]] = {
    "math": _math,
    "actions": _actions,
    "database": _database,
    "code": _code,
}
