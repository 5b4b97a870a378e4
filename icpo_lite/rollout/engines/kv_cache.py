"""Keys and values in buffers that grow by blocks, rows that come and go. Imports transformers.

All rows of a cache end in its last column; what stands before a row's first token is masked out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

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
        rows = len(key_states)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, filled : filled + new] = states
        self.keys, self.values = (buffer[:rows, :, : filled + new] for buffer in self._buffers)
        return self.keys, self.values

    def begin(self, rows: int, columns: int, *like: Tensor, more: int = 1) -> None:
        """Rows and columns to be filled, of keys and values like these [B, H, W, d].

        There is room for `more` columns.
        """
        self.lazy_initialization(*like)
        room = -(-(columns + more) // BLOCK) * BLOCK
        self._buffers = [x.new_empty(rows, x.shape[1], room, x.shape[-1]) for x in like]
        self.keys, self.values = (buffer[..., :columns, :] for buffer in self._buffers)

    def reorder_cache(self, beam_idx: Tensor, spare: int = 0) -> None:
        """Rows by number, in buffers of the same room; the old ones go as the new ones come.

        spare: rows that can be added later without another copy (`copy_rows`).
        """
        if not self._room():
            self._buffers = None
            super().reorder_cache(beam_idx)
            return
        filled, buffers, rows = self.keys.shape[-2], self._buffers or [], len(beam_idx)
        del self.keys, self.values
        for i, buffer in enumerate(buffers):
            buffers[i] = buffer.new_empty(rows + spare, *buffer.shape[1:])
            there, kept = (x[..., :filled, :] for x in (buffer, buffers[i][:rows]))
            torch.index_select(there, 0, beam_idx, out=kept)
        self.keys, self.values = (buffer[:rows, :, :filled] for buffer in buffers)

    def spare_rows(self) -> int:
        """How many rows can be added in the buffers as they are."""
        return len(self._buffers[0]) - len(self.keys) if self._buffers and self._room() else 0

    def copy_rows(self, source: Tensor, target: Tensor, rows: int) -> None:
        """Rows `source` at `target` as well, of `rows` that there are then."""
        filled = self.keys.shape[-2]
        self.keys, self.values = (buffer[:rows, :, :filled] for buffer in self._buffers or [])
        for held in (self.keys, self.values):
            held.index_copy_(0, target, held.index_select(0, source))

    def batch_select_indices(self, indices: Tensor) -> None:
        self.reorder_cache(indices)

    def _room(self) -> int:
        """Tokens that the buffers hold; 0 where `keys` is no view of them any more."""
        if self._buffers is None or self._buffers[0].data_ptr() != self.keys.data_ptr():
            return 0
        return self._buffers[0].shape[-2]


class FixedLayer(DynamicLayer):
    """Keys and values in whole buffers that never move; the next token goes where `column` says.

    What lies beyond is for the mask to hide: attention is given the buffers as they are.
    """

    def __init__(self, keys: Tensor, values: Tensor, column: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self._column = keys, values, column

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        self.keys.index_copy_(-2, self._column, key_states)
        self.values.index_copy_(-2, self._column, value_states)
        return self.keys, self.values


def fixed_cache(cache: DynamicCache, rows: Tensor, columns: int, column: Tensor) -> DynamicCache:
    """These rows of a cache in buffers of so many columns; the old ones go as the new ones come."""
    for index, layer in enumerate(cache.layers):
        room = columns - layer.keys.shape[-2]
        keys, values = (pad(x.index_select(0, rows), (0, 0, 0, room)) for x in _states_in(layer))
        cache.layers[index] = FixedLayer(keys, values, column)
    return cache


def _states_in(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.keys, layer.values


def _grown(filled: Tensor, new: int) -> Tensor:
    """A copy with room for `new` tokens more, in whole blocks."""
    *front, length, width = filled.shape
    room = -(-(length + new) // BLOCK) * BLOCK
    buffer = filled.new_empty(*front, room, width)
    buffer[..., :length, :] = filled
    return buffer


def empty_rows(like: DynamicCache, rows: int, columns: int) -> DynamicCache:
    """A cache of rows and columns to be filled, of buffers that `only_buffers` finds in `like`."""
    cache = copy.copy(like)
    cache.layers = [BufferedLayer() for _ in like.layers]
    for layer, other in zip(cache.layers, like.layers, strict=True):
        layer.begin(rows, columns, other.keys, other.values)
    return cache


def only_buffers(cache: DynamicCache) -> bool:
    """Whether all layers see all tokens: then rows of several caches can be put side by side."""
    return all(type(layer) is BufferedLayer for layer in cache.layers)


def take_rows(cache: DynamicCache, rows: Tensor, spare: int = 0) -> None:
    """Keep rows of a cache by number, in that order and as often as they are named.

    Layer by layer, whatever they hold: keys and values, a recurrent state, or both (the methods
    of transformers that repeat and select know attention alone). spare: room for so many rows.
    """
    for layer in cache.layers:
        if spare and type(layer) is BufferedLayer:
            layer.reorder_cache(rows, spare)
        else:
            layer.reorder_cache(rows)


def spare_rows(cache: DynamicCache) -> int:
    """How many rows `copy_rows` can add."""
    return min(layer.spare_rows() for layer in cache.layers) if only_buffers(cache) else 0


def copy_rows(cache: DynamicCache, source: Tensor, target: Tensor, rows: int) -> None:
    """Rows `source` at `target` as well; `rows` in all, no more than there is room for."""
    for layer in cache.layers:
        layer.copy_rows(source, target, rows)


def chosen_rows(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """A cache of copies of these rows; `cache` stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in chosen.layers:
        for name in _STATES:
            if isinstance(held := getattr(layer, name, None), dict):
                setattr(layer, name, dict(held))
        if isinstance(layer, BufferedLayer):
            layer._buffers = None
    take_rows(chosen, rows)
    return chosen


#: What a recurrent layer holds of a row, by the names of transformers.
_STATES = ("conv_states", "recurrent_states")


def takes_new_rows(cache: DynamicCache) -> bool:
    """Whether rows of this cache can be replaced one by one (`put_rows`)."""
    return all(_attends(layer) or _recurs(layer) for layer in cache.layers)


def _attends(layer: Any) -> bool:
    return type(layer) in (BufferedLayer, DynamicSlidingWindowLayer)


def _recurs(layer: Any) -> bool:
    return all(isinstance(getattr(layer, name, None), dict) for name in _STATES) and not isinstance(
        layer, DynamicLayer
    )


def put_rows(cache: DynamicCache, rows: Tensor, new: DynamicCache, source: Tensor) -> None:
    """Rows of `new`, by number, take the places `rows` of a cache that is no narrower."""
    for layer, other in zip(cache.layers, new.layers, strict=True):
        if _recurs(layer):
            for held, states in _states(layer, other):
                held.index_copy_(0, rows, states.index_select(0, source))
        elif layer.is_initialized:
            count = other.keys.shape[-2]
            for held, states in ((layer.keys, other.keys), (layer.values, other.values)):
                end = held.narrow(-2, held.shape[-2] - count, count)
                end.index_copy_(0, rows, states.index_select(0, source))


def put_whole_rows(cache: DynamicCache, rows: Tensor, new: DynamicCache) -> None:
    """All rows of `new` take the places `rows`, which hold nothing else; both `only_buffers`."""
    for layer, other in zip(cache.layers, new.layers, strict=True):
        for held, states in ((layer.keys, other.keys), (layer.values, other.values)):
            room = held.shape[-2] - states.shape[-2]
            held[..., :room, :].index_fill_(0, rows, 0.0)
            held[..., room:, :].index_copy_(0, rows, states)


def _states(layer: Any, other: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for name in _STATES:
        held, states = getattr(layer, name), getattr(other, name)
        yield from ((held[i], states[i]) for i in held if held[i] is not None)


def widen(cache: DynamicCache, columns: int) -> None:
    """So many empty columns before the first."""
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer) and layer.is_initialized:
            room = columns
            if isinstance(layer, DynamicSlidingWindowLayer):
                layer.cumulative_length += columns
                most = min(layer.cumulative_length, layer.sliding_window - 1)
                room = most - layer.keys.shape[-2]
            layer.keys, layer.values = (pad(x, (0, 0, room, 0)) for x in (layer.keys, layer.values))


def drop_columns(cache: DynamicCache, columns: int) -> None:
    """Without the first columns, which no row needs; the memory is free after the next token."""
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer) and layer.is_initialized:
            gone = columns
            if isinstance(layer, DynamicSlidingWindowLayer):
                layer.cumulative_length -= columns
                gone = max(0, layer.keys.shape[-2] - layer.cumulative_length)
            layer.keys, layer.values = (x[..., gone:, :] for x in (layer.keys, layer.values))


def states_of(cache: DynamicCache, rows: Tensor, columns: Tensor) -> list[Tensor] | None:
    """Keys, then values, of some rows, each [layers · 2, H, T, d]; None where layers are not alike.

    rows [n]: their numbers. columns [n, W]: which T of its columns each one is asked for.
    """
    if not only_buffers(cache):
        return None
    held = _keys_and_values(cache)
    if len({(x.shape[1], x.shape[3]) for x in held}) > 1:
        return None
    place, column = columns.nonzero(as_tuple=True)
    row = rows[place]
    # One read of each layer for all rows: row by row it would be as many calls as rows.
    found = torch.stack([x.transpose(1, 2)[row, column] for x in held])
    return [states.transpose(1, 2) for states in found.split(columns.sum(-1).tolist(), dim=1)]


#: Parts in which known states are put in their places, so that few are held twice.
_PARTS = 8


def known_columns(
    cache: DynamicCache, known: Sequence[tuple[int, Tensor | None]], new: Tensor
) -> Tensor:
    """Fills an empty cache with what is known of each row's beginning; its mask [U, W].

    known: tokens, and the states (`states_of`) that begin with them. new: the mask of the tokens
    that come next, for which room is left.
    """
    width = max(count for count, _ in known)
    mask = new.new_zeros(len(known), width)
    some = [(row, count, s) for row, (count, s) in enumerate(known) if s is not None]
    if not some:
        return mask
    sample = some[0][2]
    for index, layer in enumerate(cache.layers):
        like = (sample[index, None], sample[len(cache.layers) + index, None])
        layer.begin(len(known), width, *like, more=new.shape[1])
    held = _keys_and_values(cache)
    for x in held:
        x.zero_()
    size = -(-len(some) // _PARTS)
    for first in range(0, len(some), size):
        rows, counts, states = zip(*some[first : first + size], strict=True)
        shown = mask.new_zeros(len(rows), width, dtype=torch.bool)
        for number, count in enumerate(counts):
            shown[number, width - count :] = True
        place, column = shown.nonzero(as_tuple=True)
        row = torch.tensor(rows, device=mask.device)[place]
        mask[row, column] = 1
        each = [s.transpose(1, 2)[:, :count] for s, count in zip(states, counts, strict=True)]
        for x, values in zip(held, torch.cat(each, dim=1), strict=True):
            x.transpose(1, 2)[row, column] = values
    return mask


def _keys_and_values(cache: DynamicCache) -> list[Tensor]:
    """Of all layers the keys, then the values."""
    return [layer.keys for layer in cache.layers] + [layer.values for layer in cache.layers]


def buffered_cache(config: Any) -> DynamicCache:
    """A cache of this model's layers; those that see all tokens have buffers."""
    cache = DynamicCache(config=config)
    cache.layers = [
        BufferedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
