"""ARPO's branches: same budget, shared beginnings, at most one a source, where entropy rose."""

import math
from dataclasses import replace

import pytest
import torch

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import Intent
from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.policy.load import load_policy
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.from_recipe import bind_judge, choose_shard
from icpo_lite.rollout import branching
from icpo_lite.rollout.branching import ArpoOptions, Brancher, opening_entropies
from icpo_lite.rollout.conversation import start_training
from icpo_lite.rollout.conversation_groups import converse_groups
from icpo_lite.rollout.sampler import SamplingOptions
from icpo_lite.training.batch import collate
from icpo_lite.training.conversations import Conversations

SIZE = 6
ALWAYS = ArpoOptions(threshold=1.0)
NEVER = ArpoOptions(weight=0.0, threshold=0.0)


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("tiny-multiturn", ["device=cpu", "load_in_4bit=false"])


@pytest.fixture(scope="module")
def policy(recipe):
    return load_policy(recipe, threads=1)


@pytest.fixture(scope="module")
def prompts(recipe):
    made, _ = training_prompts(recipe, None)
    two = [p for p in made if len(p.removed) >= 2 and len(p.messages) == 1][:3]
    return [*two, next(p for p in made if p.intent is Intent.COMPLETE)]


def talks(policy, recipe, prompts, arpo, max_rows=None):
    return converse_groups(
        policy,
        prompts,
        [policy.encode_chat(p.messages) for p in prompts],
        bind_judge(recipe, policy),
        num_generations=SIZE,
        options=SamplingOptions(24, max_rows=max_rows),
        seed=0,
        step=0,
        max_turns=8,
        choose=choose_shard,
        arpo=arpo,
    )


def shared(one, other):
    """Turns that two conversations have in common, from the first on."""
    count = 0
    for a, b in zip(one.turns, other.turns, strict=False):
        if a != b:
            break
        count += 1
    return count


def test_branches_keep_the_budget_and_share_their_beginnings(policy, recipe, prompts):
    groups = talks(policy, recipe, prompts, ALWAYS)
    assert [len(g.trajectories) for g in groups] == [SIZE] * len(prompts)
    *lacking, whole = groups
    for group in lacking:
        first, rest = group.trajectories[:3], group.trajectories[3:]
        for copy in rest[: len([t for t in first if len(t.replies) > 1])]:
            # A reply and the user's answer to it, as they were sampled.
            assert max(shared(copy, t) for t in group.trajectories if t is not copy) >= 2
    # Nobody speaks after a whole prompt's first reply: all are fresh.
    assert all(len(t.replies) == 1 for t in whole.trajectories)
    batch = collate(_with_ones(groups), policy.pad_id)
    assert int(batch.loss_mask.sum()) == sum(
        len(r.token_ids) for g in groups for t in g.trajectories for r in t.replies
    )


def _with_ones(groups):
    return [replace(g, advantages=(1.0,) * len(g.trajectories)) for g in groups]


def test_branches_are_the_same_however_memory_splits_them(policy, recipe, prompts):
    whole, parts = (talks(policy, recipe, prompts, ALWAYS, rows) for rows in (None, 4))
    for one, other in zip(whole, parts, strict=True):
        for a, b in zip(one.trajectories, other.trajectories, strict=True):
            assert [t.token_ids for t in a.turns] == [t.token_ids for t in b.turns]


def test_without_a_branch_all_are_those_of_plain_sampling(policy, recipe, prompts):
    """The first half, and the fresh second half, draw what plain runs of those numbers draw."""
    never, plain = talks(policy, recipe, prompts, NEVER), talks(policy, recipe, prompts, None)
    for one, other in zip(never, plain, strict=True):
        for a, b in list(zip(one.trajectories, other.trajectories, strict=True))[:3]:
            assert [t.token_ids for t in a.turns] == [t.token_ids for t in b.turns]
    assert [len(g.trajectories) for g in never] == [SIZE] * len(prompts)


class Talker:
    """Rows by hand: what `Brancher` needs of a `GrowingTalker`."""

    policy = rows_at_once = memory = None

    def __init__(self, place):
        self.openings, self.copied = {place: (1,)}, []

    def row_so_far(self, talk):
        return (talk.run,)

    def go_on_as(self, source, copy):
        self.copied.append((source[-1], copy[-1]))


def test_it_branches_where_entropy_rose(prompts, monkeypatch):
    """U - 0.2·(H - 0.1) <= 0.5 by hand, U drawn as 0.55 for every conversation."""
    monkeypatch.setattr(branching, "uniforms", lambda key, count: [0.55])
    entropies = {1: 0.1, 0: 0.3, 5: 0.36, 9: 0.9}
    monkeypatch.setattr(
        branching, "opening_entropies", lambda policy, rows, *rest: [entropies[r[0]] for r in rows]
    )
    place = (0, 0, 0)
    runs = [start_training(prompts[0], run, place) for run in (0, 5, 9)]
    talker = Talker(place)
    brancher = Brancher(talker, ArpoOptions(), 12)
    assert brancher.first == 6
    # Run 0 rose by 0.2: 0.51 stays; 5 by 0.26: 0.498 branches; 9 by 0.8: 0.39 branches.
    made = brancher.copies(runs)
    assert talker.copied == [(5, 6), (9, 7)]
    assert [t.run for t in made] == [6, 7]
    assert brancher.copies(runs) == [], "at most one branch a source"
    assert list(brancher.missing(place)) == [8, 9, 10, 11]
    assert list(brancher.missing((0, 0, 1))) == [6, 7, 8, 9, 10, 11]


def test_the_budget_ends_branching(prompts, monkeypatch):
    half = lambda policy, rows, *rest: [0.5] * len(rows)  # noqa: E731
    monkeypatch.setattr(branching, "opening_entropies", half)
    place = (0, 0, 0)
    talker = Talker(place)
    brancher = Brancher(talker, ArpoOptions(threshold=1.0, from_start=0.75), 4)
    runs = [start_training(prompts[0], run, place) for run in range(3)]
    assert len(brancher.copies(runs)) == 1
    assert list(brancher.missing(place)) == []


def test_entropy_over_the_ten_likeliest_in_parts_of_log_v(policy, prompts):
    rows = [policy.encode_chat(p.messages) for p in prompts]
    found = opening_entropies(policy, rows)
    assert opening_entropies(policy, rows, 1) == pytest.approx(found, abs=1e-5)
    assert opening_entropies(policy, []) == []
    with torch.no_grad():
        logits = policy.causal_lm(torch.tensor([rows[0]])).logits[0, -1].double()
    p = torch.softmax(logits, -1).sort(descending=True).values[:10]
    wanted = -float((p * p.log()).sum()) / math.log(len(logits))
    assert found[0] == pytest.approx(wanted, abs=1e-5)
    assert all(0 <= h <= 1 for h in found)


def test_the_recipe_says_when(recipe):
    assert Conversations(recipe)._arpo is None
    chosen = load_recipe("tiny-multiturn", ["branching={name: arpo, weight: 0.4}"])
    assert Conversations(chosen)._arpo == ArpoOptions(weight=0.4)
    for name, override, said in (
        ("tiny-multiturn", "branching=arpa", "expected a name among none, arpo, found 'arpa'"),
        ("tiny-multiturn", "branching={name: arpo, weight: -1}", "branching"),
        ("tiny", "branching=arpo", "branching: arpo is of conversations"),
    ):
        with pytest.raises(RecipeError, match=said):
            Conversations(load_recipe(name, [override]))
