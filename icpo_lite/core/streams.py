"""Standard output that may vanish, fill up or know no more than ASCII: no reason to end a run.

A terminal is closed, `| head` has read enough, `tee` dies, a disk is full: what is written then
goes nowhere, or into the file that `SteadyStream.log` names.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: What stands for signs of ours where a terminal has ASCII alone.
_LIKE = {
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "━": "=",
    "─": "-",
    "│": "|",
    "·": "*",
    "×": "x",
    "±": "+-",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "⁺": "+",
    "░": ".",
}
_HANDLER = "icpo_lite_alike"


def _alike(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: signs that look alike, letters without accents, else `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(map(_like, found)), error.end


def _like(sign: str) -> str:
    if sign in _LIKE:
        return _LIKE[sign]
    import unicodedata  # few signs ever need it

    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return plain or "?"


codecs.register_error(_HANDLER, _alike)


class SteadyStream:
    """A text stream whose writes never fail.

    stream: the one behind it; None for standard output as it is at each write. `lost` says why it
    is gone, "" while it is there; `log` is the file that takes what is written from then on, None
    for none.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream, self.lost = stream, ""
        self.log: Path | None = None

    @property
    def behind(self) -> IO[str] | None:
        found = self._stream or sys.stdout
        # While rich draws live, it stands in for standard output itself.
        found = getattr(found, "rich_proxied_file", found)
        return found.behind if isinstance(found, SteadyStream) else found

    @property
    def encoding(self) -> str:
        return getattr(self.behind, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        if not self.lost:
            self._write(text)
        elif self.log is not None:
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as file:
                file.write(text.encode(errors="replace").decode())
        return len(text)

    def _write(self, text: str) -> None:
        stream = self.behind
        if stream is None:  # `>&-`: there never was one
            return
        with self._losing():
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.encode(self.encoding, _HANDLER).decode(self.encoding))

    def flush(self) -> None:
        stream = self.behind
        if not self.lost and stream is not None:
            with self._losing():
                stream.flush()

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it was closed
            number = getattr(error, "errno", None)
            self.lost = _WHY.get(number or 0) or str(error) or "closed"

    def isatty(self) -> bool:
        try:
            return not self.lost and self.behind is not None and self.behind.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        stream = self.behind
        if stream is None:
            raise OSError(errno.EBADF, "there is no standard output")
        return stream.fileno()

    def close(self) -> None:
        """Closes the stream behind; what is written from then on goes nowhere, or to the log."""
        if self.behind is not None:
            self.behind.close()

    def writable(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return False


_WHY = {
    errno.EPIPE: "its reader has ended",
    errno.EIO: "the terminal was closed",
    errno.ENOSPC: "no space left for it",
}


@contextlib.contextmanager
def steady_output() -> Iterator[None]:
    """Within this context nothing that is printed can fail."""
    before = sys.stdout, sys.stderr
    steady: list[Any] = [stream and SteadyStream(stream) for stream in before]
    sys.stdout, sys.stderr = steady
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _let_go(stream)


def _let_go(stream: IO[str] | None) -> None:
    """What a dead stream still holds goes nowhere: Python would fail on it when it ends."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def fill_standard_streams() -> None:
    """Opens 0, 1 and 2 where they are closed: the next file would else become standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
