"""A chat client for any OpenAI-compatible server, as a `Generator`.

One request a reply: many servers ignore `n`. Replies are cached on disk under a hash of the
request, so that equal arguments give equal texts and a second run costs nothing. The API key is
read from the environment, sent as a header, and is neither cached nor shown in an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from icpo_lite.core.errors import ModelError, RecipeError
from icpo_lite.core.paths import user_cache
from icpo_lite.core.types import Message

if TYPE_CHECKING:
    import httpx

#: Statuses after which the same request may succeed: time-outs, rate limits, a busy server.
RETRY_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0


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
    timeout: float = Field(120.0, gt=0, description="seconds to wait for one reply")
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


class Endpoint:
    """Replies of a chat model behind HTTP; implements `icpo_lite.core.types.Generator`.

    Raises RecipeError when the named environment variable is not set, and ModelError when the
    server refuses a request, stays unreachable, or answers in another format.
    """

    def __init__(
        self, options: EndpointOptions, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        import httpx

        self.options = options
        self._sleep = sleep
        self._key = _api_key(options.api_key_env)
        self._cache = _cache_folder(options.cache_dir)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client: httpx.Client = httpx.Client(headers=headers, timeout=options.timeout)

    def __repr__(self) -> str:
        return f"Endpoint({self.options.model!r} at {self.options.base_url})"

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

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
        pool = ThreadPoolExecutor(max_workers=self.options.concurrency)
        try:
            replies = list(pool.map(self._reply, bodies))
        finally:
            # After an error or Ctrl-C the requests that have not started must not be sent.
            pool.shutdown(wait=False, cancel_futures=True)
        return [replies[i * n : (i + 1) * n] for i in range(len(chats))]

    def _body(
        self, chat: Sequence[Message], max_new_tokens: int, temperature: float, seed: int
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.options.model,
            "messages": [{"role": m.role, "content": m.text} for m in chat],
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        body.update(self.options.extra_body)
        return {name: value for name, value in body.items() if value is not None}

    def _reply(self, body: Mapping[str, Any]) -> str:
        request = {"base_url": self.options.base_url, **body}
        canonical = json.dumps(request, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        path = self._cache / digest[:2] / f"{digest}.json"
        cached = _read_cached(path)
        if cached is not None:
            return cached
        reply = self._content(self._post(body))
        _write_cached(path, {"request": request, "reply": reply})
        return reply

    def _post(self, body: Mapping[str, Any]) -> httpx.Response:
        import httpx

        url = f"{self.options.base_url}/chat/completions"
        tries = self.options.max_retries + 1
        problem = ""
        for attempt in range(tries):
            wait = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S)
            try:
                response = self._client.post(url, json=body)
            except httpx.TimeoutException:
                problem = f"no reply within {self.options.timeout:g} s"
            except httpx.TransportError as error:
                problem = self._safe(str(error)) or type(error).__name__
            else:
                if response.status_code == 200:
                    return response
                problem = f"HTTP {response.status_code}: {self._safe(response.text)}"
                if response.status_code not in RETRY_STATUSES:
                    break
                wait = _retry_after(response.headers.get("retry-after"), wait)
            if attempt + 1 < tries:
                self._sleep(wait)
        raise ModelError(
            f"expected a reply of {self.options.model!r} from {url}, found {problem}; "
            "check endpoint.base_url, endpoint.model and endpoint.api_key_env"
        )

    def _content(self, response: httpx.Response) -> str:
        try:
            choice = response.json()["choices"][0]
            content = choice["message"]["content"]
        except (ValueError, LookupError, TypeError):
            raise ModelError(
                f"expected choices[0].message.content from {self.options.base_url}, found "
                f"{self._safe(response.text)!r}; is it an OpenAI-compatible server?"
            ) from None
        if not isinstance(content, str):
            raise ModelError(
                f"expected text from {self.options.model!r}, found none (finish_reason "
                f"{choice.get('finish_reason')!r}); a reasoning model may need a larger limit: "
                "endpoint.extra_body={max_tokens: 4096}"
            )
        return content

    def _safe(self, text: str) -> str:
        """The start of a server's message on one line, without the key that it may echo."""
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(text.split())[:200]


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
    return min(max(seconds, 0.0), LONGEST_WAIT_S)


def _read_cached(path: Path) -> str | None:
    try:
        reply = json.loads(path.read_text(encoding="utf-8"))["reply"]
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None  # absent, or not what this module writes: ask again and replace it
    return reply if isinstance(reply, str) else None


def _write_cached(path: Path, entry: Mapping[str, Any]) -> None:
    """Written aside and renamed, so that an interrupted run leaves no half entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8"
    ) as part:
        json.dump(entry, part, ensure_ascii=False)
    Path(part.name).replace(path)
