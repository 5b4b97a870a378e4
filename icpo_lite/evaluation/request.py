"""What is asked of an evaluation, on the command line or from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from icpo_lite.core.errors import UsageError
from icpo_lite.evaluation.settings import SETTINGS
from icpo_lite.recipe import Evaluation, Recipe
from icpo_lite.recipe.messages import first_error, nearest
from icpo_lite.recipe.section import default_of

if TYPE_CHECKING:
    from icpo_lite.evaluation.judging import UserKind

#: Options that are keys of the recipe's `evaluation` block.
OF_THE_BLOCK = ("split", "settings", "problems", "runs", "temperature", "max_turns")
#: … and those that are other keys of a recipe, with the key.
OF_THE_RECIPE = {
    "max_new_tokens": "max_completion_length",
    "system": "system_prompt",
    "judged_by": "judge",
    "endpoint": "endpoint",
    "allow_code_execution": "allow_code_execution",
    "device": "device",
    "seed": "seed",
}
#: … and those that no recipe has.
OF_ITS_OWN = ("data", "user", "ask_threshold")


@dataclass(frozen=True)
class EvaluationRequest:
    """Options as they were given; `evaluation_request` makes one of them.

    block: the recipe's block. Of what was not given, `problems`, `runs` and `settings` go by
    the data. keys: other keys of a recipe, in place of those of the first model's. data: data sets
    that go into one table; empty for the run's own. user, ask_threshold: as in `JudgingOptions`.
    """

    block: Evaluation = field(default_factory=Evaluation)
    keys: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    user: UserKind = "deterministic"
    ask_threshold: float | None = None

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that were asked for, none where the data decide."""
        return self.block.settings if "settings" in self.block.model_fields_set else ()

    def count(self, key: str) -> int | None:
        """A number of the block, None where the data decide."""
        given = key in self.block.model_fields_set
        return int(getattr(self.block, key)) if given else None

    def said(self, key: str) -> Any:
        """A key that no run decides for its evaluation: as it was given, else its default."""
        return self.keys.get(key, default_of(Recipe, key))

    def key(self, key: str, recipe: Recipe | None, *, otherwise: Any = None) -> Any:
        """A key as it was given, else as the first model's recipe has it, else its default.

        otherwise: stands for the default, where it is given.
        """
        if key in self.keys:
            return self.keys[key]
        if recipe is not None:
            return getattr(recipe, key)
        return default_of(Recipe, key) if otherwise is None else otherwise


def evaluation_request(**given: Any) -> EvaluationRequest:
    """The options of `icpo-lite eval` by name; None, and what is empty, is as good as not given.

    Raises UsageError for an unknown option, an unknown setting or a value that is none.
    """
    known = (*OF_ITS_OWN, *OF_THE_BLOCK, *OF_THE_RECIPE)
    for name in given:
        if name not in known:
            raise UsageError(f"evaluate: unknown option {name}{nearest(name, known)}")
    said = {name: value for name, value in given.items() if _is_said(value)}
    data = said.pop("data", ())
    own = {name: said[name] for name in OF_ITS_OWN if name in said}
    return EvaluationRequest(
        block=_block({name: said[name] for name in OF_THE_BLOCK if name in said}),
        keys={key: said[name] for name, key in OF_THE_RECIPE.items() if name in said},
        data=(data,) if isinstance(data, str) else tuple(map(str, data)),
        **own,
    )


def _is_said(value: Any) -> bool:
    """Whether an option was given: 0 is a value, an empty text or list is none."""
    return value is not None and value is not False and value not in ("", (), [])


def _block(given: dict[str, Any]) -> Evaluation:
    wanted = given.get("settings", ())
    named = [wanted] if isinstance(wanted, str) else wanted
    if unknown := [name for name in named if name not in SETTINGS]:
        raise UsageError(f"settings: expected some of {', '.join(SETTINGS)}, got {unknown[0]!r}")
    try:
        return Evaluation(**given)
    except ValidationError as error:
        raise UsageError(first_error(error, lambda key: "evaluate")) from None
