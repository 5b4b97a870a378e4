"""Keys and values of replies that have ended, for the prompts that begin with them.

A conversation's next prompt is the one before it, its reply, and what the user said: only the last
part is computed. It belongs to weights that do not change; whoever changes them begins anew.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

Ids = tuple[int, ...]

#: Powers of `_BASE`, as many as the longest text had tokens.
_POWERS = np.ones(0, dtype=np.uint64)
#: Odd, so that no power of it vanishes modulo 2^64.
_BASE = 0x9E3779B97F4A7C15


@dataclass
class PrefixMemory:
    """Computed texts by their prompt. Threads may share it.

    most_bytes: beyond this the oldest prompts' texts are forgotten. passing: prompts whose replies
    nobody goes on from.
    """

    most_bytes: int
    passing: frozenset[Ids] = frozenset()
    _kept: OrderedDict[int, _Prompt] = field(default_factory=OrderedDict, repr=False)
    _lengths: Counter[int] = field(default_factory=Counter, repr=False)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def wants(self, prompt: Ids, reply: Ids) -> bool:
        """Whether the states of this reply would be kept, and are not yet."""
        if prompt in self.passing:
            return False
        named = beginnings(prompt)[-1]
        with self._lock:
            found = self._kept.get(named)
            return found is None or found.ids != prompt or reply not in found.texts

    def add(self, prompt: Ids, reply: Ids, states: Tensor) -> None:
        """states [layers · 2, H, T, d]: keys of all layers, then values, of prompt and reply."""
        named = beginnings(prompt)[-1]
        with self._lock:
            found = self._kept.setdefault(named, _Prompt(prompt))
            if found.ids != prompt:
                return  # two prompts of one name: the second one is computed each time
            if not found.texts:
                self._lengths[len(prompt)] += 1
            if reply not in found.texts:
                found.texts[reply] = states
                self._bytes += states.nbytes
            while self._bytes > self.most_bytes:
                self._let_go(self._kept.popitem(last=False)[1])

    @property
    def held_bytes(self) -> int:
        """Bytes of all states that are kept."""
        return self._bytes

    def names(self) -> list[int]:
        """The prompts that are kept now, for `forget`."""
        with self._lock:
            return list(self._kept)

    def forget(self, names: Sequence[int]) -> None:
        """Let go of these prompts' texts: all that went on from them has states of its own."""
        with self._lock:
            for name in names:
                if name in self._kept:
                    self._let_go(self._kept.pop(name))

    def _let_go(self, forgotten: _Prompt) -> None:
        self._bytes -= sum(states.nbytes for states in forgotten.texts.values())
        self._lengths[len(forgotten.ids)] -= 1

    def longest(self, text: Sequence[int]) -> tuple[int, Tensor | None]:
        """(tokens, states) of what `text` begins with, its last token left out; (0, None) for
        nothing known."""
        text, best, found = tuple(text), 0, None
        names = beginnings(text)
        with self._lock:
            for length in [n for n, count in self._lengths.items() if count and n < len(text)]:
                kept = self._kept.get(names[length - 1])
                if kept is None or kept.ids != text[:length]:
                    continue
                for reply, states in kept.texts.items():
                    alike = length + _common(reply, text[length:-1])
                    if alike > best:
                        best, found = alike, states
        return best, found


@dataclass
class _Prompt:
    """A prompt, and the states of what was said after it."""

    ids: Ids
    texts: dict[Ids, Tensor] = field(default_factory=dict)


def beginnings(ids: Sequence[int]) -> list[int]:
    """A number for each beginning of these ids, of one token to all: sums of ids times powers."""
    global _POWERS
    powers = _POWERS  # another thread may put a shorter one in its place
    if len(ids) > len(powers):
        powers = np.multiply.accumulate(np.full(2 * len(ids), _BASE, dtype=np.uint64))
        _POWERS = powers
    numbers = np.asarray(ids, dtype=np.uint64) + np.uint64(1)
    names: list[int] = (numbers * powers[: len(ids)]).cumsum(dtype=np.uint64).tolist()
    return names


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
