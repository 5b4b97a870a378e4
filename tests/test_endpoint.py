"""The chat client against a real HTTP server on 127.0.0.1."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
