"""An adapter that training goes on from: what it is, whether it fits, its weights.

Its own rank, alpha, targets and kind become the recipe's; one that the recipe sets to another value
is refused, since the weights would mean something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.paths import at_home, reads_as_path
from icpo_lite.policy.libraries import why_and_what
from icpo_lite.recipe import Recipe
from icpo_lite.recipe.section import default_of
from icpo_lite.recipe.sections import PolicyKeys

if TYPE_CHECKING:
    from torch import Tensor

Wanted = TypeVar("Wanted", bound=PolicyKeys)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: Our key → peft's.
_OWN = {
    "lora_r": "r",
    "lora_alpha": "lora_alpha",
    "lora_target_modules": "target_modules",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
}
#: What an adapter may hold beside A, B and lengths, and what is no part of it here.
_BEYOND = (
    *("modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication", "lora_bias"),
    *("alora_invocation_tokens", "trainable_token_indices", "target_parameters", "arrow_config"),
    *("velora_config", "kasa_config", "monteclora_config", "use_bdlora", "use_qalora"),
    "fan_in_fan_out",
)
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "eva", "mica")
#: How publishers name a copy of a model whose weights are quantised already.
_QUANTISED = re.compile(r"(-unsloth)?-bnb-4bit$|-4bit$", re.IGNORECASE)


def with_own_keys(keys: Wanted) -> Wanted:
    """The keys with those of LoRA that `adapter_name_or_path` has itself; others as they are.

    Raises UsageError where there is no such adapter, where it is none of LoRA or belongs to another
    model, and where the recipe says otherwise.
    """
    if keys.adapter_name_or_path is None:
        return keys
    config = _config(keys.adapter_name_or_path)
    _check_kind(config, keys)
    _check_base(config, keys)
    own: dict[str, Any] = {}
    for key, theirs in _OWN.items():
        found = _as_key(config.get(theirs), default_of(type(keys), key))
        said = getattr(keys, key)
        # `all-linear` says which layers could be adapted; the adapter, which of them are.
        if said != "all-linear" and _says(keys, key) and _plain(said) != _plain(found):
            raise UsageError(
                f"{_where(keys, key)}{key}: expected {_told(found)}, which "
                f"{keys.adapter_name_or_path} was trained with, found {_told(said)}; set {key}: "
                f"{_told(found)} or leave the key out"
            )
        own[key] = found
    return keys.model_copy(update=own)


def adapter_folder(name: str) -> Path:
    """The local folder of an adapter; of one on the hub its two files are fetched."""
    folder = at_home(name)
    if folder.is_dir():
        return folder
    if reads_as_path(name):
        raise UsageError(
            f"adapter_name_or_path: no folder {name!r}; give a folder with {CONFIG}, a run that "
            "has finished, or a hub name"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # of several libraries, all of which mean that it is not here
        raise ModelError(
            f"adapter_name_or_path: {name} cannot be had: {why_and_what(error, name)}"
        ) from error


def _config(name: str) -> Mapping[str, Any]:
    file = adapter_folder(name) / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = "a whole model" if (file.parent / "config.json").is_file() else "none"
        raise UsageError(
            f"adapter_name_or_path: expected {CONFIG} in {name}, found {found}; give a folder that "
            "peft has saved, or a run that has finished"
        ) from None
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise UsageError(f"{file}: expected a JSON object, found something else; fetch it anew")
    return config


def _check_kind(config: Mapping[str, Any], keys: PolicyKeys) -> None:
    name = keys.adapter_name_or_path
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UsageError(
            f"adapter_name_or_path: expected an adapter of LoRA, found {kind} in {name}; merge it "
            "into its model with peft, and train that"
        )
    bias = config.get("bias")
    beyond = [key for key in _BEYOND if config.get(key)]
    beyond += ["bias"] if bias not in (None, "none") else []
    if beyond:
        raise UsageError(
            f"adapter_name_or_path: expected LoRA's matrices alone, found {beyond[0]} in {name}; "
            "merge it into its model with peft, and train that"
        )
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGES_BASE):
        raise UsageError(
            f"adapter_name_or_path: {name} was saved beside weights that {start} has changed; save "
            "it again with peft's path_initial_model_for_weight_conversion, or merge it"
        )


def _check_base(config: Mapping[str, Any], keys: PolicyKeys) -> None:
    base, model = config.get("base_model_name_or_path"), keys.model_name_or_path
    if not isinstance(base, str) or not base:
        return  # what it was trained on is not said: the shapes of its weights are what is left
    if _model_name(base) != _model_name(model) and not _same_folder(base, model):
        raise UsageError(
            f"adapter_name_or_path: {keys.adapter_name_or_path} was trained on {base}, found "
            f"model_name_or_path: {model}; set model_name_or_path to its own model"
        )


def _same_folder(one: str, other: str) -> bool:
    return at_home(one).is_dir() and at_home(one).resolve() == at_home(other).resolve()


def _model_name(name: str) -> str:
    """The last part of a model's name, quantised copies and folders of it under the same one."""
    return _QUANTISED.sub("", name.rstrip("/").rpartition("/")[2]).lower()


def _as_key(value: Any, default: Any) -> Any:
    """peft's value as our key has it."""
    if isinstance(value, list):
        return tuple(sorted(value))
    return default if value is None else value


def _says(keys: PolicyKeys, key: str) -> bool:
    """Whether somebody has set the key. A section made of a recipe has all keys: there those count
    that differ from the default."""
    if isinstance(keys, Recipe):
        return keys.sets(key)
    return _plain(getattr(keys, key)) != _plain(default_of(type(keys), key))


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, tuple) else value


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)


def _where(keys: PolicyKeys, key: str) -> str:
    return f"{keys.where(key)}: " if isinstance(keys, Recipe) else ""


def load_weights(model: Any, name: str) -> None:
    """Puts an adapter's weights in place of a fresh one's. Raises ModelError where they do not fit.

    model: inside peft's wrapper, with an adapter of that rank on those layers.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    file = adapter_folder(name) / WEIGHTS
    if not file.is_file():
        pickled = file.with_suffix(".bin").is_file()
        found = "only adapter_model.bin, a pickle that is not read" if pickled else "none"
        raise ModelError(f"adapter_name_or_path: expected {WEIGHTS} in {name}, found {found}")
    weights = load_file(file)
    _check_shapes(weights, get_peft_model_state_dict(model), name)
    set_peft_model_state_dict(model, weights)


def _check_shapes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str) -> None:
    odd = sorted(found.keys() ^ wanted.keys())
    if odd:
        side = "the adapter alone" if odd[0] in found else "the model alone"
        raise ModelError(
            f"adapter_name_or_path: {name} does not fit this model: {odd[0]} is in {side}; set "
            "model_name_or_path to the model that it was trained on"
        )
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape:
            raise ModelError(
                f"adapter_name_or_path: {name} does not fit this model: {key} has the shape "
                f"{list(tensor.shape)}, expected {list(wanted[key].shape)}; set model_name_or_path "
                "to the model that it was trained on"
            )
