"""What a run needs, said before it starts: memory on named cards, disk, download, time.

Only config.json of the model is read, never its weights.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import IcpoError, ModelError, UsageError
from icpo_lite.core.files import read_metrics
from icpo_lite.tools.cards import CARDS, Card, this_machine
from icpo_lite.tools.known_shapes import known_config
from icpo_lite.tools.lora_memory import lora_weights, optimizer_bytes, start_bytes
from icpo_lite.tools.memory_job import Job
from icpo_lite.tools.memory_model import MemoryPlan, kv_bytes, plan_memory, vllm_rows
from icpo_lite.tools.model_shape import ModelShape, shape_of
from icpo_lite.tools.time_model import replies_seconds, step_seconds

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


def job_of(recipe: Recipe, card: Card) -> Job:
    """What a recipe's step is on a card."""
    from icpo_lite.policy.dense_copies import MOST_WEIGHTS

    # RL-PLUS adds its demonstration to each group.
    group = recipe.num_generations + (recipe.demonstrations == "rl_plus")
    rows = recipe.prompts_per_step // recipe.num_mini_batches * group
    if recipe.load_in_4bit == "auto":
        recipe = recipe.model_copy(update={"load_in_4bit": card.cuda})
    if recipe.dtype == "auto":
        value_bytes = 2 if card.cuda else 4
    else:
        value_bytes = 4 if recipe.dtype == "float32" else 2
    return Job(
        recipe,
        min(recipe.per_device_train_batch_size or rows, rows),
        eager=recipe.attn_implementation == "eager",
        value_bytes=value_bytes,
        lora_bytes=4 if recipe.lora_dtype == "float32" else 2,
        dense_weights=MOST_WEIGHTS if not card.cuda and value_bytes == 4 else 0,
        cuda=card.cuda,
        card_bytes=card.usable,
    )


# ------------------------------------------------------------------------------- the model's shape


def read_config(name: str, folder: str) -> tuple[dict[str, Any], str]:
    """A model's config.json and where it was read; of a hub model this file alone is fetched.

    folder: the local folder of `name`, or `name` itself. Raises ModelError where there is none.
    """
    if Path(folder).is_dir():
        return _parsed(Path(folder) / "config.json"), f"{name}'s config.json"
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return _parsed(Path(cached)), "config.json in the hub's cache"
        if known := known_config(name):
            return known, "the built-in table of shapes (config.json is not in the hub's cache)"
        # Its retries would fill the screen; what is wrong is said once, below.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        fetched = hf_hub_download(name, "config.json", etag_timeout=10)
    except HFValidationError:
        raise UsageError(
            f"model_name_or_path: expected a folder or a hub name, found {name!r}"
        ) from None
    except Exception as error:  # many kinds, of several libraries: all mean that it is not here
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{name}: expected its config.json from the hub, found: {why}; check the name and the "
            "network, or give a folder that holds config.json"
        ) from error
    return _parsed(Path(fetched)), "config.json from the hub"


def _parsed(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{file.parent}: expected a config.json in the folder, found none"
        ) from None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"{file}: expected a JSON object, found something else; fetch it anew")
    return config


# ----------------------------------------------------------------------------- does it fit, or what


@dataclass(frozen=True)
class Fit:
    """A recipe on one card. changes: overrides with which it fits, () where it does as it is.

    parts: in how many parts sampling splits its batch, which it does by itself. step_seconds: an
    estimate for what fits (`time_model`), None where there is none; evaluation_seconds: the same
    of the table at the end.
    """

    card: Card
    plan: MemoryPlan
    fits: bool
    changes: tuple[str, ...] = ()
    parts: int = 1
    step_seconds: float | None = None
    evaluation_seconds: float | None = None


def fit_on(card: Card, shape: ModelShape, recipe: Recipe) -> Fit:
    """Whether the recipe fits the card; if not, the first overrides that make it fit.

    Every suggestion has been planned itself. Those that change no result come first.
    """
    job = job_of(recipe, card)
    as_it_is, parts = _fitting(card, shape, job)
    if _holds(card, as_it_is):
        judged = _judging_seconds(shape, job, card, as_it_is, recipe)
        seconds = step_seconds(shape, job, card, parts)
        return Fit(card, as_it_is, True, (), parts, seconds, judged)
    for changes, changed in _changes(job):
        plan, parts = _fitting(card, shape, changed)
        if _holds(card, plan):
            seconds = step_seconds(shape, changed, card, parts)
            judged = _judging_seconds(shape, changed, card, plan, recipe)
            return Fit(card, plan_memory(shape, job), False, changes, parts, seconds, judged)
    return Fit(card, plan_memory(shape, job), False)


def _judging_seconds(
    shape: ModelShape, job: Job, card: Card, plan: MemoryPlan, recipe: Recipe
) -> float | None:
    """Of the table at the end, with as many rows at once as an evaluation takes there."""
    from icpo_lite.rollout.engines.fitting_rows import GPU_ROWS, SHARE

    free = card.usable - sum(plan.stays.values()) - plan.context
    held = kv_bytes(shape, job, 1, job.width)
    rows = min(GPU_ROWS, max(1, int(SHARE * free) // held))
    return replies_seconds(shape, job, card, evaluation_replies(recipe), rows)


def _holds(card: Card, plan: MemoryPlan) -> bool:
    return plan.peak <= card.usable


def vllm_fit(shape: ModelShape, job: Job) -> str:
    """One line on the replies for which vLLM has room, "" without vLLM."""
    if not (job.keys.use_vllm and job.cuda):
        return ""
    rows = vllm_rows(shape, job)
    if rows < 1:
        return (
            "vLLM has no room for the keys and values of one reply; raise "
            "vllm_gpu_memory_utilization or use_vllm=false"
        )
    return f"vLLM computes {min(rows, job.rows)} of a step's {job.rows} replies at once"


def _fitting(card: Card, shape: ModelShape, job: Job) -> tuple[MemoryPlan, int]:
    """The plan with sampling split as far as the card needs it, and into how many parts."""
    plan, rows = plan_memory(shape, job), job.rows
    while not _holds(card, plan) and plan.highest.name == "sampling" and rows > 1:
        rows = max(1, rows // 2)
        plan = plan_memory(shape, replace(job, sampled_rows=rows))
    return plan, -(-job.rows // rows)


def _changes(job: Job) -> Iterator[tuple[tuple[str, ...], Job]]:
    """Overrides to try, and the job under each: memory knobs, then a smaller optimizer state and
    4-bit weights, and at last shorter completions, which change what is learned."""
    base: list[tuple[tuple[str, ...], Job]] = [((), job)]
    for override, changed in (
        ("gradient_checkpointing=true", {"gradient_checkpointing": True}),
        ("optim=adamw_8bit", {"optim": "adamw_8bit"}),
        ("load_in_4bit=true", {"load_in_4bit": True}),
    ):
        name, value = next(iter(changed.items()))
        said, last = base[-1]
        if getattr(job.keys, name) != value and not (
            name == "optim" and job.keys.optim != "adamw_torch"
        ):
            base.append(((*said, override), last.but(**changed)))
    said, last = base[-1]
    length = job.keys.max_completion_length // 2
    while length >= 64:
        override = f"max_completion_length={length}"
        base.append(((*said, override), last.but(max_completion_length=length)))
        length //= 2
    for overrides, changed_job in base:
        if overrides:
            yield overrides, changed_job
        size = changed_job.micro_batch
        while size > 1:
            size = 1 << ((size - 1).bit_length() - 1)  # the next lower power of two
            smaller = f"per_device_train_batch_size={size}"
            yield (*overrides, smaller), replace(changed_job, micro_batch=size)


# ------------------------------------------------------------------------------------- disk, time


@dataclass(frozen=True)
class Disk:
    """Bytes on the disk. checkpoints: how many lie there at most, one of them being written."""

    checkpoint: int
    checkpoints: int
    adapter: int
    download: int

    @property
    def output(self) -> int:
        return self.checkpoint * self.checkpoints + self.adapter


def disk_of(recipe: Recipe, shape: ModelShape, job: Job, *, local: bool) -> Disk:
    """What the run directory and the model's files take; tokenizer and logs are small beside it.

    The download is counted in 16 bit, as models are published. local: nothing is downloaded.
    """
    learned = lora_weights(shape, job) * job.lora_bytes
    start = sum(start_bytes(shape, job).values())
    # What begins as a part of the weight is saved as LoRA of twice the rank.
    adapter = learned * (2 if recipe.starts_in_base else 1)
    saved = -(-recipe.max_steps // recipe.save_steps)
    kept = min(recipe.save_total_limit or saved, saved)
    return Disk(
        # The adapter lies there twice: to resume from, and as files that peft loads.
        checkpoint=learned + start + adapter + optimizer_bytes(shape, job),
        checkpoints=min(kept + 1, saved),
        adapter=adapter,
        download=0 if local else 2 * sum(shape.parameters().values()),
    )


def measured_seconds(rows: Sequence[Mapping[str, Any]]) -> tuple[float, int] | None:
    """Median seconds of a step, and how many steps it is of; None where nothing was measured."""
    seconds = [
        float(row["step_seconds"])
        for row in rows
        if isinstance(row.get("step_seconds"), int | float)
    ]
    return (statistics.median(seconds), len(seconds)) if seconds else None


#: Facts of a usual problem: SHARDED and its like say one a turn.
USUAL_SHARDS = 5


def evaluation_replies(recipe: Recipe) -> int:
    """Replies of the table at the end, this run's and the base's, where no question ends early."""
    if not recipe.evaluation.enabled:
        return 0
    by_shards = {"sharded", "snowball", "recap"}
    turns = sum(USUAL_SHARDS if s in by_shards else 1 for s in recipe.evaluation.settings)
    return 2 * recipe.evaluation.problems * recipe.evaluation.runs * turns


def evaluation_seconds(recipe: Recipe, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Of that table, at the rate and reply length of a run's sampling; None where not measured."""
    wanted = ("sampling_seconds", "step_seconds", "tokens_per_second", "completions/mean_length")
    found = [row for row in rows if all(isinstance(row.get(name), int | float) for name in wanted)]
    found = [row for row in found if row["tokens_per_second"] > 0]
    if not found:
        return None
    a_token = statistics.median(
        row["sampling_seconds"] / (row["tokens_per_second"] * row["step_seconds"]) for row in found
    )
    length = statistics.median(row["completions/mean_length"] for row in found)
    return float(evaluation_replies(recipe) * length * a_token)


@dataclass(frozen=True)
class RunPlan:
    """All that `plan` says of a recipe. machine: how it fits the machine that this is."""

    recipe: Recipe
    shape: ModelShape
    source: str
    card: Card
    memory: MemoryPlan
    machine: Fit
    fits: tuple[Fit, ...]
    disk: Disk
    seconds: tuple[float, int] | None
    vllm: str = ""
    evaluation: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.recipe.model_name_or_path,
            "config": self.source,
            "planned_for": self.card.name,
            "stays_bytes": dict(self.memory.stays),
            "phases_bytes": {p.name: dict(p.parts) for p in self.memory.phases},
            "context_bytes": self.memory.context,
            "highest_phase": self.memory.highest.name,
            "tensor_bytes": self.memory.tensors,
            "peak_bytes": self.memory.peak,
            "this_machine": _fit_as_json(self.machine),
            "cards": [_fit_as_json(fit) for fit in self.fits],
            "disk_bytes": {
                "one_checkpoint": self.disk.checkpoint,
                "run_directory": self.disk.output,
                "download": self.disk.download,
            },
            "step_seconds": self.seconds[0] if self.seconds else None,
            "evaluation_replies": evaluation_replies(self.recipe),
            "evaluation_seconds": self.evaluation,
        }


def _fit_as_json(fit: Fit) -> dict[str, Any]:
    return {
        "card": fit.card.name,
        "usable_bytes": fit.card.usable,
        "peak_bytes": fit.plan.peak,
        "fits": fit.fits,
        "change": list(fit.changes),
        "sampling_parts": fit.parts,
        "estimated_step_seconds": fit.step_seconds,
        "estimated_evaluation_seconds": fit.evaluation_seconds,
    }


def plan_run(recipe: Recipe, folder: str, card: Card | None = None) -> RunPlan:
    """Plan a recipe for one card, or for this machine and all named ones.

    folder: the model's local folder, or its hub name. Without a card the components are those of
    this machine where the recipe fits it, else of the smallest card that holds it. Of an adapter
    that training begins from its configuration is read.
    """
    from icpo_lite.policy.start_adapter import with_own_keys

    recipe = with_own_keys(recipe)
    config, source = read_config(recipe.model_name_or_path, folder)
    shape = shape_of(config)
    machine = fit_on(card or this_machine(recipe.device), shape, recipe)
    cards = [card] if card else sorted(CARDS.values(), key=lambda c: c.usable)
    if card is None and recipe.device == "cpu":
        cards = []
    fits = tuple(fit_on(each, shape, recipe) for each in cards)
    all_fits = (machine, *fits)
    shown = next((fit.card for fit in all_fits if fit.fits), all_fits[-1].card)
    job = job_of(recipe, shown)
    try:
        rows = read_metrics(Path(recipe.output_dir))
    except IcpoError:  # a run directory that cannot be read says nothing of time
        rows = []
    return RunPlan(
        recipe=recipe,
        shape=shape,
        source=source,
        card=shown,
        memory=plan_memory(shape, job),
        machine=machine,
        fits=fits,
        disk=disk_of(recipe, shape, job, local=Path(folder).is_dir()),
        seconds=measured_seconds(rows),
        vllm=vllm_fit(shape, job),
        evaluation=evaluation_seconds(recipe, rows),
    )
