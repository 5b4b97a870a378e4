"""A recipe: one YAML file that says everything about a run.

    recipe = load_recipe("recipes/tiny.yaml", ["max_steps=20", "reward.targeted=0.8"])

Reading is strict: unknown and duplicate keys, wrong types and contradictions are refused with
one line that names the file, the line and the nearest name that exists. A recipe is data, never
code. Keys carry TRL's names where TRL has one; those of axolotl, LLaMA-Factory and unsloth are
either understood (`ALIASES`) or answered with the key to use (`EXPLAINED`).

`augment` and `reward` stay plain mappings here, because the rooms that own their options stand
higher; `Recipe.bind` checks them against the owner's options model, with file and line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from icpo_lite.endpoint import EndpointOptions
from icpo_lite.errors import RecipeError
from icpo_lite.types import TaskName

Options = TypeVar("Options")

COMMAND_LINE = "command line"
#: Keys that hold a block of options: a child recipe changes single options of its parent's block.
BLOCKS = ("augment", "reward", "endpoint", "evaluation")

#: Other programs' names for a key that means the same here.
ALIASES: Mapping[str, str] = {
    "base_model": "model_name_or_path",
    "model_name": "model_name_or_path",
    "model": "model_name_or_path",
    "dataset": "dataset_name",
    "dataset_path": "dataset_name",
    "dataset_split": "dataset_train_split",
    "torch_dtype": "dtype",
    "lora_rank": "lora_r",
    "lora_target": "lora_target_modules",
    "target_modules": "lora_target_modules",
    "micro_batch_size": "per_device_train_batch_size",
    "group_size": "num_generations",
    "max_new_tokens": "max_completion_length",
    "kl_coef": "beta",
    "cliprange": "epsilon",
    "optimizer": "optim",
    "lr": "learning_rate",
    "lr_scheduler": "lr_scheduler_type",
    "num_ppo_epochs": "num_iterations",
    "adam_beta_1": "adam_beta1",
    "adam_beta_2": "adam_beta2",
    "max_norm": "max_grad_norm",
}

_LENGTHS = "use max_prompt_length and max_completion_length, which add up to it"
_STEPS = "use max_steps: a step is prompts_per_step prompts"
_ONE_GPU = "leave it out: icpo-lite trains on one device"
_MODULE = "use reward_funcs: [file.py:function]"
#: Other programs' keys without an equal here, and what to write instead.
EXPLAINED: Mapping[str, str] = {
    "max_seq_length": _LENGTHS,
    "max_seq_len": _LENGTHS,
    "sequence_len": _LENGTHS,
    "cutoff_len": _LENGTHS,
    "max_length": _LENGTHS,
    "num_train_epochs": _STEPS,
    "num_epochs": _STEPS,
    "epochs": _STEPS,
    "warmup_ratio": "use warmup_steps: a value below 1 is a share of max_steps",
    "load_in_8bit": "use load_in_4bit: true, or false for 16 bit",
    "quantization_bit": "use load_in_4bit: true",
    "quantization": "use load_in_4bit: true",
    "adapter": "leave it out: training is always LoRA; load_in_4bit: true makes it QLoRA",
    "finetuning_type": "leave it out: training is always LoRA; load_in_4bit: true makes it QLoRA",
    "full_finetuning": "leave it out: training is always LoRA",
    "use_peft": "leave it out: training is always LoRA",
    "lora_target_linear": "use lora_target_modules: all-linear",
    "bf16": "use dtype: bfloat16",
    "fp16": "use dtype: float16",
    "tf32": "leave it out",
    "use_gradient_checkpointing": "use gradient_checkpointing: true",
    "flash_attention": "use attn_implementation: flash_attention_2",
    "flash_attn": "use attn_implementation: flash_attention_2",
    "sdp_attention": "use attn_implementation: sdpa",
    "datasets": "use dataset_name, dataset_config and dataset_train_split",
    "dataset_dir": "use dataset_name with the file's path",
    "template": "leave it out: the chat template of the tokenizer is used",
    "chat_template": "leave it out: the chat template of the tokenizer is used",
    "train_batch_size": "use prompts_per_step and num_generations",
    "batch_size": "use prompts_per_step and num_generations",
    "generation_batch_size": "use prompts_per_step times num_generations",
    "steps_per_generation": "use num_mini_batches",
    "ppo_epochs": "use num_iterations",
    "rl": "leave it out; loss_type names the objective",
    "stage": "leave it out; loss_type names the objective",
    "trl": "write its keys at the top level",
    "reward_model": _MODULE,
    "reward_functions": _MODULE,
    "use_vllm": "leave it out: responses are sampled by the trained model itself",
    "wandb_project": "use report_to: wandb and the variable WANDB_PROJECT",
    "use_wandb": "use report_to: wandb",
    "logging_dir": "leave it out: logs lie in output_dir",
    "push_to_hub": "use hub_model_id",
    "save_strategy": "use save_steps",
    "eval_steps": "leave it out; the evaluation block runs at the end",
    "eval_strategy": "use evaluation: {enabled: true}",
    "do_train": "leave it out",
    "deepspeed": _ONE_GPU,
    "fsdp": _ONE_GPU,
    "device_map": "use device",
    "share": "use share_underspecified",
}


# ------------------------------------------------------------------------------------ the keys


def _refuse(key: str, message: str) -> NoReturn:
    """Reject a combination of values, on the account of `key`."""
    raise PydanticCustomError("combination", "{message}", {"message": message, "key": key})


def _scale_rewards(value: Any) -> Any:
    """TRL also takes a truth value: true is `group`, false is `none`."""
    return {True: "group", False: "none"}[value] if isinstance(value, bool) else value


def _module_names(value: Any) -> Any:
    """`q_proj,v_proj` as on a command line; LLaMA-Factory's `all`."""
    if value == "all":
        return "all-linear"
    if isinstance(value, str) and value != "all-linear":
        return [name.strip() for name in value.split(",")]
    return value


def _or_none(value: Any) -> Any:
    """`null` and TRL's empty list mean the word `none`."""
    return "none" if value is None or value == [] else value


def _named_block(value: Any) -> Any:
    """`paper` is short for `{name: paper}`; options without a name are those of `guarded`."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": "guarded", **value} if isinstance(value, dict) else value


def _comparisons(value: Any) -> Any:
    """`[rlvr]` is short for `{rlvr: null}`."""
    return dict.fromkeys(value) if isinstance(value, list | tuple) else value


def _one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


_STRICT = ConfigDict(
    frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, validate_default=True
)
_Names = Annotated[tuple[str, ...], BeforeValidator(_one_as_list)]
_Setting = Literal["full", "concat", "sharded"]


class Evaluation(BaseModel):
    """The recipe's `evaluation` block: the table at the end of a run."""

    model_config = _STRICT

    enabled: bool = Field(True, description="whether `train` ends with the comparison table")
    settings: Annotated[tuple[_Setting, ...], BeforeValidator(_one_as_list)] = Field(
        ("full", "concat", "sharded"), min_length=1, description="any of full, concat, sharded"
    )
    problems: int = Field(100, ge=1, description="problems of the split that are judged")
    runs: int = Field(4, ge=1, description="conversations a problem and setting; 8 or more for A90")
    split: str = Field("test", description="split of the data set that is judged")
    temperature: float = Field(1.0, ge=0, description="sampling temperature; 0 is greedy")
    max_turns: int | None = Field(
        None, ge=1, description="most assistant turns of a conversation; null is one for each shard"
    )


class Recipe(BaseModel):
    """All that a run is made of. Made by `load_recipe`; every field has its own description."""

    model_config = _STRICT

    # Model
    model_name_or_path: str = Field(
        min_length=1,
        description="a folder, a hub name, or builtin:tiny, the model inside the package",
    )
    backend: Literal["auto", "transformers", "unsloth"] = Field(
        "auto", description="auto takes unsloth on an NVIDIA GPU where it is installed"
    )
    load_in_4bit: bool = Field(True, description="hold the frozen weights as NF4 (QLoRA)")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto, float32, bfloat16 or float16; auto asks the device"
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N"
    )
    attn_implementation: str | None = Field(
        None, description="sdpa, eager or flash_attention_2; null leaves it to transformers"
    )
    trust_remote_code: bool = Field(
        False, description="run Python code that comes with the model; read it first"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in backward: less memory, about a third slower"
    )

    # LoRA
    lora_r: int = Field(16, ge=1, description="rank of the LoRA matrices")
    lora_alpha: int | float = Field(32, gt=0, description="LoRA scale: its output counts alpha / r")
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout on LoRA's input; 0 keeps the ratio of log-probs exact"
    )
    lora_target_modules: Annotated[
        Literal["all-linear"] | tuple[str, ...], BeforeValidator(_module_names)
    ] = Field("all-linear", description="all-linear, or a list such as [q_proj, v_proj]")

    # Data
    dataset_name: str = Field(
        min_length=1,
        description="builtin:world, a .jsonl or .parquet file, or a hub data set",
    )
    dataset_config: str | None = Field(None, description="configuration of a hub data set")
    dataset_train_split: str = Field("train", min_length=1, description="split that is trained on")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="names of columns, where they differ: {question: problem, answer: solution}",
    )
    task: TaskName = Field("math", description="what is graded: math, actions, code or database")
    system_prompt: str | None = Field(
        None, description="system turn of every prompt; null sends none"
    )
    share_underspecified: float = Field(
        0.5, ge=0, le=1, description="share of prompts that lack a needed condition"
    )
    augment: dict[str, Any] = Field(
        default_factory=dict, description="options of how underspecified prompts are made"
    )

    # Reward
    reward: Annotated[dict[str, Any], BeforeValidator(_named_block)] = Field(
        {"name": "guarded"},
        description="guarded, paper or accuracy; or a block {name: guarded, targeted: 1.0}",
    )
    reward_funcs: _Names = Field(
        (), description="own rewards, added to it: [my_rewards.py:brevity]"
    )
    reward_weights: Annotated[tuple[float, ...], BeforeValidator(_one_as_list)] = Field(
        (), description="a weight for each of reward_funcs; empty is 1 for each"
    )
    judge: Literal["rules", "self", "endpoint"] = Field(
        "rules", description="who names a response's type: rules, self or endpoint"
    )
    endpoint: EndpointOptions | None = Field(
        None, description="an OpenAI-compatible server: {base_url: …, model: …, api_key_env: …}"
    )
    allow_code_execution: bool = Field(
        False, description="run generated code in a sandbox to grade it"
    )

    # Sampling
    prompts_per_step: int = Field(16, ge=1, description="prompts of one optimisation batch")
    num_generations: int = Field(8, ge=2, description="responses sampled for each prompt")
    max_prompt_length: int = Field(
        512, ge=1, description="tokens of the longest prompt; longer ones are an error"
    )
    max_completion_length: int = Field(
        1024, ge=1, description="tokens of the longest response; longer ones are cut off"
    )
    temperature: float = Field(1.0, gt=0, description="sampling temperature in training")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling; 1 is off")
    top_k: int = Field(0, ge=0, description="sample from the k likeliest tokens; 0 is off")

    # Objective
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo"] = Field(
        "dapo", description="grpo, bnpo, dr_grpo, dapo or cispo: how token losses are averaged"
    )
    importance_sampling_level: Literal["token", "sequence"] = Field(
        "token", description="token, or sequence (GSPO)"
    )
    epsilon: float = Field(0.2, gt=0, lt=1, description="the ratio is clipped at 1 - epsilon")
    epsilon_high: float | None = Field(
        0.28,
        gt=0,
        description="… and at 1 + epsilon_high; null is epsilon; under cispo the ratio's cap",
    )
    delta: float | None = Field(
        None, gt=1, description="upper bound of the ratio for negative advantages; null is off"
    )
    beta: float = Field(0.0, ge=0, description="weight of the KL divergence from the base model")
    scale_rewards: Annotated[Literal["group", "batch", "none"], BeforeValidator(_scale_rewards)] = (
        Field("group", description="what divides an advantage: group's std, batch's std, or none")
    )
    mask_truncated_completions: bool = Field(
        False, description="leave cut-off responses out of the loss"
    )
    drop_zero_variance: bool = Field(
        True, description="leave out groups whose rewards are all equal: they teach nothing"
    )

    # Optimisation
    learning_rate: float = Field(
        1e-5, gt=0, description="peak learning rate; LoRA takes about 10 times full fine-tuning's"
    )
    lr_scheduler_type: Literal["linear", "constant", "cosine"] = Field(
        "linear", description="linear, constant or cosine"
    )
    min_lr_ratio: float = Field(
        0.0, ge=0, le=1, description="where the schedule ends, as a share of learning_rate"
    )
    warmup_steps: int | float = Field(
        0, ge=0, description="steps of linear warm-up; a value below 1 is a share of max_steps"
    )
    per_device_train_batch_size: int | None = Field(
        None,
        ge=1,
        description="completions a forward pass: a memory knob that never changes the result; "
        "null is the whole mini-batch",
    )
    gradient_accumulation_steps: int | None = Field(
        None, ge=1, description="derived from the batch sizes; a value that disagrees is refused"
    )
    num_mini_batches: int = Field(
        1, ge=1, description="optimiser steps that one batch of responses is split into"
    )
    num_iterations: int = Field(1, ge=1, description="passes over one batch of responses")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first decay rate")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's second decay rate")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    max_grad_norm: float = Field(
        1.0, ge=0, description="the gradient is clipped to this norm; 0 is off"
    )
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw_torch", description="adamw_torch, or bitsandbytes' adamw_8bit, paged_adamw_8bit"
    )
    max_steps: int = Field(200, ge=1, description="steps of the whole run")
    seed: int = Field(0, ge=0, description="seed of data order, initial LoRA and sampling")

    # Output
    output_dir: str = Field(
        "runs/icpo", min_length=1, description="the run directory; by default runs/<recipe's name>"
    )
    save_steps: int = Field(50, ge=1, description="steps between checkpoints")
    save_total_limit: int | None = Field(
        2, ge=1, description="checkpoints that are kept; null is all"
    )
    resume_from_checkpoint: bool | str | None = Field(
        None,
        description="null resumes where a run was interrupted; true insists on it, false refuses "
        "to; or a checkpoint's folder",
    )
    logging_steps: int = Field(1, ge=1, description="steps between lines of progress")
    log_completions_steps: int = Field(
        10, ge=0, description="steps between printed examples; 0 is never"
    )
    report_to: Annotated[
        Literal["none", "tensorboard", "wandb", "trackio"], BeforeValidator(_or_none)
    ] = Field("none", description="none, tensorboard, wandb or trackio, beside metrics.jsonl")
    hub_model_id: str | None = Field(
        None, description="hub repository that the adapter is pushed to; null pushes nothing"
    )

    # Judging
    compare: Annotated[dict[str, str | None], BeforeValidator(_comparisons)] = Field(
        default_factory=dict,
        description="runs trained beside this one: {rlvr: other.yaml}; [rlvr] makes the twin "
        "without underspecified prompts",
    )
    evaluation: Evaluation = Field(
        default_factory=Evaluation, description="the table at the end of the run"
    )

    _places: dict[str, str] = PrivateAttr(default_factory=dict)
    _path: Path = PrivateAttr(default=Path("recipe"))
    _overrides: tuple[str, ...] = PrivateAttr(default=())

    def __eq__(self, other: object) -> bool:
        """Equal keys; where they were written does not matter."""
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    @property
    def path(self) -> Path:
        """The file that was read."""
        return self._path

    @property
    def folder(self) -> Path:
        """The recipe's folder: user files are found from here and may not leave it."""
        return self._path.parent

    def where(self, key: str) -> str:
        """`file:line` of a key (`reward.targeted`), of its block, or the file where it is unset."""
        return _place(self._places, key, self._path)

    def bind(self, key: str, options: type[Options], *, skip: Sequence[str] = ()) -> Options:
        """The block `key` as an options model or dataclass, checked; RecipeError with its line.

        skip: entries of the block that are not options, such as `name`.
        """
        block = {k: v for k, v in getattr(self, key).items() if k not in skip}
        names = _field_names(options)
        for name in block:
            if name not in names:
                raise RecipeError(_unknown(f"{key}.{name}", names, self.where(f"{key}.{name}")))
        try:
            return TypeAdapter(options).validate_python(block)
        except ValidationError as error:
            raise RecipeError(_first_error(error, self.where, prefix=key)) from None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        self._check_batch()
        self._check_objective()
        self._check_schedule()
        self._check_reward()
        if self.backend == "unsloth" and self.device == "cpu":
            _refuse("backend", "unsloth needs an NVIDIA GPU; set backend: auto, or device: auto")
        return self

    def _check_batch(self) -> None:
        if self.prompts_per_step % self.num_mini_batches:
            _refuse(
                "num_mini_batches",
                f"prompts_per_step {self.prompts_per_step} is not a multiple of num_mini_batches "
                f"{self.num_mini_batches}; a mini-batch holds whole groups",
            )
        rows = self.prompts_per_step * self.num_generations // self.num_mini_batches
        passes = -(-rows // (self.per_device_train_batch_size or rows))
        if self.gradient_accumulation_steps not in (None, passes):
            size = (
                f"per_device_train_batch_size {self.per_device_train_batch_size}"
                if self.per_device_train_batch_size
                else f"per_device_train_batch_size null, the whole mini-batch of {rows}"
            )
            _refuse(
                "gradient_accumulation_steps",
                f"{self.prompts_per_step} prompts x {self.num_generations} generations / "
                f"{self.num_mini_batches} mini-batches = {rows} completions, with {size}, makes "
                f"{passes} accumulation steps, found {self.gradient_accumulation_steps}; "
                "leave the key out, it is derived",
            )
        self.__dict__["gradient_accumulation_steps"] = passes

    def _check_objective(self) -> None:
        high = self.epsilon_high
        if self.loss_type == "cispo" and (high is None or high <= 1):
            _refuse(
                "epsilon_high" if high is not None else "loss_type",
                f"cispo caps the ratio itself at epsilon_high, which must be above 1, found "
                f"{high}; set epsilon_high: 5.0",
            )
        if self.loss_type == "cispo" and self.importance_sampling_level == "sequence":
            _refuse("importance_sampling_level", "cispo is defined for tokens; set it to token")
        upper = 1 + (self.epsilon if high is None else high)
        if self.delta is not None and self.delta <= upper:
            _refuse(
                "delta",
                f"expected delta above 1 + epsilon_high = {upper:g}, found {self.delta:g}; "
                "a smaller one would never let the clip act",
            )

    def _check_schedule(self) -> None:
        if self.warmup_steps >= 1 and self.warmup_steps != int(self.warmup_steps):
            _refuse(
                "warmup_steps",
                f"expected a whole number of steps or a share below 1, found {self.warmup_steps:g}",
            )
        if self.warmup_steps >= 1 and self.warmup_steps > self.max_steps:
            _refuse(
                "warmup_steps",
                f"warmup_steps {self.warmup_steps:g} is above max_steps {self.max_steps}, so that "
                "learning_rate is never reached; a share such as warmup_steps: 0.05 always fits",
            )

    def _check_reward(self) -> None:
        name = self.reward.get("name")
        if not isinstance(name, str) or not name:
            _refuse("reward", "expected a reward's name, such as reward: {name: guarded}")
        if self.reward_weights and len(self.reward_weights) != len(self.reward_funcs):
            _refuse(
                "reward_weights",
                f"expected a weight for each of the {len(self.reward_funcs)} reward_funcs, found "
                f"{len(self.reward_weights)}",
            )
        for function in self.reward_funcs:
            if not re.fullmatch(r"[^:]+\.py:[A-Za-z_]\w*", function):
                _refuse("reward_funcs", f"expected file.py:function, found {function!r}")
        if self.judge == "endpoint" and self.endpoint is None:
            _refuse("judge", "judge: endpoint needs the block endpoint: {base_url: …, model: …}")
        if self.task == "code" and not self.allow_code_execution:
            _refuse("task", "grading code runs it; set allow_code_execution: true to agree")

    @property
    def warmup(self) -> int:
        """Steps of warm-up, `warmup_steps` as a whole number."""
        if self.warmup_steps >= 1:
            return int(self.warmup_steps)
        return round(self.warmup_steps * self.max_steps)


# ------------------------------------------------------------------------------------- loading


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by name (`tiny`), and apply `key=value` overrides.

    Raises RecipeError, one line with file and line number, on anything that is not understood.
    """
    path = _find(str(path_or_name), Path())
    layer = _read_with_parents(path, ())
    for override in overrides:
        layer = _merged(layer, _override_layer(override))
    layer.values.setdefault("output_dir", f"runs/{path.stem}")
    recipe = _validated(layer, path)
    recipe._overrides = tuple(overrides)
    return recipe


def compared_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes that `compare` names, ready to be trained beside this one.

    Overrides given for this recipe hold for them too, but not for a key that their own file
    sets: that key is what they differ in. Each writes to `<output_dir>-<name>`.
    """
    return {name: _compared(recipe, name, file) for name, file in recipe.compare.items()}


def resolved_yaml(recipe: Recipe) -> str:
    """The recipe with every default filled in, as YAML that `load_recipe` reads back equal."""
    return dump_yaml(recipe.model_dump(mode="json", exclude={"gradient_accumulation_steps"}))


def dump_yaml(values: Mapping[str, Any], *, blocks: bool = True) -> str:
    """YAML as `load_recipe` reads it; without `blocks`, innermost lists stand in brackets."""
    return yaml.dump(
        dict(values),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False if blocks else None,
        width=10_000,
    )


def shipped_recipes() -> dict[str, Path]:
    """Name → file of the recipes that come with the package."""
    package = Path(__file__).resolve().parent
    inside = package / "recipes"  # a wheel; a checkout keeps them beside the package
    folder = inside if inside.is_dir() else package.parent / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


@dataclass(frozen=True)
class _Layer:
    """Keys of one file or override, and `file:line` of each key by dotted name."""

    values: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)


def _find(name: str, folder: Path) -> Path:
    """A file by path from `folder`, else a shipped recipe by name."""
    path = folder / Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_recipes()
    stem = name.removesuffix(".yaml")
    if stem in shipped:
        return shipped[stem]
    raise RecipeError(
        f"expected a recipe file or a shipped recipe ({', '.join(shipped)}), found neither for "
        f"{name!r}{_nearest(stem, shipped)}"
    )


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> _Layer:
    """A file's keys over those of the recipe it extends."""
    chain = (*children, path.resolve())
    if path.resolve() in children:
        raise RecipeError(f"extends runs in a circle: {' -> '.join(p.name for p in chain)}")
    layer = _canonical(_read_file(path))
    parent = layer.values.pop("extends", None)
    if parent is None:
        return layer
    if not isinstance(parent, str):
        raise RecipeError(
            f"{layer.places['extends']}: expected extends: other.yaml, found {parent!r}"
        )
    try:
        parent_path = _find(parent, path.parent)
    except RecipeError as error:
        raise RecipeError(f"{layer.places['extends']}: extends: {error}") from None
    return _merged(_read_with_parents(parent_path, chain), layer)


def _read_file(path: Path) -> _Layer:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: expected a UTF-8 text file, found other bytes") from None
    node = _composed(text, str(path))
    if node is None:
        return _Layer({})
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(f"{path}:{_line(node)}: expected `key: value` lines, found {text[:40]!r}")
    places: dict[str, str] = {}
    _remember_places(node, str(path), "", places)
    values = _constructed(node, text, str(path))
    values.pop("<<", None)
    return _Layer(values, places)


def _override_layer(override: str) -> _Layer:
    """`reward.targeted=0.8` as a layer; the value is read as YAML."""
    dotted, separator, text = override.partition("=")
    parts = dotted.strip().split(".")
    if not separator or not all(parts):
        raise RecipeError(
            f"{COMMAND_LINE}: expected key=value, such as max_steps=20, found {override!r}"
        )
    if parts[0] == "extends":
        raise RecipeError(f"{COMMAND_LINE}: extends stands in a recipe file, not in an override")
    try:
        node = _composed(text, COMMAND_LINE)
        value = None if node is None else _constructed(node, text, COMMAND_LINE)
    except RecipeError:
        raise RecipeError(
            f"{COMMAND_LINE}: expected a YAML value in {override!r}; put text in quotes: "
            f"{dotted}='\"…\"'"
        ) from None
    for part in reversed(parts[1:]):
        value = {part: value}
    names = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return _canonical(_Layer({parts[0]: value}, dict.fromkeys(names, COMMAND_LINE)))


def _canonical(layer: _Layer) -> _Layer:
    """The layer under our own names; unknown and doubly named keys are refused."""
    known = {*Recipe.model_fields, "extends"}
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for key, value in layer.values.items():
        name = key if key in known else ALIASES.get(key)
        place = layer.places.get(key, "")
        if name is None:
            if key in EXPLAINED:
                raise RecipeError(f"{place}: {key} is not a key of icpo-lite; {EXPLAINED[key]}")
            raise RecipeError(_unknown(key, [*known, *ALIASES], place))
        if name in values:
            raise RecipeError(f"{place}: {key} and {name} name the same key; keep one")
        values[name] = value
        for dotted, where in layer.places.items():
            if dotted == key or dotted.startswith(f"{key}."):
                places[name + dotted[len(key) :]] = where
    return _Layer(values, places)


def _merged(base: _Layer, top: _Layer) -> _Layer:
    """`top` over `base`: blocks option by option, every other key as a whole."""
    values, places = dict(base.values), dict(base.places)
    for key, value in top.values.items():
        old = _as_block(key, values.get(key))
        new = _as_block(key, value)
        if _same_block(key, old, new):
            values[key] = {**old, **new}
        else:
            values[key] = value
            places = {k: v for k, v in places.items() if not k.startswith(f"{key}.")}
    return _Layer(values, {**places, **top.places})


def _as_block(key: str, value: Any) -> Any:
    return _named_block(value) if key == "reward" else value


def _same_block(key: str, old: Any, new: Any) -> bool:
    """Whether `new` changes options of `old`; another name begins a block of its own."""
    if not (isinstance(old, dict) and isinstance(new, dict)) or key not in BLOCKS:
        return False
    return "name" not in new or new["name"] == old.get("name")


def _validated(layer: _Layer, path: Path) -> Recipe:
    try:
        recipe = Recipe.model_validate(layer.values)
    except ValidationError as error:
        where = partial(_place, layer.places, otherwise=path)
        raise RecipeError(_first_error(error, where)) from None
    recipe._path = path
    recipe._places = layer.places
    return recipe


def _place(places: Mapping[str, str], key: str, otherwise: Path) -> str:
    """Where `a.b.c` was written, or the nearest block around it that has a place."""
    while key:
        if key in places:
            return places[key]
        key = key.rpartition(".")[0]
    return str(otherwise)


def _compared(recipe: Recipe, name: str, file: str | None) -> Recipe:
    output_dir = f"{recipe.output_dir.rstrip('/')}-{name}"
    if file is None:
        if name != "rlvr":
            raise RecipeError(
                f"{recipe.where('compare')}: only rlvr can be compared without a recipe of its "
                f"own; write compare: {{{name}: file.yaml}}"
            )
        twin = recipe.model_dump(exclude={"gradient_accumulation_steps"}) | {
            "reward": "accuracy",
            "share_underspecified": 0.0,
            "compare": {},
            "output_dir": output_dir,
            "hub_model_id": None,
        }
        return _validated(_Layer(twin, recipe._places), recipe.path)
    try:
        path = _find(file, recipe.folder)
    except RecipeError as error:
        raise RecipeError(f"{recipe.where(f'compare.{name}')}: {error}") from None
    own = _canonical(_read_file(path)).values
    kept = [o for o in recipe._overrides if _override_key(o) not in {*own, "compare"}]
    other = load_recipe(path, kept)
    return other.model_copy(update={"output_dir": output_dir, "compare": {}})


def _override_key(override: str) -> str:
    key = override.partition("=")[0].partition(".")[0].strip()
    return ALIASES.get(key, key)


# ---------------------------------------------------------------------------------------- YAML

#: `1e-5`, which YAML 1.1 and so PyYAML read as a string for want of a point.
_EXPONENT = re.compile(r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    """Shares the loader's reading of numbers, so that the text "1e-5" is dumped in quotes."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def _composed(text: str, name: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    except yaml.YAMLError as error:
        raise RecipeError(_yaml_problem(error, name)) from None
    except RecursionError:
        raise RecipeError(f"{name}: expected a recipe, found brackets nested too deep") from None
    finally:
        loader.dispose()
    if node is not None:
        _refuse_odd_keys(node, name, set(), frozenset())
    return node


def _constructed(node: yaml.Node, text: str, name: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(_yaml_problem(error, name)) from None
    finally:
        loader.dispose()


def _refuse_odd_keys(node: yaml.Node, name: str, done: set[int], above: frozenset[int]) -> None:
    """Every key must be a word, written once (PyYAML lets the last one win), outside itself."""
    if id(node) in above:
        raise RecipeError(f"{name}:{_line(node)}: expected a value, found a reference to itself")
    if id(node) in done:
        return
    if isinstance(node, yaml.MappingNode):
        _refuse_duplicates(node, name)
        children = [value for _, value in node.value]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    for child in children:
        _refuse_odd_keys(child, name, done, above | {id(node)})
    done.add(id(node))


def _refuse_duplicates(node: yaml.MappingNode, name: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith((":str", ":merge")):
            raise RecipeError(f"{name}:{_line(key)}: expected a word as key, found {key.value!r}")
        if key.value in lines:
            raise RecipeError(
                f"{name}:{_line(key)}: {key.value} is written twice, first on line "
                f"{lines[key.value]}; keep one"
            )
        lines[key.value] = _line(key)


def _remember_places(
    node: yaml.MappingNode, name: str, prefix: str, places: dict[str, str], depth: int = 3
) -> None:
    for key, value in node.value:
        dotted = f"{prefix}{key.value}"
        places[dotted] = f"{name}:{_line(key)}"
        if isinstance(value, yaml.MappingNode) and depth > 1:
            _remember_places(value, name, f"{dotted}.", places, depth - 1)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _yaml_problem(error: Exception, name: str) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{name}: expected YAML, found {' '.join(str(error).split())}"
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}" if mark else name
    return f"{place}: expected YAML, found a problem: {error.problem or error.context}"


# -------------------------------------------------------------------------------------- errors


def _nearest(word: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown(dotted: str, names: Iterable[str], place: str) -> str:
    block, _, key = dotted.rpartition(".")
    names = list(names)
    hint = _nearest(key, names)
    if not hint and block:
        hint = f"; expected one of {', '.join(names)}"
    return f"{place}: unknown key {dotted}{hint or '; `icpo-lite init` writes all keys'}"


def _field_names(options: type[Any]) -> list[str]:
    fields: Mapping[str, Any] = (
        getattr(options, "model_fields", None)
        or getattr(options, "__dataclass_fields__", None)
        or {}
    )
    return list(fields)


def _first_error(error: ValidationError, where: Callable[[str], str], prefix: str = "") -> str:
    """One line for the first of pydantic's complaints, and how many more there are."""
    details = error.errors(include_url=False)
    first = details[0]
    key = str(first.get("ctx", {}).get("key", "")) or _key_of(first, prefix)
    more = len({str(d["loc"][:1]) for d in details}) - 1
    rest = f" (and {more} more)" if more > 0 else ""
    return f"{where(key)}: {_complaint(first, key)}{rest}"


def _key_of(detail: ErrorDetails, prefix: str) -> str:
    """The dotted name of the key; indices of lists and names of union members are left out."""
    path = [str(part) for part in detail["loc"]]
    if prefix:
        path.insert(0, prefix)
    return ".".join(path[: 2 if path and path[0] in (*BLOCKS, "columns", "compare") else 1])


def _complaint(detail: ErrorDetails, key: str) -> str:
    kind, found = detail["type"], detail["input"]
    if kind == "combination":
        return f"{key}: {detail['msg']}"
    if kind == "missing":
        return f"{key} is missing; add it, or start from a recipe that `icpo-lite init` writes"
    if kind == "extra_forbidden":
        block = key.partition(".")[0]
        models: dict[str, type[BaseModel]] = {"evaluation": Evaluation, "endpoint": EndpointOptions}
        names = models[block].model_fields if block in models else ()
        return _unknown(key, names, "").removeprefix(": ")
    if kind == "value_error":
        return f"{key}: {detail['msg'].removeprefix('Value error, ')}"
    message = detail["msg"].removeprefix("Input should be ")
    hint = ""
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", message)
        message = f"one of {', '.join(choices)}"
        hint = _nearest(str(found), choices)
    return f"{key}: expected {message}, found {repr(found)[:80]}{hint}"
