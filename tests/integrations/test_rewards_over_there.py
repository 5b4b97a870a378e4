"""The reward as TRL and verl call it, against our own judge and reward on the same completions."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from icpo_lite.cli.handover import handover
from icpo_lite.core.errors import RecipeError, UsageError
from icpo_lite.core.types import Intent, Message, Prompt
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.integrations import trl, verl
from icpo_lite.policy.load import load_policy
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.from_recipe import bind_judge, bind_reward, bind_reward_change
from icpo_lite.rollout.groups import judge_groups, reward_groups, sample_groups
from icpo_lite.rollout.noise import SamplingOptions
from icpo_lite.tools.handover.handed_prompts import handed_prompts, packed
from icpo_lite.tools.handover.reply_rewards import ReplyRewards, unpacked

SMALL = ["max_steps=2", "prompts_per_step=6", "num_generations=4", "max_completion_length=14"]
RECIPES = {
    "guarded": [],
    "paper": ["reward=paper"],
    "accuracy": ["reward=accuracy", "share_underspecified=0"],
    "weights": ["reward.targeted=0.7", "reward.max_tokens=6", "judge=linear"],
    "length": ["soft_punish_cache=9"],
}


def small(*more):
    return load_recipe("tiny", [*SMALL, *more])


@pytest.fixture(scope="module")
def policy():
    return load_policy(small("device=cpu", "load_in_4bit=false"), threads=1)


@pytest.fixture(scope="module")
def handed():
    return handed_prompts(small("share_underspecified=0.5"))


def sampled(policy, recipe, prompts):
    ids = [policy.encode_chat(p.messages) for p in prompts]
    options = SamplingOptions(recipe.max_completion_length, 1.2)
    return sample_groups(policy, prompts, ids, num_generations=4, options=options, seed=3, step=0)


def ours(recipe, groups):
    rule, change = bind_reward(recipe), bind_reward_change(recipe)
    return reward_groups(judge_groups(groups, bind_judge(recipe, None)), rule, change)


@pytest.mark.parametrize("name", RECIPES)
def test_rewards_equal_ours_to_1e_9(name, policy, handed):
    recipe = small(*RECIPES[name])
    groups = sampled(policy, recipe, handed.prompts[:4] + handed.prompts[-4:])
    flat = [t for g in ours(recipe, groups) for t in g.trajectories]
    wanted = [t.reward.total for t in flat]
    assert len(set(wanted)) > 1
    assert {t.reply.stop_reason for t in flat} == {"eos", "length"}
    rows = [packed(t.prompt) for t in flat]
    # As TRL decodes completions, and as verl decodes responses.
    texts = policy.tokenizer.batch_decode(
        [list(t.reply.token_ids) for t in flat], skip_special_tokens=True
    )
    (reward,) = trl.reward_funcs(recipe)
    logged = {}
    there = reward(
        prompts=[None] * len(flat),
        completions=[[{"role": "assistant", "content": text}] for text in texts],
        completion_ids=[list(t.reply.token_ids) for t in flat],
        log_metric=logged.__setitem__,
        trainer_state=None,
        prompt_row=rows,
    )
    assert there == pytest.approx(wanted, abs=1e-9)
    assert reward.__name__ == recipe.reward["name"]
    assert {"accuracy", "clarification_rate", "over_asking_rate"} <= logged.keys()
    scores = [
        verl.compute_score("d", text, "", {"prompt_row": row}, recipe=recipe)["score"]
        for row, text in zip(rows, texts, strict=True)
    ]
    assert scores == pytest.approx(wanted, abs=1e-9)


def test_own_functions_and_weights_go_along(tmp_path, policy, handed):
    """Also into the folder, where they lie beside the recipe."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.py").write_text(
        "def brief(prompts, completions, intent, completion_ids, **columns):\n"
        "    return [None if k == 'complete' else -len(i) / 7 for k, i in "
        "zip(intent, completion_ids)]\n"
    )
    (tmp_path / "r.yaml").write_text(
        "extends: tiny\nreward_funcs: [mine/own.py:brief]\nreward_weights: [0.25]\n"
    )
    recipe = load_recipe(tmp_path / "r.yaml", SMALL)
    groups = sampled(policy, recipe, handed.prompts[-4:])
    flat = [t for g in ours(recipe, groups) for t in g.trajectories]
    out = tmp_path / "out"
    result = CliRunner().invoke(
        handover, [str(tmp_path / "r.yaml"), *SMALL, "--to", "verl", "-o", str(out)]
    )
    assert result.exit_code == 0, result.output
    for place in (recipe, out / "recipe.yaml"):
        (reward,) = trl.reward_funcs(place)
        there = reward(
            prompts=[None] * len(flat),
            completions=[t.reply.content for t in flat],
            completion_ids=[t.reply.token_ids for t in flat],
            prompt_row=[packed(t.prompt) for t in flat],
        )
        assert there == pytest.approx([t.reward.total for t in flat], abs=1e-9)
    assert (out / "mine" / "own.py").is_file()


def test_rows_come_in_the_order_of_our_own_steps(handed):
    recipe = small("share_schedule={name: linear, first: 0.5, last: 0.0}", "max_steps=6")
    rows = trl.dataset(recipe)
    pool = PromptPool(handed_prompts(recipe).prompts, seed=recipe.seed)
    drawn = [
        prompt.prompt_id
        for step in range(6)
        for prompt in pool.draw(recipe.prompts_per_step, 0.5 - 0.5 * step / 6)
    ]
    assert rows["prompt_id"] == drawn
    assert [r["extra_info"]["prompt_id"] for r in verl.dataset(recipe)] == drawn
    lacks = [kind == "underspecified" for kind in rows["intent"]]
    assert sum(lacks[:6]) > sum(lacks[-6:])


def test_a_prompt_reads_there_as_here(handed, policy):
    """TRL hands a batch of chats to the tokenizer; each gives the tokens of our own trainer."""
    tokenizer = trl.tokenizer(handed.recipe)
    prompts = handed.prompts[:3] + handed.prompts[-3:]
    chats = [handed.reader.turns(p) for p in prompts]
    found = tokenizer.apply_chat_template(
        conversation=chats,
        tools=None,
        chat_template=None,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )["input_ids"]
    assert [tuple(ids) for ids in found] == [policy.encode_chat(p.messages) for p in prompts]
    assert handed.reader.end_ids == policy.end_ids
    assert all(map(handed.reader.reads_alike, prompts))


def test_a_prompt_is_packed_whole():
    prompt = Prompt(
        *("p/underspecified", "p", "actions", Intent.COMPLETE),
        (Message("system", "Be brief.", '[{"name": "f"}]'), Message("user", "“Hi” — 你好")),
        [["f(x=1)"]],
        columns={"functions": [{"name": "f"}], "n": 3},
        targets=("the city",),
        source="q.jsonl:1",
        opening=1,
    )
    assert unpacked(packed(prompt)) == prompt


def test_a_reply_is_cut_off_where_it_fills_the_length(handed):
    rewards = ReplyRewards(handed.recipe)
    row, (end, *_) = packed(handed.prompts[0]), rewards.reader.end_ids
    limit = handed.recipe.max_completion_length
    stops = {
        "ended": ([5] * 3 + [end], "eos"),
        "ended at the limit": ([5] * (limit - 1) + [end], "eos"),
        "full": ([5] * limit, "length"),
        "nothing": ([], "length"),
        "not told": (None, None),
    }
    for name, (ids, stop) in stops.items():
        assert rewards.reply(row, "7", ids).stop_reason == stop, name


def test_thoughts_that_trl_took_out_come_from_the_tokens(handed, policy):
    (reward,) = trl.reward_funcs(handed.recipe)
    asks = handed.prompts[-1]
    ids = policy.encode_text("How many apples does Ann have ?")
    whole = [{"role": "assistant", "content": "", "reasoning_content": "How many?"}]
    plain = [{"role": "assistant", "content": policy.decode(ids)}]
    rows = {"prompts": [None], "completion_ids": [list(ids)], "prompt_row": [packed(asks)]}
    assert reward(completions=[whole], **rows) == reward(completions=[plain], **rows)


def test_threads_may_score_side_by_side(handed):
    recipe = handed.recipe
    rows = [packed(p) for p in handed.prompts[:24]]
    texts = ["The answer is 7.", "How many apples does Ann have?", ""] * 8
    barrier = threading.Barrier(8)

    def score(i):
        if i < 8:
            barrier.wait(20)
        return verl.compute_score("d", texts[i], "", {"prompt_row": rows[i]}, recipe=recipe)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(score, range(24)))
    assert found == [
        verl.compute_score("d", texts[i], "", {"prompt_row": rows[i]}, recipe=recipe)
        for i in range(24)
    ]


@pytest.mark.parametrize("more", [["judge=self"], ["reward.target_by=gold_rise"]])
def test_a_judge_that_asks_the_model_goes_to_trl_alone(more, tmp_path, policy):
    recipe = small(*more)
    with pytest.raises(RecipeError, match="--to trl"):
        verl.dataset(recipe)
    with pytest.raises(RecipeError, match="--to trl"):
        verl.compute_score("d", "7", "", {"prompt_row": "{}"}, recipe=recipe)
    arguments = ["tiny", *SMALL, *more, "--to", "trl", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(handover, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "loads a second time" in " ".join(result.output.split())


def test_the_judge_that_asks_the_model_is_asked_in_trl(policy, handed, monkeypatch):
    """By this process's own copy of the base, with the rewards of our own judge."""
    recipe = small("judge=self", "load_in_4bit=false", "device=cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    (reward,) = trl.reward_funcs(recipe)
    groups = sampled(policy, recipe, handed.prompts[-2:])
    rule, judge = bind_reward(recipe), bind_judge(recipe, policy)
    flat = [t for g in reward_groups(judge_groups(groups, judge), rule) for t in g.trajectories]
    there = reward(
        prompts=[None] * len(flat),
        completions=[t.reply.content for t in flat],
        completion_ids=[t.reply.token_ids for t in flat],
        prompt_row=[packed(t.prompt) for t in flat],
    )
    assert there == pytest.approx([t.reward.total for t in flat], abs=1e-9)


def test_rows_that_are_not_ours_are_refused_in_a_line():
    (reward,) = trl.reward_funcs("tiny")
    with pytest.raises(UsageError, match="expected the column 'prompt_row'"):
        reward(prompts=["p"], completions=["c"], completion_ids=[[1]], answer=["7"])
    with pytest.raises(UsageError, match="expected 'prompt_row' in extra_info"):
        verl.compute_score("openai/gsm8k", "7", "7", {"index": 3}, recipe="tiny")


def test_the_facts_of_a_folder_say_where_names_were_read(tmp_path):
    out = tmp_path / "out"
    CliRunner().invoke(handover, ["tiny", *SMALL, "--to", "trl", "-o", str(out)])
    facts = json.loads((out / "handover.json").read_text())
    assert facts["to"] == "trl"
    assert Path(facts["recipe"]).name == "tiny.yaml"
