"""A model behind a chat server as a partner in a conversation (`conversation.Talker`)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icpo_lite.core.served_reply import ServedReply
from icpo_lite.core.types import Message, StopReason, Turn

if TYPE_CHECKING:
    from icpo_lite.core.endpoint import Endpoint

#: Stands for a token that the server counts and does not tell.
UNTOLD = -1


@dataclass(frozen=True)
class ServedTalker:
    """Asks for all replies of a turn side by side, as many at a time as the endpoint's options say.

    logprobs: whether the server is asked for those of the sampled tokens. Each reply has a seed of
    its own, by its key; servers that know seeds give equal replies to equal keys.
    """

    endpoint: Endpoint
    max_new_tokens: int
    temperature: float
    logprobs: bool

    def reply(
        self, chats: Sequence[Sequence[Message]], keys: Sequence[tuple[int | str, ...]]
    ) -> list[Turn]:
        """The next turn of each chat; one that the server has no room for is empty and cut off."""
        replies = self.endpoint.complete(
            chats,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seeds=[seed_of(key) for key in keys],
            logprobs=0 if self.logprobs else None,
        )
        return [as_turn(reply) for reply in replies]


def seed_of(key: tuple[int | str, ...]) -> int:
    """A seed for a key, alike in every process."""
    return zlib.crc32("/".join(map(str, key)).encode()) & 0x7FFFFFFF


def token_id(text: str) -> int:
    """An id for a token that is known by its text alone, alike in every process."""
    return zlib.crc32(text.encode(errors="surrogatepass"))


def as_turn(reply: ServedReply) -> Turn:
    """A served reply as a turn, not judged yet."""
    ids = tuple(map(token_id, reply.tokens)) or (UNTOLD,) * (reply.count or 0)
    stop: StopReason = "length" if reply.finish_reason == "length" else "eos"
    return Turn("assistant", reply.text.strip(), ids, reply.logprobs, stop)
