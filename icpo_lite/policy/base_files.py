"""The files of a base model, and its weights one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from icpo_lite.core.errors import ModelError
from icpo_lite.core.files import read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True)
class BaseFiles:
    """A base model on disk. shards: its weight files in order; packed: whether they are 4-bit."""

    folder: Path
    shards: tuple[str, ...]
    config: Mapping[str, Any]

    @property
    def packed(self) -> bool:
        return "quantization_config" in self.config

    @property
    def dtype(self) -> torch.dtype:
        """The base's own 16-bit type, bfloat16 where it has none."""
        named = str(self.config.get("dtype", self.config.get("torch_dtype", "")))
        return torch.float16 if named.endswith("float16") and "b" not in named else torch.bfloat16


def files_at(name: str, path: str, *, code: bool = False) -> BaseFiles:
    """The files of a model; downloads what is not cached.

    path: its folder, or a hub name. code: take Python files along (`trust_remote_code`). Raises
    ModelError without safetensors.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _downloaded(name, code)
    config_file = folder / "config.json"
    if (folder / INDEX).is_file():
        shards = tuple(sorted(set(_object(folder / INDEX).get("weight_map", {}).values())))
    else:
        shards = (SINGLE,)
    missing = [s for s in (config_file.name, *shards) if not (folder / s).is_file()]
    if missing:
        raise ModelError(
            f"{name}: expected {missing[0]} among its files, found none; its weights are read from "
            "safetensors"
        )
    return BaseFiles(folder, shards, _object(config_file))


def _object(file: Path) -> dict[str, Any]:
    """A JSON object of a model's. Raises ModelError where the file holds none."""
    try:
        return dict(read_json(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{file}: expected a JSON object, found {error}; download the model again"
        ) from None


def _downloaded(name: str, code: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "tokenizer.model", *(["*.py"] if code else [])]
    try:
        # Mistral's repositories hold every weight a second time.
        return Path(
            snapshot_download(name, allow_patterns=patterns, ignore_patterns="consolidated*")
        )
    except (OSError, ValueError) as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelError(f"{name}: its files cannot be had: {line}") from error


def tensors_of(files: BaseFiles, modules: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """(module, its weight as published) of each of these modules, file by file."""
    keys = {shard: weight_keys(files.folder / shard) for shard in files.shards}
    names = [k.removesuffix(".weight") for own in keys.values() for k in own if is_weight(k)]
    place = {found_name(module, names): module for module in modules}
    for shard, own in keys.items():
        with safe_open(files.folder / shard, framework="pt") as opened:
            for key in filter(is_weight, own):
                module = place.get(key.removesuffix(".weight"))
                if module is not None:
                    yield module, opened.get_tensor(key)


def weight_keys(shard: Path) -> list[str]:
    with safe_open(shard, framework="pt") as opened:
        return list(opened.keys())


def is_weight(key: str) -> bool:
    return key.endswith(".weight")


def found_name(module: str, names: list[str]) -> str:
    """The checkpoint's name of a module: its own, else the only one with the same layer path.

    Checkpoints of models that also see keep the text decoder under another prefix.
    """
    if module in names:
        return module
    tail = module[module.find("layers.") :] if "layers." in module else module
    others = [n for n in names if n.endswith(f".{tail}") and "vision" not in n and "audio" not in n]
    if len(others) != 1:
        raise ModelError(
            f"{module}: expected one weight of this name in the base, found {len(others)}; this "
            "model's layers are packed in another way, merge it with peft's merge_and_unload"
        )
    return others[0]
