"""The merged model: the base's files read tensor by tensor, LoRA added, written in 16 bits.

Never more than one file of the base is in memory, so that a 7B model merges on a machine that
could not load it. Two bases can be chosen:

* `16bit`, the weights as published, what everybody does. The adapter was trained beside NF4
  weights, so the result differs from what was trained by NF4's rounding; it is a little nearer to
  the published model.
* `nf4`, the same weights after NF4's rounding: what was trained, exact up to 16 bits.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from icpo_lite.core.errors import ModelError
from icpo_lite.policy.base_files import (
    INDEX,
    BaseFiles,
    files_at,
    found_name,
    is_weight,
    weight_keys,
)
from icpo_lite.policy.load import model_path
from icpo_lite.policy.lora_merge import (
    LowRank,
    four_bit_modules,
    is_part_of_packed,
    lora_updates,
    nf4_rounded,
    unpacked,
)
from icpo_lite.policy.template_options import save_as_trained

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe

Base = Literal["16bit", "nf4"]
#: Files of a base that tokenizers and converters other than transformers read.
_COMPANIONS = ("tokenizer.model", "*.py")


def base_files(name: str, *, code: bool = False) -> BaseFiles:
    """The files of a folder, a hub name or a `builtin:` name; downloads what is not cached.

    code: take Python files along (`trust_remote_code`). Raises ModelError without safetensors.
    """
    return files_at(name, model_path(name), code=code)


def write_merged(policy: Policy, recipe: Recipe, folder: Path, base: Base) -> int:
    """The merged model, its tokenizer and its configuration in `folder`; returns bytes of weights.

    Raises ModelError when an update finds no weight of its shape, or two.
    """
    files = base_files(recipe.model_name_or_path, code=recipe.trust_remote_code)
    size = _write_weights(policy, files, folder, base)
    _write_config(files, folder)
    save_as_trained(policy.tokenizer, recipe.chat_template_kwargs, folder)
    _write_generation_config(policy, recipe, folder)
    for pattern in _COMPANIONS:
        for file in files.folder.glob(pattern):
            if not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)
    return size


def _write_weights(policy: Policy, files: BaseFiles, folder: Path, base: Base) -> int:
    updates = lora_updates(policy)
    with_keys = {shard: weight_keys(files.folder / shard) for shard in files.shards}
    names = [k.removesuffix(".weight") for keys in with_keys.values() for k in keys if is_weight(k)]
    place = {found_name(module, names): update for module, update in updates.items()}
    rounded = {found_name(m, names) for m in four_bit_modules(policy)} if base == "nf4" else set()
    device = policy.device.torch_device
    weight_map: dict[str, str] = {}
    total = 0
    for shard, keys in with_keys.items():
        out = {}
        with safe_open(files.folder / shard, framework="pt") as opened:
            for key in filter(lambda k: not is_part_of_packed(k), keys):
                module = key.removesuffix(".weight") if is_weight(key) else None
                parts = [k for k in keys if k.startswith(f"{key}.")]
                weight = opened.get_tensor(key)
                if parts:
                    entries = {k: opened.get_tensor(k) for k in (key, *parts)}
                    weight = unpacked(key, entries, device)
                elif module in rounded:
                    weight = nf4_rounded(weight, policy.device.dtype, device)
                out[key] = _updated(weight, place.get(module or ""), files.dtype, key)
        save_file(out, folder / shard, metadata={"format": "pt"})
        (folder / shard).chmod(0o644)  # readable by its owner alone otherwise, not by Ollama
        weight_map |= dict.fromkeys(out, shard)
        total += sum(t.numel() * t.element_size() for t in out.values())
    if len(files.shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2))
    return total


def _updated(weight: Tensor, update: LowRank | None, dtype: torch.dtype, key: str) -> Tensor:
    if update is None:
        return weight.to(dtype).contiguous() if weight.is_floating_point() else weight
    shape = update.shape
    if tuple(weight.shape) != shape:
        raise ModelError(
            f"{key}: expected the adapter's shape {list(shape)}, found {list(weight.shape)} in the "
            "base; is it the base that the adapter was trained on?"
        )
    return update.added_to(weight, dtype).contiguous()


def _write_config(files: BaseFiles, folder: Path) -> None:
    config = {k: v for k, v in files.config.items() if k != "quantization_config"}
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    config[key] = str(files.dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _write_generation_config(policy: Policy, recipe: Recipe, folder: Path) -> None:
    """Every token that ends a reply, and sampling as in training: a base's own repetition penalty
    and nucleus are not what the adapter was rewarded under."""
    tokenizer = policy.tokenizer
    values = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": sorted(policy.end_ids),
        "pad_token_id": policy.pad_id,
        "do_sample": True,
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "top_k": recipe.top_k,
    }
    known = {k: v for k, v in values.items() if v is not None}
    (folder / "generation_config.json").write_text(json.dumps(known, indent=2) + "\n")
