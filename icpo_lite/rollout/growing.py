"""Conversations that keep what was sampled: the ids of a turn are never made again from its text.

After each reply the template's words around the user's next turn are put behind the sampled ids.
So the row that is trained on is the one that was sampled from, also where a template would write
earlier turns in another way; `check_growing` says before the first step whether it does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from icpo_lite.core.errors import ModelError
from icpo_lite.core.types import Message, Prompt, Turn
from icpo_lite.policy.chat_template import chat_text, end_of_turn
from icpo_lite.rollout.conversation import Conversation
from icpo_lite.rollout.engines.fitting_rows import prefix_memory
from icpo_lite.rollout.groups import PolicyTalker
from icpo_lite.rollout.noise import Key
from icpo_lite.rollout.sampler import SamplingOptions
from icpo_lite.rollout.simulated_user import NEUTRAL_QUESTION

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Stands for a reply whose place in a template is looked for.
_MARK = "Zebra"
#: Thoughts that a template opens, or leaves empty, and takes out of earlier turns.
_THOUGHT = re.compile(r"<think>\s*(?:</think>\s*)?")


class GrowingTalker:
    """The policy as a partner in conversations that go on from their own token ids.

    openings: ids of the prompt of each place; a conversation's key is (*place, turn, run). between:
    ids of every user's turn so far, by conversation (*place, run). memory: keys and values of what
    was sampled, so that a turn computes the user's words alone.
    """

    def __init__(
        self, policy: Policy, options: SamplingOptions, openings: Mapping[Key, Sequence[int]]
    ) -> None:
        self.policy = policy
        self.between: dict[Key, list[tuple[int, ...]]] = {}
        self.openings = openings
        # Of this step alone: the next one's weights are others.
        self.memory = options.memory or prefix_memory(policy)
        self._talker = PolicyTalker(policy, options.but(memory=self.memory))
        self._rows: dict[Key, tuple[int, ...]] = {}
        self._user_turns: dict[tuple[str, bool], tuple[int, ...]] = {}
        self._ending: frozenset[Key] = frozenset()

    def foresee_ends(self, keys: Sequence[Key]) -> None:
        """Of these nothing is kept: the reply that is next is the last (`Foresighted`)."""
        self._ending = frozenset(keys)

    @property
    def rows_at_once(self) -> int | None:
        """Rows that are computed at once; None for all."""
        return self._talker.options.max_rows

    def reply(self, chats: Sequence[Sequence[Message]], keys: Sequence[Key]) -> list[Turn]:
        """The next turn of each conversation (`conversation.Talker`)."""
        rows = []
        for chat, key in zip(chats, keys, strict=True):
            who = _who(key)
            told = self._told(who, chat[-1].content)
            self.between.setdefault(who, []).extend([] if told is None else [told])
            rows.append((*self._row(who), *(told or ())))
        # The first turn draws what a single turn draws of the same prompt.
        noise = [key if key[-2] else (*key[:-2], key[-1]) for key in keys]
        ending = {row for row, key in zip(rows, keys, strict=True) if key in self._ending}
        going_on = {row for row, key in zip(rows, keys, strict=True) if key not in self._ending}
        self.memory.passing = frozenset(ending - going_on)
        earlier = self.memory.names()
        turns = self._talker.turns(rows, noise)
        self.memory.forget(earlier)  # those who go on do so from what was added now
        for key, row, turn in zip(keys, rows, turns, strict=True):
            self._rows[_who(key)] = (*row, *turn.token_ids)
        return turns

    def row_so_far(self, talk: Conversation) -> tuple[int, ...]:
        """Ids of a conversation whose user has just spoken, up to the reply that is next."""
        who = (*talk.place, talk.run)
        return (*self._row(who), *(self._told(who, talk.turns[-1].content) or ()))

    def go_on_as(self, source: Key, copy: Key) -> None:
        """Let one conversation go on from where another stands."""
        self._rows[copy] = self._rows[source]
        self.between[copy] = list(self.between[source])

    def _row(self, who: Key) -> tuple[int, ...]:
        return self._rows[who] if who in self._rows else tuple(self.openings[who[:-1]])

    def _told(self, who: Key, text: str) -> tuple[int, ...] | None:
        """Ids of the user's turn after the last reply; None before the first."""
        if who not in self._rows:
            return None
        row = self._rows[who]
        ended = bool(row) and row[-1] in self.policy.end_ids
        if (text, ended) not in self._user_turns:
            self._user_turns[text, ended] = user_turn_ids(self.policy, text, ended=ended)
        return self._user_turns[text, ended]


def _who(key: Key) -> Key:
    return (*key[:-2], key[-1])


def user_turn_ids(policy: Policy, text: str, *, ended: bool) -> tuple[int, ...]:
    """Ids of a user's turn after a reply, up to the header that opens the next reply.

    ended: whether the reply's own last token ends its turn; else the template's end comes first.
    """
    ids = policy.encode_text(_after_reply(policy, text))
    return ids[1:] if ended and ids[:1] == (end_of_turn(policy.tokenizer),) else ids


def _after_reply(policy: Policy, text: str) -> str:
    """What the template writes behind a reply that the user answers with `text`."""
    chat = [Message("user", "a"), Message("assistant", _MARK), Message("user", text)]
    _, found, after = chat_text(policy.tokenizer, chat).partition(_MARK)
    if not found:
        raise ModelError(
            f"{policy.keys.model_name_or_path}: its chat template leaves earlier replies out, so "
            "that no conversation can grow; set rollout: single_turn"
        )
    return after


def check_growing(policy: Policy, prompts: Sequence[Prompt]) -> str:
    """Holds a growing conversation against the template's own ids; one line on how they compare.

    prompts: the run's; of those that lack something, the one with the most turns and the one with
    the fewest are tried. Raises ModelError, by the model's name, where the template writes earlier
    turns in another way, but for thoughts, which stay as they were sampled.
    """
    lacking = sorted((p for p in prompts if p.removed), key=lambda p: len(p.messages))
    kept = False
    for prompt in {p.prompt_id: p for p in (*lacking[:1], *lacking[-1:])}.values():
        kept |= _grows_as_sampled(policy, prompt)
    if kept:
        return "thoughts of earlier turns stay as sampled, where the template takes them out"
    return "ids of a growing conversation are the template's own"


def _grows_as_sampled(policy: Policy, prompt: Prompt) -> bool:
    """Whether sampled thoughts stand where the template has none; False where all ids agree."""
    fact = prompt.removed[0].text
    chat = [
        *prompt.messages,
        Message("assistant", NEUTRAL_QUESTION),
        Message("user", fact),
    ]
    own_text = chat_text(policy.tokenizer, chat)
    opening = chat_text(policy.tokenizer, prompt.messages)
    said = policy.encode_text(opening + NEUTRAL_QUESTION)
    end = end_of_turn(policy.tokenizer)
    reply = said if end is None else (*said, end)
    grown = (*reply, *user_turn_ids(policy, fact, ended=end is not None))
    own = policy.encode_text(own_text)
    if grown == own:
        return False
    grown_text = opening + NEUTRAL_QUESTION + _after_reply(policy, fact)
    if grown_text != own_text and _plain(grown_text) == _plain(own_text):
        return True
    at = next((i for i, (a, b) in enumerate(zip(grown, own, strict=False)) if a != b), len(own))
    raise ModelError(
        f"{policy.keys.model_name_or_path}: expected a growing conversation to have the ids of its "
        f"chat template, found {policy.decode(grown[at : at + 8])!r} at token {at} where the "
        f"template, which writes earlier turns anew, has {policy.decode(own[at : at + 8])!r}; set "
        "rollout: single_turn or another model"
    )


def _plain(text: str) -> str:
    return _THOUGHT.sub("", text)
