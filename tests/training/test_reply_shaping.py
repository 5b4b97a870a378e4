"""ASPO, HAPO's advantage and D3S, computed by hand."""

import pytest
import torch

from icpo_lite.core.types import Group, Intent, Prompt, ResponseType, Reward, Trajectory, Turn
from icpo_lite.core.types import Verdict as Said
from icpo_lite.recipe import load_recipe
from icpo_lite.recipe.method_sections import SHAPINGS, TOKEN_WEIGHTS
from icpo_lite.rollout.noise import EntropyStats, SamplingOptions, draw
from icpo_lite.training.reply_shaping import (
    SHAPING_OPTIONS,
    TOKEN_OPTIONS,
    AspoOptions,
    ReplyShaping,
    TokenShaping,
    aspo,
    grown,
)
from icpo_lite.training.token_weights import spread_rows, telling_tokens, token_means

F64 = torch.float64


def test_the_tables_have_what_a_recipe_may_name() -> None:
    assert set(SHAPING_OPTIONS) == set(SHAPINGS)
    assert set(TOKEN_OPTIONS) == set(TOKEN_WEIGHTS)


def test_aspo_moves_right_replies_alone() -> None:
    """Right replies of 10, 20, 30 tokens, mean 20; push -2: 1, 0, -1, held to ±0.7 of |A| = 1."""
    lengths = torch.tensor([10, 20, 30, 90], dtype=F64)
    right = torch.tensor([True, True, True, False])
    advantages = torch.tensor([1, 1, 1, -3], dtype=F64)
    found = aspo(advantages, lengths, right, lengths, AspoOptions())
    assert found.tolist() == pytest.approx([1.7, 1.0, 0.3, -3.0])
    mild = aspo(advantages, lengths, right, lengths, AspoOptions(push=-0.4))
    assert mild.tolist() == pytest.approx([1.2, 1.0, 0.8, -3.0])
    one = torch.tensor([True, False, False, False])
    assert aspo(advantages, lengths, one, lengths, AspoOptions()).tolist() == advantages.tolist()


def asking(text: str, tokens: int, kind: ResponseType = ResponseType.CLARIFICATION) -> Trajectory:
    prompt = Prompt("p", "p", "math", Intent.UNDERSPECIFIED, (), "1")
    turn = Turn("assistant", text, (1,) * tokens, (-1.0,) * tokens, "eos", Said(kind))
    return Trajectory(prompt, (1,), (turn,), Reward(1.0))


def test_asking_early_counts_up_to_the_question_mark() -> None:
    """Question marks after 2 of 4 characters of 8 tokens (4) and after 4 of 4 of 8 (8): mean 6,
    lengths 8: -2 (∓2 / 8) = ±0.5. An answer attempt asks nothing and stays."""
    rows = (
        asking("a?bc", 8),
        asking("abc?", 8),
        asking("abcd", 8, ResponseType.ANSWER_ATTEMPT),
    )
    shaping = ReplyShaping(
        load_recipe("tiny", ["advantage_shaping={name: aspo, metric: ask_early}"])
    )
    (found,) = shaping([Group(rows[0].prompt, rows, (1.0, 1.0, -2.0))], 1.0)
    assert found.advantages == pytest.approx((1.5, 0.5, -2.0))


def test_hapos_advantage_is_over_tokens() -> None:
    """Rewards 1, 0 of 1 and 3 tokens: mean 1/4, squares (9 + 3) / 16 = 3/4 over 4, the biased std
    of the public code: sqrt(3) / 4."""
    found = token_means(torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([1.0, 3.0], dtype=F64))
    std = 3**0.5 / 4 + 1e-4
    assert found.tolist() == pytest.approx([0.75 / std, -0.25 / std])
    # One token among 100: mean .01, std .0995: 9.95 is above 5, and GRPO's ±.5 / .7071 stands.
    few = token_means(torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([1.0, 99.0], dtype=F64))
    assert few.tolist() == pytest.approx([0.5 / (0.5**0.5 + 1e-4), -0.5 / (0.5**0.5 + 1e-4)])
    flat = token_means(torch.ones(2, dtype=F64), torch.tensor([1.0, 3.0], dtype=F64))
    assert flat.tolist() == [0.0, 0.0]


def test_the_rows_that_spread_most() -> None:
    """Of -1, 0, .2, 3 two: -1 and 3; three: -1, 0 and 3 (variance 2.89) before -1, .2, 3 (2.83)."""
    values = torch.tensor([0.2, -1.0, 3.0, 0.0], dtype=F64)
    assert spread_rows(values, 2).tolist() == [1, 2]
    assert spread_rows(values, 3).tolist() == [1, 2, 3]


def test_the_tokens_that_tell_most() -> None:
    """|A| H: 2, .5, 4, 0 outside: half of three is two tokens."""
    entropy = torch.tensor([[1.0, 0.5], [2.0, 9.0]])
    advantages = torch.tensor([[2.0, 1.0], [-2.0, -2.0]])
    mask = torch.tensor([[True, True], [True, False]])
    found = telling_tokens(entropy, advantages, mask, 0.5)
    assert found.tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_shares_grow_to_all() -> None:
    assert [grown(0.5, step, 10) for step in (0, 5, 10, 99)] == [0.5, 0.75, 1.0, 1.0]
    assert grown(0.5, 99, None) == 0.5


def test_d3s_chooses_among_the_replies_of_all_groups() -> None:
    """Half of 4 + 2: of -1, 0, .2, 3 and -2, 2 three: -2, 2, 3 has variance 4.67, -2, -1, 3 also
    4.67 and -2, 2, 3 comes first with fewer small ones; a demonstration stays beside them."""
    shaping = ReplyShaping(load_recipe("tiny", ["token_weights=d3s", "max_steps=10"]))
    rows = tuple(asking("?", 1) for _ in range(4))
    groups = [
        Group(rows[0].prompt, rows, (0.2, -1.0, 3.0, 0.0)),
        Group(rows[0].prompt, rows[:1], (1.0,)),
        Group(rows[0].prompt, rows[:2], (-2.0, 2.0)),
        Group(rows[0].prompt, rows[:2], (0.1, -0.1)),
    ]
    kept = shaping.kept(groups[:3], 0)
    assert [g.advantages for g in kept] == [(3.0,), (1.0,), (-2.0, 2.0)]
    # Half of eight: -2, -1, 2, 3. The last group has none of them and goes.
    kept = shaping.kept(groups, 0)
    assert [g.advantages for g in kept] == [(-1.0, 3.0), (1.0,), (-2.0, 2.0)]
    assert shaping.kept(groups, 10) == groups


def test_d3s_keeps_replies_of_a_group() -> None:
    own = ["token_weights={name: d3s, across: false}", "max_steps=10"]
    shaping = ReplyShaping(load_recipe("tiny", own))
    rows = tuple(asking("?", 1) for _ in range(4))
    group = Group(rows[0].prompt, rows, (0.2, -1.0, 3.0, 0.0))
    (kept,) = shaping.kept([group], 0)
    assert kept.advantages == (-1.0, 3.0)
    assert shaping.kept([group], 10)[0].advantages == group.advantages


def test_temperature_follows_entropy() -> None:
    """Two tokens of probabilities .8 and .2: H = .5004, log H = -.6923. Above the quantile and
    scaled to h = 1, tau .5 makes the temperature 1.5: odds 4^(1/1.5) = 2.52, p = .7159."""
    logits = torch.tensor([[0.8, 0.2]]).log()
    stats = EntropyStats(quantile=-0.7923, std=0.1, up=1.0, down=1.0)
    options = SamplingOptions(1, entropy_tau=0.5, entropy_stats=stats)
    for noise, token in ((0.715, 0), (0.717, 1)):
        drawn, logp = draw(logits, torch.tensor([noise], dtype=F64), options)
        assert drawn.tolist() == [token]
        # What is told stays the log-prob that training computes.
        assert float(logp) == pytest.approx(float(logits[0, token]), abs=1e-6)
    plain = SamplingOptions(1)
    assert draw(logits, torch.tensor([0.79], dtype=F64), plain)[0].tolist() == [0]


def test_hapos_figures_survive_a_checkpoint() -> None:
    recipe = load_recipe("tiny", ["token_weights=hapo"])
    one, other = TokenShaping(recipe), TokenShaping(recipe)
    assert one.state == {}
    one.scale(torch.tensor([[0.1, 0.5, 1.0]]), torch.ones(1, 3, dtype=torch.bool))
    other.restore(one.state)
    assert other.stats == one.stats
    assert other.tau == 0.05
    unsigned = TokenShaping(load_recipe("tiny", ["token_weights={name: hapo, signed: false}"]))
    scale = unsigned.scale(torch.tensor([[0.1, 0.5, 1.0]]), torch.ones(1, 3, dtype=torch.bool))
    assert float(scale.min()) >= 0
