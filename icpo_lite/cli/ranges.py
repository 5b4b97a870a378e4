"""Kinds of numbers that options take, so that none outside its range reaches the work."""

from __future__ import annotations

import math
from typing import Any

import click

#: What the generators of torch and numpy take as a seed.
SEED = click.IntRange(0, (1 << 32) - 1)
COUNT = click.IntRange(min=0)


class Finite(click.FloatRange):
    """A range without NaN, which no bound keeps out, and without infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number
