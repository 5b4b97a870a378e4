"""How long a step and an evaluation may take, from a card's published numbers alone: an estimate.

Nothing of it has been measured on a card. Each part takes the longer way of memory and arithmetic
at a share of what the card's maker states, and a time for each layer that Python and the launch of
kernels take. Every reply is taken at full length, as in `memory_model`. In formulas: N weights of
the linear layers, b bytes of a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icpo_lite.tools.memory_model import kv_bytes

if TYPE_CHECKING:
    from icpo_lite.tools.cards import Card
    from icpo_lite.tools.memory_model import Job
    from icpo_lite.tools.model_shape import ModelShape

#: Shares of the published bandwidth and arithmetic that real kernels reach; assumptions.
BANDWIDTH, ARITHMETIC = 0.7, 0.35
#: Seconds a layer and pass, for some forty small kernels with LoRA; an assumption.
LAYER = 1e-3
#: Bytes moved for a weight in NF4: read packed, written and read again unpacked.
UNPACKED = 0.55 + 2 * 2


def step_seconds(shape: ModelShape, job: Job, card: Card, parts: int = 1) -> float | None:
    """Seconds of a step; None where the card's numbers are not known.

    parts: in how many parts sampling splits its batch.
    """
    if not (card.bandwidth and card.tflops):
        return None
    one = _sampling(shape, job, card, -(-job.rows // parts))
    return one * parts + _kv(shape, job, card, job.rows) + _update(shape, job, card)


def replies_seconds(
    shape: ModelShape, job: Job, card: Card, replies: int, rows: int
) -> float | None:
    """Seconds of so many replies, `rows` of them at once and ended ones replaced by the next."""
    if not (card.bandwidth and card.tflops):
        return None
    waves = replies / rows
    return waves * (_sampling(shape, job, card, rows) + _kv(shape, job, card, rows))


def _sampling(shape: ModelShape, job: Job, card: Card, rows: int) -> float:
    """So many replies at once: a pass for each token of the longest."""
    weights = _weights(shape)
    read = weights * _moved(job) + shape.vocabulary * shape.hidden * 2
    arithmetic = 2 * weights * rows / (card.tflops * 1e12 * ARITHMETIC)
    memory = read / (card.bandwidth * 1e9 * BANDWIDTH)
    return job.replied * (max(arithmetic, memory) + shape.layers * LAYER)


def _kv(shape: ModelShape, job: Job, card: Card, rows: int) -> float:
    """Keys and values that so many replies read, half of their length on average."""
    mean = job.keys.max_prompt_length + job.replied // 2
    read = kv_bytes(shape, job, rows, mean) * job.replied
    return read / (card.bandwidth * 1e9 * BANDWIDTH)


def _update(shape: ModelShape, job: Job, card: Card) -> float:
    """Forward, backward without the frozen weights' gradients, and what is computed again."""
    keys = job.keys
    passes = 2 + keys.gradient_checkpointing
    forwards = (keys.beta > 0) + (keys.num_iterations * keys.num_mini_batches > 1)
    forwards += keys.distill != "none"
    tokens = job.rows * job.width
    whole = passes * keys.num_iterations + forwards
    arithmetic = 2 * (_weights(shape) + shape.vocabulary * shape.hidden) * tokens * whole
    batches = job.passes * keys.num_mini_batches
    memory = _weights(shape) * _moved(job) * whole * batches
    return (
        arithmetic / (card.tflops * 1e12 * ARITHMETIC)
        + memory / (card.bandwidth * 1e9 * BANDWIDTH)
        + shape.layers * LAYER * whole * batches
    )


def _weights(shape: ModelShape) -> int:
    counted = shape.parameters()
    return counted["attention"] + counted["mlp"]


def _moved(job: Job) -> float:
    """Bytes that a pass moves for each weight."""
    return UNPACKED if job.keys.load_in_4bit else job.value_bytes
