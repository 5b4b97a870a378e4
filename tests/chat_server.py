"""A chat server on 127.0.0.1 that plays a policy, in OpenAI's form and with vLLM's words.

Requests that come in together are sampled together, as servers of many GPUs do.
"""

from __future__ import annotations

import json
import queue
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from icpo_lite.core.types import Message
from icpo_lite.policy.load import Policy
from icpo_lite.rollout.sampler import SamplingOptions, sample

#: Seconds in which no further request comes before those at hand are sampled.
QUIET = 0.05


@dataclass
class Asked:
    body: dict[str, Any]
    done: threading.Event = field(default_factory=threading.Event)
    answer: tuple[int, dict[str, Any]] = (500, {})


class ChatServer(ThreadingHTTPServer):
    """Serves until it is closed. logprobs: the most top_logprobs that it gives, 0 for none at all,
    None where a request for them is refused. dies_after: replies after which it goes down.

    requests: the bodies it was sent. most: requests that were in flight at once at most.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        policy: Policy,
        *,
        port: int = 0,
        logprobs: int | None = 20,
        dies_after: int | None = None,
        usage: bool = True,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.policy, self.logprobs, self.usage = policy, logprobs, usage
        self.left = dies_after
        self.requests: list[dict[str, Any]] = []
        self.most = self._flying = 0
        self.dead = False
        self._lock = threading.Lock()
        self._asked: queue.Queue[Asked | None] = queue.Queue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> ChatServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        threading.Thread(target=self._work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.put(None)
        if not self.dead:
            self.shutdown()
            self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is none of ours."""

    def ask(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """The answer to a request; None once the server is dead."""
        with self._lock:
            if self.dead:
                return None
            self.requests.append(body)
            self._flying += 1
            self.most = max(self.most, self._flying)
        asked = Asked(body)
        self._asked.put(asked)
        asked.done.wait(60)
        with self._lock:
            self._flying -= 1
            if self.dead:
                return None
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    self.dead = True
                    threading.Thread(target=self._die, daemon=True).start()
                    return None
        return asked.answer

    def _die(self) -> None:
        self.shutdown()
        self.server_close()

    def _work(self) -> None:
        while (first := self._asked.get()) is not None:
            batch = [first]
            try:
                while (more := self._asked.get(timeout=QUIET)) is not None:
                    batch.append(more)
            except queue.Empty:
                pass
            kinds: dict[tuple[int, float], list[Asked]] = {}
            for asked in batch:
                kind = (asked.body["max_tokens"], asked.body["temperature"])
                kinds.setdefault(kind, []).append(asked)
            for (length, temperature), some in kinds.items():
                self._answer(some, length, temperature)

    def _answer(self, batch: list[Asked], length: int, temperature: float) -> None:
        policy, fit = self.policy, []
        for asked in batch:
            chat = [Message(m["role"], m["content"]) for m in asked.body["messages"]]
            ids = policy.encode_chat(chat)
            if asked.body.get("logprobs") and (
                self.logprobs is None or asked.body.get("top_logprobs", 0) > max(self.logprobs, 5)
            ):
                asked.answer = (400, {"message": "top_logprobs is not supported"})
            elif len(ids) + length > policy.max_positions:
                asked.answer = (
                    400,
                    {"message": f"This model's maximum context length is {policy.max_positions}"},
                )
            else:
                fit.append((asked, ids))
        if fit:
            keys = [("served", asked.body["seed"]) for asked, _ in fit]
            options = SamplingOptions(length, temperature)
            groups = sample(policy, [ids for _, ids in fit], n=1, options=options, keys_P=keys)
            for (asked, ids), (reply,) in zip(fit, groups, strict=True):
                asked.answer = (200, self._body(asked.body, ids, reply))
        for asked in batch:
            asked.done.set()

    def _body(self, body: dict[str, Any], ids: tuple[int, ...], reply: Any) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "message": {"role": "assistant", "content": reply.text},
            "finish_reason": "stop" if reply.stop_reason == "eos" else "length",
            "logprobs": None,
        }
        if body.get("logprobs") and self.logprobs:
            words = self.policy.tokenizer.convert_ids_to_tokens(list(reply.token_ids))
            content = [
                {"token": word, "logprob": logp, "top_logprobs": []}
                for word, logp in zip(words, reply.logprobs, strict=True)
            ]
            content[0]["top_logprobs"] = self._top(ids, body.get("top_logprobs", 0))
            choice["logprobs"] = {"content": content}
        answer: dict[str, Any] = {"choices": [choice]}
        if self.usage:
            answer["usage"] = {"completion_tokens": len(reply.token_ids)}
        return answer

    @torch.no_grad()
    def _top(self, ids: tuple[int, ...], count: int) -> list[dict[str, Any]]:
        if not count:
            return []
        logits = self.policy.causal_lm(torch.tensor([ids])).logits[0, -1].float()
        best = logits.log_softmax(-1).topk(count)
        words = self.policy.tokenizer.convert_ids_to_tokens(best.indices.tolist())
        return [
            {"token": word, "logprob": logp}
            for word, logp in zip(words, best.values.tolist(), strict=True)
        ]


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.ask(body)
        if answer is None:
            self.close_connection = True
            self.connection.close()
            return
        status, found = answer
        text = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass
