"""Tiles of rows and words: their numbers through the interpreter, and when they are chosen."""

from types import SimpleNamespace

import pytest
import torch
from kernels_cases import (
    DEVICE,
    HAS_TRITON,
    errors,
    four_ulps,
    make_case,
    on_device,
    ours,
    plain,
    truth_of,
)

from icpo_lite.policy.kernels import chunks, layout, logprob_tiled
from icpo_lite.policy.kernels.chunks import auto_chunk_rows, turing_rows
from icpo_lite.policy.kernels.layout import Card, busy, suits_tiles, tile_rows
from icpo_lite.policy.kernels.logprob import choose_impl, token_logprobs
from icpo_lite.tools.bench.live_bytes import LiveBytes

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
GIB = 1 << 30
H100 = Card((9, 0), 132, 80 * GIB)
RTX_4090 = Card((8, 9), 128, 24 * GIB)
T4 = Card((7, 5), 40, 15 * GIB)
QWEN_7B = (152_064, 3584)


@needs_triton
@pytest.mark.parametrize("words", [64, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_many_tiles_are_one_softmax(dtype, words, monkeypatch):
    """Nine to fourteen tiles, ragged at the end: within plain torch's error or four ulps."""
    monkeypatch.setattr(layout, "TILE_WORDS", words)
    for options in ({}, {"softcap": 20.0, "scale": 0.7, "temperature": 1.3, "with_bias": True}):
        case = make_case(7, 33, 870, dtype=dtype, sharpness=3.0, **options)
        truth = truth_of(case, entropy=False)
        there = on_device(case, DEVICE)
        found = ours(there, "tiled", entropy=False, token_logprobs=token_logprobs, chunk_rows=3)
        same = plain(there, dtype, entropy=False)[2]
        found, same = (type(one)(*(part.cpu() for part in one)) for one in (found, same))
        limits = zip(
            errors(found, truth), errors(same, truth), four_ulps(truth, dtype), strict=True
        )
        for name, (mine, theirs, slack) in zip(("logp", "entropy", "grad"), limits, strict=True):
            assert mine <= 1.5 * theirs + slack, (name, mine, theirs)


@needs_triton
@pytest.mark.parametrize("order", ["rising", "falling", "steps"])
def test_a_rising_reference_rescales_what_was_summed(order, monkeypatch):
    """Logits that rise by 40 from tile to tile, fall, or rise by less than the slack."""
    monkeypatch.setattr(layout, "TILE_WORDS", 16)
    words, rows = 128, 4
    tile = torch.arange(words) // 16
    level = {"rising": 40.0 * (tile - 7), "falling": -40.0 * tile, "steps": 3.0 * tile}[order]
    noise = torch.Generator().manual_seed(0)
    hidden = torch.cat([torch.ones(rows, 1), torch.randn(rows, 3, generator=noise)], 1)
    weight = torch.cat([level[:, None], torch.randn(words, 3, generator=noise)], 1)
    targets = torch.tensor([0, 127, 60, 17])
    leaf = hidden.double().requires_grad_()
    truth = (leaf @ weight.double().t()).log_softmax(-1)[torch.arange(rows), targets]
    (wanted,) = torch.autograd.grad(truth.sum(), leaf)
    mine = hidden.clone().to(DEVICE).requires_grad_()
    logp, _ = token_logprobs(
        mine, weight.to(DEVICE), targets.to(DEVICE), impl="tiled", chunk_rows=2
    )
    (grad,) = torch.autograd.grad(logp.sum(), mine)
    torch.testing.assert_close(logp.detach().cpu().double(), truth.detach(), rtol=1e-6, atol=5e-6)
    torch.testing.assert_close(grad.cpu().double(), wanted, rtol=1e-5, atol=1e-5)


@needs_triton
def test_ignored_rows_no_gradient_and_the_entropys_gradient():
    """Without gradient the numbers are the same; the entropy's gradient goes by rows."""
    case = on_device(make_case(9, 16, 300, seed=3, ignored=0.6), DEVICE)
    assert (case.targets == -100).any()
    with torch.no_grad():
        plain_logp = token_logprobs(*case[:3], impl="reference")
        tiled = token_logprobs(*case[:3], impl="tiled", chunk_rows=4)
    torch.testing.assert_close(tiled, plain_logp, rtol=1e-5, atol=1e-5)
    by_rows = ours(case, "triton", entropy=True, token_logprobs=token_logprobs)
    by_tiles = ours(case, "tiled", entropy=True, token_logprobs=token_logprobs)
    for one, other in zip(by_rows, by_tiles, strict=True):
        assert torch.equal(one, other)


@needs_triton
def test_few_rows_are_one_chunk_and_many_are_tiled(monkeypatch):
    ran = []
    real = logprob_tiled.run_tiles
    monkeypatch.setattr(
        "icpo_lite.policy.kernels.logprob.run_tiles",
        lambda *args, **options: ran.append(len(args[3])) or real(*args, **options),
    )
    monkeypatch.setattr("icpo_lite.policy.kernels.logprob.FEWEST_TILED", 6)
    for rows in (6, 7):
        hidden, weight = torch.randn(rows, 4, device=DEVICE), torch.randn(20, 4, device=DEVICE)
        token_logprobs(hidden, weight, torch.zeros(rows, dtype=torch.long), impl="tiled")
    assert ran == [7]


@needs_triton
def test_memory_is_a_tile_and_its_sum(monkeypatch):
    """16 rows · 512 words and 16 · 32 of fp32 sum, whatever N·V is; 1.2 times that at most."""
    monkeypatch.setattr(layout, "TILE_WORDS", 512)
    hidden = torch.randn(32, 32).requires_grad_()
    weight, targets = torch.randn(2048, 32), torch.randint(2048, (32,))
    with LiveBytes(hidden, weight, targets) as count:
        logp, _ = token_logprobs(hidden, weight, targets, impl="tiled", chunk_rows=16)
        logp.sum().backward()
    unit_and_gradient = 3 * 32 * 32 * 4
    assert count.peak <= 1.2 * 4 * 16 * (512 + 32) + unit_and_gradient


def test_cards_and_shapes_that_are_tiled():
    """By arithmetic: 56 of an H100's 132 processors have work from 512 rows, 448 programs of
    4096 rows fill them 3.4 times; a T4 hides the reads."""
    assert busy(512, 3584, 132) == pytest.approx(56 / 132)
    assert busy(4096, 3584, 132) == pytest.approx(448 / 528)
    for card in (H100, RTX_4090):
        assert suits_tiles(*QWEN_7B, card)[0]
    tiled, why = suits_tiles(*QWEN_7B, T4)
    assert not tiled
    assert why == "rows: compute capability 7.5 hides lm_head's reads"
    assert not suits_tiles(32_000, 3584, H100)[0]  # less than two tiles of words
    few = Card((8, 6), 28, 12 * GIB)  # an RTX 3060: 28 processors, which 256 rows keep busy
    assert busy(256, 3584, 28) == 1.0
    tiled, why = suits_tiles(*QWEN_7B, few)
    assert not tiled
    assert why.startswith("rows: tiles would keep")


def as_if_on(monkeypatch, card):
    found = SimpleNamespace(
        major=card.capability[0],
        minor=card.capability[1],
        multi_processor_count=card.processors,
        total_memory=card.limit,
    )
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: card.capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "this card")
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (card.limit, card.limit))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)


@pytest.mark.parametrize(
    ("card", "impl"), [(H100, "tiled"), (RTX_4090, "tiled"), (T4, "triton")], ids=str
)
def test_auto_takes_the_layout_that_suits_the_card(card, impl, monkeypatch):
    as_if_on(monkeypatch, card)
    found, why = choose_impl(torch.device("cuda"), torch.float16, "auto", QWEN_7B)
    assert found == impl
    assert ("tiles: " if impl == "tiled" else "rows: ") in why
    # Asked by name, that one runs; without lm_head's shape, rows.
    assert choose_impl(torch.device("cuda"), torch.float16, "triton", QWEN_7B)[0] == "triton"
    assert choose_impl(torch.device("cuda"), torch.float16)[0] == "triton"


def test_tile_rows_follow_free_memory_and_are_even():
    row = 4 * (layout.TILE_WORDS + 3584)
    assert tile_rows(100_000, 3584, 80 * GIB) == 4000  # 25 parts of 100,000, none over 4096
    assert tile_rows(5000, 3584, 80 * GIB) == 2500
    assert tile_rows(5000, 3584, 4 * 1000 * row) == 1000
    assert tile_rows(0, 3584, 0) == 1


@pytest.mark.parametrize(
    ("free", "rows"), [(8 * GIB, 320), (600 << 20, 160), (200 << 20, 86), (1 << 20, 1)]
)
def test_a_t4s_chunks_are_whole_waves_of_the_row_kernel(free, rows, monkeypatch):
    """40 processors hold four programs each: 160, or 320 where memory allows."""
    assert turing_rows(40) == 160
    as_if_on(monkeypatch, T4)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 15 * GIB))
    assert auto_chunk_rows(100_000, 152_064 * 4, torch.device("cuda")) == rows


def test_other_cards_keep_their_chunks(monkeypatch):
    as_if_on(monkeypatch, H100)
    assert auto_chunk_rows(100_000, 152_064 * 4, torch.device("cuda")) == 512
    assert chunks.chunk_rows(100_000, 152_064 * 4, 80 * GIB, 512) == 512
