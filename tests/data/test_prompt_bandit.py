"""SEC's bandit by hand: what an arm is, how its worth moves, how it draws and goes on."""

import math
from collections import Counter

import pytest

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import Group, Intent, Prompt, Shard, Trajectory
from icpo_lite.data.from_recipe import prompt_pool
from icpo_lite.data.prompt_bandit import BanditPool, SecOptions, arm_of
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.recipe import load_recipe

Q, Q_STAR = Intent.COMPLETE, Intent.UNDERSPECIFIED
SHARDS = tuple(Shard(i, f"Fact {i}.") for i in range(4))


def prompt(name, intent, removed=0, shards=3):
    return Prompt(name, name, "math", intent, (), "1", SHARDS[:shards], SHARDS[:removed])


PROMPTS = [
    *(prompt(f"q{i}", Q) for i in range(5)),
    *(prompt(f"one{i}", Q_STAR, 1) for i in range(5)),
    *(prompt(f"two{i}", Q_STAR, 2) for i in range(5)),
]
ONE, TWO, WHOLE = ("math", Q_STAR, 1), ("math", Q_STAR, 2), ("math", Q, 3)


def pool(**options):
    return BanditPool(PROMPTS, SecOptions(**options), seed=3)


def group(of, *advantages):
    return Group(of, (Trajectory(of, ()),) * len(advantages), advantages)


def test_an_arm_is_task_kind_and_number_of_shards():
    assert arm_of(PROMPTS[0]) == WHOLE
    assert arm_of(PROMPTS[5]) == ONE
    assert set(pool().worth) == {ONE, TWO, WHOLE}


def test_worth_follows_the_mean_size_of_advantages():
    bandit = pool(rate=0.5)
    # Two groups of one arm: (1 + 1 + 0 + 0)/4 = 0.5; half of it is taken up.
    shown = bandit.saw([group(PROMPTS[5], 1, -1), group(PROMPTS[6], 0, 0), group(PROMPTS[0], 3, 1)])
    assert bandit.worth == {ONE: 0.25, TWO: 0.0, WHOLE: 1.0}
    assert shown["curriculum/math/underspecified/1"] == 0.25
    bandit.saw([group(PROMPTS[5], 1, -1)])
    assert bandit.worth[ONE] == 0.5 * 0.25 + 0.5 * 1


def test_chances_are_exponential_in_the_worth():
    bandit = pool(rate=1.0, tau=0.5)
    assert bandit.chances(Q_STAR) == {ONE: 0.5, TWO: 0.5}
    bandit.saw([group(PROMPTS[10], 1, -1)])
    high, low = math.exp(1 / 0.5), math.exp(0)
    assert bandit.chances(Q_STAR) == pytest.approx(
        {ONE: low / (high + low), TWO: high / (high + low)}
    )
    assert sum(bandit.chances().values()) == pytest.approx(1)


def test_it_draws_more_of_what_teaches_and_keeps_the_share():
    bandit = pool(rate=1.0, tau=0.5)
    bandit.saw([group(PROMPTS[10], 1, -1)])
    drawn = [p for _ in range(200) for p in bandit.draw(4, 0.5)]
    counts = Counter(arm_of(p) for p in drawn)
    assert counts[WHOLE] == 400
    assert counts[TWO] / (counts[ONE] + counts[TWO]) == pytest.approx(0.88, abs=0.05)
    each = Counter(p.prompt_id for p in drawn if arm_of(p) == TWO)
    assert max(each.values()) - min(each.values()) <= 1, "an arm's prompts come in turn"


def test_without_fixed_share_the_bandit_chooses_the_kind_too():
    bandit = pool(rate=1.0, tau=0.05, fixed_share=False)
    bandit.saw([group(PROMPTS[5], 1, -1)])
    assert {arm_of(p) for p in bandit.draw(8, 0.5)} == {ONE}


def test_it_goes_on_from_a_checkpoint_as_it_would_have_gone_on():
    whole, cut = pool(), pool()
    for bandit in (whole, cut):
        bandit.draw(4, 0.4)
        bandit.saw([group(PROMPTS[10], 1, -1), group(PROMPTS[0], 0.5, -0.5)])
    other = pool()
    other.restore(cut.state)
    for _ in range(10):
        assert other.draw(4, 0.4) == whole.draw(4, 0.4)


def test_the_recipe_names_it():
    assert type(prompt_pool(load_recipe("tiny"), PROMPTS)) is PromptPool
    chosen = load_recipe("tiny", ["prompt_curriculum={name: sec, tau: 0.2}"])
    made = prompt_pool(chosen, PROMPTS)
    assert isinstance(made, BanditPool)
    assert made.options == SecOptions(tau=0.2)
    assert sorted(p.prompt_id for p in made) == sorted(p.prompt_id for p in PROMPTS)
    for override, said in (
        ("prompt_curriculum=sek", "expected a name among none, sec, eva, found 'sek'"),
        ("prompt_curriculum={name: sec, rate: 2}", "prompt_curriculum"),
    ):
        with pytest.raises(RecipeError, match=said):
            prompt_pool(load_recipe("tiny", [override]), PROMPTS)
