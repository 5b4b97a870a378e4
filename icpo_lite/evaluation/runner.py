"""Judge one model on the same instructions and seeds as every other, and compare them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import UsageError
from icpo_lite.core.files import plain, write_atomically
from icpo_lite.core.types import Judge, Message, Problem
from icpo_lite.evaluation.metrics import summarise
from icpo_lite.evaluation.pace import KeptTalker, Pace, most_replies
from icpo_lite.evaluation.records import row_of
from icpo_lite.evaluation.resume import Lines, Progress
from icpo_lite.evaluation.settings import SETTINGS, Setting, open_conversation
from icpo_lite.rollout.conversation import (
    Chooser,
    Conversation,
    Talker,
    User,
    converse,
    last_words,
)

#: The words that open every chat, or what makes the opening turn of a problem's chats.
System = str | None | Callable[[Problem], Message | None]


@dataclass(frozen=True)
class Evaluation:
    """One model's conversations by setting (`records.row_of`), and the figures made of them."""

    name: str
    rows: Mapping[str, Sequence[Mapping[str, Any]]] = field(repr=False)
    summary: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class _Portion:
    """Conversations that are played together: some problems in one setting, all runs.

    names: the settings that come out of it; RECAP goes on where SHARDED ends.
    """

    setting: str
    names: tuple[str, ...]
    problems: tuple[Problem, ...]
    number: int

    @property
    def key(self) -> str:
        return f"{'+'.join(self.names)}/{self.number}"


@dataclass(frozen=True)
class _Play:
    """All that a portion is played with."""

    talker: KeptTalker
    judge: Judge
    choose: Chooser
    user: User | None
    runs: int
    seed: int
    max_turns: int | None
    system: System

    def lines(self, portion: _Portion) -> Lines:
        """The finished conversations of a portion, as lines by setting."""
        setting = SETTINGS[portion.setting]
        opened = [
            replace(talk, system=self._system(problem))
            for problem in portion.problems
            for run in range(self.runs)
            if (talk := open_conversation(portion.setting, problem, run)) is not None
        ]
        limit = min(setting.max_turns, self.max_turns or setting.max_turns)
        closes = any(SETTINGS[name].closing for name in portion.names)
        goes_on = closes or (limit > 1 and any(talk.tellable for talk in opened))
        done = converse(
            opened,
            self.talker if goes_on else self.talker.once(),
            self.judge,
            choose=self.choose,
            say=setting.say,
            seed=self.seed,
            setting=portion.setting,
            max_turns=limit,
            user=self.user,
        )
        out = {name: self._ending(name, done) for name in portion.names}
        return {name: [row_of(name, talk) for talk in talks] for name, talks in out.items()}

    def _ending(self, name: str, done: Sequence[Conversation]) -> Sequence[Conversation]:
        closing = SETTINGS[name].closing
        if closing is None:
            return done
        return last_words(done, self.talker, self.judge, text=closing, seed=self.seed, setting=name)

    def _system(self, problem: Problem) -> Message | None:
        if callable(self.system):
            return self.system(problem)
        return Message("system", self.system) if self.system else None


def evaluate(
    name: str,
    talker: Talker,
    judge: Judge,
    problems: Sequence[Problem],
    *,
    choose: Chooser,
    settings: Sequence[str],
    runs: int,
    seed: int,
    max_turns: int | None = None,
    system: System = None,
    user: User | None = None,
    at_once: int | None = None,
    kept_at_once: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """`runs` conversations on every problem in every setting; deterministic from the seed.

    max_turns: cuts conversations shorter than their setting does. system: opens every chat.
    user: words the shards; None says them verbatim, the one that `choose` names. at_once: about so
    many conversations are played together; None plays all of a setting. kept_at_once: replies that
    are made and kept together; None keeps those of a turn. workers: threads that play
    portions side by side. progress: keeps finished portions, and gives back those of an earlier
    attempt. tell: is told now and then how far it is, and how long the rest takes.

    Raises UsageError for an unknown setting, or when there is no problem to judge on.
    """
    if unknown := sorted(set(settings) - set(SETTINGS)):
        raise UsageError(f"settings: expected some of {', '.join(SETTINGS)}, got {unknown[0]!r}")
    require_problems(problems)
    pace = Pace(name, most_replies(problems, settings, runs), tell)
    batch = max(1, (kept_at_once or 1 << 30) // runs) * runs
    kept = KeptTalker(talker, progress, pace, batch)
    play = _Play(kept, judge, choose, user, runs, seed, max_turns, system)
    portions = list(_portions(settings, problems, max(1, (at_once or 0) // runs)))
    if not at_once:
        portions = list(_portions(settings, problems, len(problems)))

    def played(portion: _Portion) -> Lines:
        lines = progress.get(portion.key) if progress else None
        if lines is not None:
            pace.count(most_replies(portion.problems, portion.names, runs), kept=True)
        else:
            lines = play.lines(portion)
            if progress:
                progress.add(portion.key, lines)
        return lines

    by_setting: dict[str, list[Mapping[str, Any]]] = {name: [] for name in settings}
    for lines in _in_order(played, portions, workers):
        for setting, rows in lines.items():
            by_setting[setting] += rows
    return Evaluation(name, by_setting, summarise(by_setting))


def require_problems(problems: Sequence[Problem]) -> None:
    if not problems:
        raise UsageError("evaluation: no problem to judge on; give a file that holds some")


def _portions(
    settings: Sequence[str], problems: Sequence[Problem], size: int
) -> Iterator[_Portion]:
    played: dict[str, list[str]] = {}
    for name in settings:
        played.setdefault(_played_as(SETTINGS[name], name), []).append(name)
    for setting, names in played.items():
        for number, first in enumerate(range(0, len(problems), size)):
            chosen = tuple(problems[first : first + size])
            yield _Portion(setting, tuple(sorted(names)), chosen, number)


def _played_as(setting: Setting, name: str) -> str:
    return setting.continues or name


def _in_order(
    played: Callable[[_Portion], Lines], portions: Sequence[_Portion], workers: int
) -> Iterator[Lines]:
    """The portions' lines in order, played by threads: the model's work releases the lock."""
    if workers <= 1:
        yield from map(played, portions)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(played, portions)
    finally:
        # After an error or Ctrl-C no further portion is begun.
        pool.shutdown(cancel_futures=True)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """`eval.json` (figures) and `conversations.jsonl` (every conversation) in `folder`.

    eval.json comes last: where it is, the conversations are whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = (row for rows in evaluation.rows.values() for row in rows)
    lines = (json.dumps(row, ensure_ascii=False, default=plain) for row in rows)
    text = "".join(f"{line}\n" for line in lines)
    write_atomically(folder / "conversations.jsonl", text.encode(errors="replace"))
    write_atomically(folder / "eval.json", json.dumps(evaluation.summary, indent=2).encode())
