"""Which part of the logits is alive at once: rows of the whole vocabulary, or tiles of it.

Rows [C, V]: every chunk reads lm_head anew for either matmul, and dz @ W [C, D] has few output
tiles for a card of many processors. Tiles [R, W]: R is some eight times C at equal memory, so
lm_head is read so much less often and the processors are busy; the price is an fp32 sum [R, D] that
is read and written for each of the V/W tiles.

The rule is arithmetic over the shape and the card, not yet a measurement on one; `icpo-lite bench`
times both ways (`triton`, `tiled`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from icpo_lite.policy.kernels.chunks import SHARE_OF_FREE, preferred_rows

if TYPE_CHECKING:
    import torch

#: A tile of logits: 4096 · 16,384 · 4 bytes = 268 MB in fp32, where 512 rows of 152k take 311.
TILE_ROWS = 4096
TILE_WORDS = 16_384
#: Below this a card's matmul takes several times as long as reading lm_head, which hides behind it.
TILED_CAPABILITY = (8, 0)
#: What the library's matmul computes in one program, about: [128, 256] of the output.
OUTPUT_TILE = (128, 256)
#: Tiles must keep the processors so much busier than rows do.
GAIN = 1.2


class Card(NamedTuple):
    """What the choice depends on."""

    capability: tuple[int, int]
    processors: int  # streaming multiprocessors
    limit: int  # bytes that this process may use


def card_of(device: torch.device) -> Card:
    import torch

    found = torch.cuda.get_device_properties(device)
    share = torch.cuda.get_per_process_memory_fraction(device)
    limit = int(found.total_memory * share)
    return Card((found.major, found.minor), found.multi_processor_count, limit)


def suits_tiles(vocabulary: int, hidden: int, card: Card) -> tuple[bool, str]:
    """Whether tiles are the better layout for a long batch under this lm_head, and why."""
    if card.capability < TILED_CAPABILITY:
        major, minor = card.capability
        return False, f"rows: compute capability {major}.{minor} hides lm_head's reads"
    if vocabulary < 2 * TILE_WORDS:
        return False, f"rows: {vocabulary} words are less than two tiles of {TILE_WORDS}"
    chunk = preferred_rows(card.limit, cuda=True)
    by_rows, by_tiles = (busy(rows, hidden, card.processors) for rows in (chunk, TILE_ROWS))
    said = f"{by_tiles:.0%} of {card.processors} processors busy, {by_rows:.0%} with rows"
    if by_tiles < GAIN * by_rows:
        return False, f"rows: tiles would keep {said}"
    return True, f"tiles: {said}"


def busy(rows: int, hidden: int, processors: int) -> float:
    """Share of the processors at work in a matmul with [rows, hidden] of output."""
    programs = math.ceil(rows / OUTPUT_TILE[0]) * math.ceil(hidden / OUTPUT_TILE[1])
    return programs / (math.ceil(programs / processors) * processors)


def tile_rows(rows: int, hidden: int, free: int) -> int:
    """Rows of a tile for `rows` rows in all: 4096 at most, fewer where little memory is free."""
    row_bytes = 4 * (TILE_WORDS + hidden)
    most = max(1, min(TILE_ROWS, int(free * SHARE_OF_FREE) // row_bytes))
    parts = max(1, math.ceil(rows / most))
    return max(1, math.ceil(rows / parts))
