"""A recipe's keys as the objects that do the work; the one place that reads most of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
