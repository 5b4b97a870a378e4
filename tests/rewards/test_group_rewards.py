"""What replies earn beside the others of their group, computed by hand."""

import pytest

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import (
    Group,
    Intent,
    Message,
    Prompt,
    ResponseType,
    Reward,
    RewardContext,
    TrainerState,
    Trajectory,
    Turn,
    Verdict,
)
from icpo_lite.recipe import load_recipe
from icpo_lite.recipe import method_sections as sections
from icpo_lite.rewards.from_recipe import bind_reward_change
from icpo_lite.rewards.group_rewards import GROUP_REWARDS, likeness, win_rates
from icpo_lite.rollout.groups import reward_groups

LACKING = Prompt(
    "p", "p", "math", Intent.UNDERSPECIFIED, (Message("user", "How much is it?"),), "7"
)


def test_the_table_has_what_a_recipe_may_name() -> None:
    assert set(GROUP_REWARDS) == set(sections.GROUP_REWARDS)


def reply(text: str, kind: ResponseType = ResponseType.CLARIFICATION) -> Turn:
    return Turn("assistant", text, (1, 2), (-1.0, -1.0), "eos", Verdict(kind))


def changed(override: str, turns: list[Turn], rewards: list[float], groups: tuple[int, ...]):
    change = bind_reward_change(load_recipe("tiny", [override]))
    given = [Reward(r, {"own": r}) for r in rewards]
    return change.within(RewardContext(groups))(given, [LACKING] * len(turns), turns)


def test_likeness_is_shared_words_over_all() -> None:
    """how, many, eggs and how, many, boxes: two shared of four."""
    assert likeness("How many eggs?", "how many boxes") == 0.5
    assert likeness("How?", "how") == 1.0


def test_questions_that_nobody_else_asks() -> None:
    """Likeness .5 to one other question, 0 to the third: mean .25, so .2 (.75). An answer earns
    nothing; the other group has one question alone: the whole weight."""
    turns = [
        reply("How many eggs?"),
        reply("How many boxes?"),
        reply("What price?"),
        reply("It is 7.", ResponseType.ANSWER_ATTEMPT),
        reply("How many eggs?"),
        reply("7", ResponseType.ANSWER_ATTEMPT),
    ]
    found = changed(
        "group_rewards={name: diversity, weight: 0.2}", turns, [1.0] * 6, (0, 0, 0, 0, 1, 1)
    )
    assert [r.total for r in found] == pytest.approx([1.15, 1.15, 1.2, 1.0, 1.2, 1.0])
    assert found[0].components == {"own": 1.0, "diversity": pytest.approx(0.15)}


def test_diversity_may_take_its_place_in_the_reward() -> None:
    """(1 - .25) 1 + .25 (1 - .5): .875; nobody is asked alike: 1."""
    turns = [reply("How many eggs?"), reply("How many boxes?"), reply("What price?")]
    override = "group_rewards={name: diversity, weight: 0.25, mixed: true}"
    found = changed(override, turns, [1.0] * 3, (0, 0, 1))
    assert [r.total for r in found] == pytest.approx([0.875, 0.875, 1.0])
    assert found[0].components == {"own": 0.75, "diversity": pytest.approx(0.125)}
    with pytest.raises(RecipeError, match="expected a weight up to 1, found 2"):
        changed("group_rewards={name: diversity, weight: 2, mixed: true}", turns, [1.0] * 3, ())


def test_win_rates_by_hand() -> None:
    """1 beats 0.5 and 0: 1; 0.5 ties with one and beats none of ... ; ties count half."""
    assert win_rates([1.0, 0.5, 0.5]) == pytest.approx([1.0, 0.25, 0.25])
    assert win_rates([0.3, 0.3]) == [0.5, 0.5]
    found = changed(
        "group_rewards=win_rate", [reply("a")] * 5, [1.0, 0.5, 0.5, 9.0, 2.0], (0, 0, 0, 1, 1)
    )
    assert [r.total for r in found] == pytest.approx([1.0, 0.25, 0.25, 1.0, 0.0])


def test_a_reply_alone_keeps_its_reward() -> None:
    """As in the self-test before a run, where replies stand in no group."""
    change = bind_reward_change(load_recipe("tiny", ["group_rewards=win_rate"]))
    given = [Reward(0.3), Reward(1.0)]
    assert change(given, [LACKING] * 2, [reply("a"), reply("b")]) == given


def test_users_functions_see_the_group_and_the_progress(tmp_path) -> None:
    """TRL's trainer_state, and which replies belong together."""
    (tmp_path / "mine.py").write_text(
        "def late(completions, group_index, trainer_state, **columns):\n"
        "    share = trainer_state.global_step / trainer_state.max_steps\n"
        "    return [share + 10 * g for g in group_index]\n"
    )
    (tmp_path / "r.yaml").write_text("extends: tiny\nreward_funcs: [mine.py:late]\n")
    change = bind_reward_change(load_recipe(tmp_path / "r.yaml"))
    rows = tuple(Trajectory(LACKING, (1,), (reply("a"),)) for _ in range(2))
    groups = [Group(LACKING, rows), Group(LACKING, rows)]
    made = reward_groups(groups, lambda p, v, t: Reward(0.0), change, TrainerState(5, 20))
    assert [g.rewards for g in made] == [(0.25, 0.25), (10.25, 10.25)]
