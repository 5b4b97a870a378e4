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


def auto_chunk_rows(rows: int, row_bytes: int, device: torch.device) -> int:
    """Rows of a chunk for `rows` rows in all, `row_bytes` each, from the device's free memory.

    Larger chunks read lm_head less often; nothing is gained above the preferred number. The last
    chunk must not be a sliver, so the rows are dealt out evenly.
    """
    free, preferred = _memory(device)
    return chunk_rows(rows, row_bytes, free, preferred)


def chunk_rows(rows: int, row_bytes: int, free: int, preferred: int) -> int:
    """Rows of a chunk where `free` bytes are left and no more than `preferred` rows are wanted."""
    affordable = max(1, int(free * SHARE_OF_FREE) // max(1, row_bytes))
    most = min(preferred, affordable)
    if most > GRAIN:
        most -= most % GRAIN
    chunks = max(1, math.ceil(rows / most))
    even = math.ceil(rows / chunks)
    return max(1, min(most, math.ceil(even / GRAIN) * GRAIN, rows))


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take on the device."""
    return _cuda_memory(device)[0] if device.type == "cuda" else _host_free()


def preferred_rows(limit: int, *, cuda: bool) -> int:
    """512 rows from 20 GiB up and 256 below on a GPU, 1024 on a CPU."""
    if not cuda:
        return 1024
    return 512 if limit >= 20 * GIB else 256


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
