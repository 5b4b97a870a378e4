"""A journal: rows that survive a kill, and what a file that is not its own becomes."""

from pathlib import Path

import pytest

from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.core.journal import Journal

HEADER = {"model": "m"}


def kept(path: Path, header: dict[str, str] = HEADER) -> list[object]:
    return Journal(path, header).rows


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "journal"
    rows = [{"a": [1, 0.1, None]}, {"b": "half a pair \ud800, an accent é"}]
    journal = Journal(path, HEADER)
    for row in rows:
        journal.add(row)
    assert (journal.rows, kept(path)) == ([], rows)
    journal.remove()
    assert not path.exists()


def test_half_a_line_is_cut_off_and_swallows_no_row(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, HEADER).add({"a": 1})
    with path.open("ab") as file:
        file.write(b'{"b": ')
    journal = Journal(path, HEADER)
    assert journal.rows == [{"a": 1}]
    journal.add({"c": 3})
    assert kept(path) == [{"a": 1}, {"c": 3}]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"no json\n", b'{"model": "m"}\nno json\n', b"\xff\n"]
)
def test_a_damaged_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    assert kept(path) == []
    Journal(path, HEADER).add({"a": 1})
    assert kept(path) == [{"a": 1}]


def test_rows_of_something_else_are_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, HEADER).add({"a": 1})
    assert kept(path, {"model": "another"}) == []
    assert kept(path) == []


def test_a_disk_that_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot write"):
        Journal(tmp_path / "file" / "journal", HEADER)
