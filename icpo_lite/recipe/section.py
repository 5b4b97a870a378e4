"""What the sections of a recipe are made of: strictness, short forms of values, shared kinds.

A section is the settings object of those who do the work: they take it, or a whole recipe, which is
all sections at once. So a key, its default, its check and its words stand in one place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from icpo_lite.core.errors import RecipeError
from icpo_lite.recipe.messages import first_error

DEFAULT_REWARD = "guarded"
#: Whole numbers above it overflow somewhere below us.
LARGEST = (1 << 31) - 1
#: In `compare`: this very recipe on complete prompts alone, instead of a file.
TWIN = "twin"


def refuse(key: str, message: str) -> NoReturn:
    """Reject a combination of values, on the account of `key`."""
    raise PydanticCustomError("combination", "{message}", {"message": message, "key": key})


def require_own_function(key: str, spec: str, names: Sequence[str] = ()) -> None:
    """Refuses what is no `file.py:function` beside the recipe. names: what else the key takes."""
    if not re.fullmatch(r"[^:]+\.py:[A-Za-z_]\w*", spec):
        expected = ", ".join([*names, "file.py:function"])
        refuse(key, f"expected {'one of ' if names else ''}{expected}, found {spec!r}")
    file = Path(spec.partition(":")[0])
    if file.is_absolute() or ".." in file.parts:
        refuse(key, f"expected a file in the recipe's folder, found {str(file)!r}; copy it there")


def scaling(value: Any) -> Any:
    """TRL also takes a truth value: true is `group`, false is `none`."""
    return {True: "group", False: "none"}[value] if isinstance(value, bool) else value


def module_names(value: Any) -> Any:
    """`q_proj,v_proj` as on a command line; LLaMA-Factory's `all`. Other marks than those of names
    make a text a regular expression."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("all", "all-linear"):
        return "all-linear"
    names = [name.strip() for name in value.split(",")]
    return names if all(re.fullmatch(r"[\w.]*", name) for name in names) else value


def named_block(value: Any) -> Any:
    """`paper` is short for `{name: paper}`; options without a name are those of `guarded`."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": DEFAULT_REWARD, **value} if isinstance(value, dict) else value


def named_schedule(value: Any) -> Any:
    """`constant` is short for `{name: constant}`."""
    return {"name": value} if isinstance(value, str) else value


def comparisons(value: Any) -> Any:
    """`rlvr` and `[rlvr]` are short for `{rlvr: twin}`; null, none and false name nothing."""
    if _names_nothing(value):
        return {}
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value, TWIN)
    if isinstance(value, dict):
        named = {name: file for name, file in value.items() if not _names_nothing(file)}
        return {name: TWIN if file is True else file for name, file in named.items()}
    return value


def judged_or_not(value: Any) -> Any:
    """false, null and none are short for `{enabled: false}`, true for the defaults."""
    if _names_nothing(value):
        return {"enabled": False}
    return {} if value is True else value


def _names_nothing(value: Any) -> bool:
    return value is None or value is False or value == "none"


def trackers(value: Any) -> Any:
    """TRL's `none` and `all`; one name without brackets."""
    if value in (None, "none"):
        return ()
    return ("tensorboard", "wandb", "trackio") if value == "all" else one_as_list(value)


def one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


class Keys(BaseModel):
    """Strict and frozen: unknown keys, other types, NaN and infinity are refused."""

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
        """Pydantic takes `true` for 1; what no counter or seed of a library holds is no number."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = get_args(annotation) or (annotation,)
        if isinstance(value, bool) and {int, float} & set(kinds) and bool not in kinds:
            raise ValueError(f"expected a number, found {str(value).lower()}")
        if isinstance(value, int) and int in kinds and abs(value) > LARGEST:
            raise ValueError(f"expected a number up to {LARGEST}, found {value}")
        return value


class Section(Keys):
    """Some of a recipe's keys. Made with wrong ones, it raises RecipeError with one line."""

    #: Blocks of options inside, for the names that an unknown option might have meant.
    blocks: ClassVar[dict[str, type[BaseModel]]] = {}
    #: Keys that are made of others.
    derived: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **keys: Any) -> None:
        try:
            super().__init__(**keys)
        except ValidationError as error:
            name = type(self).__name__
            known = type(self).model_fields
            line = first_error(error, lambda key: name, blocks=self.blocks, names=known)
            raise RecipeError(line) from error

    @classmethod
    def of(cls, other: Section) -> Self:
        """The keys of this section as another one, such as a whole recipe, has them."""
        return cls(**{key: getattr(other, key) for key in cls.model_fields})

    def but(self, **changes: Any) -> Self:
        """The same with some keys changed and all checked again."""
        keys = set(type(self).model_fields) - self.derived
        kept = {key: getattr(self, key) for key in keys}
        return type(self)(**{**kept, **changes})


def default_of(section: type[Keys], key: str) -> Any:
    """A key's default, for settings that bear its name elsewhere."""
    return section.model_fields[key].get_default(call_default_factory=True)


Names = Annotated[tuple[str, ...], BeforeValidator(one_as_list)]


Finding = Literal[
    "always_asks",
    "never_asks",
    "entropy_collapse",
    "cannot_solve",
    "cut_off",
    "flat_rewards",
    "clipped_tokens",
    "sampler_differs",
]


SettingName = Literal[
    "full",
    "concat",
    "sharded",
    "recap",
    "snowball",
    "clean_history",
    "underspecified",
    "contradictory",
]
