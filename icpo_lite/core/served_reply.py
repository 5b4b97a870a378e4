"""What a chat server tells of a reply, as it is read, kept on disk and handed on."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

#: How servers say so: vLLM, llama.cpp, OpenAI, SGLang, TGI.
_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window)|longer than the model|too long|must have less than",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ServedReply:
    """A reply with what the server tells of it.

    finish_reason: stop, length or the server's own. tokens, logprobs: each token's text and
    log-prob, empty where none are told. first: the likeliest first tokens with their log-probs, as
    many as were asked for. count: tokens of the reply, None where nobody counts.
    """

    text: str
    finish_reason: str = ""
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    first: Mapping[str, float] = field(default_factory=dict)
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """What is kept of an answer: its name in the cache, its kind, and how it is read."""

    name: str
    kind: type
    read: Callable[[bytes], Any]


def refused_for_length(problem: str) -> bool:
    return problem.startswith(("HTTP 400", "HTTP 413", "HTTP 422")) and bool(
        _TOO_LONG.search(problem)
    )


def as_served(answer: Mapping[str, Any]) -> ServedReply:
    """A kept answer; log-probs in another form than OpenAI's count as none."""
    plain = ServedReply(
        str(answer.get("text", "")), str(answer.get("finish_reason", "")), count=answer.get("count")
    )
    try:
        told = answer["logprobs"]["content"]
        tokens = tuple(str(entry["token"]) for entry in told)
        logprobs = tuple(float(entry["logprob"]) for entry in told)
        top = told[0].get("top_logprobs") or () if told else ()
        first = {str(entry["token"]): float(entry["logprob"]) for entry in top}
    except (LookupError, TypeError, ValueError, AttributeError):
        return plain
    if not all(map(math.isfinite, (*logprobs, *first.values()))):
        return plain
    return replace(plain, tokens=tokens, logprobs=logprobs, first=first)


def read_cached(path: Path, form: Form) -> Any:
    try:
        reply = json.loads(path.read_text(encoding="utf-8"))[form.name]
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return None  # absent, or not what this module writes: ask again and replace it
    return reply if isinstance(reply, form.kind) else None


def write_cached(path: Path, entry: Mapping[str, Any]) -> None:
    """Written aside and renamed, so that an interrupted run leaves no half entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8"
    ) as part:
        json.dump(entry, part, ensure_ascii=False)
    Path(part.name).replace(path)
