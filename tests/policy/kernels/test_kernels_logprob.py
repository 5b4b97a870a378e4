"""`token_logprobs`: numbers by hand, agreement of the implementations, what is refused."""

import math

import pytest
import torch

from icpo_lite.core.errors import DeviceError, NumericsError, UsageError
from icpo_lite.policy.kernels.logprob import choose_impl, token_logprobs

IMPLS = ("reference", "torch")
LN2 = math.log(2.0)


def problem(n=9, d=8, v=23, dtype=torch.float64, seed=0):
    """Hidden states, lm_head and targets of a random but fixed problem."""
    noise = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, d, generator=noise, dtype=torch.float64).to(dtype)
    weight = torch.randn(v, d, generator=noise, dtype=torch.float64).to(dtype)
    return hidden, weight, torch.randint(v, (n,), generator=noise)


def gradient(hidden, weight, targets, logp_factor, entropy_factor=None, **options):
    """d Σ(logp_factor · logp + entropy_factor · entropy) / d hidden, and both outputs."""
    leaf = hidden.clone().requires_grad_()
    wanted = entropy_factor is not None
    logp, entropy = token_logprobs(leaf, weight, targets, entropy_grad=wanted, **options)
    loss = (logp_factor * logp).sum()
    if wanted:
        loss = loss + (entropy_factor * entropy).sum()
    loss.backward()
    return logp.detach(), entropy.detach(), leaf.grad


@pytest.mark.parametrize("impl", IMPLS)
def test_numbers_by_hand(impl):
    """h = (1, 0), W rows (ln 2, 0), (0, 0), (0, 5): logits (ln 2, 0, 0), p = (1/2, 1/4, 1/4).

    log p_0 = −ln 2; H = ½ ln 2 + 2·¼·2 ln 2 = 1.5 ln 2.
    d logp_0/dh = W_0 − Σ p W = ½ (ln 2, 0) − ¼ (0, 0) − ¼ (0, 5) = (½ ln 2, −1.25).
    dH/dh = −Σ p_v (log p_v + H) W_v: p_0 gives −½ (½ ln 2)(ln 2, 0); p_2 gives
    −¼ (−2 ln 2 + 1.5 ln 2)(0, 5) = (0, 0.625 ln 2).
    """
    hidden = torch.tensor([[1.0, 0.0]])
    weight = torch.tensor([[LN2, 0.0], [0.0, 0.0], [0.0, 5.0]])
    targets = torch.tensor([0])
    logp, entropy, of_logp = gradient(hidden, weight, targets, 1.0, impl=impl)
    assert logp.item() == pytest.approx(-LN2, abs=1e-6)
    assert entropy.item() == pytest.approx(1.5 * LN2, abs=1e-6)
    assert of_logp[0].tolist() == pytest.approx([0.5 * LN2, -1.25], abs=1e-6)
    _, _, of_entropy = gradient(hidden, weight, targets, 0.0, 1.0, impl=impl)
    assert of_entropy[0].tolist() == pytest.approx([-0.25 * LN2**2, 0.625 * LN2], abs=1e-6)


@pytest.mark.parametrize("impl", IMPLS)
def test_temperature_scale_softcap_and_bias_by_hand(impl):
    """One logit pair (l, 0): log p_0 = −log(1 + exp(−z)).

    Temperature 2, scale 3, bias 1 on l = 1·1: z = 3·(1 + 1)/2 = 3 against 3·0/2 = 0.
    Softcap 2 on l = 2: z = 2·tanh(1) = 1.523188312.
    """
    hidden, weight, targets = torch.ones(1, 1), torch.tensor([[1.0], [0.0]]), torch.tensor([0])
    bias = torch.tensor([1.0, 0.0])
    logp, _ = token_logprobs(
        hidden, weight, targets, impl=impl, temperature=2.0, scale=3.0, bias=bias
    )
    assert logp.item() == pytest.approx(-math.log1p(math.exp(-3.0)), abs=1e-6)
    logp, _ = token_logprobs(2 * hidden, weight, targets, impl=impl, softcap=2.0)
    assert logp.item() == pytest.approx(-math.log1p(math.exp(-1.523188312)), abs=1e-6)


@pytest.mark.parametrize("entropy_grad", [False, True])
@pytest.mark.parametrize("options", [{}, {"softcap": 3.0, "scale": 0.7, "temperature": 1.3}])
def test_gradients_are_the_derivative_of_the_outputs(options, entropy_grad):
    hidden, weight, targets = problem()
    targets[[2, 5]] = -100
    leaf = hidden.requires_grad_()

    def outputs(h):
        logp, entropy = token_logprobs(
            h, weight, targets, impl="torch", chunk_rows=4, entropy_grad=entropy_grad, **options
        )
        return (logp, entropy) if entropy_grad else logp

    assert torch.autograd.gradcheck(outputs, (leaf,))


@pytest.mark.parametrize("chunk_rows", [1, 4, 9, 100, "auto"])
def test_chunks_do_not_change_the_result(chunk_rows):
    hidden, weight, targets = problem()
    targets[4] = -100
    factor = torch.linspace(-1, 2, 9, dtype=torch.float64)
    want = gradient(hidden, weight, targets, factor, factor.flip(0), impl="reference")
    got = gradient(
        hidden, weight, targets, factor, factor.flip(0), impl="torch", chunk_rows=chunk_rows
    )
    for ours, plain in zip(got, want, strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-13)


@pytest.mark.parametrize("impl", IMPLS)
def test_ignored_rows_are_zero_and_never_read(impl):
    hidden, weight, targets = problem()
    hidden[[0, 3]], targets[[0, 3]] = torch.nan, -7
    logp, entropy, grad = gradient(hidden, weight, targets, 1.0, impl=impl, ignore_index=-7)
    for rows in (logp, entropy, grad):
        assert not rows.isnan().any()
        assert (rows[[0, 3]] == 0).all()
    assert (logp[[1, 2, 4, 5, 6, 7, 8]] < 0).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kept", [0, 1])
def test_no_row_and_one_row(impl, kept):
    for rows in (kept, 3):
        hidden, weight, targets = problem(n=rows)
        targets[kept:] = -100
        logp, entropy, grad = gradient(hidden, weight, targets, 1.0, 1.0, impl=impl)
        assert logp.shape == entropy.shape == (rows,)
        assert grad.shape == hidden.shape
        assert int((logp != 0).sum()) == kept


@pytest.mark.parametrize("impl", IMPLS)
def test_without_gradient_the_outputs_are_the_same(impl):
    hidden, weight, targets = problem()
    with_grad = token_logprobs(hidden.clone().requires_grad_(), weight, targets, impl=impl)
    with torch.no_grad():
        without = token_logprobs(hidden, weight, targets, impl=impl)
    assert not without[0].requires_grad
    for one, other in zip(with_grad, without, strict=True):
        torch.testing.assert_close(one.detach(), other)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_gradient_through_entropy_must_be_asked_for(impl):
    hidden, weight, targets = problem()
    logp, entropy = token_logprobs(hidden.requires_grad_(), weight, targets, impl=impl)
    with pytest.raises(UsageError, match="entropy_grad=True"):
        (logp.sum() - 0.01 * entropy.sum()).backward()
    logp, entropy = token_logprobs(hidden, weight, targets, impl=impl)
    (logp.sum() - 0.01 * entropy.detach().sum()).backward()
    assert hidden.grad.abs().sum() > 0


@pytest.mark.parametrize("impl", IMPLS)
def test_minus_infinity_is_probability_zero(impl):
    """Vocabulary rows that padding switched off, by their bias; a target among them is −inf."""
    hidden, weight, targets = problem()
    bias = torch.zeros(23, dtype=torch.float64)
    bias[20:] = -torch.inf
    targets = targets % 20
    want = gradient(hidden, weight[:20], targets, 1.0, 0.5, impl="reference")
    got = gradient(hidden, weight, targets, 1.0, 0.5, impl=impl, bias=bias)
    for ours, plain in zip(got, want, strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-13)
    targets[0] = 21
    logp, entropy, grad = gradient(hidden, weight, targets, 1.0, impl=impl, bias=bias)
    assert logp[0] == -torch.inf
    assert entropy.isfinite().all()
    assert grad.isfinite().all()


@pytest.mark.parametrize("impl", IMPLS)
def test_nan_is_an_error(impl):
    hidden, weight, targets = problem()
    hidden[4, 2] = torch.nan
    with pytest.raises(NumericsError, match=r"1 of 9 rows \(first: row 4\)"):
        token_logprobs(hidden, weight, targets, impl=impl)


def test_arguments_that_do_not_fit_are_refused():
    hidden, weight, targets = problem()
    refused = [
        ((hidden[:, :4], weight, targets), {}, "one D"),
        ((hidden[None], weight, targets), {}, "flatten"),
        ((hidden, weight, targets[:3]), {}, "int64 targets"),
        ((hidden, weight, targets.int()), {}, "int64 targets"),
        ((hidden.float(), weight, targets), {}, "one floating dtype"),
        ((hidden, weight.clone().requires_grad_(), targets), {}, "frozen"),
        ((hidden, weight, targets), {"bias": hidden[0]}, r"bias \[23\]"),
        ((hidden, weight, targets), {"temperature": 0.0}, "temperature"),
        ((hidden, weight, targets), {"softcap": math.inf}, "softcap"),
        ((hidden, weight, targets), {"chunk_rows": 0}, "chunk_rows"),
        ((hidden, weight, targets), {"impl": "fast"}, "impl must be"),
        ((hidden, weight, targets + 23), {}, r"0\.\.22"),
        ((hidden, weight, targets - 24), {}, r"0\.\.22"),
    ]
    for arguments, options, message in refused:
        with pytest.raises(UsageError, match=message):
            token_logprobs(*arguments, **options)
    with torch.no_grad():
        token_logprobs(hidden, weight.clone().requires_grad_(), targets)


def test_triton_by_name_is_an_error_where_it_cannot_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert choose_impl(torch.device("cpu"), torch.float32)[0] == "torch"
    with pytest.raises(DeviceError, match="triton"):
        choose_impl(torch.device("cpu"), torch.float32, "triton")
