"""What a question costs: said in the system turn, sampled in training, taken off the reward."""

from collections import Counter

import pytest
from click.testing import CliRunner

from icpo_lite.cli import chat as chat_module
from icpo_lite.cli.eval import eval_ as eval_command
from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import (
    Intent,
    Message,
    Problem,
    Prompt,
    ResponseType,
    Reward,
    Turn,
    Verdict,
)
from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.data.system_prompts import cost_words, opening_turn, openings
from icpo_lite.evaluation.compare import _options
from icpo_lite.evaluation.request import evaluation_request
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.ask_cost import with_ask_cost
from icpo_lite.rewards.from_recipe import bind_judge, bind_reward, bind_reward_change
from icpo_lite.training.reward_check import check_reward

PRICED = ("ask_costs=[0.0, 0.3, 0.6, 0.9]",)
PROBLEM = Problem("p", "math", "How many?", "7")


@pytest.mark.parametrize(
    ("cost", "words"),
    [(0, "ask cost 0.0"), (0.2, "ask cost 0.2"), (1.0, "ask cost 1.0"), (0.25, "ask cost 0.25")],
)
def test_how_a_price_is_said(cost, words):
    assert cost_words(cost) == words


def test_it_stands_in_the_turn_that_opens_the_chat():
    assert opening_turn(None, PROBLEM) is None
    assert opening_turn(None, PROBLEM, 0.2) == Message("system", "ask cost 0.2")
    assert opening_turn("none", PROBLEM, 0.2) == Message("system", "ask cost 0.2")
    neutral = openings("neutral", 0.2)(PROBLEM)
    assert neutral.content == "You are a helpful assistant.\n\nask cost 0.2"


def test_prompts_are_spread_over_the_prices_and_say_theirs():
    prompts, _ = training_prompts(load_recipe("tiny", PRICED))
    counts = Counter(p.ask_cost for p in prompts)
    assert set(counts) == {0.0, 0.3, 0.6, 0.9}
    assert min(counts.values()) > 0.2 * len(prompts)
    for prompt in prompts[:50]:
        assert prompt.messages[0] == Message("system", cost_words(prompt.ask_cost))
        assert prompt.opening == 1
    again, _ = training_prompts(load_recipe("tiny", PRICED))
    assert again == prompts
    plain, _ = training_prompts(load_recipe("tiny"))
    assert [p.text for p in plain] == [p.text for p in prompts]
    assert {p.ask_cost for p in plain} == {None}


def said(kind, cost):
    prompt = Prompt("p", "p", "math", Intent.UNDERSPECIFIED, (), "7", ask_cost=cost)
    return prompt, Turn("assistant", "?", verdict=Verdict(kind))


def test_questions_pay_their_price_and_nothing_else_does():
    replies = [
        said(ResponseType.CLARIFICATION, 0.3),
        said(ResponseType.INTERROGATION, 0.3),
        said(ResponseType.CLARIFICATION, 0.0),
        said(ResponseType.CLARIFICATION, None),
        said(ResponseType.ANSWER_ATTEMPT, 0.3),
        said(ResponseType.REFUSAL, 0.3),
    ]
    prompts, turns = zip(*replies, strict=True)
    paid = with_ask_cost(None)([Reward(1.0, {"a": 1.0})] * 6, prompts, turns)
    assert [r.total for r in paid] == [0.7, 0.7, 1, 1, 1, 1]
    assert paid[0].components == {"a": 1.0, "ask_cost": -0.3}
    assert paid[2].components == {"a": 1.0}
    doubled = with_ask_cost(lambda rewards, p, t: [Reward(2 * r.total) for r in rewards])
    assert [r.total for r in doubled([Reward(1.0)] * 6, prompts, turns)][:2] == [1.7, 1.7]


def test_the_recipes_prices_reach_the_reward_and_pass_its_check():
    assert bind_reward_change(load_recipe("tiny")) is None
    recipe = load_recipe("tiny", PRICED)
    prompts, _ = training_prompts(recipe)
    report = check_reward(
        prompts, bind_judge(recipe, None), bind_reward(recipe), change=bind_reward_change(recipe)
    )
    report.require_ok()
    with pytest.raises(RecipeError, match=r"ask_costs: expected costs of 0 or more, found -0\.1"):
        load_recipe("tiny", ["ask_costs=[-0.1]"])


def test_an_evaluation_names_the_price_it_is_asked_for_else_the_runs_first():
    recipe = load_recipe("tiny", ["ask_costs=[0.1, 0.5]"])
    assert _options(evaluation_request(), recipe, [PROBLEM]).ask_cost == 0.1
    asked = _options(evaluation_request(ask_cost=0.75), recipe, [PROBLEM])
    assert asked.ask_cost == asked.facts["ask_cost"] == 0.75
    assert _options(evaluation_request(), load_recipe("tiny"), [PROBLEM]).ask_cost is None


@pytest.mark.parametrize("command", [eval_command, chat_module.chat])
def test_the_commands_take_a_price(command):
    shown = CliRunner().invoke(command, ["--help"])
    assert "--ask-cost" in shown.output
    wrong = CliRunner().invoke(command, ["builtin:tiny", "--ask-cost", "-1"])
    assert wrong.exit_code == 2
