"""While a 16-bit model samples: logits as training computes them, never rounded to 16 bits.

The model's own lm_head rounds each logit to its dtype, before the log-sum-exp: at a logit of 20 a
bfloat16 step is an eighth of a nat. Training multiplies the same hidden states with the same matrix
and keeps the sums in fp32.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from icpo_lite.kernels.chunks import free_bytes
from icpo_lite.kernels.logits import project

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Share of the free memory that a wide copy may take.
_ROOM = 0.25
#: Who is inside, by lm_head: an evaluation samples in several threads.
_INSIDE: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
_LOCK = threading.Lock()


@contextlib.contextmanager
def wide_logits(policy: Policy) -> Iterator[None]:
    """Inside, a plain 16-bit lm_head gives fp32 logits to whoever calls it (unsloth does not)."""
    head = policy.causal_lm.get_output_embeddings()
    if not _is_plain_16_bit(head):
        yield
        return
    try:
        with _LOCK:
            _INSIDE[head] = _INSIDE.get(head, 0) + 1
            if _INSIDE[head] == 1:
                head.__dict__["forward"] = partial(_project, _wide(head.weight), head.bias)
        yield
    finally:
        with _LOCK:
            _INSIDE[head] -= 1
            if not _INSIDE[head]:
                del head.__dict__["forward"]


def _wide(weight: Tensor) -> Tensor:
    """The matrix that is multiplied with: on a CPU an fp32 copy, where memory has room for it.

    A CPU multiplies into fp32 only from fp32. Widened anew for each token, half a billion weights
    took 2.6 s a token to sample 48 rows, 2 s of them here.
    """
    weight = weight.detach()
    copy = weight.numel() * torch.float32.itemsize
    if weight.is_cuda or copy > _ROOM * free_bytes(weight.device):
        return weight
    return weight.float()


def _is_plain_16_bit(head: Any) -> bool:
    weight = getattr(head, "weight", None)
    return (
        isinstance(head, nn.Linear)
        and isinstance(weight, Tensor)
        and weight.dtype in (torch.bfloat16, torch.float16)
        # Somebody else's forward, such as accelerate's, moves weights about: it is left alone.
        and ("forward" not in head.__dict__ or head in _INSIDE)
    )


def _project(weight: Tensor, bias: Tensor | None, hidden: Tensor) -> Tensor:
    """lm_head of hidden states [..., D] as fp32 logits [..., V]."""
    rows = hidden.reshape(-1, hidden.shape[-1]).to(weight.dtype)
    out = torch.empty(len(rows), len(weight), dtype=torch.float32, device=hidden.device)
    project(rows, weight, out)
    if bias is not None:
        out += bias
    return out.view(*hidden.shape[:-1], len(weight))
