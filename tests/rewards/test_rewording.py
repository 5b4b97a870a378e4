"""Questions in other words than the problem's, read in the problem's own."""

from __future__ import annotations

import pytest

from icpo_lite.core.types import Intent, Message, Prompt, Shard
from icpo_lite.rewards.fact_reading import read_frame
from icpo_lite.rewards.grading import grade
from icpo_lite.rewards.judge import Judge
from icpo_lite.rewards.question_targets import aim, asked
from icpo_lite.rewards.rewording import reworded, vocabulary
from icpo_lite.rewards.rule_targets import points_at

CIRCUS = (
    "There are 12 dogs on stage. Each dog has new shoes, and Mixing the paint takes Al an hour."
)


@pytest.mark.parametrize(
    ("question", "read"),
    [
        ("How many pooches are there?", "How many dogs are there?"),
        ("How many animals perform?", "How many dogs perform?"),
        ("What about the footwear?", "What about the shoes?"),
        ("How long is he stirring?", "How long is he mixing?"),
        ("How many cats are there?", "How many cats are there?"),  # another animal
        ("How many dogs are there?", "How many dogs are there?"),
        ("How much does Ann get?", "How much does Ann get?"),
    ],
)
def test_a_word_becomes_the_problems_word_for_it(question: str, read: str) -> None:
    assert reworded(question, vocabulary(CIRCUS)) == read


def test_a_word_for_two_of_the_problems_things_stays() -> None:
    known = vocabulary("There are dogs and cats in the yard.")
    assert reworded("How many animals are there?", known) == "How many animals are there?"


@pytest.mark.parametrize(
    "request_",
    [
        "I'd have to know how many pens Ann buys.",
        "It would help me to have the price of a pen.",
        "I'm missing the number of pens.",
        "Could you be more precise about the pens, please?",
        "Would you mind telling me how many pens she buys?",
    ],
)
def test_a_wish_to_know_is_a_request(request_: str) -> None:
    assert len(asked(request_)) == 1


def test_a_question_that_points_back_takes_its_statement_along() -> None:
    assert asked("Al has less than Bo. By how much?") == ("Al has less than Bo. By how much?",)


#: What the learned judge misreads and the rules read.
MISREAD = frozenset({"How many pages of maps did he pass over?"})


def lacking(removed: str, *given: str, goal: str = "How much is left?") -> Prompt:
    shards = [Shard(0, goal, is_question=True), Shard(1, removed)]
    shards += [Shard(i, text) for i, text in enumerate(given, start=2)]
    text = " ".join([*given, goal])
    return Prompt(
        "p", "p", "math", Intent.UNDERSPECIFIED, (Message("user", text),), "7",
        shards=tuple(shards), removed=(shards[1],),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("removed", "given", "on", "off"),
    [
        (
            "John brings 10 photos.",
            "Ann brings 7 photos.",
            "How many pictures does John bring along?",
            "How many photos did John leave at home?",
        ),
        (
            "Ann bought a pair of shoes for $22.",
            "The boots are 50% more expensive.",
            "What was the price tag on the footwear?",
            "How much money did Ann have on her?",
        ),
        (
            "Molly has 3 brothers.",
            "Each brother has 2 kids.",
            "How many brothers has Molly got?",
            "How many sisters has Molly got?",
        ),
        (
            "Rich skipped 16 pages of maps.",
            "Rich has read 125 pages of the book.",
            "How many pages of maps did he pass over?",
            "How many pages does he get through in an evening?",
        ),
        (
            "There are 10 orange flowers.",
            "There are 5 fewer yellow flowers than red flowers.",
            "How many orange blooms are there?",
            "How many flowers are there in all?",
        ),
        (
            "Beth has 72 marbles.",
            "She loses 5 marbles.",
            "What was the number of marbles when she started?",
            "How many marbles can a bag hold?",
        ),
    ],
)
def test_other_words_hit_and_other_quantities_miss(
    removed: str, given: str, on: str, off: str
) -> None:
    prompt = lacking(removed, given)
    frame = read_frame(prompt.removed, prompt.shards, prompt.text)
    assert points_at(on, frame) == "removed"
    assert points_at(off, frame) != "removed"
    assert on in MISREAD or aim(prompt, on).hits == 1
    assert aim(prompt, off).hits == 0


@pytest.mark.parametrize(
    ("reply", "gold"),
    [
        *(("Son once.", "11"), ("Es sind elf.", "11"), ("Sono due.", "2"), ("elf", "11")),
        *(("Il y en a dix.", "10"), ("La réponse est six.", "6"), ("11", "once"), ("six", "6")),
        *(("The answer is not 12; it's 42.", "42"), ("I'd say 41, no wait, 42.", "42")),
    ],
)
def test_lone_number_words_and_numbers_taken_back(reply: str, gold: str) -> None:
    assert grade("math", reply, gold).correct


@pytest.mark.parametrize("reply", ["Ask him once more.", "The elf has it.", "It is due."])
def test_english_words_are_no_foreign_numbers(reply: str) -> None:
    assert not grade("math", reply, "11").correct
    assert not grade("math", reply, "2").correct


@pytest.mark.parametrize(
    "reply",
    ["Elle a quarante-deux stylos.", "Sie hat zweiundvierzig Stifte.", "她有四十二支笔。"],
)
def test_a_statement_with_a_number_in_words_is_an_answer(reply: str) -> None:
    prompt = Prompt("p", "p", "math", Intent.COMPLETE, (Message("user", "How many?"),), "42")
    verdict = Judge().judge(prompt, reply)
    assert verdict.response_type == "answer_attempt"
    assert verdict.correct
