"""One loop between a policy and a user, for training and for judging alike.

The user opens with the question, then gives one shard a turn: a deterministic one gives the shard
that was asked for when the assistant's question names it, else the next; a model user
(`user.ModelUser`) picks and rewords. Rules of Lost in Conversation (arXiv 2505.06120): every answer
attempt is graded, the conversation stops at the first right one or once every shard has been
revealed and replied to; the last attempt counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from icpo_lite.core.turns import prompt_after, with_opening
from icpo_lite.core.types import (
    Intent,
    Judge,
    Message,
    Problem,
    Prompt,
    ResponseType,
    Shard,
    Turn,
    Verdict,
)
from icpo_lite.rollout.simulated_user import Chooser as Chooser
from icpo_lite.rollout.simulated_user import Moment


class Talker(Protocol):
    """What a conversation needs of a policy: one reply to each chat, keyed noise."""

    def reply(
        self, chats: Sequence[Sequence[Message]], keys: Sequence[tuple[int | str, ...]]
    ) -> list[Turn]:
        """The assistant's next turn in each chat; equal keys and chats give equal turns."""
        ...


@runtime_checkable
class Foresighted(Protocol):
    """A talker that keeps something for the next turn, where there is one."""

    def foresee_ends(self, keys: Sequence[tuple[int | str, ...]]) -> None:
        """The conversations of the next `reply` whose last one it is, whatever is said."""
        ...


class User(Protocol):
    """Who says the next shard (`user.ModelUser`); see `Chooser` for the one that asks no model."""

    def next_shards(self, moments: Sequence[Moment]) -> list[Shard]:
        """For each moment one of its open shards, in the words in which the user says it."""
        ...


@dataclass(frozen=True, slots=True)
class Telling:
    """How a user tells what he holds: so many shards at once; those kept back, by id, never."""

    at_once: int = 1
    kept_back: frozenset[int] = frozenset()


_ONE_BY_ONE = Telling()


@dataclass(frozen=True, slots=True)
class Conversation:
    """What has been said between a user who holds `problem` and the policy.

    given: shards already said, in order and as they were worded. turns: all turns, assistant
    turns with their verdict. last_only: whether only the last reply counts (RECAP). certified:
    whether a certificate shows that what was left out is needed (`underspecified`). prompt_given:
    the corpus's own prompt that it opens with, whose word on what lacks is taken. began: the
    training prompt that it goes on from, whose removed shards the user tells. place: what its noise
    is keyed by in training. telling: how the user tells them.
    """

    problem: Problem
    run: int
    given: tuple[Shard, ...]
    turns: tuple[Turn, ...]
    done: bool = False
    system: Message | None = None
    last_only: bool = False
    certified: bool = True
    prompt_given: Prompt | None = None
    began: Prompt | None = None
    place: tuple[int | str, ...] = ()
    telling: Telling = _ONE_BY_ONE

    @property
    def open_shards(self) -> tuple[Shard, ...]:
        said = {s.shard_id for s in self.given}
        return tuple(s for s in self.problem.shards if s.shard_id not in said)

    @property
    def tellable(self) -> tuple[Shard, ...]:
        """The open shards that the user does not keep back."""
        kept = self.telling.kept_back
        return tuple(s for s in self.open_shards if s.shard_id not in kept)

    @property
    def chat(self) -> list[Message]:
        return list(with_opening([Message(t.role, t.content) for t in self.turns], self.system))

    @property
    def replies(self) -> list[Turn]:
        return [t for t in self.turns if t.role == "assistant"]

    @property
    def score(self) -> float:
        """1.0 if the last answer attempt is right, 0.0 if it is wrong or there is none."""
        counted = self.replies[-1:] if self.last_only else self.replies
        graded = [t.verdict.correct for t in counted if t.verdict and _attempt(t.verdict)]
        return float(bool(graded and graded[-1]))

    @property
    def lucky(self) -> bool:
        """Right before everything needed was known: a guess that hit."""
        return bool(self.score) and bool(self.open_shards)

    @property
    def went_on(self) -> tuple[Turn, ...]:
        """The turns since the training prompt that it began with."""
        return self.turns[len(self.began.messages) if self.began else 0 :]

    def key(self, setting: str, seed: int, turn: int) -> tuple[int | str, ...]:
        """What the noise of its next reply depends on; the last part is the run."""
        of = self.place or (setting, seed, self.problem.problem_id)
        return (*of, turn, self.run)

    def prompt(self) -> Prompt:
        """The conversation so far as what the judge sees."""
        if self.began is not None:
            return prompt_after(self.began, self.went_on)
        if self.prompt_given is not None:
            return replace(self.prompt_given, messages=tuple(self.chat))
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
    problem: Problem, run: int, text: str, given: Sequence[Shard], system: Message | None = None
) -> Conversation:
    """A conversation that opens with `text`, which says the shards in `given`."""
    turns = (*opening_turns(problem), Turn("user", text))
    return Conversation(problem, run, tuple(given), turns, system=system)


def start_training(
    prompt: Prompt, run: int, place: tuple[int | str, ...], telling: Telling = _ONE_BY_ONE
) -> Conversation:
    """A conversation that goes on from a training prompt; the user holds what it lacks."""
    missing = {s.shard_id for s in prompt.removed}
    shards = [s for s in prompt.shards if s.shard_id not in missing]
    problem = Problem(
        problem_id=prompt.problem_id,
        task=prompt.task,
        question=prompt.text,
        answer=prompt.answer,
        shards=(*shards, *prompt.removed),
        source=prompt.source,
        columns=prompt.columns,
    )
    turns = tuple(Turn(m.role, m.content) for m in prompt.messages)
    return Conversation(
        problem, run, tuple(shards), turns, began=prompt, place=place, telling=telling
    )


def opening_turns(problem: Problem) -> tuple[Turn, ...]:
    """The turns that a corpus puts before the question, as they stand in a conversation."""
    return tuple(Turn(m.role, m.content) for m in problem.opening)


def start_given(problem: Problem, run: int, intent: Intent) -> Conversation | None:
    """One that opens with the corpus's own prompt of that intent; None where it has none."""
    prompt = next((p for p in problem.prompts if p.intent is intent), None)
    if prompt is None:
        return None
    turns = tuple(Turn(m.role, m.content) for m in prompt.messages)
    return Conversation(problem, run, problem.shards, turns, prompt_given=prompt)


def converse(
    conversations: Sequence[Conversation],
    talker: Talker,
    judge: Judge,
    *,
    choose: Chooser,
    say: Callable[[Sequence[Shard], Shard], str],
    seed: int,
    setting: str,
    max_turns: int = 16,
    user: User | None = None,
    branch: Callable[[Sequence[Conversation]], list[Conversation]] | None = None,
) -> list[Conversation]:
    """Carry all conversations to their end, always one full batch of replies a turn.

    say: what the user's turn repeats around the next shard, given those already said. user: picks
    and words the next shard; None takes the one that `choose` names, else the next, verbatim.
    branch: after the user's turns, conversations to be carried on beside those that wait.
    """
    state = list(conversations)
    for turn in range(max_turns):
        active = [i for i, c in enumerate(state) if not c.done]
        if not active:
            break
        talks, last = [state[i] for i in active], turn == max_turns - 1
        if isinstance(talker, Foresighted):
            ends = [talk for talk in talks if last or not talk.tellable]
            talker.foresee_ends([talk.key(setting, seed, turn) for talk in ends])
        for i, talk in zip(
            active, _replied(talks, talker, judge, seed, setting, turn), strict=True
        ):
            state[i] = replace(talk, done=last or _over(talk))
        waiting = [i for i in active if not state[i].done]
        shards = _next_shards([state[i] for i in waiting], choose, user)
        for i, shard in zip(waiting, shards, strict=True):
            state[i] = _told(state[i], shard, say)
        if branch is not None and waiting:
            state += branch([state[i] for i in waiting])
    return [replace(c, done=True) for c in state]


def last_words(
    conversations: Sequence[Conversation],
    talker: Talker,
    judge: Judge,
    *,
    text: Callable[[Problem], str],
    seed: int,
    setting: str,
) -> list[Conversation]:
    """Finished conversations with one more turn, `text`, that says all shards (RECAP).

    The reply to it is the only one that counts.
    """
    if not conversations:
        return []
    asked = [
        replace(
            talk,
            turns=(*talk.turns, Turn("user", text(talk.problem))),
            given=(*talk.given, *talk.open_shards),
            last_only=True,
        )
        for talk in conversations
    ]
    return _replied(asked, talker, judge, seed, setting, 0)


def _replied(
    talks: Sequence[Conversation],
    talker: Talker,
    judge: Judge,
    seed: int,
    setting: str,
    turn: int,
) -> list[Conversation]:
    """Every conversation with the policy's next reply, judged."""
    keys = [talk.key(setting, seed, turn) for talk in talks]
    replies = talker.reply([t.chat for t in talks], keys)
    verdicts = judge.judge_many(
        [(t.prompt(), r.content, r.stop_reason) for t, r in zip(talks, replies, strict=True)]
    )
    return [
        replace(talk, turns=(*talk.turns, replace(reply, verdict=verdict)))
        for talk, reply, verdict in zip(talks, replies, verdicts, strict=True)
    ]


def _over(talk: Conversation) -> bool:
    """Whether the last reply is right, or every shard that will be has been told and replied to."""
    verdict = talk.turns[-1].verdict
    assert verdict is not None, "replies are judged as they come"
    return bool(_attempt(verdict) and verdict.correct) or not talk.tellable


def _next_shards(talks: Sequence[Conversation], choose: Chooser, user: User | None) -> list[Shard]:
    if user is not None and talks:
        return user.next_shards([_moment(talk) for talk in talks])
    found = []
    for talk in talks:
        left = talk.tellable
        # Of one there is nothing to choose.
        asked = choose(talk.turns[-1].content, left, talk.problem.shards) if left[1:] else None
        found.append(left[asked or 0])
    return found


def _moment(talk: Conversation) -> Moment:
    return Moment(
        messages=tuple(Message(t.role, t.content) for t in talk.turns),
        open_shards=talk.tellable,
        shards=talk.problem.shards,
    )


def _told(
    talk: Conversation, shard: Shard, say: Callable[[Sequence[Shard], Shard], str]
) -> Conversation:
    others = [s for s in talk.tellable if s.shard_id != shard.shard_id]
    more = others[: talk.telling.at_once - 1]
    told = (shard, *more)
    text = " ".join([say(talk.given, shard), *(s.text for s in more)])
    return replace(
        talk,
        turns=(*talk.turns, Turn("user", text, told=tuple(s.shard_id for s in told))),
        given=(*talk.given, *told),
    )


def _attempt(verdict: Verdict) -> bool:
    return verdict.response_type is ResponseType.ANSWER_ATTEMPT
