"""Replies as chat models word them, graded by hand: what the default judge makes of each kind."""

from __future__ import annotations

import pytest

from icpo_lite.core.types import Intent, Message, Prompt
from icpo_lite.rewards.judge import Judge
from icpo_lite.rewards.linear_judge import LinearTyper

TEXT = "Maria has 6 crates with 7 apples each. How many apples does she have?"
PROMPT = Prompt("p", "p", "math", Intent.COMPLETE, (Message("user", TEXT),), "42")


def judged(reply: str) -> tuple[str, bool]:
    verdict = Judge(typer=LinearTyper()).judge(PROMPT, reply)
    return verdict.response_type.value, bool(verdict.correct)


RIGHT = {
    "plain sentences and an offer": "To find out how many apples Maria has, we start with what is "
    "given: she has 6 crates, and every one of them holds 7 apples. Because each crate holds the "
    "same number, we can multiply instead of adding again and again. 6 groups of 7 is the same as "
    "7 + 7 + 7 + 7 + 7 + 7, which equals 42. The total number of apples is 42.\n\nLet me know if "
    "you'd like to see another method!",
    "asks itself": "Maria has 6 crates. Each has 7 apples. Wait, is it possible that some of the "
    'crates are not full? The problem says "7 apples each", so no. Total: 6*7 = 42 apples.\n\nHmm, '
    "but what if the question asked about pears? No, it says apples. I'm going with 42.",
    "thought, then an answer": "<think>\n6 times 7. 42. Wait, 43? No.\n</think>\n\n**Answer:** 42",
    "lone end of thought": "Okay: 6*7=42.\n</think>\n\nMultiply:\n\\[6 \\times 7\\]\n\\boxed{42}",
    "channels": "<|channel|>analysis<|message|>6*7<|end|><|start|>assistant<|channel|>final"
    "<|message|>Maria has 42 apples.",
    "steps as headings": "## Step 1: Read\n6 crates of 7.\n\n## Step 2: Multiply\n6 * 7 = 42\n\n"
    "The final answer is: $\\boxed{42}$",
    "a table": "| crates | apples | total |\n|---|---|---|\n| 6 | 7 | 42 |\n\nTotal = 42",
    "steps with if": "You will save $0.5 for each pot, so if you buy 4 pots, you will "
    "save $0.5 x 4 = $2.\nSo, if you buy 2 tubs of ice cream at $20 less, you will save 2 x $20 = "
    "$40.\nTherefore, if you buy 2 tubs of ice cream and 4 pots of milk, you will save a total of "
    "$40 + $2 = $42\n",
    "corrected": "I get 48. Actually, let me recompute: 6 × 7 = 42. So 42.",
    "French, and a courtesy": "On multiplie le nombre de caisses par le nombre de pommes dans "
    "chaque caisse : 6 × 7 = 42. Maria a donc 42 pommes au total. N'hésitez pas si vous avez "
    "d'autres questions !",
    "German, and an offer": "Wir multiplizieren die Anzahl der Kisten mit der Anzahl der Äpfel: "
    "6 · 7 = 42. Maria hat also 42 Äpfel. Möchten Sie noch weitere Fragen stellen?",
    "Spanish words": "La respuesta es cuarenta y dos.",
    "German words": "Die Antwort ist zweiundvierzig.",
    "French words": "La réponse est quarante-deux.",
    "Chinese words": "答案是四十二。",
    "Italian words": "Moltiplichiamo le casse per le mele. Maria ha quarantadue mele.",
}


@pytest.mark.parametrize("kind", RIGHT)
def test_a_right_answer_is_one(kind: str) -> None:
    assert judged(RIGHT[kind]) == ("answer_attempt", True)


HEDGES = [
    "If there are 6 crates, the answer is 42; if there are 5, it is 35.",
    "We can't know how many crates Maria has. If she has 5 crates, she would have 5 × 7 = 35 "
    "apples. If she has 6 crates, she would have 6 × 7 = 42 apples. If she has 10, it would be 70 "
    "apples. So depending on the crates, the answer would be 35, 42 or 70.",
    "It could be 42 or 35, depending on the number of crates.",
]


@pytest.mark.parametrize("reply", HEDGES)
def test_an_answer_for_each_case_is_a_hedge(reply: str) -> None:
    assert judged(reply)[0] == "hedging"


QUESTIONS = [
    "In order to determine the total, could you specify the following:\n- the number of crates\n"
    "- the number of apples in each crate",
    "Need the crate count to proceed — what is it?",
    "Hey! Quick check before I crunch the numbers, because I don't want to give you something "
    'wrong: the message says "each crate has 7 apples" but I do not see anywhere in there how many '
    "crates we are dealing with here. What's the crate count?",
    "Para resolver este problema me falta un dato: cada caja tiene 7 manzanas, pero no se dice "
    "cuántas cajas tiene María. ¿Me podrías decir cuántas cajas son?",
]


@pytest.mark.parametrize("reply", QUESTIONS)
def test_what_asks_the_user_is_a_question(reply: str) -> None:
    assert judged(reply)[0] in ("clarification", "interrogation")
