"""How much memory LoRA takes: its weights, the optimizer's state, what it keeps for backward.

No torch, as in `memory_model`, whose letters hold here too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from icpo_lite.tools.memory_job import FP32, Job
from icpo_lite.tools.model_shape import Linear, ModelShape

#: bitsandbytes leaves the state of smaller matrices in fp32, and scales 256 values together.
MIN_8BIT_SIZE, STATE_BLOCK = 4096, 256


def trained(shape: ModelShape, job: Job) -> tuple[tuple[Linear, ...], ...]:
    """The matrices of each layer that carry LoRA."""
    return _meant(shape, job.keys.lora_target_modules)


def trains(shape: ModelShape, job: Job, linear: Linear) -> bool:
    """Whether any layer's matrix of this kind carries LoRA."""
    return any(linear in matrices for matrices in trained(shape, job))


@cache
def _meant(shape: ModelShape, targets: str | tuple[str, ...]) -> tuple[tuple[Linear, ...], ...]:
    """By whole names, as `policy.lora_targets` reads them of a loaded model."""
    if targets == "all-linear":
        return (shape.linears,) * shape.layers
    if isinstance(targets, str):
        pattern = re.compile(targets)
        return tuple(
            tuple(m for m in shape.linears if pattern.fullmatch(shape.name_of(m, layer)))
            for layer in range(shape.layers)
        )
    return tuple(
        tuple(
            m
            for m in shape.linears
            if any(f".{shape.name_of(m, layer)}".endswith(f".{target}") for target in targets)
        )
        for layer in range(shape.layers)
    )


def lora_matrices(shape: ModelShape, job: Job) -> list[int]:
    """Sizes of all that learns: A [r, inputs], B [outputs, r], DoRA's lengths [outputs]."""
    sizes = []
    for matrices in trained(shape, job):
        for m in matrices:
            sizes += [job.keys.lora_r * m.inputs, job.keys.lora_r * m.outputs]
            sizes += [m.outputs] if job.keys.use_dora else []
    return sizes


def lora_weights(shape: ModelShape, job: Job) -> int:
    return sum(lora_matrices(shape, job))


def start_bytes(shape: ModelShape, job: Job) -> dict[str, int]:
    """What is kept of the weights that training began from, where they are not the base's."""
    if not job.keys.keeps_start:
        return {}
    return {"LoRA's start": lora_weights(shape, job) * job.lora_bytes}


def optimizer_bytes(shape: ModelShape, job: Job) -> int:
    """Two moments of AdamW: fp32, or 8 bits with a scale for every 256 values."""
    total = 0
    for size in lora_matrices(shape, job):
        small = job.keys.optim == "adamw_torch" or size < MIN_8BIT_SIZE
        total += 2 * (size * job.lora_bytes if small else size + -(-size // STATE_BLOCK) * FP32)
    return total


def kept_of_lora(job: Job, matrices: Sequence[Linear]) -> int:
    """Bytes a token of what LoRA keeps: its input and its r inner values, in fp32.

    In 16 bit peft casts the input for each matrix anew; in fp32 those that read the same tensor
    share it, and attention keeps its output anyway. Dropout keeps a masked copy and the mask. DoRA
    keeps what the frozen weight gave, and LoRA's product.
    """
    ranks = job.keys.lora_r * (2 if job.keys.starts_in_base else 1)
    inner = job.lora_bytes * ranks * len(matrices)
    if job.keys.use_dora:
        inner += sum((job.value_bytes + job.lora_bytes) * m.outputs for m in matrices)
    if job.keys.lora_dropout:
        return inner + sum((job.lora_bytes + 1) * m.inputs for m in matrices)
    if job.casts:
        return inner + sum(job.lora_bytes * m.inputs for m in matrices)
    after_attention = ("o_proj", "dense")
    inputs = {(m.kind, m.inputs) for m in matrices if m.name not in after_attention}
    return inner + sum(job.lora_bytes * width for _, width in inputs)


def joined_bytes(job: Job, matrices: Sequence[Linear]) -> int:
    """A and B beside their starts in one matrix each, which backward needs."""
    if not job.keys.starts_in_base:
        return 0
    return sum(2 * job.keys.lora_r * (m.inputs + m.outputs) * job.lora_bytes for m in matrices)


def length_bytes(shape: ModelShape, job: Job) -> int:
    """DoRA's lengths, formed anew in each pass: LoRA's product as a matrix, made by way of the unit
    matrix of its inputs, the weight in fp32, and their sum."""
    if not job.keys.use_dora:
        return 0
    copies = 3 + (job.narrow or bool(job.keys.load_in_4bit))
    some = {m for matrices in trained(shape, job) for m in matrices}
    return max((FP32 * (m.inputs**2 + copies * m.weights) for m in some), default=0)


def sampled_lengths(shape: ModelShape, job: Job) -> int:
    """… formed once before replies are sampled: the weight in fp32, LoRA's product, their sum."""
    if not job.keys.use_dora:
        return 0
    some = {m for matrices in trained(shape, job) for m in matrices}
    return max((4 * FP32 * m.weights for m in some), default=0)
