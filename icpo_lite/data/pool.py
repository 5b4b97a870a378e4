"""Where a step's prompts come from: two shuffled decks, complete and underspecified."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from icpo_lite.errors import DataError
from icpo_lite.types import Intent, Prompt


class PromptPool:
    """Draws each step's prompts, every prompt once before any comes again.

    The order depends on the seed alone; `state` is the cursor that a checkpoint keeps.
    """

    def __init__(self, prompts: Sequence[Prompt], *, seed: int) -> None:
        self._decks: dict[Intent, list[Prompt]] = {intent: [] for intent in Intent}
        for prompt in prompts:
            self._decks[prompt.intent].append(prompt)
        self._seed = seed
        self._drawn = dict.fromkeys(Intent, 0)
        self._orders: dict[tuple[Intent, int], list[int]] = {}

    @property
    def state(self) -> dict[str, int]:
        """How many prompts of each kind have been drawn."""
        return {str(intent): count for intent, count in self._drawn.items()}

    def restore(self, state: Mapping[str, int]) -> None:
        self._drawn = {intent: state[str(intent)] for intent in Intent}

    def count(self, intent: Intent) -> int:
        return len(self._decks[intent])

    def draw(self, count: int, share_underspecified: float) -> list[Prompt]:
        """`count` prompts, of which the given share is underspecified.

        A share that makes no whole number of prompts is met on average over the steps.
        Raises DataError when a kind that the share asks for has no prompt.
        """
        total = sum(self._drawn.values()) + count
        # Rounded on the running total, so that 4.8 a step comes as 5, 5, 5, 5, 4 and not always 5.
        wanted = round(total * share_underspecified) - self._drawn[Intent.UNDERSPECIFIED]
        underspecified = min(max(wanted, 0), count)
        return [
            *self._next(Intent.COMPLETE, count - underspecified),
            *self._next(Intent.UNDERSPECIFIED, underspecified),
        ]

    def _next(self, intent: Intent, count: int) -> list[Prompt]:
        deck = self._decks[intent]
        if count and not deck:
            key = "lower" if intent is Intent.UNDERSPECIFIED else "raise"
            raise DataError(
                f"the corpus holds no {intent} prompt, but share_underspecified asks for one; "
                f"{key} share_underspecified or augment another corpus"
            )
        out = []
        for position in range(self._drawn[intent], self._drawn[intent] + count):
            epoch, index = divmod(position, len(deck))
            out.append(deck[self._order(intent, epoch)[index]])
        self._drawn[intent] += count
        return out

    def _order(self, intent: Intent, epoch: int) -> list[int]:
        if (intent, epoch) not in self._orders:
            order = list(range(len(self._decks[intent])))
            random.Random(f"pool/{self._seed}/{intent}/{epoch}").shuffle(order)
            self._orders[intent, epoch] = order
        return self._orders[intent, epoch]
