"""The reward tried on known replies: it lets good rewards pass and refuses bad ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from icpo_lite.cli.check import check
from icpo_lite.cli.classify import classify
from icpo_lite.core.errors import UsageError
from icpo_lite.core.types import QUESTIONS, Intent, Prompt, Reward, Turn, Verdict
from icpo_lite.data.tiny_world import world_problems, world_prompts
from icpo_lite.rewards.icpo import REWARDS
from icpo_lite.rewards.judge import Judge
from icpo_lite.training.reward_check import PROBES, check_reward


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return list(world_prompts(list(world_problems("dev", 20, seed=5)), seed=5))


@pytest.mark.parametrize("name", REWARDS)
def test_the_rewards_that_ship_pass(name: str, prompts: list[Prompt]) -> None:
    report = check_reward(prompts, Judge(), REWARDS[name].bind())
    assert report.ok, report.problems
    assert [row.name for row in report.rows] == list(PROBES)
    assert len(report.lines()) == len(PROBES) + 1
    report.require_ok()


def test_guarded_orders_the_probes(prompts: list[Prompt]) -> None:
    rows = {r.name: r for r in check_reward(prompts, Judge(), REWARDS["guarded"].bind()).rows}
    assert rows["gold"].complete == 1.0
    assert rows["targeted question"].underspecified == 1.0
    assert rows["gold"].underspecified == 0.0
    assert rows["targeted question"].complete == pytest.approx(-0.2)
    assert rows["untargeted question"].underspecified == pytest.approx(0.3)
    assert rows["empty"].types == {"missing": 40}


def test_paper_is_warned_about(prompts: list[Prompt]) -> None:
    report = check_reward(prompts, Judge(), REWARDS["paper"].bind())
    assert any("refusing everything would do" in w for w in report.warnings)
    assert not check_reward(prompts, Judge(), REWARDS["guarded"].bind()).warnings


def test_a_constant_reward_is_refused(prompts: list[Prompt]) -> None:
    report = check_reward(prompts, Judge(), lambda p, v, t: Reward(0.5))
    assert any("tells replies apart, found 0.5 for all" in p for p in report.problems)
    with pytest.raises(UsageError, match="the reward fails its self-test"):
        report.require_ok()


def test_gold_that_fails_is_refused_with_its_row(prompts: list[Prompt]) -> None:
    class Stubborn(Judge):
        def judge_many(self, items):  # type: ignore[no-untyped-def]
            return [replace(v, correct=False) for v in super().judge_many(items)]

    report = check_reward(prompts, Stubborn(), REWARDS["guarded"].bind())
    assert "first world-dev-5-0" in report.problems[0]


def test_a_reward_that_pays_asking_on_complete_prompts_is_refused(prompts: list[Prompt]) -> None:
    def asks_always(prompt: Prompt, verdict: Verdict, turn: Turn) -> Reward:
        return Reward(float(verdict.response_type in QUESTIONS or bool(verdict.correct)))

    report = check_reward(prompts, Judge(), asks_always)
    assert any("it would learn to ask always" in p for p in report.problems)


def test_a_reward_that_pays_wrong_answers_is_refused(prompts: list[Prompt]) -> None:
    report = check_reward(
        prompts, Judge(), lambda p, v, t: Reward(float(v.response_type == "answer_attempt"))
    )
    assert any("right to earn more than wrong" in p for p in report.problems)


def test_a_users_function_is_part_of_what_is_tried(prompts: list[Prompt]) -> None:
    """It levels everything to 0, which is found out."""

    def level(
        rewards: Sequence[Reward], prompts: Sequence[Prompt], turns: Sequence[Turn]
    ) -> list[Reward]:
        return [Reward(0.0) for _ in turns]

    report = check_reward(prompts, Judge(), REWARDS["guarded"].bind(), change=level)
    assert any("found 0 for all" in p for p in report.problems)


def test_no_prompts_is_an_error() -> None:
    with pytest.raises(UsageError, match="found none"):
        check_reward([], Judge(), REWARDS["guarded"].bind())


@pytest.mark.parametrize(
    ("task", "answer", "columns"),
    [
        ("math", "steps\n#### 1,018", {}),
        ("math", "(3, 4)", {}),
        ("math", "\\frac{3}{4}", {}),
        ("actions", [{"f": {"x": [1, 2], "y": ["", 3]}}], {}),
        ("database", "SELECT 1", {"schema": "CREATE TABLE t(x)"}),
    ],
)
def test_gold_and_wrong_in_every_tasks_form(
    task: str, answer: object, columns: dict[str, object], prompts: list[Prompt]
) -> None:
    prompt = replace(prompts[0], task=task, answer=answer, columns=columns, intent=Intent.COMPLETE)
    report = check_reward([prompt], Judge(), REWARDS["guarded"].bind())
    rows = {r.name: r for r in report.rows}
    assert rows["gold"].complete == 1.0
    assert rows["wrong"].complete == 0.0
    assert report.ok


# ------------------------------------------------------------------------------------ commands


def test_check_command() -> None:
    result = CliRunner().invoke(check, ["tiny", "--sample", "8"])
    assert result.exit_code == 0, result.output
    assert "gold" in result.output
    assert "ok:" in result.output


def test_classify_command(tmp_path: Path) -> None:
    """Two of three agree, both of them on answer attempt or not."""
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"assistant": "The answer is 7.", "kind": "answer_attempt", "m": "a"},
        {"assistant": "How many are there?", "kind": "clarification", "m": "a"},
        {"assistant": "How many are there?", "kind": "refuse", "m": "b"},
        {"assistant": "", "kind": "missing", "m": "b"},
    ]
    file.write_text("\n".join(json.dumps(r) for r in rows))
    result = CliRunner().invoke(
        classify, [str(file), "--label", "kind", "--by", "m", "--task", "math", "-o", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "answer attempt or not 1.000, seven types 0.750" in result.output
    # F1: attempt 1, clarification 2/3, refusal 0, missing 1 -> mean 2/3
    assert "macro-F1 0.667" in result.output
    assert "rows.jsonl:3: given refusal, found clarification" in result.output
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["predicted_type"] for r in written] == [
        "answer_attempt", "clarification", "clarification", "missing",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"x": 1}', "expected a column 'assistant'"),
        ("{", "expected a JSON object"),
        ('{"assistant": "a", "label": "banana"}', "expected one of answer_attempt"),
        ('{"assistant": "a", "label": "refuse", "task": "poetry"}', "expected a task out of"),
    ],
)
def test_classify_names_the_line_at_fault(tmp_path: Path, row: str, message: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"assistant": "a", "label": "refuse"}}\n{row}\n')
    result = CliRunner().invoke(classify, [str(file), "--label", "label"])
    assert result.exit_code != 0
    assert f"rows.jsonl:2: {message}" in str(result.exception)
