"""What the sections of a recipe are made of: strictness, short forms of values, shared kinds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NoReturn, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

DEFAULT_REWARD = "guarded"


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


def _named_block(value: Any) -> Any:
    """`paper` is short for `{name: paper}`; options without a name are those of `guarded`."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": DEFAULT_REWARD, **value} if isinstance(value, dict) else value


def _named_schedule(value: Any) -> Any:
    """`constant` is short for `{name: constant}`."""
    return {"name": value} if isinstance(value, str) else value


def _comparisons(value: Any) -> Any:
    """`[rlvr]` is short for `{rlvr: null}`."""
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value)
    return value


def _trackers(value: Any) -> Any:
    """TRL's `none` and `all`; one name without brackets."""
    if value in (None, "none"):
        return ()
    return ("tensorboard", "wandb", "trackio") if value == "all" else _one_as_list(value)


def _one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


class _Keys(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        validate_default=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes `true` for 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = get_args(annotation) or (annotation,)
        if isinstance(value, bool) and {int, float} & set(kinds) and bool not in kinds:
            raise ValueError(f"expected a number, found {str(value).lower()}")
        return value


_Names = Annotated[tuple[str, ...], BeforeValidator(_one_as_list)]


_Finding = Literal[
    "always_asks",
    "never_asks",
    "entropy_collapse",
    "cannot_solve",
    "cut_off",
    "flat_rewards",
    "clipped_tokens",
    "sampler_differs",
]


_Setting = Literal[
    "full", "concat", "sharded", "recap", "snowball", "clean_history", "underspecified"
]


class Evaluation(_Keys):
    """The recipe's `evaluation` block: the table at the end of a run."""

    enabled: bool = Field(True, description="whether `train` ends with the comparison table")
    settings: Annotated[tuple[_Setting, ...], BeforeValidator(_one_as_list)] = Field(
        ("full", "concat", "sharded", "clean_history", "underspecified"),
        min_length=1,
        description="any of full, concat, sharded, recap, snowball, clean_history, underspecified",
    )
    problems: int = Field(100, ge=1, description="problems of the split that are judged")
    runs: int = Field(4, ge=1, description="conversations a problem and setting; 8 or more for A90")
    dataset_name: str | None = Field(
        None, description="file or hub data set that is judged; null is the recipe's own"
    )
    split: str = Field("test", description="split of the data set that is judged")
    temperature: float = Field(1.0, ge=0, description="sampling temperature; 0 is greedy")
    max_turns: int | None = Field(
        None,
        ge=1,
        description="most assistant turns of a conversation; null leaves it to the setting",
    )
