"""Plain words for figures that a user would otherwise have to know how to read."""

from typing import get_args

from icpo_lite.core.diagnostics import RULES, Watch, diagnose, tokenizer_warning
from icpo_lite.recipe.section import Finding

GOOD = {
    "accuracy": 0.8,
    "clarification_rate": 0.7,
    "over_asking_rate": 0.02,
    "frac_reward_zero_std": 0.4,
    "completions/clipped_ratio": 0.01,
}


def test_nothing_is_said_of_a_healthy_run():
    assert diagnose([GOOD] * 12) == []
    assert diagnose([]) == []


def test_each_trouble_names_the_key_to_change():
    cases = {
        ("accuracy", 0.0): "model_name_or_path",
        ("clarification_rate", 0.0): "num_generations",
        ("over_asking_rate", 0.5): "share_underspecified",
        ("frac_reward_zero_std", 0.95): "loss reads 0",
        ("completions/clipped_ratio", 0.9): "max_completion_length",
    }
    for (name, value), words in cases.items():
        (found,) = diagnose([{**GOOD, name: value}] * 10)
        assert words in found.text


def test_a_zero_loss_is_explained_only_where_something_is_learned():
    row = {**GOOD, "loss": 1e-9, "grad_norm": 0.5}
    assert [f.name for f in diagnose([row] * 10)] == ["loss_reads_zero"]
    assert diagnose([{**row, "grad_norm": 0.0}] * 10) == []


def test_entropy_collapses_against_its_own_beginning():
    rows = [{**GOOD, "entropy": 0.4}] * 10
    assert diagnose([*rows, *[{**GOOD, "entropy": 0.05}] * 10]) == []
    (found,) = diagnose([*rows, *[{**GOOD, "entropy": 0.03}] * 10])
    assert found.name == "entropy_collapse"
    assert "0.030 nats" in found.text
    # A model that is sure of itself from the start has not collapsed.
    assert diagnose([{**GOOD, "entropy": 0.01}] * 20) == []


def test_never_asking_is_said_after_some_patience_and_once():
    row, watch = {**GOOD, "clarification_rate": 0.0}, Watch()
    assert watch.new([row] * 9) == []
    assert [f.name for f in watch.new([row] * 10)] == ["never_asks"]
    assert watch.new([row] * 11) == []


def test_a_recipe_can_stop_on_what_there_is_a_rule_for():
    assert set(get_args(Finding)) == {r.name for r in RULES} - {"loss_reads_zero"}


def test_only_the_last_steps_count():
    assert diagnose([{**GOOD, "accuracy": 0.0}] * 5 + [GOOD] * 10) == []


def test_kinds_that_did_not_occur_are_left_out():
    row = {k: v for k, v in GOOD.items() if k not in ("accuracy", "over_asking_rate")}
    assert diagnose([row]) == []


def test_what_was_no_number_is_left_out():
    """metrics.jsonl holds null for NaN, and a resumed run reads it back."""
    rows = [GOOD] * 9 + [{**GOOD, "entropy": None, "accuracy": None}]
    assert diagnose(rows) == []


def test_unknown_tokens_by_hand():
    # 3 of 8 tokens are unknown: 38 %.
    line = tokenizer_warning({"a": [0, 1, 2, 3], "b": [3, 3, 1, 2]}, 3)
    assert line.startswith("38%")
    assert tokenizer_warning({"a": [0, 1, 2]}, 3) == ""
    assert tokenizer_warning({"a": [3]}, None) == ""
