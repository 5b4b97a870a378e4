"""Errors against float64, judged relative to plain torch in the same dtype; memory is poisoned."""

import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_cases import (
    DEVICE,
    FAST_IMPLS,
    HAS_TRITON,
    errors,
    four_ulps,
    make_case,
    on_device,
    ours,
    plain,
    truth_of,
)

from icpo_lite.policy.kernels.logits import LogitTransform
from icpo_lite.policy.kernels.logprob import token_logprobs
from icpo_lite.policy.kernels.logprob_torch import RowTask, torch_rows

#: The interpreter takes a fraction of a second for each; a GPU and plain torch do not.
EXAMPLES = 40 if DEVICE == "cuda" or not HAS_TRITON else 15
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = {
    "qwen vocabulary": (4, 64, 151_936),
    "llama vocabulary": (4, 64, 128_256),
    "odd vocabulary": (5, 64, 32_001),
    "wide": (5, 8192, 37),
    "two tokens": (7, 64, 2),
}


@pytest.fixture(scope="module", autouse=True)
def _poisoned_memory():
    """Every torch.empty is filled with NaN: what is read before it is written shows."""
    torch.use_deterministic_algorithms(True, warn_only=DEVICE == "cuda")
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def compare(case, impl, *, entropy, **options):
    """(our errors, plain torch's errors, 4 ulp), each for logp, entropy and gradient."""
    dtype = case.hidden.dtype
    truth = truth_of(case, entropy=entropy)
    there = on_device(case, DEVICE)
    found = ours(there, impl, entropy=entropy, token_logprobs=token_logprobs, **options)
    _, _, same_dtype = plain(there, dtype, entropy=entropy)
    to_host = [type(found)(*(part.cpu() for part in outcome)) for outcome in (found, same_dtype)]
    return *(errors(outcome, truth) for outcome in to_host), four_ulps(truth, dtype)


def check(case, impl, *, entropy, **options):
    found, in_plain, ulps = compare(case, impl, entropy=entropy, **options)
    for name, mine, theirs, slack in zip(
        ("logp", "entropy", "gradient"), found, in_plain, ulps, strict=True
    ):
        assert mine <= 1.5 * theirs + slack, f"{name}: {mine:.2e}, plain torch {theirs:.2e}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("impl", FAST_IMPLS)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(
    n=st.integers(0, 9),
    d=st.integers(1, 70),
    v=st.integers(2, 600),
    sharpness=st.sampled_from([0.1, 1.0, 4.0]),
    softcap=st.sampled_from([None, 3.0, 30.0]),
    scale=st.sampled_from([None, 0.25]),
    temperature=st.sampled_from([1.0, 0.7]),
    with_bias=st.booleans(),
    entropy=st.booleans(),
    chunk_rows=st.sampled_from([1, 3, 8, "auto"]),
    seed=st.integers(0, 1000),
)
def test_random_ragged_shapes(impl, dtype, n, d, v, softcap, scale, entropy, chunk_rows, **rest):
    options = {key: value for key, value in (("softcap", softcap), ("scale", scale)) if value}
    case = make_case(n, d, v, dtype=dtype, **rest, **options)
    check(case, impl, entropy=entropy, chunk_rows=chunk_rows)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("impl", FAST_IMPLS)
def test_named_shapes(impl, shape):
    for dtype in (torch.float32, torch.float16):
        check(make_case(*shape, dtype=dtype, seed=1), impl, entropy=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("impl", FAST_IMPLS)
def test_median_error_is_that_of_plain_torch(impl, dtype):
    """Over 45 shapes, the median of our error / plain torch's error is at most 1.1."""
    ratios = []
    for seed in range(45):
        n, d, v = 3 + seed % 7, 8 + 37 * seed % 200, 50 + 131 * seed % 900
        case = make_case(n, d, v, dtype=dtype, seed=seed, sharpness=(0.3, 1.0, 3.0)[seed % 3])
        found, in_plain, _ = compare(case, impl, entropy=False)
        ratios.append([mine / theirs for mine, theirs in zip(found, in_plain, strict=True)])
    for name, column in zip(
        ("logp", "entropy", "gradient"), zip(*ratios, strict=True), strict=True
    ):
        assert statistics.median(column) <= 1.1, name


def test_rows_of_a_large_vocabulary_are_exact_against_float64():
    """Absolutely: the same fp32 logits, their log-probs and entropies in float64."""
    logits = 3 * torch.randn(4, 151_936, generator=torch.Generator().manual_seed(0))
    logits[0, 7] = 40.0  # p_y near 1
    targets = torch.tensor([7, 11, 151_935, 0])
    truth = torch.log_softmax(logits.double(), -1)
    task = RowTask(targets, None, LogitTransform(1.0, None, None), None, None, None)
    found = torch_rows(logits.clone(), task)
    assert (found.logp.double() - truth[torch.arange(4), targets]).abs().max() <= 5e-6
    assert (found.entropy.double() + (truth.exp() * truth).sum(1)).abs().max() <= 5e-6
