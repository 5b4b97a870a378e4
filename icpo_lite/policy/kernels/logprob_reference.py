"""The contract: what every other implementation of `token_logprobs` must compute."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from icpo_lite.policy.kernels.logits import LogitTransform, logits_dtype

#: exp(FLOOR) is 0 in every dtype, so that 0 · log 0 can be formed as 0 · FLOOR and is 0.
FLOOR = -1e4


def reference_logprobs(
    hidden: torch.Tensor,  # [N, D]
    weight: torch.Tensor,  # [V, D]
    targets: torch.Tensor,  # [N]
    bias: torch.Tensor | None,  # [V]
    transform: LogitTransform,
    *,
    entropy_grad: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(target) and the entropy −Σ p log p in nats, both [N]; autograd gives the gradients."""
    logits = F.linear(hidden, weight, bias).to(logits_dtype(hidden.dtype))
    return of_logits(transform.apply(logits), targets, entropy_grad=entropy_grad)


def of_logits(
    z: torch.Tensor,  # [N, V]
    targets: torch.Tensor,  # [N]
    *,
    entropy_grad: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(target) and entropy under softmax(z), by exp and sum: as exact as they are in fp32."""
    logp = log_probs(z)
    watched = logp if entropy_grad else logp.detach()
    entropy = -(watched.exp() * watched.clamp_min(FLOOR)).sum(-1)
    return logp.gather(-1, targets[:, None]).squeeze(-1), entropy


def log_probs(z: torch.Tensor) -> torch.Tensor:
    """log softmax(z) over the last dimension, differentiable.

    On a CPU torch.log_softmax adds the exponentials of a large vocabulary up to 2e-5 wrong in fp32;
    torch.sum adds in pairs.
    """
    shifted = z - z.detach().amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()
