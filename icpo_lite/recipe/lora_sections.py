"""The section of a recipe that says which weights learn, and what they begin as."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from icpo_lite.recipe.section import Section, module_names, refuse

#: Starts that take A and B out of the frozen weight itself.
OF_THE_BASE = re.compile(r"olora|pissa|pissa_niter_\d{1,3}")
_STARTS = "true, gaussian, orthogonal, olora, pissa, pissa_niter_16 (any number) or loftq"
#: peft's other starts, and why they are not taken.
_DECLINED = {
    "false": "false starts at noise, so that the first replies are not the model's own",
    "eva": "eva looks at activations of the data first",
    "corda": "corda looks at activations of the data first",
    "lora_ga": "lora_ga looks at gradients of the data first",
    "mica": "mica holds B fixed",
}


def named_start(value: Any) -> Any:
    """`default` and `true` in words are peft's own start; other kinds of values name none."""
    if isinstance(value, bool):
        return value
    name = str(value).strip().lower().replace("-", "_")
    return True if name in ("default", "true") else name


class LoraKeys(Section):
    """The weights that learn."""

    lora_r: int = Field(16, ge=1, description="rank of the LoRA matrices")
    lora_alpha: int | float = Field(32, gt=0, description="LoRA scale: its output counts alpha / r")
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout on LoRA's input; 0 keeps the ratio of log-probs exact"
    )
    lora_target_modules: Annotated[tuple[str, ...] | str, BeforeValidator(module_names)] = Field(
        "all-linear",
        description="all-linear, a list such as [q_proj, v_proj], or a regular expression that "
        r"matches whole names of layers, such as '.*layers\.(1\d|2\d)\..*_proj'",
    )
    lora_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="float32, or bfloat16: half the memory, and small updates are rounded away",
    )
    use_rslora: bool = Field(
        False,
        description="rank-stabilised LoRA: its output counts alpha / √r, so that a higher rank "
        "learns as fast as a low one",
    )
    use_dora: bool = Field(
        False,
        description="DoRA: LoRA turns each output's weights, and their length is learned beside "
        "it; better at low ranks, slower, and with more memory",
    )
    init_lora_weights: Annotated[bool | str, BeforeValidator(named_start)] = Field(
        True,
        description="what LoRA begins as: true (no change), gaussian, orthogonal; olora, pissa or "
        "pissa_niter_16, the weight's own largest directions (pissa_niter_N finds them fast); "
        "loftq, what 4 bits have rounded away",
    )
    adapter_name_or_path: str | None = Field(
        None,
        min_length=1,
        description="a LoRA adapter to train on: a folder, a run, or a hub name; its rank, alpha, "
        "targets and kind are taken, the KL term holds to it, and the model must be its own",
    )
    seed: int = Field(0, ge=0, description="seed of data order, initial LoRA and sampling")

    @property
    def starts_in_base(self) -> bool:
        """Whether A and B begin as parts of the frozen weight (PiSSA, OLoRA)."""
        start = self.init_lora_weights
        return isinstance(start, str) and bool(OF_THE_BASE.fullmatch(start))

    @property
    def keeps_start(self) -> bool:
        """Whether a second adapter's worth of weights says what training began from."""
        started = self.init_lora_weights == "loftq" or self.adapter_name_or_path is not None
        return self.starts_in_base or started

    @model_validator(mode="after")
    def _targets_can_be_read(self) -> Self:
        targets = self.lora_target_modules
        if isinstance(targets, str):
            try:
                re.compile(targets)
            except re.error as error:
                refuse(
                    "lora_target_modules",
                    f"expected all-linear, names or a regular expression, found {targets!r}, "
                    f"which is none: {error}",
                )
        elif not targets or not all(targets):
            refuse("lora_target_modules", "expected all-linear or names of layers, found none")
        return self

    @model_validator(mode="after")
    def _start_is_known(self) -> Self:
        start = self.init_lora_weights
        name = str(start).lower()
        if why := _DECLINED.get(name):
            refuse("init_lora_weights", f"expected {_STARTS}, found {name}: {why}")
        known = start is True or start in ("gaussian", "orthogonal", "loftq") or self.starts_in_base
        if not known:
            refuse("init_lora_weights", f"expected {_STARTS}, found {start!r}")
        if start == "orthogonal" and self.lora_r % 2:
            refuse("lora_r", f"orthogonal needs an even rank, found {self.lora_r}; add or take one")
        if start == "orthogonal" and self.lora_dtype != "float32":
            refuse(
                "init_lora_weights",
                "orthogonal begins at A and B whose product is zero, which bfloat16 would round "
                "away; set lora_dtype: float32",
            )
        if self.use_dora and (self.starts_in_base or start == "loftq"):
            refuse(
                "use_dora",
                f"DoRA's lengths are those of the frozen weight, {name} begins elsewhere; take "
                "one of the two",
            )
        if self.adapter_name_or_path is not None and start is not True:
            refuse(
                "init_lora_weights",
                f"adapter_name_or_path brings weights of its own, found {name} as their start; "
                "take one of the two",
            )
        return self
