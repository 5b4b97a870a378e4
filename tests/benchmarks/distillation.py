"""A training step with a teacher beside the same step without it, in one process; JSON.

    python tests/benchmarks/distillation.py [--recipe tiny-icpo-maigo] [--steps 7] [--mode full]

Each step's conversations are sampled once. Then the update is made of the same rows without the
teacher and with it, in turns, from the same weights; `step` is (sampling + update) with the teacher
over (sampling + update) without, in processor time, `update` that of the updates alone. Where
rewards teach too, a run without a teacher leaves flat groups out: `flat_left_out` is against that.
Memory is the peak of live tensors of an update, beside one chunk of logits of the log-prob op.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any


class Steps:
    """A trainer whose steps are taken apart: what was sampled, and an update that is taken back."""

    def __init__(self, recipe: Any) -> None:
        from icpo_lite.training.from_recipe import trainer_of

        self.recipe, self.trainer = recipe, trainer_of(recipe)
        self.plan = self.trainer.schedules.at(0)
        self.silent = self.plan.loss.model_copy(update={"distill": "none"})
        rewarded = recipe.reward["name"] != "none"
        self.plain = recipe.but(distill="none") if rewarded else recipe

    def sampled(self) -> tuple[list[Any], float]:
        """Weighed groups, and the seconds that they took."""
        trainer, started = self.trainer, time.process_time()
        share = self.plan.share_underspecified
        prompts = trainer.pool.draw(self.recipe.prompts_per_step, share)
        _, chosen, _ = trainer.select(trainer.rollout(prompts))
        weighed = trainer.weighed(chosen, self.plan.underspecified_weight)
        return weighed, time.process_time() - started

    def seconds(self, groups: list[Any], *, taught: bool) -> float:
        """Of one update of some groups, views and batch included."""
        from icpo_lite.training.batch import collate

        trainer = self.trainer
        undo = trainer.updater.undo()
        started = time.process_time()
        batch = collate(groups, trainer.policy.pad_id)
        views = trainer.distiller.views(groups) if taught and trainer.distiller else None
        loss = self.plan.loss if taught else self.silent
        trainer.updater.update(batch, loss, self.plan.learning_rate, 0, views)
        spent = time.process_time() - started
        undo()
        return spent

    def peak(self, groups: list[Any], *, taught: bool) -> int:
        """Bytes of tensors that such an update makes and that live at once."""
        from icpo_lite.tools.bench.live_bytes import ExtraBytes

        known = [*self.trainer.policy.model.parameters()]
        with ExtraBytes(*known) as extra:
            self.seconds(groups, taught=taught)
        return extra.bytes

    def flat_left_out(self, groups: list[Any]) -> list[Any]:
        """The groups that a run without a teacher learns from."""
        own = self.trainer.recipe
        self.trainer.recipe = self.plain
        try:
            return self.trainer.counted(groups)
        finally:
            self.trainer.recipe = own

    def chunk_bytes(self, tokens: int) -> int:
        """One chunk of logits [C, V] of the log-prob op, over so many tokens."""
        from icpo_lite.policy.kernels.chunks import auto_chunk_rows

        vocabulary = self.trainer.policy.causal_lm.config.vocab_size
        device = self.trainer.policy.device.torch_device
        return auto_chunk_rows(tokens, 4 * vocabulary, device) * 4 * vocabulary


def measure(recipe: Any, steps: int) -> dict[str, Any]:
    ours = Steps(recipe)
    groups, _ = ours.sampled()
    for taught in (False, True):
        ours.seconds(groups, taught=taught)  # libraries warm up
    found: list[dict[str, float]] = []
    for number in range(steps):
        groups, sampling = ours.sampled()
        kept = ours.flat_left_out(groups)
        order = (False, True) if number % 2 else (True, False)
        spent: dict[bool, float] = {taught: ours.seconds(groups, taught=taught) for taught in order}
        left = ours.seconds(kept, taught=False) if len(kept) < len(groups) else spent[False]
        found.append(
            {
                "sampling": sampling,
                "update": spent[True] / spent[False],
                "step": (sampling + spent[True]) / (sampling + spent[False]),
                "flat_left_out": (sampling + spent[True]) / (sampling + left),
            }
        )
    peaks = {taught: ours.peak(groups, taught=taught) for taught in (False, True)}
    rows = [t for group in groups for t in group.trajectories]
    tokens = sum(len(u.token_ids) for t in rows for u in t.turns if u.role == "assistant")
    chunk = ours.chunk_bytes(tokens)
    return {
        name: {"median": round(statistics.median(values), 3), "all": [round(v, 3) for v in values]}
        for name in ("sampling", "update", "step", "flat_left_out")
        if (values := [row[name] for row in found])
    } | {
        "peak_mb": {"without": peaks[False] / 1e6, "with": peaks[True] / 1e6},
        "extra_mb": (peaks[True] - peaks[False]) / 1e6,
        "chunk_mb": chunk / 1e6,
        "extra_chunks": round((peaks[True] - peaks[False]) / chunk, 2),
    }


def main() -> None:
    from icpo_lite.recipe import load_recipe

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="tiny-icpo-maigo")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--mode", nargs="*", default=["sampled_token", "topk", "full"])
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the recipe")
    asked = parser.parse_args()
    found = {}
    for mode in asked.mode:
        changes = ["device=cpu", f"distillation_mode={mode}", *asked.set]
        found[mode] = measure(load_recipe(asked.recipe, changes), asked.steps)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
