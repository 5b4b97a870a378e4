"""What a run keeps of itself: checkpoints, the best of them, and a mirror of it all."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from icpo_lite.core.errors import NumericsError, RecipeError, RunDirectoryError
from icpo_lite.core.oom import Say, first_not_finite
from icpo_lite.policy.optimizer import pack_optimizer, unpack_optimizer
from icpo_lite.runs.checkpoint import (
    discard_later,
    latest_checkpoint,
    load_checkpoint,
    mirror_run,
    restore_run,
    rng_state,
    save_checkpoint,
    set_rng_state,
    step_of,
)

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.training.trainer import Trainer


def mirror_of(recipe: Recipe) -> Path | None:
    """Where this run is mirrored: a folder of its own name in `mirror_dir`.

    Raises RecipeError where that would lie in the run directory itself.
    """
    if recipe.mirror_dir is None:
        return None
    folder = Path(recipe.output_dir).resolve()
    mirror = Path(recipe.mirror_dir).expanduser().resolve() / folder.name
    if mirror == folder or folder in mirror.parents:
        raise RecipeError(
            f"{recipe.where('mirror_dir')}: mirror_dir: expected a place outside output_dir, found "
            f"{recipe.mirror_dir!r}; set it to another disk"
        )
    return mirror


def bring_back(recipe: Recipe, say: Say) -> None:
    """Restores a run directory that is gone, or has fallen behind, from its mirror."""
    mirror, folder = mirror_of(recipe), Path(recipe.output_dir)
    if mirror is None or recipe.resume_from_checkpoint is False:
        return
    restored = restore_run(mirror, folder)
    if restored is not None:
        say(f"Brought back from {mirror}: {restored.name}")


class CheckpointManager:
    """Saves and restores one run, and knows which of its checkpoints is best."""

    def __init__(
        self, recipe: Recipe, policy: Policy, trainer: Trainer, folder: Path, metric: str, say: Say
    ) -> None:
        self._recipe, self._policy, self._trainer = recipe, policy, trainer
        self._folder, self._say = folder, say
        self._mirror = mirror_of(recipe)
        self._saved = time.monotonic()
        self.best = BestSoFar(metric)
        self._before: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether small evaluations without a new best have ended the run."""
        patience = self._recipe.early_stopping_patience
        return bool(patience and self.best.stale >= patience)

    @property
    def ended_before(self) -> bool:
        """… already before this start, and no more steps have been asked for since."""
        return self.ended and self.best.ended_at == self._recipe.max_steps

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due by steps or by minutes."""
        minutes, passed = self._recipe.save_minutes, time.monotonic() - self._saved
        return step % self._recipe.save_steps == 0 or (
            minutes is not None and passed > 60 * minutes
        )

    def judged(self, step: int, value: float, *, greater_is_better: bool) -> bool:
        """Takes in a small evaluation; whether it is the best so far."""
        self.best = self.best.after(step, value, greater_is_better=greater_is_better)
        if self.ended:
            self.best = replace(self.best, ended_at=self._recipe.max_steps)
        return self.best.step == step

    def remember(self) -> None:
        """Keeps what a step is about to change before it moves a weight, for `rescue`."""
        self._before = json.loads(json.dumps(self._moving_state()))

    def rescue(self) -> None:
        """Saves the state after the last whole step, where a later one failed while sampling.

        So that what a grader or a server does wrong costs no step that was made before.
        """
        step = self._trainer.done_steps
        if self._trainer.phase == "updating" or not step or self._before is None:
            return
        if (self._folder / f"checkpoint-{step}").is_dir():
            return
        try:
            self.save(step, self._before if self._trainer.phase else None)
        except (RunDirectoryError, NumericsError) as error:
            self._say(f"warning: step {step} could not be saved: {error}")

    def _moving_state(self) -> dict[str, Any]:
        return {"trainer": self._trainer.state(), "rng": rng_state()}

    def save(self, step: int, moving: Mapping[str, Any] | None = None) -> None:
        """Writes a checkpoint, then brings the mirror up to date, which may fail with a warning.

        moving: the state of trainer and random numbers to save, by default that of now. Raises
        NumericsError rather than save weights that are not numbers.
        """
        moving = moving or self._moving_state()
        weights = [*_lora(self._policy).items()]
        if bad := first_not_finite(weights):
            raise NumericsError(f"weights: NaN or infinity in {bad}; not saved")
        tensors, optimizer = pack_optimizer(self._trainer.updater.optimizer)
        average = self._trainer.distiller.average if self._trainer.distiller else {}
        save_checkpoint(
            self._folder,
            step,
            tensors={
                "adapter": _lora(self._policy),
                "optimizer": tensors,
                **({"teacher": average} if average else {}),
                **({"start": start} if (start := self._policy.start_tensors()) else {}),
            },
            state={
                **moving,
                "optimizer": optimizer,
                "corpus": corpus_digest(self._trainer.prompt_ids),
                "standing": self.best.state(),
            },
            extra_writer=self._policy.save_adapter,
            keep=self._recipe.save_total_limit or sys.maxsize,
            protect={self.best.step},
        )
        self._saved = time.monotonic()
        self.mirror()

    def let_go(self) -> None:
        """Forgets model and optimizer, whose memory another run needs; `mirror` still works."""
        del self._policy, self._trainer

    def mirror(self) -> None:
        """Copies the run to `mirror_dir`; a failure is said and stops nothing."""
        if self._mirror is None:
            return
        try:
            mirror_run(self._folder, self._mirror, protect={self.best.step})
        except RunDirectoryError as error:
            self._say(f"warning: the mirror is not up to date: {error}")

    def restore(self) -> int:
        """Loads the checkpoint that the recipe asks for; returns its step, 0 for a fresh start."""
        wish = self._recipe.resume_from_checkpoint
        if wish is False:
            return 0
        latest = latest_checkpoint(self._folder)
        for line in latest.skipped:
            self._say(f"note: {line}")
        path = Path(wish) if isinstance(wish, str) else latest.path
        if path is None:
            if wish is True:
                raise RunDirectoryError(
                    f"resume_from_checkpoint: true, but {self._folder} holds no whole checkpoint; "
                    "leave the key out to begin anew"
                )
            return 0
        checkpoint = load_checkpoint(path)
        tensors, state = checkpoint.tensors, checkpoint.state
        _load_lora(self._policy, tensors["adapter"])
        _load_start(self._policy, tensors.get("start", {}))
        unpack_optimizer(self._trainer.updater.optimizer, tensors["optimizer"], state["optimizer"])
        self._trainer.restore(state["trainer"])
        if self._trainer.distiller:
            self._trainer.distiller.restore(tensors.get("teacher", {}))
        best = BestSoFar.restored(state.get("standing"), self.best.metric)
        self.best = best.going_on(self._recipe.max_steps)
        if state["corpus"] != corpus_digest(self._trainer.prompt_ids):
            self._say(
                "warning: the prompts are not those that this run began with; set output_dir to a "
                "new directory to begin anew with them"
            )
        set_rng_state(state["rng"])
        # Else an interruption before the next save would resume from steps that were taken back.
        discard_later(self._folder, step_of(path))
        return step_of(path)

    def load_best(self) -> None:
        """Puts the best checkpoint's weights in place of the last step's."""
        best = self._folder / f"checkpoint-{self.best.step}"
        try:
            _load_lora(self._policy, load_checkpoint(best).tensors["adapter"])
        except RunDirectoryError as error:
            self._say(f"warning: the last step's weights are kept, not the best: {error}")
            return
        self._say(
            f"The best checkpoint is that of step {self.best.step}, "
            f"{self.best.metric} {self.best.value:.1f}: its weights are the result."
        )


def corpus_digest(prompt_ids: Mapping[str, Sequence[int]]) -> str:
    """What the prompts are, as the model reads them, in their order."""
    text = json.dumps([[name, list(ids)] for name, ids in prompt_ids.items()])
    return hashlib.sha256(text.encode()).hexdigest()


def _lora(policy: Policy) -> dict[str, torch.Tensor]:
    return dict(policy.trainable_named())


def _load_start(policy: Policy, tensors: Mapping[str, torch.Tensor]) -> None:
    """What the run began from, as it was computed then: another machine rounds otherwise."""
    for name, own in policy.start_tensors().items():
        own.copy_(tensors[name])


def _load_lora(policy: Policy, tensors: Mapping[str, torch.Tensor]) -> None:
    own = _lora(policy)
    if own.keys() != tensors.keys():
        odd = sorted(own.keys() ^ tensors.keys())[0]
        raise RunDirectoryError(
            f"the checkpoint's adapter does not fit this model: {odd} is on one side only; "
            "use the recipe that it was trained with"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


@dataclass(frozen=True)
class BestSoFar:
    """What the small evaluations have shown so far; a checkpoint keeps it.

    step, value: of the best one, step 0 before there is one. stale: evaluations since.
    ended_at: max_steps of the run that these ended before its time, 0 where they did not.
    """

    metric: str
    step: int = 0
    value: float = 0.0
    stale: int = 0
    ended_at: int = 0

    def after(self, step: int, value: float, *, greater_is_better: bool) -> BestSoFar:
        better = value > self.value if greater_is_better else value < self.value
        if not self.step or better:
            return BestSoFar(self.metric, step, value)
        return replace(self, stale=self.stale + 1)

    def going_on(self, max_steps: int) -> BestSoFar:
        """As a run to `max_steps` takes it up; after an early end, more steps begin it anew."""
        more = self.ended_at not in (0, max_steps)
        return replace(self, stale=0, ended_at=0) if more else self

    def state(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def restored(state: Mapping[str, Any] | None, metric: str) -> BestSoFar:
        """What a checkpoint held; another metric begins anew."""
        return BestSoFar(**state) if state and state["metric"] == metric else BestSoFar(metric)
