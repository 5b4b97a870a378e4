"""P, A90, U by hand and against numpy; intervals that cover; fifths counted by hand."""

import numpy as np
import pytest

from icpo_lite.evaluation.intervals import student_t
from icpo_lite.evaluation.metrics import (
    aptitude,
    interval,
    paired_difference,
    performance,
    score_table,
    summarise,
    unreliability,
)
from icpo_lite.evaluation.records import read_row


def test_one_instruction_by_hand():
    # Ten runs, seven right: mean 70; sorted 0 0 0 100 ...: p90 = 100, p10 = 0.
    scores = np.array([[0, 0, 0, 100, 100, 100, 100, 100, 100, 100]])
    assert performance(scores) == pytest.approx([70])
    assert aptitude(scores) == pytest.approx([100])
    assert unreliability(scores) == pytest.approx([100])


def test_linear_percentile_by_hand():
    # Four runs 0 0 0 100: the 90th percentile lies at 2.7 of 0..3, 0.7 of the way to 100.
    assert aptitude(np.array([[0, 0, 0, 100]])) == pytest.approx([70])


@pytest.mark.parametrize("seed", range(5))
def test_random_tables_equal_numpy(seed):
    """Through the lines of an evaluation, instructions and runs in any order."""
    rng = np.random.default_rng(seed)
    instructions, runs = rng.integers(1, 40), rng.integers(1, 12)
    table = rng.integers(0, 2, size=(instructions, runs)).astype(float)
    rows = [line(f"p{i}", r, table[i, r], "a") for r in range(runs) for i in range(instructions)]
    figures = summarise({"sharded": rows})["settings"]["sharded"]
    scores = 100 * table
    p90, p10 = np.percentile(scores, [90, 10], axis=1)
    assert figures["P"]["value"] == pytest.approx(scores.mean())
    assert figures["A90"]["value"] == pytest.approx(p90.mean())
    assert figures["U"]["value"] == pytest.approx((p90 - p10).mean())
    assert figures["scores"] == pytest.approx(
        {f"p{i}": scores[i].mean() for i in range(instructions)}
    )
    np.testing.assert_array_equal(score_table([read_row(r) for r in rows]), scores)


# --------------------------------------------------------------------------------------- intervals


def coverage(draw, truth, trials=400):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(trials):
        figure = interval(draw(rng))
        hits += figure.low <= truth <= figure.high
    return hits / trials


def runs_of(rng, n, a, b, runs=8):
    """Scores of instructions whose chance of being right is drawn from Beta(a, b)."""
    chance = rng.beta(a, b, size=(n, 1))
    return 100.0 * (rng.random((n, runs)) < chance)


@pytest.mark.parametrize("n", [10, 25, 60])
def test_intervals_of_p_cover(n):
    # P of an instruction has mean 100 a / (a + b) = 40.
    assert coverage(lambda rng: performance(runs_of(rng, n, 0.8, 1.2)), 40.0) >= 0.93


def test_intervals_of_a_high_p_cover():
    # A skewed table: most instructions near 100.
    assert coverage(lambda rng: performance(runs_of(rng, 60, 4.5, 0.5)), 90.0) >= 0.93


@pytest.mark.parametrize("n", [15, 60])
def test_intervals_of_u_cover(n):
    truth = unreliability(runs_of(np.random.default_rng(1), 400_000, 0.8, 1.2)).mean()
    assert coverage(lambda rng: unreliability(runs_of(rng, n, 0.8, 1.2)), truth) >= 0.93


def test_intervals_of_a_paired_difference_cover():
    # Both models share each instruction's difficulty; the second is 10 points worse on average.
    def draw(rng):
        chance = rng.beta(1, 1, size=(30, 1))
        a = 100.0 * (rng.random((30, 8)) < chance)
        b = 100.0 * (rng.random((30, 8)) < 0.8 * chance)
        return performance(a) - performance(b)

    assert coverage(draw, 10.0) >= 0.93


@pytest.mark.parametrize(("degrees", "t"), [(3, 3.1824), (4, 2.7764), (9, 2.2622), (60, 2.0003)])
def test_students_t_as_tabled(degrees, t):
    assert student_t(degrees) == pytest.approx(t, rel=3e-3)


def test_paired_difference_by_hand():
    d = paired_difference({"a": 50, "b": 20, "c": 0}, {"a": 30, "b": 20, "c": 10})
    assert d["value"] == pytest.approx(10 / 3)
    assert (d["won"], d["lost"]) == (1, 1)


def test_pairing_needs_the_same_instructions():
    with pytest.raises(ValueError, match="same instructions"):
        paired_difference({"a": 1}, {"b": 1})


# ------------------------------------------------------------------------------------ conversations

TYPES = {"a": "answer_attempt", "q": "clarification", "d": "discussion", "m": "missing"}


def line(problem, run, score, types, *, shards=5, lucky=False, task="math", **more):
    """A line of conversations.jsonl whose replies have these types, ten tokens each."""
    turns = []
    for kind in types:
        turns.append({"role": "user", "content": "…"})
        turns.append(
            {
                "role": "assistant",
                "content": "…",
                "response_type": TYPES[kind],
                "correct": None if kind != "a" else False,
                "extracted": None,
                "targeted": kind == "q",
                "tokens": 10,
                "nll": 2.0,
                "opening": [1, 2],
            }
        )
    return {
        "problem_id": problem,
        "task": task,
        "run": run,
        "score": score,
        "lucky": lucky,
        "shards": ["…"] * shards,
        "certified": True,
        "turns": turns,
        **more,
    }


def test_fifths_by_hand():
    # Five shards: turn t lies in fifth t. Replies that attempt nothing, by turn:
    #   one: q q a      two: a a a a a    three: q m d q q
    # turn 1: 2 of 3, turn 2: 2 of 3, turn 3: 1 of 3, turns 4 and 5: 1 of 2.
    rows = [
        line("one", 0, 1.0, "qqa"),
        line("two", 0, 0.0, "aaaaa"),
        line("three", 0, 0.0, "qmdqq"),
    ]
    found = summarise({"sharded": rows})["settings"]["sharded"]
    shares = [f["share"] for f in found["non_answers_by_fifth"]]
    assert shares == pytest.approx([200 / 3, 200 / 3, 100 / 3, 50, 50])
    assert [f["n"] for f in found["non_answers_by_fifth"]] == [3, 3, 3, 2, 2]
    assert found["first_answer_by_fifth"] == pytest.approx([100 / 3, 0, 100 / 3, 0, 0, 100 / 3])
    values = [f and (f["value"], f["n"]) for f in found["accuracy_by_first_answer"]]
    assert values == [(0.0, 1), None, (100.0, 1), None, None]
    assert found["turns"] == pytest.approx(13 / 3)
    assert found["tokens"] == pytest.approx(130 / 3)
    assert found["entropy"] == pytest.approx(0.2)


def test_fifths_of_three_shards():
    # floor(5 (t - 1) / 3) = 0, 1, 3.
    rows = [line("one", 0, 0.0, "qqq", shards=3)]
    found = summarise({"sharded": rows})["settings"]["sharded"]["non_answers_by_fifth"]
    assert [f["n"] for f in found] == [1, 1, 0, 1, 0]
    assert found[2] == {"share": None, "low": None, "high": None, "n": 0}


def test_recap_counts_fifths_without_its_closing_turn():
    found = summarise({"recap": [line("one", 0, 1.0, "qqqqqa")]})["settings"]["recap"]
    assert found["first_answer_by_fifth"] == [0, 0, 0, 0, 0, 100]
    assert found["turns"] == 6


def test_rates_by_hand():
    whole = [line("one", r, 1.0, t) for r, t in enumerate("aaaq")]
    lacking = [line("one", r, 0.0, t) for r, t in enumerate("qqda")]
    found = summarise({"full": whole, "underspecified": lacking})
    values = {name: figure["value"] for name, figure in found["rates"].items()}
    assert values == {
        "clarification_rate": 50.0,
        "non_answer_rate": 75.0,
        "targeted_rate": 50.0,
        "over_asking_rate": 25.0,
    }
    assert "underspecified" not in found["settings"]


def test_only_certified_prompts_count_where_there_are_some():
    rows = [line("one", 0, 0.0, "q"), line("two", 0, 0.0, "a", certified=False)]
    found = summarise({"underspecified": rows})
    assert found["rates"]["clarification_rate"]["value"] == 100.0
    assert found["certified"] == {"instructions": 1, "of": 2}


def test_lucky_points_are_a_share_of_all_conversations():
    rows = [line("one", r, 1.0, "a", lucky=r == 0) for r in range(4)]
    assert summarise({"sharded": rows})["settings"]["sharded"]["lucky"]["value"] == 25.0


def test_tasks_have_figures_of_their_own():
    rows = [line("one", 0, 1.0, "a"), line("two", 0, 0.0, "a", task="code")]
    found = summarise({"full": rows})["tasks"]
    assert found["math"]["full"]["P"]["value"] == 100.0
    assert found["code"]["full"]["P"]["value"] == 0.0
    assert "tasks" not in summarise({"full": rows[:1]})
