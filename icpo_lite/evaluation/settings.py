"""The settings in which a policy is judged: Lost in Conversation's, and two of ours.

A setting says how each conversation opens and how the user goes on. A new one is one function
and one line in `SETTINGS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from icpo_lite.conversation import Conversation, start
from icpo_lite.types import Problem, Shard, Turn
from icpo_lite.user import NEUTRAL_QUESTION, concat_text


@dataclass(frozen=True)
class Setting:
    """open: the first turns of one run. say: how a further shard is worded."""

    help: str
    open: Callable[[Problem, int], Conversation]
    say: Callable[[Sequence[Shard], Shard], str] = lambda given, shard: shard.text
    max_turns: int = 16


def question_first(shards: Sequence[Shard]) -> list[Shard]:
    """The question, then the facts in their order."""
    return sorted(shards, key=lambda s: not s.is_question)


def _full(problem: Problem, run: int) -> Conversation:
    return start(problem, run, problem.question, problem.shards)


def _concat(problem: Problem, run: int) -> Conversation:
    shards = question_first(problem.shards)
    return start(problem, run, concat_text(shards), shards)


def _sharded(problem: Problem, run: int) -> Conversation:
    first = question_first(problem.shards)[0]
    return start(problem, run, first.text, [first])


def _clean(problem: Problem, run: int) -> Conversation:
    """The right questions in the assistant's mouth; only the last turn is the policy's."""
    question, *facts = question_first(problem.shards)
    asks = problem.columns.get("asks")
    turns = [Turn("user", question.text)]
    for i, fact in enumerate(facts):
        turns.append(Turn("assistant", asks[i] if asks else NEUTRAL_QUESTION))
        turns.append(Turn("user", fact.text))
    return Conversation(problem, run, tuple(problem.shards), tuple(turns))


def _underspecified(problem: Problem, run: int) -> Conversation:
    """One reply to a q* that lacks one to all facts, drawn anew for each run."""
    rng = random.Random(f"underspecified/{problem.problem_id}/{run}")
    facts = [s for s in problem.shards if not s.is_question]
    dropped = {s.shard_id for s in rng.sample(facts, rng.randint(1, len(facts)))}
    kept = [s for s in question_first(problem.shards) if s.shard_id not in dropped]
    if rng.random() < 0.5:
        kept = [*kept[1:], kept[0]]
    return start(problem, run, " ".join(s.text for s in kept), kept)


SETTINGS: dict[str, Setting] = {
    "full": Setting("the whole problem in one turn", _full),
    "concat": Setting("one turn, the shards as a list", _concat),
    "sharded": Setting("one shard a turn", _sharded),
    "clean_history": Setting("all facts asked for and given; only the last turn judged", _clean),
    "underspecified": Setting(
        "one reply to a problem that lacks facts", _underspecified, max_turns=1
    ),
}
