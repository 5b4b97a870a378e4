"""Plain words for figures that a user would otherwise have to know how to read."""

from icpo_lite.diagnostics import diagnose, tokenizer_warning

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
        (line,) = diagnose([{**GOOD, name: value}] * 10)
        assert words in line


def test_only_the_last_steps_count():
    assert diagnose([{**GOOD, "accuracy": 0.0}] * 5 + [GOOD] * 10) == []


def test_kinds_that_did_not_occur_are_left_out():
    row = {k: v for k, v in GOOD.items() if k not in ("accuracy", "over_asking_rate")}
    assert diagnose([row]) == []


def test_unknown_tokens_by_hand():
    # 3 of 8 tokens are unknown: 38 %.
    line = tokenizer_warning({"a": [0, 1, 2, 3], "b": [3, 3, 1, 2]}, 3)
    assert line.startswith("38%")
    assert tokenizer_warning({"a": [0, 1, 2]}, 3) == ""
    assert tokenizer_warning({"a": [3]}, None) == ""
