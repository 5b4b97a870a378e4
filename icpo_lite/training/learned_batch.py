"""A batch with all that an update must know of it before the weights move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
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

    def with_and_without_gradient(
        self, micro: Batch, rows: Tensor, drops: bool
    ) -> list[tuple[Tensor, bool]]:
        """Rows of a micro-batch that have a gradient, and those that are only measured.

        rows: where they stand in the batch. drops: drop_zero_variance; without it all have one.
        Where the advantage is 0 the policy term has no gradient; KL, KL-Cov, entropy, what a
        teacher speaks of and HPT's demonstrations have one whatever it is.
        """
        every = torch.arange(len(micro), device=micro.advantages.device)
        if self.loss.moves_without_advantage or not drops:
            return [(every, True)]
        learns = (micro.advantages.masked_fill(~micro.loss_mask, 0.0) != 0).any(-1)
        if self.loss.demonstrations == "hpt":
            learns = learns | micro.demonstrations
        if self.taught is not None:
            learns = learns | self.taught.mask[rows].any(-1)
        return [(every[some], on) for some, on in ((learns, True), (~learns, False)) if some.any()]
