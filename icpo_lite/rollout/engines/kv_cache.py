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

    _buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        filled, new = self.keys.shape[-2], key_states.shape[-2]
        if self._buffers is None or self._room() < filled + new:
            self._buffers = (_grown(self.keys, new), _grown(self.values, new))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., filled : filled + new, :] = states
        self.keys, self.values = (buffer[..., : filled + new, :] for buffer in self._buffers)
        return self.keys, self.values

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


def buffered_cache(config: Any) -> DynamicCache:
    """A cache of this model's layers; those that see all tokens have buffers."""
    cache = DynamicCache(config=config)
    cache.layers = [
        BufferedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
