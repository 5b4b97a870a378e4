"""Runs whose rollouts are conversations: they resume bit for bit, and their records say it all."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from icpo_lite.core.console import Display
from icpo_lite.core.files import read_metrics
from icpo_lite.recipe import load_recipe
from icpo_lite.runs import train as run_module
from icpo_lite.runs.checkpoint import latest_checkpoint
from icpo_lite.runs.session import prepare_session
from icpo_lite.training import dry_run
from icpo_lite.training.updater import Updater

SMALL = (
    *("prompts_per_step=4", "num_generations=4", "compare={}", "evaluation.enabled=false"),
    *("device=cpu", "logging_steps=1", "log_completions_steps=2", "max_completion_length=24"),
    *("share_underspecified=0.5", "num_mini_batches=1", "credit=trajectory"),
    "conversation_reward={terminal: 1}",
)


def recipe(folder, *overrides):
    return load_recipe("tiny-multiturn", [f"output_dir={folder}", *SMALL, *overrides])


def quiet(tmp_path):
    return Display(total=1, live=False, file=(tmp_path / "printed.txt").open("a"))


def adapter(folder):
    return load_file(folder / "adapter_model.safetensors")


#: A process that is killed while a conversation of its third step is on, after the second turn.
KILLED = """
import os, signal, sys
from icpo_lite.recipe import load_recipe
from icpo_lite.rollout.growing import GrowingTalker
from icpo_lite.runs.train import train

before = GrowingTalker.reply

def reply(self, chats, keys):
    turns = before(self, chats, keys)
    if keys[0][1] == 2 and keys[0][-2] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return turns

GrowingTalker.reply = reply
train(load_recipe("tiny-multiturn", sys.argv[1:]), threads=1)
"""


#: All that a run of conversations remembers from step to step, or computes beside the rollouts.
EVERYTHING = (
    *("shard_curriculum={name: rlaar, steps: 1}", "prompt_curriculum=sec", "credit=igpo"),
    *("branching=arpo", "truncated_share=0.3", "ask_costs=[0.0, 0.5]"),
)


def test_killed_within_a_conversation_it_ends_bit_for_bit_the_same(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    steps = ("max_steps=3", "save_steps=2", *EVERYTHING)
    run_module.train(recipe(whole, *steps), quiet(tmp_path), threads=1)
    overrides = [f"output_dir={cut}", *SMALL, *steps]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *overrides], capture_output=True, check=False, timeout=300
    )
    assert killed.returncode == -9, killed.stderr.decode()[-2000:]
    assert latest_checkpoint(cut).path.name == "checkpoint-2"
    run_module.train(recipe(cut, *steps), quiet(tmp_path), threads=1)
    one, other = adapter(whole), adapter(cut)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    same = ("loss", "reward", "entropy", "grad_norm", "conversation/turns", "conversation/solved")
    curricula = [k for k in read_metrics(whole)[-1] if k.startswith("curriculum/")]
    assert curricula
    same = (*same, *curricula)
    for a, b in zip(read_metrics(whole), read_metrics(cut), strict=True):
        assert {k: a.get(k) for k in same} == {k: b.get(k) for k in same}


def test_metrics_and_completions_tell_conversations_turn_by_turn(tmp_path):
    run = tmp_path / "run"
    run_module.train(recipe(run, "max_steps=2", "credit=igpo"), quiet(tmp_path), threads=1)
    rows = [
        json.loads(line)
        for line in (run / "completions/step-000002.jsonl").read_text().splitlines()
    ]
    talks = [row for row in rows if "turns" in row]
    assert talks
    for row in talks:
        replies = [turn for turn in row["turns"] if turn["role"] == "assistant"]
        assert row["completion"] == replies[-1]["content"]
        assert row["reward"] == pytest.approx(sum(turn["reward"] for turn in replies))
        assert all(turn["response_type"] for turn in replies)
        assert all(0 < turn["gold_prob"] < 1 for turn in replies)
        assert all(isinstance(turn["advantage"], float) for turn in replies)
        told = [i for turn in row["turns"] for i in turn.get("told", ())]
        assert set(told) <= set(row["removed_ids"])
    last = read_metrics(run)[-1]
    mean = sum(
        len([t for t in row.get("turns", "a") if t == "a" or t["role"] == "assistant"])
        for row in rows
    ) / len(rows)
    assert last["conversation/turns"] == pytest.approx(mean)
    assert last["completions/mean_length"] == pytest.approx(
        sum(row["tokens"] for row in rows) / len(rows)
    )
    assert 0 <= last["conversation/lucky"] <= last["conversation/solved"] <= 1
    printed = (tmp_path / "printed.txt").read_text()
    assert "conversations paid by intent, credit by igpo" in printed
    assert "ids of a growing conversation are the template's own" in printed


def test_the_dry_run_is_as_long_as_the_longest_conversation(tmp_path, monkeypatch):
    seen = []
    real = Updater.update
    monkeypatch.setattr(Updater, "update", lambda self, b, *a: (seen.append(b), real(self, b, *a)))
    chosen = recipe(tmp_path / "run", "prompts_per_step=2", "max_assistant_turns=3")
    trainer = prepare_session(chosen, quiet(tmp_path), 1).trainer
    found = dry_run.dry_run(trainer)
    longest = max(map(len, trainer.prompt_ids.values()))
    behind = trainer.longest_reply(longest)
    # Three replies of 24 tokens, two turns of the user's between them.
    assert 3 * 24 + 2 * 10 < behind < 3 * 24 + 2 * 30
    assert seen[0].input_ids.shape[1] == longest + behind
    assert str(longest + behind) in " ".join(found.lines(1))


def test_one_turn_is_what_a_single_turn_run_learns(tmp_path):
    """One turn and the replies' own reward alone: the same samples, rewards and weights."""
    one, other = tmp_path / "one", tmp_path / "other"
    alone = ("max_assistant_turns=1", "conversation_reward={terminal: 0}")
    # Every prompt counts by the replies it calls for: with complete ones alone that is one.
    share = "share_underspecified=0.0"
    steps = ("max_steps=2", share)
    run_module.train(recipe(one, *steps, *alone), quiet(tmp_path), threads=1)
    run_module.train(recipe(other, *steps, "rollout=single_turn"), quiet(tmp_path), threads=1)
    first, second = adapter(one), adapter(other)
    assert all(torch.equal(first[name], second[name]) for name in first)


KILLED_TEACHER = KILLED.replace('load_recipe("tiny-multiturn"', 'load_recipe("tiny-maigo"')


def test_a_teacher_that_follows_is_resumed_bit_for_bit(tmp_path):
    """Its average is in the checkpoint: killed within the third step, the run ends as it would."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    steps = ("max_steps=3", "save_steps=2", "teacher_model_kind=ema", "teacher_update_rate=0.5")
    steps += ("prompts_per_step=2", "num_mini_batches=2", "learning_rate=0.01")
    overrides = [*SMALL, *steps]
    run_module.train(
        load_recipe("tiny-maigo", [f"output_dir={whole}", *overrides]), quiet(tmp_path), threads=1
    )
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_TEACHER, f"output_dir={cut}", *overrides],
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert killed.returncode == -9, killed.stderr.decode()[-2000:]
    assert (latest_checkpoint(cut).path / "teacher.safetensors").is_file()
    run_module.train(
        load_recipe("tiny-maigo", [f"output_dir={cut}", *overrides]), quiet(tmp_path), threads=1
    )
    one, other = adapter(whole), adapter(cut)
    assert all(torch.equal(one[name], other[name]) for name in one)
    last = read_metrics(whole)[-1]
    assert last["reward"] == 0
    assert last["distill/kl"] > 0
    assert read_metrics(cut)[-1]["distill/kl"] == last["distill/kl"]


def test_a_budget_of_tokens_ends_a_run_and_stretches_its_schedules(tmp_path):
    run = tmp_path / "run"
    limits = ("max_steps=50", "max_sampled_tokens=400", "learning_rate=1.0e-3", "warmup_steps=0")
    changes = (*limits, "lr_scheduler_type=linear", "min_lr_ratio=0")
    run_module.train(recipe(run, "prompts_per_step=2", *changes), quiet(tmp_path), threads=1)
    rows = read_metrics(run)
    spent = [sum(row["tokens/sampled"] for row in rows[:i]) for i in range(len(rows) + 1)]
    assert spent[-2] < 400 <= spent[-1]
    assert len(rows) < 50
    for row, before in zip(rows, spent, strict=False):
        assert row["learning_rate"] == pytest.approx(1e-3 * (1 - int(50 * before / 400) / 50))
    assert (run / "finished").is_file()
    run_module.train(recipe(run, "prompts_per_step=2", *changes), quiet(tmp_path), threads=1)
    assert len(read_metrics(run)) == len(rows)
