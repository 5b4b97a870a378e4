"""Users other than the deterministic one: a Python function, the base model, a server."""

import pytest
from click.testing import CliRunner

from icpo_lite.cli.train import train as train_command
from icpo_lite.core.errors import GraderError, RecipeError
from icpo_lite.core.types import Message, Shard
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.from_recipe import make_user
from icpo_lite.rollout.simulated_user import ModelUser, Moment

FACTS = (Shard(1, "Ann has 3 apples."), Shard(2, "Ann buys 4 apples."))
MOMENT = Moment((Message("user", "How many?"), Message("assistant", "What?")), FACTS, FACTS)

TALK = """
def last(messages, facts):
    assert messages[-1] == {"role": "assistant", "content": "What?"}
    return len(facts) - 1

def chatty(messages, facts):
    return 0, "Well, " + facts[0]

def beyond(messages, facts):
    return len(facts)

def mute(messages, facts):
    return None

def words(messages, facts):
    return "Ann has 3 apples."

def fails(messages, facts):
    return 1 // 0
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "talk.py").write_text(TALK)
    (tmp_path / "mine.yaml").write_text("extends: tiny-multiturn\nsimulated_user: talk.py:last\n")
    return tmp_path


def user(folder, name):
    return make_user(f"talk.py:{name}", None, None, seed=0, folder=folder)


def test_a_function_picks_the_fact_and_may_word_it(folder):
    assert user(folder, "last").next_shards([MOMENT, MOMENT]) == [FACTS[1]] * 2
    assert user(folder, "chatty").next_shards([MOMENT]) == [Shard(1, "Well, Ann has 3 apples.")]


@pytest.mark.parametrize("name", ["beyond", "mute", "words"])
def test_what_is_no_fact_is_refused_by_name(folder, name):
    with pytest.raises(GraderError, match=rf"talk.py: {name}: expected the number of a fact"):
        user(folder, name).next_shards([MOMENT])


def test_a_failure_names_its_line(folder):
    with pytest.raises(GraderError, match=r"talk.py:19: fails failed: ZeroDivisionError"):
        user(folder, "fails").next_shards([MOMENT])


def test_the_recipe_names_it_and_its_folder_is_the_recipes(folder):
    recipe = load_recipe(folder / "mine.yaml")
    assert recipe.simulated_user == "talk.py:last"
    for override, said in (
        ("simulated_user=../talk.py:last", "expected a file in the recipe's folder"),
        ("simulated_user=somebody", "expected one of deterministic, self, endpoint, file.py:func"),
        ("simulated_user=endpoint", "endpoint needs the block endpoint"),
        ("rollout=single_turn", "simulated_user: talk.py:last is of conversations"),
    ):
        with pytest.raises(RecipeError, match=said):
            load_recipe(folder / "mine.yaml", ["credit=trajectory", override])
    with pytest.raises(RecipeError, match=r"simulated_user: expected a function gone in talk\.py"):
        user(folder, "gone")


def test_a_stranger_s_user_can_be_refused(folder):
    shown = CliRunner().invoke(train_command, [str(folder / "mine.yaml"), "--no-user-code"])
    assert shown.exit_code == 2
    assert "--no-user-code refuses simulated_user" in shown.output.replace("\n", " ")


def test_models_play_the_user_of_evaluations(folder):
    assert make_user("deterministic", None, None, seed=0) is None
    assert isinstance(make_user("self", None, None, seed=0), ModelUser)
