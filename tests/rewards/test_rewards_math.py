"""Math grading: numbers as people write them, the answer a reply commits to, real answers."""

from __future__ import annotations

import json
import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import math, math_verify
from icpo_lite.rewards.grading import GradingOptions, grade
from icpo_lite.rewards.response_type import classify

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("18", Fraction(18)),
        ("18.0", Fraction(18)),
        ("$18.00", Fraction(18)),
        ("-3", Fraction(-3)),
        ("−3", Fraction(-3)),
        ("-$3", Fraction(-3)),
        ("1,234,567.5", Fraction(2469135, 2)),
        (".5", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
        ("2 1/2", Fraction(5, 2)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("\\dfrac{3}{4}", Fraction(3, 4)),
        ("\\frac34", Fraction(3, 4)),
        ("5,\\!000", Fraction(5000)),
        ("5{,}000", Fraction(5000)),
        ("\\$2{,}100", Fraction(2100)),
        ("40\\%", Fraction(40)),
        ("2 million", Fraction(2000000)),
        ("1e3", Fraction(1000)),
        ("twelve", Fraction(12)),
        ("a dozen eggs", Fraction(12)),
        ("10 - 3", Fraction(3)),
    ],
)
def test_a_number_as_written(written: str, value: Fraction) -> None:
    found = math.values(math.tidy(written))
    assert found[-1][0].amount == value


@pytest.mark.parametrize(
    ("given", "gold", "right"),
    [
        ("18", "18", True),
        ("$18.00", "18", True),
        ("18 apples", "#### 18", True),
        ("17", "18", False),
        ("40%", "40", True),
        ("40%", "0.4", True),
        ("0.4", "40%", True),
        ("0.4", "40", False),
        ("1,000", "1000", True),
        ("0.33", "1/3", True),
        ("0.3", "1/3", False),
        ("33.3", "33", False),
        ("18", "steps\n#### 1,018", False),
        ("-5", "5", False),
    ],
)
def test_equality(given: str, gold: str, right: bool) -> None:
    assert math.equal(given, gold) is right


@pytest.mark.parametrize(
    ("reply", "extracted"),
    [
        ("3 + 4 = 7. The answer is 7.", "7"),
        ("\\boxed{5} no, \\boxed{7}", "7"),
        ("\\boxed{\\frac{3}{4}}", "3/4"),
        ("\\boxed{3 \\text{ trucks}}", "3"),
        ("It is 5.\n#### 7", "7"),
        ("The answer is 5. Wait, the answer is 7.", "7"),
        ("**Answer:** 3 trucks for all 80 stones", "3"),
        ("**3 trucks** are needed to carry all 80 stones.", "3"),
        ("Therefore, Ann pays $1,066 for 44 seniors.", "$1,066"),
        ("So it takes him 4 weeks to fill the 84 holes.", "4"),
        ("Total = 40 + 36 + 46 = 122 crabs", "122"),
        ("She has 7 left. Let me know if you have 2 more questions!", "7"),
        ("The answer is seven.", "seven"),
        ("No number here.", None),
        ("", None),
    ],
)
def test_extraction(reply: str, extracted: str | None) -> None:
    assert math.extract(reply) == extracted


def test_division_by_zero_is_no_number() -> None:
    assert math.values("1/0") == []


@given(st.integers(-(10**12), 10**12))
def test_any_integer_is_read_back(number: int) -> None:
    for written in (str(number), f"{number:,}", f"\\boxed{{{number}}}", f"The answer is {number}."):
        extracted = math.extract(written)
        assert extracted is not None
        assert math.equal(extracted, str(number))


@given(st.text(max_size=300))
def test_no_text_breaks_extraction(reply: str) -> None:
    math.extract(reply)
    grade("math", reply, "7")


def test_a_long_row_of_digits_and_a_huge_exponent_take_no_time() -> None:
    start = time.process_time()
    grade("math", "1" * 4000, "7")
    grade("math", "1e999999999", "7")
    grade("math", "-" * 20000 + "1 " * 20000, "7")
    assert time.process_time() - start < 2


def test_gold_without_a_number_is_an_error_that_names_the_row() -> None:
    with pytest.raises(GraderError, match=r"file\.jsonl:17: expected"):
        grade("math", "7", "", row="file.jsonl:17")


def test_symbolic_answers_compare_as_written_without_math_verify() -> None:
    options = GradingOptions(math_verify=False)
    for reply, gold, right in [
        ("\\boxed{(3, 4)}", "(3,4)", True),
        ("\\boxed{4}", "(3,4)", False),
        ("\\boxed{2\\pi}", "2\\pi", True),
        ("\\boxed{\\dfrac{\\pi}{2}}", "\\frac{\\pi}{2}", True),
        ("The answer is 2.", "2\\pi", False),
    ]:
        assert grade("math", reply, gold, options=options).correct is right


def test_lics_rule_keeps_its_faults() -> None:
    """METHOD: "$100.00" becomes "$1"."""
    compat = GradingOptions(math_rule="compat")
    assert math.lic_equal("3 trucks", "#### 3")
    assert math.lic_equal("$2,100", "#### 2100")
    assert not math.lic_equal("$100.00", "#### 100")
    assert grade("math", "The answer is $100.00", "100").correct
    assert not grade("math", "The answer is $100.00", "100", options=compat).correct


# --------------------------------------------------------------------- forms, said and as gold

FORMS = [
    ("3\u2009360", "3360"),
    ("3\u00a0360", "3360"),
    ("3\u202f360", "3360"),
    ("3 360", "3360"),
    ("3\\,360", "3360"),
    ("3\\ 360", "3360"),
    ("3~360", "3360"),
    ("1'234", "1234"),
    ("１２", "12"),
    ("１，２００", "1200"),
    ("٣٣", "33"),
    ("१२", "12"),
    ("1.234,50", "1234.5"),
    ("1.234.567", "1234567"),
    ("5,40 €", "5.4"),
    ("0,75", "0.75"),
    ("18 \\text{ cm}^2", "18"),
    ("18\\text{ cm}^{2}", "18"),
    ("18 cm²", "18"),
    ("12 \\text{ m/s}^2", "12"),
    ("540\\ \\text{meters}", "540"),
    ("540 m", "540"),
    ("12 km/h", "12"),
    ("25°C", "25"),
    ("-10\\,^\\circ\\text{F}", "-10"),
    ("\\mathbf{12}", "12"),
    ("2\\frac{1}{2}", "2.5"),
    ("2 \\dfrac12", "2.5"),
    ("2½", "2.5"),
    ("2 and 1/2", "2.5"),
    ("three and a half", "3.5"),
    ("3 and a half", "3.5"),
    ("\\frac{3}{4}\\text{ cups}", "0.75"),
    ("1.2 \\times 10^6", "1200000"),
    ("1.2\\cdot10^{6}", "1200000"),
    ("1.2 × 10⁶", "1200000"),
    ("10^6", "1000000"),
    ("\\sqrt{16}", "4"),
    ("2:00 pm", "2"),
    ("2:00 PM", "14:00"),
    ("2 p.m.", "2:00 pm"),
    ("14:30", "2:30 pm"),
    ("2:30 pm", "2.5"),
    ("noon", "12"),
    ("twelve", "12"),
    ("twenty-five", "25"),
    ("one hundred and five", "105"),
    ("5 dozen", "60"),
    ("5 dozen", "5"),
    ("75 cents", "0.75"),
    ("75 cents", "75"),
    ("$5k", "5000"),
    ("1.5 million", "1500000"),
]
PLACES = ["\\boxed{%s}", "The answer is %s.", "#### %s", "**Answer:** %s", "%s"]
NO_MATH_VERIFY = GradingOptions(math_verify=False)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("written", "value"), FORMS)
def test_a_form_is_read_in_a_reply_and_in_a_gold_answer(
    written: str, value: str, place: str
) -> None:
    for said, gold in ((written, value), (value, written)):
        assert grade("math", place % said, gold, options=NO_MATH_VERIFY).correct, (said, gold)
        assert classify(place % said) == "answer_attempt"
    assert math.is_plain(written)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("written", "gold"),
    [
        ("10-15", "15"),
        ("10–15", "10"),
        ("10 to 15", "15"),
        ("between 10 and 15", "15"),
        ("10 or 15", "15"),
        ("2\\pi", "2"),
        ("2x", "2"),
        ("5\\sqrt{2}", "5"),
        ("\\frac{1}{0}", "1"),
        ("1e999999999", "1"),
        ("10^{999999}", "10"),
        ("cm^2", "2"),
        ("2:30", "2"),
        ("2:00 am", "14"),
        ("2:00 am", "2:00 pm"),
        ("12,345", "12"),
        ("1" * 5000, "1"),
    ],
)
def test_what_is_no_such_number_is_not_paid(written: str, gold: str, place: str) -> None:
    assert not grade("math", place % written, gold, options=NO_MATH_VERIFY).correct


@pytest.mark.parametrize("digit", ["1", "٣", "１"])
def test_thousands_of_digits_raise_nothing_anywhere(digit: str) -> None:
    """Python reads no more than 4,300 digits as an integer."""
    for digits in (digit * 4301, digit * 5000, f"0.{digit * 5000}", f"{digit * 5000}/7"):
        assert not grade("math", f"The answer is {digits}.", "7").correct
        assert not grade("math", "7", digits, options=NO_MATH_VERIFY).correct


# --------------------------------------------------------- which number a reply commits to


@pytest.mark.parametrize(
    ("reply", "extracted"),
    [
        ("So the total is 30 after 5 days. In the end he keeps 30 - 4 = 26.\nHe keeps 26.", "26"),
        ("In total that is 88. If he had 100, he has 100 - 88 = 12 left.", "12"),
        ("24 × 5 = 120\n\nTherefore, Tim deals with 120 calls during his 5-day week.", "120"),
        ("720 / 360 = 2\n\nSo, 720 grams of food will last for 2 days for Imma's 3 cats.", "2"),
        ("Then 3 × 2 = 6 and 6 - 2 = 4. So 3 loaves cost $4 more than 2 bagels.", "$4"),
        ("Thus, it takes 2 hours to charge it from 60% to 100%.", "2"),
        ("The number of bags is 28 divided by 2, which equals 14 bags.", "14"),
        ("Since 60 minutes equals 1 hour, it will take them 1 hour.", "1"),
        ("The total is the sum of 6 (Team A) + 10 (Team B) = 16 goals.", "16"),
        ("x = 13. You are 13.\n\nLet's check: 13 + 16 + 11 + 47 = 87, as given.", "13"),
        ("She sells 12 × 3 = 36.\n\n(Note that 5 were broken.)", "36"),
        ("**3 trucks** are needed. This ensures that the load of 6000 pounds is carried.", "3"),
        ("8 - 3 = 5. There are five left.", "five"),
        ("\\boxed{x = 5 \\text{ hours}}", "5"),
        ("\\boxed{10-15}", "10-15"),
        ("Answer: First, 3 × 5 = 15. Then 15 + 4 = 19.", "19"),
        ("La respuesta es 25. Son 5 por 5.", "25"),
        ("答案是25。每天5个。", "25"),
        ("He has 7 left.\n\nWould you like me to explain the 2 steps?", "7"),
        ("He has 7 left. Feel free to ask if you have any of 3 questions!", "7"),
    ],
)
def test_hard_evidence_outranks_weak(reply: str, extracted: str) -> None:
    assert math.extract(reply) == extracted


# ------------------------------------------------------------- math-verify in a worker process


def _echo(pipe) -> None:  # type: ignore[no-untyped-def]
    """Stands in for math-verify: "hang" never answers, "crash" fails, "die" ends the process."""
    pipe.send("ready")
    while True:
        given, gold = pipe.recv()
        if given == "hang":
            time.sleep(600)
        if given == "die":
            raise SystemExit
        pipe.send((None, "ValueError: no") if given == "crash" else (given == gold, ""))


def test_a_worker_that_hangs_is_ended_and_replaced() -> None:
    verifier = math_verify.Verifier(seconds=3.0, work=_echo)
    try:
        assert verifier.verify("a", "a") is True
        process = verifier._process
        assert verifier.verify("hang", "a") is None
        assert process.exitcode is not None
        assert verifier.verify("a", "b") is False
        with pytest.raises(GraderError, match="ValueError: no"):
            verifier.verify("crash", "a")
        with pytest.raises(GraderError, match="its process ended"):
            verifier.verify("die", "a")
    finally:
        verifier.close()


@pytest.mark.skipif(not math_verify.available(), reason="math-verify is not installed")
def test_math_verify_sees_what_strings_do_not() -> None:
    assert grade("math", "\\boxed{\\frac{2\\pi}{4}}", "\\frac{\\pi}{2}").correct
    assert grade("math", "\\boxed{x + 1 + x}", "$2x + 1$").correct
    assert not grade("math", "\\boxed{\\frac{2\\pi}{3}}", "\\frac{\\pi}{2}").correct


# --------------------------------------------------------------------------------- real answers


def _scored() -> list[tuple[dict[str, object], str]]:
    gold = [json.loads(line)["answer"] for line in (DATA / "gsm8k_test.jsonl").open()]
    rows = [json.loads(line) for line in (DATA / "lic_math_answers_dev.jsonl").open()]
    return [(r, gold[int(r["task_id"].split("-")[-1])]) for r in rows if r.get("score") is not None]


needs_data = pytest.mark.skipif(
    not (DATA / "lic_math_answers_dev.jsonl").is_file(), reason="real answers are not at hand"
)


@needs_data
def test_extracted_answers_of_lost_in_conversation_are_graded_as_there() -> None:
    rows = _scored()
    assert len(rows) == 561
    for row, gold in rows:
        right = math.equal(str(row["exact_answer"]), gold)
        assert right == (row["score"] == 1), row["exact_answer"]


@needs_data
def test_answers_in_the_text_are_found() -> None:
    rows = [(r, g) for r, g in _scored() if re.search(r"\d", str(r["exact_answer"]))]
    assert len(rows) == 525
    same = sum(grade("math", str(r["assistant"]), g).correct == (r["score"] == 1) for r, g in rows)
    assert same / len(rows) >= 0.95


@needs_data
def test_their_gold_answers_are_read() -> None:
    for line in (DATA / "gsm8k_test.jsonl").open():
        answer = json.loads(line)["answer"]
        assert math.is_plain(answer)
        assert grade("math", answer, answer).correct
