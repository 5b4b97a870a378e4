"""How much memory a training step takes, from a model's config.json and a recipe's numbers alone.

No torch: the arithmetic follows what torch, transformers, peft and bitsandbytes keep alive, and
tests/test_memory_measured.py holds it against the live tensors of real steps. In formulas:

    D hidden size, F intermediate size, Q = heads x head_dim, K = kv heads x head_dim, V vocabulary,
    L layers, b bytes of a value in the compute dtype (4 fp32, 2 bf16 and fp16),
    n tokens of a micro-batch = rows x (prompt + completion)

A step passes through phases that follow one another (sampling, forward, backward, optimizer): the
KV cache is gone before the first backward, so the peak is the largest phase and not their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from icpo_lite.policy.kernels.chunks import chunk_rows, preferred_rows
from icpo_lite.policy.kernels.layout import TILE_WORDS, tile_rows
from icpo_lite.tools.lora_memory import (
    joined_bytes,
    kept_of_lora,
    length_bytes,
    lora_matrices,
    lora_weights,
    optimizer_bytes,
    sampled_lengths,
    start_bytes,
    trained,
    trains,
)
from icpo_lite.tools.memory_job import FP32, Job
from icpo_lite.tools.model_shape import Linear, ModelShape

#: NF4 (arXiv 2305.14314): blocks of 64 weights share a scale of 8 bits, 256 scales one of 32.
NF4_BLOCK, NF4_SCALES = 64, 256
#: Code books that bitsandbytes keeps beside every matrix: 256 and 16 fp32 values, one offset.
NF4_TABLES = (256 + 16 + 1) * FP32


@dataclass(frozen=True)
class Phase:
    """What is alive at the highest moment of one phase, in bytes, beside what stays."""

    name: str
    parts: Mapping[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class MemoryPlan:
    """stays: alive in every phase. phases: what comes on top in each."""

    stays: Mapping[str, int]
    phases: tuple[Phase, ...]
    context: int = 0
    parameters: Mapping[str, int] = field(default_factory=dict)

    @property
    def highest(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.bytes)

    @property
    def tensors(self) -> int:
        """Peak of tensor bytes."""
        return sum(self.stays.values()) + self.highest.bytes

    @property
    def peak(self) -> int:
        """Peak with the CUDA context."""
        return self.tensors + self.context

    def at(self, phase: str) -> int:
        """Tensor bytes at the highest moment of one phase."""
        return sum(self.stays.values()) + next(p.bytes for p in self.phases if p.name == phase)


#: CUDA context, library workspaces and loaded kernels: an allowance, not a measurement.
CUDA_CONTEXT = 600 << 20


def plan_memory(shape: ModelShape, job: Job) -> MemoryPlan:
    """Memory of one training step, worst case: every prompt and completion of full length."""
    gradients = lora_weights(shape, job) * job.lora_bytes
    reserved = vllm_bytes(shape, job)
    return MemoryPlan(
        stays={
            **weight_bytes(shape, job),
            "LoRA weights": gradients,
            **start_bytes(shape, job),
            "optimizer state": optimizer_bytes(shape, job),
            # Asleep, vLLM gives its keys and values back while the update runs.
            **({} if job.keys.vllm_enable_sleep_mode else reserved),
        },
        phases=(
            _sampling(shape, job, gradients),
            _forward(shape, job, gradients),
            _backward(shape, job, gradients),
            _optimizer(shape, job, gradients),
        ),
        context=CUDA_CONTEXT if job.cuda else 0,
        parameters=shape.parameters(),
    )


#: vLLM's `max_num_seqs`, which unsloth takes for none given.
VLLM_DEFAULT_SEQS = 256
#: … and then its own, (up to so many GiB for keys and values, replies at once), of 2026.10.
UNSLOTH_SEQS = (
    *((2, 8), (4, 16), (8, 32), (12, 48), (16, 64), (24, 80)),
    *((40, 96), (48, 112), (80, 128)),
)


def vllm_bytes(shape: ModelShape, job: Job) -> dict[str, int]:
    """What vLLM reserves for keys and values: its share of the card less the weights it shares."""
    if not (job.keys.use_vllm and job.cuda):
        return {}
    share = int(job.keys.vllm_gpu_memory_utilization * job.card_bytes)
    return {"vLLM's keys and values": max(share - sum(weight_bytes(shape, job).values()), 0)}


def vllm_rows(shape: ModelShape, job: Job) -> int:
    """Replies of full length that vLLM holds at once."""
    one = kv_bytes(shape, job, 1, job.width - 1)
    left = sum(vllm_bytes(shape, job).values())
    asked = job.keys.vllm_max_num_seqs or VLLM_DEFAULT_SEQS
    unset = asked == VLLM_DEFAULT_SEQS
    return min(left // one, _unsloths_choice(left) if unset else asked)


def _unsloths_choice(left: int) -> int:
    """Replies at once where the recipe names no number. left: bytes for keys and values."""
    return next((n for gib, n in UNSLOTH_SEQS if left <= gib << 30), VLLM_DEFAULT_SEQS)


def weight_bytes(shape: ModelShape, job: Job) -> dict[str, int]:
    """Frozen weights by kind; only the linear layers of blocks are quantised."""
    out = {kind: count * job.value_bytes for kind, count in shape.parameters().items()}
    if job.keys.load_in_4bit:
        for kind in ("attention", "mlp"):
            some = [m for m in shape.linears if m.kind == kind]
            biases = sum(m.outputs for m in some if m.bias) * job.value_bytes
            out[kind] = (sum(nf4_bytes(m.weights) for m in some) + biases) * shape.layers
        if shape.vision:  # linear layers, almost all of it
            out["vision (unused)"] = nf4_bytes(shape.vision)
    return out


def nf4_bytes(weights: int) -> int:
    """NF4 with double quantisation: 4 + 8/64 + 32/(64·256) = 4.127 bits a weight, and tables."""
    scales = -(-weights // NF4_BLOCK)
    return -(-weights // 2) + scales + -(-scales // NF4_SCALES) * FP32 + NF4_TABLES


# ------------------------------------------------------------------------------------------ phases


def kv_bytes(shape: ModelShape, job: Job, rows: int, length: int) -> int:
    """Keys and values [rows, length, K] of all layers; a window bounds what a layer keeps."""
    seen = sum(min(length, w) if w else length for w in shape.windows)
    return 2 * rows * seen * shape.keys * job.value_bytes


def _sampling(shape: ModelShape, job: Job, gradients: int) -> Phase:
    """The prompts at once, then all replies token by token; the last step's gradients still lie."""
    if reserved := vllm_bytes(shape, job):
        kept = reserved if job.keys.vllm_enable_sleep_mode else {}  # else they stay all the time
        return Phase("sampling", {**kept, "LoRA gradients": gradients})
    rows = min(job.sampled_rows or job.rows, job.rows)
    prompts = max(1, rows // min(job.keys.num_generations, rows))
    length = job.keys.max_prompt_length
    prefill = {
        "KV cache": kv_bytes(shape, job, prompts, length),
        "a layer's activations": _passing(shape, job, prompts, length),
    }
    whole = length + job.replied - 1
    # A token is appended by copying a layer's keys (then its values) into a longer tensor.
    copied = rows * whole * shape.keys * job.value_bytes
    logits = rows * shape.vocabulary * _draw_bytes(job)
    decoding = {
        "KV cache": kv_bytes(shape, job, rows, whole),
        "one layer's copy, or logits being drawn from": max(copied, logits),
    }
    # Before there are any keys and values.
    lengths = {"DoRA's lengths": sampled_lengths(shape, job)}
    largest = max(prefill, decoding, lengths, key=lambda parts: sum(parts.values()))
    extra = {"dense copies": _dense_copies(shape, job), "LoRA gradients": gradients}
    return Phase("sampling", {**largest, **extra})


def _dense_copies(shape: ModelShape, job: Job) -> int:
    """Layers that are packed or carry LoRA, as one fp32 matrix each, where they are few enough."""
    layers = [shape.linears] * shape.layers if job.keys.load_in_4bit else trained(shape, job)
    count = sum(m.weights for layer in layers for m in layer)
    return count * FP32 if count <= job.dense_weights else 0


def _draw_bytes(job: Job) -> int:
    """Bytes a logit while a token is drawn (`rollout.sampler`), which takes sums in fp64."""
    kept = job.value_bytes + (FP32 if job.narrow else 0) + FP32  # logits, in fp32, log-probs
    if job.keys.top_p < 1:
        return kept + 7 * 8  # probabilities, sorted, places, sums before, and three made of them
    return kept + 2 * 8 + (8 if job.keys.top_k else 0)


def _forward(shape: ModelShape, job: Job, gradients: int) -> Phase:
    """Forward of a micro-batch and the log-prob chunk on top of all that backward needs."""
    tokens = job.micro_batch * job.width
    kept = _kept_layers(shape, job) + _last_norm(shape, job, tokens)
    chunk = _logprob_chunk(shape, job)
    saved = not job.keys.gradient_checkpointing
    passing = _passing(shape, job, job.micro_batch, job.width, saved=saved)
    lengths = length_bytes(shape, job)
    passing = passing + lengths if saved else max(passing, lengths)
    return Phase(
        "forward",
        {
            "activations": kept,
            "log-prob chunk, or a layer's activations": max(chunk, passing),
            "LoRA gradients": gradients if job.passes > 1 else 0,
        },
    )


def _backward(shape: ModelShape, job: Job, gradients: int) -> Phase:
    """Backward begins with all that forward kept; with checkpointing a layer is computed again."""
    tokens, b = job.micro_batch * job.width, job.value_bytes
    units = job.micro_batch * job.replied * shape.hidden * b
    layers = trained(shape, job) if job.keys.gradient_checkpointing else []
    again = max((_saved_layer(shape, job, matrices) for matrices in layers), default=0)
    back = _passing_back(shape, job)
    if layers:
        back = max(back, length_bytes(shape, job))
    parts = {
        "activations": _kept_layers(shape, job) + _last_norm(shape, job, tokens),
        "a layer computed again": again,
        "log-prob gradients": units,
        "gradients of a layer": back,
        # A single pass fills them while it frees activations, of which there are far more.
        "LoRA gradients": gradients if job.passes > 1 else 0,
    }
    return Phase("backward", {name: size for name, size in parts.items() if size})


def _optimizer(shape: ModelShape, job: Job, gradients: int) -> Phase:
    """On a GPU AdamW takes the root of all second moments at once, on a CPU one by one."""
    scratch = (
        gradients if job.cuda else 3 * job.lora_bytes * max(lora_matrices(shape, job), default=0)
    )
    return Phase("optimizer", {"LoRA gradients": gradients, "scratch": scratch})


def _last_norm(shape: ModelShape, job: Job, tokens: int) -> int:
    """The last layer's output, which the last norm keeps in fp32."""
    return tokens * shape.hidden * FP32


def _kept_layers(shape: ModelShape, job: Job) -> int:
    """What all layers keep for backward: all of it, or only their inputs."""
    if job.keys.gradient_checkpointing:
        tokens = job.micro_batch * job.width
        return shape.layers * tokens * shape.hidden * job.value_bytes
    return sum(_saved_layer(shape, job, matrices) for matrices in trained(shape, job))


def _saved_layer(shape: ModelShape, job: Job, matrices: Sequence[Linear]) -> int:
    """Bytes that autograd keeps of one layer: norms, LoRA's inputs, attention, MLP.

    matrices: those of the layer that carry LoRA.
    """
    tokens, b, q = job.micro_batch * job.width, job.value_bytes, shape.queries
    # A norm keeps its input in fp32; frozen weights keep nothing.
    norms = FP32 * (shape.norms * shape.hidden + shape.head_norms * (q + shape.keys))
    # Queries (turned), keys and values (repeated to all heads, since rows are padded), output.
    attention = b * 4 * q + FP32 * shape.heads
    f = shape.intermediate
    mlp = b * (3 if shape.gated else 1) * f  # gate, its activation, up
    scores = 0
    if job.eager or shape.softcap:
        cells = job.micro_batch * shape.heads * job.width**2
        scores = cells * (FP32 + (b if job.narrow else 0) + (b if shape.softcap else 0))
    else:
        scores = job.micro_batch * job.width**2 * b  # the mask, as numbers, for each layer
    lora = tokens * kept_of_lora(job, matrices) + joined_bytes(job, matrices)
    return tokens * (norms + attention + mlp) + lora + scores


def _passing(shape: ModelShape, job: Job, rows: int, length: int, *, saved: bool = False) -> int:
    """Bytes of a layer's forward that are alive for a moment, at its widest matrix.

    saved: they come on top of what autograd keeps of the layer, else beside its residuals.
    """
    tokens, b, f, d = rows * length, job.value_bytes, shape.intermediate, shape.hidden
    widest = max(shape.linears, key=lambda m: m.outputs)
    if saved:
        # In the last matrix: its input, LoRA's product and the scaled one, residuals.
        return tokens * (b * f * job.casts + 2 * job.lora_bytes * d + 5 * b * d) + _dequantised(
            shape, job
        )
    # Embedding or input, residual, norm; the matrix's output, its copy; LoRA's product, scaled.
    width = widest.outputs
    lora = (
        (2 * job.lora_bytes * width + (job.lora_bytes * d if job.casts else 0))
        if trains(shape, job, widest)
        else 0
    )
    values = b * (4 * d + 2 * max(width, f)) + lora
    return tokens * values + _dequantised(shape, job)


def _passing_back(shape: ModelShape, job: Job) -> int:
    """Bytes alive for a moment at the start of a layer's backward, beyond what forward kept."""
    tokens, b, f, d = job.micro_batch * job.width, job.value_bytes, shape.intermediate, shape.hidden
    last = shape.linears[-1]
    weight = _dequantised(shape, job)
    residual = tokens * b * d
    if not trains(shape, job, last):
        through = weight + tokens * b * f
    elif job.casts:
        # LoRA's gradient for its fp32 input, before that input is freed; then that gradient cast,
        # the frozen weight in full and its own gradient, without the input.
        through = max(
            tokens * job.lora_bytes * (f + d), weight + tokens * (2 * b - job.lora_bytes) * f
        )
    else:
        # Two gradients and their sum, or the frozen weight in full; LoRA's input is freed.
        through = tokens * b * f + max(weight, tokens * b * f)
    norm = 4 * tokens * FP32 * d  # the norm's backward works in fp32
    return max(residual + through, norm)


def _dequantised(shape: ModelShape, job: Job) -> int:
    """The largest 4-bit matrix in the compute dtype, as its matmul needs it."""
    if not job.keys.load_in_4bit:
        return 0
    return max(m.weights for m in shape.linears) * job.value_bytes


def _logprob_chunk(shape: ModelShape, job: Job) -> int:
    """Kept hidden states, their unit gradients, one chunk of fp32 logits (`kernels.logprob`).

    On a GPU the larger of a chunk of rows and of a tile with its fp32 sum, whichever it takes.
    """
    tokens = job.micro_batch * job.width
    kept = job.micro_batch * job.replied
    stride = -(-shape.vocabulary // 64) * 64 if job.cuda else shape.vocabulary
    free = job.card_bytes if job.cuda else 64 << 30
    rows = chunk_rows(kept, stride * FP32, free, preferred_rows(job.card_bytes, cuda=job.cuda))
    scratch = 0 if job.cuda else rows // 8 * stride * FP32
    hidden = (tokens + 2 * kept) * shape.hidden * job.value_bytes
    tile = tile_rows(kept, shape.hidden, free) * (TILE_WORDS + shape.hidden) if job.cuda else 0
    return max(rows * stride, tile) * FP32 + min(scratch, 16 << 20) + hidden
