"""Replies to actions, code and database tasks: an answer in any form is an attempt."""

import pytest
from test_call_formats import FORMATS, TWO, TYPED

from icpo_lite.rewards.response_type import classify


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("calls", [TYPED, TWO], ids=["typed", "two"])
def test_a_call_in_any_format_is_an_attempt(form, calls):
    assert classify(FORMATS[form](calls), task="actions") == "answer_attempt"


@pytest.mark.parametrize(
    "reply",
    [
        "    return [x for x in numbers if x > 0]",
        "return [x for x in numbers if x > 0]",
        "    total = 0\n    for x in xs:\n        total += x\n    return total",
        "total = 0\n    for x in xs:\n        total += x\n    return total",
        "```python\ndef f(x):\n    return x\n```",
        "def f(x):\n    return x",
        "Here is the solution:\n\ndef f(x):\n    return x\n\nIt works.",
    ],
)
def test_code_is_an_attempt_with_and_without_its_header(reply):
    assert classify(reply, task="code") == "answer_attempt"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("Which separator should the function use?", "clarification"),
        ("What should it return for an empty list? And are the numbers sorted?", "interrogation"),
        ("I cannot write this.", "refusal"),
        ("", "missing"),
    ],
)
def test_words_are_no_code(reply, kind):
    assert classify(reply, task="code") == kind


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("SELECT name FROM t WHERE x = 1", "answer_attempt"),
        ("SQL: SELECT name FROM t", "answer_attempt"),
        ("Here it is:\n\nSELECT name\nFROM t", "answer_attempt"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "answer_attempt"),
        ("```sql\nselect count(*) from t\n```", "answer_attempt"),
        ("With which year from the table should I compare?", "clarification"),
        ("Which country do you mean?", "clarification"),
    ],
)
def test_queries_and_questions_about_them(reply, kind):
    assert classify(reply, task="database") == kind
