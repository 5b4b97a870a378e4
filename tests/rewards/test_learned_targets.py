"""The learned judge of targets: words by their vectors, weights by name, and where it decides."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icpo_lite.core.errors import ModelError
from icpo_lite.core.types import Intent, Message, Prompt, Shard
from icpo_lite.data.tiny_world import world_problems, world_prompts
from icpo_lite.rewards import learned_targets, question_targets, word_vectors
from icpo_lite.rewards.question_targets import aim


def _lacking(removed: str, *given: str, goal: str) -> Prompt:
    facts = [Shard(i, text) for i, text in enumerate((removed, *given), start=1)]
    said = (Message("user", " ".join([*given, goal])),)
    shards = (Shard(0, goal, is_question=True), *facts)
    return Prompt("p", "p", "math", Intent.UNDERSPECIFIED, said, "1", shards, (facts[0],))


TRUCK = _lacking(
    "A delivery truck can carry up to 2000 pounds.",
    "There are 80 flagstones in total for delivery.",
    "Each flagstone weighs 75 pounds.",
    goal="how many trucks are needed?",
)


def test_words_of_like_meaning_are_near() -> None:
    rows = word_vectors.shipped().rows(["muddi", "dirt", "cost", "pric", "no-such-word"])
    near = rows @ rows.T
    assert near[0, 1] > near[0, 2] + 0.2
    assert near[2, 3] > near[1, 3] + 0.2
    assert not rows[4].any()


@pytest.mark.parametrize(
    ("question", "hits"),
    [
        ("Please tell me how many pounds one truck can carry.", 1),
        ("What load can a single lorry take?", 1),
        ("How much does each flagstone weigh?", 0),
        ("What colour is the truck?", 0),
        ("Could you tell me more about this task?", 0),
        ("How many trucks are needed?", 0),
    ],
)
def test_a_fact_is_asked_for_in_any_words(question: str, hits: int) -> None:
    assert aim(TRUCK, question).hits == hits


def test_the_rules_decide_what_the_model_has_not_seen() -> None:
    assert question_targets._is_learned(TRUCK)
    world = list(world_prompts(list(world_problems("train", 20)), seed=1))
    assert not any(question_targets._is_learned(prompt) for prompt in world)
    assert not question_targets._is_learned(replace(TRUCK, task="code"))
    assert not question_targets._is_learned(replace(TRUCK, removed=TRUCK.shards[1:]))


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = learned_targets.shipped()
    learned_targets.save(model, {"what": "a copy"}, tmp_path / "targets.json")
    again = learned_targets.load(tmp_path / "targets.json")
    assert np.allclose(again.whole, model.whole)
    assert again.threshold == model.threshold


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"form": 0})])
def test_another_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "targets.json").write_text(text)
    with pytest.raises(ModelError, match=r"targets\.json"):
        learned_targets.load(tmp_path / "targets.json")


def test_importing_the_judge_reads_no_vectors() -> None:
    script = (
        "from icpo_lite.rewards import judge, word_vectors, learned_targets\n"
        "assert not word_vectors.shipped.cache_info().currsize\n"
        "assert not learned_targets.shipped.cache_info().currsize\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
