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
from torch import Tensor

from icpo_lite.errors import RecipeError
from icpo_lite.loss import LOSSES, LossConfig, k3, loss_normalizer, mean_metrics, policy_loss

F64 = torch.float64
NAN = float("nan")
PI = torch.tensor([[0.3, 0.2, 0.5], [0.6, 0.25, NAN]], dtype=F64)
OLD = torch.tensor([[0.2, 0.4, 0.5], [0.4, 0.5, NAN]], dtype=F64)
MASK = torch.tensor([[True, True, True], [True, True, False]])
ADVANTAGES = torch.tensor([1.0, -2.0], dtype=F64)


def run(config: LossConfig, **arguments: Any) -> tuple[float, list[list[float]], dict[str, float]]:
    """Loss, gradient for logps [2, 3] and metrics of the hand case as one whole step."""
    logps = PI.log().requires_grad_()
    normalizer = loss_normalizer(config, [MASK])
    arguments = {"old_logps": OLD.log(), "advantages": ADVANTAGES, "mask": MASK} | arguments
    out = policy_loss(logps, config=config, normalizer=normalizer, **arguments)
    (gradient,) = torch.autograd.grad(out.loss, logps)
    return out.loss.item(), gradient.tolist(), mean_metrics([out.metrics])


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(
        torch.tensor(found, dtype=F64), torch.tensor(expected, dtype=F64), rtol=0, atol=1e-12
    )


def test_grpo() -> None:
    """Row means -2.7/3 = -0.9 and 4.6/2 = 2.3, over two rows: 0.7."""
    loss, gradient, metrics = run(LossConfig("grpo"))
    close(loss, 0.7)
    close(gradient, [[0.0, -0.5 / 6, -1 / 6], [3 / 4, 0.0, 0.0]])
    assert metrics == {
        "clip_ratio/low_mean": pytest.approx(1 / 5),
        "clip_ratio/high_mean": pytest.approx(1 / 5),
        "clip_ratio/region_mean": pytest.approx(2 / 5),
    }


def test_dapo() -> None:
    """Sum -2.7 + 4.6 = 1.9 over five tokens."""
    loss, gradient, _ = run(LossConfig("dapo"))
    close(loss, 0.38)
    close(gradient, [[0.0, -0.1, -0.2], [0.6, 0.0, 0.0]])


def test_clip_higher_moves_the_upper_bound_alone() -> None:
    """epsilon_high 0.28: the first token is clipped to 1.28; sum 1.9 - 0.08."""
    loss, _, _ = run(LossConfig("dapo", epsilon=0.2, epsilon_high=0.28))
    close(loss, 1.82 / 5)


def test_bnpo_of_one_micro_batch_is_dapo() -> None:
    close(run(LossConfig("bnpo"))[0], 0.38)


def test_dr_grpo() -> None:
    """Sum 1.9 over 2 rows of at most 10 tokens."""
    loss, gradient, _ = run(LossConfig("dr_grpo", max_completion_length=10))
    close(loss, 0.095)
    close(gradient, [[0.0, -0.025, -0.05], [0.15, 0.0, 0.0]])


def test_cispo() -> None:
    """Cap 1.2: weights 1.2 .5 1 | 1.2 .5; loss -w A logp, gradient -w A, over five tokens."""
    loss, gradient, metrics = run(LossConfig("cispo", epsilon_high=1.2))
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
    loss, gradient, metrics = run(LossConfig("grpo", importance_sampling_level="sequence"))
    close(loss, (-s0 + 2 * s1) / 2)
    close(gradient, [[-s0 / 6] * 3, [s1 / 2, s1 / 2, 0.0]])
    assert metrics["clip_ratio/region_mean"] == 0


def test_sequence_level_clips_whole_rows() -> None:
    """epsilon 0.1: row 1 falls below 0.9 with A < 0, so its loss is 1.8 and its gradient 0."""
    config = LossConfig("grpo", importance_sampling_level="sequence", epsilon=0.1)
    loss, gradient, metrics = run(config)
    close(loss, (-(0.75 ** (1 / 3)) + 1.8) / 2)
    close(gradient[1], [0.0, 0.0, 0.0])
    assert metrics["clip_ratio/low_mean"] == pytest.approx(1 / 2)


def test_dual_clip_bounds_the_loss_of_a_bad_token() -> None:
    """delta 1.4: the token of ratio 1.5 and A = -2 costs 2.8 instead of 3, without gradient."""
    loss, gradient, _ = run(LossConfig("dapo", delta=1.4))
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
    loss, _, metrics = run(LossConfig("dapo", beta=0.5), ref_logps=ref.log())
    close(loss, (1.9 + 0.5 * (math.log(2) - 0.5)) / 5)
    assert metrics["kl"] == pytest.approx((math.log(2) - 0.5) / 5, abs=1e-6)


def test_beta_without_reference() -> None:
    with pytest.raises(ValueError, match="ref_logps"):
        run(LossConfig(beta=0.1))


def test_first_update_has_ratio_one_and_the_policy_gradient() -> None:
    """old None: loss -(3·1 + 2·(-2))/5 = 0.2, gradient -A/5."""
    loss, gradient, metrics = run(LossConfig("dapo"), old_logps=None)
    close(loss, 0.2)
    close(gradient, [[-0.2] * 3, [0.4, 0.4, 0.0]])
    assert metrics["clip_ratio/region_mean"] == 0


def test_advantages_by_token() -> None:
    advantages = ADVANTAGES.unsqueeze(1).expand(2, 3)
    assert run(LossConfig("dapo"), advantages=advantages) == run(LossConfig("dapo"))


def step_of(seed: int) -> tuple[Tensor, ...]:
    """A random step: 6 rows, 7 tokens, ragged; the last row has no token with loss."""
    random = torch.Generator().manual_seed(seed)
    logps = -torch.rand(6, 7, generator=random, dtype=F64) * 3
    old = logps + 0.4 * torch.randn(6, 7, generator=random, dtype=F64)
    ref = logps + 0.4 * torch.randn(6, 7, generator=random, dtype=F64)
    mask = torch.arange(7) < torch.tensor([7, 3, 5, 1, 6, 0]).unsqueeze(1)
    return logps, old, ref, mask, torch.randn(6, generator=random, dtype=F64)


def in_micro_batches(
    config: LossConfig, sizes: list[int]
) -> tuple[float, Tensor, dict[str, float]]:
    logps, old, ref, mask, advantages = step_of(0)
    logps.requires_grad_()
    rows = torch.arange(6).split(sizes)
    normalizer = loss_normalizer(config, [mask[r] for r in rows])
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


def settings(loss_type: str) -> dict[str, Any]:
    return {
        "loss_type": loss_type,
        "beta": 0.1,
        "epsilon_high": 1.3 if loss_type == "cispo" else 0.28,
        "max_completion_length": 9,
    }


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type", [name for name in LOSSES if name != "bnpo"])
def test_a_step_does_not_depend_on_its_split(loss_type: str, level: str) -> None:
    config = LossConfig(**settings(loss_type), importance_sampling_level=level)  # type: ignore[arg-type]
    whole = in_micro_batches(config, [6])
    for sizes in ([1, 2, 3], [4, 2], [1] * 6):
        loss, gradient, metrics = in_micro_batches(config, sizes)
        assert loss == pytest.approx(whole[0], abs=1e-12)
        torch.testing.assert_close(gradient, whole[1], rtol=0, atol=1e-12)
        assert metrics == pytest.approx(whole[2], abs=1e-6)


def test_bnpo_depends_on_the_split() -> None:
    config = LossConfig(**settings("bnpo"))
    assert abs(in_micro_batches(config, [6])[0] - in_micro_batches(config, [1, 2, 3])[0]) > 1e-2


@pytest.mark.parametrize("loss_type", list(LOSSES))
def test_padding_is_never_read(loss_type: str) -> None:
    """NaN under the mask (MASK's last cell) reaches neither loss nor gradient."""
    ref = PI.clone()
    loss, gradient, metrics = run(LossConfig(**settings(loss_type)), ref_logps=ref.log())
    assert math.isfinite(loss)
    assert torch.isfinite(torch.tensor(gradient)).all()
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_step_without_tokens_is_zero() -> None:
    for loss_type in LOSSES:
        config = LossConfig(**settings(loss_type) | {"beta": 0.0})
        mask = torch.zeros_like(MASK)
        logps = PI.log().requires_grad_()
        normalizer = loss_normalizer(config, [mask])
        out = policy_loss(logps, None, ADVANTAGES, mask, config, normalizer=normalizer)
        assert out.loss.item() == 0
        assert not torch.autograd.grad(out.loss, logps)[0].any()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"loss_type": "gpro"}, "loss_type"),
        ({"importance_sampling_level": "turn"}, "importance_sampling_level"),
        ({"loss_type": "cispo"}, "epsilon_high"),
        ({"loss_type": "cispo", "epsilon_high": 0.28}, "epsilon_high"),
        ({"loss_type": "dr_grpo"}, "max_completion_length"),
        ({"epsilon_high": 0.28, "delta": 1.25}, "delta"),
    ],
)
def test_a_wrong_setting_names_its_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError, match=f"^{key}: "):
        LossConfig(**options)
