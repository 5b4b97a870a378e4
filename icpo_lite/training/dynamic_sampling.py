"""Which of a step's groups are learned from, and dynamic sampling until there are enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from icpo_lite.core.types import Group, Intent
from icpo_lite.training.advantages import select_groups
from icpo_lite.training.demonstrations import fit_to_follow, gated

#: At most so many prompts are sampled for one that is missing, however seldom they teach.
MOST_FOR_ONE = 4
#: (complete, underspecified, place) -> so many more prompts of each kind, sampled, judged and
#: rewarded; `place`: prompts that the step has sampled before.
More = Callable[[int, int, int], list[Group]]


def learnable_groups(
    groups: Sequence[Group], *, spread: float, hpt_gate: float | None
) -> list[Group]:
    """What can be learned from without dynamic sampling, complete prompts first.

    spread, hpt_gate: of `demonstrations.gated`; None where demonstrations only join their groups.
    """
    return _by_kind(_rows(groups, hpt_gate, spread))


def refilled_groups(
    groups: Sequence[Group],
    more: More,
    *,
    wanted: int,
    max_refills: int,
    keep_share: bool,
    spread: float,
    hpt_gate: float | None,
) -> tuple[list[Group], list[Group], int]:
    """Dynamic sampling (DAPO, arXiv 2503.14476): until a step is full of what teaches.

    Returns (all groups sampled, those chosen, refills made). A refill asks for as many more
    prompts of a kind as are missing, at the rate at which they have taught so far.

    wanted: groups of a step. keep_share: each kind of prompt is filled up by itself. spread: of
    rewards, up to which a group teaches nothing.
    """
    sampled = list(groups)
    kinds = {intent: count(sampled, intent) for intent in Intent}
    for refills in range(max_refills + 1):
        rows = _rows(sampled, hpt_gate, spread)
        chosen = _of_each_kind(rows, kinds, spread) if keep_share else _first(rows, wanted, spread)
        if keep_share:
            missing = {intent: kinds[intent] - count(chosen, intent) for intent in Intent}
        else:
            left = wanted - len(chosen)
            under = round(left * kinds[Intent.UNDERSPECIFIED] / sum(kinds.values()))
            missing = {Intent.UNDERSPECIFIED: under, Intent.COMPLETE: left - under}
        if not any(missing.values()) or refills == max_refills:
            break
        draw = {i: min(_at_rate(n, sampled, chosen, i), wanted) for i, n in missing.items()}
        sampled += more(draw[Intent.COMPLETE], draw[Intent.UNDERSPECIFIED], len(sampled))
    return sampled, chosen, refills


def teaches(group: Group, spread: float) -> bool:
    """Whether its rewards differ, or it is a demonstration that is learned from by itself."""
    alone = len(group.trajectories) == 1 and group.trajectories[0].demonstration
    return alone or max(group.rewards) - min(group.rewards) > spread


def as_learned(sampled: Sequence[Group], chosen: Sequence[Group]) -> list[Group]:
    """All that was sampled, with the advantages that it entered the update with, or 0."""
    given = {
        id(t): a for g in chosen for t, a in zip(g.trajectories, g.advantages or (), strict=True)
    }
    return [
        replace(g, advantages=tuple(given.get(id(t), 0.0) for t in g.trajectories)) for g in sampled
    ]


def count(groups: Sequence[Group], intent: Intent) -> int:
    """Groups of one kind of prompt."""
    return sum(g.prompt.intent is intent for g in groups)


def _rows(groups: Sequence[Group], hpt_gate: float | None, spread: float) -> list[Group]:
    """Each group with the trajectories that would be learned from, demonstrations decided."""
    rows = fit_to_follow(groups, rare=hpt_gate is None)
    return rows if hpt_gate is None else gated(rows, hpt_gate, spread)


def _of_each_kind(
    rows: Sequence[Group], wanted: Mapping[Intent, int], spread: float
) -> list[Group]:
    kept = select_groups(
        torch.tensor([teaches(group, spread) for group in rows]),
        torch.tensor([g.prompt.intent is Intent.UNDERSPECIFIED for g in rows]),
        wanted[Intent.UNDERSPECIFIED],
        wanted[Intent.COMPLETE],
    )
    return _by_kind([rows[i] for i in kept])


def _first(rows: Sequence[Group], wanted: int, spread: float) -> list[Group]:
    return _by_kind([group for group in rows if teaches(group, spread)][:wanted])


def _by_kind(groups: Sequence[Group]) -> list[Group]:
    """Complete prompts first, refills among them: mini-batches are dealt from that order."""
    return sorted(groups, key=lambda g: g.prompt.intent is Intent.UNDERSPECIFIED)


def _at_rate(
    missing: int, sampled: Sequence[Group], chosen: Sequence[Group], intent: Intent
) -> int:
    """Prompts to sample so that `missing` of them teach, at the rate seen so far."""
    rate = count(chosen, intent) / max(count(sampled, intent), 1)
    return math.ceil(missing / max(rate, 1 / MOST_FOR_ONE))
