"""The judge: type, correctness and aim of a reply, in one verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from icpo_lite.core.types import NON_ANSWERS, Prompt, ResponseType, StopReason, Verdict
from icpo_lite.rewards.description_targets import with_description
from icpo_lite.rewards.graders import choice_answers, worded_answers
from icpo_lite.rewards.grading import GradingOptions, grade
from icpo_lite.rewards.linear_judge import LinearTyper
from icpo_lite.rewards.model_targets import Targeter, retarget
from icpo_lite.rewards.question_targets import aim
from icpo_lite.rewards.response_type import Classification, explain, is_cut_off, is_nothing
from icpo_lite.rewards.worded_targets import with_wording

Item = tuple[Prompt, str, StopReason | None]


class Typer(Protocol):
    """Who names the types: `Rules`, `linear_judge.LinearTyper`, `model_judge.SelfTyper`,
    `model_judge.EndpointTyper`.
    """

    def types(self, items: Sequence[Item]) -> list[Classification]:
        """One type an item, in order."""
        ...


class Rules:
    """Types by `response_type.explain`."""

    def types(self, items: Sequence[Item]) -> list[Classification]:
        return [_explained(prompt, reply) for prompt, reply, _ in items]


def _explained(prompt: Prompt, reply: str) -> Classification:
    """A reply that the rules fail on says nothing: it may be anything, and ends no run."""
    try:
        return explain(reply, task=prompt.task, shards=prompt.shards)
    except Exception:  # patterns, recursion, arithmetic: what no reply that was thought of raises
        return Classification(ResponseType.MISSING, "cannot be read")


class Judge:
    """Judges replies; one instance serves a whole run.

    grading: what the recipe says about grading. typer: who names the types, by default the rules.
    targeter: who says what a question asks for, by default the rules.
    """

    def __init__(
        self,
        grading: GradingOptions | None = None,
        typer: Typer | None = None,
        targeter: Targeter | None = None,
    ) -> None:
        self._grading = grading or GradingOptions()
        self._typer = typer or Rules()
        self._targeter = targeter

    @property
    def local(self) -> bool:
        """Whether types and targets come from arithmetic alone, and from no model or server: then
        threads may share this judge.
        """
        return isinstance(self._typer, Rules | LinearTyper) and self._targeter is None

    def judge(self, prompt: Prompt, reply: str, stop_reason: StopReason | None = None) -> Verdict:
        """The verdict on one reply; see `judge_many`."""
        return self.judge_many([(prompt, reply, stop_reason)])[0]

    def judge_many(self, items: Iterable[Item]) -> list[Verdict]:
        """One verdict a reply, in order; the typer sees all replies in one batch.

        An answer attempt is graded against `prompt.answer`, where there is one. An empty reply is
        MISSING, and so is one that was cut off (stop_reason "length") before it had committed to
        an answer.
        Raises GraderError, with the row's name, when a gold answer or a grader is at fault.
        """
        items = list(items)
        if self.local:
            distinct, places = _distinct(items)
            verdicts = self._judged(distinct)
            return [verdicts[place] for place in places]
        return self._judged(items)

    def _judged(self, items: Sequence[Item]) -> list[Verdict]:
        missing = [_missing(*item) for item in items]
        left = [item for item, m in zip(items, missing, strict=True) if m is None]
        types = iter(self._typer.types(left))
        verdicts = [
            Verdict(ResponseType.MISSING, why) if why else self._verdict(item, next(types))
            for item, why in zip(items, missing, strict=True)
        ]
        return retarget(self._targeter, items, verdicts) if self._targeter else verdicts

    def _verdict(self, item: Item, found: Classification) -> Verdict:
        prompt, reply, stop_reason = item
        kind = found.response_type
        if kind is not ResponseType.ANSWER_ATTEMPT and (said := _stated_without_number(item)):
            return self._graded(prompt, reply, said)
        if stop_reason == "length" and kind is not ResponseType.ANSWER_ATTEMPT:
            return Verdict(ResponseType.MISSING, "cut off before it was said")
        if kind is ResponseType.ANSWER_ATTEMPT:
            return self._graded(prompt, reply, found.evidence)
        if kind not in NON_ANSWERS:
            return Verdict(kind, found.evidence)
        try:
            asking = with_description(prompt, reply, aim(prompt, reply))
            asking = with_wording(prompt, reply, asking)
        except Exception:  # as in `_explained`: a reply may be anything, and ends no run
            return Verdict(ResponseType.MISSING, "cannot be read")
        targeted = None
        if (prompt.removed or prompt.targets) and asking.count:
            targeted = asking.hits > 0 and 2 * asking.hits >= asking.count
        return Verdict(kind, found.evidence, targeted=targeted, repeats_given=asking.repeats > 0)

    def _graded(self, prompt: Prompt, reply: str, evidence: str) -> Verdict:
        if prompt.answer is None:
            return Verdict(ResponseType.ANSWER_ATTEMPT, evidence)
        row = prompt.source or prompt.prompt_id
        graded = grade(prompt.task, reply, prompt.answer, prompt.columns, self._grading, row=row)
        return Verdict(ResponseType.ANSWER_ATTEMPT, evidence, graded.extracted, graded.correct)


def _distinct(items: Sequence[Item]) -> tuple[list[Item], list[int]]:
    """The items that differ in more than their prompt's id, and which of them each one is.

    Many of a group's replies, and of the runs of a problem, are the same words.
    """
    kept: list[Item] = []
    known: dict[tuple[object, ...], list[int]] = {}
    places = []
    for item in items:
        prompt, reply, stop_reason = item
        alike = known.setdefault((reply, stop_reason, prompt.messages), [])
        place = next((i for i in alike if _same_but_id(kept[i][0], prompt)), len(kept))
        if place == len(kept):
            kept.append(item)
            alike.append(place)
        places.append(place)
    return kept, places


def _same_but_id(one: Prompt, other: Prompt) -> bool:
    if one.columns is not other.columns:
        return False
    return one is other or replace(one, prompt_id=other.prompt_id) == other


def _stated_without_number(item: Item) -> str:
    """What a reply to a task of mathematics states whose answer is no number or a choice; "" else.

    A typer looks for numbers, and would take "the answer is ellipse" or "(B)" for talk.
    """
    prompt, reply, _ = item
    if prompt.task != "math" or prompt.answer is None:
        return ""
    gold = str(prompt.answer)
    choices = choice_answers.choices_in(prompt.columns)
    if choices and (label := choice_answers.chosen(reply, choices)):
        return f"{label}. {choices[label]}"
    return worded_answers.states(reply, gold) if worded_answers.has_no_number(gold) else ""


def _missing(prompt: Prompt, reply: str, stop_reason: StopReason | None) -> str | None:
    if is_nothing(reply):
        return "nothing is said"
    if stop_reason == "length" and is_cut_off(reply, prompt.task):
        return "cut off before an answer or a whole question"
    return None
