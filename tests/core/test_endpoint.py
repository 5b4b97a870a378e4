"""The chat client against a real HTTP server on 127.0.0.1."""

import asyncio
import contextlib
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from icpo_lite.core.endpoint import Endpoint, EndpointOptions
from icpo_lite.core.errors import ModelError, RecipeError
from icpo_lite.core.types import Message

KEY = "sk-very-secret-0123456789"


class Server(ThreadingHTTPServer):
    """Records requests; answers from `script` first, then echoes the last message and seed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.authorization: list[str | None] = []
        self.script: list[tuple[int, dict[str, str], str]] = []
        self.lock = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append({"path": self.path, **body})
            self.server.authorization.append(self.headers.get("Authorization"))
            scripted = self.server.script.pop(0) if self.server.script else None
        status, headers, text = scripted or (200, {}, chat_reply(f"{said(body)}#{body['seed']}"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def said(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def chat_reply(content: str | None, finish_reason: str = "stop") -> str:
    message = {"role": "assistant", "content": content}
    return json.dumps({"choices": [{"message": message, "finish_reason": finish_reason}]})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    instance = Server()
    thread = threading.Thread(target=instance.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield instance
    instance.shutdown()
    instance.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


def make(server: Server, tmp_path: Any, waits: list[float] | None = None, **more: Any) -> Endpoint:
    options = EndpointOptions(
        base_url=server.base_url, model="m", cache_dir=str(tmp_path / "cache"), **more
    )
    return Endpoint(options, sleep=(waits if waits is not None else []).append)


CHATS = [[Message("system", "s"), Message("user", "one")], [Message("user", "two")]]


def test_request_and_order_of_replies(server: Server, tmp_path: Any) -> None:
    with make(server, tmp_path, concurrency=3) as endpoint:
        replies = endpoint.generate(CHATS, n=3, max_new_tokens=7, temperature=0.5, seed=4)
    assert [[text.split("#")[0] for text in row] for row in replies] == [["one"] * 3, ["two"] * 3]
    assert len({text.split("#")[1] for text in replies[0]}) == 3, "each reply has its own seed"
    first = next(r for r in server.requests if said(r) == "one")
    assert first["path"] == "/v1/chat/completions"
    assert first["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "one"},
    ]
    assert (first["model"], first["max_tokens"], first["temperature"]) == ("m", 7, 0.5)
    assert server.authorization == [None] * 6


def test_equal_arguments_are_answered_from_the_cache(server: Server, tmp_path: Any) -> None:
    with make(server, tmp_path) as endpoint:
        first = endpoint.generate(CHATS, n=2)
    with make(server, tmp_path) as endpoint:
        again = endpoint.generate(CHATS, n=2)
        assert len(server.requests) == 4
        other_seed = endpoint.generate(CHATS, n=2, seed=1)
    assert first == again
    assert first != other_seed
    assert len(server.requests) == 8


def test_a_damaged_cache_entry_is_asked_for_again(server: Server, tmp_path: Any) -> None:
    with make(server, tmp_path) as endpoint:
        first = endpoint.generate(CHATS[1:])
        (entry,) = (tmp_path / "cache").rglob("*.json")
        entry.write_text('{"reply": ')
        assert endpoint.generate(CHATS[1:]) == first
    assert len(server.requests) == 2
    assert json.loads(entry.read_text())["reply"] == first[0][0]


def test_busy_server_is_asked_again_with_growing_waits(
    server: Server, tmp_path: Any, waits: list[float]
) -> None:
    server.script = [(503, {}, "busy"), (500, {}, "oops"), (429, {"Retry-After": "7"}, "slow")]
    with make(server, tmp_path, waits) as endpoint:
        replies = endpoint.generate(CHATS[1:])
    assert replies[0][0].startswith("two#")
    assert waits == [0.5, 1.0, 7.0]


def test_retries_end(server: Server, tmp_path: Any, waits: list[float]) -> None:
    server.script = [(503, {}, "busy")] * 3
    with (
        make(server, tmp_path, waits, max_retries=2) as endpoint,
        pytest.raises(ModelError, match="HTTP 503: busy"),
    ):
        endpoint.generate(CHATS[1:])
    assert len(server.requests) == 3
    assert waits == [0.5, 1.0]


def test_refusal_is_final_and_never_shows_the_key(
    server: Server, tmp_path: Any, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    server.script = [(401, {}, f"bad key\n{KEY}")]
    with make(server, tmp_path, waits, api_key_env="TEST_KEY") as endpoint:
        with pytest.raises(ModelError) as error:
            endpoint.generate(CHATS[1:])
        endpoint.generate(CHATS[1:])
        assert KEY not in repr(endpoint)
    assert waits == []
    assert "HTTP 401: bad key ***" in str(error.value)
    assert KEY not in str(error.value)
    assert "\n" not in str(error.value)
    assert server.authorization == [f"Bearer {KEY}"] * 2
    stored = [p.read_text() for p in (tmp_path / "cache").rglob("*.json")]
    assert len(stored) == 1
    assert KEY not in stored[0]


@pytest.mark.parametrize("text", ["<html>", "{}", '{"choices": []}', "[]"])
def test_another_format_is_named(server: Server, tmp_path: Any, text: str) -> None:
    server.script = [(200, {}, text)]
    with make(server, tmp_path) as endpoint, pytest.raises(ModelError, match="OpenAI-compatible"):
        endpoint.generate(CHATS[1:])
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_missing_text_is_an_error_not_an_empty_reply(server: Server, tmp_path: Any) -> None:
    server.script = [(200, {}, chat_reply(None, "length"))]
    with make(server, tmp_path) as endpoint, pytest.raises(ModelError, match="'length'"):
        endpoint.generate(CHATS[1:])


def test_unreachable_server(server: Server, tmp_path: Any, waits: list[float]) -> None:
    server.shutdown()
    server.server_close()
    with (
        make(server, tmp_path, waits, max_retries=1) as endpoint,
        pytest.raises(ModelError, match=r"check endpoint\.base_url"),
    ):
        endpoint.generate(CHATS[1:])
    assert waits == [0.5]


def test_missing_key_variable(
    server: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(RecipeError, match="environment variable TEST_KEY"):
        make(server, tmp_path, api_key_env="TEST_KEY")


def test_extra_body_adds_and_removes_fields(server: Server, tmp_path: Any) -> None:
    extra = {"max_tokens": None, "max_completion_tokens": 9}
    with make(server, tmp_path, extra_body=extra) as endpoint:
        endpoint.generate(CHATS[1:])
    assert "max_tokens" not in server.requests[0]
    assert server.requests[0]["max_completion_tokens"] == 9


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "https://me:pw@host/v1"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        EndpointOptions(base_url=url, model="m")


def test_a_full_url_is_understood() -> None:
    options = EndpointOptions(base_url="http://h/v1/chat/completions/", model="m")
    assert options.base_url == "http://h/v1"


# -------------------------------------------------------------------------------- hostile servers


class Raw:
    """A server that answers each connection with bytes, one by one if it drips."""

    def __init__(self, *replies: bytes, drip: float = 0.0) -> None:
        self.replies, self.drip, self.taken = list(replies), drip, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"

    def _serve(self) -> None:
        while self.replies:
            connection, _ = self.listener.accept()
            self.taken += 1
            reply = self.replies.pop(0)
            with contextlib.suppress(OSError), connection:
                asked = b""
                while not asked.endswith(b"}"):  # else what is unread would break the connection
                    asked += connection.recv(65536)
                step = 1 if self.drip else max(len(reply), 1)
                for at in range(0, len(reply), step):
                    connection.sendall(reply[at : at + step])
                    time.sleep(self.drip)


def http(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


GOOD = chat_reply("Hello.").encode()
HOSTILE: dict[str, tuple[bytes, str, int]] = {
    "bad gzip": (http(b"no gzip", "Content-Encoding: gzip"), "cannot be unpacked", 2),
    "cut gzip": (http(gzip.compress(GOOD)[:-12], "Content-Encoding: gzip"), "expected", 1),
    "a bomb": (http(gzip.compress(bytes(80 << 20)), "Content-Encoding: gzip"), "16 MiB", 1),
    "huge": (http(b"x" * (17 << 20)), "16 MiB", 1),
    "deep": (http(b'{"choices": ' + b"[" * 200_000), "OpenAI-compatible", 1),
    "no HTTP": (b"\x16\x03\x01\x00\x00\r\n\r\n", "expected a reply", 2),
    "nothing": (b"", "expected a reply", 2),
    "cut short": (http(GOOD)[:-9], "expected a reply", 2),
    "a list for text": (http(GOOD.replace(b'"Hello."', b"[1]")), "expected text", 1),
    "a redirect": (b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "HTTP 307", 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_reply_is_one_clear_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for again where that may help (a broken transfer), not where it cannot."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    reply, words, tries = HOSTILE[name]
    server = Raw(reply, reply, reply)
    options = EndpointOptions(
        base_url=server.base_url, model="m", cache_dir=str(tmp_path), max_retries=1
    )
    with pytest.raises(ModelError, match=words) as error:
        Endpoint(options, sleep=lambda _: None).generate(CHATS[1:])
    assert str(error.value).isprintable()
    assert server.taken == tries
    assert not list(tmp_path.rglob("*.json"))


def test_a_broken_transfer_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Raw(HOSTILE["bad gzip"][0], HOSTILE["cut short"][0], http(GOOD))
    options = EndpointOptions(base_url=server.base_url, model="m", cache_dir=str(tmp_path))
    assert Endpoint(options, sleep=lambda _: None).generate(CHATS[1:]) == [["Hello."]]
    assert server.taken == 3


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_drip_ends_at_the_deadline(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time; the whole does not."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    slow = http(b" " * 5000 + GOOD)
    server = Raw(slow if part == "body" else slow[:17] + b"X-A: " + b"a" * 5000, drip=0.02)
    options = EndpointOptions(
        base_url=server.base_url, model="m", cache_dir=str(tmp_path), max_retries=0, timeout=1.0
    )
    begun = time.monotonic()
    with pytest.raises(ModelError, match="no whole reply within 1 s"):
        Endpoint(options).generate(CHATS[1:])
    assert time.monotonic() - begun < 15


def test_halves_of_surrogate_pairs_neither_go_nor_come(server: Server, tmp_path: Any) -> None:
    server.script = [(200, {}, '{"choices": [{"message": {"content": "a\\ud800b"}}]}')]
    with make(server, tmp_path) as endpoint:
        chats = [[Message("user", "x\udfffy")]]
        assert endpoint.generate(chats) == [["a\ufffdb"]]
        assert said(server.requests[0]) == "x\ufffdy"
        assert endpoint.generate(chats) == [["a\ufffdb"]], "from the cache"


def test_what_a_server_says_cannot_write_to_the_terminal(server: Server, tmp_path: Any) -> None:
    server.script = [(400, {}, "\x1b[2J\x1b]0;owned\x07 no\u202e")]
    with make(server, tmp_path) as endpoint, pytest.raises(ModelError) as error:
        endpoint.generate(CHATS[1:])
    assert str(error.value).isprintable()
    assert "\\x1b[2J" in str(error.value)


@pytest.mark.parametrize("wait", ["nan", "-1", "-inf", "1e999", "soon"])
def test_an_odd_wait_is_a_wait(server: Server, tmp_path: Any, wait: str) -> None:
    waits: list[float] = []
    server.script = [(429, {"Retry-After": wait}, "slow")]
    with make(server, tmp_path, waits) as endpoint:
        endpoint.generate(CHATS[1:])
    assert 0.0 <= waits[0] <= 60.0


def test_it_works_where_a_loop_runs_already(server: Server, tmp_path: Any) -> None:
    async def cell() -> list[list[str]]:
        with make(server, tmp_path) as endpoint:
            return endpoint.generate(CHATS[1:])

    assert asyncio.run(cell())[0][0].startswith("two#")


# ------------------------------------------------------------------------------------------- keys


def test_it_is_told_once_which_key_goes_where(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLD_KEY", KEY)
    for base_url in ("https://a.example/v1", "https://a.example/v1", "https://b.example:8443"):
        Endpoint(EndpointOptions(base_url=base_url, model="m", api_key_env="TOLD_KEY"))
    assert capsys.readouterr().err == (
        "endpoint: the key in TOLD_KEY is sent to a.example\n"
        "endpoint: the key in TOLD_KEY is sent to b.example:8443\n"
    )


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://api.example/v1",
            "https://huggingface.co.example/v1",
            "http://huggingface.co/v1",
        ),
        *("https://xhuggingface.co/v1", "https://me.hf.space/v1"),
    ],
)
def test_the_hubs_token_goes_to_the_hub_alone(variable: str, url: str) -> None:
    with pytest.raises(ValidationError, match=rf"expected {variable} to go to https"):
        EndpointOptions(base_url=url, model="m", api_key_env=variable)


def test_the_hub_gets_its_token() -> None:
    for url in ("https://router.huggingface.co/v1", "https://huggingface.co/api/v1"):
        assert EndpointOptions(base_url=url, model="m", api_key_env="HF_TOKEN").base_url == url
