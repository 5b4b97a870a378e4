"""Shared by the kernel tests: which implementations run here, random problems, float64 truth.

The truth is written out once more in plain torch and imports nothing from the package.
"""

from __future__ import annotations

import importlib.util
import os
from typing import NamedTuple

import torch
import torch.nn.functional as F

HAS_TRITON = importlib.util.find_spec("triton") is not None
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if HAS_TRITON and DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernel's module is imported

FAST_IMPLS = ("torch", "triton") if HAS_TRITON else ("torch",)
IMPLS = ("reference", *FAST_IMPLS)


class Case(NamedTuple):
    """A problem: inputs as the op gets them, and the loss Σ a·logp + b·entropy."""

    hidden: torch.Tensor  # [N, D]
    weight: torch.Tensor  # [V, D]
    targets: torch.Tensor  # [N]
    a: torch.Tensor  # [N]
    b: torch.Tensor  # [N]
    options: dict


class Outcome(NamedTuple):
    logp: torch.Tensor  # [N]
    entropy: torch.Tensor  # [N]
    grad: torch.Tensor  # [N, D]


class Truth(NamedTuple):
    outcome: Outcome
    largest_z: float  # of what enters the log-sum-exp
    largest_term: float  # of the terms whose sum is the gradient


def make_case(n, d, v, *, dtype=torch.float32, sharpness=1.0, seed=0, ignored=0.2, **options):
    """Logits of standard deviation `sharpness`; the first row's target has p near 1, the second's
    near 0, where there are such rows."""
    noise = torch.Generator().manual_seed(seed)
    weight = torch.randn(v, d, generator=noise, dtype=torch.float64) / d**0.5
    hidden = torch.randn(n, d, generator=noise, dtype=torch.float64) * sharpness
    targets = torch.randint(v, (n,), generator=noise)
    dropped = torch.rand(n, generator=noise) < ignored
    if n > 2:
        dropped[:2] = False
        hidden[0] = weight[targets[0]] / weight[targets[0]].square().sum() * 25.0
        hidden[1] = -weight[targets[1]] / weight[targets[1]].square().sum() * 25.0
    targets[dropped] = -100
    a, b = torch.randn(2, n, generator=noise, dtype=torch.float64).to(torch.float32)
    if options.pop("with_bias", False):
        options["bias"] = torch.randn(v, generator=noise, dtype=torch.float64).to(dtype)
    return Case(hidden.to(dtype), weight.to(dtype), targets, a, b, options)


def on_device(case, device):
    tensors = (tensor.to(device) for tensor in case[:5])
    options = {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in case.options.items()
    }
    return Case(*tensors, options)


def plain(case, dtype, *, entropy):
    """What plain torch makes of the case, computed in `dtype`: F.linear, log_softmax, autograd.

    Returns z [K, V] of the kept rows, d loss/d logits, and the outcome for all rows. Dropped rows
    are not computed: a matmul of other height may sum in another order.
    """
    o = case.options
    kept = (case.targets != -100).nonzero().squeeze(1)
    leaf = case.hidden.to(dtype).requires_grad_()
    bias = o["bias"].to(dtype) if "bias" in o else None
    logits = F.linear(leaf[kept], case.weight.to(dtype), bias)
    logits = logits if dtype == torch.float64 else logits.float()
    z = logits * o.get("scale", 1.0)
    if "softcap" in o:
        z = o["softcap"] * torch.tanh(z / o["softcap"])
    z = z / o.get("temperature", 1.0)
    log_p = torch.log_softmax(z, -1)
    logp = log_p[torch.arange(len(kept)), case.targets[kept]]
    h = -(log_p.exp() * log_p).sum(-1)
    loss = (case.a[kept] * logp).sum() + ((case.b[kept] * h).sum() if entropy else 0.0)
    dz, grad = torch.autograd.grad(loss, (logits, leaf))
    nothing = torch.zeros(len(case.targets), dtype=z.dtype, device=z.device)
    outputs = (nothing.index_copy(0, kept, part.detach()) for part in (logp, h))
    return z.detach(), dz, Outcome(*outputs, grad)


def truth_of(case, *, entropy):
    z, dz, outcome = plain(case, torch.float64, entropy=entropy)
    if not z.numel():
        return Truth(outcome, 0.0, 0.0)
    return Truth(outcome, float(z.abs().max()), float(dz.abs().max() * case.weight.abs().max()))


def ours(case, impl, *, entropy, token_logprobs, **options):
    leaf = case.hidden.clone().requires_grad_()
    logp, h = token_logprobs(
        leaf, case.weight, case.targets, impl=impl, entropy_grad=entropy, **case.options, **options
    )
    loss = (case.a * logp).sum() + ((case.b * h).sum() if entropy else 0.0)
    (grad,) = torch.autograd.grad(loss, leaf)
    return Outcome(logp.detach(), h.detach(), grad)


def errors(outcome, truth):
    """Largest absolute error of logp, entropy and gradient."""
    return [
        float((one.double() - other).abs().max()) if one.numel() else 0.0
        for one, other in zip(outcome, truth.outcome, strict=True)
    ]


def four_ulps(truth, dtype):
    """4 units in the last place of the largest magnitude in the sum, for each output.

    Log-probs and entropies come out in fp32 whatever goes in, so their unit is fp32's.
    """
    forward = 4 * torch.finfo(torch.float32).eps * max(1.0, truth.largest_z)
    return [forward, forward, 4 * torch.finfo(dtype).eps * truth.largest_term]


def sharp_case(n, d, v, *, seed=0, dtype=torch.float32):
    """Rows whose target has p 1 − 1e-9, 1 − 1e-4, 0.5, e^−12 and as drawn, by turns.

    lm_head's rows are noise of standard deviation D^−1/2, logits of about 2.5, as a model's.
    """
    noise = torch.Generator().manual_seed(seed)
    weight = torch.randn(v, d, generator=noise, dtype=torch.float64) / d**0.5
    hidden = torch.randn(n, d, generator=noise, dtype=torch.float64) * 2.5
    targets = torch.randint(v, (n,), generator=noise)
    for row, odds in zip(range(n), 10 * [20.7, 9.2, 0.0, -12.0, None], strict=False):
        if odds is None:
            continue
        own = weight[targets[row]]
        logits = weight @ hidden[row]
        others = torch.cat([logits[: targets[row]], logits[targets[row] + 1 :]]).logsumexp(0)
        # Moving along W_y moves the others a little too: a few rounds settle it.
        for _ in range(8):
            hidden[row] += (
                own / own.square().sum() * (others + odds - weight[targets[row]] @ hidden[row])
            )
            logits = weight @ hidden[row]
            others = torch.cat([logits[: targets[row]], logits[targets[row] + 1 :]]).logsumexp(0)
    a, b = torch.randn(2, n, generator=noise, dtype=torch.float64).float()
    return Case(hidden.to(dtype), weight.to(dtype), targets, a, b, {})
