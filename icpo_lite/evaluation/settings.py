"""The settings in which a policy is judged: Lost in Conversation's five, and two of ours.

A setting says how each conversation opens and how the user goes on. A new one is one function
and one line in `SETTINGS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from icpo_lite.core.types import Intent, Problem, Prompt, Shard, Turn
from icpo_lite.data.augment import augment
from icpo_lite.data.shard_checks import RejectedError
from icpo_lite.data.value_shards import sharding_by_rules
from icpo_lite.evaluation.contradictions import contradicted
from icpo_lite.rollout.conversation import Conversation, opening_turns, start, start_given
from icpo_lite.rollout.simulated_user import (
    NEUTRAL_QUESTION,
    concat_text,
    recap_text,
    snowball_text,
)


@dataclass(frozen=True)
class Setting:
    """How one kind of conversation goes.

    open: the first turns of one run. say: what the user's turn says around a further shard, given
    those before it. continues: the setting whose finished conversations this one goes on with, by
    one last turn that says `closing`.
    """

    help: str
    open: Callable[[Problem, int], Conversation]
    say: Callable[[Sequence[Shard], Shard], str] = lambda given, shard: shard.text
    max_turns: int = 16
    continues: str | None = None
    closing: Callable[[Problem], str] | None = None
    by_name: bool = False


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
    turns = [*opening_turns(problem), Turn("user", question.text)]
    for i, fact in enumerate(facts):
        turns.append(Turn("assistant", asks[i] if asks else NEUTRAL_QUESTION))
        turns.append(Turn("user", fact.text))
    return Conversation(problem, run, tuple(problem.shards), tuple(turns))


def _recap(problem: Problem) -> str:
    return recap_text(question_first(problem.shards))


def _underspecified(problem: Problem, run: int) -> Conversation:
    """One reply to a q*, drawn anew for each run.

    Problems of the built-in world lack one to all facts, which their questions name. Of a corpus
    one or two facts go whose removal carries a certificate; where none does, facts are left out as
    in the world, and the conversation is not `certified`.
    """
    if "template" in problem.columns:
        return _without_some(problem, run)
    drawn = certified_prompt(problem, run)
    if drawn is None:
        return replace(_without_some(problem, run), certified=False)
    gone = {s.shard_id for s in drawn.removed}
    kept = [s for s in problem.shards if s.shard_id not in gone]
    return start(problem, run, drawn.text, kept)


def _contradictory(problem: Problem, run: int) -> Conversation:
    text = contradicted(problem, run)
    assert text is not None, "opened where there is one"
    return start(problem, run, text, problem.shards)


def _without_some(problem: Problem, run: int) -> Conversation:
    rng = random.Random(f"underspecified/{problem.problem_id}/{run}")
    facts = [s for s in problem.shards if not s.is_question]
    dropped = {s.shard_id for s in rng.sample(facts, rng.randint(1, len(facts)))}
    kept = [s for s in question_first(problem.shards) if s.shard_id not in dropped]
    if rng.random() < 0.5:
        kept = [*kept[1:], kept[0]]
    return start(problem, run, " ".join(s.text for s in kept), kept)


def certified_prompt(problem: Problem, run: int) -> Prompt | None:
    """The certified q* that `augment` draws with the run as its seed; None where it finds none."""
    ruled = replace(problem, shards=()) if _sharded_by_rules(problem) else problem
    made = augment([ruled], seed=run)
    return next((p for p in made if p.intent is Intent.UNDERSPECIFIED), None)


def _sharded_by_rules(problem: Problem) -> bool:
    """Whether the shards are the rules' own, which know more of their cuts than shards alone."""
    try:
        return sharding_by_rules(problem).shards == problem.shards
    except RejectedError:
        return False


SETTINGS: dict[str, Setting] = {
    "full": Setting("the whole problem in one turn", _full),
    "concat": Setting("one turn, the shards as a list", _concat),
    "sharded": Setting("one shard a turn", _sharded),
    "recap": Setting(
        "SHARDED, then one last turn that repeats all shards; its answer counts",
        _sharded,
        continues="sharded",
        closing=_recap,
    ),
    "snowball": Setting("one shard a turn, after all earlier ones", _sharded, say=snowball_text),
    "clean_history": Setting("all facts asked for and given; only the last turn judged", _clean),
    "underspecified": Setting(
        "one reply to a problem that lacks facts", _underspecified, max_turns=1
    ),
    "contradictory": Setting(
        "one reply to a problem that says a fact twice, with two numbers",
        _contradictory,
        max_turns=1,
        by_name=True,
    ),
}
#: Settings in which the prompts that a corpus itself has are judged, and which of them.
GIVEN: dict[str, Intent] = {"full": Intent.COMPLETE, "underspecified": Intent.UNDERSPECIFIED}


def open_conversation(name: str, problem: Problem, run: int) -> Conversation | None:
    """A conversation as the setting opens it; None where the corpus has no such prompt.

    A problem that came with prompts is judged on these, word for word, and on nothing made of them.
    """
    if not opens(name, problem):
        return None
    if not problem.prompts:
        return SETTINGS[name].open(problem, run)
    return start_given(problem, run, GIVEN[name])


def opens(name: str, problem: Problem) -> bool:
    """Whether a problem has what a conversation in this setting opens with."""
    if not problem.prompts:
        return name != "contradictory" or contradicted(problem, 0) is not None
    return any(p.intent is GIVEN.get(name) for p in problem.prompts)


def settings_for(problems: Sequence[Problem], wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted settings that these problems can be judged in; where none is wanted all such, but
    for those that go by name."""
    possible = tuple(GIVEN if any(p.prompts for p in problems) else SETTINGS)
    usual = tuple(name for name in possible if not SETTINGS[name].by_name)
    return tuple(name for name in wanted if name in possible) or usual
