"""How many rows of logits are alive at once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GIB = 1 << 30

#: A chunk takes at most this share of the free memory.
SHARE_OF_FREE = 0.25

#: Chunks are whole numbers of this many rows, so that matmul tiles are full.
GRAIN = 64

#: Threads of a program of the row kernel (`logprob_triton.WARPS`). A Turing processor holds 1024 of
#: them at once: four programs, each of which has a row.
ROW_THREADS = 256
TURING_THREADS = 1024


def auto_chunk_rows(rows: int, row_bytes: int, device: torch.device) -> int:
    """Rows of a chunk for `rows` rows in all, `row_bytes` each, from the device's free memory.

    Larger chunks read lm_head less often; nothing is gained above the preferred number. The last
    chunk must not be a sliver, so the rows are dealt out evenly.
    """
    free, preferred = _memory(device)
    resident = _resident_rows(device)
    if resident:
        preferred = 2 * resident
    return chunk_rows(rows, row_bytes, free, preferred, grain=resident or GRAIN)


def chunk_rows(rows: int, row_bytes: int, free: int, preferred: int, grain: int = GRAIN) -> int:
    """Rows of a chunk where `free` bytes are left and no more than `preferred` rows are wanted."""
    affordable = max(1, int(free * SHARE_OF_FREE) // max(1, row_bytes))
    most = min(preferred, affordable)
    if most > grain:
        most -= most % grain
    chunks = max(1, math.ceil(rows / most))
    even = math.ceil(rows / chunks)
    return max(1, min(most, math.ceil(even / grain) * grain, rows))


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take on the device."""
    return _cuda_memory(device)[0] if device.type == "cuda" else _host_free()


def preferred_rows(limit: int, *, cuda: bool) -> int:
    """512 rows from 20 GiB up and 256 below on a GPU, 1024 on a CPU."""
    if not cuda:
        return 1024
    return 512 if limit >= 20 * GIB else 256


def turing_rows(processors: int) -> int:
    """Rows that the row kernel has at work at once: 160 on the 40 processors of a T4."""
    return processors * (TURING_THREADS // ROW_THREADS)


def _resident_rows(device: torch.device) -> int | None:
    """On Turing, where the row kernel is slow enough for a last, half-empty wave to show; chunks
    are one or two waves of it. None elsewhere."""
    if device.type != "cuda":
        return None
    import torch

    found = torch.cuda.get_device_properties(device)
    turing = (found.major, found.minor) == (7, 5)
    return turing_rows(found.multi_processor_count) if turing else None


def _memory(device: torch.device) -> tuple[int, int]:
    """(free bytes, preferred rows)."""
    if device.type == "cuda":
        free, limit = _cuda_memory(device)
        return free, preferred_rows(limit, cuda=True)
    return _host_free(), preferred_rows(0, cuda=False)


def _cuda_memory(device: torch.device) -> tuple[int, int]:
    """(free bytes, all bytes) under the fraction of the device this process may use."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    limit = int(total * torch.cuda.get_per_process_memory_fraction(device))
    reserved = torch.cuda.memory_reserved(device)
    cached = reserved - torch.cuda.memory_allocated(device)
    return max(0, min(free, limit - reserved)) + cached, limit


def _host_free() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux: nothing is known, and a chunk on a CPU is small
        return 4 * GIB
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024
