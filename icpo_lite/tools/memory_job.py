"""What of a recipe and a device decides the memory of a training step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

FP32 = 4


@dataclass(frozen=True)
class Job:
    """What decides the memory of a step: a recipe, and what the device makes of it.

    micro_batch: completions computed at once. value_bytes: of the compute dtype; lora_bytes: of
    LoRA's weights, gradients and moments. dense_weights: up to so many weights of linear layers
    are copied densely while sampling, which is done on a CPU in fp32 (`policy.dense_copies`).
    card_bytes: all memory of the device, which the log-prob chunk is chosen by. sampled_rows:
    replies sampled at once, fewer than all where sampling had to split its batch.
    """

    keys: Recipe
    micro_batch: int
    eager: bool = False
    value_bytes: int = 2
    lora_bytes: int = FP32
    dense_weights: int = 0
    cuda: bool = True
    card_bytes: int = 24 << 30
    sampled_rows: int | None = None

    def but(self, **keys: Any) -> Job:
        """The same with some of the recipe's keys changed."""
        return replace(self, keys=self.keys.but(**keys))

    @property
    def rows(self) -> int:
        return self.keys.prompts_per_step * self.keys.num_generations

    @property
    def width(self) -> int:
        return self.keys.max_prompt_length + self.replied

    @property
    def replied(self) -> int:
        """Tokens that follow a prompt at most; a user's words in a conversation are few beside."""
        turns = self.keys.max_assistant_turns if self.keys.rollout == "conversation" else 1
        return turns * self.keys.max_completion_length

    @property
    def passes(self) -> int:
        """Micro-batches of an optimizer step."""
        return -(-self.rows // self.keys.num_mini_batches // self.micro_batch)

    @property
    def narrow(self) -> bool:
        return self.value_bytes < FP32

    @property
    def casts(self) -> bool:
        """Whether peft copies the input of each matrix into LoRA's dtype."""
        return self.lora_bytes != self.value_bytes
