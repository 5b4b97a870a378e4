"""What stands between lm_head and the softmax, and the two matmuls around the row operation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from icpo_lite.core.errors import UsageError

#: Bytes of a slab of lm_head that is widened at a time where no matmul takes 16 bit to fp32.
SLAB_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LogitTransform:
    """From raw logits l (lm_head's output) to what the softmax sees.

    z = softcap · tanh(scale · l / softcap) / temperature, or scale · l / temperature without a
    softcap. Gemma caps; Cohere and Granite scale; the temperature is the sampler's.
    """

    temperature: float = 1.0
    softcap: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "softcap", "scale"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be a finite number above 0, found {value!r}")

    @property
    def slope(self) -> float:
        """dz/dl without the softcap's own derivative, 1 − tanh²."""
        return (self.scale or 1.0) / self.temperature

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """z in plain torch, differentiable; the shape is kept."""
        z = logits if self.scale is None else logits * self.scale
        if self.softcap is not None:
            z = torch.tanh(z / self.softcap) * self.softcap
        return z if self.temperature == 1.0 else z / self.temperature


def logit_options(config: Any) -> dict[str, float | None]:
    """`scale` and `softcap` for `token_logprobs`, read from a transformers config.

    The names are those of transformers 5.23: a softcap is `final_logit_softcapping` (Gemma 2 and
    later), `logits_soft_cap` (RecurrentGemma) or `output_logit_soft_cap` (xLSTM). Logits are
    multiplied by `logit_scale` (Cohere), `lm_head_multiplier` (Falcon-H1) or `output_multiplier`
    (Muse), and divided by `logits_scaling` (Granite), except that HyperCLOVA X multiplies by it.
    A name that is missing here shows in `check_against_reference(…, logits=…)`.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config

    def value(*names: str) -> float | None:
        found = (getattr(text, name, None) for name in names)
        return next((float(number) for number in found if isinstance(number, int | float)), None)

    scaling = value("logits_scaling")
    if scaling is not None and getattr(text, "model_type", "") != "hyperclovax":
        scaling = 1.0 / scaling
    multiplier = value("logit_scale", "lm_head_multiplier", "output_multiplier")
    return {
        "scale": multiplier if scaling is None else scaling,
        "softcap": value("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap"),
    }


def logits_dtype(dtype: torch.dtype) -> torch.dtype:
    """Logits and sums are fp32; float64 stays float64 so that gradients can be checked."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def project(hidden: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    """out [C, V] = hidden [C, D] @ weight [V, D]ᵀ, never rounded to 16 bit on the way."""
    if weight.dtype == out.dtype:
        torch.mm(hidden, weight.t(), out=out)
    elif weight.is_cuda:
        torch.mm(hidden, weight.t(), out_dtype=out.dtype, out=out)
    else:
        project_in_slabs(hidden, weight, out)


def project_in_slabs(hidden: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    """The same with lm_head widened to out's dtype a slab at a time: exact products anywhere."""
    wide = hidden.to(out.dtype)
    for slab in _slabs(weight, out.dtype):
        torch.mm(wide, weight[slab].to(out.dtype).t(), out=out[:, slab])


def pull_back(dz: torch.Tensor, weight: torch.Tensor, shrink: float, out: torch.Tensor) -> None:
    """out [C, D] = shrink · dz [C, V] @ weight [V, D], summed in fp32 and rounded once."""
    if weight.dtype == logits_dtype(weight.dtype):
        torch.mm(dz, weight, out=out)
        if shrink != 1.0:
            out.mul_(shrink)
    elif weight.is_cuda:
        out.copy_(torch.mm(dz, weight, out_dtype=torch.float32).mul_(shrink))
    else:
        out.copy_(pull_back_in_slabs(dz, weight).mul_(shrink))


def pull_back_in_slabs(dz: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """dz [C, V] @ weight [V, D] in dz's dtype, lm_head widened a slab at a time."""
    total = dz.new_zeros(len(dz), weight.shape[1])
    _add_slabs(dz, weight, total)
    return total


def pull_back_onto(dz: torch.Tensor, weight: torch.Tensor, total: torch.Tensor) -> None:
    """total [C, D] += dz [C, V] @ weight [V, D], total in fp32 whatever the others are in."""
    if weight.dtype == total.dtype:
        total.addmm_(dz, weight)
    elif weight.is_cuda:
        torch.addmm(total, dz, weight, out_dtype=total.dtype, out=total)
    else:
        _add_slabs(dz, weight, total)


def _add_slabs(dz: torch.Tensor, weight: torch.Tensor, total: torch.Tensor) -> None:
    for slab in _slabs(weight, dz.dtype):
        total.addmm_(dz[:, slab], weight[slab].to(dz.dtype))


def _slabs(weight: torch.Tensor, dtype: torch.dtype) -> list[slice]:
    rows = max(1, SLAB_BYTES // max(1, weight.shape[1] * dtype.itemsize))
    return [slice(start, start + rows) for start in range(0, weight.shape[0], rows)]
