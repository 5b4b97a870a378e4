"""What a model is given on a CPU: threads, by the clock, 4 bits only where they save a run, and
bfloat16 where the CPU has units for it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from icpo_lite.policy.kernels.chunks import free_bytes

if TYPE_CHECKING:
    from icpo_lite.core.device import Device
    from icpo_lite.recipe.sections import ModelKeys

#: Hidden size below which a second thread costs more than it brings. Threads of small matrices
#: mostly wait for one another: where other programs want the cores too, a step of the embedded
#: model took 1.5 s with one thread and 20 s with two.
SMALL_HIDDEN = 512
#: More threads must be faster by so much: what noise turns would change the rounding of a run.
MARGIN = 1.1
#: Rows and tokens of the passes that are timed, a micro-batch's and a decoding step's.
_TRIED = ((4, 32), (16, 1))
#: Share of the free memory that whole weights may take before 4 bits are chosen.
_ROOM = 0.4
#: Weights from which bfloat16 is taken: at half a billion it samples 1.6 times as fast as float32.
#: By their number and not by the clock, since a run must go on in what it began in.
BFLOAT16_WEIGHTS = 300e6
#: Tokens that are computed at once, filled-up ones included: what a layer of a small model makes of
#: them stays in the core's cache.
PIECE_TOKENS = 2048
#: Weights from which unpacking 4 bits at every token is felt.
_FELT = 50e6


def set_threads(model: Any, limit: int | None) -> str:
    """Choose torch's threads and say why. limit: what the runs beside this one leave over."""
    cores = len(os.sched_getaffinity(0))
    most = min(limit or cores, cores)
    count, why = 1, "the others are left to the runs beside this one"
    if model.config.get_text_config().hidden_size < SMALL_HIDDEN:
        why = "more would not speed up a model this small"
    elif most > 1:
        seconds = {n: _seconds(model, n) for n in sorted({1, most // 2, most} - {0})}
        count = 1
        for n in sorted(seconds)[1:]:
            count = n if seconds[n] * MARGIN < seconds[count] else count
        told = ", ".join(f"{n}: {s * 1000:.0f} ms" for n, s in sorted(seconds.items()))
        why = f"the fastest here ({told})"
    elif cores == 1:
        why = "there is one"
    torch.set_num_threads(count)
    return f"{count} of {cores} cores' threads: {why}"


@torch.no_grad()
def _seconds(model: Any, threads: int) -> float:
    """Of one pass of each kind, the better of two."""
    torch.set_num_threads(threads)
    total = 0.0
    for shape in _TRIED:
        ids = torch.zeros(shape, dtype=torch.long)
        times = []
        for _ in range(2):
            started = time.perf_counter()
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
            times.append(time.perf_counter() - started)
        total += min(times)
    return total


@cache
def multiplies_bfloat16() -> bool:
    """Whether this CPU has matrix units for bfloat16 (AMX); without them float32 is faster."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def with_own_dtype(keys: ModelKeys, device: Device, weights: int) -> tuple[Device, str]:
    """(the device, what to say of it) where `dtype: auto` is better met by bfloat16 on a CPU."""
    on_cpu = device.torch_device.type == "cpu"
    if not (on_cpu and keys.dtype == "auto" and weights >= BFLOAT16_WEIGHTS):
        return device, ""
    if not multiplies_bfloat16():
        return device, ""
    return replace(device, dtype=torch.bfloat16), (
        "bfloat16, for which this CPU has units: faster than float32, in half the memory; "
        "dtype: float32 is more exact"
    )


def pieces_of(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of texts that are computed together: those of like length, few tokens at once.

    It takes half the time of all of them side by side, each as wide as the longest.
    """
    pieces: list[list[int]] = [[]]
    for number in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if pieces[-1] and (len(pieces[-1]) + 1) * lengths[number] > PIECE_TOKENS:
            pieces.append([])
        pieces[-1].append(number)
    return [sorted(piece) for piece in pieces if piece]


def wants_4bit(keys: ModelKeys, device: Device, weights: int) -> tuple[bool, str]:
    """(whether to hold the frozen weights as NF4, what to say of it).

    weights: of the model. On a GPU 4 bits are what lets a model fit. A CPU has no kernel for them:
    each layer is unpacked at every token, so that there `auto` takes them only where the whole
    weights would not fit.
    """
    if keys.load_in_4bit != "auto":
        if keys.load_in_4bit and device.torch_device.type == "cpu" and weights > _FELT:
            return True, (
                "4-bit weights are unpacked at every token on a CPU, several times slower than "
                f"whole ones, to save {_gb(weights, device) - weights * 0.55 / 1e9:.1f} GB; "
                "load_in_4bit: auto weighs it up"
            )
        return bool(keys.load_in_4bit), ""
    if device.torch_device.type != "cpu":
        return True, ""
    whole, free = _gb(weights, device), free_bytes(device.torch_device) / 1e9
    if whole <= _ROOM * free:
        return False, f"weights are held whole, {whole:.1f} GB: a CPU unpacks 4 bits too slowly"
    return True, (
        f"weights are held in 4 bits, slow on a CPU: whole they take {whole:.1f} GB, and "
        f"{free:.1f} GB are free"
    )


def _gb(weights: int, device: Device) -> float:
    return weights * device.dtype.itemsize / 1e9
