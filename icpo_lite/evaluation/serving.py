"""Cures that train nothing: what a model is given to read in place of the conversation.

The user talks as always, and the conversation that is judged is the one that both have led; before
each reply the model reads it in another form. A new form is one function and one line in `SERVED`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from icpo_lite.core.errors import UsageError
from icpo_lite.core.numbers import numbers
from icpo_lite.core.turns import user_view
from icpo_lite.core.types import Message, Problem, Shard, Turn
from icpo_lite.rollout.conversation import Talker
from icpo_lite.rollout.simulated_user import recap_text, snowball_text

Chat = Sequence[Message]
Key = tuple[int | str, ...]
ServeAs = Literal["plain", "cleaned", "recap", "snowball", "mediator"]

_REWRITE = """\
Below is what a user has said over several turns of a conversation. Write it as one complete
request, in the user's voice, with every number, name and condition in it. Add nothing, answer
nothing, solve nothing. Write the request and nothing else.

"""


def _cleaned(chat: Chat) -> Chat:
    """All that the user has said, in one turn; none of the model's earlier replies."""
    return user_view(chat)


def _recap(chat: Chat) -> Chat:
    """The whole history, and in the last turn everything that the user has said, once more."""
    said = _said(chat)
    if len(said) < 2:
        return chat
    return [*chat[:-1], replace(chat[-1], content=recap_text(said))]


def _snowball(chat: Chat) -> Chat:
    """The whole history, each of the user's turns after all earlier ones."""
    out, known = [], list[Shard]()
    for message in chat:
        if message.role != "user":
            out.append(message)
            continue
        new = Shard(len(known), message.content)
        out.append(replace(message, content=snowball_text(known, new)) if known else message)
        known.append(new)
    return out


def _said(chat: Chat) -> list[Shard]:
    return [Shard(i, m.content) for i, m in enumerate(m for m in chat if m.role == "user")]


#: How a chat is given to the model; `mediator` asks the model itself (`Mediator`).
SERVED: dict[str, Callable[[Chat], Chat]] = {
    "plain": lambda chat: chat,
    "cleaned": _cleaned,
    "recap": _recap,
    "snowball": _snowball,
    "mediator": _cleaned,
}


@dataclass(frozen=True)
class ServingTalker:
    """A talker that reads each chat in another form (`conversation.Talker`)."""

    talker: Talker
    form: Callable[[Chat], Chat]

    def reply(self, chats: Sequence[Chat], keys: Sequence[Key]) -> list[Turn]:
        """The next turn of each chat."""
        return self.talker.reply([self.form(chat) for chat in chats], keys)


class Mediator:
    """A talker that first writes the user's turns as one request, then answers that alone.

    A rewriting that adds or loses a number is not used, but the user's own words in one turn.
    rewritten, verbatim: how often either was.
    """

    def __init__(self, talker: Talker) -> None:
        self.talker = talker
        self.rewritten = self.verbatim = 0

    def reply(self, chats: Sequence[Chat], keys: Sequence[Key]) -> list[Turn]:
        """The next turn of each chat; a single turn of the user's is taken as it is."""
        given = [user_view(chat) for chat in chats]
        several = [i for i, chat in enumerate(chats) if len(_said(chat)) > 1]
        if several:
            asked = [[_request(chats[i])] for i in several]
            # The run stays last, as in every key.
            told = self.talker.reply(
                asked, [(*keys[i][:-1], "mediator", keys[i][-1]) for i in several]
            )
            for i, turn in zip(several, told, strict=True):
                given[i] = self._held(given[i], turn)
        return self.talker.reply(given, keys)

    def _held(self, said: Chat, turn: Turn) -> tuple[Message, ...]:
        text = turn.content.strip()
        wanted, found = (
            sorted(n.value for n in numbers(words)) for words in (said[-1].content, text)
        )
        if not text or turn.stop_reason == "length" or wanted != found:
            self.verbatim += 1
            return tuple(said)
        self.rewritten += 1
        return (*said[:-1], replace(said[-1], content=text))


def _request(chat: Chat) -> Message:
    turns = "\n".join(f"- {shard.text}" for shard in _said(chat))
    return Message("user", f"{_REWRITE}{turns}")


def serving(talker: Talker, serve_as: ServeAs) -> Talker:
    """The talker as it is served."""
    if serve_as == "plain":
        return talker
    return Mediator(talker) if serve_as == "mediator" else ServingTalker(talker, SERVED[serve_as])


def told_of(talker: Talker) -> str:
    """A line on how a mediator fared; "" for every other talker."""
    if not isinstance(talker, Mediator) or not (all_of := talker.rewritten + talker.verbatim):
        return ""
    return (
        f"the mediator's own words stood in {talker.rewritten} of {all_of} turns; the others lost "
        "or added a number, and the user's words were taken"
    )


def require_servable(problems: Sequence[Problem], serve_as: ServeAs) -> None:
    """Raises UsageError where turns of a corpus's own would be taken for the conversation's."""
    if serve_as == "plain":
        return
    led = next((p for p in problems if any(m.role != "system" for m in p.opening)), None)
    if led is not None:
        raise UsageError(
            f"--serve-as {serve_as}: expected chats that begin with the user's problem, found "
            f"earlier turns in {led.source or led.problem_id}; leave --serve-as out"
        )
