"""Numbers, names, sentences and questions, against what a reader sees in the sentence."""

from __future__ import annotations

import time
from fractions import Fraction as F

import pytest

from icpo_lite.core.numbers import numbers
from icpo_lite.core.questions import questions
from icpo_lite.core.sentences import entities, sentences
from icpo_lite.core.words import stem


def values(sentence: str) -> list[F]:
    return [n.value for n in numbers(sentence)]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("He has 1,234 pears and 5 figs.", [1234, 5]),
        ("It costs $3.50 and .25 liters", [F(7, 2), F(1, 4)]),
        ("one hundred and twenty-five apples", [125]),
        ("three thousand four hundred and two", [3402]),
        ("1.5 million people, a hundred dogs", [1_500_000, 100]),
        ("2 1/2 cups, 3/4 of a pie, ½ cup, 1½ miles", [F(5, 2), F(3, 4), F(1, 2), F(3, 2)]),
        ("25% off, ten percent, 20 percent", [F(1, 4), F(1, 10), F(1, 5)]),
        ("two dozen eggs, half a dozen rolls, a dozen buns, 3 dozen", [24, 6, 12, 36]),
        ("a third of it, two-thirds of them, three fifths", [F(1, 3), F(2, 3), F(3, 5)]),
        ("twice as many, half of them, she tripled it", [2, F(1, 2), 3]),
        ("the third day, the 5th floor", [3, 5]),
        ("3 quarters and 2 dimes", [3, 2]),
        ("50 cents", [F(1, 2)]),
        ("One day he came with a friend and an idea.", []),
    ],
)
def test_numbers_have_the_value_a_reader_gives_them(sentence: str, expected: list[F]) -> None:
    assert values(sentence) == [F(v) for v in expected]


def test_numbers_carry_their_span_unit_and_kind() -> None:
    sentence = "In a truck are 26 pink hard hats at $4 and a 10-minute walk, 6 more pairs."
    found = numbers(sentence)
    assert [sentence[n.start : n.end] for n in found] == [n.surface for n in found]
    assert [(n.unit, n.kind) for n in found] == [
        ("hat", "cardinal"),
        ("$", "money"),
        ("minut", "cardinal"),
        ("pair", "cardinal"),
    ]
    assert sentence[: found[0].unit_end].endswith("26 pink hard hats")


def test_a_fraction_over_zero_is_no_number() -> None:
    assert values("3/0 of it") == []


def test_digits_without_end_are_no_number() -> None:
    assert values("1" * 10_000 + " pens and 3 caps") == [3]


def test_sentences_keep_abbreviations_decimals_and_quotes_together() -> None:
    found = sentences('Mr. Smith pays $2.50 at 5 a.m. in town. "Why?" he asks.\nOK')
    assert [s.text for s in found] == [
        "Mr. Smith pays $2.50 at 5 a.m. in town.",
        '"Why?"',
        "he asks.",
        "OK",
    ]


def test_a_letter_ends_a_sentence_and_an_initial_does_not() -> None:
    found = sentences("Pond A has more than Pond B. If J. R. Fox owns Pond C. Kay asks.")
    assert [s.text for s in found] == [
        "Pond A has more than Pond B.",
        "If J. R. Fox owns Pond C. Kay asks.",
    ]


@pytest.mark.parametrize(
    "pair",
    [("cookies", "cookie"), ("berries", "berry"), ("baked", "baking"), ("boxes", "box")],
)
def test_inflections_share_a_stem(pair: tuple[str, str]) -> None:
    assert stem(pair[0]) == stem(pair[1])


def test_stems_keep_words_apart() -> None:
    assert len({stem(w) for w in ("bus", "glass", "price", "prize", "car")}) == 5


def test_names_leave_out_sentence_openers_days_and_plain_nouns() -> None:
    found = entities("Bakers met Mrs. Hill and Tom's dog on Monday. The bakers left. If Ann goes")
    assert [e.text for e in found] == ["Mrs. Hill", "Tom", "Ann"]


@pytest.mark.parametrize(
    ("sentence", "kind", "asks", "subject", "verb"),
    [
        ("How many apples does Ann have left?", "count", "apple", "Ann", "have"),
        ("Could you tell me how much each cookie costs?", "money", "", "each cookie", "cost"),
        ("Please provide the price of a cookie.", "money", "price", "", ""),
        ("How long does it take to make 5 smoothies?", "time", "", "it", "take"),
        ("I need to know how many hours Tom works.", "time", "hours", "Tom", "work"),
        ("How many cookies did the shop owner sell?", "count", "cookie", "the shop owner", "sell"),
        ("What is the number of baskets made?", "count", "basket", "baskets made", ""),
    ],
)
def test_a_question_says_what_it_asks_for(
    sentence: str, kind: str, asks: str, subject: str, verb: str
) -> None:
    (question,) = questions(sentence)
    assert question.kind == kind
    assert question.asks == (stem(asks) if asks else "")
    assert question.subject == subject
    assert question.verb == (stem(verb) if verb else "")


def test_a_statement_asks_nothing() -> None:
    assert questions("The answer is 5. He bought 3 apples.") == ()


def test_requests_can_be_left_out() -> None:
    assert questions("Please give the price.", requests=False) == ()


def test_tens_of_thousands_of_short_texts_a_second() -> None:
    turns = [f"How many apples does Ann have left after she ate {i} of them?" for i in range(4000)]
    start = time.process_time()
    for turn in turns:
        numbers(turn)
        questions(turn)
    assert time.process_time() - start < 2.0  # about 0.15 s; ten times that on a slow machine
