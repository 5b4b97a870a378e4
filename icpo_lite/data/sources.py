"""Files and hub data sets → Problems, one row at a time.

JSON Lines, CSV, TSV, Parquet, and data sets of the Hugging Face hub. Known shapes of rows:

    math      question + answer; GSM8K (`#### 72`), MATH (`\\boxed{72}`), prompt/answer columns,
              chat `messages` whose last turn is the answer. `Problem.answer` is a string.
    code      MBPP (`text`, `test_list`), HumanEval (`prompt`, `test`, `entry_point`).
              `Problem.answer` is {"tests": [source, …], "setup": source, "entry_point": name}.
    actions   BFCL (`question`, `function`, `possible_answer` or `ground_truth`). `Problem.answer`
              is the list of allowed calls; the functions are in `Problem.columns["functions"]`.
    database  `question`, `query` (the gold SQL), further columns for the grader.
    any       Lost in Conversation's instructions (`data/lost_in_conversation.py`);
              what has no grader here is counted and left out, whatever `on_bad_row` says.

A `.json` file may also hold one array of rows, which is then read whole.

`columns` maps our names (question, answer, solution, id, tests, setup, entry_point, functions,
shards) to the row's names where they differ. A row that cannot be used raises DataError with file
and line, or is counted and left out (`on_bad_row: skip`). Memory does not grow with the file.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from icpo_lite.core.errors import DataError
from icpo_lite.core.numbers import numbers
from icpo_lite.core.paths import inside
from icpo_lite.core.types import Problem, Shard, TaskName
from icpo_lite.data import lost_in_conversation

Row = Mapping[str, Any]
OnBadRow = Literal["error", "skip"]

#: A longer row is no problem that a prompt could hold.
MAX_ROW_BYTES = 1_000_000
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

#: Our name of a column → the names it goes by, first match first.
NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "problem", "prompt", "instruction", "query_text", "text", "messages"),
    "answer": ("answer", "final_answer", "target", "completion", "response", "output"),
    "solution": ("solution", "rationale", "reasoning", "canonical_solution", "code"),
    "id": ("id", "problem_id", "task_id", "unique_id", "question_id"),
    "tests": ("test_list", "tests", "test"),
    "setup": ("test_setup_code", "test_imports", "setup"),
    "entry_point": ("entry_point",),
    "calls": ("possible_answer", "ground_truth"),
    "functions": ("function", "functions", "tools"),
    "query": ("query", "sql"),
    "shards": ("shards",),
}


class BadRowError(Exception):
    """A row that cannot become a problem. reason: a few words to count by; detail: what was found.

    advice: what to change, where that is more than the row itself.
    """

    def __init__(self, reason: str, detail: str, advice: str = "mend the row") -> None:
        super().__init__(f"expected {reason}, found {detail}; {advice} or set on_bad_row: skip")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Found:
    """One row as it was read, or why it could not be; where: "file.jsonl:17"."""

    where: str
    row: Row | None = None
    error: BadRowError | None = None


def read_problems(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    task: TaskName | None = None,
    split: str = "train",
    config: str | None = None,
    limit: int | None = None,
    on_bad_row: OnBadRow = "error",
    bad_rows: Counter[str] | None = None,
) -> Iterator[Problem]:
    """The problems of a file, or of a split of a hub data set, in order.

    task: None reads it off the columns. split and config: for the hub alone. bad_rows: counts the
    rows left out by reason. Raises DataError for a missing source, for a bad row, and when no
    problem is left.
    """
    if task is not None and task not in get_args(TaskName):
        raise DataError(f"expected a task of {', '.join(get_args(TaskName))}, found {task!r}")
    _check_columns(columns or {})
    bad = Counter[str]() if bad_rows is None else bad_rows
    path = Path(str(source))
    reader = _RowReader(columns or {}, task, path.stem, path.parent if path.is_file() else None)
    count = 0
    for number, found in enumerate(_rows(source, split, config), start=1):
        if limit is not None and count >= limit:
            break
        try:
            problem = reader.problem(found, number)
        except lost_in_conversation.NotGradedError as error:
            bad[str(error)] += 1
            continue
        except BadRowError as error:
            if on_bad_row == "error":
                raise DataError(f"{found.where}: {error}") from None
            bad[error.reason] += 1
            continue
        count += 1
        yield problem
    if not count:
        reasons = ", ".join(f"{n} × expected {reason}" for reason, n in bad.most_common())
        raise DataError(
            f"expected problems in {source}, found none"
            + (f" ({reasons}); map its columns with `columns`" if reasons else "; it is empty")
        )


def _check_columns(columns: Mapping[str, str]) -> None:
    for name in columns:
        if name not in NAMES:
            raise DataError(
                f"columns: expected our names ({', '.join(NAMES)}) on the left, found {name!r}; "
                "write {question: their_name}"
            )


# ------------------------------------------------------------------------------------------- rows


def _rows(source: str | Path, split: str, config: str | None) -> Iterator[_Found]:
    path = Path(source)
    if path.is_file():
        return _file_rows(path)
    name = str(source)
    if path.suffix.lower() in SUFFIXES or path.is_dir() or not _HUB_NAME.fullmatch(name):
        found = "a folder" if path.is_dir() else "none"
        raise DataError(
            f"expected a data file at {name}, found {found}; give a {', '.join(SUFFIXES)} file "
            "or a hub name such as openai/gsm8k"
        )
    return _hub_rows(name, split, config)


def _file_rows(path: Path) -> Iterator[_Found]:
    suffix = path.suffix.lower()
    if suffix == ".json" and _is_array(path):
        return _array_rows(path)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _jsonl_rows(path)
    if suffix in (".csv", ".tsv"):
        return _csv_rows(path, "\t" if suffix == ".tsv" else ",")
    if suffix in (".parquet", ".pq"):
        return _parquet_rows(path, path.name)
    raise DataError(
        f"expected a file that ends in {', '.join(SUFFIXES)}, found {path.name}; rename it after "
        "its format"
    )


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(1024).removeprefix(b"\xef\xbb\xbf")
    return start.lstrip().startswith(b"[")


def _array_rows(path: Path) -> Iterator[_Found]:
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        message = error.msg.lower() if isinstance(error, json.JSONDecodeError) else "other bytes"
        raise DataError(
            f"expected an array of JSON objects in {path.name}, found {message}; mend the file, or "
            "write one object a line (JSON Lines)"
        ) from None
    for number, row in enumerate(rows, start=1):
        where = f"{path.name}[{number}]"
        if isinstance(row, dict):
            yield _Found(where, row)
        else:
            detail = f"a {type(row).__name__}"
            yield _Found(where, error=BadRowError("JSON objects in the array", detail))


def _jsonl_rows(path: Path) -> Iterator[_Found]:
    with path.open("rb") as file:
        for number in itertools.count(1):
            line, cut = _bounded_line(file)
            if not line:
                return
            where = f"{path.name}:{number}"
            if cut:
                size = f"a row of more than {MAX_ROW_BYTES} bytes"
                yield _Found(where, error=BadRowError("a row that a prompt can hold", size))
            elif line.strip():
                yield _read_json(line, where)


def _bounded_line(file: BinaryIO) -> tuple[bytes, bool]:
    """The next line, and whether it was too long; its rest is then read past in pieces."""
    line = file.readline(MAX_ROW_BYTES + 1)
    if len(line) <= MAX_ROW_BYTES or line.endswith(b"\n"):
        return line, False
    while piece := file.readline(MAX_ROW_BYTES):
        if piece.endswith(b"\n"):
            break
    return line, True


def _read_json(line: bytes, where: str) -> _Found:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        detail = f"byte {line[error.start]:#04x} at {error.start}"
        return _Found(where, error=BadRowError("UTF-8", detail, "save the file as UTF-8"))
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        message = error.msg.lower() if isinstance(error, json.JSONDecodeError) else "an absurd one"
        return _Found(where, error=BadRowError("one JSON object a line", message))
    if not isinstance(row, dict):
        detail = f"a {type(row).__name__}"
        advice = "write one object a line (JSON Lines)"
        return _Found(where, error=BadRowError("one JSON object a line", detail, advice))
    if b"\\ud" in line.lower() and _has_surrogates(row):
        return _Found(where, error=BadRowError("text that can be written", "half a character"))
    return _Found(where, row)


def _has_surrogates(row: Row) -> bool:
    """Whether a string holds a lone surrogate, which JSON can escape and no file can hold."""
    return any("\ud800" <= char <= "\udfff" for char in json.dumps(row, ensure_ascii=False))


def _csv_rows(path: Path, delimiter: str) -> Iterator[_Found]:
    csv.field_size_limit(MAX_ROW_BYTES)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                detail = str(error)
                yield _Found(f"{path.name}:{reader.line_num}", error=BadRowError("CSV", detail))
                continue
            if row is None:
                return
            yield _checked_csv(row, f"{path.name}:{reader.line_num}")


def _checked_csv(row: dict[str | Any, Any], where: str) -> _Found:
    if None in row or None in row.values():
        detail = "more" if None in row else "fewer"
        return _Found(where, error=BadRowError("a value for each column", detail))
    if any("\udc80" <= char <= "\udcff" for value in row.values() for char in value):
        detail = "other bytes"
        return _Found(where, error=BadRowError("UTF-8", detail, "save the file as UTF-8"))
    return _Found(where, row)


def _parquet_rows(path: Path, name: str) -> Iterator[_Found]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=256)
            rows = (row for batch in batches for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield _Found(f"{name}:{number}", row)
    # UnicodeDecodeError: text that is not UTF-8, which pyarrow meets when it makes strings of it.
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"expected a Parquet file at {path}, found {str(error).splitlines()[0]}; fetch it anew"
        ) from error


def _hub_rows(name: str, split: str, config: str | None) -> Iterator[_Found]:
    """A hub data set through `datasets` where installed, else through its Parquet files."""
    try:
        import datasets
    except ImportError:
        for path, label in hub_parquet_files(name, split, config):
            yield from _parquet_rows(path, label)
        return
    try:
        stream = datasets.load_dataset(name, config, split=split, streaming=True)
    except Exception as error:  # `datasets` raises many kinds; all mean that it is not readable
        raise _not_on_hub(name, error) from error
    for number, row in enumerate(stream, start=1):
        yield _Found(f"{name}/{split}:{number}", row)


def hub_parquet_files(name: str, split: str, config: str | None) -> Iterator[tuple[Path, str]]:
    """Downloaded Parquet files of one split, and what to call them in messages.

    The data set's own files first, else those that the hub converts it to. Raises DataError when
    the data set cannot be reached or has no such split.
    """
    import httpx
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    choices: list[str] = []
    try:
        for revision in ("main", "refs/convert/parquet"):
            try:
                files = HfApi().list_repo_files(name, repo_type="dataset", revision=revision)
            except RevisionNotFoundError:
                continue
            parquet = sorted(f for f in files if f.endswith(".parquet"))
            choices += parquet
            chosen = [f for f in parquet if _is_split(f, split, config)]
            for file in chosen:
                local = hf_hub_download(name, file, repo_type="dataset", revision=revision)
                yield Path(local), f"{name}/{file}"
            if chosen:
                return
    except (HfHubHTTPError, OSError, httpx.HTTPError) as error:
        raise _not_on_hub(name, error) from error
    wanted = f"split {split!r}" + (f" of {config!r}" if config else "")
    raise DataError(
        f"expected Parquet files of {wanted} in {name}, found "
        f"{', '.join(choices[:6]) or 'none'}; name the split, or the configuration"
    )


def _is_split(file: str, split: str, config: str | None) -> bool:
    """ "main/train-00000-of-00001.parquet" is split train of configuration main."""
    parts = re.split(r"[/.]", file)
    in_split = any(re.match(rf"{re.escape(split)}(?:-\d|$)", part) for part in parts)
    return in_split and (config is None or config in parts)


def _not_on_hub(name: str, error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DataError(
        f"expected the data set {name} on the Hugging Face hub, found: {reason}; check the name "
        "and the network, or give a local file"
    )


# --------------------------------------------------------------------------------- rows → problems


class _RowReader:
    """Rows of one source → problems; knows the column mapping and the ids seen."""

    def __init__(
        self, columns: Mapping[str, str], task: TaskName | None, stem: str, folder: Path | None
    ) -> None:
        self._columns = columns
        self._task = task
        self._stem = stem
        self._folder = folder
        self._seen: set[bytes] = set()

    def problem(self, found: _Found, number: int) -> Problem:
        if found.error is not None:
            raise found.error
        assert found.row is not None
        row = found.row
        if lost_in_conversation.is_lic(row):
            return self._lic_problem(found.where, row, number)
        used: set[str] = set()

        def take(name: str) -> Any:
            column = self._column(row, name)
            if column is None:
                return None
            used.add(column)
            return row[column]

        task = self._task or self._guess_task(row)
        question, reply = _question_and_reply(take("question"), row)
        answer, solution = _GOLD[task](take, reply)
        problem_id = self._id(take("id"), number)
        shards = _given_shards(take("shards"))
        extra = {"functions": take("functions")} if task == "actions" else {}
        if task == "database" and isinstance(row.get("db_path"), str):
            extra = {"db_path": self._database_file(row["db_path"])}
        rest = {k: v for k, v in row.items() if k not in used and _is_plain(v)}
        return Problem(
            problem_id=problem_id,
            task=task,
            question=question,
            answer=answer,
            solution=solution,
            shards=shards,
            source=found.where,
            columns=rest | extra,
        )

    def _database_file(self, given: str) -> str:
        """A row's database, which lies in the folder of the data or below it."""
        path = inside(self._folder or Path(), given)
        if path is None:
            raise BadRowError("a db_path in the folder of the data", repr(given)[:60])
        return str(path)

    def _lic_problem(self, where: str, row: Row, number: int) -> Problem:
        try:
            problem = lost_in_conversation.to_problem(row, where, self._folder)
        except lost_in_conversation.LicRowError as error:
            raise BadRowError(*map(str, error.args)) from None
        self._id(row["task_id"], number)
        return problem

    def _column(self, row: Row, name: str) -> str | None:
        if name in self._columns:
            column = self._columns[name]
            if column not in row:
                raise BadRowError(f"a column {column!r}", _listing(row), "mend `columns`")
            return column
        return next((c for c in NAMES[name] if row.get(c) is not None), None)

    def _guess_task(self, row: Row) -> TaskName:
        if self._column(row, "tests"):
            return "code"
        if self._column(row, "calls"):
            return "actions"
        if self._column(row, "query") and not self._column(row, "answer"):
            return "database"
        return "math"

    def _id(self, value: Any, number: int) -> str:
        if value is None:
            return f"{self._stem}-{number}"
        key = hashlib.blake2b(str(value).encode(), digest_size=8).digest()
        if key in self._seen:
            raise BadRowError("each id once", f"{value!r} again")
        self._seen.add(key)
        return str(value)


def _listing(row: Row) -> str:
    return f"the columns {', '.join(map(str, itertools.islice(row, 12)))}"


def _is_plain(value: Any) -> bool:
    """Whether a value survives JSON, so that it can travel with the prompt."""
    if isinstance(value, list):
        return all(_is_plain(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _question_and_reply(value: Any, row: Row) -> tuple[str, str]:
    """The question, and for a chat the assistant's answer to it."""
    reply = ""
    if isinstance(value, list):
        turns = value[0] if value and isinstance(value[0], list) else value
        value, reply = _from_chat(turns)
    if value is None:
        raise BadRowError("a question", _listing(row), "name its column with `columns`")
    if not isinstance(value, str) or not value.strip():
        raise BadRowError("a question", "an empty one" if value in ("", None) else repr(value)[:60])
    return value.strip(), reply


def _from_chat(turns: Sequence[Any]) -> tuple[str, str]:
    said = [
        (turn.get("role", turn.get("from")), turn.get("content", turn.get("value")))
        for turn in turns
        if isinstance(turn, Mapping)
    ]
    users = [i for i, (role, _) in enumerate(said) if role in ("user", "human")]
    if not users:
        raise BadRowError("a user turn in the messages", f"{len(said)} turns without one")
    after = said[users[0] + 1 :]
    answers = (text for role, text in after if role in ("assistant", "gpt"))
    return str(said[users[0]][1] or ""), str(next(answers, "") or "")


def _given_shards(value: Any) -> tuple[Shard, ...]:
    """Shards that came with the row, the question first, as Lost in Conversation gives them."""
    if not isinstance(value, list):
        return ()
    texts = [v.get("shard", v.get("text")) if isinstance(v, Mapping) else v for v in value]
    if not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise BadRowError("shards with text", "one without")
    return tuple(Shard(i, text.strip(), is_question=i == 0) for i, text in enumerate(texts))


# ------------------------------------------------------------------------------------ gold answers

_BOXED = re.compile(r"\\boxed\s*\{")


def boxed(text: str) -> str | None:
    """What stands in the last `\\boxed{…}` of a solution, braces matched."""
    start = next((m.end() for m in reversed(list(_BOXED.finditer(text)))), None)
    if start is None:
        return None
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[start:at].strip()
    return None


def _math_gold(take: Any, reply: str) -> tuple[str, str]:
    """(answer, solution): what follows `####`, or stands in the box, or the answer column."""
    given, solution = take("answer"), take("solution")
    text = str(given if given is not None else reply or solution or "").strip()
    written = str(solution or "")
    for candidate in (text, written):
        gold = candidate.rsplit("####", 1)[1].strip() if "####" in candidate else boxed(candidate)
        if gold:
            return gold, written or candidate
    if not text:
        raise BadRowError("an answer", "none", "name its column with `columns`")
    if not re.search(r"\d|\\", text) and not numbers(text):
        raise BadRowError("a number in the answer", repr(text[:40]))
    return text, written


def _code_gold(take: Any, reply: str) -> tuple[dict[str, Any], str]:
    tests, setup = take("tests"), take("setup")
    listed = tests if isinstance(tests, list) else [tests]
    if not all(isinstance(t, str) and t.strip() for t in listed) or not listed:
        raise BadRowError("tests", repr(tests)[:60])
    before = "\n".join(setup) if isinstance(setup, list) else setup or ""
    answer = {"tests": listed, "setup": before, "entry_point": take("entry_point") or ""}
    return answer, str(take("solution") or reply)


def _actions_gold(take: Any, reply: str) -> tuple[list[Any], str]:
    calls = take("calls")
    if isinstance(calls, str):
        try:
            calls = json.loads(calls)
        except json.JSONDecodeError:
            raise BadRowError("possible_answer as JSON", repr(calls[:60])) from None
    if not isinstance(calls, list) or not calls:
        raise BadRowError("a list of allowed calls", repr(calls)[:60])
    return calls, reply


def _database_gold(take: Any, reply: str) -> tuple[str, str]:
    query = take("query") or take("answer")
    if not isinstance(query, str) or not query.strip():
        raise BadRowError("a gold query", repr(query)[:60])
    return query, reply


_GOLD: Mapping[TaskName, Any] = {
    "math": _math_gold,
    "code": _code_gold,
    "actions": _actions_gold,
    "database": _database_gold,
}
