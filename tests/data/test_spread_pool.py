"""eva online: which fact goes, by the spread of rewards, computed by hand."""

import math
from collections import Counter

import pytest

from icpo_lite.core.types import Group, Intent, Message, Prompt, Reward, Shard, Trajectory, Turn
from icpo_lite.data.from_recipe import prompt_pool, training_prompts
from icpo_lite.data.spread_pool import EvaOptions, SpreadPool, with_variants
from icpo_lite.recipe import load_recipe


def lacking(problem: str, fact: int, name: str = "") -> Prompt:
    return Prompt(
        name or f"{problem}/{fact}",
        problem,
        "math",
        Intent.UNDERSPECIFIED,
        (Message("user", "?"),),
        "1",
        removed=(Shard(fact, "f"),),
    )


def whole(problem: str) -> Prompt:
    return Prompt(f"{problem}/q", problem, "math", Intent.COMPLETE, (Message("user", "?"),), "1")


def group(prompt: Prompt, *rewards: float) -> Group:
    turn = Turn("assistant", "", (1,), (0.0,))
    return Group(prompt, tuple(Trajectory(prompt, (1,), (turn,), Reward(r)) for r in rewards))


A1, A2, B1 = lacking("a", 1), lacking("a", 2), lacking("b", 1)


def pool(**options: float) -> SpreadPool:
    prompts = [whole("a"), A1, A2, whole("b"), B1]
    return SpreadPool(prompts, EvaOptions(**options), seed=0)


def test_problems_keep_their_turn_and_facts_are_chosen() -> None:
    drawn = pool().draw_kinds(1, 2)
    assert [p.intent for p in drawn] == [Intent.COMPLETE, *[Intent.UNDERSPECIFIED] * 2]
    assert {p.problem_id for p in drawn[1:]} == {"a", "b"}
    assert {p.prompt_id for p in pool()} == {"a/q", "b/q", "a/1", "a/2", "b/1"}


def test_spread_decides() -> None:
    """Rewards 0, 1 spread by .5, equal ones by 0: after a step, p = 1 / (1 + e^(-.5 / .25))."""
    one = pool(tau=0.25, rate=0.5)
    assert one.chances([A1, A2]) == [0.5, 0.5]
    figures = one.saw([group(A1, 0.0, 1.0), group(A2, 1.0, 1.0)])
    assert figures == {"curriculum/spread": 0.25}
    assert one.chances([A1, A2])[0] == pytest.approx(1 / (1 + math.exp(-2)))
    # Half of the old spread goes: .5 and then 0 is .25.
    one.saw([group(A1, 1.0, 1.0)])
    assert one.spreads["a/1"] == 0.25
    # What was not tried counts as the mean of what was, .125.
    assert one.chances([A1, B1])[0] == pytest.approx(1 / (1 + math.exp(-0.125 / 0.25)))
    counts = Counter(p.prompt_id for _ in range(400) for p in one.draw_kinds(0, 2))
    share = 1 / (1 + math.exp(-1))
    assert counts["a/1"] / 400 == pytest.approx(share, abs=0.06)
    assert counts["b/1"] == 400


def test_spread_may_be_the_gap() -> None:
    """Rewards 0, 1, 1, 1: largest less smallest is 1, their standard deviation .433."""
    for spread, wanted in (("gap", 1.0), ("std", 3**0.5 / 4)):
        one = pool(spread=spread)
        one.saw([group(A1, 0.0, 1.0, 1.0, 1.0)])
        assert one.spreads["a/1"] == pytest.approx(wanted)


def test_a_restored_pool_goes_on_alike() -> None:
    one, other = pool(), pool()
    one.draw_kinds(1, 1)
    one.saw([group(A1, 0.0, 1.0)])
    other.restore(one.state)
    assert [one.draw_kinds(1, 1) for _ in range(4)] == [other.draw_kinds(1, 1) for _ in range(4)]


def test_other_draws_add_other_facts() -> None:
    more = {1: [lacking("a", 1, "again"), lacking("a", 2, "new")], 2: [lacking("c", 1, "no")]}
    found = with_variants([whole("a"), A1], more.__getitem__, 3)
    assert [p.prompt_id for p in found] == ["a/q", "a/1", "new/1"]


def test_the_world_has_several_facts_to_remove() -> None:
    recipe = load_recipe("tiny", ["prompt_curriculum={name: eva, variants: 3}"])
    prompts, _ = training_prompts(recipe)
    plain, _ = training_prompts(load_recipe("tiny"))
    assert prompts[: len(plain)] == plain
    counts = Counter(p.problem_id for p in prompts if p.intent is Intent.UNDERSPECIFIED)
    assert 1 < max(counts.values()) <= 3
    assert len({p.prompt_id for p in prompts}) == len(prompts)
    assert isinstance(prompt_pool(recipe, prompts), SpreadPool)
