"""A chat client for any OpenAI-compatible server, as a `Generator`.

One request a reply: many servers ignore `n`. Replies are cached on disk under a hash of the
request, so that equal arguments give equal texts and a second run costs nothing. The API key is
read from the environment, sent as a header, and is neither cached nor shown in an error.

`complete` also gives what the server tells of a reply: why it ended, and the log-probs of its
tokens where it has any. A budget bounds what a run may ask.

A reply has a time to be there in whole, however slowly it drips, and a most of bytes. What a
server sends, whatever it is, ends in a text or in one ModelError.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
import math
import os
import sys
import zlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from icpo_lite.core.errors import ModelError, RecipeError
from icpo_lite.core.paths import user_cache
from icpo_lite.core.served_reply import (
    Form,
    ServedReply,
    as_served,
    read_cached,
    refused_for_length,
    write_cached,
)
from icpo_lite.core.types import Message
from icpo_lite.core.visible_text import visible_line, whole

if TYPE_CHECKING:
    import ssl

    import httpx

#: Statuses after which the same request may succeed: time-outs, rate limits, a busy server.
RETRY_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
#: A reply of more bytes, unpacked, is none.
MOST_BYTES = 16 << 20
#: Variables with a token of the Hugging Face hub, and the hosts that may see it.
_HUB_TOKENS = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN"})
_HUB_HOSTS = ("huggingface.co", "hf.co", "endpoints.huggingface.cloud")
#: (variable, host) of the keys that this process has told of.
_TOLD: set[tuple[str, str]] = set()


class EndpointOptions(BaseModel):
    """The recipe's `endpoint` block."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    base_url: str = Field(
        description="root of an OpenAI-compatible server, such as http://localhost:8000/v1"
    )
    model: str = Field(min_length=1, description="the model's name on that server")
    api_key_env: str | None = Field(
        None, description="environment variable that holds the API key; null sends none"
    )
    timeout: float = Field(120.0, gt=0, description="seconds for one whole reply")
    max_retries: int = Field(
        5, ge=0, description="further tries after a time-out, a rate limit or a busy server"
    )
    concurrency: int = Field(4, ge=1, description="requests in flight at a time")
    cache_dir: str | None = Field(
        None, description="folder of cached replies; null is icpo-lite/endpoint in the user's cache"
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="fields added to every request; null removes a field "
        "({max_tokens: null, max_completion_tokens: 2048})",
    )

    @field_validator("base_url")
    @classmethod
    def _plain_http_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected a URL such as http://localhost:8000/v1, found {url!r}")
        if parts.username or parts.password or parts.query:
            raise ValueError("expected a URL without user, password or query; use api_key_env")
        return url.rstrip("/").removesuffix("/chat/completions")

    @model_validator(mode="after")
    def _hub_token_at_home(self) -> Self:
        """A token of the hub opens more than one server: it goes to the hub alone, encrypted."""
        parts = urlsplit(self.base_url)
        host = parts.hostname or ""
        own = any(host == hub or host.endswith(f".{hub}") for hub in _HUB_HOSTS)
        if self.api_key_env in _HUB_TOKENS and not (own and parts.scheme == "https"):
            raise ValueError(
                f"expected {self.api_key_env} to go to https://…huggingface.co alone, found "
                f"base_url {self.base_url!r}; name the variable that holds that server's own key"
            )
        return self


class BudgetSpent(ModelError):
    """As many requests were sent as this run may send; what was replied is cached."""


class _NoRoom(Exception):
    """The server refuses a chat that is longer than its model reads."""


class Endpoint:
    """Replies of a chat model behind HTTP; implements `icpo_lite.core.types.Generator`.

    max_requests: as many requests at most, those that are sent again included; None is no bound.

    Raises RecipeError when the named environment variable is not set, and ModelError when the
    server refuses a request, stays unreachable, or answers in another format.
    """

    def __init__(
        self,
        options: EndpointOptions,
        *,
        sleep: Callable[[float], Any] = asyncio.sleep,
        max_requests: int | None = None,
    ) -> None:
        self.options = options
        self.requests = 0
        self._max_requests = max_requests
        self._sleep = sleep
        self._key = _api_key(options.api_key_env)
        self._cache = _cache_folder(options.cache_dir)
        if options.api_key_env:
            _tell_once(options.api_key_env, urlsplit(options.base_url).netloc)

    def __repr__(self) -> str:
        return f"Endpoint({self.options.model!r} at {self.options.base_url})"

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between two calls of `generate`."""

    def generate(
        self,
        chats: Sequence[Sequence[Message]],
        *,
        n: int = 1,
        max_new_tokens: int = 256,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[list[str]]:
        """n replies for each chat, in order; replies already cached are not asked for again."""
        bodies = [
            self._body(chat, max_new_tokens, temperature, _sample_seed(seed, sample))
            for chat in chats
            for sample in range(n)
        ]
        replies = _run(self._replies(bodies, Form("reply", str, self._content)))
        return [replies[i * n : (i + 1) * n] for i in range(len(chats))]

    def complete(
        self,
        chats: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float,
        seeds: Sequence[int],
        logprobs: int | None = None,
    ) -> list[ServedReply]:
        """One reply to each chat, sampled with its own seed, and what is told of it.

        logprobs: asks for those of the sampled tokens, and of so many of the likeliest beside
        them; None asks for none. A chat that the server has no room for gets an empty reply that
        was cut off.
        """
        asked: dict[str, Any] = {}
        if logprobs is not None:
            asked = {"logprobs": True} | ({"top_logprobs": logprobs} if logprobs else {})
        bodies = [
            self._body(chat, max_new_tokens, temperature, seed) | asked
            for chat, seed in zip(chats, seeds, strict=True)
        ]
        answers = _run(self._replies(bodies, Form("answer", dict, self._answer)))
        return [as_served(answer) for answer in answers]

    async def _replies(self, bodies: Sequence[Mapping[str, Any]], form: Form) -> list[Any]:
        import httpx

        slots = asyncio.Semaphore(self.options.concurrency)
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        async with httpx.AsyncClient(
            headers=headers, timeout=self.options.timeout, verify=self._certificates
        ) as client:

            async def one(body: Mapping[str, Any]) -> Any:
                async with slots:
                    try:
                        return await self._reply(client, body, form)
                    except BudgetSpent as spent:
                        return spent  # what is on its way comes in and is kept

            tasks = [asyncio.ensure_future(one(body)) for body in bodies]
            try:
                replies = await asyncio.gather(*tasks)
                if spent := next((r for r in replies if isinstance(r, BudgetSpent)), None):
                    raise spent
                return replies
            finally:
                # After an error or Ctrl-C the requests that have not started must not be sent.
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        import httpx

        return httpx.create_ssl_context()

    def _body(
        self, chat: Sequence[Message], max_new_tokens: int, temperature: float, seed: int
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.options.model,
            "messages": [{"role": m.role, "content": whole(m.text)} for m in chat],
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        body.update(self.options.extra_body)
        return {name: value for name, value in body.items() if value is not None}

    async def _reply(self, client: httpx.AsyncClient, body: Mapping[str, Any], form: Form) -> Any:
        request = {"base_url": self.options.base_url, **body}
        canonical = json.dumps(request, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()
        path = self._cache / digest[:2] / f"{digest}.json"
        cached = read_cached(path, form)
        if cached is not None:
            return cached
        try:
            reply = form.read(await self._post(client, body))
        except _NoRoom as refused:
            if form.kind is dict:
                return {"text": "", "finish_reason": "length"}
            raise ModelError(str(refused)) from None
        write_cached(path, {"request": request, form.name: reply})
        return reply

    async def _post(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> bytes:
        """The body of the server's answer, asked for again while that may help."""
        import httpx

        url = f"{self.options.base_url}/chat/completions"
        tries = self.options.max_retries + 1
        problem = ""
        for attempt in range(tries):
            wait = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S)
            self._spend()
            try:
                async with asyncio.timeout(self.options.timeout):
                    response, data = await _exchange(client, url, json.dumps(body).encode())
            except (TimeoutError, httpx.TimeoutException):
                problem = f"no whole reply within {self.options.timeout:g} s"
            except httpx.DecodingError as error:
                problem = f"a reply that cannot be unpacked ({self._safe(str(error))})"
            except httpx.RequestError as error:
                problem = self._safe(str(error)) or type(error).__name__
            except httpx.InvalidURL as error:  # of a proxy in the environment
                problem = self._safe(str(error))
                break
            else:
                if len(data) > MOST_BYTES:
                    problem = f"a reply of more than {MOST_BYTES >> 20} MiB"
                    break
                if response.status_code == 200:
                    return data
                text = data.decode(errors="replace")
                problem = f"HTTP {response.status_code}: {self._safe(text)}"
                if response.status_code not in RETRY_STATUSES:
                    break
                wait = _retry_after(response.headers.get("retry-after"), wait)
            if attempt + 1 < tries:
                paused = self._sleep(wait)
                if inspect.isawaitable(paused):
                    await paused
        told = (
            f"expected a reply of {self.options.model!r} from {url}, found {problem}; "
            "check endpoint.base_url, endpoint.model and endpoint.api_key_env"
        )
        raise _NoRoom(told) if refused_for_length(problem) else ModelError(told)

    def _spend(self) -> None:
        if self._max_requests is not None and self.requests >= self._max_requests:
            raise BudgetSpent(
                f"expected at most {self._max_requests} requests to {self.options.base_url}, and "
                "one more is needed; raise the budget"
            )
        self.requests += 1

    def _choice(self, data: bytes) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """An answer, its first choice and that one's content."""
        try:
            answer = json.loads(data)
            choice = answer["choices"][0]
            return answer, choice, choice["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ModelError(
                f"expected choices[0].message.content from {self.options.base_url}, found "
                f"'{self._safe(data[:1000].decode(errors='replace'))}'; is it an "
                "OpenAI-compatible server?"
            ) from None

    def _answer(self, data: bytes) -> dict[str, Any]:
        """What `complete` keeps of an answer; no content is an empty reply."""
        answer, choice, content = self._choice(data)
        usage = answer.get("usage") if isinstance(answer, dict) else None
        count = usage.get("completion_tokens") if isinstance(usage, dict) else None
        return {
            "text": whole(content) if isinstance(content, str) else "",
            "finish_reason": str(choice.get("finish_reason") or ""),
            "logprobs": choice.get("logprobs"),
            "count": count if type(count) is int else None,
        }

    def _content(self, data: bytes) -> str:
        _, choice, content = self._choice(data)
        if not isinstance(content, str):
            reason = self._safe(str(choice.get("finish_reason")))
            raise ModelError(
                f"expected text from {self.options.model!r}, found none (finish_reason "
                f"'{reason}'); a reasoning model may need a larger limit: "
                "endpoint.extra_body={max_tokens: 4096}"
            )
        return whole(content)

    def _safe(self, text: str) -> str:
        """The start of a server's message on one line, without the key that it may echo."""
        if self._key:
            text = text.replace(self._key, "***")
        return visible_line(" ".join(text.split())[:200])


async def _exchange(
    client: httpx.AsyncClient, url: str, body: bytes
) -> tuple[httpx.Response, bytes]:
    """One request and the body of its answer, not read further than it may go."""
    data = bytearray()
    async with client.stream("POST", url, content=body) as response:
        async for part in response.aiter_bytes():
            data += part
            if len(data) > MOST_BYTES:
                break
    return response, bytes(data)


def _run(work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    """Run to the end, also where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def _tell_once(variable: str, host: str) -> None:
    """Say which secret goes where: a recipe that somebody else wrote names both."""
    if (variable, host) not in _TOLD:
        _TOLD.add((variable, host))
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more
            print(f"endpoint: the key in {variable} is sent to {host}", file=sys.stderr)


def _sample_seed(seed: int, sample: int) -> int:
    """A seed of its own for each of the n replies, unrelated to those of the next call's seed."""
    return zlib.crc32(f"{seed}/{sample}".encode()) & 0x7FFFFFFF


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise RecipeError(
            f"expected the API key in the environment variable {variable} "
            "(endpoint.api_key_env), found none; export it, or set endpoint.api_key_env=null"
        )
    return key


def _cache_folder(cache_dir: str | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    return user_cache("endpoint")


def _retry_after(header: str | None, otherwise: float) -> float:
    """Seconds a server asks to wait (its date form is not read), at most LONGEST_WAIT_S."""
    try:
        seconds = float(header) if header else otherwise
    except ValueError:
        return otherwise
    return otherwise if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT_S)
