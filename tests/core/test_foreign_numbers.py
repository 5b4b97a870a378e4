"""Number words of other languages, and numbers in notations that people seldom use."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from icpo_lite.core.foreign_numbers import foreign_numbers
from icpo_lite.core.odd_numbers import odd_numbers


def read(text: str, *, foreign: bool = False) -> list[Fraction]:
    return [value for value, _, _ in foreign_numbers(text, foreign=foreign)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("treinta y siete", 37), ("ciento cinco", 105), ("dos mil trescientos", 2300)),
        *(("cuarenta y dos mil", 42_000), ("veintitrés", 23), ("quinientas doce", 512)),
        *(("quatre-vingt-dix-sept", 97), ("quatre-vingts", 80), ("soixante et onze", 71)),
        *(("soixante-dix-huit", 78), ("cent vingt-trois", 123), ("deux cents", 200)),
        *(("vingt et un", 21), ("septante-deux", 72), ("trois mille quatre cents", 3400)),
        *(("siebenunddreißig", 37), ("siebenunddreissig", 37), ("dreizehn", 13)),
        *(("dreihundertfünfundzwanzig", 325), ("zweitausenddreihundert", 2300)),
        *(("einundzwanzig", 21), ("sechzehn", 16), ("fuenfzehn", 15), ("achtzig", 80)),
        *(("trinta e sete", 37), ("mil duzentos e cinco", 1205), ("noventa e nove", 99)),
        *(("trentasette", 37), ("ventotto", 28), ("ventuno", 21), ("centoventidue", 122)),
        *(("duemilacinquecento", 2500), ("novantanove", 99), ("ventitré", 23)),
        *(("三十七", 37), ("两百零五", 205), ("一万二千", 12_000), ("二〇二六", 2026)),
        *(("百分之三十", Fraction(3, 10)), ("三分之二", Fraction(2, 3)), ("十二個", 12)),
        *(("さんじゅうななです", 37), ("みっつ", 3), ("じゅうごです", 15)),
    ],
)
def test_number_words_of_seven_languages(text: str, value: Fraction) -> None:
    assert read(text) == [value]
    assert read(f"X: {text}.") == [value]


@pytest.mark.parametrize(
    "text",
    [
        "I will ask once, due to the six men and an elf.",
        "Otto and Dix seize quince, cents and mil.",
        "une pomme, ein Apfel, una mela, um ovo, 一共",
        "三明治和三角形，第三个，十分好，千万别去",
        "the unit and the null set",
        "",
    ],
)
def test_english_words_articles_and_words_with_a_numeral_are_none(text: str) -> None:
    assert read(text) == []


def test_words_that_english_has_too_count_where_the_text_is_foreign() -> None:
    assert read("Es once", foreign=True) == [11]
    assert read("Sono due", foreign=True) == [2]
    assert read("Es sind elf", foreign=True) == [11]
    assert read("otto mele") == [8]


def test_two_numbers_side_by_side_stay_two() -> None:
    assert read("cinco, siete") == [5, 7]
    assert read("zwölf und dreizehn") == [12, 13]
    assert read("quarante et cinquante") == [40, 50]


def odd(text: str) -> list[Fraction]:
    return [value for value, _, _ in odd_numbers(text)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("It is XXXVII.", 37), ("Answer: XLII", 42), ("the answer is xxxvii", 37), ("IX.", 9)),
        *(("MCMXCIX", 1999), ("It's t-h-i-r-t-y", 30), ("t h r e e", 3), ("three seven", 37)),
        *(("one zero five", 105), ("seven twentieths", Fraction(7, 20)), ("a fifth.", 0.2)),
        *(("thirty-seven hundredths of it", Fraction(37, 100)), ("0x25", 37), ("0b101", 5)),
    ],
)
def test_odd_notations_are_read(text: str, value: Fraction) -> None:
    assert odd(text) == [Fraction(value).limit_denominator(1000)]


@pytest.mark.parametrize(
    "text",
    [
        *("Part II of it", "World War II cost", "(ii) next", "II. Unknown: the price", "I mix it"),
        *("a livid, vivid, civil DC CD of size XL", "a third question", "three, four, five"),
        *("a b c d", "two-one", "two quarters and a dime", "I did I", "10 mm or 5 ml or 3 dl"),
    ],
)
def test_what_looks_like_one_is_none(text: str) -> None:
    assert odd(text) == []


@pytest.mark.parametrize(
    "piece", ["treinta y ", "eins", "ventuno", "三", "百分之", "x", "i ", "t-", "one ", "a fifth ",
              "XXX ", "0b1", "さん", "un ", "quatre-vingt-", "e ", "und"]
)  # fmt: skip
def test_a_long_text_is_read_in_linear_time(piece: str) -> None:
    text = (piece * 100_000)[:100_000]
    start = time.process_time()
    foreign_numbers(text, foreign=True)
    odd_numbers(text)
    assert time.process_time() - start < 1
