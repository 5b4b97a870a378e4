"""Keys and values in buffers that grow by blocks. Imports transformers."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

#: Tokens by which key and value buffers grow.
BLOCK = 64


class BufferedLayer(DynamicLayer):
    """Keys and values in buffers with room for the next tokens.

    transformers' own layer copies all of them for every token. `keys` and `values` stay what they
    are there, now views of the filled part; whatever replaces them gets a new buffer at the next
    token.
    """

    _buffers: list[Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        filled, new = self.keys.shape[-2], key_states.shape[-2]
        if self._buffers is None or self._room() < filled + new:
            self._buffers = None
            self.keys = _grown(self.keys, new)  # what they were in goes before the values grow
            self.values = _grown(self.values, new)
            self._buffers = [self.keys, self.values]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., filled : filled + new, :] = states
        self.keys, self.values = (buffer[..., : filled + new, :] for buffer in self._buffers)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Rows by number, in buffers of the same room; the old ones go as the new ones come."""
        if not self._room():
            self._buffers = None
            super().reorder_cache(beam_idx)
            return
        filled, buffers = self.keys.shape[-2], self._buffers or []
        del self.keys, self.values
        for i in range(len(buffers)):
            buffers[i] = buffers[i].index_select(0, beam_idx)
        self.keys, self.values = (buffer[..., :filled, :] for buffer in buffers)

    def batch_select_indices(self, indices: Tensor) -> None:
        self.reorder_cache(indices)

    def _room(self) -> int:
        """Tokens that the buffers hold; 0 where `keys` is no view of them any more."""
        if self._buffers is None or self._buffers[0].data_ptr() != self.keys.data_ptr():
            return 0
        return self._buffers[0].shape[-2]


def _grown(filled: Tensor, new: int) -> Tensor:
    """A copy with room for `new` tokens more, in whole blocks."""
    *front, length, width = filled.shape
    room = -(-(length + new) // BLOCK) * BLOCK
    buffer = filled.new_empty(*front, room, width)
    buffer[..., :length, :] = filled
    return buffer


def take_rows(cache: DynamicCache, rows: Tensor) -> None:
    """Keep rows of a cache by number, in that order and as often as they are named.

    Layer by layer, whatever they hold: keys and values, a recurrent state, or both (the methods
    of transformers that repeat and select know attention alone).
    """
    for layer in cache.layers:
        layer.reorder_cache(rows)


def buffered_cache(config: Any) -> DynamicCache:
    """A cache of this model's layers; those that see all tokens have buffers."""
    cache = DynamicCache(config=config)
    cache.layers = [
        BufferedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
