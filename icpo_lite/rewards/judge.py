"""The judge: type, correctness and aim of a reply, in one verdict."""

from __future__ import annotations

from collections.abc import Iterable

from icpo_lite.rewards.asking import aim
from icpo_lite.rewards.correctness import GradingOptions, grade
from icpo_lite.rewards.response_type import Classification, explain
from icpo_lite.types import NON_ANSWERS, Prompt, ResponseType, StopReason, Verdict

Item = tuple[Prompt, str, StopReason | None]


class Judge:
    """Judges replies; one instance serves a whole run."""

    def __init__(self, grading: GradingOptions | None = None) -> None:
        self._grading = grading or GradingOptions()

    def judge(self, prompt: Prompt, reply: str, stop_reason: StopReason | None = None) -> Verdict:
        """The verdict on one reply; see `judge_many`."""
        return self.judge_many([(prompt, reply, stop_reason)])[0]

    def judge_many(self, items: Iterable[Item]) -> list[Verdict]:
        """One verdict a reply, in order.

        An answer attempt is graded against `prompt.answer`. A reply that was cut off
        (stop_reason "length") is MISSING unless it had committed to an answer by then.
        """
        return [self._verdict(*item, self._type(*item)) for item in items]

    def _type(self, prompt: Prompt, reply: str, stop_reason: StopReason | None) -> Classification:
        return explain(reply, task=prompt.task, shards=prompt.shards, stop_reason=stop_reason)

    def _verdict(
        self,
        prompt: Prompt,
        reply: str,
        stop_reason: StopReason | None,
        found: Classification,
    ) -> Verdict:
        kind = found.response_type
        if kind is ResponseType.ANSWER_ATTEMPT:
            row = prompt.source or prompt.prompt_id
            graded = grade(
                prompt.task, reply, prompt.answer, prompt.columns, self._grading, row=row
            )
            return Verdict(kind, found.evidence, graded.extracted, graded.correct)
        if kind not in NON_ANSWERS:
            return Verdict(kind, found.evidence)
        asking = aim(prompt, reply)
        targeted = None
        if prompt.removed and asking.count:
            targeted = 2 * asking.hits >= asking.count and asking.hits > 0
        return Verdict(kind, found.evidence, targeted=targeted, repeats_given=asking.repeats > 0)
