"""Which facts go from a problem: one or more of its removals that carry a certificate, drawn.

Every draw is keyed by the seed and the problem's id. A problem without a removal keeps the reason
that came nearest to one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Certificate, CertificateLevel, Problem
from icpo_lite.data.augment_options import AugmentOptions
from icpo_lite.data.certificate import Removal, candidates, certified_removals, needs
from icpo_lite.data.sharding import Sharding
from icpo_lite.data.text_edits import apply
from icpo_lite.data.value_shards import ValueSharding

#: Reward spread seen when a shard was missing, by (problem_id, shard_id); `removal: spread`.
Spread = Mapping[tuple[str, int], float]


@dataclass(frozen=True, slots=True)
class Draft:
    """A problem on its way to a `q*`: its shards, and the removals drawn for it."""

    problem: Problem
    sharding: Sharding | None = None
    removals: tuple[Removal, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RemovalDraws:
    """Draws removals as the options say. refused: counts why single facts could not go."""

    options: AugmentOptions
    seed: int
    spread: Spread
    refused: Counter[str]

    def draw(self, draft: Draft) -> Draft:
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
        return Draft(
            problem, sharding, tuple(chosen), "" if chosen else "given away by another number"
        )

    def _certified(self, problem: Problem, sharding: Sharding) -> tuple[list[Removal], str]:
        given = _given_certificates(problem, sharding)
        if given is not None:
            accepted = [r for r in given if self._accepts(r.certificate.level)]
            return accepted, "certificate level not accepted"
        found, reasons = _found_removals(problem, sharding)
        reason = "no equations that lead to the answer"
        if reasons is not None:
            self.refused.update(reasons)
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
    if removal.cut.kind in ("value", "gap", "term", "description"):
        return True  # certified with all other values in place; fewer do not bring it back
    left = {n.value for n in numbers(apply(text, [removal.cut, *(r.cut for r in chosen)]))}
    return len({n.value for n in numbers(text)} - left) > len(chosen)


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
