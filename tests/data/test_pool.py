"""The prompt pool: shares on average, every prompt once an epoch, a cursor that restores."""

import pytest

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Intent
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.data.tiny_world import world_problems, world_prompts


def pool(count=10, seed=0):
    return PromptPool(list(world_prompts(list(world_problems("train", count)))), seed=seed)


def under(prompts):
    return sum(p.intent is Intent.UNDERSPECIFIED for p in prompts)


def test_share_is_met_on_average():
    p = pool()
    # 0.3 of 16 is 4.8: totals after each step are 4.8, 9.6, 14.4, 19.2, 24 -> 5, 10, 14, 19, 24
    assert [under(p.draw(16, 0.3)) for _ in range(5)] == [5, 5, 4, 5, 5]


def test_every_prompt_once_before_any_comes_again():
    p = pool(count=6)
    ids = [q.prompt_id for q in p.draw(12, 0.5)]
    assert len(set(ids)) == 12
    assert len(set(ids) | {q.prompt_id for q in p.draw(12, 0.5)}) == 12


def test_restored_cursor_goes_on_as_if_nothing_had_happened():
    whole, cut = pool(), pool()
    expected = [whole.draw(7, 0.4) for _ in range(6)]
    for _ in range(3):
        cut.draw(7, 0.4)
    resumed = pool()
    resumed.restore(cut.state)
    assert [resumed.draw(7, 0.4) for _ in range(3)] == expected[3:]


def test_seeds_give_other_orders():
    assert pool(seed=0).draw(8, 0.5) != pool(seed=1).draw(8, 0.5)


def test_missing_kind_is_refused():
    prompts = [p for p in world_prompts(list(world_problems("train", 3))) if not p.removed]
    with pytest.raises(DataError, match="lower share_underspecified"):
        PromptPool(prompts, seed=0).draw(4, 0.5)
