"""RLAAR's curriculum by hand, and how a user tells what he holds."""

from random import Random

import pytest

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import Intent, Message, Prompt, Shard, Turn, Verdict
from icpo_lite.core.types import ResponseType as Type
from icpo_lite.recipe import load_recipe
from icpo_lite.rollout.conversation import Telling, converse, start_training
from icpo_lite.training.conversations import Conversations
from icpo_lite.training.curriculum import RlaarOptions, ShardCurriculum, shard_curriculum


def made(**options):
    chosen = RlaarOptions(**{"first": 2, "reach": 0.8, "steps": 2, **options})
    return ShardCurriculum(chosen, chosen.first)


def levels(curriculum, rewards, most=4):
    seen = []
    for reward in rewards:
        seen.append(curriculum.level)
        curriculum.saw(reward, most)
    return [*seen, curriculum.level]


def test_a_piece_more_whenever_the_mean_is_back_at_a_share_of_the_starts():
    curriculum = made()
    # Start: (0.4 + 0.6)/2 = 0.5, so 0.4 is enough; 0.38 is not, 0.42 and 0.40 are.
    seen = levels(curriculum, [0.4, 0.6, 0.3, 0.46, 0.42, 0.42, 0.4, 0.4])
    assert seen == [2, 2, 3, 3, 3, 3, 4, 4, 4]
    assert curriculum.start == 0.5
    assert curriculum.uniform


def test_then_pieces_are_drawn_uniformly():
    curriculum = made(steps=1)
    assert curriculum.pieces(Random(0)) == 2
    levels(curriculum, [1.0, 1.0], most=3)
    assert (curriculum.level, curriculum.uniform) == (3, True)
    drawn = [curriculum.pieces(Random(i)) for i in range(200)]
    assert set(drawn) == {2, 3}
    assert 70 < drawn.count(2) < 130


def test_its_state_goes_through_a_checkpoint():
    curriculum, other = made(), made()
    levels(curriculum, [0.4, 0.6, 0.45])
    other.restore(curriculum.state)
    assert other == curriculum
    assert levels(other, [0.4]) == levels(curriculum, [0.4]) == [3, 4]


SHARDS = (Shard(0, "How many?", is_question=True), *(Shard(i, f"Fact {i}.") for i in (1, 2, 3, 4)))
PROMPT = Prompt(
    "p",
    "p",
    "math",
    Intent.UNDERSPECIFIED,
    (Message("user", "How many?"),),
    "7",
    SHARDS,
    SHARDS[1:],
)


class Asks:
    def reply(self, chats, keys):
        return [Turn("assistant", "What?", stop_reason="eos") for _ in chats]

    def judge_many(self, items):
        return [Verdict(Type.CLARIFICATION) for _ in items]


def played(telling, wanted=None):
    (talk,) = converse(
        [start_training(PROMPT, 0, ("a",), telling)],
        Asks(),
        Asks(),
        choose=lambda reply, left, shards: wanted if wanted is None else min(wanted, len(left) - 1),
        say=lambda known, new: new.text,
        seed=0,
        setting="training",
    )
    return talk


def test_several_facts_a_turn_the_one_asked_for_first():
    talk = played(Telling(at_once=2))
    assert [t.content for t in talk.turns if t.role == "user"] == [
        "How many?",
        "Fact 1. Fact 2.",
        "Fact 3. Fact 4.",
    ]
    assert [t.told for t in talk.turns if t.role == "user"] == [(), (1, 2), (3, 4)]
    assert played(Telling(at_once=3), wanted=9).turns[2].content == "Fact 4. Fact 1. Fact 2."
    assert talk.prompt().intent is Intent.COMPLETE


def test_what_is_kept_back_is_never_told_and_goes_on_missing():
    talk = played(Telling(kept_back=frozenset((2, 4))))
    assert [t.told for t in talk.turns if t.role == "user"] == [(), (1,), (3,)]
    assert [s.shard_id for s in talk.prompt().removed] == [2, 4]
    assert talk.prompt().intent is Intent.UNDERSPECIFIED
    assert len(played(Telling(kept_back=frozenset((1, 2, 3, 4)))).replies) == 1


def recipe(*overrides):
    return load_recipe("tiny-rlaar", overrides)


def tellings(chosen, steps=100):
    talks = Conversations(chosen)
    return [talks._telling(PROMPT, (step, 0)) for step in range(steps)]


def test_the_recipes_share_of_conversations_is_cut_short():
    cut = [t for t in tellings(recipe("truncated_share=0.3"), 400) if t.kept_back]
    assert 90 < len(cut) < 150
    # The list ends early: what is kept back are its last facts.
    assert {t.kept_back for t in cut} == {frozenset(range(5 - n, 5)) for n in (1, 2, 3, 4)}
    assert not any(t.kept_back for t in tellings(recipe("truncated_share=0")))
    assert all(t.kept_back for t in tellings(recipe("truncated_share=1")))


def test_pieces_are_facts_a_turn():
    chosen = recipe("truncated_share=0")
    assert {t.at_once for t in tellings(chosen)} == {4}  # two pieces: all four facts in one turn
    talks = Conversations(chosen)
    talks.restore({"level": 3, "uniform": False, "start": 0.5, "total": 0, "count": 0})
    assert talks._telling(PROMPT, (0, 0)).at_once == 2
    talks.restore({"level": 5, "uniform": False, "start": 0.5, "total": 0, "count": 0})
    assert talks._telling(PROMPT, (0, 0)).at_once == 1
    assert {t.at_once for t in tellings(load_recipe("tiny-multiturn"))} == {1}


def test_a_step_moves_it_and_is_shown():
    talks = Conversations(recipe("shard_curriculum.steps=1"))
    assert talks.move({"reward/under": 0.5}, [PROMPT]) == {"curriculum/pieces": 2.0}
    assert talks.move({}, [PROMPT]) == {"curriculum/pieces": 3.0}
    assert talks.state["level"] == 3
    assert Conversations(load_recipe("tiny-multiturn")).move({"reward/under": 1}, [PROMPT]) == {}


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("tiny-rlaar", "shard_curriculum.name=rlar", "expected a name among none, rlaar"),
        (
            "tiny-rlaar",
            "shard_curriculum.first=1",
            "shard_curriculum: expected greater than or equal to 2",
        ),
        ("tiny-rlaar", "shard_curriculum.reached=1", "reach"),
        ("tiny", "truncated_share=0.2", "truncated_share: 0.2 is of conversations"),
        ("tiny", "shard_curriculum=rlaar", "shard_curriculum: rlaar is of conversations"),
    ],
)
def test_wrong_keys_are_named(name, override, said):
    with pytest.raises(RecipeError, match=said):
        shard_curriculum(load_recipe(name, [override]))
