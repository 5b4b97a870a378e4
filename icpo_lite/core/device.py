"""The accelerator, chosen once, with the reason said.

Of environment variables only CUDA's own (`CUDA_VISIBLE_DEVICES`) decides which device is taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icpo_lite.core.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

#: GPUs below this have no bfloat16 units; torch says they do, by slow emulation.
_BF16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Device:
    """Where the model lives and what it computes in, and why."""

    torch_device: torch.device
    dtype: torch.dtype
    name: str
    reasons: tuple[str, ...] = ()


def choose_device(requested: str = "auto", dtype: str = "auto") -> Device:
    """The device and dtype for a run.

    requested: `auto`, `cpu`, `cuda` or `cuda:N`. dtype: `auto`, `float32`, `bfloat16`, `float16`.
    Raises DeviceError when the request cannot be met; `auto` never raises.
    """
    import torch

    reasons: list[str] = []
    if requested == "auto":
        usable = [i for i in range(torch.cuda.device_count()) if not _unusable(i)]
        for i in range(torch.cuda.device_count()):
            if why := _unusable(i):
                reasons.append(f"cuda:{i} left aside: {why}")
        if usable:
            best = max(usable, key=lambda i: (_worth(i), -i))
            chosen = torch.device("cuda", best)
            if len(usable) > 1:
                idle = ", ".join(f"cuda:{i}" for i in usable if i != best)
                reasons.append(f"one GPU is used, cuda:{best}; left idle: {idle}")
        else:
            chosen = torch.device("cpu")
            mac = "; a Mac's GPU (mps) is not used" if _mac_gpu() else ""
            reasons.append(f"no usable CUDA GPU: running on the CPU{mac}")
    else:
        chosen = _requested(requested)
    return Device(chosen, _dtype(chosen, dtype, reasons), _name(chosen), tuple(reasons))


def unknown_device(requested: str) -> str:
    """What follows `expected` for a device that is not taken: those that are, and why not it."""
    kind = requested.partition(":")[0].strip().lower()
    told = f"auto, cpu, cuda or cuda:N, found {requested!r}"
    if kind in ("mps", "metal", "mlx"):
        return f"{told}; a Mac's GPU is not used: device: cpu trains there, small models alone"
    if "," in requested or re.fullmatch(r"cuda:\d+-\d+|\d+(,\d+)*|balanced|all", requested):
        return f"{told}; a run trains on one device: name one, such as cuda:0"
    if kind in ("rocm", "hip"):
        return f"{told}; torch calls an AMD GPU cuda, too"
    return told


def require_one_process() -> None:
    """Raises UsageError in one of several processes that a launcher started to train together.

    Each would train a run of its own, in one directory.
    """
    count = os.environ.get("WORLD_SIZE", "")
    if count.isdigit() and int(count) > 1:
        raise UsageError(
            f"expected one process, found one of {count} that torchrun or accelerate started "
            "(WORLD_SIZE): a run trains on one GPU; start it with icpo-lite train alone, or hand "
            "it over to TRL with icpo-lite handover, which trains on several"
        )


def _mac_gpu() -> bool:
    """Whether this is a Mac with a GPU that torch could use."""
    import torch

    return bool(torch.backends.mps.is_available())


def _worth(index: int) -> tuple[bool, int]:
    """What the best of several GPUs has: bfloat16 units first, then memory."""
    import torch

    memory = int(torch.cuda.get_device_properties(index).total_memory)
    return torch.cuda.get_device_capability(index) >= _BF16_CAPABILITY, memory


def _requested(requested: str) -> torch.device:
    import torch

    try:
        device = torch.device(requested)
    except RuntimeError:
        raise DeviceError(f"device: expected {unknown_device(requested)}") from None
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise DeviceError(f"device: expected {unknown_device(requested)}")
    index = device.index or 0
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceError(
            f"device: {requested!r} was asked for, but torch {torch.__version__} sees {count} CUDA "
            "GPU(s); use device: cpu, or install a torch built for your GPU's driver"
        )
    if why := _unusable(index):
        raise DeviceError(f"device: {requested!r} cannot be used: {why}")
    return torch.device("cuda", index)


def _unusable(index: int) -> str | None:
    """Why this GPU cannot run, although `is_available()` says True (Kaggle's P100)."""
    import torch

    major, minor = torch.cuda.get_device_capability(index)
    if not has_kernels(major, minor, torch.cuda.get_arch_list()):
        name = torch.cuda.get_device_name(index)
        return (
            f"torch {torch.__version__} has no kernels for {name} "
            f"(compute capability {major}.{minor})"
        )
    return None


def has_kernels(major: int, minor: int, architectures: Sequence[str]) -> bool:
    """Whether a build for these architectures ("sm_80", "sm_90a", "compute_90") runs on a GPU.

    Code runs on later GPUs of its own major version; intermediate code (compute_) on all later.
    """
    own = major * 10 + minor
    built = [(a[:3], int(m[1])) for a in architectures if (m := re.match(r"\w+?_(\d+)", a))]
    if not built:
        return True
    return any(arch <= own and (kind == "com" or arch // 10 == major) for kind, arch in built)


def _dtype(device: torch.device, wanted: str, reasons: list[str]) -> torch.dtype:
    import torch

    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if wanted == "bfloat16" and capability is not None and capability < _BF16_CAPABILITY:
        reasons.append(
            f"bfloat16 is emulated on compute capability {capability[0]}.{capability[1]} and slow; "
            "dtype: float16 is not"
        )
    if wanted != "auto":
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[wanted]
    if capability is None:
        return torch.float32
    if capability >= _BF16_CAPABILITY:
        return torch.bfloat16
    reasons.append(
        f"float16, because compute capability {capability[0]}.{capability[1]} has no bfloat16 units"
    )
    return torch.float16


def _name(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        gib = torch.cuda.get_device_properties(device).total_memory / 2**30
        return f"{torch.cuda.get_device_name(device)} ({gib:.0f} GiB)"
    return "CPU"
