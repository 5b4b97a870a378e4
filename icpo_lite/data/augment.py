"""Problems → prompts: a complete `q` for each, and certified underspecified `q*`.

METHOD.md section 3. A problem is split into shards (`data/sharding.py`), the removals that carry a
certificate are found (`data/certificate.py`), one or two of them are drawn
(`data/removal_draws.py`), and the user's turns are written (`data/user_turns.py`). What
cannot be certified is dropped and counted by reason, never weakened. Every draw is keyed by the
seed and the problem's id, so that the same corpus gives the same prompts in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import (
    Certificate,
    CertificateLevel,
    Generator,
    Intent,
    Message,
    Problem,
    Prompt,
)
from icpo_lite.data.augment_options import AugmentOptions
from icpo_lite.data.certificate import Removal
from icpo_lite.data.experiment import Grade, Pair, tried_pairs
from icpo_lite.data.model_shards import align, shard_by_model
from icpo_lite.data.prompt_file import read_prompts, write_prompts
from icpo_lite.data.removal_draws import Draft, RemovalDraws, Spread
from icpo_lite.data.reward_spread import reward_spreads
from icpo_lite.data.shard_checks import RejectedError
from icpo_lite.data.sharding import Sharding
from icpo_lite.data.solution_equations import last_number, to_number
from icpo_lite.data.tiny_world import world_prompts
from icpo_lite.data.user_turns import user_turns, without
from icpo_lite.data.value_shards import sharding_by_rules

__all__ = [
    "AugmentOptions",
    "Augmentation",
    "Summary",
    "augment",
    "read_prompts",
    "world_augmentation",
    "write_prompts",
]

#: Problems that share one call of a model.
BATCH = 64


@dataclass(slots=True)
class Summary:
    """Counts of one run, kept up to date while prompts are drawn.

    dropped: problems without a `q*`, by reason. refused: why single facts could not go, by reason.
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
        draws = RemovalDraws(self.options, self.seed, self.spread, self.summary.refused)
        while batch := list(islice(stream, BATCH)):
            drafts = [draws.draw(draft) for draft in self._shard(batch)]
            if self.options.verify:
                drafts = self._verified(drafts)
            for draft in drafts:
                yield from self._finish(draft)

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

    # -- the experiment

    def _verified(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Drafts whose `q*` the model could not solve, with that in their certificates."""
        assert self.generator is not None
        asked = [d for d in drafts if d.removals]
        pairs = [Pair(d.problem, without(d.problem, d.removals), d.removals) for d in asked]
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
            messages=(*problem.opening, *self._turns(draft, removals)),
            answer=problem.answer,
            shards=shards,
            removed=removed,
            certificate=_joined([r.certificate for r in removals]),
            solution=problem.solution,
            source=problem.source,
            columns=problem.columns,
            opening=len(problem.opening),
        )

    def _turns(self, draft: Draft, removals: Sequence[Removal]) -> tuple[Message, ...]:
        part = self.options.mid_conversation
        turns = user_turns(draft, removals, seed=self.seed, mid_conversation=part)
        self.summary.mid_conversation += len(turns) > 1
        return turns


def _by_rules(problem: Problem) -> Sharding | RejectedError:
    try:
        return sharding_by_rules(problem)
    except RejectedError as rejected:
        return rejected


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
