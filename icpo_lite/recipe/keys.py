"""The keys of a recipe, what each means, and which values contradict each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from icpo_lite.core.endpoint import EndpointOptions
from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import TaskName
from icpo_lite.recipe.messages import field_names, first_error, place_of, unknown_key
from icpo_lite.recipe.sections import (
    DEFAULT_REWARD,
    Evaluation,
    _comparisons,
    _Finding,
    _Keys,
    _module_names,
    _named_block,
    _named_schedule,
    _Names,
    _one_as_list,
    _refuse,
    _scale_rewards,
    _Setting,
    _trackers,
)

Options = TypeVar("Options")


class Recipe(_Keys):
    """All that a run is made of. Made by `load_recipe`; every field has its own description."""

    # Model
    model_name_or_path: str = Field(
        min_length=1,
        description="a folder, a hub name, or builtin:tiny, the model inside the package",
    )
    backend: Literal["auto", "unsloth", "transformers"] = Field(
        "auto", description="auto, unsloth or transformers; auto takes unsloth where it can run"
    )
    load_in_4bit: bool = Field(True, description="hold the frozen weights as NF4 (QLoRA)")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto, float32, bfloat16 or float16; auto asks the device"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
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
    lora_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="float32, or bfloat16: half the memory, and small updates are rounded away",
    )

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
    task: TaskName = Field(
        "math",
        description="what is graded: math, actions, code, database, or open (nothing is)",
    )
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
        {"name": DEFAULT_REWARD},
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
    grading: dict[str, Any] = Field(
        default_factory=dict,
        description="options of the graders, such as {math_rule: compat} for LiC's own rule",
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

    engine: Literal["auto", "native", "generate", "continuous", "unsloth", "vllm"] = Field(
        "auto",
        description="who samples: native, generate or continuous (transformers'), unsloth, vllm; "
        "auto tries those at hand and takes the fastest",
    )
    use_vllm: bool = Field(
        False, description="load vLLM beside the model, through unsloth, and sample with it"
    )

    # Objective
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"] = (
        Field(
            "dapo",
            description="grpo, bnpo, dr_grpo, dapo, cispo, sapo, luspo or vespo: a token's loss, "
            "and how token losses are averaged",
        )
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
    use_bias_correction_kl: bool = Field(
        False, description="multiply the KL term by the ratio, which mends its gradient"
    )
    sapo_temperature_pos: float = Field(1.0, gt=0, description="sapo: gate where the advantage > 0")
    sapo_temperature_neg: float = Field(1.05, gt=0, description="sapo: … and where it is not")
    vespo_k_pos: float = Field(2.0, ge=0, description="vespo: exponent where the advantage >= 0")
    vespo_lambda_pos: float = Field(3.0, ge=0, description="vespo: decay where it is >= 0")
    vespo_k_neg: float = Field(3.0, ge=0, description="vespo: exponent where it is below 0")
    vespo_lambda_neg: float = Field(2.0, ge=0, description="vespo: decay where it is below 0")
    importance_sampling_correction: bool = Field(
        False, description="weigh tokens by how training and sampling log-probs differ (TIS)"
    )
    importance_sampling_mode: Literal[
        "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"
    ] = Field(
        "token_truncate", description="cut that ratio off, or mask what is outside its bounds"
    )
    importance_sampling_clip_max: float | None = Field(
        3.0, gt=0, description="upper bound of that ratio; null is none"
    )
    importance_sampling_clip_min: float | None = Field(
        None, ge=0, description="lower bound of that ratio; null is none"
    )
    scale_rewards: Annotated[Literal["group", "batch", "none"], BeforeValidator(_scale_rewards)] = (
        Field("group", description="what divides an advantage: group's std, batch's std, or none")
    )
    mask_truncated_completions: bool = Field(
        False, description="leave cut-off responses out of the loss"
    )
    drop_zero_variance: bool = Field(
        True, description="leave out groups whose rewards are all equal: they teach nothing"
    )
    dynamic_sampling: bool = Field(
        False, description="sample further prompts in place of groups whose rewards are all equal"
    )
    max_refills: int = Field(
        3, ge=1, description="dynamic_sampling: times that a step is refilled at most"
    )
    keep_share: bool = Field(
        True, description="dynamic_sampling: refill each kind of prompt by itself, or either"
    )
    soft_punish_cache: int | None = Field(
        None,
        ge=1,
        description="tokens below max_completion_length over which DAPO's length penalty grows to "
        "1; null is none",
    )
    entropy_coef: float = Field(
        0.0, ge=0, description="weight of the entropy bonus; the start where it is steered"
    )
    entropy_target: float | None = Field(
        None, gt=0, description="entropy in nats a token that entropy_coef is steered to"
    )
    entropy_coef_delta: float = Field(
        0.005, gt=0, description="entropy_target: how far entropy_coef moves a step"
    )
    entropy_coef_min: float = Field(0.0, ge=0, description="entropy_target: lowest entropy_coef")
    entropy_coef_max: float = Field(1.0, gt=0, description="entropy_target: highest entropy_coef")
    top_entropy_quantile: float = Field(
        1.0, gt=0, le=1, description="train on this share of tokens, those of highest entropy"
    )
    clip_cov: float | None = Field(
        None, gt=0, lt=1, description="Clip-Cov: share of tokens left out, 2e-4 in the paper"
    )
    clip_cov_low: float = Field(1.0, description="clip_cov: least covariance of those tokens")
    clip_cov_high: float = Field(5.0, description="clip_cov: … and largest")
    kl_cov: float | None = Field(
        None, gt=0, lt=1, description="KL-Cov: share of tokens held back, 2e-3 in the paper"
    )
    kl_cov_coef: float = Field(1.0, gt=0, description="kl_cov: weight of what holds them back")
    off_policy_mask_threshold: float | None = Field(
        None,
        gt=0,
        description="leave out disliked responses that the policy has moved away from by more "
        "than this, in nats a token",
    )
    demonstrations: Literal["none", "rl_plus", "hpt"] = Field(
        "none",
        description="none; rl_plus: the corpus's solution joins the group; hpt: it replaces a "
        "group that fails",
    )
    demonstration_exponent: float = Field(
        0.5, ge=0, description="rl_plus: weight of unlikely tokens of a solution"
    )
    hpt_gate: float = Field(
        0.0, ge=0, lt=1, description="hpt: a group fails when at most this share of it is right"
    )
    share_schedule: Annotated[dict[str, Any], BeforeValidator(_named_schedule)] = Field(
        {"name": "constant"},
        description="how share_underspecified moves: constant, {name: linear, last: 0.2}, or "
        "{name: adaptive, low: 0.1, high: 0.5}, which goes by what was measured",
    )
    underspecified_weight: float = Field(
        1.0, ge=0, description="factor of the advantages of underspecified prompts"
    )
    weight_schedule: Annotated[dict[str, Any], BeforeValidator(_named_schedule)] = Field(
        {"name": "constant"}, description="how underspecified_weight moves, as share_schedule"
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
        description="completions a forward pass: a memory knob that never changes the result "
        "(but bnpo's, by its definition); null is the whole mini-batch",
    )
    gradient_accumulation_steps: int | None = Field(
        None, ge=1, description="derived from the batch sizes; a value that disagrees is refused"
    )
    share_prompts: Literal["auto"] | bool = Field(
        "auto",
        description="compute a group's prompt once in training: true, false, or auto, where it "
        "is faster",
    )
    num_mini_batches: int = Field(
        1, ge=1, description="optimiser steps that one batch of responses is split into"
    )
    num_iterations: int = Field(1, ge=1, description="passes over one batch of responses")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first decay rate")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's second decay rate")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    max_grad_norm: float = Field(1.0, gt=0, description="the gradient is clipped to this norm")
    max_skipped_updates: int = Field(
        5,
        ge=1,
        description="updates in a row that may be skipped because a log-prob, a loss or a gradient "
        "is NaN or infinite; so many stop the run",
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
    save_minutes: float | None = Field(
        15.0,
        gt=0,
        description="minutes without a checkpoint after which one is made; null: never",
    )
    mirror_dir: str | None = Field(
        None,
        min_length=1,
        description="a second directory, such as a mounted Drive: the run is copied to a folder "
        "of its name there after each checkpoint, and brought back where output_dir is gone",
    )
    rehearse: bool | None = Field(
        None,
        description="one step of the longest prompt and full-length responses before the first, to "
        "measure memory and time; it changes no weight; null does it on a GPU",
    )
    save_total_limit: int | None = Field(
        2, ge=1, description="checkpoints that are kept; null is all"
    )
    resume_from_checkpoint: bool | str | None = Field(
        None,
        description="null resumes where a run was interrupted; true insists on it, false refuses "
        "to; or a checkpoint's folder",
    )
    stop_on: Annotated[tuple[_Finding, ...], BeforeValidator(_one_as_list)] = Field(
        (),
        description="findings that end the run, its work saved: any of always_asks, never_asks, "
        "entropy_collapse, cannot_solve, cut_off, flat_rewards, clipped_tokens, sampler_differs",
    )
    logging_steps: int = Field(1, ge=1, description="steps between lines of progress")
    log_completions_steps: int = Field(
        10, ge=0, description="steps between printed examples; 0 is never"
    )

    report_to: Annotated[
        tuple[Literal["tensorboard", "wandb", "trackio"], ...], BeforeValidator(_trackers)
    ] = Field((), description="also log to any of tensorboard, wandb, trackio; empty is none")
    hub_model_id: str | None = Field(
        None, description="hub repository of `icpo-lite export --push`; training uploads nothing"
    )

    # Judging
    eval_steps: int | None = Field(
        None, ge=1, description="steps between small evaluations while training; null: none"
    )
    eval_dataset_name: str | None = Field(
        None, description="file or hub data set for them; null is the recipe's own"
    )
    eval_split: str = Field(
        "dev",
        min_length=1,
        description="split for them; not that of `evaluation`, whose table "
        "would then be of problems that chose the best checkpoint",
    )
    eval_problems: int = Field(30, ge=1, description="problems of a small evaluation")
    eval_runs: int = Field(1, ge=1, description="conversations a problem and setting in it")
    eval_settings: Annotated[tuple[_Setting, ...], BeforeValidator(_one_as_list)] = Field(
        ("full", "sharded", "underspecified"),
        min_length=1,
        description="settings of a small evaluation, as in evaluation.settings",
    )
    metric_for_best_model: str = Field(
        "P",
        min_length=1,
        description="figure of the small evaluation that says which checkpoint is best and stays: "
        "P (mean over settings), sharded/P, over_asking_rate, ...; those named eval/ in "
        "metrics.jsonl",
    )
    greater_is_better: bool | None = Field(
        None,
        description="null: yes, but for U, turns, lucky, over_asking_rate and non_answer_rate",
    )
    load_best_model_at_end: bool = Field(
        False, description="end with the best checkpoint's weights instead of the last step's"
    )
    early_stopping_patience: int | None = Field(
        None, ge=1, description="small evaluations without a new best that end the run; null: never"
    )
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
        return place_of(self._places, key, self._path)

    def bind(
        self, key: str, options: type[Options], *, skip: Sequence[str] = (), **defaults: Any
    ) -> Options:
        """The block `key` as an options model or dataclass, checked; RecipeError with its line.

        skip: entries of the block that are not options, such as `name`. defaults: options that
        come from other keys, where the block does not say otherwise.
        """
        block = defaults | {k: v for k, v in getattr(self, key).items() if k not in skip}
        names = field_names(options)
        for name in block:
            if name not in names:
                raise RecipeError(unknown_key(f"{key}.{name}", names, self.where(f"{key}.{name}")))
        try:
            return TypeAdapter(options).validate_python(block)
        except ValidationError as error:
            raise RecipeError(first_error(error, self.where, prefix=key)) from None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        self._check_batch()
        self._check_objective()
        self._check_sampling()
        self._check_schedule()
        self._check_reward()
        self._check_device()
        self._check_small_evaluations()
        return self

    def _check_small_evaluations(self) -> None:
        if self.eval_steps is None:
            for key in ("load_best_model_at_end", "early_stopping_patience"):
                if getattr(self, key):
                    _refuse(key, f"{key} goes by small evaluations; set eval_steps: 20 or so")
        elif self.evaluation.enabled and (
            (self.eval_dataset_name or self.dataset_name, self.eval_split)
            == (self.evaluation.dataset_name or self.dataset_name, self.evaluation.split)
        ):
            _refuse(
                "eval_split",
                f"expected another split than evaluation.split {self.eval_split!r}: problems that "
                "choose the best checkpoint cannot judge it; set eval_split: dev",
            )

    def _check_device(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            _refuse("device", f"expected auto, cpu, cuda or cuda:N, found {self.device!r}")

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
                "epsilon_high" if "epsilon_high" in self.model_fields_set else "loss_type",
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

    def _check_sampling(self) -> None:
        if self.use_vllm and self.engine not in ("auto", "vllm"):
            _refuse("use_vllm", f"engine: {self.engine} does not use vLLM; set engine: vllm")
        low, high = self.importance_sampling_clip_min, self.importance_sampling_clip_max
        if low is not None and high is not None and low > high:
            _refuse(
                "importance_sampling_clip_min",
                f"expected at most importance_sampling_clip_max {high:g}, found {low:g}",
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
            file = Path(function.partition(":")[0])
            if file.is_absolute() or ".." in file.parts:
                _refuse(
                    "reward_funcs",
                    f"expected a file in the recipe's folder, found {str(file)!r}; copy it there",
                )
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
