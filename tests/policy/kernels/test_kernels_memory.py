"""Bytes alive at once, counted by a dispatch mode; the choice of chunk_rows."""

import pytest
import torch

from icpo_lite.policy.kernels import chunks
from icpo_lite.policy.kernels.chunks import auto_chunk_rows
from icpo_lite.policy.kernels.divergence import token_divergence
from icpo_lite.policy.kernels.logprob import token_logprobs
from icpo_lite.tools.bench.live_bytes import LiveBytes


def peak_bytes(n, d, v, *, dtype=torch.float32, impl="torch", **options):
    """Extra bytes at the peak of forward and backward, the gradient [N, D] included."""
    hidden = torch.randn(n, d, dtype=dtype).requires_grad_()
    weight, targets = torch.randn(v, d, dtype=dtype), torch.randint(v, (n,))
    with LiveBytes(hidden, weight, targets) as count:
        logp, _ = token_logprobs(hidden, weight, targets, impl=impl, **options)
        logp.sum().backward()
    return count.peak


def test_the_counter_counts():
    """1000 fp32 and their double: 4000 + 4000 bytes; the sum of both after the first is freed."""
    with LiveBytes() as count:
        one = torch.ones(1000)
        two = one * 2
        del one
        three = two + 1
    assert count.peak == 8000
    assert count.now == 8000
    assert len(three) == 1000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_less_than_one_and_a_half_chunks(dtype):
    """N 512 in chunks of 128 at V 4001: one chunk is 128·4001·4 bytes = 2.05 MB."""
    chunk = 128 * 4001 * 4
    peak = peak_bytes(512, 64, 4001, dtype=dtype, chunk_rows=128)
    slab = 64 * 4001 * 4 if dtype != torch.float32 else 0  # lm_head of this test, widened
    assert chunk <= peak < 1.5 * chunk + slab
    if dtype == torch.float32:
        assert peak_bytes(512, 64, 4001, impl="reference") > 6 * chunk


def test_nothing_grows_with_rows_times_vocabulary():
    """Four times the rows at the same chunk: what grows is [N, D] and [N], 1536 rows more.

    Unit gradient, gradient and a product of [N, D] in fp32, and 16 numbers of 8 bytes a row.
    """
    small, large = (peak_bytes(n, 32, 4001, chunk_rows=128) for n in (512, 2048))
    assert large - small <= 1536 * (3 * 32 * 4 + 16 * 8)


def test_entropy_gradient_takes_a_second_buffer_and_no_more():
    chunk = 128 * 4001 * 4
    assert peak_bytes(512, 64, 4001, chunk_rows=128, entropy_grad=True) < 2.6 * chunk


@pytest.mark.parametrize("options", [{}, {"softcap": 20.0}], ids=str)
@pytest.mark.parametrize("top", [None, 50])
@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
def test_a_teacher_takes_no_more_than_a_chunk_of_the_log_prob_op(alpha, top, options):
    """N 512 in chunks of 128 at V 4001, both distributions whole; beside it what is [N, D]: the
    unit gradient, its product with the outer gradient, and the gradient."""
    hidden = torch.randn(512, 16).requires_grad_()
    teacher, weight = torch.randn(512, 16), torch.randn(4001, 16)
    with LiveBytes(hidden, teacher, weight) as count:
        found = token_divergence(
            hidden, teacher, weight, alpha=alpha, top=top, chunk_rows=128, **options
        )
        found.sum().backward()
    assert count.peak <= 128 * 4001 * 4 + 3 * 512 * 16 * 4 + 512 * 64


def test_chunks_chosen_for_a_teacher_are_no_larger_than_those_of_the_op(free_memory):
    """With memory for any number of rows too, where 128 are preferred."""
    free_memory(100 << 30, 128)
    hidden = torch.randn(512, 16).requires_grad_()
    teacher, weight = torch.randn(512, 16), torch.randn(4001, 16)
    with LiveBytes(hidden, teacher, weight) as count:
        token_divergence(hidden, teacher, weight).sum().backward()
    assert count.peak <= 128 * 4001 * 4 + 3 * 512 * 16 * 4 + 512 * 64


@pytest.fixture
def free_memory(monkeypatch):
    def set_to(free, preferred):
        monkeypatch.setattr(chunks, "_memory", lambda device: (free, preferred))

    return set_to


def test_chunk_rows_follow_free_memory(free_memory):
    cpu, row = torch.device("cpu"), 151_936 * 4
    free_memory(100 << 30, 512)
    assert auto_chunk_rows(100_000, row, cpu) == 512
    free_memory(1 << 30, 512)  # a quarter is 268 MB: 441 rows, in whole 64s 384
    assert auto_chunk_rows(100_000, row, cpu) == 384
    free_memory(0, 512)
    assert auto_chunk_rows(100_000, row, cpu) == 1


def test_rows_are_dealt_out_evenly(free_memory):
    """520 rows in chunks of at most 512 are two of 320 and 200, not 512 and 8."""
    cpu = torch.device("cpu")
    free_memory(100 << 30, 512)
    assert auto_chunk_rows(520, 4, cpu) == 320
    assert auto_chunk_rows(7, 4, cpu) == 7
    assert auto_chunk_rows(0, 4, cpu) >= 0


def test_a_gpu_is_asked_for_its_share_of_memory(monkeypatch):
    """A 24 GB card half of which this process may use, 4 GB reserved, 1 GB of it in use."""
    gib = 1 << 30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 * gib, 24 * gib))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 0.5)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 4 * gib)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * gib)
    free, preferred = chunks._memory(torch.device("cuda"))
    assert free == 8 * gib + 3 * gib
    assert preferred == 256
