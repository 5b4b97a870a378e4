"""How a user words things: all at once, one shard a turn, or everything so far again.

The wordings follow the settings of Lost in Conversation (arXiv 2505.06120) in our own words.
`ModelUser` is its simulated user: a model that picks the shard which fits the assistant's turn and
says it in other words, held to the facts of the shard.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from icpo_lite.core.files import read_json
from icpo_lite.core.numbers import numbers
from icpo_lite.core.sentences import entities
from icpo_lite.core.types import Generator, Message, Shard
from icpo_lite.core.words import content_words

#: Which of the open shards a reply asks for, by index, or None: (reply, open, all shards).
Chooser = Callable[[str, Sequence[Shard], Sequence[Shard]], int | None]

#: What the assistant is made to say in a clean history when nobody knows a better question.
NEUTRAL_QUESTION = "What else should I know?"


def _bullets(shards: Sequence[Shard]) -> str:
    return "\n".join(f"- {shard.text}" for shard in shards)


def concat_text(shards: Sequence[Shard]) -> str:
    """CONCAT: one turn with every shard as a bullet."""
    return f"Here is everything you need:\n{_bullets(shards)}"


def recap_text(shards: Sequence[Shard]) -> str:
    """RECAP: the last turn, after a sharded conversation, that repeats all shards."""
    return f"To recap, here is everything you need:\n{_bullets(shards)}"


def snowball_text(known: Sequence[Shard], new: Shard) -> str:
    """SNOWBALL: a turn that repeats all earlier shards before it adds one."""
    return f"So far:\n{_bullets(known)}\nNow also:\n{_bullets([new])}"


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a user is asked to go on: the conversation so far, and what he has not said yet."""

    messages: tuple[Message, ...]
    open_shards: tuple[Shard, ...]
    shards: tuple[Shard, ...]

    @property
    def reply(self) -> str:
        """What the assistant said last."""
        return self.messages[-1].content


_TASK = """\
You play a person who is talking with an assistant and knows a few facts. You tell one fact a turn.
Pick the fact that fits the assistant's last turn best: the one it asks for; else the first.
Say it in your own words as one short casual message, with every number, name and condition in it.
Say nothing of the other facts, ask nothing, and do not solve anything.
Answer with one JSON object and nothing else: {"fact": <its number>, "message": "<what you say>"}

The conversation so far:
"""
#: A message this much longer than its fact says more than that.
_LONGEST = 3.0
_SPARE_WORDS = 12


class ModelUser:
    """A user played by a model (`conversation.User`), asked in one batch a turn.

    generator: the model. choose: picks where the model names no fact; a message that changes,
    loses or adds a fact is replaced by the shard verbatim. `verbatim` counts those, of `asked`.
    """

    def __init__(self, generator: Generator, choose: Chooser, *, seed: int = 0) -> None:
        self._generator, self._choose, self._seed = generator, choose, seed
        self.asked = 0
        self.verbatim = 0

    def next_shards(self, moments: Sequence[Moment]) -> list[Shard]:
        """One open shard for each moment, reworded where the words keep its facts."""
        chats = [_ask_user(moment) for moment in moments]
        replies = self._generator.generate(
            chats, max_new_tokens=160, temperature=1.0, seed=self._seed
        )
        return [self._read(m, texts[0]) for m, texts in zip(moments, replies, strict=True)]

    def _read(self, moment: Moment, reply: str) -> Shard:
        self.asked += 1
        index, message = _parse(reply)
        if index is None or not 0 <= index < len(moment.open_shards):
            index, message = self._choose(moment.reply, moment.open_shards, moment.shards), ""
        shard = moment.open_shards[index or 0]
        others = [s for s in moment.open_shards if s is not shard]
        if keeps_facts(shard.text, message) and not tells_more(message, shard, others):
            return replace(shard, text=message)
        self.verbatim += 1
        return shard


def _ask_user(moment: Moment) -> tuple[Message, ...]:
    said = "\n".join(f"{m.role}: {m.content}" for m in moment.messages)
    facts = "\n".join(f"{i}. {s.text}" for i, s in enumerate(moment.open_shards, start=1))
    return (Message("user", f"{_TASK}{said}\n\nFacts that you have not told yet:\n{facts}"),)


def _parse(reply: str) -> tuple[int | None, str]:
    """(index of the fact, message) of the first JSON object in a reply."""
    match = re.search(r"\{.*?\}", reply, re.DOTALL)
    try:
        found: Any = read_json(match[0]) if match else None
    except ValueError:
        return None, ""
    if not isinstance(found, dict):
        return None, ""
    fact, message = found.get("fact"), found.get("message")
    index = fact - 1 if isinstance(fact, int) and not isinstance(fact, bool) else None
    return index, " ".join(message.split()) if isinstance(message, str) else ""


def keeps_facts(shard: str, message: str) -> bool:
    """Whether a message holds the shard's numbers, names and half of its words, and no more.

    Numbers compare by value ("a dozen" is 12) and how often they occur. A question is no message.
    """
    if not message or message.rstrip().endswith("?"):
        return False
    if len(message) > _LONGEST * len(shard) + 10 * _SPARE_WORDS:
        return False
    if Counter(n.value for n in numbers(shard)) != Counter(n.value for n in numbers(message)):
        return False
    lower = message.lower()
    if any(span.text.lower() not in lower for span in entities(shard)):
        return False
    wanted = content_words(shard)
    return 2 * len(wanted & content_words(message)) >= len(wanted)


def tells_more(message: str, shard: Shard, others: Sequence[Shard]) -> bool:
    """Whether a message also says a fact that another open shard holds and this one does not."""
    own, said = content_words(shard.text), content_words(message)
    for other in others:
        extra = content_words(other.text) - own
        if extra and extra <= said:
            return True
    return False
