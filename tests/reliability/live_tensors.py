"""Bytes of live tensors, by following every storage that an operation returns to its end.

What autograd saves for backward is counted, since it keeps its storage alive; scratch memory
inside one kernel is not, since no tensor holds it.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """`now` bytes at this moment, `peaks` the highest of each phase.

    explain: remember what was alive at the highest peak and where it was made (slow).
    """

    def __init__(self, known: Iterable[torch.Tensor] = (), *, explain: bool = False) -> None:
        super().__init__()
        self.now = 0
        self.peaks: dict[str, int] = {}
        self.alive: dict[int, tuple[int, str]] = {}
        self.at_peak: dict[str, list[tuple[int, str]]] = {}
        self._phase, self._explain = "start", explain
        self._followed: dict[int, weakref.ref[Any]] = {}
        for tensor in known:
            self.follow(tensor, "known")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts under `name`, and under the name before it again afterwards."""
        before, self._phase = self._phase, name
        self._note()
        try:
            yield
        finally:
            self._phase = before

    def follow(self, tensor: torch.Tensor, label: str = "") -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._followed or storage.nbytes() == 0:
            return
        size = storage.nbytes()
        self.now += size
        self.alive[key] = (size, label)
        self._followed[key] = weakref.ref(storage, lambda _: self._ended(key))

    def _ended(self, key: int) -> None:
        del self._followed[key]
        self.now -= self.alive.pop(key)[0]

    def _note(self) -> None:
        if self.now > self.peaks.get(self._phase, 0):
            self.peaks[self._phase] = self.now
            if self._explain:
                self.at_peak[self._phase] = list(self.alive.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                self.follow(leaf, "met as argument")
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.follow(leaf, self._label(func, leaf) if self._explain else "")
        self._note()
        return out

    def _label(self, func: Any, tensor: torch.Tensor) -> str:
        frame, places = sys._getframe(2), []
        while frame is not None and len(places) < 3:
            file = frame.f_code.co_filename
            if "torch/" not in file:
                places.append(f"{file.rsplit('/', 1)[-1]}:{frame.f_lineno}")
            frame = frame.f_back  # type: ignore[assignment]
        shape = list(tensor.shape)
        return f"{func} {str(tensor.dtype)[6:]} {shape} {' < '.join(places)}"


def tensors_of(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Weights, buffers, and what 4-bit weights keep beside themselves."""
    for tensor in [*module.parameters(), *module.buffers()]:
        yield tensor
        state = getattr(tensor, "quant_state", None)
        while state is not None:
            yield from (t for t in (state.absmax, state.code, state.offset) if t is not None)
            state = getattr(state, "state2", None)
