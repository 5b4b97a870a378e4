"""Shards by rules and by a model, and the check that both pass."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Message, Problem, Shard
from icpo_lite.data.deletions import number_cut
from icpo_lite.data.labels import is_label
from icpo_lite.data.model_shards import align, shard_by_model
from icpo_lite.data.shard_checks import RejectedError, check_shards
from icpo_lite.data.sharding import (
    clauses,
    shard_by_rules,
)
from icpo_lite.data.text_edits import Cut, Edit, apply
from icpo_lite.data.things import with_thing
from icpo_lite.data.value_shards import shard_problem

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train.jsonl"


def texts(problem: str) -> list[str]:
    return [s.text for s in shard_by_rules(problem).shards]


def cut_of(text: str, surface: str) -> str | None:
    """The text with its number `surface` cut out, or None where it has no fluent cut."""
    mention = next(n for n in numbers(text) if n.surface == surface)
    clause = next(p for p in clauses(text) if p.start <= mention.start < p.end)
    cut = number_cut(text, mention, clause.start)
    return None if cut is None else apply(text, [cut])


# -------------------------------------------------------------------------------------------- cuts


@pytest.mark.parametrize(
    ("text", "surface", "left"),
    [
        ("He plays with his 3 friends.", "3", "He plays with his friends."),
        ("She buys 4 shirts at $15 each.", "4", "She buys shirts at $15 each."),
        ("She has 4 cats and 2 dogs.", "2", "She has 4 cats and some dogs."),
        ("It was a total of 20 apples.", "20", None),
        ("He picked a total of 20 apples.", "20", "He picked apples."),
        ("Julie is reading a 120-page book.", "120", "Julie is reading a book."),
        ("He reads an 8-page letter.", "8", "He reads a letter."),
        ("He gets paid for a 10-hour workday.", "10", "He gets paid for a workday."),
        ("They ship 6500 kg of potatoes.", "6500", "They ship potatoes."),
        ("Tom is 5 years older than Ann.", "5", "Tom is older than Ann."),
        ("Sam has $45 more than Tom.", "$45", "Sam has more than Tom."),
        ("She has 20 more stickers than Tom.", "20", "She has more stickers than Tom."),
        ("He buys a hat for $10.", "$10", "He buys a hat."),
        ("He buys a hat for $10 and a cap for $2.", "$10", None),
        ("He drives at 60 mph for 3 hours.", "60", "He drives for 3 hours."),
        ("She got a 20% discount.", "20%", "She got a discount."),
        ("Half of the kids left.", "Half", "Some of the kids left."),
        ("John had $200 left.", "$200", "John had some money left."),
        ("He drives 24 miles to work.", "24", "He drives several miles to work."),
    ],
)
def test_a_number_is_cut_so_that_the_rest_reads_on(
    text: str, surface: str, left: str | None
) -> None:
    assert cut_of(text, surface) == left


@pytest.mark.parametrize(
    ("text", "surface"),
    [
        ("They eat 3 apples each.", "3"),  # "apples each" is no English
        ("He eats 3 apples a day.", "3"),
        ("20 students are boys.", "20"),  # "students are boys" says something else
        ("She sold 48 of her clips.", "48"),
        ("He knows that 80 pages is one inch.", "80"),
        ("They were 210 pages.", "210"),
        ("A car has 4 wheels.", "4"),  # everybody knows
        ("He gets paid for an 8-hour workday.", "8"),
        ("He gets paid for a 40-hour work week.", "40"),
        ("He has three times as many toys as Ann.", "three"),  # "as many" would be equal
        ("The two tests, one easy and one hard, are over.", "two"),
        ("She has no more than 50 books.", "50"),
    ],
)
def test_a_number_that_cannot_go_quietly_has_no_cut(text: str, surface: str) -> None:
    assert cut_of(text, surface) is None


def test_cuts_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        apply("abc def", [Cut("count", (Edit(0, 4),)), Cut("count", (Edit(2, 5),))])


def test_a_cut_at_the_start_of_a_sentence_leaves_a_capital() -> None:
    text = "It rains. If it costs $2, how much is left?"
    assert apply(text, [Cut("clause", (Edit(10, 26),))]) == "It rains. How much is left?"


# ------------------------------------------------------------------------------------------- rules


def test_the_question_comes_first_and_each_fact_alone() -> None:
    assert texts(
        "Josh has $20. He buys a hat and four cookies. "
        "If each cookie costs $1.25, how much money does Josh have left?"
    ) == [
        "How much money does Josh have left?",
        "Josh has $20.",
        "Josh buys a hat and four cookies.",
        "Each cookie costs $1.25.",
    ]


def test_a_question_is_found_wherever_it_stands() -> None:
    assert texts("How many pens are left? Ann had 5 pens. Bob lost 2 pens.") == [
        "How many pens are left?",
        "Ann had 5 pens.",
        "Bob lost 2 pens.",
    ]


def test_a_condition_after_the_question_is_a_fact() -> None:
    assert texts("Ann sells cakes for $3. How much does she earn if she sells 4 cakes?") == [
        "How much does she earn?",
        "Ann sells cakes for $3.",
        "Ann sells 4 cakes.",
    ]


def test_a_requested_result_is_a_question() -> None:
    assert texts("Ann has 3 red pens. Bob has 9 pens. Calculate the total number of pens.")[0] == (
        "Calculate the total number of pens."
    )


def test_two_numbers_of_a_clause_become_two_shards() -> None:
    shards = texts("Elena has 8 lilies and 5 tulips. How many flowers has she?")
    assert shards[1:] == ["Elena has 8 lilies.", "Elena has 5 tulips."]


def test_clauses_that_point_back_stay_with_what_they_point_to() -> None:
    shards = texts(
        "There were 140 kids. Of those, 30 danced. A band of 5 men played. How many sat?"
    )
    assert shards[1] == "There were 140 kids."
    assert shards[2] == "Of the kids, 30 danced."
    merged = texts(
        "Ann has 140 pens. That is 30 more than Bob has. Cleo has 5 pens. How many pens?"
    )
    assert merged[1] == "Ann has 140 pens. That is 30 more than Bob has."


def test_a_pronoun_becomes_the_only_name_it_can_mean() -> None:
    one = texts("Zach saves money. He has $65. He earns $7 an hour. How much more does he need?")
    assert one[2:] == ["Zach has $65.", "Zach earns $7 an hour."]
    two = texts("Zach met Tom. He has $65. He earns $7 an hour. Ann has $3. How much has he?")
    assert not any(s.startswith("He ") for s in two)
    assert not any(s.startswith(("Zach has", "Tom has")) for s in two)
    both = texts("Zach met Ann. He has $65. She earns $7 an hour. How much have they?")
    assert both[2:] == ["Zach has $65.", "Ann earns $7 an hour."]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Ann has 3 pens. Bob has 4 pens.", "no question"),
        ("Ann has 3 pens. How many? Bob has 2 pens. Why?", "several questions"),
        ("How much is 3 plus 4?", "too few facts"),
        ("Ann has 3 pens. How many pens has she?", "too few facts"),
        ("Ann has 3 pens. " * 2000 + "How many?", "too long"),
        ("Ann has 3 pens. " * 90 + "How many?", "too many numbers"),
    ],
)
def test_a_problem_that_cannot_be_sharded_says_why(text: str, reason: str) -> None:
    with pytest.raises(RejectedError) as rejected:
        shard_by_rules(text)
    assert rejected.value.reason == reason


@given(
    st.lists(
        st.tuples(st.sampled_from(["Ann", "Bob", "Cleo"]), st.integers(2, 999)),
        min_size=2,
        max_size=6,
    )
)
def test_numbers_of_a_text_and_of_its_shards_agree(facts: list[tuple[str, int]]) -> None:
    text = " ".join(f"{name} has {count} pens." for name, count in facts)
    shards = texts(f"{text} How many pens are there?")
    found = Counter(n.value for s in shards for n in numbers(s))
    assert found == Counter(Fraction(count) for _, count in facts)


@pytest.mark.skipif(not GSM8K.exists(), reason="the data set is not here")
def test_numbers_agree_on_real_problems() -> None:
    accepted = 0
    with GSM8K.open() as file:
        for line in list(file)[:600]:
            question = json.loads(line)["question"]
            try:
                sharding = shard_by_rules(question)
            except RejectedError:
                continue
            accepted += 1
            whole = Counter(n.value for n in numbers(question) if not is_label(question, n))
            parts = Counter(
                n.value for s in sharding.shards for n in numbers(s.text) if not is_label(s.text, n)
            )
            assert whole == parts
            assert sum(s.is_question for s in sharding.shards) == 1
    assert accepted > 500


# ------------------------------------------------------------------------------------- other hands


class Canned:
    """A generator with one reply for every chat."""

    def __init__(self, *replies: str) -> None:
        self.replies = replies
        self.asked: list[str] = []

    def generate(
        self, chats: Sequence[Sequence[Message]], *, n: int = 1, **how: Any
    ) -> list[list[str]]:
        self.asked += [chat[-1].content for chat in chats]
        return [[reply] * n for reply in self.replies]


PROBLEM = "Ann has 3 red pens and Bob gives her 4 more pens at noon. How many pens has Ann?"


def test_a_models_shards_pass_the_same_check_or_say_why() -> None:
    good = {
        "question": "How many pens has Ann?",
        "facts": ["Ann has 3 red pens.", "Bob gives Ann 4 more pens at noon."],
    }
    lost = good | {"facts": ["Ann has 3 red pens.", "Bob gives Ann some pens at noon."]}
    back = good | {"facts": ["Ann has 3 red pens.", "Then Bob gives her 4 more pens at noon."]}
    few = good | {"facts": ["Ann has 3 red pens and 4 more pens from Bob at noon."]}
    model = Canned(
        f"Sure: {json.dumps(good)} I hope so.",
        *(json.dumps(reply) for reply in (lost, back, few)),
        "I cannot.",
        '{"question": "How many?", "facts": [1]}',
    )
    results = shard_by_model([PROBLEM] * 6, model)
    assert not isinstance(results[0], RejectedError)
    assert [s.text for s in results[0].shards] == [good["question"], *good["facts"]]
    assert [f.mentions for f in results[0].facts] == [(0,), (1,)]
    reasons = [r.reason for r in results[1:] if isinstance(r, RejectedError)]
    assert reasons == [
        "numbers disagree",
        "a shard points back",
        "too few facts",
        "no shards in the reply",
        "no shards in the reply",
    ]
    assert model.asked[0].endswith(PROBLEM)


def test_lost_words_are_noticed() -> None:
    shards = (Shard(0, "How many?", is_question=True), Shard(1, "Ann 3."), Shard(2, "Bob 4."))
    text = "Ann picked 3 ripe melons yesterday. Bob stole 4 unripe lemons. How many fruits remain?"
    with pytest.raises(RejectedError, match="words lost"):
        check_shards(text, shards)


def test_shards_of_a_data_set_are_tied_to_the_words_of_the_text() -> None:
    text = "Tim has 8 figs. Ann gives Tim 6 figs. How many figs has Tim?"
    shards = (
        Shard(0, "How many figs has Tim?", is_question=True),
        Shard(1, "Tim has 8 figs."),
        Shard(2, "Ann gives Tim 6 figs."),
    )
    sharding = align(text, shards)
    assert [f.mentions for f in sharding.facts] == [(0,), (1,)]
    whole = [c for c in sharding.facts[0].cuts if c.kind == "clause"]
    assert apply(text, whole) == "Ann gives Tim 6 figs. How many figs has Tim?"


def test_shards_that_a_problem_has_are_kept() -> None:
    mine = (Shard(0, "Q?", is_question=True), Shard(1, "A."))
    problem = Problem("p", "math", PROBLEM, "7", shards=mine)
    assert shard_problem(problem).shards == mine
    assert len(shard_problem(Problem("p", "math", PROBLEM, "7")).shards) == 3


@pytest.mark.parametrize(
    ("clause", "before", "so_far", "said"),
    [
        ("They make 6 pies.", "It cuts 8 slices.", "A pie shop sells pies.",
         "The pie shop makes 6 pies."),
        ("They are offering a discount.", "They have 20 items.", "A store closes.",
         "The store is offering a discount."),
        ("They grew 83 pumpkins.", "They sell 3 pumpkins.", "", "They grew 83 pumpkins."),
        ("They cost $2 each.", "Ann buys 3 pens.", "Ann buys 3 pens.", "The pens cost $2 each."),
        ("Each of them ate 4 pieces.", "They collected 68 pieces.", "Travis and his brother came.",
         "Each of Travis and his brother ate 4 pieces."),
    ],
)  # fmt: skip
def test_they_are_those_who_act(clause: str, before: str, so_far: str, said: str) -> None:
    assert with_thing(clause, before, so_far) == said
