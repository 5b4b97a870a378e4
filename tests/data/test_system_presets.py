"""System prompts that permit asking, and a run that drops them on its way."""

import json

import pytest

from icpo_lite.core.errors import RecipeError
from icpo_lite.data.system_prompts import CHOICES, system_words
from icpo_lite.recipe import load_recipe
from icpo_lite.runs.train import train

STYLES = ("ask_think", "ask_plan", "ask_code", "ask_recall", "ask_examples")


def test_five_styles_permit_to_ask_and_differ():
    words = {name: system_words(name, "math") for name in ("ask", *STYLES)}
    assert len(set(words.values())) == 6
    for name in STYLES:
        assert name in CHOICES
        assert words[name].startswith(words["ask"])
    assert "ask the user" in words["ask"]


def test_there_must_be_something_to_drop():
    with pytest.raises(RecipeError, match=r"system_prompt_steps.*set system_prompt: ask"):
        load_recipe("tiny", system_prompt_steps=0.5)


def test_the_second_half_is_trained_and_judged_without_it(tmp_path):
    keys = {
        "compare": {},
        "evaluation.enabled": False,
        "device": "cpu",
        "prompts_per_step": 2,
        "num_generations": 2,
        "max_steps": 2,
        "system_prompt": "please ask",
        "system_prompt_steps": 0.5,
    }
    recipe = load_recipe("tiny", output_dir=str(tmp_path), **keys)
    assert recipe.served_system_prompt is None
    assert load_recipe("tiny", system_prompt="please ask").served_system_prompt == "please ask"
    train(recipe, threads=1)
    first, second = (
        [json.loads(line) for line in (tmp_path / f"completions/step-00000{n}.jsonl").open()]
        for n in (1, 2)
    )
    assert all("please ask" in json.dumps(row) for row in first)
    assert not any("please ask" in json.dumps(row) for row in second)
