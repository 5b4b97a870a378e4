"""Before the first step: what the model does is measured, and shown where it hardly does it."""

import json
from pathlib import Path

import pytest

from icpo_lite.core.console import Display
from icpo_lite.core.types import QUESTIONS, Intent
from icpo_lite.recipe import load_recipe
from icpo_lite.runs.session import prepare_session
from icpo_lite.runs.train import train
from icpo_lite.training import warm_up
from icpo_lite.training.warm_up import Habits, WarmUp

KEYS = {
    "compare": {},
    "evaluation.enabled": False,
    "device": "cpu",
    "rehearse": False,
    "prompts_per_step": 4,
    "num_generations": 4,
    "warm_up_learning_rate": 1e-3,
}


def recipe(folder, **keys):
    return load_recipe("tiny", output_dir=str(folder), **{**KEYS, **keys})


def session(folder, **keys):
    return prepare_session(recipe(folder, **keys), Display(total=1, every=1), 1)


def test_a_margin_is_what_asking_and_over_asking_differ_by():
    assert Habits(0.3, 0.1, 0.5).margin == pytest.approx(0.2)
    assert Habits(None, 0.1, None).margin == pytest.approx(-0.1)
    assert str(Habits(0.25, 0.0, None)) == (
        "asks on 25% of what lacks something, on 0% of what is whole"
    )


def test_it_ends_as_soon_as_the_model_asks(tmp_path, monkeypatch):
    """The tiny model asks by far more often after a few steps, and solves no less."""
    monkeypatch.setattr(warm_up, "LITTLE", 1.0)
    found = session(tmp_path, warm_up_steps=12, warm_up_until=0.3)
    before = [p.detach().clone() for p in found.policy.trainable()]
    warming = WarmUp(found.trainer, found.prompts)
    said = list(warming.run())
    record = warming.record
    assert 0 < record["steps"] <= 12
    assert record["steps"] % warm_up.BETWEEN == 0
    after = Habits(**record["after"])
    assert after.margin >= 0.3 > Habits(**record["before"]).margin
    assert len(record["loss"]) == record["steps"]
    assert all(0 < loss < 1 for loss in record["loss"])
    assert any("warm-up step 2" in line for line in said)
    assert any((a != b).any() for a, b in zip(before, found.policy.trainable(), strict=True))
    # The run's own optimizer, prompts and steps are as if nothing had happened.
    assert not found.trainer.updater.optimizer.state
    assert found.trainer.done_steps == 0
    assert found.trainer.pool.state == {"complete": 0.0, "underspecified": 0.0, "carried": 0.0}


def test_examples_hold_both_kinds_and_are_what_the_judge_calls_right(tmp_path):
    found = session(tmp_path)
    groups = WarmUp(found.trainer, found.prompts).examples(1)
    assert {g.prompt.intent for g in groups} == set(Intent)
    for group in groups:
        (shown,) = group.trajectories
        verdict = shown.reply.verdict
        assert shown.demonstration
        assert group.advantages == (1.0,)
        if group.prompt.intent is Intent.COMPLETE:
            assert verdict.correct
        else:
            assert verdict.response_type in QUESTIONS
            assert verdict.targeted


def test_right_replies_of_its_own_stand_for_solutions_that_a_corpus_lacks(tmp_path):
    from dataclasses import replace

    found = session(tmp_path)
    bare = [replace(p, solution="") for p in found.prompts]
    warming = WarmUp(found.trainer, bare)
    assert {g.prompt.intent for g in warming.examples(1)} == {Intent.UNDERSPECIFIED}
    warming.measure(0)
    assert {g.prompt.intent for g in warming.examples(2)} == set(Intent)


@pytest.mark.parametrize(("steps", "told"), [(0, "set warm_up_steps: auto"), (2, "after 2 steps")])
def test_what_is_said_where_it_does_not_ask(steps, told, tmp_path, monkeypatch):
    monkeypatch.setattr(warm_up, "LITTLE", 1.0)
    found = session(tmp_path, warm_up_steps=steps, warm_up_until=1.0)
    warming = WarmUp(found.trainer, found.prompts)
    said = list(warming.run())
    assert told in said[-1]
    assert warming.record["steps"] == steps
    assert "asks on" in said[0]


def test_a_run_warms_up_once_and_comes_out_the_same(tmp_path, monkeypatch):
    """Interrupted or resumed after step 1: the same weights as in one go."""
    monkeypatch.setattr(warm_up, "LITTLE", 1.0)
    keys = {"warm_up_steps": 2, "warm_up_until": 1.0, "save_steps": 1, "learning_rate": 1e-3}
    whole = train(recipe(tmp_path / "whole", max_steps=2, **keys), threads=1)
    train(recipe(tmp_path / "parts", max_steps=1, **keys), threads=1)
    record = (tmp_path / "parts" / "warm_up.json").read_bytes()
    monkeypatch.setattr(WarmUp, "run", lambda self: pytest.fail("it warmed up again"))
    parts = train(recipe(tmp_path / "parts", max_steps=2, **keys), threads=1, extend=True)
    assert _weights(whole) == _weights(parts)
    assert (parts / "warm_up.json").read_bytes() == record
    assert json.loads(record)["steps"] == 2


def _weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def test_plain_rlvr_is_asked_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(WarmUp, "run", lambda self: pytest.fail("there is nothing to ask about"))
    train(recipe(tmp_path, share_underspecified=0.0, max_steps=1), threads=1)
    assert not (tmp_path / "warm_up.json").exists()
