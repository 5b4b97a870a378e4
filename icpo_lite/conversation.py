"""One loop between a policy and a user, for training and for judging alike.

The user is deterministic: it opens with the question, then gives one shard a turn, the one that
was asked for when the assistant's question names it, else the next. Rules of Lost in Conversation
(arXiv 2505.06120): every answer attempt is graded, the conversation stops at the first right
one or once every shard has been revealed and replied to; the last attempt counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from icpo_lite.types import (
    Intent,
    Message,
    Problem,
    Prompt,
    ResponseType,
    Shard,
    StopReason,
    Turn,
    Verdict,
)

#: Which of the open shards this reply asks for, by index, or None: (reply, open, all shards).
Chooser = Callable[[str, Sequence[Shard], Sequence[Shard]], int | None]


class Talker(Protocol):
    """What a conversation needs of a policy: one reply to each chat, keyed noise."""

    def reply(
        self, chats: Sequence[Sequence[Message]], keys: Sequence[tuple[int | str, ...]]
    ) -> list[Turn]:
        """The assistant's next turn in each chat; equal keys and chats give equal turns."""
        ...


class Referee(Protocol):
    """What a conversation needs of a judge (`rewards.judge.Judge`)."""

    def judge(
        self, prompt: Prompt, reply: str, stop_reason: StopReason | None = None
    ) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Conversation:
    """What has been said between a user who holds `problem` and the policy.

    given: shards already said, in order. turns: all turns, assistant turns with their verdict.
    """

    problem: Problem
    run: int
    given: tuple[Shard, ...]
    turns: tuple[Turn, ...]
    done: bool = False
    system: str | None = None

    @property
    def open_shards(self) -> tuple[Shard, ...]:
        said = {s.shard_id for s in self.given}
        return tuple(s for s in self.problem.shards if s.shard_id not in said)

    @property
    def chat(self) -> list[Message]:
        head = [Message("system", self.system)] if self.system else []
        return head + [Message(t.role, t.content) for t in self.turns]

    @property
    def replies(self) -> list[Turn]:
        return [t for t in self.turns if t.role == "assistant"]

    @property
    def score(self) -> float:
        """1.0 if the last answer attempt is right, 0.0 if it is wrong or there is none."""
        graded = [t.verdict.correct for t in self.replies if t.verdict and _attempt(t.verdict)]
        return float(bool(graded and graded[-1]))

    @property
    def lucky(self) -> bool:
        """Right before everything needed was known: a guess that hit."""
        return bool(self.score) and bool(self.open_shards)

    def prompt(self) -> Prompt:
        """The conversation so far as what the judge sees."""
        missing = tuple(s for s in self.open_shards if not s.is_question)
        return Prompt(
            prompt_id=f"{self.problem.problem_id}/run{self.run}",
            problem_id=self.problem.problem_id,
            task=self.problem.task,
            intent=Intent.UNDERSPECIFIED if missing else Intent.COMPLETE,
            messages=tuple(self.chat),
            answer=self.problem.answer,
            shards=self.problem.shards,
            removed=missing,
            source=self.problem.source,
            columns=self.problem.columns,
        )


def start(
    problem: Problem, run: int, text: str, given: Sequence[Shard], system: str | None = None
) -> Conversation:
    """A conversation that opens with `text`, which says the shards in `given`."""
    return Conversation(problem, run, tuple(given), (Turn("user", text),), system=system)


def converse(
    conversations: Sequence[Conversation],
    talker: Talker,
    referee: Referee,
    *,
    choose: Chooser,
    say: Callable[[Sequence[Shard], Shard], str],
    seed: int,
    setting: str,
    max_turns: int = 16,
) -> list[Conversation]:
    """Carry all conversations to their end, always one full batch of replies a turn.

    say: how the user words the next shard, given those already said.
    """
    state = list(conversations)
    for turn in range(max_turns):
        active = [i for i, c in enumerate(state) if not c.done]
        if not active:
            break
        keys = [(setting, seed, state[i].problem.problem_id, state[i].run, turn) for i in active]
        replies = talker.reply([state[i].chat for i in active], keys)
        last = turn == max_turns - 1
        for i, reply in zip(active, replies, strict=True):
            state[i] = _advance(state[i], reply, referee, choose, say, last)
    return [replace(c, done=True) for c in state]


def _advance(
    talk: Conversation,
    reply: Turn,
    referee: Referee,
    choose: Chooser,
    say: Callable[[Sequence[Shard], Shard], str],
    last: bool,
) -> Conversation:
    """The reply judged, and what the user says to it unless it was the last one allowed."""
    verdict = referee.judge(talk.prompt(), reply.content, reply.stop_reason)
    talk = replace(talk, turns=(*talk.turns, replace(reply, verdict=verdict)))
    left = talk.open_shards
    if (_attempt(verdict) and verdict.correct) or not left or last:
        return replace(talk, done=True)
    shard = left[choose(reply.content, left, talk.problem.shards) or 0]
    return replace(
        talk,
        turns=(*talk.turns, Turn("user", say(talk.given, shard))),
        given=(*talk.given, shard),
    )


def _attempt(verdict: Verdict) -> bool:
    return verdict.response_type is ResponseType.ANSWER_ATTEMPT
