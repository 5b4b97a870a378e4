"""How far an evaluation is: replies kept as they come, and a word on the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from icpo_lite.core.console import clock
from icpo_lite.core.types import Message, Problem, Turn
from icpo_lite.evaluation.resume import Progress
from icpo_lite.evaluation.settings import SETTINGS, opens
from icpo_lite.rollout.conversation import Talker

Key = tuple[int | str, ...]

#: Seconds until the first word on how far an evaluation is, and between any two of them.
TELL_FIRST_S, TELL_EVERY_S = 5.0, 30.0


def most_replies(problems: Sequence[Problem], settings: Sequence[str], runs: int) -> int:
    """Replies of an evaluation in which every shard is said, one a turn."""
    shards = sum(max(1, len(p.shards)) for p in problems)
    total, sharded = 0, False
    for name in settings:
        setting = SETTINGS[name]
        opened = sum(opens(name, p) for p in problems)
        by_shards = setting.continues or setting.open is SETTINGS["sharded"].open
        if setting.closing is not None:
            total += opened
        # RECAP goes on where SHARDED ends: its conversations are played once.
        if by_shards and not (name in ("sharded", "recap") and sharded):
            total += shards
            sharded = sharded or name in ("sharded", "recap")
        elif not by_shards:
            total += opened
    return total * runs


@dataclass
class Pace:
    """Counts replies, and tells how many there are and how long the rest takes at this rate.

    total: replies at most. before: those of an earlier attempt, which cost no time now.
    """

    name: str
    total: int
    tell: Callable[[str], None]
    done: int = 0
    before: int = 0
    _started: float = field(default_factory=lambda: time.monotonic())
    _tell_at: float = field(default_factory=lambda: time.monotonic() + TELL_FIRST_S)

    def count(self, replies: int, *, kept: bool = False) -> None:
        self.done += replies
        self.before += replies if kept else 0
        if time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + TELL_EVERY_S
            self.tell(self.line())

    def line(self) -> str:
        made = self.done - self.before
        seconds = (time.monotonic() - self._started) / max(made, 1) * (self.total - self.done)
        left = f", {clock(max(0.0, seconds))} left at most" if made else ""
        return f"{self.name}: {self.done} of at most {self.total} replies{left}"


@dataclass(frozen=True)
class KeptTalker:
    """A talker whose replies are kept as they come, so many at a time (`conversation.Talker`).

    A reply that an earlier attempt has kept is not made again. at_once: a multiple of the runs
    that read alike.
    """

    talker: Talker
    progress: Progress | None
    pace: Pace
    at_once: int

    def reply(self, chats: Sequence[Sequence[Message]], keys: Sequence[Key]) -> list[Turn]:
        turns: list[Turn] = []
        for first in range(0, len(chats), self.at_once):
            part = slice(first, first + self.at_once)
            turns += self._part(chats[part], keys[part])
        return turns

    def once(self) -> KeptTalker:
        """This talker for conversations of one reply: it keeps nothing for the next."""
        once = getattr(self.talker, "once", None)
        return replace(self, talker=once()) if once else self

    def _part(self, chats: Sequence[Sequence[Message]], keys: Sequence[Key]) -> list[Turn]:
        kept = self.progress.replies(chats, keys) if self.progress else None
        turns = kept or self.talker.reply(chats, keys)
        if self.progress and not kept:
            self.progress.add_replies(chats, keys, turns)
        self.pace.count(len(turns), kept=bool(kept))
        return turns
