"""KL(student ‖ teacher) from hidden states against torch's own autograd on whole logits."""

import pytest
import torch

from icpo_lite.core.errors import NumericsError, UsageError
from icpo_lite.policy.kernels.divergence import token_divergence

N, D, V = 11, 6, 17
OPTIONS = {
    "plain": {},
    "warm": {"temperature": 0.7},
    "capped": {"temperature": 1.3, "softcap": 5.0, "scale": 0.8},
    "biased": {"bias": True},
}


def case(dtype=torch.float64, seed=0):
    noise = torch.Generator().manual_seed(seed)
    hidden, teacher = (torch.randn(N, D, generator=noise, dtype=dtype) for _ in range(2))
    weight = torch.randn(V, D, generator=noise, dtype=dtype)
    outer = torch.randn(N, generator=noise, dtype=dtype)
    return (
        hidden.requires_grad_(),
        teacher,
        weight,
        outer,
        torch.randn(V, generator=noise).to(dtype),
    )


def plain(hidden, teacher, weight, options, top=None, alpha=1.0):
    """Whole logits, autograd; nothing of the package."""

    def log_probs(h):
        z = h @ weight.T + options.get("bias", 0.0)
        z = z * options.get("scale", 1.0)
        if cap := options.get("softcap"):
            z = cap * torch.tanh(z / cap)
        return torch.log_softmax(z / options.get("temperature", 1.0), dim=-1)

    own, other = log_probs(hidden), log_probs(teacher).detach()
    if top is not None:
        kept = own.topk(top, dim=-1).indices
        inside = torch.zeros_like(own, dtype=torch.bool).scatter(1, kept, True)
        pairs = []
        for x in (own, other):
            rest = x.exp().masked_fill(inside, 0.0).sum(-1, keepdim=True).log()
            pairs.append(torch.cat([x.gather(1, kept), rest], dim=-1))
        own, other = pairs
    if alpha in (0.0, 1.0):
        first, second = (own, other) if alpha else (other, own)
        return (first.exp() * (first - second)).sum(-1)
    mixed = ((1 - alpha) * own.exp() + alpha * other.exp()).log()
    parts = [(x.exp() * (x - mixed)).sum(-1) for x in (own, other)]
    return (1 - alpha) * parts[0] + alpha * parts[1]


@pytest.mark.parametrize(("alpha", "chunk_rows"), [(1.0, 1), (1.0, "auto"), (0.0, 4), (0.3, 4)])
@pytest.mark.parametrize("top", [None, 1, 5, V - 1])
@pytest.mark.parametrize("name", OPTIONS)
def test_value_and_gradient_are_those_of_plain_torch(name, top, alpha, chunk_rows):
    hidden, teacher, weight, outer, bias = case()
    options = dict(OPTIONS[name])
    if options.pop("bias", None):
        options["bias"] = bias
    wanted = plain(hidden, teacher, weight, options, top, alpha)
    (gradient,) = torch.autograd.grad((wanted * outer).sum(), hidden)
    found = token_divergence(
        hidden, teacher, weight, alpha=alpha, top=top, chunk_rows=chunk_rows, **options
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    (own,) = torch.autograd.grad((found * outer).sum(), hidden)
    torch.testing.assert_close(own, gradient, rtol=0, atol=1e-9)


def test_a_coarser_view_never_tells_more():
    """The k likeliest and the rest: at most the whole KL, which k = V is."""
    hidden, teacher, weight, *_ = case()
    with torch.no_grad():
        by_k = [token_divergence(hidden, teacher, weight, top=k) for k in (1, 3, 9, V, V + 5)]
        whole = token_divergence(hidden, teacher, weight)
    for fewer in by_k[:3]:
        assert (fewer >= -1e-12).all()
        assert (fewer <= whole + 1e-12).all()
    assert torch.equal(by_k[3], whole)
    assert torch.equal(by_k[4], whole)


def test_a_teacher_that_agrees_costs_nothing_and_pulls_nowhere():
    hidden, _, weight, *_ = case()
    found = token_divergence(hidden, hidden.detach().clone(), weight, top=3)
    found.sum().backward()
    assert found.abs().max() < 1e-12
    assert hidden.grad is not None
    assert hidden.grad.abs().max() < 1e-12


def test_impossible_tokens_and_half_precision():
    """A bias of minus infinity is a token of probability 0 on both sides."""
    hidden, teacher, weight, outer, bias = case()
    bias[3] = -torch.inf
    kept = [v for v in range(V) if v != 3]
    wanted = plain(hidden, teacher, weight[kept], {"bias": bias[kept]})
    found = token_divergence(hidden, teacher, weight, bias=bias)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    (exact,) = torch.autograd.grad((wanted * outer).sum(), hidden)
    for dtype, bound in ((torch.bfloat16, 0.05), (torch.float16, 0.01)):
        small = hidden.detach().to(dtype).requires_grad_()
        value = token_divergence(small, teacher.to(dtype), weight.to(dtype), bias=bias)
        assert value.dtype == torch.float32
        (own,) = torch.autograd.grad((value * outer.float()).sum(), small)
        assert own.dtype == dtype
        assert (own.double() - exact).norm() < bound * exact.norm()


def test_what_does_not_fit_is_told():
    hidden, teacher, weight, *_ = case()
    with pytest.raises(UsageError, match="alike"):
        token_divergence(hidden, teacher[:3], weight)
    with pytest.raises(NumericsError, match="NaN"):
        token_divergence(hidden, torch.full_like(teacher, torch.nan), weight)
