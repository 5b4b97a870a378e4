"""Problems that say a fact twice, and what is counted of the replies."""

import pytest

from icpo_lite.core.types import Problem, Shard
from icpo_lite.data.tiny_world import world_problems
from icpo_lite.evaluation.contradictions import contradicted
from icpo_lite.evaluation.metrics import summarise
from icpo_lite.evaluation.settings import SETTINGS, open_conversation, opens, settings_for
from icpo_lite.evaluation.table import comparison_rows

FACT = Shard(1, "each box holds 6 eggs")
QUESTION = Shard(0, "How many eggs are in 3 boxes?", is_question=True)
PROBLEM = Problem(
    "p", "math", "Each box holds 6 eggs. How many eggs are in 3 boxes?", "18", "", (QUESTION, FACT)
)


def test_a_fact_comes_again_with_another_number() -> None:
    """6 + 2, 3, 5 or 7; the question is no fact."""
    texts = {contradicted(PROBLEM, run) for run in range(20)}
    said = "Each box holds 6 eggs. How many eggs are in 3 boxes? The same fact is also given as: "
    assert texts == {f"{said}Each box holds {n} eggs." for n in (8, 9, 11, 13)}
    assert contradicted(PROBLEM, 3) == contradicted(PROBLEM, 3)


@pytest.mark.parametrize(
    "text",
    ["some boxes are full", "2 boxes hold 6 eggs", "it costs 1,200", "about 3.5 eggs", "7% of it"],
)
def test_facts_without_one_whole_number_are_left_alone(text: str) -> None:
    problem = Problem("p", "math", f"{text}. How much?", "1", "", (QUESTION, Shard(1, text)))
    assert contradicted(problem, 0) is None
    assert not opens("contradictory", problem)
    assert open_conversation("contradictory", problem, 0) is None


def test_it_is_asked_for_by_name() -> None:
    assert settings_for([PROBLEM], ()) == tuple(n for n in SETTINGS if n != "contradictory")
    assert settings_for([PROBLEM], ("contradictory",)) == ("contradictory",)


def test_every_problem_of_the_world_has_one() -> None:
    for problem in world_problems("test", 20, seed=0):
        talk = open_conversation("contradictory", problem, 0)
        assert "The same fact is also given as:" in talk.turns[-1].content


def line(problem: str, kind: str, score: float) -> dict:
    turn = {"role": "assistant", "content": "x", "response_type": kind, "correct": bool(score)}
    more = {"extracted": None, "targeted": None, "repeats_given": False, "tokens": 1, "nll": 0.1}
    more |= {"opening": [], "stop_reason": "eos"}
    return {
        "setting": "contradictory",
        "problem_id": problem,
        "task": "math",
        "run": 0,
        "score": score,
        "lucky": False,
        "answer": "1",
        "shards": ["a", "b"],
        "certified": True,
        "turns": [turn | more],
    }


def test_rates_by_hand() -> None:
    """Two of four decline, two answer, one of these as before."""
    rows = [
        line("a", "clarification", 0.0),
        line("b", "refusal", 0.0),
        line("c", "answer_attempt", 1.0),
        line("d", "answer_attempt", 0.0),
    ]
    summary = summarise({"contradictory": rows})
    found = summary["contradictory"]
    assert found["instructions"] == 4
    for name in ("abstention_rate", "answer_rate", "conditional_accuracy"):
        assert found[name]["value"] == 50.0
    assert "contradictory" not in summary["settings"]
    labels = [row[0] for row in comparison_rows({"m": summary})[1]]
    assert labels[:3] == ["declines a contradiction", "answers it", "of these as before"]
