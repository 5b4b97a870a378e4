"""The whole of a recipe: its sections, and which of their values contradict each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, PrivateAttr, TypeAdapter, ValidationError, model_validator

from icpo_lite.core.endpoint import EndpointOptions
from icpo_lite.core.errors import RecipeError
from icpo_lite.recipe.conversation_sections import ConversationKeys
from icpo_lite.recipe.messages import field_names, first_error, place_of, unknown_key
from icpo_lite.recipe.method_sections import MethodKeys, check_methods
from icpo_lite.recipe.objective_sections import (
    GROUP_LOSSES,
    AdvantageKeys,
    CorrectionKeys,
    LossKeys,
    ScheduleKeys,
    UpdateKeys,
    WarmUpKeys,
)
from icpo_lite.recipe.run_sections import Evaluation, JudgingKeys, PeriodicKeys, RunKeys
from icpo_lite.recipe.section import refuse
from icpo_lite.recipe.sections import DataKeys, PolicyKeys, RewardKeys, SamplingKeys

Options = TypeVar("Options")
Entry = TypeVar("Entry")


# Pydantic lists the fields of the last base first: a recipe begins with the model.
class Recipe(
    JudgingKeys,
    PeriodicKeys,
    RunKeys,
    UpdateKeys,
    ScheduleKeys,
    WarmUpKeys,
    MethodKeys,
    AdvantageKeys,
    CorrectionKeys,
    LossKeys,
    ConversationKeys,
    SamplingKeys,
    RewardKeys,
    DataKeys,
    PolicyKeys,
):
    """All that a run is made of, every key with its default. Usually made by `load_recipe`.

        recipe = Recipe(model_name_or_path="builtin:tiny", dataset_name="builtin:world")
        recipe = recipe.but(max_steps=20)

    Raises RecipeError, one line, for an unknown key (with the nearest name), a value of another
    kind, or values that contradict each other.
    """

    blocks: ClassVar[dict[str, type[BaseModel]]] = {
        "evaluation": Evaluation,
        "endpoint": EndpointOptions,
    }

    derived: ClassVar[frozenset[str]] = frozenset({"gradient_accumulation_steps"})

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

    def said_at(self, key: str, written: str) -> Self:
        """This recipe with `key` said where another of its keys is written."""
        told = self.model_copy()
        told._places = {**self._places, key: self.where(written)}
        return told

    def sets(self, key: str) -> bool:
        """Whether a file, an override or a call names the key."""
        return key in self._places or (not self._places and key in self.model_fields_set)

    def named(self, key: str, table: Mapping[str, Entry]) -> Entry:
        """The entry of a table that the block `key` names; RecipeError, with its line, for none."""
        name = getattr(self, key)["name"]
        if name not in table:
            raise RecipeError(
                f"{self.where(key)}: {key}: expected one of {', '.join(table)}, found {name!r}"
            )
        return table[name]

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
    def _sections_agree(self) -> Self:
        self._check_batch()
        if self.use_vllm and self.engine not in ("auto", "vllm"):
            refuse("use_vllm", f"engine: {self.engine} does not use vLLM; set engine: vllm")
        if self.task == "code" and not self.allow_code_execution:
            refuse("task", "grading code runs it; set allow_code_execution: true to agree")
        if self.eval_steps is not None and self.evaluation.enabled:
            self._check_splits()
        if not self.pays:
            self._check_unpaid()
        if self.rollout == "conversation":
            self._check_conversations()
        else:
            self._check_single_turns()
        check_methods(self)
        return self

    def _check_single_turns(self) -> None:
        for key, value, idle in (
            ("credit", self.credit, "trajectory"),
            ("truncated_share", self.truncated_share, 0),
            ("branching", self.branching.get("name"), "none"),
            ("shard_curriculum", self.shard_curriculum.get("name"), "none"),
            ("simulated_user", self.simulated_user, "deterministic"),
            ("distill", self.distill, "none"),
        ):
            if value != idle:
                refuse(key, f"{value} is of conversations; set rollout: conversation")

    def _check_unpaid(self) -> None:
        """Nothing is rewarded: a teacher must be there, and nothing that goes by rewards."""
        if self.distill == "none":
            refuse("reward", "none earns nothing, and distill: none teaches nothing; set one")
        for key, value, idle in (
            ("dynamic_sampling", self.dynamic_sampling, False),
            ("credit", self.credit, "trajectory"),
            ("prompt_curriculum", self.prompt_curriculum.get("name"), "none"),
            ("shard_curriculum", self.shard_curriculum.get("name"), "none"),
            ("advantage", self.advantage["name"], "group"),
            ("advantage_shaping", self.advantage_shaping["name"], "none"),
            ("token_weights", self.token_weights["name"], "none"),
            ("group_rewards", self.group_rewards["name"], "none"),
            ("loss_type", self.loss_type in GROUP_LOSSES and self.loss_type, False),
        ):
            if value != idle:
                told = str(value).lower() if isinstance(value, bool) else value
                refuse(key, f"{told} goes by rewards, and reward: none has none; take it out")

    def _check_conversations(self) -> None:
        if self.simulated_user == "endpoint" and self.endpoint is None:
            refuse("simulated_user", "endpoint needs the block endpoint: {base_url: …, model: …}")
        if self.demonstrations != "none":
            refuse(
                "demonstrations",
                "the corpus's solutions are single replies: expected demonstrations: none beside "
                f"rollout: conversation, found {self.demonstrations}",
            )
        if self.credit != "trajectory" and self.multi_objective_aggregation != "sum_then_normalize":
            refuse(
                "credit",
                f"{self.credit} scales the rewards of turns, normalize_then_sum those of whole "
                "conversations; set multi_objective_aggregation: sum_then_normalize",
            )

    def _check_splits(self) -> None:
        small = (self.eval_dataset_name or self.dataset_name, self.eval_split)
        final = (self.evaluation.dataset_name or self.dataset_name, self.evaluation.split)
        if small == final:
            refuse(
                "eval_split",
                f"expected another split than evaluation.split {self.eval_split!r}: problems that "
                "choose the best checkpoint cannot judge it; set eval_split: dev",
            )

    def _check_batch(self) -> None:
        if self.prompts_per_step % self.num_mini_batches:
            refuse(
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
            refuse(
                "gradient_accumulation_steps",
                f"{self.prompts_per_step} prompts x {self.num_generations} generations / "
                f"{self.num_mini_batches} mini-batches = {rows} completions, with {size}, makes "
                f"{passes} accumulation steps, found {self.gradient_accumulation_steps}; "
                "leave the key out, it is derived",
            )
        self.__dict__["gradient_accumulation_steps"] = passes
