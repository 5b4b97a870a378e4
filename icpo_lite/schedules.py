"""What changes over a run as a function of the step."""

from __future__ import annotations

import math


def lr_factor(
    step: int, max_steps: int, kind: str, warmup_steps: int = 0, min_ratio: float = 0.0
) -> float:
    """Share of the peak learning rate at `step` (0-based): linear warm-up, then the schedule."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    falling = {
        "linear": 1 - done,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "constant": 1.0,
    }[kind]
    return min_ratio + (1 - min_ratio) * falling
