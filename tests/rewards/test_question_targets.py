"""What a question asks for, against the fact that was removed: other words, and near misses."""

from __future__ import annotations

import pytest

from icpo_lite.core.types import Intent, Message, Prompt, Shard
from icpo_lite.rewards.asked_quantity import wanted
from icpo_lite.rewards.fact_likeness import number_clauses
from icpo_lite.rewards.question_targets import aim, asked
from icpo_lite.rewards.told_quantity import told


def _prompt(goal: str, removed: str, *given: str, text: str = "") -> Prompt:
    facts = [Shard(i, fact) for i, fact in enumerate([removed, *given], start=1)]
    shards = (Shard(0, goal, is_question=True), *facts)
    said = text or " ".join([*given, goal])
    return Prompt(
        "p", "p", "math", Intent.UNDERSPECIFIED, (Message("user", said),), "1", shards, shards[1:2]
    )


BIKE = _prompt(
    "How many weeks must Leo save to buy the bike?",
    "The bike that Leo wants costs $240.",
    "Leo gets $15 of pocket money every week.",
    "Leo has $60 in his piggy bank.",
)
CARS = _prompt(
    "How far apart are the cars after 3 hours?",
    "The second car drives at 55 miles per hour.",
    "Two cars leave a town in opposite directions.",
    "The first car drives at 40 miles per hour.",
)
BAKERY = _prompt(
    "How many rolls does the bakery have left in the evening?",
    "The bakery bakes 480 rolls in the morning.",
    "A school orders 150 of the rolls.",
    "Each of 90 customers buys 2 rolls.",
)
AQUARIUM = _prompt(
    "How many liters of water does Mia need?",
    "Each tank holds 35 liters of water.",
    "Mia has 4 tanks.",
    "Every tank has 6 fish.",
)
CLASS = _prompt(
    "How many pencils does Mrs. Reed have to buy?",
    "There are 28 students in Mrs. Reed's class.",
    "Each student needs 3 pencils.",
    "A pencil costs 40 cents.",
)
HARVEST = _prompt(
    "How many pounds of apples did they pick together?",
    "Nora picked 12 more pounds of apples than Sam.",
    "Sam picked 30 pounds of apples.",
)
MARBLES = _prompt(
    "How many marbles does Tim have now?",
    "Tim had 90 marbles in the beginning.",
    "Tim lost 12 marbles at school.",
    "Tim gave 20 marbles to his brother.",
)
SALE = _prompt(
    "How much does the coat cost in the sale?",
    "In the sale, the store takes 20% off the coat's price.",
    "The coat cost $150 before.",
)
TRIP = _prompt(
    "How many hours did Ben spend on the road?",
    "Ben drove for 4 hours on Saturday.",
    "Ben drove for 3 hours on Sunday.",
    "Ben's car drives 30 miles on a gallon.",
)


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        (BIKE, "What's the price tag on the bicycle?"),
        (BIKE, "How much is the bike?"),
        (BIKE, "Could you tell me what the bicycle costs?"),
        (BIKE, "To work this out I still need one thing: the price of the bike."),
        (CARS, "How fast is the second car going?"),
        (CARS, "What is the speed of the other, second car?"),
        (CARS, "At what pace does the second vehicle travel?"),
        (BAKERY, "How many rolls does the bakery make each morning?"),
        (BAKERY, "What's the number of rolls that were baked?"),
        (BAKERY, "How many rolls did the bakery bake before any were sold?"),
        (AQUARIUM, "How much water fits into one tank?"),
        (AQUARIUM, "What is the capacity of each tank?"),
        (AQUARIUM, "How many liters does a tank hold?"),
        (CLASS, "How many students are in the class?"),
        (CLASS, "How large is Mrs. Reed's class?"),
        (CLASS, "How many pupils does she teach?"),
        (HARVEST, "How many more pounds than Sam did Nora pick?"),
        (HARVEST, "By how many pounds was Nora ahead of Sam?"),
        (HARVEST, "How many pounds of apples did Nora pick?"),
        (MARBLES, "How many marbles did Tim start with?"),
        (MARBLES, "What was the initial number of marbles?"),
        (MARBLES, "How many marbles did Tim own before he lost any?"),
        (MARBLES, "How many marbles did Tim have already?"),
        (SALE, "What percentage is taken off the coat?"),
        (SALE, "How many percent off is the coat in the sale?"),
        (TRIP, "How long did Ben drive on Saturday?"),
        (TRIP, "How many hours was Ben driving on Saturday?"),
    ],
)
def test_other_words_for_the_removed_fact_are_on_target(prompt: Prompt, question: str) -> None:
    found = aim(prompt, question)
    assert 2 * found.hits >= found.count > 0, asked(question)
    assert found.repeats == 0


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        (BIKE, "What colour is the bike he wants?"),
        (BIKE, "What brand is the bike?"),
        (BIKE, "How heavy is the bike?"),
        (BIKE, "How old is Leo?"),
        (BIKE, "Why does Leo want the bike?"),
        (BIKE, "How much money is in the piggy bank?"),
        (BIKE, "How much pocket money does Leo get each week?"),
        (BIKE, "How many weeks does he have to save?"),
        (CARS, "How fast is the first car going?"),
        (CARS, "What colour is the second car?"),
        (CARS, "How many people are in the second car?"),
        (CARS, "How far apart are they after 3 hours?"),
        (BAKERY, "How many rolls does the school order?"),
        (BAKERY, "How many rolls are left?"),
        (BAKERY, "What do the rolls cost?"),
        (BAKERY, "When does the bakery open?"),
        (AQUARIUM, "How many tanks does Mia have?"),
        (AQUARIUM, "How many fish are in each tank?"),
        (AQUARIUM, "How much does a tank cost?"),
        (CLASS, "How many pencils does each student need?"),
        (CLASS, "How much does a pencil cost?"),
        (CLASS, "Where is Mrs. Reed's class?"),
        (HARVEST, "How many pounds of apples did Sam pick?"),
        (HARVEST, "What kind of apples did Nora pick?"),
        (MARBLES, "How many marbles did Tim lose?"),
        (MARBLES, "How many marbles did his brother get?"),
        (MARBLES, "How big are the marbles?"),
        (SALE, "How much did the coat cost before the sale?"),
        (SALE, "What size is the coat?"),
        (TRIP, "How long did Ben drive on Sunday?"),
        (TRIP, "How many gallons did Ben need?"),
        (TRIP, "Who drove on Saturday?"),
    ],
)
def test_a_near_miss_is_not_on_target(prompt: Prompt, question: str) -> None:
    found = aim(prompt, question)
    assert found.hits == 0 or 2 * found.hits < found.count, asked(question)


@pytest.mark.parametrize(
    ("question", "sort"),
    [
        ("How much does it cost?", "money"),
        ("What is the price tag?", "money"),
        ("What did Julie spend?", "money"),
        ("How fast does it go?", "speed"),
        ("How long does it take, in minutes?", "time"),
        ("What is the number of hours?", "time"),
        ("Please give me the weight of the box.", "weight"),
        ("How many percent is it?", "share"),
        ("How many times as many?", "factor"),
        ("How often does she go?", "frequency"),
        ("How many apples?", "count"),
        ("Its length, in problems?", "count"),
    ],
)
def test_the_sort_of_quantity_that_a_question_wants(question: str, sort: str) -> None:
    found = wanted(question)
    assert found.measurable
    assert sort in found.sorts


@pytest.mark.parametrize(
    "question",
    [
        *("What colour is it?", "Which brand is the bike?", "Who made it?", "Where is the shop?"),
        *(
            "Why did he buy it?",
            "Does she like tea?",
            "What's on the stickers?",
            "What is his name?",
        ),
    ],
)
def test_what_is_no_quantity_is_no_quantity(question: str) -> None:
    assert not wanted(question).measurable


def test_the_sort_of_a_fact_is_that_of_its_removed_number() -> None:
    """ "10 one-hour videos" with 10 removed is a count, though the hour still stands there."""
    fact = "Ann uploads 10 one-hour videos."
    assert told(fact, fact, frozenset({10})).sorts == {"count"}
    assert number_clauses("Ann has some pens, 3 books.") == ["3 books."]
    assert number_clauses("Mrs. Reed has 3 books.") == ["Mrs. Reed has 3 books."]


def test_a_title_ends_no_question() -> None:
    assert asked("How fast did Ms. Warren run?") == ("How fast did Ms. Warren run?",)


@pytest.mark.parametrize(
    "question", ["How many questions are on the test?", "How much has Gabby saved already?"]
)
def test_words_inside_of_words_are_no_courtesy(question: str) -> None:
    assert asked(question) == (question,)


# ------------------------------------------------------------- kinds that strangers' words showed

WALLS = _prompt(
    "How many cans does Ana need?",
    "Each wall needs one coat of primer and two coats of paint.",
    "Ana has 6 walls.",
    text="Each wall needs one coat of primer and some coats of paint. Ana has 6 walls. How many "
    "cans does Ana need?",
)
PUZZLE = _prompt("What do they cost together?", "A puzzle costs $15.", "A game costs $9.")
TEXT = _prompt(
    "How many minutes does it take?", "The letter has 900 words.", "She types 60 words a minute."
)
BAG = _prompt(
    "How many apples did she give away?",
    "Sara carried a bag with 25 apples to school.",
    "Sara had 3 apples left in the bag at home.",
)
TRIP_LENGTH = _prompt("How far did he go?", "Ed was on an 8-hour trip.", "Ed drove at 70 mph.")
TRAIN = _prompt(
    "How many wheels does it have?",
    "Each carriage has 3 rows of wheels.",
    "It has 4 carriages.",
    "In each row there are 5 wheels.",
)
DRINK = _prompt(
    "How much does he pay?",
    "A soft drink is $3. The burger meal costs $9.",
    "He orders 2 of each.",
    text="A soft drink is $3. The burger meal is on the list. He orders 2 of each. How much does "
    "he pay?",
)
QUIZ = _prompt("How much does he earn?", "Bill writes 20 questions for money.", "Ann writes 9.")


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        (WALLS, "How many layers of paint go on each wall?"),
        (PUZZLE, "What does the puzzle sell for?"),
        (TEXT, "What's the word count of the letter?"),
        (BAG, "How many apples were in the bag at first?"),
        (TRIP_LENGTH, "What was the duration of the trip, in hours?"),
        (DRINK, "What is the price of the burger meal?"),
        (TRAIN, "How many rows of wheels are on each carriage?"),
    ],
)
def test_other_words_of_these_kinds_are_on_target(prompt: Prompt, question: str) -> None:
    assert aim(prompt, question).hits == 1


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        (WALLS, "How many coats of primer does a wall need?"),
        (TRIP_LENGTH, "How fast did he drive?"),
        (TRIP_LENGTH, "At what time did the trip begin?"),
        (TRAIN, "How many wheels are in one row?"),
        (DRINK, "How much is a soft drink?"),
        (DRINK, "What was inside the burger meal?"),
        (QUIZ, "How much does Bill get for each question?"),
    ],
)
def test_near_misses_of_these_kinds_are_off_target(prompt: Prompt, question: str) -> None:
    assert aim(prompt, question).hits == 0
