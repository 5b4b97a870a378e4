"""The built-in world: disjoint splits, arithmetic, and prompts of both kinds."""

import re

import pytest

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Intent
from icpo_lite.data.tiny_world import TEMPLATES, chain, split_of, world_problems, world_prompts

SPLITS = ("train", "dev", "test", "transfer")


def template(name):
    return next(t for t in TEMPLATES if t.name == name)


def test_chain_by_hand():
    # 10 + 9 = 19, 19 + 3 = 22, 22 - 8 = 14
    assert chain(template("buy_gift_lose"), (10, 9, 3, 8)) == (
        "10 + 9 = 19. 19 + 3 = 22. 22 - 8 = 14. The answer is 14."
    )
    assert chain(template("difference"), (7, 5)) == "7 - 5 = 2. The answer is 2."


@pytest.mark.parametrize("split", SPLITS)
def test_same_seed_same_problems_and_another_seed_others(split):
    first = list(world_problems(split, 20, seed=3))
    assert first == list(world_problems(split, 20, seed=3))
    assert first != list(world_problems(split, 20, seed=4))


def test_no_problem_is_in_two_splits():
    seen: dict[tuple[str, str], str] = {}
    for split in ("train", "dev", "test"):
        for problem in world_problems(split, 700):
            numbers = re.sub(r"[^\d,]", "", ",".join(re.findall(r"\d+", problem.solution)))
            key = (problem.columns["template"], numbers)
            assert seen.setdefault(key, split) == split


def test_every_template_has_numbers_in_every_split():
    for t in TEMPLATES:
        found = {split_of(t, (12 - i, *[2 + i % 8] * (len(t.slots) - 1))) for i in range(60)}
        assert found <= {"train", "dev", "test"}
    for split in SPLITS:
        names = {p.columns["template"] for p in world_problems(split, 40)}
        assert len(names) == (10 if split == "transfer" else 7)


def test_transfer_shares_no_wording_with_training():
    def skeleton(text):
        return re.sub(r"\d+|\b[A-Z][a-z]+\b", "_", text)

    def facts(split):
        return {
            (p.columns["template"], skeleton(s.text).replace(_thing(p), "_"))
            for p in world_problems(split, 400)
            for s in p.shards
        }

    def _thing(problem):
        return next(w for w in problem.shards[1].text.rstrip(".").split() if w in OBJECT_SET)

    from icpo_lite.data.tiny_world import OBJECTS

    OBJECT_SET = set(OBJECTS)
    assert not facts("train") & facts("transfer")


def test_answer_is_the_signed_sum_of_the_facts():
    for problem in world_problems("train", 70):
        t = template(problem.columns["template"])
        numbers = [int(re.search(r"\d+", s.text).group()) for s in problem.shards[1:]]
        assert int(problem.answer) == sum(s.sign * n for s, n in zip(t.slots, numbers, strict=True))


def test_prompts_come_in_pairs_and_name_what_was_removed():
    problems = list(world_problems("train", 60))
    prompts = list(world_prompts(problems, mid_conversation=0.3))
    assert len(prompts) == 120
    for complete, lacking in zip(prompts[::2], prompts[1::2], strict=True):
        assert complete.intent is Intent.COMPLETE
        assert lacking.intent is Intent.UNDERSPECIFIED
        assert not complete.removed
        assert lacking.removed
        for prompt in (complete, lacking):
            for shard in prompt.shards:
                assert (shard.text in prompt.text) != (shard in prompt.removed)
        assert lacking.certificate.level == "numbers"
    assert any(len(p.messages) > 1 for p in prompts)


def test_both_orders_occur_in_both_kinds():
    prompts = list(world_prompts(list(world_problems("train", 80))))
    for intent in Intent:
        some = [p for p in prompts if p.intent is intent and len(p.removed) < len(p.shards) - 1]
        first = sum(p.text.startswith(p.shards[0].text) for p in some) / len(some)
        assert 0.3 < first < 0.7


def test_unknown_split_is_refused():
    with pytest.raises(DataError, match="train, dev, test, transfer"):
        list(world_problems("valid", 1))
