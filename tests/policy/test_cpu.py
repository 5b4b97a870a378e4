"""Threads by the clock and 4 bits by the memory, on a CPU."""

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from policies import model_keys

from icpo_lite.core.device import Device
from icpo_lite.policy import cpu
from icpo_lite.policy.cpu import (
    PIECE_TOKENS,
    pieces_of,
    set_threads,
    wants_4bit,
    with_own_dtype,
)
from icpo_lite.policy.load import load_policy

CPU = Device(torch.device("cpu"), torch.float32, "CPU")
GPU = Device(torch.device("cuda"), torch.bfloat16, "a GPU")
HALF_A_BILLION = 500_000_000


@pytest.fixture(autouse=True)
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def model(hidden):
    text = SimpleNamespace(hidden_size=hidden)
    return SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))


@pytest.mark.parametrize(
    ("seconds", "count"),
    [({1: 1.0, 2: 2.0, 4: 1.5}, 1), ({1: 4.0, 2: 2.1, 4: 2.0}, 2), ({1: 4.0, 2: 2.0, 4: 1.1}, 4)],
)
def test_the_fastest_number_of_threads_is_taken(seconds, count, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setattr(cpu, "_seconds", lambda model, n: seconds[n])
    said = set_threads(model(896), None)
    assert said.startswith(f"{count} of 4 cores' threads: the fastest here (1: ")
    assert torch.get_num_threads() == count


def test_threads_are_timed_on_the_model_itself():
    policy = load_policy(model_keys("builtin:tiny", device="cpu"))
    assert cpu._seconds(policy.causal_lm, 1) > 0


def test_what_is_not_measured_says_why(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setattr(cpu, "_seconds", lambda model, n: pytest.fail("it was timed"))
    assert "more would not speed up a model this small" in set_threads(model(64), None)
    assert "left to the runs beside" in set_threads(model(896), 1)


@pytest.mark.parametrize(("free", "in_4bit"), [(16e9, False), (4e9, True)])
def test_auto_takes_4_bits_on_a_cpu_only_where_whole_weights_do_not_fit(free, in_4bit, monkeypatch):
    monkeypatch.setattr(cpu, "free_bytes", lambda device: int(free))
    keys = model_keys("builtin:tiny", load_in_4bit="auto")
    chosen, said = wants_4bit(keys, CPU, HALF_A_BILLION)
    assert chosen is in_4bit
    assert "2.0 GB" in said
    assert wants_4bit(keys, GPU, HALF_A_BILLION) == (True, "")


def test_4_bits_that_cost_more_than_they_save_are_said():
    keys = model_keys("builtin:tiny", load_in_4bit=True)
    assert "load_in_4bit: auto" in wants_4bit(keys, CPU, HALF_A_BILLION)[1]
    assert wants_4bit(keys, CPU, 600_000) == (True, "")  # not felt
    assert wants_4bit(keys, GPU, HALF_A_BILLION) == (True, "")


def test_a_policy_says_what_auto_came_to():
    policy = load_policy(model_keys("builtin:tiny", load_in_4bit="auto", device="cpu"))
    assert policy.keys.load_in_4bit is False
    assert any("held whole" in note for note in policy.notes)
    assert policy.causal_lm.model.layers[0].mlp.up_proj.weight.dtype is torch.float32


def test_texts_of_like_length_are_computed_together():
    lengths = [900, 30, 1000, 31, 900, 3000, 29]
    pieces = pieces_of(lengths)
    # Three short ones; 2 x 900 and, alone, what with another would be too many; one beyond all.
    assert pieces == [[1, 3, 6], [0, 4], [2], [5]]
    assert all(len(p) == 1 or len(p) * max(lengths[i] for i in p) <= PIECE_TOKENS for p in pieces)


@pytest.mark.parametrize(
    ("units", "dtype", "device", "weights", "taken"),
    [
        (True, "auto", CPU, HALF_A_BILLION, torch.bfloat16),
        (False, "auto", CPU, HALF_A_BILLION, torch.float32),  # it would convert, and be slower
        (True, "float32", CPU, HALF_A_BILLION, torch.float32),
        (True, "auto", CPU, 600_000, torch.float32),
        (True, "auto", replace(GPU, dtype=torch.float16), HALF_A_BILLION, torch.float16),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_that_has_units_for_it(
    units, dtype, device, weights, taken, monkeypatch
):
    monkeypatch.setattr(cpu, "multiplies_bfloat16", lambda: units)
    chosen, said = with_own_dtype(model_keys("builtin:tiny", dtype=dtype), device, weights)
    assert chosen.dtype is taken
    assert bool(said) is (taken is torch.bfloat16)


def test_a_model_is_loaded_in_what_its_cpu_has_units_for(monkeypatch):
    monkeypatch.setattr(cpu, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(cpu, "BFLOAT16_WEIGHTS", 0)
    policy = load_policy(model_keys("builtin:tiny", load_in_4bit="auto", device="cpu"))
    assert policy.device.dtype is torch.bfloat16
    assert policy.causal_lm.model.layers[0].mlp.up_proj.weight.dtype is torch.bfloat16
    assert any("for which this CPU has units" in note for note in policy.notes)


def test_nothing_is_no_piece():
    assert cpu.pieces_of([]) == []
    assert cpu.pieces_of([5, 3, 4]) == [[0, 1, 2]]
    assert cpu.pieces_of([3, 1500, 1000]) == [[0, 2], [1]]
