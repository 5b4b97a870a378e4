"""Types of replies: short ones by hand, long ones against labelled turns of eight models."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from icpo_lite.core.types import ResponseType, Shard
from icpo_lite.rewards import feature_weights, features, judge_agreement, question_targets
from icpo_lite.rewards.question_targets import asked
from icpo_lite.rewards.response_type import answers_anyway, classify, explain

DEV = Path(__file__).parents[3] / "shared" / "data" / "lic_turn_types_dev.jsonl"

SHORT: list[tuple[str, str]] = [
    ("3 + 4 = 7. The answer is 7.", "answer_attempt"),
    ("The answer is 7.", "answer_attempt"),
    ("7", "answer_attempt"),
    ("#### 7", "answer_attempt"),
    ("\\boxed{7}", "answer_attempt"),
    ("Ann has 7 apples left.", "answer_attempt"),
    ("So she pays $1,066 in total.", "answer_attempt"),
    ("How many apples does Ann have?", "clarification"),
    ("Please tell me the price of one ticket.", "clarification"),
    ("I need to know how many apples Ann lost. How many did she lose?", "clarification"),
    ("How many apples does Ann have? How many does Ben have?", "interrogation"),
    ("Please provide:\n- the price of a ticket\n- the number of guests", "interrogation"),
    ("It could be 5 or 7.", "hedging"),
    ("The answer is 5, 6, 7 or 8.", "hedging"),
    ("I cannot answer this.", "refusal"),
    ("Sorry, there is not enough information.", "refusal"),
    ("Let us think about apples first.", "discussion"),
    ("", "missing"),
    ("?", "missing"),
    (" \n ", "missing"),
    ("None", "missing"),
]


@pytest.mark.parametrize(("reply", "kind"), SHORT)
def test_short_math_replies(reply: str, kind: str) -> None:
    assert classify(reply, task="math") == kind


def test_a_hidden_thought_counts_for_nothing() -> None:
    assert classify("<think>Maybe 7?</think>How many are there?") == "clarification"
    assert classify("<think>The answer is 7.</think>") == "missing"


def test_a_reply_that_only_repeats_the_shards_is_no_answer() -> None:
    shards = (Shard(0, "How many are left?", True), Shard(1, "Ann has 3 apples."))
    assert classify("Ann has 3 apples.", shards=shards) == "discussion"
    assert classify("Ann has 3 apples.") == "answer_attempt"


def test_evidence_is_the_words_that_decided() -> None:
    assert explain("3 + 4 = 7. The answer is 7.").evidence == "answer is 7"
    assert explain("How many are there?").evidence == "How many are there?"


PLAIN_ANSWERS = [
    "Assuming no other costs, 100 / 4 = 25. Mark needs 25 days.",
    "Assuming that he works every day of the week and that there are no other costs which the "
    "problem does not mention, his profit on each of these days is 10 - 6 = 4 dollars. The phone "
    "costs 100 dollars, and 100 / 4 = 25. Mark needs 25 days.",
    "Bennet has to earn 135 dollars from 25 ears of corn, and he wants to sell all of them at one "
    "price, so we divide what he wants to earn by the number of ears that he has for sale: "
    "135 / 25 = 5.4. Bennet should sell each ear for $5.40",
    "If Chris is 4, then Ben is 2 * 4 = 8. And if Ben is 8, then Caroline is 3 * 8 = 24. "
    "Therefore, Caroline is 24 years old.",
    "To find out how much she has left, we need to subtract what she spent on the two dresses and "
    "the shoes from what she had at the beginning of the day:\n\n$210 - $100 = $110\n\n"
    "Gerald has $110 left.\n\nIf you have any other questions, feel free to ask!",
    "There are twelve eggs.",
]


@pytest.mark.parametrize("reply", PLAIN_ANSWERS)
def test_plain_answers_of_any_length_are_attempts(reply: str) -> None:
    assert classify(reply) == "answer_attempt"


@pytest.mark.parametrize(
    "reply",
    [
        "It depends on the truck. If it carries 1000 pounds, 6000 / 1000 = 6 trucks are needed. If "
        "it carries 2000 pounds, 6000 / 2000 = 3 trucks are needed. With 3000 it would be 2.",
        "For example, suppose that each sprint is 100 meters long. Then he runs 9 of them, which "
        "makes 9 * 100 = 900 meters in a week. Please provide the actual length of one sprint, and "
        "I can tell you how many meters James really runs in a week of training.",
    ],
)
def test_a_result_under_a_supposition_is_no_attempt(reply: str) -> None:
    assert classify(reply) != "answer_attempt"


QUESTIONS = [
    "How many apples would you like me to count?",
    "Would you like the discount applied before or after tax?",
    "Is there anything else that Ann buys?",
    "Do you want the answer in feet or inches?",
    "How many other questions are on the test?",
    "How much further help does he need?",
    "Do you know how many apples Ann has?",
    "Is there anything else you know about the price?",
    "Shall I assume that each month has 30 days?",
    "Should I include the tax?",
    "Is it right that Ann has 5 apples?",
    "Could you help me by telling me the price?",
]
COURTESIES = [
    "Would you like help?",
    "Does this make sense?",
    "Is there anything else I can help you with?",
    "Do you have any other questions?",
    "Would you like me to explain this step by step?",
    "Shall I continue?",
    "Is that right?",
    "How can I help you today?",
    "Would you like to try another problem?",
    "Would you like guidance or details on doing these calculations?",
    "¿Necesita algo más?",
    "Avez-vous d'autres questions ?",
    "Haben Sie noch Fragen?",
    "还有其他问题吗？",
    "他に質問はありますか？",
]


@pytest.mark.parametrize("sentence", QUESTIONS)
def test_a_phrase_of_courtesy_in_a_question_leaves_it_one(sentence: str) -> None:
    assert classify(sentence) == "clarification"
    assert len(asked(f"Ann has 5 apples. {sentence}")) == 1


@pytest.mark.parametrize("sentence", COURTESIES)
def test_a_courtesy_asks_nothing(sentence: str) -> None:
    assert classify(sentence) == "discussion"
    assert asked(sentence) == ()
    assert classify(f"3 + 4 = 7. The answer is 7. {sentence}") == "answer_attempt"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("答案是25。", "answer_attempt"),
        ("所以，马克需要25天。", "answer_attempt"),
        ("3×60=180，180×3=540。因此，詹姆斯每周跑540米。", "answer_attempt"),
        ("请问每个苹果多少钱？", "clarification"),
        ("请告诉我苹果的价格。", "clarification"),
        ("请问有多少个苹果？每个苹果多少钱？", "interrogation"),
        ("信息不足，无法计算。", "refusal"),
        ("假设价格是5元，总共是25元；假设是6元，则是30元。", "hedging"),
        ("首先让我们考虑苹果。", "discussion"),
        ("答えは25です。", "answer_attempt"),
        ("したがって、ジェームズは週に540メートル走ります。", "answer_attempt"),
        ("リンゴはいくつありますか。", "clarification"),
        ("値段を教えてください。", "clarification"),
        ("情報が足りません。", "refusal"),
        ("La respuesta es 25.", "answer_attempt"),
        ("James corre 3 × 60 = 180 metros por sesión. 180 × 3 = 540. Por lo tanto, James corre "
         "540 metros por semana.", "answer_attempt"),
        ("¿Cuántas manzanas tiene Ann?", "clarification"),
        ("¿Cuántas manzanas tiene Ann? ¿Cuántas tiene Ben?", "interrogation"),
        ("Por favor, dígame el precio de una entrada.", "clarification"),
        ("No puedo responder a esto.", "refusal"),
        ("La réponse est 25.", "answer_attempt"),
        ("Donc James court 540 mètres par semaine.", "answer_attempt"),
        ("Combien de pommes Ann a-t-elle ?", "clarification"),
        ("Veuillez préciser le prix.", "clarification"),
        ("Je ne peux pas répondre à cette question.", "refusal"),
        ("Die Antwort lautet 25.", "answer_attempt"),
        ("Also läuft James 540 Meter pro Woche.", "answer_attempt"),
        ("Wie viele Äpfel hat Ann?", "clarification"),
        ("Bitte nennen Sie mir den Preis.", "clarification"),
        ("Das kann ich nicht beantworten.", "refusal"),
        ("Angenommen, der Preis beträgt 5 Euro, dann sind es 25 Euro; bei 6 Euro wären es 30 Euro.",
         "hedging"),
        ("Zuerst denken wir über die Äpfel nach.", "discussion"),
        ("A resposta é 25.", "answer_attempt"),
        ("Quante mele ha Ann?", "clarification"),
        ("Сколько яблок у Анны?", "clarification"),
        ("Ответ: 25", "answer_attempt"),
        ("정답은 25입니다.", "answer_attempt"),
        ("사과가 몇 개 있습니까?", "clarification"),
    ],
)  # fmt: skip
def test_other_languages_are_typed(reply: str, kind: str) -> None:
    assert classify(reply) == kind


@pytest.mark.parametrize(
    ("reply", "task", "kind"),
    [
        ("[get_news(topic='A', quantity=5)]", "actions", "answer_attempt"),
        ("spotify.play(artist='A', duration=3)", "actions", "answer_attempt"),
        ('[{"name": "get_news", "arguments": {"topic": "A"}}]', "actions", "answer_attempt"),
        ("The required parameter 'city' is missing. Please provide the city.", "actions",
         "clarification"),
        ("I need more information about the city before I call it. For now the call would be "
         "[check(instrument='P125', city='')] with the city left open.", "actions",
         "clarification"),
        ("None of the functions can be used.", "actions", "refusal"),
        ("[check(team='Unknown', player_id=3142)]", "actions", "hedging"),
        ("[func_required_param_missing('play', 'duration')]", "actions", "refusal"),
        ("None", "actions", "missing"),
        ("```python\ndef f(x):\n    return x\n```", "code", "answer_attempt"),
        ("def f(x):\n    return x", "code", "answer_attempt"),
        ("Should f sort in place?", "code", "clarification"),
        ("```sql\nSELECT name FROM t\n```", "database", "answer_attempt"),
        ("SELECT name FROM t;", "database", "answer_attempt"),
        ("Which table holds the names? And which year is meant?", "database", "interrogation"),
        ("You select the rows from the table that you want.", "database", "refusal"),
    ],
)  # fmt: skip
def test_other_tasks(reply: str, task: str, kind: str) -> None:
    assert classify(reply, task=task) == kind  # type: ignore[arg-type]


def test_what_is_asked_for() -> None:
    """Items of a list that a request leads in count; courtesies and repeated asks do not."""
    reply = (
        "I need the following details:\n1. The price of a ticket.\n2. The number of guests.\n\n"
        "Does this make sense? Is there anything else?"
    )
    assert question_targets.asked(reply) == ("The price of a ticket.", "The number of guests.")
    assert (
        len(question_targets.asked("I need the price of a ticket. What is the price of a ticket?"))
        == 1
    )
    assert question_targets.asked("The answer is 7.") == ()


def test_an_answer_under_a_question_is_seen() -> None:
    reply = "The total is 40 × 3 = 120. The answer is 120. How many are in a box?"
    assert answers_anyway(reply)
    assert not answers_anyway("There are 3 boxes. How many are in a box?")


def test_scorecard_adds_up() -> None:
    """All features 0 leave the bias; one feature adds its own weight."""
    zero = dict.fromkeys(feature_weights.WEIGHTS, 0.0)
    kind = ResponseType.ANSWER_ATTEMPT
    assert feature_weights.score(kind, zero) == feature_weights.BIAS[0]
    one = zero | {"conclude@tail": 1.0}
    added = feature_weights.WEIGHTS["conclude@tail"][0]
    assert feature_weights.score(kind, one) == pytest.approx(feature_weights.BIAS[0] + added)
    assert set(features.features(features.read("So the answer is 7."))) == set(
        feature_weights.WEIGHTS
    )


# ------------------------------------------------------------------------- labelled real turns

needs_dev = pytest.mark.skipif(not DEV.is_file(), reason="labelled turns are not at hand")


def _typed() -> tuple[list[judge_agreement.Typed], float]:
    from icpo_lite.rewards.judge import Rules

    rows = judge_agreement.read_rows(
        DEV, judge_agreement.Columns(label="response_type", by="source_model")
    )
    return judge_agreement.type_rows(rows, Rules())


@needs_dev
def test_agreement_on_labelled_turns_and_speed() -> None:
    for function in (features.read, question_targets.asked):
        function.cache_clear()
    typed, seconds = _typed()
    math = [t for t in typed if t.row.task == "math"]
    actions = [t for t in typed if t.row.task == "actions"]
    assert judge_agreement.binary_agreement(math) >= 0.93
    assert judge_agreement.binary_agreement(actions) >= 0.93
    assert judge_agreement.macro_f1(math) >= 0.50
    # processor time, with room for a slower machine than the one that measured 6,000 a second
    assert len(typed) / seconds >= 1500


@needs_dev
def test_no_model_is_left_far_behind() -> None:
    typed, _ = _typed()
    for group in {t.row.group for t in typed}:
        part = [t for t in typed if t.row.group == group and t.row.task == "math"]
        assert judge_agreement.binary_agreement(part) >= 0.85, group


@needs_dev
def test_cues_hold_for_models_they_were_not_weighed_on() -> None:
    """Six models weigh the cues, two are scored, four times over: agreement within two points.

    The weights of `scorecard` come from all eight; this fits them anew without the scored two.
    """
    import numpy as np

    rows = [json.loads(line) for line in DEV.read_text().splitlines()]
    rows = [r for r in rows if r["task"] == "math"]
    found = [features.features(features.read(r["assistant"])) for r in rows]
    x = np.array([[1.0, *f.values()] for f in found])
    y = np.array([r["response_type"] == "answer_attempt" for r in rows], dtype=float)
    models = sorted({r["source_model"] for r in rows})
    source = np.array([models.index(r["source_model"]) for r in rows])
    hits = 0
    for first in range(4):
        held_out = np.isin(source, [first, first + 4])
        w = _logistic(x[~held_out], y[~held_out])
        hits += int(((x[held_out] @ w > 0) == (y[held_out] > 0)).sum())
    assert hits / len(rows) >= 0.905


def _logistic(x, y, ridge: float = 1.0, steps: int = 6):  # type: ignore[no-untyped-def]
    """Newton's method for logistic regression with a ridge."""
    import numpy as np

    w = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (y - p) - ridge * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(w))
        w = w + np.linalg.solve(hessian, gradient)
    return w


def test_short_replies_are_typed_fast() -> None:
    """20-word replies, each new to the caches, at 10,000 a second on the machine of the figures."""
    replies = [
        f"Ann has {i} apples and Ben has {i + 1}. {i} + {i + 1} = {2 * i + 1}. "
        f"The answer is {2 * i + 1}."
        for i in range(2000)
    ]
    start = time.process_time()
    for reply in replies:
        classify(reply)
    assert len(replies) / (time.process_time() - start) >= 4000
