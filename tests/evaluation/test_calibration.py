"""P(ask) from openings, and the figures made of it, by hand and against counting."""

import numpy as np
import pytest

from icpo_lite.evaluation.calibration import Asked, auroc, calibrate, reliability, risk_coverage
from icpo_lite.evaluation.openings import LEAST, Openings, from_json, learn

HOW, THREE, TO, FIND, KNOW = range(5)


def test_openings_that_tell_the_kind_are_kept_short():
    found = learn([((HOW, FIND), True)] * 30 + [((THREE, TO), False)] * 60)
    assert found.tokens == ((HOW,), (THREE,))
    # Drawn towards the base rate 1/3 by one reply: (30 + 1/3) / 31 and (1/3) / 61.
    assert found.share == pytest.approx((91 / 93, 1 / 183))


def test_an_undecided_opening_is_split_where_it_becomes_decided():
    replies = [((TO, FIND), False)] * 20 + [((TO, KNOW), True)] * 20 + [((THREE,), False)] * 10
    found = learn(replies)
    assert set(found.tokens) == {(THREE,), (TO, FIND), (TO, KNOW)}


def test_rare_openings_are_the_rest():
    found = learn([((THREE,), False)] * 20 + [((HOW,), True)] * (LEAST - 1))
    assert found.tokens == ((THREE,),)
    assert found.rest > 0.7


def test_no_opening_begins_with_another():
    rng = np.random.default_rng(0)
    replies = [(tuple(rng.integers(0, 4, size=3)), bool(rng.random() < 0.5)) for _ in range(800)]
    found = learn(replies)
    assert 4 < len(found.tokens) <= 24 + 4
    for a in found.tokens:
        assert not any(a != b and b[: len(a)] == a for b in found.tokens)


def test_probability_of_asking_by_hand():
    openings = Openings(((HOW,), (THREE,)), (1.0, 0.1), 0.5)
    p = openings.ask_probability(np.log([[0.3, 0.6], [0.9, 0.1]]))
    assert p == pytest.approx([0.3 + 0.06 + 0.1 * 0.5, 0.9 + 0.01])


def test_openings_survive_json():
    openings = Openings(((HOW,), (TO, FIND)), (0.9, 0.2), 0.1)
    assert from_json(openings.as_json(str)) == openings


def asked(problem, lacks, p, asks=False, correct=None):
    return Asked(problem, lacks, p, asks, correct)


def test_auroc_by_hand():
    # q* .9 and .4 against q .5 and .4: wins 2, then 0 and a tie: 2.5 of 4.
    rows = [
        *(asked("a", True, 0.9), asked("b", True, 0.4)),
        *(asked("a", False, 0.5), asked("b", False, 0.4)),
    ]
    assert auroc(rows).value == pytest.approx(2.5 / 4)
    assert auroc(rows[:2]) is None


def test_auroc_interval_covers():
    # q* ~ N(1, 1), q ~ N(0, 1): AUROC = Phi(1 / sqrt 2) = 0.7602.
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        rows = [
            asked(str(i), lacks, float(rng.normal(lacks)))
            for i in range(40)
            for lacks in (True, False)
        ]
        found = auroc(rows)
        hits += found.low <= 0.7602 <= found.high
    assert hits >= 54  # 60 draws at 95 %: 54 or fewer happen once in 30


def test_reliability_by_hand():
    rows = reliability(np.array([0.05, 0.07, 0.95, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]))
    assert rows == [
        {"predicted": pytest.approx(0.06), "observed": 0.5, "n": 2},
        {"predicted": pytest.approx(0.975), "observed": 1.0, "n": 2},
    ]


def test_risk_coverage_by_hand():
    # Attempts by P(ask): .1 right, .2 wrong, .3 right, .4 wrong; the question counts for nothing.
    rows = [
        *(asked("a", False, 0.1, correct=True), asked("a", True, 0.2, correct=False)),
        *(asked("b", False, 0.3, correct=True), asked("b", True, 0.4, correct=False)),
        asked("c", True, 0.9, asks=True),
    ]
    found = {round(r["coverage"], 2): r["risk"] for r in risk_coverage(rows)}
    assert found == pytest.approx({0.25: 0.0, 0.5: 0.5, 0.75: 1 / 3, 1.0: 0.5})


def test_attempts_of_equal_probability_stay_together():
    rows = [asked(str(i), False, 0.5, correct=i % 2 == 0) for i in range(10)]
    assert risk_coverage(rows) == [{"coverage": 1.0, "risk": 0.5}]


def test_thresholds_say_how_often_it_would_ask():
    rows = [asked("a", True, 0.9), asked("b", True, 0.3), asked("a", False, 0.2)]
    found = {t["threshold"]: t for t in calibrate(rows)["thresholds"]}
    assert found[0.5]["asks_underspecified"] == pytest.approx((1 + 0.3) / 2)
    assert found[0.5]["over_asks"] == pytest.approx(0.2)
    assert found[0.1] == {"threshold": 0.1, "asks_underspecified": 1.0, "over_asks": 1.0}
