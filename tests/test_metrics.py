"""P, A90, U by hand and against numpy; intervals that cover."""

import numpy as np
import pytest

from icpo_lite.evaluation.metrics import (
    aptitude,
    interval,
    paired_difference,
    performance,
    unreliability,
)


def test_one_instruction_by_hand():
    # Ten runs, seven right: mean 70; sorted 0 0 0 100 ...: p90 = 100, p10 = 0.
    scores = np.array([[0, 0, 0, 100, 100, 100, 100, 100, 100, 100]])
    assert performance(scores) == pytest.approx([70])
    assert aptitude(scores) == pytest.approx([100])
    assert unreliability(scores) == pytest.approx([100])


def test_linear_percentile_by_hand():
    # Four runs 0 0 0 100: the 90th percentile lies at 2.7 of 0..3, 0.7 of the way to 100.
    assert aptitude(np.array([[0, 0, 0, 100]])) == pytest.approx([70])


def test_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        figure = interval(rng.normal(50, 20, size=60), seed=trial)
        hits += figure.low <= 50 <= figure.high
    assert hits / 200 >= 0.9


def test_paired_difference_by_hand():
    d = paired_difference({"a": 50, "b": 20, "c": 0}, {"a": 30, "b": 20, "c": 10})
    assert d["value"] == pytest.approx(10 / 3)
    assert (d["won"], d["lost"]) == (1, 1)


def test_pairing_needs_the_same_instructions():
    with pytest.raises(ValueError, match="same instructions"):
        paired_difference({"a": 1}, {"b": 1})
