"""Keys and values of replies that have ended, for the prompts that begin with them.

A conversation's next prompt is the one before it, its reply, and what the user said: only the last
part is computed. It belongs to weights that do not change; whoever changes them begins anew.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

Ids = tuple[int, ...]


@dataclass
class PrefixMemory:
    """Computed texts by their prompt. Threads may share it.

    most_bytes: beyond this the oldest prompts' texts are forgotten.
    """

    most_bytes: int
    _kept: OrderedDict[Ids, dict[Ids, Tensor]] = field(default_factory=OrderedDict, repr=False)
    _lengths: Counter[int] = field(default_factory=Counter, repr=False)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def has(self, prompt: Ids, reply: Ids) -> bool:
        with self._lock:
            return reply in self._kept.get(prompt, ())

    def add(self, prompt: Ids, reply: Ids, states: Tensor) -> None:
        """states [layers · 2, H, T, d]: keys of all layers, then values, of prompt and reply."""
        with self._lock:
            texts = self._kept.setdefault(prompt, {})
            if not texts:
                self._lengths[len(prompt)] += 1
            if reply not in texts:
                texts[reply] = states
                self._bytes += states.nbytes
            while self._bytes > self.most_bytes:
                forgotten, texts = self._kept.popitem(last=False)
                self._bytes -= sum(states.nbytes for states in texts.values())
                self._lengths[len(forgotten)] -= 1

    def longest(self, text: Sequence[int]) -> tuple[int, Tensor | None]:
        """(tokens, states) of what `text` begins with, its last token left out; (0, None) for
        nothing known."""
        text, best, found = tuple(text), 0, None
        with self._lock:
            for length in [n for n, count in self._lengths.items() if count and n < len(text)]:
                for reply, states in self._kept.get(text[:length], {}).items():
                    alike = length + _common(reply, text[length:-1])
                    if alike > best:
                        best, found = alike, states
        return best, found


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
