"""Is the fast path right on this machine, for this model? A few rows against float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from icpo_lite.core.errors import IcpoError
from icpo_lite.policy.kernels.logits import (
    LogitTransform,
    logits_dtype,
    project_in_slabs,
    pull_back_in_slabs,
)
from icpo_lite.policy.kernels.logprob import Impl, choose_impl, token_logprobs
from icpo_lite.policy.kernels.logprob_reference import of_logits

#: Rows looked at: float64 logits of 8 rows and 152k tokens are 10 MB.
ROWS = 8
#: An error may be this much larger than plain torch's in the same dtype, plus ULPS roundings. The
#: tests of this package hold the op to 1.5 and 4; with a few rows only, plain torch's error may be
#: small by luck, and a kernel that is wrong is wrong by far more.
FACTOR = 2.0
ULPS = 8.0


class KernelCheck(NamedTuple):
    """The outcome for the run's header; `reason` is empty when all is well."""

    ok: bool
    max_abs_error: float  # of the log-probs against float64; NaN when the path did not run
    reason: str
    impl: Impl


class Outputs(NamedTuple):
    """What is compared: log-probs, entropies, and d Σ logp / d hidden."""

    logp: torch.Tensor  # [n]
    entropy: torch.Tensor  # [n]
    grad: torch.Tensor  # [n, D]


def check_against_reference(
    hidden: torch.Tensor,  # [N, D]
    weight: torch.Tensor,  # [V, D]
    targets: torch.Tensor,  # [N]
    *,
    impl: Impl = "auto",
    logits: torch.Tensor | None = None,  # [N, V]
    **options: Any,
) -> KernelCheck:
    """Compare the first rows' log-probs, entropies and gradients with float64.

    `options` are those of `token_logprobs`. An error may be twice that of plain torch in the same
    dtype plus 8 units in the last place of the largest magnitude summed. `logits`, the model's own
    for these rows (before temperature), also prove scale, softcap and bias.

    A kernel that does not compile or run is reported, not raised: the caller falls back to
    impl="torch" and shows the reason. IcpoErrors (wrong arguments, NaN) are raised.
    """
    impl, _ = choose_impl(hidden.device, hidden.dtype, impl, head=weight.shape)
    rows = slice(0, ROWS)
    hidden, targets = hidden[rows].detach(), targets[rows]
    weight = weight.detach()
    plain = run_outputs(hidden, weight, targets, impl="reference", **options)
    truth, largest_z, largest_term = true_outputs(hidden, weight, targets, **options)
    try:
        # Rows whose number is given are tiled however few they are.
        ours = run_outputs(hidden, weight, targets, impl=impl, **{"chunk_rows": ROWS, **options})
    except IcpoError:
        raise
    except Exception as error:  # a compiler or driver failure: any type, and not ours to name
        first_line = (str(error).splitlines() or [""])[0]
        reason = f"impl={impl} failed here: {type(error).__name__}: {first_line}"
        return KernelCheck(False, float("nan"), reason, impl)
    found = errors(ours, truth)
    allowed = allowances(errors(plain, truth), hidden.dtype, largest_z, largest_term)
    problems = [
        f"{name} is off by {off:.2e}, allowed are {limit:.2e}"
        for name, off, limit in zip(Outputs._fields, found, allowed, strict=True)
        if not off <= limit
    ]
    if logits is not None and not problems:
        problems = _compare_with_model(logits[rows], targets, truth, hidden.dtype, options)
    return KernelCheck(not problems, found[0], "; ".join(problems), impl)


def true_outputs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    scale: float | None = None,
    ignore_index: int = -100,
    **_: Any,
) -> tuple[Outputs, float, float]:
    """Outputs in float64 from the given 16- or 32-bit numbers, and the two largest magnitudes:

    of z and its log-sum-exp, and of the terms whose sum is the gradient.
    """
    transform = LogitTransform(temperature, softcap, scale)
    kept = targets != ignore_index
    logits = hidden.new_empty(len(hidden), len(weight), dtype=torch.float64)
    project_in_slabs(hidden, weight, out=logits)
    if bias is not None:
        logits += bias
    logits.requires_grad_()
    with torch.enable_grad():
        z = transform.apply(logits)
        logp, entropy = of_logits(z, targets.where(kept, 0))
        logp, entropy = logp.where(kept, 0.0), entropy.where(kept, 0.0)
        (dz,) = torch.autograd.grad(logp.sum(), logits)
    grad = pull_back_in_slabs(dz, weight)
    largest_z = _largest(z.detach()[kept])
    largest_term = float(dz.abs().max() * weight.abs().max()) if dz.numel() else 0.0
    return Outputs(logp.detach(), entropy.detach(), grad), largest_z, largest_term


def _largest(z: torch.Tensor) -> float:
    """Of |z|, infinities apart, and |log Σ e^z|; 0 without rows."""
    if not len(z):
        return 0.0
    finite = z[z.isfinite()].abs().max()
    return float(torch.maximum(finite, z.logsumexp(-1).abs().max()))


def run_outputs(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, **options: Any
) -> Outputs:
    """The same three of `token_logprobs`."""
    leaf = hidden.detach().clone().requires_grad_()
    with torch.enable_grad():
        logp, entropy = token_logprobs(leaf, weight, targets, **options)
        (grad,) = torch.autograd.grad(logp.sum(), leaf)
    return Outputs(logp.detach(), entropy.detach(), grad)


def errors(outputs: Outputs, truth: Outputs) -> tuple[float, float, float]:
    """Largest absolute difference of each output; equal infinities differ by 0."""
    logp, entropy, grad = (
        float((one.double() - other).where(one != other, 0.0).abs().max()) if one.numel() else 0.0
        for one, other in zip(outputs, truth, strict=True)
    )
    return logp, entropy, grad


def allowances(
    plain: tuple[float, float, float],
    dtype: torch.dtype,
    largest_z: float,
    largest_term: float,
) -> tuple[float, float, float]:
    """FACTOR × plain torch's error + ULPS ulp: fp32 for outputs, `dtype` for the gradient."""
    forward = ULPS * torch.finfo(logits_dtype(dtype)).eps * max(1.0, largest_z)
    backward = ULPS * torch.finfo(dtype).eps * largest_term
    logp, entropy, grad = plain
    return FACTOR * logp + forward, FACTOR * entropy + forward, FACTOR * grad + backward


def _compare_with_model(
    logits: torch.Tensor,
    targets: torch.Tensor,
    truth: Outputs,
    dtype: torch.dtype,
    options: dict[str, Any],
) -> list[str]:
    """The model's logits are rounded to `dtype`: log-probs may differ by ULPS of the largest."""
    z = LogitTransform(options.get("temperature", 1.0)).apply(logits.detach().double())
    kept = targets != options.get("ignore_index", -100)
    logp, _ = of_logits(z[kept], targets[kept])
    if not len(logp):
        return []
    largest = float(z[z.isfinite()].abs().max())
    limit = ULPS * torch.finfo(dtype).eps * max(1.0, largest)
    found = float((logp - truth.logp[kept]).abs().max())
    if found <= limit:
        return []
    return [
        f"the model's own logits give log-probs off by {found:.2e}, allowed are {limit:.2e}: "
        "does the model scale or cap its logits in a way that was not passed on?"
    ]
