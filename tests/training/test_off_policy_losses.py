"""Off-policy REINFORCE and HAPO's clip, computed by hand.

Ratios 0.3, 0.9, 1.2, 3.5 with A = +1 in row 0 and A = -1 in row 1; epsilon 0.2 below, 0.28 above.
The gradient of -A logp for logp is -A where a token teaches.
"""

import math

import pytest
import torch
from losses import loss_keys

from icpo_lite.core.errors import RecipeError
from icpo_lite.training.loss import StepCounts, loss_normalizer, policy_loss
from icpo_lite.training.token_weights import entropy_scale

F64 = torch.float64
RATIOS = torch.tensor([[0.3, 0.9, 1.2, 3.5]] * 2, dtype=F64)
OLD = torch.full((2, 4), math.log(0.2), dtype=F64)
ADVANTAGES = torch.tensor([1.0, -1.0], dtype=F64)
MASK = torch.ones(2, 4, dtype=torch.bool)


def gradient(keys, **more):
    """Of the summed token losses."""
    logps = (OLD + RATIOS.log()).requires_grad_(True)
    normalizer = loss_normalizer(keys, [MASK], 4)
    out = policy_loss(logps, OLD, ADVANTAGES, MASK, keys, normalizer=normalizer, **more)
    out.loss.backward()
    return float(out.loss.detach()), (logps.grad * normalizer.loss).tolist()


@pytest.mark.parametrize(
    ("clip", "first", "second"),
    [
        ("none", [-1, -1, -1, -1], [1, 1, 1, 1]),
        ("one_side", [-1, -1, -1, 0], [0, 1, 1, 1]),
        ("two_side", [0, -1, -1, 0], [0, 1, 1, 0]),
        # 0.3 <= 1 - 0.6 comes back under A > 0, 3.5 >= 1 + 2 under A < 0.
        ("ring", [-1, -1, -1, 0], [0, 1, 1, 1]),
    ],
)
def test_rec(clip: str, first: list[float], second: list[float]) -> None:
    _, found = gradient(loss_keys("rec", epsilon_high=0.28, rec_clip=clip))
    assert found == [pytest.approx(first), pytest.approx(second)]


def test_a_ring_leaves_a_gap() -> None:
    """0.3 is in the gap where the ring begins at 1 - 0.8 = 0.2."""
    keys = loss_keys("rec", epsilon_high=0.28, rec_clip="ring", rec_ring=(0.8, 2.0))
    assert gradient(keys)[1][0] == pytest.approx([0, -1, -1, 0])


@pytest.mark.parametrize(
    ("clip", "weight", "first", "second"),
    [
        # Its ratio: as -r A logp, so that the gradient is -r A.
        ("none", "ratio", [-0.3, -0.9, -1.2, -3.5], [0.3, 0.9, 1.2, 3.5]),
        ("two_side", "ratio", [0, -0.9, -1.2, 0], [0, 0.9, 1.2, 0]),
        # e^A: e for A = 1, 1/e for A = -1.
        ("none", "advantage", [-math.e] * 4, [1 / math.e] * 4),
    ],
)
def test_what_a_token_of_rec_counts(clip, weight, first, second) -> None:
    keys = loss_keys("rec", epsilon_high=0.28, rec_clip=clip, rec_weight=weight)
    assert gradient(keys)[1] == [pytest.approx(first), pytest.approx(second)]


def test_one_sided_rec_with_its_ratio_has_ppos_gradient() -> None:
    ours = loss_keys("rec", epsilon_high=0.28, rec_weight="ratio")
    ppo = loss_keys("dapo", epsilon_high=0.28)
    for mine, theirs in zip(gradient(ours)[1], gradient(ppo)[1], strict=True):
        assert mine == pytest.approx(theirs)


def test_gmpo_is_a_geometric_mean_of_clipped_ratios() -> None:
    """epsilon .4 of the log-ratio. A = 1: log r = -1.204, -.1054, .1823, 1.2528, the last held at
    .4; their mean is -.18175, its exponential .83381. A = -1: the first is held at -.4; the mean
    is .23243, e^.23243 = 1.26166. The loss is -(.83381 - 1.26166) / 2; the gradient of a token
    that is not held is -A times the row's ratio over 4 tokens, over 2 rows."""
    loss, found = gradient(loss_keys("gmpo", epsilon=0.4, epsilon_high=0.4))
    logs = [math.log(r) for r in (0.3, 0.9, 1.2, 3.5)]
    first = math.exp((sum(logs[:3]) + 0.4) / 4)
    second = math.exp((-0.4 + sum(logs[1:])) / 4)
    assert (first, second) == (pytest.approx(0.83381, abs=1e-5), pytest.approx(1.26166, abs=1e-5))
    assert loss == pytest.approx((second - first) / 2)
    assert found[0] == pytest.approx([-first / 4] * 3 + [0])
    assert found[1] == pytest.approx([0] + [second / 4] * 3)


def test_asymre_shifts_the_baseline() -> None:
    """-(A + 0.1): -1.1 and 0.9."""
    _, found = gradient(loss_keys("asymre", off_policy_tau=0.1))
    assert found == [pytest.approx([-1.1] * 4), pytest.approx([0.9] * 4)]


def test_opmd_pulls_back() -> None:
    """-A + 2 tau log r with tau 0.5: -A + log r."""
    _, found = gradient(loss_keys("opmd", off_policy_tau=0.5))
    logs = [math.log(r) for r in (0.3, 0.9, 1.2, 3.5)]
    assert found[0] == pytest.approx([v - 1 for v in logs])
    assert found[1] == pytest.approx([v + 1 for v in logs])


def test_a_lol_learns_from_the_better_replies() -> None:
    """Base model as OLD: r of the reply is .3 (.9)(1.2)(3.5) = 1.134, of tokens clipped to .8,
    .9, 1.2, 1.28; row 1 is worse than expected and has none."""
    for name, weights in (
        ("sequence", [1.134] * 4),
        ("token", [0.8, 0.9, 1.2, 1.28]),
        ("none", [1.0] * 4),
    ):
        keys = loss_keys("a_lol", epsilon_high=0.28, a_lol_ratio=name)
        _, found = gradient(keys, ref_logps=OLD)
        assert found[0] == pytest.approx([-w for w in weights])
        assert found[1] == [0] * 4
    with pytest.raises(ValueError, match="a_lol reads them"):
        gradient(loss_keys("a_lol"))


def test_a_lol_kl_has_no_ratio() -> None:
    """-A logp + beta (logp - logp_base): -1 + 0.25 on the better reply, nothing on the other; k3
    is not added, whose gradient at r = .3 would be another."""
    keys = loss_keys("a_lol", epsilon_high=0.28, a_lol_ratio="kl", beta=0.25)
    loss, found = gradient(keys, ref_logps=OLD)
    assert found == [pytest.approx([-0.75] * 4), [0] * 4]
    logs = [math.log(r) for r in (0.3, 0.9, 1.2, 3.5)]
    wanted = sum(0.25 * v - (v + math.log(0.2)) for v in logs) / 8
    assert loss == pytest.approx(wanted)


def test_hapos_clip_and_advantage() -> None:
    """Ratio r, A = 1, epsilon .2 / .28; neutral is half of the clip range that h leaves.

    h = .5: high = .28 (1.5) = .42, neutral (.9, 1.21), A' = 1.5 outside it: -1.5 (.3), -1.5 (.9,
    which is its edge, not inside), -1.2 (inside), -1.5 (1.42) clipped.
    h = -.5: low = .2 (1.5) = .3, high .28, neutral (.85, 1.14), A' = .5 inside, 1 outside:
    -.3, -.45, -1.2, -1.28 clipped.
    """
    logps = OLD + RATIOS.log()
    keys = loss_keys("grpo", epsilon_high=0.28)
    counts = loss_normalizer(keys, [MASK], 4)
    for h, wanted in ((0.5, [0.45, 1.35, 1.2, 2.13]), (-0.5, [0.3, 0.45, 1.2, 1.28])):
        scale = torch.full((2, 4), h, dtype=F64)
        ones = torch.ones(2, dtype=F64)
        out = policy_loss(logps, OLD, ones, MASK, keys, normalizer=counts, entropy_scale=scale)
        assert float(out.loss) == pytest.approx(-sum(wanted) / 4)


def test_hapo_widens_the_lower_clip_of_sure_tokens() -> None:
    """A = -1, h = -.5: low = .2 (1.5) = .3, so that r = .75 is not clipped; h = .5 clips at .8.

    r = .75 is outside the neutral zone: A' = -1 for h <= 0 and -1.5 for h > 0."""
    old, mask = OLD[:1, :1], MASK[:1, :1]
    logps, minus = old + math.log(0.75), torch.tensor([-1.0], dtype=F64)
    keys = loss_keys("grpo", epsilon_high=0.28)
    counts = loss_normalizer(keys, [mask], 1)
    for h, wanted in ((-0.5, 0.75), (0.5, 1.5 * 0.8)):
        scale = torch.full((1, 1), h, dtype=F64)
        out = policy_loss(logps, old, minus, mask, keys, normalizer=counts, entropy_scale=scale)
        assert float(out.loss) == pytest.approx(wanted)


def test_entropies_as_hapo_scales_them() -> None:
    """log H = 0, 1, 2, 3, 4 and 10 outside the mask. Place 0.8 (4) = 3.2 of these five is nearest
    to the value 3; above it 1 is the largest, below it -3 the smallest, std 1.5811 on both: h =
    -1, -2/3, -1/3, 0, 1. The public code divides by -3 itself: 1, 2/3, 1/3, 0, 1."""
    logs = torch.tensor([[0.0, 1, 2, 3, 4, 10]])
    mask = torch.tensor([[True] * 5 + [False]])
    h, stats = entropy_scale(logs.exp(), mask)
    assert h[0].tolist() == pytest.approx([-1, -2 / 3, -1 / 3, 0, 1, 0], abs=1e-4)
    assert stats.quantile == pytest.approx(3)
    assert stats.std == pytest.approx(2.5**0.5)
    assert float(stats.scale(torch.tensor(3.6))) == pytest.approx(0.6, abs=1e-4)
    size, both = entropy_scale(logs.exp(), mask, signed=False)
    assert size[0].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0, 1, 0], abs=1e-4)
    assert float(both.scale(torch.tensor(1.5))) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss_type": "copg"}, "copg weighs the base model's log-probs by it; set beta"),
        (
            {"loss_type": "gmpo", "importance_sampling_level": "sequence"},
            "gmpo takes whole replies by itself; set it to token",
        ),
        ({"loss_type": "a_lol", "a_lol_ratio": "kl"}, "kl weighs the log-ratio by it; set beta"),
        ({"loss_type": "refuel", "demonstrations": "hpt"}, "refuel compares sampled replies"),
        (
            {"loss_type": "reg_grpo", "importance_sampling_level": "sequence"},
            "reg_grpo takes whole replies by itself; set it to token",
        ),
        (
            {"loss_type": "rec", "rec_clip": "ring", "rec_ring": (0.1, 2.0)},
            "a ring lies outside the clip range",
        ),
    ],
)
def test_contradictions(keys, message) -> None:
    with pytest.raises(RecipeError, match=message):
        loss_keys(**keys)


def test_what_is_divided_by() -> None:
    """Off-policy losses are means over a step's tokens, group losses over its rows."""
    assert loss_normalizer(loss_keys("rec"), [MASK], 4).loss == 8
    assert loss_normalizer(loss_keys("refuel"), [MASK], 4).loss == 2
    assert StepCounts(1, 2, 3, 4).rows == 1
