"""A user's own user: a Python function that plays the other side of a conversation.

    def talk(messages, facts) -> int | tuple[int, str]

`messages` is the chat so far, as TRL has chats; `facts` are the texts of what the user has not told
yet. It returns the number of the fact that it tells, and its own words for it where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.core.types import Shard
from icpo_lite.rewards.user_functions import failure
from icpo_lite.rollout.simulated_user import Moment


@dataclass(frozen=True, slots=True)
class FunctionUser:
    """A loaded function as `conversation.User`. path: its file, for errors."""

    name: str
    path: Path
    function: Callable[..., Any]

    def next_shards(self, moments: Sequence[Moment]) -> list[Shard]:
        """For each moment the fact that the function tells, in its words.

        Raises GraderError, with the user's file and line, when the function fails or returns
        something else.
        """
        return [self._next(moment) for moment in moments]

    def _next(self, moment: Moment) -> Shard:
        chat = [{"role": m.role, "content": m.text} for m in moment.messages]
        facts = [shard.text for shard in moment.open_shards]
        try:
            said = self.function(messages=chat, facts=facts)
        except (Exception, SystemExit) as error:
            raise GraderError(failure(self.name, self.path, error)) from error
        index, words = said if isinstance(said, tuple) and len(said) == 2 else (said, None)
        whole = isinstance(index, int) and not isinstance(index, bool)
        if not whole or not 0 <= index < len(facts) or not isinstance(words, str | None):
            raise GraderError(
                f"{self.path.name}: {self.name}: expected the number of a fact from 0 to "
                f"{len(facts) - 1}, or (number, words), found {said!r}"
            )
        shard = moment.open_shards[index]
        return replace(shard, text=words) if words else shard
