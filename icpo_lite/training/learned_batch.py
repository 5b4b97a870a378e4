"""A batch with all that an update must know of it before the weights move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from icpo_lite.core.oom import Size
    from icpo_lite.policy.logprobs import LogprobOptions
    from icpo_lite.recipe.objective_sections import LossKeys
    from icpo_lite.training.batch import Batch
    from icpo_lite.training.distillation_loss import Taught


@dataclass(frozen=True)
class LearnedBatch:
    """What all updates made of one batch share: it, and what was computed before the first.

    mask, old, old_entropy, ref [B, T-1]: tokens that carry loss; their log-probs and entropies
    under the weights that sampled, and log-probs without LoRA; None where nobody reads them.
    taught: what a teacher says of the tokens. scale [B, T-1]: HAPO's h of each token, where it is
    on.
    """

    batch: Batch
    mask: Tensor
    old: Tensor | None
    old_entropy: Tensor | None
    ref: Tensor | None
    loss: LossKeys
    logprobs: LogprobOptions
    size: Size
    scale: Tensor | None = None
    taught: Taught | None = None
