"""Facts as a user tells them: whole sentences, nothing vague, names kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Shard
from icpo_lite.data.clause_words import counted
from icpo_lite.data.facts import split_clause
from icpo_lite.data.labels import is_label
from icpo_lite.data.people import referent, with_name
from icpo_lite.data.shard_checks import RejectedError, check_shards
from icpo_lite.data.sharding import shard_by_rules

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train.jsonl"
VAGUE = re.compile(r"\b(?:some|several|few|multi|part|partly|amount|percentage)\b", re.IGNORECASE)


@pytest.mark.parametrize(
    ("sentence", "facts"),
    [
        (
            "Emily catches 4 trout, 3 catfish, and 5 bluegills at the lake.",
            [
                "Emily catches 4 trout at the lake.",
                "Emily catches 3 catfish at the lake.",
                "Emily catches 5 bluegills at the lake.",
            ],
        ),
        ("He gave 8 candies to Billy and 11 to Caleb.",
         ["He gave 8 candies to Billy.", "He gave 11 candies to Caleb."]),
        ("He owns 3 dogs, 2 cats, and a ferret.",
         ["He owns 3 dogs.", "He owns 2 cats, and a ferret."]),
        ("He spends 30% of his money on food and 15% on rent.",
         ["He spends 30% of his money on food.", "He spends 15% of his money on rent."]),
        ("They sell small bags for $4 and large bags for $6.",
         ["They sell small bags for $4.", "They sell large bags for $6."]),
        ("The large pizza costs $10 and is cut into 8 slices.",
         ["The large pizza costs $10.", "The large pizza is cut into 8 slices."]),
        ("He plans on 5 shrimp and will have 40 guests.",
         ["He plans on 5 shrimp.", "He will have 40 guests."]),
        ("There are 290 liters of oil in 24 cans.",
         ["There are 290 liters of oil.", "The oil is in 24 cans."]),
        ("There were 20 cookies in 4 tins.",
         ["There were 20 cookies.", "The cookies were in 4 tins."]),
        ("He buys 5 pens and sells 2 books.", ["He buys 5 pens.", "He sells 2 books."]),
        ("Emilio gave 11 gifts, and Jorge gave 6 gifts.",
         ["Emilio gave 11 gifts.", "Jorge gave 6 gifts."]),
        ("Mary buys 5 boxes of drinks at $6 each.",
         ["Mary buys 5 boxes of drinks.", "The boxes of drinks cost $6 each."]),
        ("He has 8 mice, who each have 6 pups.", ["He has 8 mice.", "The mice each have 6 pups."]),
        ("Jo won 3 times as many awards as Scott, who won 4 awards.",
         ["Jo won 3 times as many awards as Scott.", "Scott won 4 awards."]),
        ("James buys 3 dirt bikes and 4 off-road trucks.",
         ["James buys 3 dirt bikes.", "James buys 4 off-road trucks."]),
        ("Juvy has a garden that has 20 rows with 10 plants in each row.",
         ["Juvy has a garden that has 20 rows.", "The rows have 10 plants in each row."]),
        ("Rory has 30 more beans than her sister Gigi who has 15 beans.",
         ["Rory has 30 more beans than her sister Gigi.", "Gigi has 15 beans."]),
        ("Joan spends 30 minutes on the piano, 25 minutes writing music, and 38 minutes reading.",
         ["Joan spends 30 minutes on the piano.", "Joan spends 25 minutes writing music.",
          "Joan spends 38 minutes reading."]),
        ("He was selling jewelry at $30 and paintings at $100.",
         ["He was selling jewelry at $30.", "He was selling paintings at $100."]),
        ("Eliza can iron a blouse in 15 minutes and a dress in 20 minutes.",
         ["Eliza can iron a blouse in 15 minutes.", "Eliza can iron a dress in 20 minutes."]),
        ("They ride at 5 mph for 7 hours.", ["They ride at 5 mph.", "They ride for 7 hours."]),
        ("Yvonne swims 10 laps in 5 minutes.",
         ["Yvonne swims 10 laps.", "Yvonne swims the laps in 5 minutes."]),
        ("The school has 2000 students, but 25% of them voted.",
         ["The school has 2000 students.", "25% of the students voted."]),
    ],
)  # fmt: skip
def test_a_clause_falls_into_sentences_of_its_own_words(sentence: str, facts: list[str]) -> None:
    assert split_clause(sentence) == facts


@pytest.mark.parametrize(
    "sentence",
    [
        "He bought 5 shirts and 4 hats for $50.",  # one price for both
        "In three years, Tabitha will be 8.",  # no clause before the comma
        "She picked a number between 3 and 10.",
        "He worked 2 hours and 10 minutes.",  # one time
        "They share 12 pens and 6 books equally.",
        "The ratio of cows to bulls is 10 to 27.",
        "He sold 8 less than twice the 20 pens.",
        "In the green box each bag has 2 nuts, and in the blue box, each bag has some.",
        "If he sells 3 pens, he earns $5.",
        "25% of the kids wear glasses and 40% of the kids wear lenses.",
    ],
)
def test_what_one_relation_ties_together_stays_one_fact(sentence: str) -> None:
    assert split_clause(sentence) == [sentence]


def test_an_adverbial_goes_with_the_clause_behind_it() -> None:
    whole = (
        "In the red folder, each sheet gets 3 stickers, and in the blue folder, each sheet gets 2."
    )
    assert not any(s.rstrip(".").endswith("folder") for s in split_clause(whole))


def test_a_fact_says_its_own_thing() -> None:
    sharding = shard_by_rules(
        "Joyce types 76 words per minute. She works 8 hours a day and 6 days a week, and her "
        "brother Bob types 40 words per minute. How many words is that?"
    )
    assert [s.text for s in sharding.shards[1:]] == [
        "Joyce types 76 words per minute.",
        "Joyce works 8 hours a day.",
        "Joyce works 6 days a week.",
        "Joyce's brother Bob types 40 words per minute.",
    ]


@pytest.mark.parametrize(
    ("told", "facts"),
    [
        ("If Ann sells pens for $5 a dozen.", ["Ann sells pens for $5 a dozen."]),
        ("If Ann got 6 pens, while Bo got 4 caps.", ["Ann got 6 pens.", "Bo got 4 caps."]),
        ("If Ann kills 3 dragons, she wins $5.", ["If Ann kills 3 dragons, she wins $5."]),
        ("When Ann is 10 she gets $5.", ["When Ann is 10 she gets $5."]),
    ],
)
def test_a_condition_without_a_main_clause_is_a_statement(told: str, facts: list[str]) -> None:
    sharding = shard_by_rules(f"Ann has 8 hens. {told} How many does she have?")
    assert [s.text for s in sharding.shards[2:]] == facts


# ------------------------------------------------------------------------------ numbers as names


@pytest.mark.parametrize(
    ("text", "surface", "label"),
    [
        ("A girl called Seven has 3 pens.", "Seven", True),
        ("Seven has 3 pens. Ann gives Seven 2 pens.", "Seven", True),
        ("Seven pens are red.", "Seven", False),
        ("Twelve Oaks is a farm with 5 cows.", "Twelve", True),
        ("Twelve oaks stand there.", "Twelve", False),
        ("Chief Ten Bears owns 4 horses.", "Ten", True),
        ("There are 10 carpets in house 3.", "3", True),
        ("House 4 has twice as many carpets.", "4", True),
        ("There are 30 students in Grade 5.", "5", True),
        ("He bought box 3 apples.", "3", False),
        ("He reads 3 books.", "3", False),
        ("In the first half of the trip he ran 3 miles.", "half", True),
        ("He ate half of the pie.", "half", False),
    ],
)
def test_names_and_labels_are_no_quantities(text: str, surface: str, label: bool) -> None:
    mention = next(n for n in numbers(text) if n.surface == surface)
    assert is_label(text, mention) is label


def test_a_name_that_is_a_number_word_stays_a_name() -> None:
    sharding = shard_by_rules(
        "Seven is a girl. Her friend Ten Bears has 4 horses, and Seven has 6 horses and 2 dogs. "
        "How many animals are there?"
    )
    told = " ".join(s.text for s in sharding.shards)
    assert "Seven has 6 horses" in told
    assert "Ten Bears has 4 horses" in told
    assert not VAGUE.search(told)


# ------------------------------------------------------------------------------------- pronouns


@pytest.mark.parametrize(
    ("before", "clause", "name"),
    [
        ("Tom met Ann.", "She has 5 pens.", "Ann"),
        ("Tom met Ann.", "He has 5 pens.", "Tom"),
        ("Tom met Bob.", "He has 5 pens.", None),
        ("Zorvan met Ann.", "She has 5 pens.", None),  # Zorvan may be a woman
        ("Zorvan has a dog.", "She has 5 pens.", "Zorvan"),
        ("A farmer has 51 cows.", "He sells 5.", "the farmer"),
        ("A bookseller sells maps.", "She owns 5.", "the bookseller"),
        ("Tom works.", "Bob says he is 5.", ""),
    ],
)
def test_a_pronoun_stands_for_the_one_person_that_fits(
    before: str, clause: str, name: str | None
) -> None:
    assert referent(before, clause) == name


@pytest.mark.parametrize(
    ("clause", "said"),
    [
        ("He has 5 pens.", "Ann has 5 pens."),
        ("It took her 20 minutes.", "It took Ann 20 minutes."),
        ("Her 3 aunts came.", "Ann's 3 aunts came."),
        ("Bob gave her 3 pens.", "Bob gave Ann 3 pens."),
        ("The party includes her 3 uncles.", "The party includes Ann's 3 uncles."),
        ("Her brother is 5.", "Ann's brother is 5."),
    ],
)
def test_a_pronoun_becomes_its_name(clause: str, said: str) -> None:
    assert with_name(clause, "Ann") == said


# --------------------------------------------------------------------------------------- checks

TEXT = "Ann has 3 red pens. Bob owns one dog and 4 blue pens. Some pens are old. How many pens?"


def shards(*facts: str) -> tuple[Shard, ...]:
    rest = (Shard(i, f) for i, f in enumerate(facts, start=1))
    return (Shard(0, "How many pens?", is_question=True), *rest)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("Ann has 3 red pens.", ""),
        ("Ann has 3 red pens and several others.", "a filler word"),
        ("Ann has a few pens, 3 red.", "a filler word"),
        ("Ann has one pair of 3 red pens.", "a number word of its own"),
        ("Which has 3 red pens.", "a shard points back"),
    ],
)
def test_shards_of_every_method_are_held_to_their_sentences(first: str, reason: str) -> None:
    made = shards(first, "Bob owns one dog and 4 blue pens.", "Some pens are old.")
    if not reason:
        return check_shards(TEXT, made)
    with pytest.raises(RejectedError) as rejected:
        check_shards(TEXT, made)
    assert rejected.value.reason == reason
    return None


def test_a_fact_repeats_no_other_without_its_number() -> None:
    twin = "Ann has red pens, Bob owns one dog and 4 blue pens."
    with pytest.raises(RejectedError, match="repeats another without its number"):
        check_shards(TEXT, shards("Ann has 3 red pens.", twin, "Some pens are old."))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pens", "cups of tea", "red hats", "dogs"]), st.integers(2, 999)
        ),
        min_size=2,
        max_size=5,
        unique_by=lambda t: t[0],
    )
)
def test_a_list_of_any_length_gives_one_fact_a_member(members: list[tuple[str, int]]) -> None:
    things = ", ".join(f"{n} {noun}" for noun, n in members[:-1])
    last = f"{members[-1][1]} {members[-1][0]}"
    facts = split_clause(f"Ann has {things} and {last}.")
    assert facts == [f"Ann has {n} {noun}." for noun, n in members]


@pytest.mark.skipif(not GSM8K.exists(), reason="the data set is not here")
def test_no_real_fact_holds_a_filler_that_its_problem_does_not() -> None:
    seen = 0
    with GSM8K.open() as file:
        for line in list(file)[600:1400]:
            question = json.loads(line)["question"]
            own = [w.lower() for w in VAGUE.findall(question)]
            try:
                sharding = shard_by_rules(question)
            except RejectedError:
                continue
            for fact in sharding.facts:
                seen += 1
                found = [w.lower() for w in VAGUE.findall(fact.shard.text)]
                assert all(own.count(w) >= found.count(w) for w in found), fact.shard.text
                assert len(counted(fact.shard.text)) <= 4
    assert seen > 2000
