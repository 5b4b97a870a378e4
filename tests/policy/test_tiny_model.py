"""The embedded model has the habits that its module claims, and knows every word of the world."""

import pytest
import torch
from policies import model_keys

from icpo_lite.data.tiny_world import world_problems
from icpo_lite.evaluation.runner import evaluate
from icpo_lite.policy.load import load_policy, load_tokenizer
from icpo_lite.rewards.from_recipe import bind_judge, choose_shard
from icpo_lite.rollout.groups import PolicyTalker
from icpo_lite.rollout.sampler import SamplingOptions
from icpo_lite.rollout.simulated_user import concat_text, recap_text, snowball_text
from icpo_lite.tools.pretrain_tiny import DialogueMaker, Mix, encode, make_tokenizer, vocabulary


def test_shipped_tokenizer_is_the_one_that_the_command_makes():
    shipped, made = load_tokenizer("builtin:tiny"), make_tokenizer()
    assert shipped.get_vocab() == made.get_vocab()
    assert shipped.chat_template == made.chat_template
    assert len(vocabulary()) == len(set(vocabulary()))


@pytest.mark.parametrize("split", ["train", "dev", "test", "transfer"])
def test_every_word_of_the_world_is_known(split):
    tokenizer = load_tokenizer("builtin:tiny")
    for problem in world_problems(split, 60):
        shards = problem.shards
        texts = [problem.question, problem.solution, *problem.columns["asks"]]
        texts += [concat_text(shards), recap_text(shards), snowball_text(shards, shards[1])]
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids, text


def test_dialogues_are_reproducible_and_teach_assistant_turns_alone():
    tokenizer = make_tokenizer()
    first, second = DialogueMaker(Mix(), 3), DialogueMaker(Mix(), 3)
    dialogues = [first.dialogue() for _ in range(50)]
    assert dialogues == [second.dialogue() for _ in range(50)]
    ids, labels = encode(tokenizer, dialogues)
    learned = labels != -100
    assert torch.equal(ids[learned], labels[learned])
    for row, said in enumerate(dialogues):
        words = sum(
            len(tokenizer(s.message.content, add_special_tokens=False)["input_ids"])
            + 1
            - (s.loss == "rest")
            for s in said
            if s.loss != "none"
        )
        assert int(learned[row].sum()) == words
        assert all(s.message.role == "assistant" for s in said if s.loss != "none")


def test_base_solves_guesses_and_gets_lost():
    policy = load_policy(model_keys("builtin:tiny", device="cpu"))
    result = evaluate(
        "base",
        PolicyTalker(policy, SamplingOptions(48)),
        bind_judge(None, policy),
        list(world_problems("dev", 70, seed=9)),
        choose=choose_shard,
        settings=["full", "sharded", "underspecified"],
        runs=3,
        seed=0,
    )
    figures = {k: v["P"]["value"] for k, v in result.summary["settings"].items()}
    rates = {k: v["value"] for k, v in result.summary["rates"].items()}
    assert 75 < figures["full"] < 95
    assert 10 < figures["sharded"] < 35
    assert 8 < rates["clarification_rate"] < 25
    assert rates["over_asking_rate"] < 8
