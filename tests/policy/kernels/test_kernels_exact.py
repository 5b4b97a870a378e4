"""fp32 judged against float64 alone, absolutely: log-probs, entropies and gradients to 5e-6."""

import pytest
import torch
from kernels_cases import (
    DEVICE,
    HAS_TRITON,
    errors,
    on_device,
    ours,
    sharp_case,
    truth_of,
)

from icpo_lite.policy.kernels.logits import LogitTransform
from icpo_lite.policy.kernels.logprob import token_logprobs
from icpo_lite.policy.kernels.logprob_reference import of_logits
from icpo_lite.policy.kernels.logprob_torch import RowTask, torch_rows
from icpo_lite.rollout.noise import SamplingOptions, draw

BOUND = 5e-6
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
WAYS = [
    "reference",
    "torch",
    pytest.param("triton", marks=needs_triton),
    pytest.param("tiled", marks=needs_triton),
]


@pytest.fixture(scope="module")
def sharp():
    """V of Qwen2.5; targets of p near 1, near 0 and between."""
    case = sharp_case(5, 48, 151_936)
    return case, truth_of(case, entropy=False)


def test_the_case_is_what_it_claims(sharp):
    case, truth = sharp
    gaps = -torch.expm1(truth.outcome.logp)
    assert 1e-10 < gaps[0] < 1e-8
    assert 1e-5 < gaps[1] < 1e-3
    assert 0.4 < gaps[2] < 0.6
    assert -13 < truth.outcome.logp[3] < -11
    assert float(truth.outcome.entropy[4]) > 1.0
    assert len(case.weight) == 151_936


@pytest.mark.parametrize("impl", WAYS)
def test_a_large_vocabulary_forward_and_gradient(impl, sharp):
    case, truth = sharp
    found = ours(
        on_device(case, DEVICE), impl, entropy=False, token_logprobs=token_logprobs, chunk_rows=5
    )
    found = type(found)(*(part.cpu() for part in found))
    for name, off in zip(("logp", "entropy", "gradient"), errors(found, truth), strict=True):
        assert off <= BOUND, (name, off)


@pytest.mark.parametrize("impl", WAYS[1:3])
def test_the_gradient_of_the_entropy_too(impl):
    case = sharp_case(5, 48, 32_000, seed=1)
    truth = truth_of(case, entropy=True)
    found = ours(on_device(case, DEVICE), impl, entropy=True, token_logprobs=token_logprobs)
    found = type(found)(*(part.cpu() for part in found))
    assert max(errors(found, truth)) <= BOUND


@pytest.mark.parametrize("impl", WAYS[1:])
def test_a_certain_token_keeps_its_digits(impl, sharp):
    """Not only absolutely: log p = −1e-9 and the gradient that is as small, to one part in 10⁴.

    The logits are fp32, so z_y − log Σ e^z of the others, about 20.7, is off by 1e-5 at most.
    """
    case, truth = sharp
    first = on_device(case._replace(a=torch.ones(5)), DEVICE)
    leaf = first.hidden.clone().requires_grad_()
    logp, _ = token_logprobs(leaf, first.weight, first.targets, impl=impl, chunk_rows=5)
    (grad,) = torch.autograd.grad(logp[0], leaf)
    assert float(logp[0]) == pytest.approx(float(truth.outcome.logp[0]), rel=1e-4)
    wanted = truth.outcome.grad[0] / case.a[0].double()
    assert (grad[0].cpu().double() - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_a_gradient_is_the_logits_own_wherever_the_mass_lies():
    """dz itself [5, V] against float64: −(1 − p_y) at the target, p elsewhere."""
    logits = 3 * torch.randn(5, 151_936, generator=torch.Generator().manual_seed(3))
    targets = torch.tensor([7, 11, 151_935, 0, 40])
    logits[0, 7], logits[1, 11], logits[2, 5] = 60.0, 18.0, 50.0
    memory = logits.clone()
    task = RowTask(targets, None, LogitTransform(), memory, torch.empty_like(memory), None)
    found = torch_rows(memory, task)
    leaf = logits.double().requires_grad_()
    logp, entropy = of_logits(leaf, targets)
    (of_logp,) = torch.autograd.grad(logp.sum(), leaf, retain_graph=True)
    (of_entropy,) = torch.autograd.grad(entropy.sum(), leaf)
    assert (found.logp.double() - logp).abs().max() <= BOUND
    assert (found.entropy.double() - entropy).abs().max() <= BOUND
    assert (task.dz.double() * found.size[:, None].double() - of_logp).abs().max() <= BOUND
    dh = task.dh.double() * found.entropy_size[:, None].double()
    assert (dh - of_entropy).abs().max() <= BOUND


@pytest.mark.parametrize("impl", WAYS[1:])
@pytest.mark.parametrize("where", ["target", "others"])
def test_an_overflow_is_no_certainty(impl, where):
    """+inf is NaN as in plain torch, also where it is the target's."""
    hidden, weight = torch.ones(1, 2), torch.zeros(40, 2)
    bias = torch.zeros(40)
    bias[3 if where == "target" else 4] = torch.inf
    from icpo_lite.core.errors import NumericsError

    with pytest.raises(NumericsError):
        token_logprobs(hidden, weight, torch.tensor([3]), bias=bias, impl=impl, chunk_rows=1)


@pytest.mark.parametrize("impl", WAYS[1:])
def test_a_token_without_others_is_certain(impl):
    """One word, or all others switched off: log p and entropy 0, no gradient."""
    for words in (1, 5):
        hidden, weight = torch.ones(1, 2), torch.ones(words, 2)
        bias = torch.zeros(words)
        bias[1:] = -torch.inf
        leaf = hidden.requires_grad_()
        logp, entropy = token_logprobs(
            leaf,
            weight,
            torch.tensor([0]),
            bias=bias,
            impl=impl,
            entropy_grad=impl != "tiled",
            chunk_rows=1,
        )
        loss = logp + (entropy if impl != "tiled" else 0.0)
        (grad,) = torch.autograd.grad(loss.sum(), leaf)
        assert float(logp) == float(entropy) == 0.0
        assert (grad == 0).all()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_draw_is_as_exact(temperature):
    """Log-probs of drawn tokens at 152k words, against float64 of the same fp32 logits."""
    logits = 3 * torch.randn(6, 151_936, generator=torch.Generator().manual_seed(5))
    logits[0, 7], logits[1, 11] = 60.0, 18.0
    noise = torch.tensor([0.5, 0.5, 0.0, 0.999999, 0.1, 0.7], dtype=torch.float64)
    token, logp = draw(logits.clone(), noise, SamplingOptions(temperature=temperature))
    truth = (logits.double() / (temperature or 1.0)).log_softmax(-1)
    assert (logp.double() - truth.gather(1, token[:, None])[:, 0]).abs().max() <= BOUND
    assert (logp <= 0).all()
