"""Where a step's prompts come from: two shuffled decks, complete and underspecified."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Intent, Prompt
from icpo_lite.data.bare_answers import NONE_LACKS
from icpo_lite.data.mixture import WeightedOrder


class PromptPool:
    """Draws each step's prompts, every prompt of a data set once before any of it comes again.

    weights: of the data sets by name, where there are several; each kind of prompt is drawn from
    those that hold it. The order depends on the seed alone; `state` is the cursor that a
    checkpoint keeps.
    """

    def __init__(
        self, prompts: Sequence[Prompt], *, seed: int, weights: Mapping[str, float] | None = None
    ) -> None:
        self._decks: dict[Intent, dict[str, list[Prompt]]] = {intent: {} for intent in Intent}
        for prompt in prompts:
            self._decks[prompt.intent].setdefault(prompt.dataset, []).append(prompt)
        given = weights or {}
        self._turns = {
            intent: WeightedOrder({name: given.get(name, 1.0) for name in decks})
            for intent, decks in self._decks.items()
        }
        self._seed = seed
        self._drawn = dict.fromkeys(Intent, 0)
        self._carried = 0.0
        self._orders: dict[tuple[Intent, str, int], list[int]] = {}

    @property
    def state(self) -> dict[str, float]:
        """How many prompts of each kind have been drawn, and what rounding still owes."""
        counts: dict[str, float] = {str(intent): n for intent, n in self._drawn.items()}
        return {**counts, "carried": self._carried}

    def restore(self, state: Mapping[str, float]) -> None:
        self._drawn = {intent: int(state[str(intent)]) for intent in Intent}
        self._carried = state["carried"]

    def require(self, share_underspecified: float) -> None:
        """Raises DataError when a kind that the fraction asks for has no prompt."""
        shares = {
            Intent.UNDERSPECIFIED: share_underspecified,
            Intent.COMPLETE: 1 - share_underspecified,
        }
        for intent, fraction in shares.items():
            if fraction and not self._decks[intent]:
                if intent is Intent.UNDERSPECIFIED:
                    raise DataError(f"{NONE_LACKS}; or lower share_underspecified to 0")
                raise DataError(
                    "the corpus holds no complete prompt, but share_underspecified asks for one; "
                    "raise share_underspecified to 1 or name another corpus"
                )

    def count(self, intent: Intent) -> int:
        return sum(map(len, self._decks[intent].values()))

    def draw(self, count: int, share_underspecified: float) -> list[Prompt]:
        """`count` prompts, of which the given fraction is underspecified.

        A fraction that makes no whole number of prompts is met on average over the steps.
        Raises DataError when a kind that the fraction asks for has no prompt.
        """
        self.require(share_underspecified)
        # What rounding leaves over is carried on, so that 4.8 a step is not always 5.
        wanted = count * share_underspecified + self._carried
        underspecified = min(max(math.floor(wanted + 0.5), 0), count)
        self._carried = wanted - underspecified
        return self.draw_kinds(count - underspecified, underspecified)

    def draw_kinds(self, complete: int, underspecified: int) -> list[Prompt]:
        """So many prompts of each kind, complete ones first."""
        return [
            *self._next(Intent.COMPLETE, complete),
            *self._next(Intent.UNDERSPECIFIED, underspecified),
        ]

    def _next(self, intent: Intent, count: int) -> list[Prompt]:
        out = []
        for position in range(self._drawn[intent], self._drawn[intent] + count):
            name, place = self._turns[intent].at(position)
            deck = self._decks[intent][name]
            epoch, index = divmod(place, len(deck))
            out.append(deck[self._order(intent, name, epoch)[index]])
        self._drawn[intent] += count
        return out

    def _order(self, intent: Intent, name: str, epoch: int) -> list[int]:
        if (intent, name, epoch) not in self._orders:
            order = list(range(len(self._decks[intent][name])))
            of = f"{name}/" if name else ""
            random.Random(f"pool/{self._seed}/{of}{intent}/{epoch}").shuffle(order)
            self._orders[intent, name, epoch] = order
        return self._orders[intent, name, epoch]
