"""What a question asks for, against the fact that was removed: other words, and near misses."""

from __future__ import annotations

import pytest

from icpo_lite.core.types import Intent, Message, Prompt, Shard
from icpo_lite.rewards.asked_quantity import wanted
from icpo_lite.rewards.fact_reading import number_clauses
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
    assert 2 * aim(prompt, question).hits >= found.count > 0, asked(question)
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


# ------------------------------------------------- a given statement that shares what is asked for

GYM = _prompt(
    "How much does Ivy pay in a year?",
    "The small gym costs $20 a month.",
    "The small gym has a joining fee of $35.",
    "The big gym costs twice as much.",
)
LOST = _prompt(
    "How many pens does Olga have now?", "Olga had 14 pens.", "Today, Olga got 5 more and lost 3."
)
LOCKS = _prompt(
    "How long does it take her to open all of them?",
    "Una opens a small lock in 4 minutes and a large lock in 9 minutes.",
    "Una has 2 locks of each kind.",
    text="Una opens a small lock in several minutes and a large lock in 9 minutes. Una has 2 locks "
    "of each kind. How long does it take her to open all of them?",
)
NOTES = _prompt(
    "How much money is that?",
    "Paul has 6 bills of 5 dollars and 2 bills of 20 dollars.",
    "Paul keeps his bills in a box.",
    text="Paul keeps his bills in a box. Paul has bills of 5 dollars and 2 bills of 20 dollars. "
    "How much money is that?",
)
RAFFLE = _prompt(
    "How much did the club collect?",
    "The club sold 40 raffle tickets to raise money for a trip.",
    "Each raffle ticket cost $3. A neighbor gave $50.",
)
RUN = _prompt(
    "How many miles do they run together?", "Lea runs 6 miles more than Max.", "Max runs 9 miles."
)
SOLDIER = _prompt(
    "How old was he when he retired?",
    "It took Roy 7 years to become a captain.",
    "Roy joined the army when he was 19.",
    "Roy then spent 12 years more in the army.",
)
GYMNAST = _prompt(
    "How long did she train?",
    "Kim trained for 45 minutes on each of six days.",
    "Kim is 12.",
    text="Kim trained for several minutes on each of six days. Kim is 12. How long did she train?",
)
PACKS = _prompt(
    "How many shirts did Eva buy?",
    "Eva bought 4 packs of green shirts.",
    "The red shirts come in packs of 5, and the green shirts come in packs of 3.",
    "Eva bought 2 packs of red shirts.",
)
OFFER = _prompt(
    "Which box is cheaper?",
    "The other box has 90 pens for $27.",
    "One box has 60 pens for $20.",
    text="One box has 60 pens for $20. The other box has pens for $27. Which box is cheaper?",
)
BOOK = _prompt("How many hours does she need?", "Her book has 320 pages.", "She reads 40 an hour.")
PARTY = _prompt("How much do they spend?", "Ned invited 18 people.", "Each snack costs $2.")
MARATHON = _prompt(
    "How far apart are the stands?", "The marathon is 24 miles long.", "There are 5 water stands."
)
PUMPKIN = _prompt("How heavy is Otto?", "Nina weighs 130 pounds.", "Nina and Otto like pumpkins.")
SNAIL = _prompt(
    "How far do they get in 5 minutes?",
    "The green frog can jump 12 meters in one minute.",
    "The brown frog jumps 9 meters per minute.",
)
DOLLS = _prompt("How many does she have now?", "Bea had 15 dolls.", "Bea gave 4 dolls to Lin.")
LUNCH = _prompt("How many did she eat?", "At noon, Cleo had 6 plums remaining.", "Cleo took 9.")
CLOUDS = _prompt("How many birds are there?", "There are 3 ravens.", "There are 8 swallows.")
RABBITS = _prompt("How many animals are there?", "The farm has 12 rabbits.", "It has 5 ducks.")
SHIFT = _prompt("How much did he keep?", "The fair made $900 from tickets.", "Rent cost $200.")
MASKS = _prompt("How long does a pack last?", "They change masks every 4 days.", "A pack has 50.")


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        (GYM, "What's the monthly price of the small gym?"),
        (LOST, "How many did Olga start out with, before she got any more?"),
        (LOCKS, "How quickly can she open a small lock?"),
        (NOTES, "How many fives does Paul have?"),
        (RAFFLE, "How many tickets did they manage to sell?"),
        (SOLDIER, "After how long did Roy become a captain?"),
        (GYMNAST, "How many minutes a day did Kim train?"),
        (PACKS, "What's the number of green packs?"),
        (OFFER, "How many pens are in the $27 box?"),
        (BOOK, "How long is the book?"),
        (BOOK, "How thick is the book, in pages?"),
        (PARTY, "How long is Ned's guest list?"),
        (MARATHON, "How long is the whole race?"),
        (PUMPKIN, "What does the scale say for Nina?"),
        (SNAIL, "What's the green one's jumping speed per minute?"),
        (DOLLS, "What size was Bea's collection to begin with, before she gave any away?"),
        (LUNCH, "Could you tell me what Cleo was left with when noon came around?"),
        (CLOUDS, "I'd need to know the raven count — what is it?"),
        (RABBITS, "Hey, how many bunnies are on the farm?"),
        (PUZZLE, "Hi, what do the puzzles go for apiece?"),
        (BIKE, "How much would the bike set him back?"),
        (SHIFT, "How much did the fair take in from tickets?"),
        (MASKS, "How often do they change their masks?"),
    ],
)
def test_a_quantity_asked_in_a_turn_of_speech_is_on_target(prompt: Prompt, question: str) -> None:
    assert aim(prompt, question).hits == 1, asked(question)


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        (GYM, "How much is the one-time joining charge at the small gym?"),
        (LOST, "How many pens did Olga lose today?"),
        (LOCKS, "How many minutes does it take Una to open a large lock?"),
        (NOTES, "How many twenty-dollar bills are in the box?"),
        (RAFFLE, "What was the price of a single raffle ticket?"),
        (RUN, "How long did it take Lea to run that distance?"),
        (SOLDIER, "How many more years did he spend after becoming a captain?"),
        (GYMNAST, "For how many days did Kim train?"),
        (PACKS, "How many red packs did Eva buy?"),
        (OFFER, "What's the price of the box with 60 pens?"),
        (DOLLS, "How many dolls did Lin get?"),
        (SNAIL, "How fast does the brown frog jump?"),
        (MASKS, "How many masks are in a pack?"),
    ],
)
def test_what_a_given_statement_says_is_off_target(prompt: Prompt, question: str) -> None:
    assert aim(prompt, question).hits == 0, asked(question)


WINDOWS = _prompt(
    "How many minutes does Dave need to wash all of the windows?",
    "Dave's house has 64 windows.",
    "Dave washes 4 windows in 10 minutes.",
)
PARCELS = _prompt(
    "How many dollars a mile does Marsha get?",
    "Marsha drives 10 miles to deliver her first package.",
    "Marsha drives 28 miles to deliver her second package.",
    "Marsha gets $104 for the day.",
)
PAY = _prompt(
    "How many dollars a mile does Marsha get?",
    "Marsha gets $104 for the day.",
    "Marsha drives 28 miles to deliver her packages.",
)
EGGS = _prompt("How much did Tim pay for the eggs?", "Eggs cost $0.50 each.", "Tim buys 36 eggs.")
STEPS = _prompt(
    "How many steps did Toby walk on the two days?",
    "On Sunday Toby walked 9,400 steps.",
    "On Monday Toby walked 9,100 steps.",
)
LADDER = _prompt(
    "How many rungs does Jamie climb to get the cat down?",
    "One day a call comes from Mrs. Thompson, an elderly woman whose cat is up a 20-foot tree.",
    "Jamie climbed 12 rungs of his ladder to get a cat from a 6-foot tree.",
)
STICKERS = _prompt(
    "How many students are in the class?",
    "Mary brought 50 stickers to class.",
    "Mary gave everyone in class two stickers.",
    "Mary has 8 stickers left over.",
)
GLASSES = _prompt(
    "How many of the students wear neither?",
    "25% of the students wear glasses.",
    "There are 40 students in the 6th grade.",
)


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        (WINDOWS, "How many windows are there in his house?"),
        (PARCELS, "How far is it to the first package?"),
        (PAY, "What does Marsha make for the day?"),
        (EGGS, "What is the price of one egg?"),
        (STEPS, "What was his step count on Sunday?"),
        (LADDER, "How tall is Mrs. Thompson's tree?"),
        (STICKERS, "How many stickers did Mary start out with?"),
        (GLASSES, "How many of the students have glasses?"),
        (GLASSES, "What percentage of the students wear glasses?"),
    ],
)
def test_who_has_it_how_it_is_counted_and_where_it_stands_in_a_row_fit(
    prompt: Prompt, question: str
) -> None:
    assert aim(prompt, question).hits == 1


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        (WINDOWS, "How many rooms does the house have?"),
        (PARCELS, "How far is the drive to the second package?"),
        (PAY, "What does she get per hour?"),
        (EGGS, "How much did he pay in total?"),
        (STEPS, "How many miles did he walk on Sunday?"),
        (LADDER, "How tall was the tree that he climbed first?"),
        (STICKERS, "How many pencils did Mary bring to class?"),
        (GLASSES, "How many dollars do the glasses cost?"),
    ],
)
def test_another_thing_place_unit_or_rate_of_the_same_story_is_off_target(
    prompt: Prompt, question: str
) -> None:
    assert aim(prompt, question).hits == 0


# --------------------------------------------------------- near misses that share the fact's words

SOLD = _prompt("How many did she sell?", "On Monday, Ina sold 12 cakes.", "On Friday she sold 9.")
TV = _prompt("How long is that?", "They watched 10 hours of films last week.", "They ate 4 pies.")
JAR = _prompt("How many are there now?", "There were 90 sweets in a jar.", "Una took 24 sweets.")
SEASON = _prompt("How many points?", "The team has played 15 games.", "The season has 20 games.")
SCORES = _prompt(
    "What is Gus's score?", "Gus scored 10 points higher than Jon.", "Jon scored twice as Hal did."
)
BATCH = _prompt(
    "How long did it take?", "Cora made 4 batches of muffins.", "A batch takes 9 hours."
)
RENT = _prompt("How much is saved?", "Zoe spent $133 on her rent.", "Zoe put a third in the bank.")
BALLS = _prompt(
    "How many balls are there?",
    "The alley has 30 red balls.",
    "It has 6 more green balls than red.",
)
GYMS = _prompt(
    "What does all of it cost?", "A bike costs $700.", "A treadmill costs twice as much as a bike."
)
BUTTONS = _prompt("How many has Sue?", "Mari made 8 buttons.", "Ken made 4 more than Mari.")
TOWNS = _prompt("How many live in Ada?", "Ada, Bly and Coy have 900 people.", "Bly has a third.")
PETS = _prompt("How many pets are there?", "Al has 12 cats and dogs.", "Two thirds are cats.")
HOUSES = _prompt("What does it cost?", "Each birdhouse takes 7 boards.", "A board costs $2.")
DRIVES = _prompt(
    "How far does he go?",
    "He drives at 30 miles per hour for 3 hours.",
    "He drives at 25 miles per hour for 4 hours.",
    text="He drives at 30 miles per hour for several hours. He drives at 25 miles per hour for 4 "
    "hours. How far does he go?",
)
SHOPPING = _prompt(
    "How much is left?", "Mila spent $25.", "Their mom gave them $100.", "Cleo spent $35."
)
RACE = _prompt(
    "How fast was the winner?",
    "The last three took 35 seconds on average.",
    "All four took 30 seconds on average.",
)


@pytest.mark.parametrize(
    ("prompt", "kind", "on", "off"),
    [
        (SOLD, "time", "How many cakes did Ina sell on Monday?", "How many did Ina sell Tuesday?"),
        (
            TV,
            "time",
            "How many hours of films did they watch last week?",
            "How many hours of films did they watch the week before last?",
        ),
        (
            JAR,
            "added",
            "How many sweets were in the jar at first?",
            "How many sweets did Una put back into the jar?",
        ),
        (
            SEASON,
            "whole",
            "How many games has the team played?",
            "How many games does the team play in the entire season?",
        ),
        (
            SCORES,
            "other side",
            "By how many points did Gus beat Jon?",
            "How many points did Jon score?",
        ),
        (
            BATCH,
            "holds",
            "How many batches of muffins did Cora make?",
            "How many muffins are in each batch?",
        ),
        (RENT, "goes out", "How much rent does Zoe pay?", "What does Zoe earn?"),
        (BALLS, "thing", "How many red balls are there?", "How many green balls has the alley?"),
        (GYMS, "relation", "How much is one bike?", "How much does a treadmill cost?"),
        (
            BUTTONS,
            "difference",
            "How many buttons did Mari make?",
            "How many more buttons than Mari did Ken make?",
        ),
        (
            TOWNS,
            "one of them",
            "How many people do Ada, Bly and Coy have together?",
            "How many people does Coy have?",
        ),
        (PETS, "one of them", "How many cats and dogs does Al have?", "How many cats has Al?"),
        (
            HOUSES,
            "several",
            "How many boards does each birdhouse take?",
            "How many boards do two birdhouses take?",
        ),
        (
            DRIVES,
            "number",
            "For how many hours does he drive at 30 mph?",
            "For how many hours does he drive at 25 mph?",
        ),
        (SHOPPING, "relative", "What did Mila spend?", "How much did their mother give them?"),
        (
            RACE,
            "mean",
            "What was the average of the last three?",
            "How many seconds did the last one take?",
        ),
    ],
)
def test_another_quantity_in_the_words_of_the_fact_is_off_target(
    prompt: Prompt, kind: str, on: str, off: str
) -> None:
    assert aim(prompt, on).hits == 1, kind
    assert aim(prompt, off).hits == 0, kind
