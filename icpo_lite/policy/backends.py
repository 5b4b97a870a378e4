"""The two libraries that can load a model, behind one interface, and which of them a run takes.

`unsloth` patches transformers and peft when it is imported, so the choice comes before either of
them is: a run begins with `load.prepare`, and no module of the package imports transformers on the
way there.

What is relied on of unsloth was read from the sources of 2026.10.4, the oldest that is taken, and
2026.10.9; a test holds the names.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from icpo_lite.core.errors import ModelError
from icpo_lite.policy.libraries import first_line, version
from icpo_lite.policy.transformers_backend import TransformersLoader
from icpo_lite.policy.unsloth_backend import UnslothLoader
from icpo_lite.recipe.lora_sections import LoraKeys

if TYPE_CHECKING:
    from icpo_lite.core.device import Device
    from icpo_lite.recipe.sections import ModelKeys, PolicyKeys

Name = Literal["unsloth", "transformers"]
_LEAST_CAPABILITY = (7, 0)
_PATCHED = ("transformers", "peft")


@dataclass(frozen=True)
class Backend:
    """The library that loads and patches the model, and why it was taken."""

    name: Name
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {version(self.name)}, {self.reason}"

    @property
    def loader(self) -> Loader:
        return UnslothLoader() if self.name == "unsloth" else TransformersLoader()


class Loader(Protocol):
    """What a backend does. `path` is a folder or a hub name; models come back frozen or with LoRA
    as the one thing that learns."""

    def base(self, keys: ModelKeys, path: str, device: Device, quantise: bool) -> Any:
        """The causal LM on the device; `quantise` makes it NF4 while it loads."""

    def new_adapter(self, model: Any, keys: PolicyKeys) -> Any:
        """`model` inside peft's wrapper, with a fresh LoRA seeded by `keys.seed`."""

    def set_training(self, model: Any, on: bool) -> None:
        """Training mode with gradient checkpointing, or evaluation mode with a KV cache."""


# ------------------------------------------------------------------------------------- the choice


def choose_backend(keys: ModelKeys, device: Device) -> Backend:
    """The backend that the keys ask for, imported where its order matters.

    `auto` takes unsloth where it is installed and can run, and says why where not. Raises
    ModelError when `unsloth` is asked for and cannot be had.
    """
    if keys.backend == "transformers":
        return Backend("transformers", "as the recipe asks")
    against = _missing() or (_unsuitable(keys, device) if keys.backend == "auto" else "")
    against = against or _import_unsloth(keys.use_vllm and keys.vllm_enable_sleep_mode)
    if not against:
        why = "as the recipe asks" if keys.backend == "unsloth" else f"installed; {device.name}"
        return Backend("unsloth", why)
    if keys.backend == "unsloth":
        raise ModelError(
            f"backend: unsloth was asked for, but {against}; use backend: auto or transformers, or "
            "install it with pip install 'icpo-lite[cuda]'"
        )
    return Backend("transformers", against)


def _missing() -> str:
    return "" if importlib.util.find_spec("unsloth") else "unsloth is not installed"


def _unsuitable(keys: ModelKeys, device: Device) -> str:
    """Why unsloth, although installed, is left aside; "" where it is not."""
    if device.torch_device.type != "cuda":
        return "unsloth needs an NVIDIA GPU"
    capability = torch.cuda.get_device_capability(device.torch_device)
    if capability < _LEAST_CAPABILITY:
        return f"unsloth needs compute capability 7.0, this GPU has {capability[0]}.{capability[1]}"
    if device.dtype is torch.float32:
        return "unsloth's kernels are for 16 bit, dtype is float32"
    if isinstance(keys, LoraKeys) and keys.starts_in_base:
        return f"init_lora_weights: {keys.init_lora_weights} is not for unsloth's kernels"
    if keys.attn_implementation is not None:
        return "attn_implementation is set, and unsloth takes its own attention"
    return ""


def _import_unsloth(standby: bool) -> str:
    """Import unsloth, first of all; returns what stood against it."""
    if "unsloth" in sys.modules:
        return ""
    early = [name for name in _PATCHED if name in sys.modules]
    if early:
        return f"{early[0]} was imported before unsloth could patch it"
    if standby:
        os.environ["UNSLOTH_VLLM_STANDBY"] = "1"  # read while it patches vLLM
        # Else it replaces the recipe's share of the card by one of its own.
        os.environ.setdefault("UNSLOTH_VLLM_STANDBY_UTIL_OVERRIDE", "1")
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        importlib.import_module("unsloth")
    except Exception as error:  # whatever its versions and drivers disagree about
        return f"unsloth cannot be imported ({first_line(error)})"
    return ""


def load_adapter(model: Any, folder: Path, *, trainable: bool) -> Any:
    """`model` inside peft's wrapper, with the adapter of a folder; the same for both backends."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
