"""All that is added to a step's rewards, one after the other, in the context of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from icpo_lite.core.types import Prompt, Reward, RewardContext, Turn

#: One change: (rewards, prompts, turns, context) -> rewards.
Change = Callable[[Sequence[Reward], Sequence[Prompt], Sequence[Turn], RewardContext], list[Reward]]


@dataclass(frozen=True)
class RewardChanges:
    """The changes of a recipe, in order; itself a `RewardChange`.

    context: of the step that is rewarded; without one every reply stands alone at step 0.
    """

    changes: tuple[Change, ...]
    context: RewardContext = field(default_factory=RewardContext)

    def within(self, context: RewardContext) -> RewardChanges:
        """The same in another step."""
        return replace(self, context=context)

    def __call__(
        self, rewards: Sequence[Reward], prompts: Sequence[Prompt], turns: Sequence[Turn]
    ) -> list[Reward]:
        changed = list(rewards)
        for change in self.changes:
            changed = change(changed, prompts, turns, self.context)
        return changed
