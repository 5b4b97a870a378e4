"""Which conversations and completions a report shows, and how each of them ended."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from icpo_lite.core.types import QUESTIONS
from icpo_lite.tools.report.run_files import Judgement, Row, Run, read_rows

#: Characters of one turn, and of all turns together, that a report holds at most.
MOST_OF_A_TURN = 4_000
MOST_IN_ALL = 24_000_000
#: Groups of a step that are shown.
MOST_GROUPS = 6

#: The setting of one reply to a prompt that lacks facts: to ask is what it is about.
ONE_REPLY = "underspecified"

Key = tuple[str, str, int]


@dataclass(frozen=True)
class Said:
    """One turn as it is shown. note: type, rightness and what else is known of a reply."""

    role: str
    text: str
    response_type: str = ""
    notes: tuple[str, ...] = ()
    tokens: int = 0
    p_ask: float | None = None


@dataclass(frozen=True)
class Talk:
    """One model's conversation. good: right or, where a fact is missing for good, asked."""

    model: str
    good: bool
    ending: str
    turns: tuple[Said, ...]
    lucky: bool = False
    score: float = 0.0

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(t.response_type for t in self.turns if t.response_type))

    @property
    def replies(self) -> int:
        return sum(turn.role == "assistant" for turn in self.turns)

    @property
    def tokens(self) -> int:
        return sum(turn.tokens for turn in self.turns)

    @property
    def p_ask(self) -> float | None:
        """Probability that the first reply asks, where it is known."""
        return next((turn.p_ask for turn in self.turns if turn.role == "assistant"), None)


@dataclass(frozen=True)
class Entry:
    """The conversations of all models on one problem and run, the judged model's first.

    outcomes: other → won, lost, both right or both wrong, as the judged model sees it. place: its
    number in the order in which they were judged.
    """

    judgement: str
    setting: str
    problem_id: str
    run: int
    answer: str
    shards: tuple[str, ...]
    talks: tuple[Talk, ...]
    outcomes: Mapping[str, str]
    place: int = 0

    @property
    def link(self) -> str:
        """What names it in a page's address, the same in every report of these files."""
        key = repr((self.judgement, self.setting, self.problem_id, self.run))
        return f"talk-{hashlib.blake2b(key.encode(errors='replace'), digest_size=6).hexdigest()}"

    @property
    def contents(self) -> str:
        """Differs where anything that is shown of it does."""
        shown = repr((self.answer, self.shards, self.talks, self.place)).encode(errors="replace")
        return hashlib.blake2b(shown, digest_size=6).hexdigest()

    @property
    def own(self) -> Talk:
        return self.talks[0]

    @property
    def opening(self) -> str:
        """How the user begins, on one line."""
        text = next((turn.text for turn in self.own.turns if turn.role == "user"), "")
        return " ".join(text.split())[:160]

    @property
    def length(self) -> int:
        return sum(len(turn.text) for talk in self.talks for turn in talk.turns)


@dataclass(frozen=True)
class Selection:
    """The entries that are shown, of how many."""

    entries: tuple[Entry, ...]
    total: int


def select(judgements: Sequence[Judgement], most: int | None, notes: list[str]) -> Selection:
    """At most `most` entries, spread over judgements, settings and outcomes alike; all that a
    report has room for where it is None."""
    found = [entry for judgement in judgements for entry in _entries(judgement, notes)]
    everything = [replace(entry, place=place) for place, entry in enumerate(found)]
    shown: list[Entry] = []
    room = MOST_IN_ALL
    for entry in _in_turn(_shares(everything, len(everything) if most is None else most)):
        room -= entry.length
        if room < 0:
            break
        shown.append(entry)
    return Selection(_in_order(shown), len(everything))


def some_of(entries: Sequence[Entry], most: int) -> tuple[Entry, ...]:
    """At most `most` of these, spread in the same way."""
    return _in_order([entry for share in _shares(entries, most) for entry in share])


def _in_order(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.place))


def _shares(entries: Sequence[Entry], most: int) -> list[list[Entry]]:
    groups: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.judgement, entry.setting, _outcome(entry)].append(entry)
    return [_spread(group, count) for group, count in _quotas(list(groups.values()), most)]


def _quotas(groups: Sequence[list[Entry]], most: int) -> Iterator[tuple[list[Entry], int]]:
    """How many of each group: equal shares of `most`, what small groups leave going to the rest."""
    left = most
    by_size = sorted(groups, key=len)
    for place, group in enumerate(by_size):
        count = min(len(group), left // (len(by_size) - place))
        left -= count
        yield group, count


def _outcome(entry: Entry) -> str:
    return next(iter(entry.outcomes.values()), entry.own.ending)


def _spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    """`count` of them, evenly spaced: not the runs of the first few problems alone."""
    return [entries[i * len(entries) // count] for i in range(count)]


def _in_turn(groups: Sequence[Sequence[Entry]]) -> Iterator[Entry]:
    for row in zip_longest(*groups):
        yield from (entry for entry in row if entry is not None)


def _entries(judgement: Judgement, notes: list[str]) -> Iterator[Entry]:
    rows = {
        model.name: {_key(row): row for row in read_rows(model.conversations, notes)}
        for model in judgement.models
    }
    names = [judgement.of, *judgement.compared]
    for key, own in rows[judgement.of].items():
        talks = tuple(_talk(name, rows[name][key]) for name in names if key in rows[name])
        setting, problem, run = key
        yield Entry(
            judgement=judgement.title,
            setting=setting,
            problem_id=problem,
            run=run,
            answer=_clipped(str(own.get("answer", ""))),
            shards=tuple(_clipped(str(s)) for s in own.get("shards") or ()),
            talks=talks,
            outcomes={talk.model: _against(talks[0], talk) for talk in talks[1:]},
        )


def _key(row: Row) -> Key:
    return str(row.get("setting")), str(row.get("problem_id")), int(row.get("run") or 0)


def _against(own: Talk, other: Talk) -> str:
    if own.score == other.score:
        return "both right" if own.good else "both wrong"
    return "won" if own.score > other.score else "lost"


def _talk(model: str, row: Row) -> Talk:
    turns = tuple(_said(turn) for turn in row.get("turns") or () if isinstance(turn, Mapping))
    if row.get("setting") == ONE_REPLY:
        asked = any(turn.response_type in QUESTIONS for turn in turns)
        return Talk(model, asked, "asked" if asked else "did not ask", turns, score=float(asked))
    score = float(row.get("score") or 0.0)
    ending = "right" if score >= 1.0 else "wrong" if score == 0.0 else f"scored {100 * score:.0f}"
    return Talk(model, score >= 1.0, ending, turns, lucky=bool(row.get("lucky")), score=score)


def _said(turn: Row) -> Said:
    said = Said(str(turn.get("role", "")), _clipped(str(turn.get("content", ""))))
    if turn.get("response_type") is None:
        return said
    tokens, p_ask = turn.get("tokens"), turn.get("ask_probability")
    return replace(
        said,
        response_type=str(turn["response_type"]),
        notes=tuple(_remarks(turn)),
        tokens=tokens if isinstance(tokens, int) else 0,
        p_ask=float(p_ask) if isinstance(p_ask, int | float) else None,
    )


def _remarks(turn: Row) -> Iterator[str]:
    if turn.get("correct") is not None:
        yield "right" if turn["correct"] else "wrong"
    if turn.get("extracted") is not None:
        yield f"read as {_clipped(str(turn['extracted']), 60)}"
    if turn.get("targeted") is not None:
        yield "about what lacks" if turn["targeted"] else "not about what lacks"
    if turn.get("repeats_given"):
        yield "asks for what was given"
    if isinstance(turn.get("ask_probability"), int | float):
        yield f"P(ask) {turn['ask_probability']:.2f}"
    if turn.get("tokens") is not None:
        yield f"{turn['tokens']} tokens"
    if turn.get("stop_reason") == "length":
        yield "cut off"
    if isinstance(turn.get("reward"), int | float):
        yield f"reward {turn['reward']:.2f}{_parts_of(turn)}"
    for name, words in (("advantage", "advantage"), ("gold_prob", "P(gold)")):
        if isinstance(turn.get(name), int | float):
            small = 0 < abs(turn[name]) < 0.005  # a P(gold) of 0.001 is not none
            yield f"{words} {turn[name]:.1g}" if small else f"{words} {turn[name]:.2f}"


def _parts_of(turn: Row) -> str:
    """What a turn's reward is made of, where that is more than one thing."""
    parts = turn.get("rewards")
    held = [(k, v) for k, v in parts.items() if v] if isinstance(parts, Mapping) else []
    if len(held) < 2:
        return ""
    said = (f"{str(k).replace('_', ' ')} {v:.2f}" for k, v in held if isinstance(v, int | float))
    return f" ({', '.join(said)})"


def _clipped(text: str, most: int = MOST_OF_A_TURN) -> str:
    left = len(text) - most
    return text if left <= 0 else f"{text[:most]} … ({left:,} more characters)"


# ------------------------------------------------------------------------------ completions


@dataclass(frozen=True)
class Reply:
    """One sampled response of a training step. turns: of a conversation, what followed the prompt;
    said is then its last reply."""

    said: Said
    reward: float
    advantage: float | None
    parts: tuple[tuple[str, float], ...]
    turns: tuple[Said, ...] = ()


@dataclass(frozen=True)
class Group:
    """A prompt of a training step with its responses, the best paid first."""

    intent: str
    prompt: tuple[Said, ...]
    removed: tuple[str, ...]
    replies: tuple[Reply, ...]


@dataclass(frozen=True)
class Step:
    """Some groups of one training step, of how many."""

    run: str
    number: int
    groups: tuple[Group, ...]
    total: int


def training_steps(runs: Sequence[Run]) -> list[Step]:
    """The first and last steps of each run, underspecified and complete prompts in turn."""
    steps = []
    for run in runs:
        for number, rows in run.completions.items():
            by_prompt: dict[str, list[Row]] = defaultdict(list)
            for row in rows:
                by_prompt[str(row.get("prompt_id"))].append(row)
            groups = [_group(found) for found in by_prompt.values()]
            kinds: dict[str, list[Group]] = defaultdict(list)
            for group in sorted(groups, key=_spread_of_rewards, reverse=True):
                kinds[group.intent].append(group)
            mixed = [g for row in zip_longest(*kinds.values()) for g in row if g is not None]
            if groups:
                steps.append(Step(run.name, number, tuple(mixed[:MOST_GROUPS]), len(groups)))
    return steps


def _spread_of_rewards(group: Group) -> float:
    rewards = [reply.reward for reply in group.replies]
    return max(rewards) - min(rewards)


def _group(rows: Sequence[Row]) -> Group:
    first = rows[0]
    replies = sorted((_reply(row) for row in rows), key=lambda r: r.reward, reverse=True)
    return Group(
        intent=str(first.get("intent", "")),
        prompt=tuple(_said(turn) for turn in first.get("prompt") or ()),
        removed=tuple(_clipped(str(text)) for text in first.get("removed") or ()),
        replies=tuple(replies),
    )


def _reply(row: Row) -> Reply:
    turn: dict[str, Any] = {**row, "role": "assistant", "content": row.get("completion", "")}
    parts = row.get("rewards") or {}
    return Reply(
        said=_said(turn),
        reward=float(row.get("reward") or 0.0),
        advantage=row.get("advantage"),
        parts=tuple((str(k), float(v)) for k, v in parts.items() if isinstance(v, int | float)),
        turns=tuple(_said(turn) for turn in row.get("turns") or () if isinstance(turn, Mapping)),
    )
