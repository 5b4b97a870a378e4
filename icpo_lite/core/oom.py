"""Out of memory, and on: everything back as it was, less at once, the same result."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from icpo_lite.core.errors import OutOfMemory

Result = TypeVar("Result")
Say = Callable[[str], None]

#: What libraries say in a RuntimeError that is not torch.OutOfMemoryError. cuBLAS reports a
#: workspace that it could not get as "not initialized".
_SAID = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory"),
    *("cublas_status_alloc_failed", "cublas_status_not_initialized when calling `cublascreate"),
    *("cudnn_status_alloc_failed", "cusolver_status_alloc_failed", "cusparse_status_alloc_failed"),
)
#: Rows of logits that the log-prob op takes once a single response does not fit; then it is over.
_CHUNKS = (None, 64, 16, 4)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had no memory left, in any library's words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(s in str(error).lower() for s in _SAID)


@dataclass(frozen=True)
class Size:
    """How much is computed at once. chunk_rows: of the log-prob op; None leaves it alone."""

    rows: int
    chunk_rows: int | None = None


def quiet(line: str) -> None:
    """Says nothing."""


@dataclass
class RowLimit:
    """How much fits at once: found by running out of memory, then kept.

    what: names the work in what is said, such as `sampling`. key: recipe key that sets its rows,
    "" for none. chunks: whether smaller chunks of logits may help once a single row does not fit.
    last_resort: recipe override that makes a single row smaller. times: how often memory ran out.
    """

    what: str = "sampling"
    key: str = ""
    chunks: bool = False
    last_resort: str = "max_completion_length to a smaller number"
    say: Say = quiet
    found: Size | None = None
    times: int = 0
    wanted: int = field(default=0, repr=False)

    def run(
        self,
        work: Callable[[Size], Result],
        most: int,
        undo: Callable[[], None] = lambda: None,
    ) -> Result:
        """`work` at `most` rows or what was found to fit, again with less where memory runs out.

        undo: takes back what a half-done `work` has changed. Raises OutOfMemory, with the
        override that would help, when the least there is does not fit.
        """
        self.wanted = most
        while True:
            size = self.found or Size(most)
            size = Size(min(size.rows, most), size.chunk_rows)
            try:
                return work(size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                why = str(error).partition("\n")[0].partition(". ")[0] or "out of memory"
            # Outside the except clause, whose traceback would keep what was computed alive.
            undo()
            empty_cache()
            self.times += 1
            self.found = self._smaller(size, why)

    def _smaller(self, size: Size, why: str) -> Size:
        if size.rows > 1:
            smaller = Size(size.rows // 2, size.chunk_rows)
        elif self.chunks and size.chunk_rows != _CHUNKS[-1]:
            smaller = Size(1, _CHUNKS[_CHUNKS.index(size.chunk_rows) + 1])
        else:
            raise OutOfMemory(
                f"{self.what}: expected one response at a time to fit into memory, found "
                f"{why!r}; set {self.last_resort}"
            )
        override = f"; {self.key}={smaller.rows} starts with it" if self.key else ""
        logits = f" and {smaller.chunk_rows} rows of logits" if smaller.chunk_rows else ""
        self.say(
            f"out of memory in {self.what}: done again with {smaller.rows} instead of {size.rows} "
            f"responses{logits} at once, which changes no result{override}"
        )
        return smaller

    def state(self) -> list[int | None] | None:
        return [self.found.rows, self.found.chunk_rows] if self.found else None

    def restore(self, state: Sequence[int | None] | None) -> None:
        self.found = Size(state[0] or 1, state[1]) if state else None


def empty_cache() -> None:
    """Gives what nobody uses any more back to the GPU, so that others find room.

    A model whose forward was wrapped (`half`, unsloth) refers to itself: only the collector of
    cycles frees it.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class Snapshot:
    """Weights, optimizer state and torch's random numbers, kept in the machine's memory.

    An optimizer that runs out of memory half-way has moved some of its averages already, and the
    next attempt must not move them twice.
    """

    def __init__(
        self, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer, *, whole: bool = True
    ) -> None:
        """whole: False keeps random numbers alone, where no weight can have been changed."""
        if not whole:
            parameters = []
        self._whole = whole
        self._optimizer = optimizer
        self._weights = [(p, _kept(p)) for p in parameters]
        self._state = {
            p: {name: _kept(value) for name, value in entries.items()}
            for p, entries in (optimizer.state.items() if whole else ())
        }
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._random = _random_state()

    @torch.no_grad()
    def restore(self) -> None:
        """Everything as it was, bit for bit; gradients are gone."""
        self._optimizer.zero_grad(set_to_none=True)
        for parameter, value in self._weights:
            parameter.copy_(value)
        for parameter in list(self._optimizer.state) if self._whole else ():
            if parameter in self._state:
                _put_back(self._optimizer.state[parameter], self._state[parameter])
            else:
                del self._optimizer.state[parameter]
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
        _set_random_state(self._random)


def _kept(value: Any) -> Any:
    """A copy in the machine's memory; bitsandbytes keeps tensors in dictionaries of its own."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    return {k: _kept(v) for k, v in value.items()} if isinstance(value, dict) else value


def _put_back(entries: dict[str, Any], saved: Mapping[str, Any]) -> None:
    for name, value in saved.items():
        if isinstance(value, Tensor):
            entries[name].copy_(value)
        elif isinstance(value, dict):
            _put_back(entries[name], value)
        else:
            entries[name] = value


def _random_state() -> tuple[Tensor, list[Tensor]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda


def _set_random_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


@contextlib.contextmanager
def same_random_numbers() -> Iterator[None]:
    """What is drawn inside leaves torch's random numbers outside as they would be without it."""
    before = _random_state()
    try:
        yield
    finally:
        _set_random_state(before)


# ------------------------------------------------------------------------------------ numbers


def first_not_finite(named: Sequence[tuple[str, Tensor | None]]) -> str:
    """Names the tensor in which NaN or infinity arose, "" where all are finite.

    named: in the order of the forward pass, where the gradient arrives last: of gradients, the
    last bad one is the source of all before it.
    """
    bad = [name for name, value in named if value is not None and not bool(value.isfinite().all())]
    if not bad:
        return ""
    others = f", then {len(bad) - 1} before it" if len(bad) > 1 else ""
    return f"{bad[-1]} ({len(bad)} of {len(named)} tensors{others})"
