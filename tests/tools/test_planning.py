"""`plan`: what fits, what to change, and where the numbers come from."""

import json

import pytest

from icpo_lite.cli import run
from icpo_lite.core.errors import UsageError
from icpo_lite.recipe import load_recipe, shipped_recipes
from icpo_lite.tools.cards import CARDS, card_named
from icpo_lite.tools.memory_model import plan_memory
from icpo_lite.tools.model_shape import shape_of
from icpo_lite.tools.planner import (
    fit_on,
    job_of,
    known_config,
    measured_seconds,
)


def fit(card: str, *overrides: str):
    recipe = load_recipe("qwen7b", overrides)
    shape = shape_of(known_config(recipe.model_name_or_path) or {})
    return fit_on(card_named(card), shape, recipe), shape, recipe


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_planned(name: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(["plan", name, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["tensor_bytes"] == sum(made["stays_bytes"].values()) + sum(
        made["phases_bytes"][made["highest_phase"]].values()
    )


def test_the_trial_run_is_a_command_that_works(tmp_path, monkeypatch, capsys) -> None:
    """A recipe of the user's own is named by its file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my own.yaml").write_text("extends: tiny.yaml\noutput_dir: runs/new\n")
    assert run(["plan", "my own.yaml"]) == 0
    assert "`icpo-lite train 'my own.yaml' max_steps=3 " in capsys.readouterr().out


@pytest.mark.parametrize("card", sorted(CARDS))
@pytest.mark.parametrize("model", ["14B", "32B"])
def test_what_is_suggested_fits(card: str, model: str) -> None:
    wishes = (
        f"model_name_or_path=Qwen/Qwen2.5-{model}-Instruct",
        *("gradient_checkpointing=false", "per_device_train_batch_size=32"),
    )
    found, shape, _ = fit(card, *wishes)
    if not found.changes:
        return
    changed = load_recipe("qwen7b", [*wishes, *found.changes])
    again = fit_on(found.card, shape, changed)
    assert not found.fits
    assert again.fits


def test_a_card_too_small_for_the_weights_gets_no_false_hope() -> None:
    found, *_ = fit("3060", "model_name_or_path=Qwen/Qwen2.5-32B-Instruct")
    assert not found.fits
    assert found.changes == ()


def test_a_t4_computes_in_16_bit_and_a_cpu_in_32() -> None:
    recipe = load_recipe("qwen7b")
    assert job_of(recipe, CARDS["T4"]).value_bytes == 2
    assert job_of(recipe, card_named("cpu")).value_bytes == 4


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        (("num_mini_batches=1",), 6 * 4),
        (("num_mini_batches=2",), 3 * 4),
        (("num_mini_batches=2", "demonstrations=rl_plus"), 3 * 5),  # a row more in each group
        (("num_mini_batches=2", "demonstrations=hpt"), 3 * 4),
        (("num_mini_batches=2", "per_device_train_batch_size=2"), 2),
    ],
)
def test_the_update_is_planned_for_the_largest_mini_batch(changes, rows) -> None:
    recipe = load_recipe("tiny", ["prompts_per_step=6", "num_generations=4", *changes])
    assert job_of(recipe, card_named("cpu")).micro_batch == rows


def test_cards_by_name_and_size() -> None:
    assert card_named("rtx 4090") == CARDS["4090"]
    assert 15 << 30 < card_named("16GB").usable < 16 << 30
    with pytest.raises(UsageError, match="T4"):
        card_named("voodoo")


def test_a_folder_needs_config_json_alone(tmp_path, capsys) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    config = known_config("Qwen/Qwen2.5-0.5B") or {}
    (folder / "config.json").write_text(json.dumps(config))
    card = min(CARDS.values(), key=lambda c: c.usable)
    place = f"model_name_or_path={folder}"
    assert run(["plan", "qwen7b", place, "--card", card.name, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["disk_bytes"]["download"] == 0
    shape = shape_of(config)
    recipe = load_recipe("qwen7b")
    assert made["tensor_bytes"] == plan_memory(shape, job_of(recipe, card)).tensors


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_broken_config_is_one_line(text: str, tmp_path, capsys) -> None:
    (tmp_path / "config.json").write_text(text)
    assert run(["plan", "qwen7b", f"model_name_or_path={tmp_path}"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_time_is_the_median_of_what_was_measured() -> None:
    assert measured_seconds([]) is None
    rows = [{"step_seconds": s} for s in (9.0, 2.0, 3.0)]
    assert measured_seconds([*rows, {"step": 4}]) == (3.0, 3)


def test_the_evaluation_on_a_card_is_its_waves_of_rows():
    """7,200 replies in waves of 256: four times the rows take as long where memory is the limit."""
    from icpo_lite.tools.known_shapes import known_config
    from icpo_lite.tools.memory_model import kv_bytes
    from icpo_lite.tools.model_shape import shape_of
    from icpo_lite.tools.planner import evaluation_replies, fit_on, job_of
    from icpo_lite.tools.time_model import BANDWIDTH, LAYER, UNPACKED, replies_seconds

    recipe = load_recipe("qwen7b")
    shape, card = shape_of(known_config(recipe.model_name_or_path)), CARDS["H200"]
    job, count = job_of(recipe, card), shape.parameters()
    read = (count["attention"] + count["mlp"]) * UNPACKED + shape.vocabulary * shape.hidden * 2
    mean = recipe.max_prompt_length + recipe.max_completion_length // 2
    read += kv_bytes(shape, job, 16, mean)
    a_token = read / (card.bandwidth * 1e9 * BANDWIDTH) + shape.layers * LAYER
    wanted = 7200 / 16 * recipe.max_completion_length * a_token
    assert evaluation_replies(recipe) == 7200
    assert replies_seconds(shape, job, card, 7200, 16) == pytest.approx(wanted)
    small, large = (fit_on(CARDS[name], shape, recipe) for name in ("3060", "4090"))
    assert small.evaluation_seconds > 3 * large.evaluation_seconds > 0
    none = load_recipe("qwen7b", ["evaluation.enabled=false"])
    assert fit_on(card, shape, none).evaluation_seconds == 0


def test_the_time_of_the_evaluation_goes_by_measured_sampling():
    from icpo_lite.tools.planner import evaluation_replies, evaluation_seconds

    recipe = load_recipe(
        "tiny",
        ["evaluation.settings=[full, sharded]", "evaluation.problems=10", "evaluation.runs=4"],
    )
    assert evaluation_replies(recipe) == 2 * 10 * 4 * (1 + 5)
    row = {
        "step_seconds": 10.0,
        "sampling_seconds": 6.0,
        "tokens_per_second": 30.0,
        "completions/mean_length": 50.0,
    }
    # 300 tokens in 6 seconds: 50 a second; 480 replies of 50 tokens.
    assert evaluation_seconds(recipe, [row, row]) == 480.0
    assert evaluation_seconds(recipe, [{"step_seconds": 10.0}]) is None
    assert evaluation_replies(load_recipe("tiny", ["evaluation.enabled=false"])) == 0
