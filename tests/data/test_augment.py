"""Certificates against problems whose answer is plain to see; prompts, files and the command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from icpo_lite.cli.augment import augment as command
from icpo_lite.core.errors import DataError
from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Intent, Message, Problem, Prompt
from icpo_lite.data.augment import AugmentOptions, augment, read_prompts, write_prompts
from icpo_lite.data.certificate import certified_removals, confusable, implied, needs
from icpo_lite.data.deletions import number_cut
from icpo_lite.data.prompt_file import holds_prompts
from icpo_lite.data.reply_cache import ReplyJournal
from icpo_lite.data.sharding import shard_by_rules
from icpo_lite.data.solution_equations import needs_of_arguments, solution_graph, to_number
from icpo_lite.data.sources import read_problems
from icpo_lite.data.text_edits import apply
from icpo_lite.data.tiny_world import world_problems, world_prompts

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train.jsonl"

SHOP = Problem(
    "shop",
    "math",
    "Josh has $20. He buys four cookies and a hat for $9. "
    "If each cookie costs $1.25, how much money does Josh have left?",
    "6",
    "4*1.25=<<4*1.25=5>>5\n20-9-5=<<20-9-5=6>>6\n#### 6",
    source="a.jsonl:1",
)
RICE = Problem(
    "rice",
    "math",
    "A farm ships 6500 kg of rice. On the way, 150 kg are lost. The rice is sold in 50 kg bags at "
    "$72 each. What will the sale bring?",
    "9144",
    "6500-150=<<6500-150=6350>>6350\n6350/50=<<6350/50=127>>127\n127*72=<<127*72=9144>>9144",
)


def prompts_of(*problems: Problem, seed: int = 0, **options: Any) -> list[Prompt]:
    return list(augment(problems, AugmentOptions(**options), seed=seed))


def removals(problem: Problem) -> dict[str, str]:
    """Text left → evidence, for each certified removal."""
    sharding = shard_by_rules(problem.question)
    needed = needs(problem, sharding.mentions)
    assert needed is not None
    found, _ = certified_removals(problem.question, sharding, needed)
    return {r.text: r.certificate.out_of_reach for r in found}


# --------------------------------------------------------------------------------------- equations


def found_needs(text: str, solution: str, answer: str) -> Any:
    found = solution_graph(solution, answer, numbers(text))
    assert found is not None
    return found.needs()


def test_a_number_is_needed_when_the_answer_moves_with_it() -> None:
    # 4 boxes of 10 pens; half are sold; 3 red ones stay unmentioned in the solution.
    found = found_needs(
        "Tom has 4 boxes of 10 pens, 3 of them red. He sells 1/2.",
        "4*10=<<4*10=40>>40\n40*1/2=<<40*1/2=20>>20\n#### 20",
        "20",
    )
    assert sorted(found) == [0, 1]
    need = found[0]
    assert (need.level, need.additive, need.equation) == ("marks", False, "4*10=40")


def test_a_number_that_cancels_out_is_not_needed() -> None:
    found = found_needs(
        "6 boxes with 9 pens each, 3 boxes are red.",
        "6*9=<<6*9=54>>54\n54/9=<<54/9=6>>6\n6-3=<<6-3=3>>3",
        "3",
    )
    assert 1 not in found  # 9 cancels: (6·9)/9 − 3
    assert found[2].additive


def test_terms_and_factors_are_told_apart() -> None:
    found = found_needs("Pay 7 and 2 for 5 days.", "7+2=<<7+2=9>>9\n9*5=<<9*5=45>>45", "45")
    assert [found[i].additive for i in range(3)] == [False, False, False]
    found = found_needs("Pay 7 and 2.", "7+2=<<7+2=9>>9", "9")
    assert [found[i].additive for i in range(2)] == [True, True]


def test_percentages_and_plain_equations_are_followed() -> None:
    found = found_needs("20% of $50 is tax.", "The tax is 50 * 20% = 10 dollars.", "10")
    assert [found[i].level for i in range(2)] == ["numbers", "numbers"]


def test_a_value_that_is_also_a_result_is_not_called_needed() -> None:
    # The 9 of "9-2" is the result of 4+5, so the problem's own 9 has no proof.
    found = found_needs("4 and 5, then 9 more, less 2.", "4+5=<<4+5=9>>9\n9-2=<<9-2=7>>7", "7")
    assert 2 not in found


def test_solutions_without_equations_give_nothing_to_follow() -> None:
    assert solution_graph("It is seven.", "7", numbers("3 and 4")) is None
    assert solution_graph("3+4=<<3+4=7>>7", "about", numbers("3 and 4")) is None
    assert solution_graph("<<9**9**9=1>> <<7/0=7>>", "7", numbers("3 and 4")) is not None


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("#### 1,234", 1234),
        ("$18.00", 18),
        ("18.", 18),
        (7, 7),
        ("75%", 75),
        ("3/4", 0.75),
        ("1/0", None),
        ("1e999999999", None),
        ("a or b", None),
    ],
)
def test_gold_answers_are_read_as_numbers(answer: object, value: float | None) -> None:
    assert to_number(answer) == (None if value is None else Fraction(value))


def test_argument_values_show_which_numbers_a_call_needs() -> None:
    calls = [{"area": {"base": [10], "height": [5], "unit": ["cm", ""], "scale": [2, ""]}}]
    found = needs_of_arguments(calls, numbers("base 10, height 5, scale 2, seen 7 times"))
    assert list(found) == [0, 1]  # scale may be left out, 7 is no argument
    assert found[0].equation == "area(base=10)"


# ------------------------------------------------------------------------------------ certificates


def test_a_price_or_count_whose_gap_shows_is_certified() -> None:
    found = removals(SHOP)
    base = "Josh has $20. He buys four cookies and a hat for $9. "
    question = "If each cookie costs $1.25, how much money does Josh have left?"
    assert found[f"Josh has some money. He buys four cookies and a hat for $9. {question}"]
    assert found[f"Josh has $20. He buys cookies and a hat for $9. {question}"].startswith(
        "'four' enters 4*1.25=5"
    )
    assert f"{base}How much money does Josh have left?" in found


def test_a_loss_that_leaves_a_smaller_whole_problem_is_not_certified() -> None:
    """METHOD.md's example: without the 150 kg the sale is a complete problem."""
    for left in removals(RICE):
        assert "150 kg" in left


def test_a_rate_may_go_where_its_things_are_still_counted() -> None:
    problem = Problem(
        "p",
        "math",
        "James buys 5 packs of beef. Each pack costs $8. How much did he pay?",
        "40",
        "5*8=<<5*8=40>>40",
    )
    assert "James buys 5 packs of beef. How much did he pay?" in removals(problem)


@pytest.mark.parametrize(
    ("question", "solution"),
    [
        # 3 stands twice.
        ("Ann has 3 cats and 3 dogs. Bob has 5 cats. How many pets?", "3+3+5=<<3+3+5=11>>11"),
        # 12 = 30 − 18 can be worked out.
        (
            "Of the pupils, 30 in all, 18 wore hats. The school also gave away 12 caps. How many?",
            "12+18=<<12+18=30>>30",
        ),
        # Twice gives 2 away.
        ("Ann has 2 cats. Bob has twice as many. How many cats?", "2*2=<<2*2=4>>4\n2+4=<<2+4=6>>6"),
    ],
)
def test_a_number_that_is_given_away_is_not_certified(question: str, solution: str) -> None:
    answer = solution.rsplit(">>", 1)[1]
    problem = Problem("p", "math", question, answer, solution)
    removed = {n.surface for n in numbers(question)}
    for left in removals(problem):
        gone = removed - {n.surface for n in numbers(left)}
        assert gone <= {"5"}


def test_people_who_are_named_one_by_one_can_be_counted() -> None:
    problem = Problem(
        "p",
        "math",
        "At noon Ann met 2 friends, Bob and Cleo. They split a bill of $60. Dan walked 5 miles. "
        "How much did each of "
        "the friends and Ann pay?",
        "20",
        "2+1=<<2+1=3>>3\n60/3=<<60/3=20>>20",
    )
    assert not any("met friends" in left for left in removals(problem))


def test_number_words_fractions_and_dozens_count_as_numbers() -> None:
    problem = Problem(
        "p",
        "math",
        "A baker bakes a dozen rolls. Every roll weighs 50 grams. How many grams is that?",
        "600",
        "12*50=<<12*50=600>>600",
    )
    assert any("bakes rolls" in left for left in removals(problem))
    with_digits = Problem(
        "p",
        "math",
        problem.question.replace("50 grams", "12 grams"),
        "144",
        "12*12=<<12*12=144>>144",
    )
    assert not removals(with_digits)


# ----------------------------------------------------------------------------------------- prompts


def test_each_problem_gives_q_and_a_certified_twin() -> None:
    whole, left = prompts_of(SHOP, max_removed=1)
    assert (whole.intent, left.intent) == (Intent.COMPLETE, Intent.UNDERSPECIFIED)
    assert whole.text == SHOP.question
    assert whole.certificate.level == "none"
    assert not whole.removed
    assert (whole.answer, left.answer) == ("6", "6")
    (removed,) = left.removed
    assert removed in left.shards
    gone = {n.value for n in numbers(whole.text)} - {n.value for n in numbers(left.text)}
    assert gone == {n.value for n in numbers(removed.text)} & gone
    assert len(gone) == 1
    assert left.certificate.level == "marks"
    assert left.certificate.out_of_reach
    assert left.certificate.incomplete


def test_pure_deletions_come_before_rewordings() -> None:
    for seed in range(12):
        left = prompts_of(SHOP, max_removed=1, seed=seed)[1]
        assert not re.search("some money|several", left.text)


def test_two_facts_may_go_together() -> None:
    seen = {len(prompts_of(SHOP, max_removed=2, seed=seed)[1].removed) for seed in range(20)}
    assert seen == {1, 2}


def test_equal_seeds_give_equal_prompts_whatever_stands_beside() -> None:
    alone = prompts_of(SHOP, seed=3)
    beside = prompts_of(RICE, SHOP, seed=3)
    assert [p for p in beside if p.problem_id == "shop"] == alone


def test_policies_choose_what_goes() -> None:
    first = prompts_of(SHOP, max_removed=1, removal="first")[1]
    assert "buys cookies" in first.text
    needed = prompts_of(SHOP, max_removed=1, removal="most_needed")[1]
    assert needed.text != SHOP.question
    spread = {("shop", s.shard_id): float("1.25" in s.text) for s in first.shards}
    with pytest.raises(DataError, match="expected reward spreads"):
        prompts_of(SHOP, removal="spread")
    drawn = augment([SHOP], AugmentOptions(max_removed=1, removal="spread"), spread=spread)
    assert "$1.25" not in list(drawn)[1].text


def test_what_is_dropped_is_counted_by_reason() -> None:
    lone = Problem("lone", "math", "How much is 3 plus 4?", "7", "3+4=<<3+4=7>>7")
    silent = Problem("silent", "math", SHOP.question, "6", "It is six.")
    made = augment([SHOP, lone, silent], AugmentOptions())
    assert len(list(made)) == 4
    summary = made.summary
    assert (summary.problems, summary.complete, summary.certified) == (3, 3, 1)
    assert summary.dropped == {
        "shards: too few facts": 1,
        "no equations that lead to the answer": 1,
    }


def test_a_level_that_is_not_accepted_is_dropped_not_weakened() -> None:
    made = augment([SHOP], AugmentOptions(accept_levels=("numbers",)))
    assert len(list(made)) == 1
    assert made.summary.dropped == {"certificate level not accepted": 1}


def test_share_bounds_the_underspecified_prompts() -> None:
    problems = [
        Problem(f"p{i}", "math", SHOP.question, SHOP.answer, SHOP.solution) for i in range(100)
    ]
    made = prompts_of(*problems, share=0.3)
    assert sum(bool(p.removed) for p in made) / len(made) == pytest.approx(0.3, abs=0.01)


def test_mid_conversation_prompts_give_the_same_facts_turn_by_turn() -> None:
    for seed in range(8):
        for prompt in prompts_of(SHOP, mid_conversation=1.0, max_removed=1, seed=seed):
            roles = [m.role for m in prompt.messages]
            assert len(roles) >= 3
            assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
            said = {n.value for n in numbers(prompt.text)}
            held = {n.value for s in prompt.removed for n in numbers(s.text)}
            every = {n.value for n in numbers(SHOP.question)}
            assert said == every - (held - said)
            assert (said == every) == (prompt.intent is Intent.COMPLETE)
            assert not any(numbers(m.content) for m in prompt.messages if m.role == "assistant")


def test_certificates_that_come_with_a_problem_are_used() -> None:
    question = "Tim has figs from Ann. Ann gave Tim 6 figs. Bo gave Tim 2 figs. How many has Tim?"
    problem = Problem(
        "given",
        "math",
        question,
        "8",
        shards=tuple(
            shard_by_rules(question).shards[i] for i in range(len(shard_by_rules(question).shards))
        ),
        columns={
            "certificates": {
                "2": {"level": "numbers", "out_of_reach": "6 is in the sum", "incomplete": "named"}
            }
        },
    )
    left = prompts_of(problem)[1]
    assert left.text == "Tim has figs from Ann. Bo gave Tim 2 figs. How many has Tim?"
    assert left.certificate.out_of_reach == "6 is in the sum"
    assert [s.shard_id for s in left.removed] == [2]


# ------------------------------------------------------------------------------------ solver check


class Solver:
    """Answers 6 when the text holds `key`, else what `otherwise` says in turn."""

    def __init__(self, key: str, otherwise: Sequence[str]) -> None:
        self.key, self.otherwise, self.calls = key, otherwise, 0

    def generate(
        self, chats: Sequence[Sequence[Message]], *, n: int = 1, **how: Any
    ) -> list[list[str]]:
        self.calls += 1
        return [
            ["The answer is 6."] * n
            if self.key in chat[-1].content
            else [self.otherwise[i % len(self.otherwise)] for i in range(n)]
            for chat in chats
        ]


def verified(
    problem: Problem, solver: Solver, **options: Any
) -> tuple[list[Prompt], dict[str, int]]:
    made = augment([problem], AugmentOptions(verify=4, **options), generator=solver)
    return list(made), dict(made.summary.dropped)


def test_the_solver_check_is_written_into_the_certificate() -> None:
    made, _ = verified(SHOP, Solver(SHOP.question, ["8", "9"]))
    assert made[1].certificate.level == "marks"
    assert made[1].certificate.out_of_reach.endswith("solver right 4/4 with it, 0/4 without")


def test_what_the_solver_still_solves_is_dropped() -> None:
    made, dropped = verified(SHOP, Solver("", ["6"]))
    assert len(made) == 1
    assert dropped == {"the solver reached the answer without it": 1}
    assert len(verified(SHOP, Solver(SHOP.question, ["6", "8", "9", "7"]))[0]) == 1
    kept, _ = verified(SHOP, Solver(SHOP.question, ["6", "8", "9", "7"]), verify_tolerance=0.3)
    assert len(kept) == 2


def test_the_solver_alone_certifies_only_what_it_can_solve() -> None:
    silent = Problem("silent", "math", SHOP.question, "6", "It is six.")
    made, _ = verified(silent, Solver(SHOP.question, ["8", "9"]))
    assert made[1].certificate.level == "tested"
    for solver in (Solver("never", ["8", "9"]), Solver(SHOP.question, ["8"])):
        assert len(verified(silent, solver)[0]) == 1


def test_a_model_is_asked_for_where_one_is_needed() -> None:
    for options in ({"verify": 2}, {"method": "self"}):
        with pytest.raises(DataError, match="expected a model"):
            prompts_of(SHOP, **options)


def test_replies_are_kept_for_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "replies"
    chats = [[Message("user", "hello")]]
    solver = Solver("", ["x"])
    assert ReplyJournal(solver, path, name="m").generate(chats, n=2) == [["The answer is 6."] * 2]
    with path.open("a") as file:
        file.write('{"call": "half a li')
    again = ReplyJournal(solver, path, name="m")
    assert again.generate(chats, n=2) == [["The answer is 6."] * 2]
    assert solver.calls == 1
    again.generate(chats, n=2, seed=1)
    ReplyJournal(solver, path, name="other").generate(chats, n=2)
    assert solver.calls == 3
    again.close()
    assert not path.exists()


# ------------------------------------------------------------------------------------- prompt file


def test_prompts_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "p.jsonl"
    made = prompts_of(SHOP, RICE, mid_conversation=0.5)
    assert write_prompts(path, made) == len(made)
    assert list(read_prompts(path)) == made
    assert holds_prompts(path)
    assert [p.name for p in path.parent.iterdir()] == ["p.jsonl"]


def test_world_prompts_have_the_same_file(tmp_path: Path) -> None:
    made = list(world_prompts(list(world_problems("train", 5)), mid_conversation=0.5))
    write_prompts(tmp_path / "w.jsonl", made)
    back = list(read_prompts(tmp_path / "w.jsonl"))
    assert [(p.prompt_id, p.messages, p.removed) for p in back] == [
        (p.prompt_id, p.messages, p.removed) for p in made
    ]


def test_a_failed_run_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("old")

    def broken() -> Any:
        yield from prompts_of(SHOP)
        raise DataError("a bad row")

    for prompts in (broken(), iter(())):
        with pytest.raises(DataError):
            write_prompts(path, prompts)
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intent": "maybe"}, "intent: input should be 'complete' or 'underspecified'"),
        ({"colour": "red"}, "colour: extra inputs are not permitted"),
        ({"messages": []}, "messages: list should have at least 1 item"),
        ({"removed": [9]}, "removed: expected shard_ids of this row, found 9"),
        ({"removed": []}, "removed: expected shards exactly where intent is underspecified"),
        ({"task": None}, "task: "),
    ],
)
def test_a_bad_prompt_row_is_named_with_file_and_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "p.jsonl"
    write_prompts(path, prompts_of(SHOP))
    first, second = path.read_text().splitlines()
    path.write_text(first + "\n" + json.dumps(json.loads(second) | change) + "\n")
    with pytest.raises(DataError, match=rf"p\.jsonl:2: {re.escape(message)}"):
        list(read_prompts(path))


def test_broken_missing_empty_and_repeated_prompts_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with pytest.raises(DataError, match=r"expected a file of prompts at .*p\.jsonl, found none"):
        list(read_prompts(path))
    path.write_text("\n")
    with pytest.raises(DataError, match="found an empty file"):
        list(read_prompts(path))
    path.write_text("{broken\n")
    with pytest.raises(DataError, match=r"p\.jsonl:1: the line: invalid json"):
        list(read_prompts(path))
    write_prompts(path, prompts_of(SHOP)[:1])
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match=r"p\.jsonl:2: expected each prompt_id once"):
        list(read_prompts(path))
    assert not holds_prompts(tmp_path / "none")


# ---------------------------------------------------------------------------------------- options


def test_options_are_strict_and_explained() -> None:
    with pytest.raises(ValidationError):
        AugmentOptions(sahre=0.3)  # type: ignore[call-arg]
    assert all(f.description for f in AugmentOptions.model_fields.values())


# ---------------------------------------------------------------------------------------- command


def corpus(path: Path) -> Path:
    rows = [
        {"question": p.question, "answer": f"{p.solution}\n#### {p.answer}"} for p in (SHOP, RICE)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_writes_prompts_and_says_what_it_dropped(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "a.jsonl"), tmp_path / "out.jsonl"
    result = CliRunner().invoke(command, [str(source), "-o", str(out), "--preview", "1"])
    assert result.exit_code == 0, result.output
    assert "2  problems read" in result.output
    assert "q*  Josh has" in result.output
    assert "removed: " in result.output
    first = out.read_bytes()
    assert sum(1 for _ in read_prompts(out)) in (3, 4)
    again = CliRunner().invoke(command, [str(source), "-o", str(out)])
    assert again.exit_code == 0
    assert out.read_bytes() == first


def test_the_command_reads_the_built_in_world(tmp_path: Path) -> None:
    out = tmp_path / "w.jsonl"
    result = CliRunner().invoke(command, ["builtin:world", "-o", str(out), "--limit", "7"])
    assert result.exit_code == 0, result.output
    assert sum(bool(p.removed) for p in read_prompts(out)) == 7


def test_the_command_names_a_bad_row_and_writes_nothing(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl")
    source.write_text(source.read_text() + "{broken\n")
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(command, [str(source), "-o", str(out)])
    assert isinstance(result.exception, DataError)
    assert "a.jsonl:3: expected one JSON object a line" in str(result.exception)
    assert not out.exists()
    skipped = CliRunner().invoke(command, [str(source), "-o", str(out), "--on-bad-row", "skip"])
    assert skipped.exit_code == 0
    assert "1  rows skipped: expected one JSON object a line" in skipped.output


def test_the_command_says_what_a_method_needs(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl")
    for given, message in (
        (["--method", "endpoint"], "--base-url and --endpoint-model"),
        (["--method", "self"], "need --model"),
        (["--column", "question"], "expected OURS=THEIRS"),
    ):
        result = CliRunner().invoke(command, [str(source), "-o", str(tmp_path / "o"), *given])
        assert result.exit_code == 2
        assert message in result.output


def test_every_option_has_help() -> None:
    assert all(p.help for p in command.params if isinstance(p, click.Option))


def test_augment_by_rules_imports_no_torch(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl")
    given = [str(source), "-o", str(tmp_path / "o.jsonl")]
    code = f"""
import sys
from icpo_lite.cli.augment import augment
augment.main({given!r}, standalone_mode=False)
heavy = {{"torch", "transformers", "triton", "datasets", "pyarrow", "httpx"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "gone", "says"),
    [
        ("Each glass of 8 ounces has 6.5 ounces of milk and 1.5 ounces of syrup.", "8", "follows"),
        ("There are 5 vowels and 21 consonants.", "21", "conversion"),
        ("The alphabet has 26 letters.", "26", "conversion"),
        ("There are 10 students, 5 of which like tea and 4 of whom like milk.", "10", "parts"),
    ],
)
def test_what_parts_or_the_world_tell_is_given_away(text: str, gone: str, says: str) -> None:
    mentions = numbers(text)
    mention = next(n for n in mentions if n.surface == gone)
    others = [n for n in mentions if n is not mention]
    left = text.replace(gone, "some")
    assert says in (confusable(mention, others) or implied(mention, left, []))


@pytest.mark.parametrize(
    ("text", "surface"),
    [
        ("Ann buys 12 forks. Then her friend trades her 10 knives for them.", "10"),
        ("He sells apples at $3 per bag and pears at $2 per bag.", "$2"),
    ],
)
def test_what_would_say_another_thing_without_its_number_has_no_cut(
    text: str, surface: str
) -> None:
    mention = next(n for n in numbers(text) if n.surface == surface)
    cut = number_cut(text, mention, text.rfind(". ", 0, mention.start) + 1)
    assert cut is None, apply(text, [cut])


# ------------------------------------------------------------------------------------- real corpus


@pytest.mark.skipif(not GSM8K.exists(), reason="the data set is not here")
def test_real_problems_are_certified_in_a_good_share() -> None:
    made = augment(read_problems(GSM8K, limit=1000), AugmentOptions())
    pairs: dict[str, Prompt] = {}
    for prompt in made:
        if prompt.intent is Intent.COMPLETE:
            pairs[prompt.problem_id] = prompt
            continue
        whole = {n.value for n in numbers(pairs[prompt.problem_id].text)}
        left = {n.value for n in numbers(prompt.text)}
        assert left < whole  # numbers only ever go
        assert len(whole - left) == len(prompt.removed)
        for shard in prompt.removed:
            assert {n.value for n in numbers(shard.text)} & (whole - left)
    assert made.summary.certified > 550


def test_a_problem_whose_numbers_all_stand_twice_says_why_it_is_dropped() -> None:
    text = (
        "At Ann's shop, the cakes are $7 a slice. Each cake is cut into 7 thick slices. "
        "If Ann sells 7 cakes, how much money does she make?"
    )
    _, dropped = verified(Problem("p", "math", text, "343", "It is so."), Solver(text, ["8", "9"]))
    assert dropped == {"given away by another number": 1}


def test_a_server_and_a_model_here_are_not_taken_for_one(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "Tom has 4 figs. How many figs has Tom?", "answer": "4"}\n')
    server = ("--verify", "2", "--base-url", "http://127.0.0.1:9/v1", "--model", "m")
    made = CliRunner().invoke(command, [str(rows), "-o", str(tmp_path / "p.jsonl"), *server])
    assert made.exit_code == 2
    assert "--endpoint-model" in made.output
