"""The worst step there can be, measured before the first one: what it needs, whether it fits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from icpo_lite.core.console import clock
from icpo_lite.core.types import Completion, Group, Prompt, Trajectory
from icpo_lite.rollout.groups import as_turn
from icpo_lite.rollout.sampler import sample
from icpo_lite.training.batch import collate
from icpo_lite.training.step_metrics import memory_gb
from icpo_lite.training.trainer import Trainer

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class DryRun:
    """What one step of longest prompts and full-length responses took.

    parts: memory in bytes by what it is for, the peaks of sampling and update above what lies in
    memory all the time. peak, room: bytes at the worst moment, and all there are (0: not known).
    seconds: of the step. rows, sample_rows: that fitted in the update and while sampling, of those
    asked for.
    """

    parts: dict[str, int]
    peak: int
    room: int
    seconds: float
    tokens: int
    rows: tuple[int, int]
    sample_rows: tuple[int, int]

    def lines(self, steps: int) -> list[str]:
        """What to tell: memory by part, time for `steps` steps, the override that fits."""
        parts = ", ".join(f"{name} {_size(size)}" for name, size in self.parts.items())
        room = f" of {_size(self.room)}" if self.room else ""
        said = [
            f"worst step (every row {self.tokens} tokens): {_size(self.peak)}{room} at its peak: "
            f"{parts}",
            f"it took {self.seconds:.1f} s: at most {clock(self.seconds * steps)} for {steps} "
            f"steps, evaluation aside",
        ]
        if self.rows[0] < self.rows[1]:
            said.append(
                f"{self.rows[1]} responses at once do not fit in the update, {self.rows[0]} do: "
                f"add per_device_train_batch_size={self.rows[0]}; this run goes on with it"
            )
        if self.sample_rows[0] < self.sample_rows[1]:
            said.append(
                f"{self.sample_rows[1]} responses at once do not fit while sampling, "
                f"{self.sample_rows[0]} do: this run samples in parts"
            )
        return said


def wanted(rehearse: bool | None, device: torch.device) -> bool:
    """The recipe's `rehearse`: on a GPU, where memory is short, unless it says otherwise."""
    return device.type == "cuda" if rehearse is None else rehearse


def dry_run(trainer: Trainer) -> DryRun:
    """Takes one step of the largest kind and then all of it back, bit for bit.

    What it finds out about the memory stays with the trainer. Raises OutOfMemory, with the
    override that would help, when not even one response at a time fits.
    """
    recipe, policy = trainer.recipe, trainer.policy
    device = policy.device.torch_device
    later = trainer.later.ids.values() if trainer.later else ()
    longest = max((tuple(ids) for ids in (*trainer.prompt_ids.values(), *later)), key=len)
    length = trainer.longest_reply(len(longest))
    undo, pool = trainer.updater.undo(), trainer.pool.state
    plan = trainer.schedules.at(trainer.planned_step)
    began, base = time.monotonic(), _resident(device)
    try:
        prompts = trainer.pool.draw(recipe.prompts_per_step, plan.share_underspecified)
        with _peak(device) as sampling:
            replies = sample(
                policy,
                [longest] * len(prompts),
                n=recipe.num_generations,
                options=trainer.sampling.but(ignore_eos=True, max_new_tokens=length),
                keys_P=[("dry run", place) for place in range(len(prompts))],
            )
        shown = recipe.demonstrations == "rl_plus"
        groups = [
            _largest_group(prompt, longest, some, shown=shown)
            for prompt, some in zip(prompts, replies, strict=True)
        ]
        with _peak(device) as update:
            batch = collate(groups, policy.pad_id)
            trainer.updater.update(batch, plan.loss, recipe.learning_rate)
        optimizer = _bytes(
            [v for e in trainer.updater.optimizer.state.values() for v in e.values()]
        )
    finally:
        undo()
        trainer.pool.restore(pool)
    trained = _bytes(policy.trainable())
    weights = _bytes([*policy.model.parameters(), *policy.model.buffers()]) - trained
    parts = {
        "weights": weights,
        "LoRA and its gradient": 2 * trained,
        "optimizer": optimizer,
        "sampling": max(sampling[0] - base, 0),
        "update": max(update[0] - base - optimizer, 0),
    }
    asked, learned = len(groups) * recipe.num_generations, len(batch)
    micro = min(recipe.per_device_train_batch_size or learned, learned)
    updated, sampled = trainer.updater.limit.found, trainer.sampling_limit.found
    return DryRun(
        parts,
        max(sampling[0], update[0]),
        _room(device),
        time.monotonic() - began,
        len(longest) + length,
        (min(updated.rows, micro) if updated else micro, micro),
        (sampled.rows if sampled else asked, asked),
    )


def _largest_group(
    prompt: Prompt, prompt_ids: tuple[int, ...], replies: Sequence[Completion], *, shown: bool
) -> Group:
    """A group of full-length rows. shown: a demonstration joins it, one row more."""
    rows = [Trajectory(prompt, prompt_ids, (as_turn(_whole(c)),)) for c in replies]
    rows += [replace(rows[0], demonstration=True)] if shown else []
    # Advantages that differ, so that no row is left out; half of a group up, half down.
    return Group(prompt, tuple(rows), tuple(1.0 if i % 2 else -1.0 for i in range(len(rows))))


def _whole(completion: Completion) -> Completion:
    """As if it had ended by itself: one that was cut off carries no loss in many a recipe."""
    return replace(completion, stop_reason="eos")


def _bytes(tensors: Sequence[object]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _resident(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS")


def _room(device: torch.device) -> int:
    """Bytes that this process may have on a GPU; 0 elsewhere."""
    if device.type != "cuda":
        return 0
    fraction = torch.cuda.get_per_process_memory_fraction(device)
    return int(torch.cuda.mem_get_info(device)[1] * fraction)


@contextlib.contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """One number, filled in at the end: the most bytes in use meanwhile."""
    out = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield out
        out[0] = torch.cuda.max_memory_allocated(device)
        return
    with contextlib.suppress(OSError):  # Linux's way of resetting a process's own high-water mark
        _RESET.write_text("5")
    yield out
    out[0] = _status("VmHWM") or int(memory_gb(device) * 1e9)


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status, 0 where there is none."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0
