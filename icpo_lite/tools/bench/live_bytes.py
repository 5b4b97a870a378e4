"""How many bytes of tensors live at once while a computation runs."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class ExtraBytes:
    """Peak bytes beyond what was there before: the allocator's on a GPU, storages' on a CPU."""

    def __init__(self, *known: torch.Tensor) -> None:
        self.cuda = known[0].is_cuda
        self.bytes = 0
        self.mode = nullcontext() if self.cuda else LiveBytes(*known)
        self.before = 0

    def __enter__(self) -> ExtraBytes:
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        self.mode.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self.mode.__exit__(*details)
        if isinstance(self.mode, LiveBytes):
            self.bytes = self.mode.peak
        else:
            torch.cuda.synchronize()
            self.bytes = torch.cuda.max_memory_allocated() - self.before


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that operations make and that live, and their peak.

    `known` tensors are not counted. Scratch memory inside one operation is not seen.
    """

    def __init__(self, *known: torch.Tensor) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.live: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self.known or address in self.live or not size:
            return
        self.live[address] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, address)

    def _drop(self, address: int) -> None:
        self.now -= self.live.pop(address, 0)
