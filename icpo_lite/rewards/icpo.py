"""Reward = f(intent, response type, correctness): the table that a recipe chooses from.

`paper` is ICPO as printed (arXiv 2601.15330, equations 2-5). `guarded`, ours and the default,
pays for asking the right thing rather than for not answering. `accuracy` is plain RLVR: the
answer alone counts, on every prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from icpo_lite.core.thoughts import said
from icpo_lite.core.types import (
    NON_ANSWERS,
    QUESTIONS,
    Intent,
    Prompt,
    ResponseType,
    Reward,
    Turn,
    Verdict,
)
from icpo_lite.rewards.format_faults import both_ways, faults, marked_up
from icpo_lite.rewards.guesses import guess
from icpo_lite.rewards.question_targets import asked
from icpo_lite.rewards.response_type import answers_anyway


class RewardOptions(BaseModel):
    """A reward without weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GuardedOptions(RewardOptions):
    """The weights of `guarded`. A reward is at most 1; no part alone costs more than 0.5."""

    target_by: Literal["rules", "judge", "gold_rise"] = Field(
        "rules",
        description="who says whether a question asks for the removed condition: rules; the model "
        "of judge: self or endpoint; or gold_rise, whether the base model finds the gold answer "
        "likelier once the fact that answers the question is told (no judge, no rule; it takes a "
        "base that can solve the problems: the tiny one cannot, and it tells nothing there)",
    )

    correct: float = Field(
        1.0, description="a right answer to a complete prompt: the thing that is wanted there"
    )
    targeted: float = Field(
        1.0,
        description="one question about a removed condition: as good on q* as an answer on q",
    )
    targeted_interrogation: float = Field(
        0.6,
        description="several questions, at least half about removed conditions: useful, but a "
        "user answers one thing at a time, and asking for everything always hits something",
    )
    untargeted: float = Field(
        0.3,
        description="a question that misses the removed condition: better than inventing it, and "
        "a step towards the right question while the policy learns",
    )
    discussion: float = Field(
        0.2, description="talk that does not invent the missing fact, and does not ask for it"
    )
    hedging: float = Field(
        0.15, description="answers under named assumptions: honest, but it guesses"
    )
    refusal: float = Field(
        0.05,
        description="little, since refusing everything must never pay; not 0, so that a group of "
        "refusals and inventions still points away from inventing",
    )
    over_asking: float = Field(
        -0.05,
        description="a question on a complete prompt: small, or the policy stops asking at all "
        "(RLAAR's sweep: pressure against solving is lost quickly)",
    )
    repeats_given: float = Field(
        -0.15,
        description="asking again for what the prompt states, on any prompt: more than "
        "over_asking, since nothing excuses it",
    )
    both_ways: float = Field(
        -0.2,
        description="an answer with a question behind it or a doubt before it: it must not be a "
        "way to be paid for both",
    )
    guessed: float = Field(
        0.1,
        description="the most that a reply to an underspecified problem is worth when it also "
        "tells or offers a number of its own making, whatever else it asks: less than a hedge, "
        "which names its assumptions",
    )
    form: float = Field(
        -0.5,
        description="control characters, a chat template's marks, the name of a type, another "
        "language, the prompt again, one sentence over and over: each opens a way to please the "
        "judge and not the reader",
    )
    markup: float = Field(
        -0.2,
        description="code fences or tags around prose: a blemish, not a trick, so it costs less",
    )
    long_question: int = Field(
        200,
        description="words from which a question is paid as discussion; honest questions that sum "
        "up what is known reach 100 (LiC's own bound, which is for its labels, not for a reward)",
    )
    max_tokens: int = Field(
        0,
        ge=0,
        description="tokens from which length costs, linearly, to `length` at twice as many; "
        "0 leaves length alone",
    )
    length: float = Field(
        -0.2, description="the most that length can cost; small beside being right"
    )


def _paper(prompt: Prompt, verdict: Verdict, turn: Turn, options: RewardOptions) -> Reward:
    """1 for a right answer on q; 1 for a type in T on q*; else 0."""
    if prompt.intent is Intent.COMPLETE:
        return _sum(correct=float(bool(verdict.correct)))
    return _sum(non_answer=float(verdict.response_type in NON_ANSWERS))


def _accuracy(prompt: Prompt, verdict: Verdict, turn: Turn, options: RewardOptions) -> Reward:
    """1 for a right answer, on every prompt; 0 for everything else."""
    return _sum(correct=float(bool(verdict.correct)))


def _none(prompt: Prompt, verdict: Verdict, turn: Turn, options: RewardOptions) -> Reward:
    """0 for every reply: what is learned comes from a teacher (`distill`)."""
    return Reward(0.0)


def _guarded(prompt: Prompt, verdict: Verdict, turn: Turn, options: GuardedOptions) -> Reward:
    """The type's worth for this prompt's kind, less what its form, aim and length cost."""
    turn = replace(turn, content=said(turn.content))
    worth = _on_complete if prompt.intent is Intent.COMPLETE else _on_underspecified
    parts = worth(prompt, verdict, turn, options)
    if verdict.repeats_given:
        parts["repeats_given"] = options.repeats_given
    if faults(turn.content, prompt.text):
        parts["form"] = options.form
    if marked_up(turn.content, prompt.task):
        parts["markup"] = options.markup
    if length := _length_cost(len(turn.token_ids), options):
        parts["length"] = length
    return _sum(**parts)


def _on_complete(
    prompt: Prompt, verdict: Verdict, turn: Turn, options: GuardedOptions
) -> dict[str, float]:
    parts = {"correct": options.correct * bool(verdict.correct)}
    if verdict.response_type in QUESTIONS:
        parts["over_asking"] = options.over_asking
    elif verdict.response_type is ResponseType.ANSWER_ATTEMPT and both_ways(turn.content):
        parts["both_ways"] = options.both_ways
    return parts


def _on_underspecified(
    prompt: Prompt, verdict: Verdict, turn: Turn, options: GuardedOptions
) -> dict[str, float]:
    name, worth = _worth_of_not_answering(verdict, turn, options)
    if worth > options.hedging and answers_anyway(turn.content, prompt.task):
        name, worth = "hedging", options.hedging
    if worth > options.guessed and _guesses(prompt, verdict, turn):
        name, worth = "guessed", options.guessed
    return {name: worth}


def _guesses(prompt: Prompt, verdict: Verdict, turn: Turn) -> bool:
    """Whether a reply to a word problem makes up a number; a hedge says what it assumes."""
    if prompt.task != "math" or verdict.response_type is ResponseType.HEDGING:
        return False
    return bool(guess(turn.content, prompt))


def _asks(verdict: Verdict) -> bool:
    """Whether a reply is a question: by its type, or since it asks for what is missing.

    A question that sums up at length what is known reads like a discussion; but a discussion does
    not ask.
    """
    talks = verdict.response_type in (ResponseType.DISCUSSION, ResponseType.REFUSAL)
    return verdict.response_type in QUESTIONS or (talks and bool(verdict.targeted))


def _worth_of_not_answering(
    verdict: Verdict, turn: Turn, options: GuardedOptions
) -> tuple[str, float]:
    kind = verdict.response_type
    if _asks(verdict) and len(turn.content.split()) < options.long_question:
        if not verdict.targeted:
            return "untargeted", options.untargeted
        if kind is ResponseType.CLARIFICATION or len(asked(turn.content)) == 1:
            return "targeted", options.targeted
        return "targeted_interrogation", options.targeted_interrogation
    if kind is ResponseType.ANSWER_ATTEMPT:
        return "invented", 0.0
    if kind is ResponseType.MISSING:
        return "missing", 0.0
    if kind is ResponseType.HEDGING:
        return "hedging", options.hedging
    if kind is ResponseType.REFUSAL:
        return "refusal", options.refusal
    return "discussion", options.discussion


def _length_cost(tokens: int, options: GuardedOptions) -> float:
    if not options.max_tokens or tokens <= options.max_tokens:
        return 0.0
    return options.length * min(tokens / options.max_tokens - 1, 1.0)


def _sum(**parts: float) -> Reward:
    return Reward(sum(parts.values()), parts)


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """A reward: its options model and a pure function of prompt, verdict, turn and options.

    guess_limit: the share of an honest question's worth that it may pay for one with a guess
    beside it; None where the reward's own rule says nothing of guesses.
    """

    options: type[RewardOptions]
    function: Callable[[Prompt, Verdict, Turn, Any], Reward]
    guess_limit: float | None = None

    def bind(self, block: Mapping[str, Any] | None = None) -> Callable[..., Reward]:
        """The function with its options read from a recipe's block: f(prompt, verdict, turn)."""
        options = self.options.model_validate(block or {})
        return lambda prompt, verdict, turn: self.function(prompt, verdict, turn, options)


REWARDS: dict[str, RewardSpec] = {
    "paper": RewardSpec(RewardOptions, _paper),
    "guarded": RewardSpec(GuardedOptions, _guarded, guess_limit=0.3),
    "accuracy": RewardSpec(RewardOptions, _accuracy),
}
#: All that a recipe may name: also none, which pays nothing and stands no self-test.
NAMED_REWARDS = {**REWARDS, "none": RewardSpec(RewardOptions, _none)}
