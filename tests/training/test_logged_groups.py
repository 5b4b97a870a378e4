"""Replies of an earlier run in the place of samples."""

import json
import math

import pytest

from icpo_lite.core.errors import DataError, RecipeError, UsageError
from icpo_lite.policy.load import Policy, load_policy
from icpo_lite.recipe import load_recipe
from icpo_lite.training.logged_groups import LoggedReplies
from icpo_lite.training.trainer import Trainer

BASE = (
    *("device=cpu", "prompts_per_step=2", "num_generations=2", "load_in_4bit=false"),
    *("max_completion_length=16", "max_steps=1"),
)


def write(run, rows):
    (run / "completions").mkdir(parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "completions" / "step-000001.jsonl").write_text(text)


def row(name, text, stop="eos", **more):
    return {"prompt_id": name, "completion": text, "stop_reason": stop, **more}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(load_recipe("tiny", BASE), threads=1)


def logged(tmp_path, *overrides):
    return LoggedReplies.of(
        load_recipe(
            "tiny",
            [*BASE, f"logged_completions={tmp_path}/run", f"output_dir={tmp_path}/new", *overrides],
        )
    )


def test_groups_are_tokenised_anew(tmp_path, policy) -> None:
    rows = [row("a", "How many?"), row("a", "It is 7", "length"), row("b", "alone")]
    write(tmp_path / "run", [*rows, row("a", "talk", turns=[])])
    found = logged(tmp_path)
    assert set(found.replies) == {"a"}, "one reply is no group, and a conversation no reply"
    prompt = load_prompts()[0]
    known = type(prompt)(**{**fields(prompt), "prompt_id": "a"})
    (group,) = found.groups(policy, [known], [(1, 2)], step=0)
    texts = {t.reply.content: t.reply for t in group.trajectories}
    asked = texts["How many?"]
    assert policy.decode_reply(asked.token_ids) == "How many?"
    assert asked.token_ids[-1] in policy.end_ids
    assert texts["It is 7"].token_ids[-1] not in policy.end_ids
    assert all(math.isnan(logp) for logp in asked.logprobs)
    assert found.groups(policy, [known], [(1, 2)], step=0) != []


def load_prompts():
    from icpo_lite.data.from_recipe import training_prompts

    return training_prompts(load_recipe("tiny", BASE))[0]


def fields(prompt):
    return {name: getattr(prompt, name) for name in prompt.__dataclass_fields__}


def test_a_run_learns_from_them(tmp_path, monkeypatch) -> None:
    """Two prompts of the run's own, right and wrong answers: A-LoL and REC make updates."""
    prompts = load_prompts()
    q = next(p for p in prompts if p.intent == "complete")
    lacks = next(p for p in prompts if p.intent == "underspecified")
    write(
        tmp_path / "run",
        [
            row(q.prompt_id, f"The answer is {q.answer}."),
            row(q.prompt_id, "The answer is 99999."),
            row(lacks.prompt_id, "How many are there?"),
            row(lacks.prompt_id, "The answer is 99999."),
        ],
    )
    for loss in ("a_lol", "rec"):
        recipe = load_recipe(
            "tiny", [*BASE, f"loss_type={loss}", f"logged_completions={tmp_path}/run"]
        )
        report = Trainer.from_recipe(recipe).step()
        assert {g.prompt.prompt_id for g in report.groups} == {q.prompt_id, lacks.prompt_id}
        assert report.metrics["grad_norm"] > 0
        assert report.metrics["accuracy"] == 0.5


def test_what_is_no_log_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="expected a run directory"):
        logged(tmp_path)
    write(tmp_path / "run", [row("a", "x"), row("b", "y")])
    with pytest.raises(DataError, match="2 or more to a prompt"):
        logged(tmp_path)
    with pytest.raises(RecipeError, match="found output_dir itself"):
        logged(tmp_path, f"output_dir={tmp_path}/run")
    write(tmp_path / "other", [row("a", "x"), row("a", "y")])
    other = logged(tmp_path, f"logged_completions={tmp_path}/other")
    with pytest.raises(DataError, match="found those of others"):
        other.known(load_prompts()[:2])
