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

DATA = Path(__file__).parents[2] / "shared" / "data"


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
    verifier = math_verify.Verifier(seconds=0.3, work=_echo)
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
