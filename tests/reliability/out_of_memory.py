"""Out of memory at every allocation of a step, one after the other: the same tokens and gradient.

Every torch operation that makes a new tensor while sampling and updating is such a place; they
are counted by a dispatch mode in an undisturbed step, then each fails once, in a step of its own.

python tests/reliability/out_of_memory.py --every 1
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from icpo_lite.core.types import Prompt, Reward, Turn, Verdict
from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.policy.load import load_policy
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.from_recipe import bind_judge
from icpo_lite.rollout import sampler
from icpo_lite.rollout.groups import encode_prompts
from icpo_lite.training.from_recipe import untried
from icpo_lite.training.trainer import Trainer

TINY = (
    *("device=cpu", "prompts_per_step=2", "num_generations=4", "max_completion_length=6"),
    *(
        "compare={}",
        "max_steps=1",
        "drop_zero_variance=false",
        "count_zero_variance=true",
        "max_grad_norm=1e9",
    ),
)


class Fails(TorchDispatchMode):
    """Counts allocations; raises torch.OutOfMemoryError at the one of the given number."""

    def __init__(self, at: int = -1) -> None:
        super().__init__()
        self.at, self.seen = at, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _allocates(func):
            self.seen += 1
            if self.seen == self.at:
                raise torch.OutOfMemoryError("CUDA out of memory. Simulated.")
        return func(*args, **(kwargs or {}))


def _allocates(func: Any) -> bool:
    """Whether an operation gives a tensor that no argument shares its memory with."""
    returns = func._schema.returns
    return any(r.alias_info is None and "Tensor" in str(r.type) for r in returns)


@dataclass
class Step:
    """What one step did: tokens sampled, gradients, weights after it."""

    tokens: list[tuple[int, ...]]
    gradients: list[Tensor]
    weights: list[Tensor]
    allocations: int
    failures: float


class Stage:
    """One policy on which the same step is made again and again."""

    def __init__(self, *overrides: str) -> None:
        self.recipe = load_recipe("tiny", [*TINY, *overrides])
        self.policy = load_policy(self.recipe)
        self.prompts, _ = training_prompts(self.recipe)
        self.prompts = self.prompts[:64]
        self.ids = encode_prompts(self.policy, self.prompts, 256, 6)
        self.start = [p.detach().clone() for p in self.policy.trainable()]

    def step(self, fail_at: int = -1) -> Step:
        with torch.no_grad():
            for parameter, value in zip(self.policy.trainable(), self.start, strict=True):
                parameter.copy_(value)
        torch.manual_seed(0)
        trainer = Trainer(
            self.policy,
            PromptPool(self.prompts, seed=0),
            self.ids,
            bind_judge(self.recipe, self.policy),
            _reward,
            self.recipe,
            untried(self.recipe, "torch"),
        )
        mode = Fails(fail_at)
        sample, updates = sampler._sample_all, trainer.updater._updates

        def under(work: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any) -> Any:
                with mode:
                    return work(*arguments)

            return wrapped

        sampler._sample_all, trainer.updater._updates = under(sample), under(updates)
        try:
            report = trainer.step()
        finally:
            sampler._sample_all = sample
        return Step(
            [t.reply.token_ids for g in report.groups for t in g.trajectories],
            [p.grad.clone() for p in self.policy.trainable() if p.grad is not None],
            [p.detach().clone() for p in self.policy.trainable()],
            mode.seen,
            report.metrics["out_of_memory"],
        )


def _reward(prompt: Prompt, verdict: Verdict, turn: Turn) -> Reward:
    """Replies of six tokens solve nothing: a reward that differs all the same."""
    return Reward(float(sum(turn.token_ids) % 7))


def difference(one: Step, other: Step) -> float:
    """Largest difference of the gradients; infinite where tokens differ or a gradient lacks."""
    if one.tokens != other.tokens or len(one.gradients) != len(other.gradients):
        return float("inf")
    pairs = zip(one.gradients, other.gradients, strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def worst(stage: Stage, every: int, first: int = 1) -> tuple[float, int, int]:
    """(largest difference, places tried, places there are)."""
    whole = stage.step()
    assert any(g.abs().max() > 1e-3 for g in whole.gradients), "a step that teaches nothing"
    largest, tried = 0.0, 0
    for place in range(first, whole.allocations + 1, every):
        disturbed = stage.step(place)
        assert disturbed.failures == 1, f"place {place}: {disturbed.failures} failures"
        largest, tried = max(largest, difference(whole, disturbed)), tried + 1
        if tried % 100 == 0:
            print(f"{tried} places, largest difference {largest:.1e}", flush=True)
    return largest, tried, whole.allocations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    largest, tried, places = worst(Stage(*options.overrides), options.every)
    print(f"{tried} of {places} allocations failed once: gradient off by {largest:.1e} at most")
    return largest > 1e-6


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
