"""The Triton kernel: in place in 16 bit on a CPU's interpreter, and compiled for four GPUs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernels_cases import DEVICE, HAS_TRITON

from icpo_lite.core.errors import DeviceError
from icpo_lite.policy.kernels.logits import LogitTransform
from icpo_lite.policy.kernels.logprob import choose_impl, token_logprobs
from icpo_lite.policy.kernels.logprob_torch import RowTask, torch_rows

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")

ROW_OPS = ["torch", pytest.param("triton", marks=needs_triton)]


def row_operation(name):
    if name == "torch":
        return torch_rows
    from icpo_lite.policy.kernels.logprob_triton import triton_rows

    return triton_rows


@pytest.mark.parametrize("transform", [LogitTransform(), LogitTransform(0.7, 5.0, 2.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", ROW_OPS)
def test_dz_takes_the_place_of_its_logits(op, dtype, transform):
    """As on a GPU: rows padded with NaN, dz on the logits' memory in 16 bit, fp16 boosted.

    The gradient of raw logits must come out within a rounding of `dtype` of autograd's in
    float64, relative to the row's largest element, also for a row whose 1 − p_y is 1e-7 as a
    whole, where unscaled fp16 has no digits left.
    """
    rows, vocabulary, stride = 5, 5003, 5056
    noise = torch.Generator().manual_seed(0)
    raw = torch.randn(rows, vocabulary, generator=noise) * 3
    targets = torch.randint(vocabulary, (rows,), generator=noise)
    raw[1] *= 20
    raw[2] -= raw[2].max() + 10
    raw[2, targets[2]] = 12.0 if transform.softcap is None else 30.0
    raw[3, :100] = -torch.inf
    bias = torch.randn(vocabulary, generator=noise)

    leaf = raw.double().requires_grad_()
    logp = transform.apply(leaf + bias).log_softmax(-1)
    entropy = -(logp.exp() * logp.clamp_min(-1e4)).sum(-1)
    chosen = logp.gather(1, targets[:, None]).squeeze(1)
    (of_logp,) = torch.autograd.grad(chosen.sum(), leaf, retain_graph=True)
    (of_entropy,) = torch.autograd.grad(entropy.sum(), leaf)

    memory = torch.full((rows, stride), torch.nan)
    memory[:, :vocabulary] = raw
    memory = memory.to(DEVICE)
    dz = memory.view(dtype)[:, :vocabulary]
    dh = torch.full((rows, stride), torch.nan, dtype=dtype, device=DEVICE)[:, :vocabulary]
    boost = 2.0**14 if dtype == torch.float16 else None
    task = RowTask(targets.to(DEVICE), bias.to(DEVICE), transform, dz, dh, boost)
    result = row_operation(op)(memory[:, :vocabulary], task)

    torch.testing.assert_close(result.logp.cpu().double(), chosen.detach(), rtol=1e-6, atol=2e-5)
    torch.testing.assert_close(
        result.entropy.cpu().double(), entropy.detach(), rtol=1e-6, atol=2e-5
    )
    for buffer, size, truth in (
        (dz, result.size, of_logp),
        (dh, result.entropy_size, of_entropy),
    ):
        found = buffer.double().cpu() * size.double().cpu()[:, None] / (boost or 1.0)
        largest = truth.abs().amax(1, keepdim=True)
        # fp32 sums leave up to 1e-6 of a row; log p carries 2e-5 for the sharpest rows.
        allowed = (torch.finfo(dtype).eps + 4e-5) * largest + 3e-7
        assert bool(((found - truth).abs() <= allowed).all())


@needs_triton
def test_a_row_of_minus_infinity_only_is_nan_and_an_all_equal_row_is_uniform():
    logits = torch.zeros(2, 300, device=DEVICE)
    logits[0] = -torch.inf
    targets = torch.tensor([3, 3], device=DEVICE)
    task = RowTask(targets, None, LogitTransform(), None, None, None)
    result = row_operation("triton")(logits, task)
    assert result.logp[0].isnan()
    assert result.logp[1].item() == pytest.approx(-5.703782, abs=1e-5)  # −ln 300
    assert result.entropy[1].item() == pytest.approx(5.703782, abs=1e-5)


@needs_triton
def test_the_public_op_runs_it_by_name():
    hidden, weight = torch.randn(6, 8, device=DEVICE), torch.randn(50, 8, device=DEVICE)
    targets = torch.tensor([0, 49, -100, 7, 7, 3], device=DEVICE)
    for rows in (0, 1, 6):
        found = token_logprobs(hidden[:rows], weight, targets[:rows], impl="triton")
        plain = token_logprobs(hidden[:rows], weight, targets[:rows], impl="reference")
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)


@needs_triton
@pytest.mark.skipif(DEVICE == "cuda", reason="about a machine without a GPU")
def test_auto_does_not_take_the_interpreter(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_impl(cpu, torch.float32) == ("torch", "triton's interpreter is for tests")
    with pytest.raises(DeviceError, match="float64"):
        choose_impl(cpu, torch.float64, "triton")
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(DeviceError, match="needs an NVIDIA GPU"):
        choose_impl(cpu, torch.float32, "triton")


def test_auto_says_why_it_falls_back(monkeypatch):
    """A GPU that is too old, seen through what torch reports of it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 0))
    impl, reason = choose_impl(torch.device("cuda"), torch.float16)
    assert impl == "torch"
    assert reason == "triton needs compute capability 7.5, this GPU has 6.0"


COMPILE = Path(__file__).parents[2] / "benchmarks" / "compile_kernel.py"


@needs_triton
def test_compiles_without_spills_for_turing_to_hopper():
    """No GPU is needed: Triton's own compiler and cuobjdump. Spills show as STACK or LOCAL."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(COMPILE.parents[2])
    done = subprocess.run(
        [sys.executable, str(COMPILE), "--json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {entry["target"] for entry in report} == {"sm75", "sm80", "sm89", "sm90"}
    assert {entry["dz"] for entry in report} == {"fp16", "bf16", "fp32"}
    assert {entry["kernel"] for entry in report} == {"_row_kernel", "_tile_kernel"}
    for entry in report:
        usage = dict(re.findall(r"(\w+):(\d+)", entry["usage"]))
        assert usage["STACK"] == usage["LOCAL"] == "0", entry
        assert 0 < int(usage["REG"]) <= 64, entry
        assert not entry["tensor_core"], entry
