"""Ways to compute log-probs behind one signature: this package's own and its installed peers.

A peer is imported when it is loaded, so that a peer that is missing costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from icpo_lite.core.errors import UsageError
from icpo_lite.policy.kernels.logprob import token_logprobs

#: log p [N] of (hidden [N, D], weight [V, D], targets [N], shape), differentiable for hidden.
LogProbs = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, "Shape"], torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """An output layer: vocabulary V, hidden size D, and its softcap."""

    name: str
    vocabulary: int
    hidden: int
    softcap: float | None = None


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("qwen2.5-1.5b", 151_936, 1536),
        Shape("qwen2.5-7b", 152_064, 3584),
        Shape("llama-3.1-8b", 128_256, 4096),
        Shape("gemma-2-2b", 256_000, 2304, softcap=30.0),
        Shape("cpu", 32_000, 1024),
        Shape("small", 8_192, 256),
    )
}


@dataclass(frozen=True)
class Method:
    """One way to compute the log-probs; `load` imports what it needs and returns it."""

    name: str
    load: Callable[[], LogProbs]
    package: str | None = None  # whose version is reported; None: ours
    cuda_only: bool = False
    entropy: bool = False  # whether it also computes the entropy, as ours does


def _ours(impl: Any, chunk_rows: int | Literal["auto"] = "auto") -> Callable[[], LogProbs]:
    def load() -> LogProbs:
        def logprobs(
            hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shape: Shape
        ) -> torch.Tensor:
            return token_logprobs(
                hidden,
                weight,
                targets,
                softcap=shape.softcap,
                impl=impl,
                chunk_rows=chunk_rows,
            )[0]

        return logprobs

    return load


def _liger_cross_entropy() -> LogProbs:
    loss = importlib.import_module("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss

    def logprobs(
        hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shape: Shape
    ) -> torch.Tensor:
        return -loss(reduction="none", softcap=shape.softcap)(weight, hidden, targets)

    return logprobs


def _liger_scaled() -> LogProbs:
    function = importlib.import_module(
        "liger_kernel.ops"
    ).LigerFusedLinearScaledCrossEntropyFunction

    def logprobs(
        hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shape: Shape
    ) -> torch.Tensor:
        if shape.softcap is not None:
            raise NotImplementedError("it has no softcap")
        nll, _entropy = function.apply(hidden, weight, targets, 1.0, -100, 1, True)
        return -nll

    return logprobs


def _cut_cross_entropy(filter_eps: str | None) -> Callable[[], LogProbs]:
    def load() -> LogProbs:
        linear_cross_entropy = importlib.import_module("cut_cross_entropy").linear_cross_entropy

        def logprobs(
            hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shape: Shape
        ) -> torch.Tensor:
            loss: torch.Tensor = linear_cross_entropy(
                hidden,
                weight,
                targets,
                softcap=shape.softcap,
                reduction="none",
                filter_eps=filter_eps,
            )
            return -loss

        return logprobs

    return load


def _liger_grpo() -> LogProbs:
    """The log-probs that Liger's GRPO loss is made of; its gradient reaches hidden through them."""
    base = importlib.import_module(
        "liger_kernel.chunked_loss.fused_linear_ppo"
    ).LigerFusedLinearPPOBase

    def logprobs(
        hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shape: Shape
    ) -> torch.Tensor:
        if shape.softcap is not None:
            raise NotImplementedError("it has no softcap")
        logp: torch.Tensor = base.chunk_forward(hidden[None], weight, targets[None])
        return logp[0]

    return logprobs


def _torch_linear_cross_entropy() -> LogProbs:
    functional = importlib.import_module("torch.nn.functional")
    if not hasattr(functional, "linear_cross_entropy"):
        raise NotImplementedError(f"torch {torch.__version__} has no linear_cross_entropy")

    def logprobs(
        hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shape: Shape
    ) -> torch.Tensor:
        if shape.softcap is not None:
            raise NotImplementedError("it has no softcap")
        options = importlib.import_module("torch.nn").LinearCrossEntropyOptions()
        loss: torch.Tensor = functional.linear_cross_entropy(
            hidden, weight, targets, reduction="none", options=options
        )
        return -loss

    return logprobs


def _by_logsumexp() -> LogProbs:
    """Plain torch as one would write it: the target's logit less the logsumexp, no entropy."""

    def logprobs(
        hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shape: Shape
    ) -> torch.Tensor:
        logits = (hidden @ weight.t()).float()
        if shape.softcap is not None:
            logits = shape.softcap * torch.tanh(logits / shape.softcap)
        return logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(1)

    return logprobs


def _trl_chunked() -> LogProbs:
    function = importlib.import_module("trl.kernels").ChunkedLogProbFunction
    # The width of its tiles is trl's own choice, kept beside its trainers.
    width = importlib.import_module("trl.trainer.utils")._CHUNKED_LOGPROB_CHUNK_SIZE

    def logprobs(
        hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shape: Shape
    ) -> torch.Tensor:
        outputs = function.apply(
            hidden, weight, None, targets, 1.0, width, shape.softcap, 1.0, ("entropy",)
        )
        logp: torch.Tensor = outputs[0]
        return logp

    return logprobs


def _unsloth_chunked() -> LogProbs:
    function = importlib.import_module(
        "unsloth_zoo.fused_losses.chunked_logprob"
    ).unsloth_chunked_logprobs

    def logprobs(
        hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shape: Shape
    ) -> torch.Tensor:
        logp: torch.Tensor = function(
            hidden, weight, targets, logit_softcapping=shape.softcap or 0.0
        )
        return logp

    return logprobs


def by_reference() -> LogProbs:
    """Plain torch, which the others are held against."""
    return _ours("reference")()


def ours(chunk_rows: int | Literal["auto"] = "auto") -> tuple[Method, ...]:
    """Plain torch, with the entropy and without, and the implementations of this package."""
    return (
        Method("logsumexp", _by_logsumexp),
        *(
            Method(impl, _ours(impl, chunk_rows), entropy=True)
            for impl in ("reference", "torch", "triton", "tiled")
        ),
    )


PEERS = (
    Method("unsloth_zoo", _unsloth_chunked, "unsloth_zoo"),
    Method("liger", _liger_cross_entropy, "liger_kernel", cuda_only=True),
    Method("liger-grpo", _liger_grpo, "liger_kernel"),
    Method("liger-scaled", _liger_scaled, "liger_kernel", entropy=True),
    Method("torch-lce", _torch_linear_cross_entropy, "torch"),
    Method("cce", _cut_cross_entropy("high"), "cut-cross-entropy", cuda_only=True),
    Method("cce-nofilter", _cut_cross_entropy(None), "cut-cross-entropy", cuda_only=True),
    Method("trl", _trl_chunked, "trl", entropy=True),
)


def chosen_peers(names: str) -> tuple[Method, ...]:
    """The peers named in `all`, `none` or a comma-separated list."""
    known = {peer.name: peer for peer in PEERS}
    if names in ("all", "none"):
        return PEERS if names == "all" else ()
    return tuple(_named(name, known, "peer") for name in names.split(","))


def chosen_shapes(names: str) -> tuple[Shape, ...]:
    """The shapes of a comma-separated list."""
    return tuple(_named(name, SHAPES, "shape") for name in names.split(","))


def _named(name: str, known: Mapping[str, Any], what: str) -> Any:
    if name.strip() not in known:
        raise UsageError(f"{what}s: expected a {what} out of {', '.join(known)}, found {name!r}")
    return known[name.strip()]
