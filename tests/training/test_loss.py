"""Objectives against numbers computed by hand.

The hand case, in probabilities (log-probs are their logarithms):

    row 0, A = +1:  pi .30 .20 .50   old .20 .40 .50   ratio 1.5  0.5  1
    row 1, A = -2:  pi .60 .25 (pad) old .40 .50 (pad) ratio 1.5  0.5

With epsilon 0.2 on both sides, -min(r A, clip(r) A) is
    row 0: -1.2 (clipped above), -0.5, -1        row 1: 3.0, 1.6 (clipped below)
and the gradient for logp, which is -r A where not clipped and 0 where it is:
    row 0: 0, -0.5, -1                           row 1: 3.0, 0
"""

import math
from typing import Any

import pytest
import torch
from losses import correction_keys, loss_keys
from torch import Tensor

from icpo_lite.core.errors import RecipeError
from icpo_lite.recipe.objective_sections import LossKeys
from icpo_lite.training.loss import (
    LOSSES,
    k3,
    loss_normalizer,
    mean_metrics,
    policy_loss,
)
from icpo_lite.training.token_weights import (
    covariance,
    high_entropy_tokens,
    off_policy_rows,
    sampling_correction,
    sampling_mismatch,
    select_tokens,
)

F64 = torch.float64
NAN = float("nan")
#: Tokens of the longest response, which dr_grpo divides by.
LENGTH = 10
PI = torch.tensor([[0.3, 0.2, 0.5], [0.6, 0.25, NAN]], dtype=F64)
OLD = torch.tensor([[0.2, 0.4, 0.5], [0.4, 0.5, NAN]], dtype=F64)
MASK = torch.tensor([[True, True, True], [True, True, False]])
ADVANTAGES = torch.tensor([1.0, -2.0], dtype=F64)


def run(config: LossKeys, **arguments: Any) -> tuple[float, list[list[float]], dict[str, float]]:
    """Loss, gradient for logps [2, 3] and metrics of the hand case as one whole step."""
    logps = PI.log().requires_grad_()
    normalizer = loss_normalizer(config, [MASK], LENGTH)
    arguments = {"old_logps": OLD.log(), "advantages": ADVANTAGES, "mask": MASK} | arguments
    out = policy_loss(logps, keys=config, normalizer=normalizer, **arguments)
    (gradient,) = torch.autograd.grad(out.loss, logps)
    return out.loss.item(), gradient.tolist(), mean_metrics([out.metrics])


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(
        torch.tensor(found, dtype=F64), torch.tensor(expected, dtype=F64), rtol=0, atol=1e-12
    )


def test_grpo() -> None:
    """Row means -2.7/3 = -0.9 and 4.6/2 = 2.3, over two rows: 0.7."""
    loss, gradient, metrics = run(loss_keys("grpo"))
    close(loss, 0.7)
    close(gradient, [[0.0, -0.5 / 6, -1 / 6], [3 / 4, 0.0, 0.0]])
    assert metrics == {
        "clip_ratio/low_mean": pytest.approx(1 / 5),
        "clip_ratio/high_mean": pytest.approx(1 / 5),
        "clip_ratio/region_mean": pytest.approx(2 / 5),
    }


def test_dapo() -> None:
    """Sum -2.7 + 4.6 = 1.9 over five tokens."""
    loss, gradient, _ = run(loss_keys("dapo"))
    close(loss, 0.38)
    close(gradient, [[0.0, -0.1, -0.2], [0.6, 0.0, 0.0]])


def test_clip_higher_moves_the_upper_bound_alone() -> None:
    """epsilon_high 0.28: the first token is clipped to 1.28; sum 1.9 - 0.08."""
    loss, _, _ = run(loss_keys("dapo", epsilon=0.2, epsilon_high=0.28))
    close(loss, 1.82 / 5)


def test_bnpo_of_one_micro_batch_is_dapo() -> None:
    close(run(loss_keys("bnpo"))[0], 0.38)


def test_dr_grpo() -> None:
    """Sum 1.9 over 2 rows of at most 10 tokens."""
    loss, gradient, _ = run(loss_keys("dr_grpo"))
    close(loss, 0.095)
    close(gradient, [[0.0, -0.025, -0.05], [0.15, 0.0, 0.0]])


def test_cispo() -> None:
    """Cap 1.2: weights 1.2 .5 1 | 1.2 .5; loss -w A logp, gradient -w A, over five tokens."""
    loss, gradient, metrics = run(loss_keys("cispo", epsilon_high=1.2))
    terms = [
        *(-1.2 * math.log(0.3), -0.5 * math.log(0.2), -math.log(0.5)),
        *(2.4 * math.log(0.6), math.log(0.25)),
    ]
    close(loss, sum(terms) / 5)
    close(gradient, [[-0.24, -0.1, -0.2], [0.48, 0.2, 0.0]])
    assert metrics == {"cispo_clip_ratio": pytest.approx(1 / 5)}


def test_sequence_level_ratio() -> None:
    """GSPO: row 0 (1.5·0.5·1)^(1/3) = 0.9086, row 1 sqrt(0.75) = 0.8660, neither clipped.

    loss = (-0.9086 + 2·0.8660)/2; each token of a row gets -s A / (|row| · rows).
    """
    s0, s1 = 0.75 ** (1 / 3), 0.75**0.5
    loss, gradient, metrics = run(loss_keys("grpo", importance_sampling_level="sequence"))
    close(loss, (-s0 + 2 * s1) / 2)
    close(gradient, [[-s0 / 6] * 3, [s1 / 2, s1 / 2, 0.0]])
    assert metrics["clip_ratio/region_mean"] == 0


def test_sequence_level_clips_whole_rows() -> None:
    """epsilon 0.1: row 1 falls below 0.9 with A < 0, so its loss is 1.8 and its gradient 0."""
    config = loss_keys("grpo", importance_sampling_level="sequence", epsilon=0.1)
    loss, gradient, metrics = run(config)
    close(loss, (-(0.75 ** (1 / 3)) + 1.8) / 2)
    close(gradient[1], [0.0, 0.0, 0.0])
    assert metrics["clip_ratio/low_mean"] == pytest.approx(1 / 2)


def test_turn_level_ratio() -> None:
    """SO-GRPO: two turns of two tokens with a user's token between, ratios 2·0.5 and 1.5·1.5.

    Row: sqrt(2·0.5) = 1 and 1.5, advantages 1 and -1 a turn: loss -(1 + 1 - 1.5 - 1.5)/4, each
    token's gradient -s A / (2·4) from each of the turn's two tokens.
    """
    mask = torch.tensor([[True, True, False, True, True]])
    ratio = torch.tensor([[2.0, 0.5, NAN, 1.5, 1.5]], dtype=F64)
    advantages = torch.tensor([[1.0, 1.0, NAN, -1.0, -1.0]], dtype=F64)
    config = loss_keys("dapo", importance_sampling_level="turn")
    logps = ratio.log().requires_grad_()
    out = policy_loss(
        logps,
        torch.zeros_like(logps),
        advantages,
        mask,
        config,
        normalizer=loss_normalizer(config, [mask], LENGTH),
    )
    (gradient,) = torch.autograd.grad(out.loss, logps)
    close(out.loss.item(), 0.25)
    close(gradient.tolist(), [[-0.25, -0.25, 0.0, 0.375, 0.375]])
    clipped = loss_keys("dapo", importance_sampling_level="turn", epsilon=0.2, epsilon_high=0.28)
    better = policy_loss(
        logps,
        torch.zeros_like(logps),
        -advantages,
        mask,
        clipped,
        normalizer=loss_normalizer(clipped, [mask], LENGTH),
    )
    # The second turn, of ratio 1.5 and A = 1, is clipped whole: loss (1 + 1 - 1.28 - 1.28)/4.
    close(better.loss.item(), -0.14)
    assert mean_metrics([better.metrics])["clip_ratio/high_mean"] == 0.5


def test_a_row_of_one_turn_has_the_sequences_ratio() -> None:
    turn = run(loss_keys("grpo", importance_sampling_level="turn"))
    sequence = run(loss_keys("grpo", importance_sampling_level="sequence"))
    close(turn[0], sequence[0])
    close(turn[1], sequence[1])


def test_dual_clip_bounds_the_loss_of_a_bad_token() -> None:
    """delta 1.4: the token of ratio 1.5 and A = -2 costs 2.8 instead of 3, without gradient."""
    loss, gradient, _ = run(loss_keys("dapo", delta=1.4))
    close(loss, (1.9 - 0.2) / 5)
    close(gradient, [[0.0, -0.1, -0.2], [0.0, 0.0, 0.0]])


def test_k3() -> None:
    """pi = .5, ref = .25: d = -ln 2, exp(d) - d - 1 = 0.5 + 0.6931 - 1."""
    logps = torch.tensor([0.5], dtype=F64).log().requires_grad_()
    kl = k3(logps, torch.tensor([0.25], dtype=F64).log())
    close(kl.tolist(), [math.log(2) - 0.5])
    close(torch.autograd.grad(kl, logps)[0].tolist(), [1 - 0.5])  # 1 - exp(d)


def test_beta_adds_k3_a_token() -> None:
    """ref = pi but for the first token, where ref = pi/2; over five tokens."""
    ref = PI.clone()
    ref[0, 0] = 0.15
    loss, _, metrics = run(loss_keys("dapo", beta=0.5), ref_logps=ref.log())
    close(loss, (1.9 + 0.5 * (math.log(2) - 0.5)) / 5)
    assert metrics["kl"] == pytest.approx((math.log(2) - 0.5) / 5, abs=1e-6)


def test_beta_without_reference() -> None:
    with pytest.raises(ValueError, match="ref_logps"):
        run(loss_keys(beta=0.1))


def test_first_update_has_ratio_one_and_the_policy_gradient() -> None:
    """old None: loss -(3·1 + 2·(-2))/5 = 0.2, gradient -A/5."""
    loss, gradient, metrics = run(loss_keys("dapo"), old_logps=None)
    close(loss, 0.2)
    close(gradient, [[-0.2] * 3, [0.4, 0.4, 0.0]])
    assert metrics["clip_ratio/region_mean"] == 0


def test_advantages_by_token() -> None:
    advantages = torch.tensor([[1, 1, 1], [-2, -2, NAN]], dtype=F64)
    assert run(loss_keys("dapo"), advantages=advantages) == run(loss_keys("dapo"))
    by_row = loss_keys("grpo", importance_sampling_level="sequence")
    for found, expected in zip(run(by_row, advantages=advantages), run(by_row), strict=True):
        assert found == pytest.approx(expected) if isinstance(found, float) else found == expected
    turns = torch.tensor([[1, 0, 1], [-2, 0, NAN]], dtype=F64)
    close(run(loss_keys("dapo"), advantages=turns)[0], (-1.2 - 1 + 3) / 5)


@pytest.mark.parametrize("level", ["token", "turn", "sequence"])
@pytest.mark.parametrize("loss_type", LOSSES)
def test_an_advantage_a_token_that_is_the_rows_changes_no_bit(loss_type: str, level: str) -> None:
    level = "token" if loss_type in ("cispo", *WHOLE_REPLIES) else level
    config = loss_keys(**settings(loss_type), importance_sampling_level=level)
    logps, old, ref, mask, advantages = step_of(1)
    found = []
    for given in (advantages, advantages[:, None].expand_as(mask).masked_fill(~mask, NAN)):
        leaf = logps.float().requires_grad_()
        out = policy_loss(
            leaf,
            old.float(),
            given.float(),
            mask,
            config,
            ref_logps=ref.float(),
            normalizer=loss_normalizer(config, [mask], LENGTH),
        )
        found.append((out.loss, torch.autograd.grad(out.loss, leaf)[0], out.metrics))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert mean_metrics([found[0][2]]) == mean_metrics([found[1][2]])


def test_k3_corrected_by_the_ratio() -> None:
    """Ratio 1.5 at the one token whose KL is not 0, so its KL counts 1.5 times."""
    ref = PI.clone()
    ref[0, 0] = 0.15
    config = loss_keys("dapo", beta=0.5, use_bias_correction_kl=True)
    close(run(config, ref_logps=ref.log())[0], (1.9 + 0.75 * (math.log(2) - 0.5)) / 5)


def test_sapo() -> None:
    """On the first update r = 1: gate (4/t)/2, gradient -A; t = 1 and 1.05."""
    loss, gradient, _ = run(loss_keys("sapo"), old_logps=None)
    close(loss, (-2 + 4 / 1.05) / 2)
    close(gradient, [[-1 / 6] * 3, [2 / 4, 2 / 4, 0.0]])


def test_sapo_off_policy() -> None:
    """r = 1.5 and A = 1: the gate is 4 sigmoid(0.5); one row of one token."""
    config = loss_keys("sapo")
    mask = torch.tensor([[True, False, False], [False, False, False]])
    logps = PI.log()
    normalizer = loss_normalizer(config, [mask[:1]], LENGTH)
    out = policy_loss(
        logps[:1], OLD.log()[:1], ADVANTAGES[:1], mask[:1], config, normalizer=normalizer
    )
    close(out.loss.item(), -4 / (1 + math.exp(-0.5)))


def test_luspo() -> None:
    """A row weighs its length: (-3 s0 + 2·2 s1) / 2 rows."""
    s0, s1 = 0.75 ** (1 / 3), 0.75**0.5
    config = loss_keys("luspo", importance_sampling_level="sequence")
    close(run(config)[0], (-3 * s0 + 4 * s1) / 2)


def test_vespo() -> None:
    """Both rows have w = 0.75. phi: w^2 exp(3(1 - w)) for A > 0, w^3 exp(2(1 - w)) for A < 0."""
    loss, gradient, _ = run(loss_keys("vespo"))
    gained, lost = 0.75**2 * math.exp(0.75), 0.75**3 * math.exp(0.5)
    row_0 = -gained * math.log(0.3 * 0.2 * 0.5)
    row_1 = 2 * lost * math.log(0.6 * 0.25)
    close(loss, (row_0 + row_1) / 5)
    close(gradient, [[-gained / 5] * 3, [2 * lost / 5, 2 * lost / 5, 0.0]])


# The covariances of the hand case, on the old log-probs. Mean advantage (3 - 4)/5 = -0.2; mean
# log-prob ln(.2·.4·.5·.4·.5)/5 = ln(.2^3)/5 = 0.6 ln .2. So cov = 1.2 (logp - 0.6 ln .2) in row
# 0 and -1.8 (logp - 0.6 ln .2) in row 1: -0.773, 0.059, 0.327 and -0.089, -0.491.
COVARIANCE = [
    [1.2 * (math.log(p) - 0.6 * math.log(0.2)) for p in (0.2, 0.4, 0.5)],
    [*(-1.8 * (math.log(p) - 0.6 * math.log(0.2)) for p in (0.4, 0.5)), 0.0],
]


def chosen(config: LossKeys, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    selected = select_tokens(config, OLD.log(), ADVANTAGES, MASK, generator)
    assert selected is not None
    return selected


def test_covariance() -> None:
    close(covariance(OLD.log(), ADVANTAGES, MASK).tolist(), COVARIANCE)


def test_kl_cov() -> None:
    """40 % of 5 tokens: .327 and .059. Nothing is clipped; |ln pi/old| is 0 and ln 2 there."""
    config = loss_keys("dapo", kl_cov=0.4)
    selected = chosen(config)
    assert selected.tolist() == [[False, True, True], [False, False, False]]
    loss, gradient, metrics = run(config, selected=selected)
    close(loss, (-1.5 - 0.5 - 1 + 3 + 1 + math.log(2)) / 5)
    close(gradient, [[-0.3, (-0.5 - 1) / 5, -0.2], [0.6, 0.2, 0.0]])
    assert metrics["kl_cov_ratio"] == pytest.approx(0.4)


def test_clip_cov() -> None:
    """Only .059 lies between .01 and .1: its -0.5 and its gradient go."""
    config = loss_keys("dapo", clip_cov=2e-4, clip_cov_low=0.01, clip_cov_high=0.1)
    selected = chosen(config)
    assert selected.tolist() == [[False, True, False], [False, False, False]]
    loss, gradient, metrics = run(config, selected=selected)
    close(loss, (1.9 + 0.5) / 5)
    close(gradient, [[0.0, 0.0, -0.2], [0.6, 0.0, 0.0]])
    assert metrics["clip_ratio/clip_cov"] == pytest.approx(0.2)


def test_clip_cov_leaves_clipped_tokens_to_the_clip() -> None:
    """-0.773 alone is below -0.6, but its token is clipped already: loss as without."""
    config = loss_keys("dapo", clip_cov=2e-4, clip_cov_low=-1, clip_cov_high=-0.6)
    selected = chosen(config)
    assert selected[0, 0]
    close(run(config, selected=selected)[0], 0.38)


def test_clip_cov_draws_from_those_in_range() -> None:
    """All but one lie in range and one is drawn: over seeds each of them comes up."""
    config = loss_keys("dapo", clip_cov=2e-4, clip_cov_low=-0.6, clip_cov_high=0.5)
    drawn = torch.stack([chosen(config, seed) for seed in range(60)])
    assert (drawn.sum((1, 2)) == 1).all()
    assert drawn.any(0).tolist() == [[False, True, True], [True, True, False]]
    assert torch.equal(chosen(config, 3), chosen(config, 3))


def test_no_token_to_select() -> None:
    config = loss_keys("dapo", clip_cov=2e-4, clip_cov_low=7, clip_cov_high=8)
    assert not chosen(config).any()
    nothing = torch.zeros_like(MASK)
    generator = torch.Generator()
    for options in ({"clip_cov": 0.1}, {"kl_cov": 0.1}):
        found = select_tokens(loss_keys(**options), OLD.log(), ADVANTAGES, nothing, generator)  # type: ignore[arg-type]
        assert found is not None
        assert not found.any()
    assert select_tokens(loss_keys(), OLD.log(), ADVANTAGES, MASK, generator) is None


def test_rl_plus() -> None:
    """Row 0 is a demonstration. r = 2 pi/(old + (old + 1)/2): .6/.8, .4/1.1, 1/1.25."""
    loss, gradient, metrics = run(loss_keys("dapo"), demonstrations=torch.tensor([True, False]))
    tokens = [0.6 / 0.8 * 0.7**0.5, 0.4 / 1.1 * 0.8**0.5, 0.8 * 0.5**0.5]
    close(loss, (-sum(tokens) + 4.6) / 5)
    close(gradient, [[-t / 5 for t in tokens], [0.6, 0.0, 0.0]])
    # Clip metrics speak of sampled tokens: one of two.
    assert metrics["clip_ratio/region_mean"] == pytest.approx(0.5)


def test_sft_on_a_demonstration() -> None:
    """HPT: -ln(.3·.2·.5) whatever the advantage; no KL on tokens that were not sampled."""
    ref = torch.full_like(PI, 0.01)
    config = loss_keys("dapo", demonstrations="hpt", beta=0.5)
    both = torch.tensor([True, True])
    loss, gradient, metrics = run(config, demonstrations=both, ref_logps=ref.log())
    close(loss, -math.log(0.3 * 0.2 * 0.5 * 0.6 * 0.25) / 5)
    close(gradient, [[-0.2] * 3, [-0.2, -0.2, 0.0]])
    assert metrics["kl"] == 0


def test_entropy_bonus() -> None:
    """dapo's 0.38 less 0.1·(1 + 2 + 3 + 4 + 5)/5; the gradient for entropy is -0.1/5."""
    entropy = torch.tensor([[1, 2, 3], [4, 5, NAN]], dtype=F64).requires_grad_()
    config = loss_keys("dapo", entropy_coef=0.1)
    normalizer = loss_normalizer(config, [MASK], LENGTH)
    out = policy_loss(
        *(PI.log(), OLD.log(), ADVANTAGES, MASK, config), normalizer=normalizer, entropy=entropy
    )
    close(out.loss.item(), 0.38 - 0.3)
    close(torch.autograd.grad(out.loss, entropy)[0].tolist(), [[-0.02] * 3, [-0.02, -0.02, 0.0]])
    assert mean_metrics([out.metrics])["entropy"] == pytest.approx(3.0)


def test_an_entropy_bonus_without_gradient_is_refused() -> None:
    for entropy in (None, torch.ones_like(PI)):
        with pytest.raises(ValueError, match="entropy with its gradient"):
            run(loss_keys(entropy_coef=0.1), entropy=entropy)


def test_weights_scale_the_policy_term_alone() -> None:
    """Row 0 counts nothing; KL (ref = pi/2 at one token of row 0) still does."""
    ref = PI.clone()
    ref[0, 0] = 0.15
    for weights in (torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0] * 3, [1.0, 1.0, NAN]])):
        config = loss_keys("dapo", beta=0.5)
        loss, gradient, _ = run(config, ref_logps=ref.log(), weights=weights)
        close(loss, (4.6 + 0.5 * (math.log(2) - 0.5)) / 5)
        assert math.isfinite(gradient[1][2])


OLD_2 = torch.tensor([[0.4, 0.2, 0.5], [0.3, 0.6, NAN]], dtype=F64).log()
#: Ratios old / sampled: 2, 0.5, 1 (product 1) and 3, 1 (the sampler gave NaN).
SAMPLED_2 = torch.tensor([[0.2, 0.4, 0.5], [0.1, NAN, 0.5]], dtype=F64).log()


@pytest.mark.parametrize(
    ("mode", "bounds", "expected"),
    [
        ("token_truncate", {"high": 1.5}, [[1.5, 0.5, 1.0], [1.5, 1.0, 1.0]]),
        ("token_truncate", {"low": 0.8, "high": None}, [[2.0, 0.8, 1.0], [3.0, 1.0, 1.0]]),
        ("token_mask", {"low": 0.8, "high": 2.5}, [[2.0, 0.0, 1.0], [0.0, 1.0, 1.0]]),
        ("sequence_truncate", {"high": 2.5}, [[1.0], [2.5]]),
        ("sequence_mask", {"high": 2.5}, [[1.0], [0.0]]),
    ],
)
def test_sampling_correction(mode: Any, bounds: dict[str, Any], expected: list[Any]) -> None:
    keys = correction_keys(mode, **bounds)
    close(sampling_correction(OLD_2, SAMPLED_2, MASK, keys).tolist(), expected)


def test_sampling_correction_of_an_unknown_kind() -> None:
    with pytest.raises(RecipeError, match=r"token_truncate.*sequence_mask"):
        correction_keys("token_drop")


def test_high_entropy_tokens() -> None:
    """Of 1..5 the upper 30 %: the 0.7 quantile is 3.8. The 9 lies outside the mask."""
    entropy = torch.tensor([[5.0, 1.0, 4.0], [2.0, 3.0, 9.0]])
    found = high_entropy_tokens(entropy, MASK, 0.3)
    assert found.tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert not high_entropy_tokens(entropy, torch.zeros_like(MASK), 0.4).any()


def test_off_policy_rows() -> None:
    """log sampler - log pi: row 0 (A > 0) always stays; row 1 is off by ln 2 on average."""
    sampled = torch.stack([PI[0] * 100, PI[1] * 2]).log()
    close(off_policy_rows(PI.log(), sampled, ADVANTAGES, MASK, 0.69).tolist(), [[1.0], [0.0]])
    close(off_policy_rows(PI.log(), sampled, ADVANTAGES, MASK, 0.70).tolist(), [[1.0], [1.0]])
    by_token = torch.tensor([[1.0, 1.0, 1.0], [-2.0, 1.0, 0.0]], dtype=F64)
    close(
        off_policy_rows(PI.log(), sampled, by_token, MASK, 0.69).tolist(),
        [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]],
    )


def step_of(seed: int) -> tuple[Tensor, ...]:
    """A random step: 6 rows, 7 tokens, ragged; the last row has no token with loss."""
    random = torch.Generator().manual_seed(seed)
    logps = -torch.rand(6, 7, generator=random, dtype=F64) * 3
    old = logps + 0.4 * torch.randn(6, 7, generator=random, dtype=F64)
    ref = logps + 0.4 * torch.randn(6, 7, generator=random, dtype=F64)
    mask = torch.arange(7) < torch.tensor([7, 3, 5, 1, 6, 0]).unsqueeze(1)
    return logps, old, ref, mask, torch.randn(6, generator=random, dtype=F64)


def in_micro_batches(config: LossKeys, sizes: list[int]) -> tuple[float, Tensor, dict[str, float]]:
    logps, old, ref, mask, advantages = step_of(0)
    logps.requires_grad_()
    rows = torch.arange(6).split(sizes)
    normalizer = loss_normalizer(config, [mask[r] for r in rows], LENGTH)
    outs = [
        policy_loss(
            logps[r],
            old[r],
            advantages[r],
            mask[r],
            config,
            ref_logps=ref[r],
            normalizer=normalizer,
        )
        for r in rows
    ]
    loss = torch.stack([out.loss for out in outs]).sum()
    (gradient,) = torch.autograd.grad(loss, logps)
    return loss.item(), gradient, mean_metrics(out.metrics for out in outs)


#: They take whole replies by themselves: no other level of importance sampling is allowed.
WHOLE_REPLIES = ("a_lol", "gmpo", "reg_grpo", "refuel", "copg")


def settings(loss_type: str) -> dict[str, Any]:
    return {
        "loss_type": loss_type,
        "beta": 0.1,
        "epsilon_high": 1.3 if loss_type == "cispo" else 0.28,
    }


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type", [name for name in LOSSES if name != "bnpo"])
def test_a_step_does_not_depend_on_its_split(loss_type: str, level: str) -> None:
    level = "token" if loss_type in WHOLE_REPLIES else level
    config = loss_keys(**settings(loss_type), importance_sampling_level=level)  # type: ignore[arg-type]
    whole = in_micro_batches(config, [6])
    for sizes in ([1, 2, 3], [4, 2], [1] * 6):
        loss, gradient, metrics = in_micro_batches(config, sizes)
        assert loss == pytest.approx(whole[0], abs=1e-12)
        torch.testing.assert_close(gradient, whole[1], rtol=0, atol=1e-12)
        assert metrics == pytest.approx(whole[2], abs=1e-6)


@pytest.mark.parametrize("control", [{"clip_cov": 0.2, "clip_cov_low": -9.0}, {"kl_cov": 0.2}])
def test_nor_does_it_with_everything_switched_on(control: dict[str, Any]) -> None:
    config = loss_keys("dapo", beta=0.1, entropy_coef=0.05, **control)
    logps, old, ref, mask, advantages = step_of(1)
    selected = select_tokens(config, old, advantages, mask, torch.Generator().manual_seed(0))
    assert selected is not None
    assert selected.sum() == 4
    shown = torch.tensor([True, False, False, True, False, False])
    weights = sampling_correction(old, ref, mask, correction_keys("token_truncate", high=1.1))

    def step(sizes: list[int]) -> tuple[Tensor, ...]:
        leaf, entropy = logps.clone().requires_grad_(), (-logps).clone().requires_grad_()
        parts = torch.arange(6).split(sizes)
        normalizer = loss_normalizer(config, [mask[r] for r in parts], LENGTH)
        losses = [
            policy_loss(
                *(leaf[r], old[r], advantages[r], mask[r], config),
                normalizer=normalizer,
                ref_logps=ref[r],
                entropy=entropy[r],
                weights=weights[r],
                selected=selected[r],
                demonstrations=shown[r],
            ).loss
            for r in parts
        ]
        loss = torch.stack(losses).sum()
        return loss.detach(), *torch.autograd.grad(loss, (leaf, entropy))

    whole = step([6])
    for sizes in ([1, 2, 3], [4, 2], [1] * 6):
        for found, expected in zip(step(sizes), whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_bnpo_depends_on_the_split() -> None:
    config = loss_keys(**settings("bnpo"))
    assert abs(in_micro_batches(config, [6])[0] - in_micro_batches(config, [1, 2, 3])[0]) > 1e-2


@pytest.mark.parametrize("loss_type", list(LOSSES))
def test_padding_is_never_read(loss_type: str) -> None:
    """NaN under the mask (MASK's last cell) reaches neither loss nor gradient."""
    ref = PI.clone()
    loss, gradient, metrics = run(loss_keys(**settings(loss_type)), ref_logps=ref.log())
    assert math.isfinite(loss)
    assert torch.isfinite(torch.tensor(gradient)).all()
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_step_without_tokens_is_zero() -> None:
    for loss_type in LOSSES:
        # CoPG weighs the base's log-probs by beta: there is none of it without.
        config = loss_keys(**settings(loss_type) | ({"beta": 0.0} if loss_type != "copg" else {}))
        mask = torch.zeros_like(MASK)
        logps = PI.log().requires_grad_()
        normalizer = loss_normalizer(config, [mask], LENGTH)
        ref = logps.detach() if config.needs_reference else None
        out = policy_loss(
            logps, None, ADVANTAGES, mask, config, ref_logps=ref, normalizer=normalizer
        )
        assert out.loss.item() == 0
        assert not torch.autograd.grad(out.loss, logps)[0].any()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"loss_type": "gpro"}, "loss_type"),
        ({"importance_sampling_level": "word"}, "importance_sampling_level"),
        (
            {"loss_type": "cispo", "epsilon_high": 5.0, "importance_sampling_level": "turn"},
            "importance_sampling_level",
        ),
        ({"loss_type": "cispo"}, "epsilon_high"),
        ({"loss_type": "cispo", "epsilon_high": 0.28}, "epsilon_high"),
        ({"epsilon_high": 0.28, "delta": 1.25}, "delta"),
        ({"loss_type": "cispo", "epsilon_high": 5.0, "delta": 9.0}, "delta"),
        ({"clip_cov": 0.1, "kl_cov": 0.1}, "kl_cov"),
        ({"loss_type": "sapo", "clip_cov": 0.1}, "clip_cov"),
        ({"demonstrations": "dpo"}, "demonstrations"),
    ],
)
def test_a_wrong_setting_names_its_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError, match=rf"\b{key}: "):
        loss_keys(**options)


def test_sampling_mismatch_by_hand():
    """Gaps 0.1, 0.3 under the mask; a NaN of the sampler and what is outside are left out."""
    old = torch.tensor([[-1.0, -2.0, -3.0, -4.0]])
    sampled = torch.tensor([[-1.1, -1.7, float("nan"), 9.0]])
    mask = torch.tensor([[True, True, True, False]])
    keys = correction_keys("token_truncate", high=1.05)
    weights = sampling_correction(old, sampled, mask, keys)
    assert weights[0, :3].tolist() == pytest.approx([1.05, math.exp(-0.3), 1.0])
    one = sampling_mismatch(old, sampled, mask, weights)
    other = sampling_mismatch(old, old + 0.7, mask)
    found = mean_metrics([one, other])
    name = "sampling/sampling_logp_difference"
    assert found[f"{name}/mean"] == pytest.approx((0.1 + 0.3 + 3 * 0.7) / 5)
    assert found[f"{name}/max"] == pytest.approx(0.7)
    ratio = found["sampling/importance_sampling_ratio/mean"]
    assert ratio == pytest.approx((1.05 + math.exp(-0.3) + 1.0) / 3)
    assert "sampling/importance_sampling_ratio/mean" not in other
