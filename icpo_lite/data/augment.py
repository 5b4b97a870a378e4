"""Problems → prompts: a complete `q` for each, and certified underspecified `q*`.

METHOD.md section 3. A problem is split into shards (`data/sharding.py`), the removals that carry a
certificate are found (`data/certificate.py`), and one or two of them are drawn by a policy. What
cannot be certified is dropped and counted by reason, never weakened. Every draw is keyed by the
seed and the problem's id, so that the same corpus gives the same prompts in any order.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from icpo_lite.core.endpoint import BudgetSpent, EndpointOptions
from icpo_lite.core.errors import DataError
from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import (
    Certificate,
    CertificateLevel,
    Generator,
    Intent,
    Message,
    Problem,
    Prompt,
)
from icpo_lite.data.certificate import Removal, candidates, certified_removals, needs
from icpo_lite.data.clause_words import counted
from icpo_lite.data.deletions import apply, number_cut
from icpo_lite.data.experiment import Grade, Pair, tried_pairs
from icpo_lite.data.model_shards import align, shard_by_model
from icpo_lite.data.prompt_file import read_prompts, write_prompts
from icpo_lite.data.reward_spread import reward_spreads
from icpo_lite.data.shard_checks import RejectedError
from icpo_lite.data.sharding import Sharding
from icpo_lite.data.solution_equations import last_number, to_number
from icpo_lite.data.tiny_world import world_prompts
from icpo_lite.data.value_shards import ValueSharding, sharding_by_rules
from icpo_lite.recipe.section import default_of
from icpo_lite.recipe.sections import RewardKeys

__all__ = [
    "AugmentOptions",
    "Augmentation",
    "Summary",
    "augment",
    "read_prompts",
    "world_augmentation",
    "write_prompts",
]

#: Reward spread seen when a shard was missing, by (problem_id, shard_id); `removal: spread`.
Spread = Mapping[tuple[str, int], float]
#: Problems that share one call of a model.
BATCH = 64
#: What the assistant says between turns in which the user goes on by himself.
NEUTRAL_TURNS = (
    "Okay. What else should I know?",
    "Thank you. Is there anything else?",
    "Understood. Please go on.",
    "Got it. Do you have more details?",
)


class AugmentOptions(BaseModel):
    """The recipe's `augment` block."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["rules", "self", "endpoint"] = Field(
        "rules",
        description="who splits problems into shards: rules (offline), self (the policy model) or "
        "endpoint (an OpenAI-compatible server)",
    )
    share: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="largest share of underspecified prompts among all that are written; null "
        "keeps every certified one",
    )
    accept_levels: tuple[CertificateLevel, ...] = Field(
        ("marks", "numbers", "solver", "tested"),
        min_length=1,
        description="certificates that are good enough: marks (calculator marks), numbers "
        "(equations or argument values), solver (numbers in every way of one or two operations to "
        "a bare answer), tested (verify alone), none",
    )
    max_removed: int = Field(
        2, ge=1, description="an underspecified prompt lacks one to this many facts"
    )
    removal: Literal["random", "first", "most_needed", "spread"] = Field(
        "random",
        description="which certified fact goes: random, first (in the text), most_needed (factors "
        "before terms of a sum) or spread (where rewards differed most)",
    )
    spread_from: str | None = Field(
        None, description="run directory whose completions tell the spreads for removal: spread"
    )
    reword: bool = Field(
        True,
        description="where nothing can be deleted, put 'some' or 'several' in a number's place; "
        "false keeps to deletions (at most 'some' stands before a noun that lost its number)",
    )
    mid_conversation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of prompts that start after some facts were given turn by turn",
    )
    verify: int = Field(
        0,
        ge=0,
        description="samples of the policy on each q and q*; q* must stay unsolved (0: no check)",
    )
    verify_tolerance: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the samples on q* that may reach the gold answer by luck",
    )
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="what a row that cannot be read does: end the run, or be counted"
    )
    limit: int | None = Field(None, ge=1, description="read at most this many problems")
    endpoint: EndpointOptions | None = Field(
        default_of(RewardKeys, "endpoint"),
        description="the server that shards where method is endpoint, and that tries "
        "the pairs of verify",
    )


@dataclass(slots=True)
class Summary:
    """Counts of one run, kept up to date while prompts are drawn.

    dropped: problems without a `q*`, by reason. refused: why single facts could not go, by reason.
    stopped: whether a budget of requests ended it before the last problem.
    """

    problems: int = 0
    complete: int = 0
    underspecified: int = 0
    sharded: int = 0
    certified: int = 0
    mid_conversation: int = 0
    levels: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    bad_rows: Counter[str] = field(default_factory=Counter)
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A problem on its way to a `q*`: its shards, and the removals drawn for it."""

    problem: Problem
    sharding: Sharding | None = None
    removals: tuple[Removal, ...] = ()
    reason: str = ""


class Augmentation:
    """The prompts of a corpus, made as they are iterated over; `summary` counts along."""

    def __init__(self, prompts: Iterator[Prompt], summary: Summary) -> None:
        self._prompts = prompts
        self.summary = summary

    def __iter__(self) -> Iterator[Prompt]:
        return self._prompts


def augment(
    problems: Iterable[Problem],
    options: AugmentOptions | None = None,
    *,
    seed: int = 0,
    generator: Generator | None = None,
    grade: Grade | None = None,
    spread: Spread | None = None,
    summary: Summary | None = None,
) -> Augmentation:
    """Prompts of the problems, in order: each `q`, followed by its `q*` where one is certified.

    generator: the model that shards (`self`, `endpoint`) and solves (`verify`). grade: whether a
    reply is right; by default the last number of the reply against a numeric answer. Raises
    DataError when options ask for what was not handed in.
    """
    options = options or AugmentOptions()
    summary = summary or Summary()
    if (options.method != "rules" or options.verify) and generator is None:
        asks = f"verify: {options.verify}" if options.verify else f"method: {options.method}"
        raise DataError(f"expected a model for {asks}, found none; use method: rules, verify: 0")
    if options.removal == "spread" and spread is None:
        if options.spread_from is None:
            raise DataError(
                "expected reward spreads for removal: spread, found none; name an earlier run in "
                "spread_from, or use random"
            )
        spread = reward_spreads(options.spread_from)
    run = _Run(options, seed, generator, grade or last_number_is_right, spread or {}, summary)
    return Augmentation(run.prompts(problems), summary)


def world_augmentation(
    problems: Sequence[Problem],
    options: AugmentOptions | None = None,
    *,
    seed: int = 0,
    summary: Summary | None = None,
) -> Augmentation:
    """Prompts of the built-in world, whose certificates hold by construction, counted alike."""
    options = options or AugmentOptions()
    summary = summary or Summary()
    made = world_prompts(
        problems,
        seed=seed,
        max_removed=options.max_removed,
        mid_conversation=options.mid_conversation,
    )
    return Augmentation(_counted(made, summary), summary)


def _counted(prompts: Iterable[Prompt], summary: Summary) -> Iterator[Prompt]:
    for prompt in prompts:
        if prompt.intent is Intent.COMPLETE:
            summary.problems += 1
            summary.sharded += 1
            summary.complete += 1
        else:
            summary.certified += 1
            summary.underspecified += 1
            summary.levels[prompt.certificate.level] += 1
        summary.mid_conversation += len(prompt.messages) > prompt.opening + 1
        yield prompt


def last_number_is_right(problem: Problem, reply: str) -> bool:
    """The grade used where no other is given: math answers, numerically."""
    return to_number(problem.answer) == last_number(reply)


@dataclass(frozen=True, slots=True)
class _Run:
    options: AugmentOptions
    seed: int
    generator: Generator | None
    grade: Grade
    spread: Spread
    summary: Summary

    def prompts(self, problems: Iterable[Problem]) -> Iterator[Prompt]:
        stream = iter(problems)
        while batch := list(islice(stream, BATCH)):
            try:
                drafts = self._drafted(batch)
            except BudgetSpent:
                drafts = self._paid(batch)
                self.summary.stopped = True
            for draft in drafts:
                yield from self._finish(draft)
            if self.summary.stopped:
                return

    def _drafted(self, batch: Sequence[Problem]) -> list[Draft]:
        """The problems sharded, their removals drawn and tried."""
        counts = self.summary.refused.copy()
        try:
            drafts = [self._draw(draft) for draft in self._shard(batch)]
            return self._verified(drafts) if self.options.verify else drafts
        except BudgetSpent:
            self.summary.refused = counts  # nothing of it counts: the batch is gone through anew
            raise

    def _paid(self, batch: Sequence[Problem]) -> list[Draft]:
        """Those at the batch's beginning whose replies all came in before the budget was spent.

        One by one, so that no reply that was paid for is left out; they come from the cache.
        """
        drafts: list[Draft] = []
        for problem in batch:
            try:
                drafts += self._drafted([problem])
            except BudgetSpent:
                break
        return drafts

    # -- shards

    def _shard(self, batch: Sequence[Problem]) -> Iterator[Draft]:
        todo = [p for p in batch if not p.shards]
        made = self._shardings(todo)
        by_id = {p.problem_id: m for p, m in zip(todo, made, strict=True)}
        for problem in batch:
            sharding = by_id.get(problem.problem_id) or align(problem.question, problem.shards)
            if isinstance(sharding, RejectedError):
                yield Draft(problem, reason=f"shards: {sharding.reason}")
            else:
                yield Draft(problem, sharding)

    def _shardings(self, problems: Sequence[Problem]) -> list[Sharding | RejectedError]:
        if self.options.method != "rules" and self.generator is not None:
            texts = [p.question for p in problems]
            return shard_by_model(texts, self.generator, seed=self.seed) if texts else []
        return [_by_rules(problem) for problem in problems]

    # -- removals

    def _draw(self, draft: Draft) -> Draft:
        """The draft with one or more removals drawn, or with the reason why there is none."""
        problem, sharding = draft.problem, draft.sharding
        if sharding is None:
            return draft
        found, reason = self._certified(problem, sharding)
        if not found:
            return Draft(problem, sharding, reason=reason)
        rng = random.Random(f"removal/{self.seed}/{problem.problem_id}")
        pure = [r for r in found if not r.rewords]
        if pure or not self.options.reword:
            found = pure
        if not found:
            return Draft(problem, sharding, reason="only by rewording")
        count = rng.randint(1, min(self.options.max_removed, len(found)))
        if self.options.verify and any(r.certificate.level == "none" for r in found):
            count = 1  # of two that go together, an experiment cannot say which is needed
        chosen: list[Removal] = []
        for removal in self._ordered(problem, found, rng):
            if len(chosen) < count and _fits(problem.question, removal, chosen):
                chosen.append(removal)
        return Draft(problem, sharding, tuple(chosen))

    def _certified(self, problem: Problem, sharding: Sharding) -> tuple[list[Removal], str]:
        given = _given_certificates(problem, sharding)
        if given is not None:
            accepted = [r for r in given if self._accepts(r.certificate.level)]
            return accepted, "certificate level not accepted"
        found, reasons = _found_removals(problem, sharding)
        reason = "no equations that lead to the answer"
        if reasons is not None:
            self.summary.refused.update(reasons)
            reason = _main_reason(reasons)
        found = [r for r in found if not _said_before(problem, r)]
        accepted = [r for r in found if self._accepts(r.certificate.level)]
        if found and not accepted:
            reason = "certificate level not accepted"
        by_experiment = self.options.verify > 0 and self._accepts("tested")
        if not accepted and (by_experiment or self._accepts("none")):
            proposed = candidates(problem.question, sharding)
            accepted = [r for r in proposed if not _said_before(problem, r)]
        return accepted, reason

    def _accepts(self, level: CertificateLevel) -> bool:
        return level in self.options.accept_levels

    def _ordered(
        self, problem: Problem, found: Sequence[Removal], rng: random.Random
    ) -> list[Removal]:
        shuffled = rng.sample(list(found), len(found))
        if self.options.removal == "first":
            return sorted(shuffled, key=lambda r: r.cut.edits[0].start)
        if self.options.removal == "most_needed":
            return sorted(shuffled, key=lambda r: (r.additive, r.cut.edits[0].start))
        if self.options.removal == "spread":
            seen = {
                r: self.spread.get((problem.problem_id, r.fact.shard.shard_id), 0.0) for r in found
            }
            return sorted(shuffled, key=lambda r: -seen[r])
        # What goes is the whole of a fact before it is one of a fact's numbers.
        return sorted(shuffled, key=lambda r: len(r.fact.mentions) > 1)

    # -- the experiment

    def _verified(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Drafts whose `q*` the model could not solve, with that in their certificates."""
        assert self.generator is not None
        asked = [d for d in drafts if d.removals]
        pairs = [Pair(d.problem, _without(d.problem, d.removals), d.removals) for d in asked]
        options = self.options
        found = tried_pairs(
            pairs,
            self.generator,
            self.grade,
            samples=options.verify,
            tolerance=options.verify_tolerance,
            seed=self.seed,
        )
        checked: dict[str, Draft] = {}
        for draft, result in zip(asked, found, strict=True):
            reason = result if isinstance(result, str) else ""
            removals = () if isinstance(result, str) else result
            checked[draft.problem.problem_id] = replace(draft, removals=removals, reason=reason)
        return [checked.get(d.problem.problem_id, d) for d in drafts]

    # -- prompts

    def _finish(self, draft: Draft) -> Iterator[Prompt]:
        count = self.summary
        count.problems += 1
        count.sharded += draft.sharding is not None
        yield self._prompt(draft, ())
        count.complete += 1
        if not draft.removals:
            count.dropped[draft.reason] += 1
            return
        level = _joined([r.certificate for r in draft.removals]).level
        count.certified += level != "none"
        total = count.complete + count.underspecified + 1
        share = self.options.share
        if share is not None and count.underspecified + 1 > share * total:
            return
        count.underspecified += 1
        count.levels[level] += 1
        count.kinds.update(r.cut.kind for r in draft.removals)
        yield self._prompt(draft, draft.removals)

    def _prompt(self, draft: Draft, removals: Sequence[Removal]) -> Prompt:
        problem = draft.problem
        shards = draft.sharding.shards if draft.sharding else ()
        removed = tuple(dict.fromkeys(shard for r in removals for shard in r.shards))
        intent = Intent.UNDERSPECIFIED if removed else Intent.COMPLETE
        return Prompt(
            prompt_id=f"{problem.problem_id}/{intent}",
            problem_id=problem.problem_id,
            task=problem.task,
            intent=intent,
            messages=(*problem.opening, *self._messages(draft, removals)),
            answer=problem.answer,
            shards=shards,
            removed=removed,
            certificate=_joined([r.certificate for r in removals]),
            solution=problem.solution,
            source=problem.source,
            columns=problem.columns,
            opening=len(problem.opening),
        )

    def _messages(self, draft: Draft, removals: Sequence[Removal]) -> tuple[Message, ...]:
        """One user turn, or several where the prompt is drawn to start mid-conversation.

        A `q*` then says each removed fact without its number, where its certificate rests on that
        gap; where a fact cannot be said so, neither its `q*` nor its `q` is taken apart.
        """
        problem, shards = draft.problem, draft.sharding.shards if draft.sharding else ()
        rng = random.Random(f"turns/{self.seed}/{problem.problem_id}/{bool(removals)}")
        gaps = {r.shard_id: _with_gap(r) for r in draft.removals}
        told = {s.shard_id: s.text for s in shards if not s.is_question}
        if removals:
            told |= {shard_id: gap or "" for shard_id, gap in gaps.items()}
            told |= {shard.shard_id: "" for r in removals for shard in r.along}
        kept = [text for text in told.values() if text]
        whole = any(gap is None for gap in gaps.values())
        if not kept or whole or rng.random() >= self.options.mid_conversation:
            return (Message("user", _without(problem, removals)),)
        self.summary.mid_conversation += 1
        later = sorted(rng.sample(range(len(kept)), rng.randint(1, len(kept))))
        opening = [text for i, text in enumerate(kept) if i not in later]
        question = next(s.text for s in shards if s.is_question)
        ordered = [question, *opening] if rng.random() < 0.5 else [*opening, question]
        messages = [Message("user", " ".join(ordered))]
        for index in later:
            messages.append(Message("assistant", rng.choice(NEUTRAL_TURNS)))
            messages.append(Message("user", kept[index]))
        return tuple(messages)


def _with_gap(removal: Removal) -> str | None:
    """A removed fact as a user tells it who leaves its number out; None where that cannot be said.

    Empty where the whole clause went, or a value that is no number.
    """
    if removal.cut.kind == "clause" or removal.value is None:
        return ""
    text = removal.fact.shard.text
    for mention in counted(text):
        cut = number_cut(text, mention, 0)
        if mention.value == removal.value and cut is not None:
            return apply(text, [cut])
    return None


def _by_rules(problem: Problem) -> Sharding | RejectedError:
    try:
        return sharding_by_rules(problem)
    except RejectedError as rejected:
        return rejected


def _found_removals(
    problem: Problem, sharding: Sharding
) -> tuple[list[Removal], Sequence[str] | None]:
    """Certified removals, and why other facts have none; None where nothing shows the needs."""
    if isinstance(sharding, ValueSharding):
        return list(sharding.removals), sharding.refused
    needed = needs(problem, sharding.mentions)
    if needed is None:
        return [], None
    return certified_removals(problem.question, sharding, needed)


#: Reasons from the nearest to a certificate to the farthest; a problem is counted by its nearest.
_NEARNESS = (
    "not visibly incomplete",
    "implied by the words left",
    "given away by another number",
    "no fluent cut",
    "not one number",
    "not needed by the solution",
    "given away by the words left",
    "examples among the words give it away",
    "one of several that a reader can guess",
    "one name for two values",
    "one value for two things",
    "not required by the function",
    "not said once in the request",
)


def _main_reason(reasons: Sequence[str]) -> str:
    return next((r for r in _NEARNESS if r in reasons), "no facts to remove")


def _without(problem: Problem, removals: Sequence[Removal]) -> str:
    if not removals:
        return problem.question
    return apply(problem.question, [r.cut for r in removals])


def _said_before(problem: Problem, removal: Removal) -> bool:
    """Whether a turn before the question states the number that a removal takes away."""
    before = {n.value for m in problem.opening for n in numbers(m.content)}
    return bool(before & {n.value for n in numbers(removal.fact.shard.text)})


def _fits(text: str, removal: Removal, chosen: Sequence[Removal]) -> bool:
    """Whether a removal can join those chosen: another fact, other words, no number comes back."""
    if removal.shard_id in {r.shard_id for r in chosen}:
        return False
    taken = [(e.start, e.end) for r in chosen for e in r.cut.edits]
    if any(e.start <= end and start <= e.end for e in removal.cut.edits for start, end in taken):
        return False
    if removal.cut.kind in ("value", "gap", "description"):
        return True  # certified with all other values in place; fewer do not bring it back
    left = {n.value for n in numbers(apply(text, [removal.cut, *(r.cut for r in chosen)]))}
    return len({n.value for n in numbers(text)} - left) > len(chosen)


def _joined(certificates: Sequence[Certificate]) -> Certificate:
    """One certificate of several removals; its level is the weakest."""
    if not certificates:
        return Certificate("none")
    order: tuple[CertificateLevel, ...] = ("none", "given", "tested", "solver", "numbers", "marks")
    return Certificate(
        min((c.level for c in certificates), key=order.index),
        "; ".join(c.out_of_reach for c in certificates),
        "; ".join(c.incomplete for c in certificates),
    )


def _given_certificates(problem: Problem, sharding: Sharding) -> list[Removal] | None:
    """Certificates that came with the problem: `columns["certificates"]`, by shard id.

    `{"1": {"level": "numbers", "out_of_reach": "…", "incomplete": "…"}}`; None where none came.
    """
    given = problem.columns.get("certificates")
    if not isinstance(given, Mapping):
        return None
    found = []
    for fact in sharding.facts:
        entry = given.get(fact.shard.shard_id, given.get(str(fact.shard.shard_id)))
        cut = next((c for c in fact.cuts if c.kind == "clause"), None)
        if entry is None or cut is None:
            continue
        certificate = entry if isinstance(entry, Certificate) else Certificate(**entry)
        found.append(Removal(fact, cut, apply(problem.question, [cut]), certificate, False))
    return found
