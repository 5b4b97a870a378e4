"""Files → rows, each with its place: one table of formats, each of them plain or packed.

    .jsonl .ndjson   one JSON object a line
    .json            the same; or one array of objects; or an object that holds the array under
                     a name such as "data"; or one list a column; or one row
    .csv .tsv        a header, then rows; commas, semicolons, tabs or bars, read off the header
    .parquet .pq     Parquet
    ….gz .bz2 .xz    any of the above but Parquet, packed

A row that was written as JSON twice, as text that holds an object, is that object. Memory does not
grow with the file, except for an array, which is read whole.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from icpo_lite.core.errors import DataError

Row = Mapping[str, Any]

#: A longer row is no problem that a prompt could hold.
MAX_ROW_BYTES = 1_000_000
#: Names under which a JSON object holds its rows, beside the name of the split.
WRAPPERS = ("data", "rows", "examples", "instances", "items", "problems", "questions", "records")
SPLITS = ("train", "validation", "dev", "test")
_DELIMITERS = ",;\t|"


class BadRowError(Exception):
    """A row that cannot become a problem. reason: a few words to count by; detail: what was found.

    advice: what to change, where that is more than the row itself.
    """

    def __init__(self, reason: str, detail: str, advice: str = "correct the row") -> None:
        super().__init__(f"expected {reason}, found {detail}; {advice} or set on_bad_row: skip")
        self.reason = reason


class LeftOutError(Exception):
    """A row that is in order and that nothing here can use; the words to count it by.

    It is left out and counted, whatever `on_bad_row` says.
    """


@dataclass(frozen=True, slots=True)
class Found:
    """One row as it was read, or why it could not be; where: "file.jsonl:17"."""

    where: str
    row: Row | None = None
    error: BadRowError | None = None


def file_rows(path: Path, split: str = "train") -> Iterator[Found]:
    """The rows of a file in order, by the format that its name ends in.

    split: which list is meant where a JSON object holds several. Raises DataError for a file
    whose name or contents are of no format in the table.
    """
    suffix, packing = _suffixes(path)
    read = FORMATS.get(suffix)
    if read is None or (packing and read is _parquet):
        raise DataError(
            f"expected a file that ends in {', '.join(SUFFIXES)}, found {path.name}; rename it "
            "after its format"
        )
    try:
        yield from read(path, split)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(
            f"expected a file packed as {packing} at {path}, found {str(error).lower()}; fetch it "
            "anew, or rename it after its format"
        ) from None


def is_data_file(name: str) -> bool:
    """Whether a name ends as one of the formats does."""
    return _suffixes(Path(name))[0] in FORMATS


def stem_of(path: Path) -> str:
    """The name of a file without its format and packing: "umwp" of umwp.jsonl.gz."""
    suffix, packing = _suffixes(path)
    name = path.name[: len(path.name) - len(packing)]
    return name[: len(name) - len(suffix)] if suffix in FORMATS else name


def _suffixes(path: Path) -> tuple[str, str]:
    """What a file's name says of its format and of its packing, in lower case."""
    packing = path.suffix.lower()
    if packing in PACKINGS:
        return Path(path.stem).suffix.lower(), packing
    return packing, ""


def _opened(path: Path) -> BinaryIO:
    opener = PACKINGS.get(_suffixes(path)[1])
    return path.open("rb") if opener is None else cast(BinaryIO, opener(path, "rb"))


#: End of a name → what opens it.
PACKINGS: Mapping[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}

# ------------------------------------------------------------------------------------------- JSON


def _json(path: Path, split: str) -> Iterator[Found]:
    """One array, an object around one, or one object a line."""
    with _opened(path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        return _array(path, _whole(path))
    if start.startswith(b"{") and not _holds_lines(path):
        try:
            value = _whole(path)
        except DataError:
            return _jsonl(path, split)  # which names the first line that is none
        return _array(path, _listed(path, value, split))
    return _jsonl(path, split)


def _holds_lines(path: Path) -> bool:
    """Whether the first line with text is a JSON object, and not the last."""
    with _opened(path) as file:
        lines = (line for line in iter(lambda: file.readline(MAX_ROW_BYTES), b"") if line.strip())
        first, second = next(lines, b""), next(lines, b"")
    try:
        row = _written_twice(_loaded(first.decode("utf-8-sig")))
        return isinstance(row, dict) and bool(second)
    except (ValueError, RecursionError):
        return False


class _NamedTwiceError(ValueError):
    """A JSON object that says two things under one name, of which a reader would lose the first."""


def _loaded(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _NamedTwiceError(repr(_named_twice([name for name, _ in pairs])))
    return row


def _whole(path: Path) -> Any:
    try:
        with _opened(path) as file:
            return _loaded(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        message = "other bytes"
        if isinstance(error, json.JSONDecodeError):
            message = f"{error.msg.lower()} in line {error.lineno}"
        elif isinstance(error, _NamedTwiceError):
            message = f"the name {error} twice in one object"
        raise DataError(
            f"expected an array of JSON objects in {path.name}, found {message}; correct the "
            "file, or write one object a line (JSON Lines)"
        ) from None


def _listed(path: Path, value: Mapping[str, Any], split: str) -> list[Any]:
    """The rows that an object holds under a name; the object itself where it is a row."""
    lists = {
        name: rows
        for name, rows in value.items()
        if name in (*WRAPPERS, *SPLITS, split)
        and isinstance(rows, list)
        and rows
        and all(isinstance(row, dict) for row in rows)
    }
    if not lists:
        inner = next((value[n] for n in WRAPPERS if isinstance(value.get(n), dict)), None)
        return _listed(path, inner, split) if inner else _rows_of_columns(path, value)
    if split in lists:
        return lists[split]
    if len(lists) > 1:
        raise DataError(
            f"expected one list of rows in {path.name}, found {', '.join(lists)}; name one of them "
            "as the split, or write it to a file of its own"
        )
    (rows,) = lists.values()
    # As the hub's viewer hands rows out: {"rows": [{"row_idx": 0, "row": {...}}]}.
    return [r["row"] if isinstance(r.get("row"), dict) else r for r in rows]


def _rows_of_columns(path: Path, value: Mapping[str, Any]) -> list[Any]:
    """The rows of an object that holds one list a column; the object itself where it is a row."""
    columns = [v for v in value.values() if isinstance(v, list)]
    listed = len(columns) == len(value) > 1 and not any(
        isinstance(v, dict) for c in columns for v in c
    )
    if not listed or max(map(len, columns)) < 2 or not any(_all_text(c) for c in columns):
        return [value]
    if len(set(map(len, columns))) > 1:
        raise DataError(
            f"expected as many values in each column of {path.name}, found "
            f"{', '.join(f'{len(v)} in {k}' for k, v in value.items())}; mend the file, or write "
            "one object a line (JSON Lines)"
        )
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _all_text(column: list[Any]) -> bool:
    return bool(column) and all(isinstance(v, str) for v in column)


def _written_twice(row: Any) -> Any:
    """What a text holds that is a JSON object itself; anything else as it is."""
    if not isinstance(row, str) or not row.lstrip().startswith("{"):
        return row
    try:
        return _loaded(row)
    except (ValueError, RecursionError):
        return row


def _array(path: Path, rows: list[Any]) -> Iterator[Found]:
    for number, row in enumerate(map(_written_twice, rows), start=1):
        where = f"{path.name}[{number}]"
        if not isinstance(row, dict):
            detail = f"a {type(row).__name__}"
            yield Found(where, error=BadRowError("JSON objects in the array", detail))
        elif _has_surrogates(row):
            yield Found(where, error=BadRowError("text that can be written", "half a character"))
        else:
            yield Found(where, row)


def _jsonl(path: Path, split: str) -> Iterator[Found]:
    with _opened(path) as file:
        for number in itertools.count(1):
            line, cut = _bounded_line(file)
            if not line:
                return
            where = f"{path.name}:{number}"
            if cut:
                size = f"a row of more than {MAX_ROW_BYTES} bytes"
                yield Found(where, error=BadRowError("a row that a prompt can hold", size))
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


def _read_json(line: bytes, where: str) -> Found:
    try:
        row = _written_twice(_loaded(line.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        detail = f"byte {line[error.start]:#04x} at {error.start}"
        return Found(where, error=BadRowError("UTF-8", detail, "save the file as UTF-8"))
    except _NamedTwiceError as error:
        advice = "leave one out, or give it a name of its own"
        return Found(
            where, error=BadRowError("each name once in an object", f"{error} twice", advice)
        )
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        message = error.msg.lower() if isinstance(error, json.JSONDecodeError) else "an absurd one"
        return Found(where, error=BadRowError("one JSON object a line", message))
    if not isinstance(row, dict):
        detail = f"a {type(row).__name__}"
        advice = "write one object a line (JSON Lines)"
        return Found(where, error=BadRowError("one JSON object a line", detail, advice))
    if b"\\ud" in line.lower() and _has_surrogates(row):
        return Found(where, error=BadRowError("text that can be written", "half a character"))
    return Found(where, row)


def _has_surrogates(row: Row) -> bool:
    """Whether a string holds a lone surrogate, which JSON can escape and no file can hold."""
    return any("\ud800" <= char <= "\udfff" for char in json.dumps(row, ensure_ascii=False))


# -------------------------------------------------------------------------------- CSV and Parquet


def _csv(path: Path, split: str) -> Iterator[Found]:
    csv.field_size_limit(MAX_ROW_BYTES)
    with _opened(path) as packed:
        file = io.TextIOWrapper(packed, "utf-8-sig", errors="surrogateescape", newline="")
        header = file.readline(MAX_ROW_BYTES)
        reader = csv.DictReader(itertools.chain([header], file), delimiter=_delimiter(path, header))
        if twice := _named_twice(reader.fieldnames or []):
            raise DataError(
                f"{path.name}:1: expected each column once, found {twice!r} twice; leave one out, "
                "or give it a name of its own"
            )
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                detail = str(error)
                yield Found(f"{path.name}:{reader.line_num}", error=BadRowError("CSV", detail))
                continue
            if row is None:
                return
            yield _checked_csv(row, f"{path.name}:{reader.line_num}")


def _named_twice(names: Sequence[str]) -> str | None:
    """The first name that a row would hold twice, so that one of its cells would be lost."""
    return next((name for name in names if name and list(names).count(name) > 1), None)


def _delimiter(path: Path, header: str) -> str:
    """What stands between the names of a header: the mark that parts it most, outside of quotes."""
    if _suffixes(path)[0] == ".tsv":
        return "\t"
    counts = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in _DELIMITERS}
    return max(_DELIMITERS, key=lambda mark: counts[mark])


def _checked_csv(row: dict[str | Any, Any], where: str) -> Found:
    if None in row or None in row.values():
        detail = "more" if None in row else "fewer"
        return Found(where, error=BadRowError("a value for each column", detail))
    if any("\udc80" <= char <= "\udcff" for value in row.values() for char in value):
        detail = "other bytes"
        return Found(where, error=BadRowError("UTF-8", detail, "save the file as UTF-8"))
    return Found(where, row)


def _parquet(path: Path, split: str) -> Iterator[Found]:
    return parquet_rows(path, path.name)


def parquet_rows(path: Path, name: str) -> Iterator[Found]:
    """The rows of a Parquet file. name: what to call it in messages."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=256)
            rows = (row for batch in batches for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield Found(f"{name}:{number}", row)
    # UnicodeDecodeError: text that is not UTF-8, which pyarrow meets when it makes strings of it.
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"expected a Parquet file at {path}, found {str(error).splitlines()[0]}; fetch it anew"
        ) from error


#: End of a name → what reads such a file, given its path and the split.
FORMATS: Mapping[str, Callable[[Path, str], Iterator[Found]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".pq": _parquet,
}
SUFFIXES = (*FORMATS, *(f".jsonl{packing}" for packing in PACKINGS))
