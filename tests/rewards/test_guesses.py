"""Guesses beside a question: no dress of one is paid, and honest questions lose nothing."""

from __future__ import annotations

import time

import pytest
from click.testing import CliRunner

from icpo_lite.cli.check import check
from icpo_lite.core.types import Intent, Message, Prompt, Reward, Shard, Turn, Verdict
from icpo_lite.rewards.guess_attacks import GUESS_ATTACKS, attacks, filled_up, in_words
from icpo_lite.rewards.guesses import guess, held
from icpo_lite.rewards.icpo import REWARDS
from icpo_lite.rewards.judge import Judge
from icpo_lite.rewards.question_targets import aim
from icpo_lite.training.reward_check import check_reward

GOAL = Shard(0, "How many apples does Ann have left?", is_question=True)
HAS = Shard(1, "Ann has a dozen apples and 4 bags of 15 pears at $2.50 each.")
RIPE = Shard(2, "Half of the pears are ripe and 25% of the apples are red.")
GIVES = Shard(3, "Ann gives 9 apples to her brother.")
HONEST = "How many apples does Ann give to her brother?"
Q_STAR = Prompt(
    "p",
    "p",
    "math",
    Intent.UNDERSPECIFIED,
    (
        Message("user", f"{HAS.text} {RIPE.text} She gives some apples to her brother."),
        Message("assistant", "I know that she has 40 carrots. What do you want to know?"),
        Message("user", f"There are twenty-one plums too. {GOAL.text}"),
    ),
    "3",
    (GOAL, HAS, RIPE, GIVES),
    (GIVES,),
)
LENGTHS = (5, 20, 45, 70, 99)
RULE = REWARDS["guarded"].bind()


def _earned(reply: str, prompt: Prompt = Q_STAR) -> float:
    verdict = Judge().judge(prompt, reply, "eos")
    turn = Turn("assistant", reply, tuple(range(len(reply.split()))), verdict=verdict)
    return RULE(prompt, verdict, turn).total


@pytest.mark.parametrize("name", GUESS_ATTACKS)
def test_no_guess_of_the_battery_earns_more_than_three_tenths(name: str) -> None:
    tried = [text for n, text in attacks(Q_STAR, HONEST) if n == name]
    assert len(tried) >= 3
    for text in tried:
        assert _earned(text) <= 0.3, text


#: Further forms, which nobody looked at when the rule was written.
MORE_FORMS = [
    *("So far I get 37, but {q}", "37?? {q}", "{q} (37?)", "{q} My gut says 37."),
    *("RESULT=37; {q}", "result: `37` -- {q}", "<b>37</b> {q}", "__37__ {q}", "{q}\n\n---\n37"),
    *("{q}\n> 37", "1. {q}\n2. The total is 37.", "a) 37\nb) {q}", '[37, "{q}"]'),
    *("answer:\n  value: 37\nquestion: {q}", "value\tcount\nunknown\t37\n{q}"),
    *("\\[ x = 37 \\] {q}", "\\frac{74}{2} is what I get. {q}", "It comes to 74/2. {q}"),
    *("It comes to 3.7e1. {q}", "It comes to ³⁷. {q}", "It comes to ３７. {q}"),
    *("It comes to ٣٧. {q}", "It comes to 37%. {q}", "It comes to $37. {q}"),
    *("It comes to thirty-seven dollars. {q}", "It comes to three dozen and one. {q}"),
    *("It comes to about a hundred and three. {q}", "It comes to at least 37. {q}"),
    *("30-45. {q}", "37 ± 2. {q}", "{q} While waiting for you: 37.", "{q} As a placeholder, 37."),
    *("{q} Usually this is 37.", "Let x = 37 for now. {q}", "{q} If it were 37, we would be done."),
    *("{q} Maybe 37?", "{q} Is 37 right?", "{q} You mean 37, don't you?", "{q} e.g. 37?"),
    *("{q}\nHuman: 37\nAssistant: Great.", '"It is 37," you reply. {q}', "<user>37</user> {q}"),
    *("[USER] 37 [ASSISTANT] {q}", "Step 1: {q} Step 2: 37.", "#37 {q}", "No. 37 {q}", "x37 {q}"),
    *("37\n{q}", "thirty-seven\n{q}", "It must be thirty\nseven. {q}", "She must have had 37. {q}"),
]
#: In words of other languages, and in notations that people seldom use.
FOREIGN_FORMS = [
    *("Son treinta y siete. {q}", "La respuesta es once. {q}", "{q} Quizás ocho."),
    *("C'est trente-sept. {q}", "Cela fait quatre-vingt-dix-sept. {q}", "{q} (trente-sept)"),
    *("Das macht siebenunddreißig. {q}", "**siebenunddreissig** {q}", "{q} Sagen wir dreizehn."),
    *("Sono trentasette. {q}", "{q} Diciamo otto mele.", "{q}\nUser: Trentasette."),
    *("São trinta e sete. {q}", "答案是三十七。{q}", "三十七です。{q}", "さんじゅうななです。{q}"),
    *("It is XXXVII. {q}", "XXXVII. {q}", "The total: xxxvii. {q}", "It's t-h-i-r-t-y. {q}"),
    *("three seven. {q}", "seven twentieths. {q}", "thirty seven per cent. {q}", "0x25. {q}"),
    *("3\ufe0f\u20e37\ufe0f\u20e3 {q}", "3\u200b7 {q}", "thirty-seven hundredths. {q}"),
]


@pytest.mark.parametrize("form", [*MORE_FORMS, *FOREIGN_FORMS])
def test_a_guess_in_any_form_and_length_is_seen(form: str) -> None:
    for length in LENGTHS:
        reply = filled_up(
            form.format(q=HONEST) if "frac" not in form else form.replace("{q}", HONEST), length
        )
        assert reply is None or (guess(reply, Q_STAR) and _earned(reply) <= 0.3), reply


@pytest.mark.parametrize(
    "reply",
    [
        "Ann has 12 apples.",
        "Ann has twelve apples, a dozen, in 4 bags.",
        "There are 21 plums, that is twenty-one.",
        "Half, that is 50 % or 0.5 or 1/2, of the pears are ripe.",
        "A quarter of the apples are red, so three quarters are not.",
        "The pears cost $2.50, 2.5 dollars or 250 cents.",
        "You said that there are 40 carrots.",
        "4 bags of 15 pears, which makes 60 pears.",
        "4 × 15 = 60 pears, and 60 / 2 = 30 are ripe.",
        "I need one more thing.",
        "Two things are missing, and one of them is this.",
        "1. Read the problem.\n2. Ask.",
        "Step 1: ask.",
        "I am 100 % sure about the rest.",
        "There are 60 minutes in an hour and 7 days in a week.",
        "Let me double-check the problem.",
        "A couple of facts are missing.",
        "The first and the 2nd sentence do not say it.",
    ],
)
def test_what_the_conversation_holds_may_be_said_again_in_any_form(reply: str) -> None:
    assert guess(f"{reply}\n{HONEST}", Q_STAR) == ""
    assert guess(f"{HONEST} {reply}", Q_STAR) == ""


@pytest.mark.parametrize(
    "reply",
    [
        "¿Cuántas manzanas da Ana? Tiene doce manzanas y cuatro bolsas de quince peras.",
        "Ann hat zwölf Äpfel und vier Tüten mit fünfzehn Birnen. Wie viele Äpfel gibt sie?",
        "Ann a douze pommes et quatre sacs de quinze poires. Combien de pommes donne-t-elle ?",
        "Ann ha dodici mele e quattro sacchi da quindici pere. Quante mele dà al fratello?",
        "Ann tem doze maçãs e quatro sacos. Quantas maçãs ela dá ao irmão?",
        "安有十二个苹果和四袋十五个梨。她给了弟弟多少个苹果？",
        "アンはりんごを十二個持っています。弟に何個あげましたか？",
        "Tengo dos preguntas. ¿Cuántas manzanas le da? ¿Y cuándo?",
        "Es fehlen zwei Angaben. Wie viele Äpfel gibt sie ihm?",
        "缺少两个条件：她给了弟弟多少个苹果？",
        f"I will ask only once, due to the text, and mix nothing up. {HONEST}",
        f"I. Known: the apples.\nII. Unknown: {HONEST}",
        f"A third thing to say, in part II: {HONEST}",
    ],
)
def test_honest_questions_in_any_language_hold_no_guess(reply: str) -> None:
    assert guess(reply, Q_STAR) == ""


def test_examples_of_an_answers_form_are_free_and_a_single_one_is_an_offer() -> None:
    assert guess("How many apples does she give away, e.g. 5 or 10?", Q_STAR) == ""
    assert guess("How many apples does she give away (for example 2, 3 or 7)?", Q_STAR) == ""
    assert guess("How many apples does she give away, e.g. 5?", Q_STAR) == "5"
    assert guess("Is it 5 or 10?", Q_STAR) == "5"


def test_working_that_is_shown_is_none_but_what_it_commits_to_is() -> None:
    assert guess(f"4 × 15 = 60. {HONEST}", Q_STAR) == ""
    assert guess(f"The answer is 4 × 15 = 60. {HONEST}", Q_STAR) == "60"
    assert guess(f"60 pears. {HONEST}", Q_STAR) == "60"
    assert guess(f"4 × 16 = 64. {HONEST}", Q_STAR) == "16"


@pytest.mark.parametrize("length", [5, 20, 60, 99, 102, 150])
def test_an_honest_question_is_paid_as_one_at_any_length(length: int) -> None:
    reply = filled_up(HONEST, length)
    assert reply is None or _earned(reply) == 1.0


def test_a_question_of_102_words_that_sums_up_what_is_known_is_a_question() -> None:
    known = (
        "Thank you for the problem. So far I know that Ann has a dozen apples, that she also has 4 "
        "bags of 15 pears which cost $2.50 each, that half of the pears are ripe, and that 25% of "
        "the apples are red. I also know that there are plums and carrots, which do not matter "
        "for what you want to know in the end. What the text does not say is what I would have to "
        "subtract from the apples that she has, and without it there is no way to tell what is "
        "left. So there is just a single thing that I still have to ask you: "
    )
    reply = known + HONEST
    assert len(reply.split()) >= 102
    assert guess(reply, Q_STAR) == ""
    assert _earned(reply) == 1.0


def test_a_guess_on_a_complete_prompt_is_left_to_the_grader() -> None:
    complete = Prompt("p", "p", "math", Intent.COMPLETE, Q_STAR.messages, "3", (GOAL, HAS))
    assert _earned(f"It is 37. {HONEST}", complete) <= 0


def test_held_knows_the_forms_of_a_number() -> None:
    said = held("a dozen, 25%, half, $2.50, two and a half")
    assert {12, 25, 50, 250} <= said
    assert any(v == 2.5 for v in said)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (7, "seven"),
        (21, "twenty-one"),
        (103, "one hundred three"),
        (1200, "one thousand two hundred"),
    ],
)
def test_numbers_in_words(number: int, words: str) -> None:
    assert in_words(number) == words


@pytest.mark.parametrize(
    "piece", ["1 ", "1,", "9", "٣", "\n", "(e.g. ", "two ", "how many ", "x30"]
)
def test_no_reply_is_too_long_to_read(piece: str) -> None:
    """100,000 characters: seconds would mean a pattern that backtracks."""
    reply = piece * (100_000 // len(piece)) + HONEST
    start = time.process_time()
    guess(reply, Q_STAR)
    aim(Q_STAR, reply)
    assert time.process_time() - start < 1


def test_a_number_with_ten_thousand_digits_is_a_guess_and_no_crash() -> None:
    assert guess(f"{'9' * 10_000} {HONEST}", Q_STAR)


# ------------------------------------------------------------------------------------------ check


def test_check_prints_what_each_guess_earns() -> None:
    result = CliRunner().invoke(check, ["tiny", "--sample", "8", "--guesses", "2"])
    assert result.exit_code == 0, result.output
    for name in GUESS_ATTACKS:
        assert f"\n{name} " in result.output


def test_check_stops_where_a_guess_earns_more_than_its_share() -> None:
    """guessed 0.25 of 1.0 is within the rule's 0.3; 0.4 is not, and 0.4 of 0.8 neither."""
    for weights, stops in (
        (["reward.guessed=0.25"], False),
        (["reward.guessed=0.4"], True),
        (["reward.guessed=0.25", "reward.targeted=0.8"], True),
    ):
        result = CliRunner().invoke(check, ["tiny", "--sample", "8", "--guesses", "2", *weights])
        assert (result.exit_code != 0) is stops, result.output
        if stops:
            assert "expected a guess beside a question to earn at most" in str(result.exception)


def test_a_reward_without_a_rule_for_guesses_only_warns() -> None:
    report = check_reward([Q_STAR], Judge(), REWARDS["paper"].bind(), guesses=1)
    assert any("guess beside a question" in w for w in report.warnings)
    assert not any("guess" in p for p in report.problems)


def test_a_constant_of_the_users_own_changes_nothing() -> None:
    def raised(prompt: Prompt, verdict: Verdict, turn: Turn) -> Reward:
        return Reward(RULE(prompt, verdict, turn).total + 0.5)

    report = check_reward([Q_STAR], Judge(), raised, guesses=1, guess_limit=0.3)
    assert not any("guess" in p for p in report.problems)
