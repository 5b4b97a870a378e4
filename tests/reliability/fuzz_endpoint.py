"""Mutated replies of a chat server: each ends in a text or in one ModelError of one line, in time.

    python tests/reliability/fuzz_endpoint.py --count 2000

A server on 127.0.0.1 answers with whole HTTP responses that were changed at random: status lines,
headers, chunks, gzip, JSON. Some connections stay open, some drip.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import socket
import sys
import tempfile
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz import mutated

#: Of one reply; and what a machine with other work may need beyond it.
SECONDS, SLACK = 0.3, 20.0
#: Unicode's categories of characters that a terminal acts on, or that show nothing.
NO_WRITING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def chat(content: Any, **more: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], **more}).encode()


def response(body: bytes, *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes) -> bytes:
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    sent = b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in parts) + b"0\r\n\r\n"
    return response(sent, "Transfer-Encoding: chunked", length=False)


def seeds() -> list[bytes]:
    """Whole responses, good and bad, that the mutations start from."""
    deep = b"[" * 100_000
    packed = gzip.compress(chat("Hello", usage={"total_tokens": 3}))
    return [
        response(chat("Hello")),
        response(chat("Hello"), length=False),
        chunked(chat("How many pens? \u202e\x1b[31m")),
        response(packed, "Content-Encoding: gzip"),
        response(packed[:-9], "Content-Encoding: gzip"),
        response(gzip.compress(bytes(40 << 20)), "Content-Encoding: gzip"),
        response(chat("x"), "Content-Encoding: deflate"),
        response(deep),
        response(b'{"choices": ' + deep),
        response(b'{"choices": [{"message": {"content": "\\ud800 \\udc00"}}]}'),
        response(chat(None)),
        response(chat({"a": 1})),
        response(chat(["x"])),
        response(b'{"choices": [[1]]}'),
        response(b"{}"),
        response(b"NaN"),
        response(b"\xff\xfe\x00"),
        response(b""),
        response(b"no", status="401 Unauthorized"),
        response(b"\x1b[2J", status="500 \x1b[2J"),
        response(b"slow", "Retry-After: nan", status="429 Too Many"),
        response(b"slow", "Retry-After: -1e999", status="429 Too Many"),
        response(b"", "Location: http://127.0.0.1:1/", status="302 Found"),
        response(b"", status="204 No Content"),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + response(chat("late")),
        b"HTTP/9.9 9999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"",
    ]


def changed(good: list[bytes], rng: random.Random) -> bytes:
    """A response changed anywhere, or one of sound HTTP whose body is changed."""
    if rng.random() < 0.5:
        return mutated(rng.choice(good), rng)
    body = chat(rng.choice(["Hello", "How many?\n" * 9, "\ud83d\ude00 \u202e", '7 \\ " ']), id="x")
    body = body if rng.random() < 0.2 else mutated(body, rng)
    if rng.random() < 0.3:
        return response(gzip.compress(body), "Content-Encoding: gzip")
    return chunked(body) if rng.random() < 0.5 else response(body)


@dataclass
class Server:
    """Answers every connection with what `next_reply` holds; `hold`: then keeps it open."""

    next_reply: bytes = b""
    hold: bool = False
    drip: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> int:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()
        return int(self.listener.getsockname()[1])

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        reply, hold, drip = self.next_reply, self.hold, self.drip
        with connection:
            try:
                connection.settimeout(5)
                self._read_request(connection)
                if drip:
                    for i in range(len(reply)):
                        connection.sendall(reply[i : i + 1])
                        time.sleep(0.05)
                else:
                    connection.sendall(reply)
                if hold:
                    connection.recv(1)
            except OSError:
                return

    def _read_request(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536) or b"\r\n\r\n"
        head, _, body = data.partition(b"\r\n\r\n")
        lines = [line.lower() for line in head.split(b"\r\n")]
        size = next((int(h.split(b":")[1]) for h in lines if h.startswith(b"content-length")), 0)
        while len(body) < size:
            body += connection.recv(65536) or bytes(size)

    def stop(self) -> None:
        self.ended.set()
        self.listener.close()


@dataclass
class Outcome:
    """What became of all replies; `broken` holds a line for each rule that was broken."""

    ends: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


@contextmanager
def direct() -> Iterator[None]:
    """No proxy of the environment is asked."""
    kept = os.environ.get("NO_PROXY")
    os.environ["NO_PROXY"] = "127.0.0.1"
    try:
        yield
    finally:
        os.environ.pop("NO_PROXY") if kept is None else os.environ.update(NO_PROXY=kept)


def fuzz(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Try `count` replies; the first are the seeds themselves."""
    from icpo_lite.core.endpoint import Endpoint, EndpointOptions
    from icpo_lite.core.errors import ModelError
    from icpo_lite.core.types import Message

    rng, outcome, server, good = random.Random(seed), Outcome(), Server(), seeds()
    port = server.start()
    with direct():
        for number in range(count):
            plain = number < len(good)
            reply = good[number] if plain else changed(good, rng)
            server.next_reply = reply
            server.hold, server.drip = rng.random() < 0.02, rng.random() < 0.02
            options = EndpointOptions(
                base_url=f"http://127.0.0.1:{port}/v1", model="m", timeout=SECONDS,
                max_retries=rng.randrange(2), cache_dir=str(folder / "cache"),
            )  # fmt: skip
            chats = [[Message("user", f"{number} \ud800")]]
            begun = time.monotonic()
            try:
                ((text,),) = Endpoint(options, sleep=lambda _: None).generate(chats)
                text.encode()
                end = "text"
            except ModelError as error:
                end = "ModelError"
                if {unicodedata.category(c) for c in str(error)} & NO_WRITING:
                    outcome.broken.append(f"{number}: not one plain line: {str(error)!r}")
            except BaseException as error:
                end = type(error).__name__
                outcome.broken.append(f"{number}: {end}: {error!r:.300} from {reply[:200]!r}")
            took = time.monotonic() - begun
            if took > 2 * SECONDS + SLACK:
                outcome.broken.append(f"{number}: took {took:.1f} s for {reply[:200]!r}")
            outcome.ends[end] += 1
    server.stop()
    return outcome


def main(fuzz: Callable[[int, Path, int], Outcome], about: str, of: str) -> int:
    """A command around `fuzz`. of: what it counts."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = fuzz(given.count, Path(folder), given.seed)
    print(f"{sum(outcome.ends.values())} {of}, {dict(sorted(outcome.ends.items()))}")
    for problem in outcome.broken[:40]:
        print(f"BROKEN {problem}")
    print(f"{len(outcome.broken)} broken")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main(fuzz, "Fuzz the client of chat servers.", "replies"))
