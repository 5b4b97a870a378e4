"""Whether this run shares prompts in training: tried on the user's own model, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from icpo_lite.core.errors import IcpoError, UsageError
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs
from icpo_lite.policy.prompt_packing import pack, why_not_shared
from icpo_lite.recipe.sections import LoraKeys
from icpo_lite.rollout.noise import own_random_state

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Tokens of a tried reply at most, on a CPU and on a GPU: there, long ones change the kernels.
TRIED_CPU, TRIED_GPU = 48, 256
#: Timed turns of each way.
TURNS = 3
#: How much faster sharing must be: a choice that noise turns helps nobody.
MARGIN = 1.2
#: Mean difference of log-probs that rounding explains.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}


def choose_sharing(
    policy: Policy,
    wanted: bool | Literal["auto"],
    prompt: Sequence[int],
    *,
    rows: int,
    length: int,
    options: LogprobOptions,
) -> tuple[bool, str]:
    """(whether to share, one line that says why).

    prompt: one of the run's. rows: of a group that one micro-batch holds. length: tokens of the
    longest reply. Raises UsageError when sharing is wanted and this model cannot.
    """
    if wanted is False:
        return False, "computed for each response"
    reason = why_not_shared(policy)
    if reason is None and wanted == "auto" and _has_dropout(policy):
        reason = "lora_dropout gives each response a prompt of its own"
    if reason is None and rows < 2:
        reason = "a micro-batch holds one response; raise per_device_train_batch_size"
    gain: float | None = None
    if reason is None:
        batch = _tried_batch(policy, prompt, rows, length)
        try:
            with own_random_state(policy):
                reason = _difference(policy, batch, options)
                gain = _gain(policy, batch, options) if reason is None else None
        except (IcpoError, RuntimeError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else repr(error)
        finally:
            policy.model.zero_grad(set_to_none=True)
    if gain is None:
        if wanted is True:
            raise UsageError(f"share_prompts: this run cannot: {reason}; use share_prompts: auto")
        return False, f"computed for each response: {reason}"
    if wanted is True or gain > MARGIN:
        return True, f"computed once for a group, {gain:.1f} times as fast here"
    return False, f"computed for each response: once for a group is {gain:.1f} times as fast"


def _tried_batch(
    policy: Policy, prompt: Sequence[int], rows: int, length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """ids, attention and loss mask of a group whose replies are pieces of its prompt."""
    device = policy.device.torch_device
    most = TRIED_CPU if device.type == "cpu" else TRIED_GPU
    length = max(2, min(length, most))
    reply = [prompt[i % len(prompt)] for i in range(length + rows)]
    ids = torch.tensor([[*prompt, *reply[b : b + length]] for b in range(rows)], device=device)
    mask = torch.zeros(rows, ids.shape[1] - 1, dtype=torch.bool, device=device)
    mask[:, len(prompt) - 1 :] = True
    return ids, torch.ones_like(ids), mask


@torch.no_grad()
def _difference(
    policy: Policy, batch: tuple[Tensor, Tensor, Tensor], options: LogprobOptions
) -> str | None:
    """What is wrong with the shared log-probs, None where they are those of the plain way."""
    plain, shared = (
        completion_logprobs(policy, *batch, options.but(shared_prompts=share))[0]
        for share in (False, True)
    )
    off = float((plain - shared)[batch[2]].abs().mean())
    if off <= TOLERANCE[policy.device.dtype]:
        return None
    return f"log-probs differ by {off:.1e} on average when a prompt is shared"


def _gain(policy: Policy, batch: tuple[Tensor, Tensor, Tensor], options: LogprobOptions) -> float:
    """How many times as fast the step is with the prompt shared.

    Measured on a GPU. On a CPU, where tokens decide, it is their ratio: other programs disturb a
    clock, and a run that resumes must choose as it did before to end bit for bit the same.
    """
    if policy.device.torch_device.type != "cpu":
        plain, shared = _seconds(policy, batch, options)
        return plain / shared
    return batch[0].numel() / pack(batch[0], batch[2]).input_ids.numel()


def _seconds(
    policy: Policy, batch: tuple[Tensor, Tensor, Tensor], options: LogprobOptions
) -> tuple[float, float]:
    """Seconds of forward and backward: the plain way, and with the prompt shared."""

    def step(share: bool) -> None:
        logps, _ = completion_logprobs(policy, *batch, options.but(shared_prompts=share))
        logps.sum().backward()

    times: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(TURNS + 1):
        for share, found in times.items():
            seconds = timed(policy.device.torch_device, partial(step, share))
            found += [seconds] if turn else []  # the first turn warms up
    # The least is what the machine can do; what comes on top is other programs.
    return min(times[False]), min(times[True])


def timed(device: torch.device, run: Callable[[], object]) -> float:
    """Wall-clock seconds of a call, the device's work included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    started = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - started


def _has_dropout(policy: Policy) -> bool:
    return isinstance(policy.keys, LoraKeys) and policy.keys.lora_dropout > 0
