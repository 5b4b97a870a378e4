"""Sections of a recipe that say what is trained, on what and for what reward."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from icpo_lite.core.device import unknown_device
from icpo_lite.core.endpoint import EndpointOptions
from icpo_lite.core.types import JudgeName, TaskName
from icpo_lite.recipe.lora_sections import LoraKeys
from icpo_lite.recipe.section import (
    DEFAULT_REWARD,
    Keys,
    Names,
    Section,
    named_block,
    one_as_list,
    refuse,
    require_own_function,
)


class ModelKeys(Section):
    """What is trained: the frozen model and how it is held."""

    model_name_or_path: str = Field(
        min_length=1,
        description="a folder, a hub name, or builtin:tiny, the model inside the package",
    )
    backend: Literal["auto", "unsloth", "transformers"] = Field(
        "auto", description="auto, unsloth or transformers; auto takes unsloth where it can run"
    )
    load_in_4bit: Literal["auto"] | bool = Field(
        True,
        description="hold the frozen weights as NF4 (QLoRA); auto: yes on a GPU, on a CPU only "
        "where they would not fit whole",
    )
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
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="options that the model's chat template reads: {enable_thinking: false}",
    )
    chat_template_date: str | None = Field(
        None,
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="the day that a chat template may write into prompts; null is the day on which "
        "the run began, which it keeps",
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in backward: less memory, about a third slower"
    )
    use_vllm: bool = Field(
        False, description="load vLLM beside the model, through unsloth, and sample with it"
    )
    vllm_gpu_memory_utilization: float = Field(
        0.7,
        gt=0,
        lt=1,
        description="use_vllm: share of the GPU for weights and vLLM's keys and values; the "
        "update needs the rest",
    )
    vllm_max_num_seqs: int | None = Field(
        None,
        ge=1,
        description="use_vllm: replies computed at once at most; null, and 256, leave it to "
        "unsloth: 8 where 2 GiB are left for keys and values, 256 where more than 80 are",
    )
    vllm_enable_sleep_mode: bool = Field(
        False,
        description="use_vllm: give the memory of keys and values to the update while it runs "
        "(unsloth's standby)",
    )

    @model_validator(mode="after")
    def _device_is_known(self) -> Self:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            refuse("device", f"expected {unknown_device(self.device)}")
        return self

    @model_validator(mode="after")
    def _template_options_are_the_templates(self) -> Self:
        ours = {"messages", "tokenize", "add_generation_prompt", "continue_final_message"}
        for name in sorted(ours & set(self.chat_template_kwargs)):
            refuse("chat_template_kwargs", f"{name} is set by the run itself; take it out")
        if self.chat_template_date is not None:
            try:
                date.fromisoformat(self.chat_template_date)
            except ValueError:
                refuse("chat_template_date", f"no day is called {self.chat_template_date!r}")
        return self


class PolicyKeys(LoraKeys, ModelKeys):
    """A model with LoRA weights that learn."""

    @model_validator(mode="after")
    def _lora_fits_the_model(self) -> Self:
        start = self.init_lora_weights
        if start == "loftq" and self.load_in_4bit is False:
            refuse(
                "init_lora_weights",
                "loftq begins at what 4 bits have rounded away, found load_in_4bit: false; set "
                "load_in_4bit: true, or take pissa",
            )
        if self.starts_in_base and self.backend == "unsloth":
            refuse(
                "init_lora_weights",
                f"unsloth's kernels know LoRA's two matrices alone, {start} keeps those that it "
                "began with beside them; set backend: auto",
            )
        if self.use_vllm and (self.starts_in_base or self.use_dora):
            kind = "use_dora" if self.use_dora else "init_lora_weights"
            refuse(
                kind,
                f"vLLM serves plain LoRA alone, not {'DoRA' if self.use_dora else start}; set "
                "use_vllm: false",
            )
        return self


class DatasetBlock(Keys):
    """One entry of `datasets`; path, name, split and columns are TRL's."""

    path: str = Field(min_length=1, description="as dataset_name: a file or a hub data set")
    name: str | None = Field(None, description="as dataset_config")
    split: str = Field("train", min_length=1, description="as dataset_train_split")
    columns: dict[str, str] = Field(default_factory=dict, description="as columns")
    task: TaskName | None = Field(None, description="as task; null is the recipe's")
    weight: float = Field(1.0, gt=0, description="share of the prompts, relative to the others")


class DataKeys(Section):
    """Problems, and how prompts are made of them."""

    dataset_name: str = Field(
        min_length=1,
        description="builtin:world, a .jsonl or .parquet file, or a hub data set",
    )
    datasets: tuple[DatasetBlock, ...] = Field(
        (),
        description="several instead of dataset_name, drawn from by weight: [{path: a.jsonl, "
        "weight: 2}, {path: openai/gsm8k, name: main}]; also split, columns and task of each",
    )
    eval_holdout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the problems, by a hash of their text, that is never trained on and "
        "is judged wherever no other data set is named; 0 keeps none back",
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
        None,
        description="opens every prompt: lic (what the task wants), neutral, ask (permits to ask; "
        "also ask_think, ask_plan, ask_code, ask_recall, ask_examples), or a text; null says "
        "nothing but what the task needs (functions, schema), none leaves that out too",
    )
    system_prompt_steps: int | float | None = Field(
        None,
        gt=0,
        description="steps after which prompts are trained on, and judged, without the words of "
        "system_prompt, so that a habit outlives them; a value below 1 is a share of max_steps; "
        "null keeps them",
    )
    ask_costs: Annotated[tuple[float, ...], BeforeValidator(one_as_list)] = Field(
        (),
        description="what a question may cost: each prompt's system turn names one of these, such "
        "as [0.0, 0.3, 0.6, 0.9], and a question loses so much; the run's own evaluations name the "
        "first; empty names none",
    )
    share_underspecified: float = Field(
        0.5, ge=0, le=1, description="fraction of prompts that lack a needed condition"
    )
    augment: dict[str, Any] = Field(
        default_factory=dict, description="options of how underspecified prompts are made"
    )

    @property
    def served_ask_cost(self) -> float | None:
        """What a question costs where nobody says otherwise."""
        return self.ask_costs[0] if self.ask_costs else None

    @model_validator(mode="after")
    def _costs_are_prices(self) -> Self:
        if bad := next((c for c in self.ask_costs if c < 0), None):
            refuse("ask_costs", f"expected costs of 0 or more, found {bad:g}")
        return self

    @property
    def served_system_prompt(self) -> str | None:
        """What opens chats once the run is over: nothing where training has dropped it."""
        return self.system_prompt if self.system_prompt_steps is None else None

    @model_validator(mode="after")
    def _there_is_a_prompt_to_drop(self) -> Self:
        if self.system_prompt_steps is not None and self.system_prompt in (None, "none"):
            refuse("system_prompt_steps", "no system_prompt to drop; set system_prompt: ask")
        return self

    @model_validator(mode="before")
    @classmethod
    def _first_of_several(cls, keys: Any) -> Any:
        """`datasets` stands instead of `dataset_name`, which then says the first of them."""
        listed = keys.get("datasets") if isinstance(keys, dict) else None
        first = listed[0] if isinstance(listed, list | tuple) and listed else None
        path = first.get("path") if isinstance(first, dict) else getattr(first, "path", None)
        return {**keys, "dataset_name": path} if path is not None else keys

    @model_validator(mode="after")
    def _each_set_once(self) -> Self:
        named = [(block.path, block.name, block.split) for block in self.datasets]
        twice = next((entry[0] for entry in named if named.count(entry) > 1), None)
        if twice is not None:
            refuse("datasets", f"expected each set once, found {twice!r} again; raise its weight")
        if len(named) > 1 and any(path.startswith("builtin:") for path, *_ in named):
            refuse("datasets", "builtin:world goes with nothing else; name files or hub data sets")
        return self


class EndpointKeys(Keys):
    """A server that answers in a model's place."""

    endpoint: EndpointOptions | None = Field(
        None, description="an OpenAI-compatible server: {base_url: …, model: …, api_key_env: …}"
    )


class ExecutionKeys(Keys):
    """Whether code that a model wrote may run; off, since it is code nobody has read."""

    allow_code_execution: bool = Field(
        False, description="run generated code in a sandbox to grade it"
    )


class RewardKeys(ExecutionKeys, EndpointKeys, Section):
    """What a reply is, whether it is right, what it earns."""

    reward: Annotated[dict[str, Any], BeforeValidator(named_block)] = Field(
        {"name": DEFAULT_REWARD},
        description="guarded, paper or accuracy; none, where distill alone teaches; or a block "
        "{name: guarded, targeted: 1.0}",
    )
    reward_funcs: Names = Field((), description="own rewards, added to it: [my_rewards.py:brevity]")
    reward_weights: Annotated[tuple[float, ...], BeforeValidator(one_as_list)] = Field(
        (), description="a weight for each of reward_funcs; empty is 1 for each"
    )
    judge: JudgeName = Field(
        "linear",
        description="who names a response's type: rules, linear (learned from labelled turns), "
        "self (the base model) or endpoint",
    )
    grading: dict[str, Any] = Field(
        default_factory=dict,
        description="options of the graders, such as {math_rule: compat} for LiC's own rule",
    )

    @property
    def pays(self) -> bool:
        """Whether any reply earns anything."""
        return self.reward.get("name") != "none" or bool(self.reward_funcs)

    @model_validator(mode="after")
    def _reward_is_whole(self) -> Self:
        name = self.reward.get("name")
        if not isinstance(name, str) or not name:
            refuse("reward", "expected a reward's name, such as reward: {name: guarded}")
        if self.reward_weights and len(self.reward_weights) != len(self.reward_funcs):
            refuse(
                "reward_weights",
                f"expected a weight for each of the {len(self.reward_funcs)} reward_funcs, found "
                f"{len(self.reward_weights)}",
            )
        for function in self.reward_funcs:
            require_own_function("reward_funcs", function)
        if self.judge == "endpoint" and self.endpoint is None:
            refuse("judge", "judge: endpoint needs the block endpoint: {base_url: …, model: …}")
        return self


class TemperatureKeys(Section):
    """What the logits are divided by, where replies are drawn and where they are scored."""

    temperature: float = Field(
        1.0, ge=0, description="sampling temperature in training, above 0; 0 would be greedy"
    )


class DrawKeys(TemperatureKeys):
    """How a reply's tokens are drawn, and by whom."""

    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling; 1 is off")
    top_k: int = Field(0, ge=0, description="sample from the k likeliest tokens; 0 is off")
    engine: Literal["auto", "native", "generate", "continuous", "unsloth", "vllm"] = Field(
        "auto",
        description="who samples: native, generate or continuous (transformers'), unsloth, vllm; "
        "auto tries those at hand and takes the fastest",
    )


class SamplingKeys(DrawKeys):
    """What a step samples, and how."""

    prompts_per_step: int = Field(16, ge=1, description="prompts of one optimisation batch")
    num_generations: int = Field(8, ge=2, description="responses sampled for each prompt")
    max_prompt_length: int = Field(512, ge=1, description="tokens of the longest prompt")
    on_long_prompt: Literal["error", "drop"] = Field(
        "error",
        description="what a prompt does that is longer: end the run, or be left out and counted",
    )
    max_completion_length: int = Field(
        1024, ge=1, description="tokens of the longest response; longer ones are cut off"
    )

    @model_validator(mode="after")
    def _training_draws(self) -> Self:
        """Greedy replies of a group would all be the same."""
        if self.temperature == 0:
            refuse("temperature", f"expected a number above 0, found {self.temperature:g}")
        return self
