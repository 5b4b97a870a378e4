"""A report that is served on this machine while its run trains: read only, the library's server."""

from __future__ import annotations

import errno
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
from markupsafe import Markup

from icpo_lite.core.console import on_terminal
from icpo_lite.core.errors import IcpoError, UsageError
from icpo_lite.core.visible_text import echo, visible, visible_line
from icpo_lite.tools.report.page import Live, render
from icpo_lite.tools.report.run_files import require_runs
from icpo_lite.tools.report.standing import Standing, standing

HOST = "127.0.0.1"
PORT = 8765
#: Names by which a browser of this machine, or one at the end of an ssh tunnel, may call it. Others
#: are those of pages elsewhere whose name was made to lead here.
_HOST_HEADER = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?", re.I)


class Followed:
    """Run directories and the page about them, made anew when they have changed."""

    def __init__(self, folders: Sequence[Path], conversations: int | None = None) -> None:
        require_runs(folders)
        self.folders = [folder.resolve() for folder in folders]
        self._conversations = conversations
        self._lock = threading.Lock()
        self._made: tuple[str, bytes] | None = None

    def standing(self) -> Standing:
        return standing(self.folders)

    def page(self) -> bytes:
        """The newest page; the last one that could be made where the files have gone."""
        with self._lock:
            now = self.standing()
            if self._made is None or self._made[0] != now.version:
                self._made = (now.version, self._render(now))
            return self._made[1]

    def _render(self, now: Standing) -> bytes:
        try:
            live = Live(now.words, now.version)
            return render(self.folders, self._conversations, live).text.encode()
        except (IcpoError, OSError) as error:
            if self._made is not None:
                return self._made[1]
            return str(Markup("<p>{}</p>").format(visible(str(error)))).encode()


class _Handler(BaseHTTPRequestHandler):
    """GET of the page and of how the run stands; nothing else is there."""

    server_version = "icpo-lite"
    sys_version = ""
    #: Seconds that a silent connection is kept.
    timeout = 30
    server: LiveServer

    def do_GET(self) -> None:
        if not _HOST_HEADER.fullmatch(self.headers.get("Host", "")):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"expected the name of this machine\n")
        elif (path := self.path.partition("?")[0]) == "/":
            self._send(HTTPStatus.OK, self.server.followed.page(), "text/html")
        elif path == "/state":
            state = asdict(self.server.followed.standing())
            self._send(HTTPStatus.OK, json.dumps(state).encode(), "application/json")
        else:
            self._send(HTTPStatus.NOT_FOUND, b"expected / or /state\n")

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, b"expected GET: this page is read only\n")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            **({"Allow": "GET, HEAD"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}),
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """A request is no news for the terminal."""


class LiveServer(ThreadingHTTPServer):
    """Serves one page on this machine alone; `tell` hears how it stands about once a second."""

    daemon_threads = True
    #: A port that another server listens at is taken, whatever it allows.
    allow_reuse_port = False

    def __init__(
        self, followed: Followed, port: int, tell: Callable[[Standing], None] = lambda now: None
    ) -> None:
        self.followed = followed
        self._tell = tell
        super().__init__((HOST, port), _Handler)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/"

    def service_actions(self) -> None:
        self._tell(self.followed.standing())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no error; any other is a line."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            echo(f"note: a request failed: {type(error).__name__}: {error}", err=True)


class _Line:
    """How the run stands on one line of a terminal that is drawn anew; a line a phase where it is
    no terminal."""

    def __init__(self) -> None:
        self._said: tuple[str, str] = ("", "")

    def __call__(self, now: Standing) -> None:
        last, self._said = self._said, (now.phase, now.words)
        if on_terminal():
            if self._said != last:
                room = max(shutil.get_terminal_size().columns - 1, 20)
                click.echo(f"\r\x1b[K{visible_line(now.words)[:room]}", nl=False)
        elif now.phase != last[0]:
            echo(now.words)


def watch(folders: Sequence[Path], port: int | None, conversations: int | None = None) -> None:
    """Serve the report of these runs until Ctrl-C.

    Raises UsageError for a folder that is no run directory, and for a port that cannot be had.
    """
    followed = Followed(folders, conversations)
    wanted = PORT if port is None else port
    try:
        server = LiveServer(followed, wanted, _Line())
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        found = "one that is taken" if taken else f"one that cannot be had ({error})"
        raise UsageError(
            f"--port {wanted}: expected a free port, found {found}; give another, or --port 0 for "
            "any that is free"
        ) from None
    with server:
        echo(f"{server.address} (Ctrl-C ends it)")
        try:
            server.serve_forever(poll_interval=1.0)
        except KeyboardInterrupt as error:
            if error.args:  # a signal that ends the program
                raise
            echo()
