"""The adapter alone, as peft, llama.cpp, vLLM and Ollama load it beside its base.

Readers other than peft know one scale, alpha / r: what another rule or a rule by module makes of it
(`use_rslora`, `alpha_pattern`) is multiplied into B, so that every reader adds the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor, isfinite

from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.files import read_json
from icpo_lite.policy.load import model_path, tokenizer_of
from icpo_lite.policy.tokenizer_files import save_beside_adapter
from icpo_lite.recipe.sections import ModelKeys
from icpo_lite.tools.export.plain_tokenizer import make_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from icpo_lite.recipe import Recipe

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_B = ".lora_B.weight"


def write_adapter(
    run: Path, recipe: Recipe, folder: Path, *, shared: bool
) -> tuple[PreTrainedTokenizerBase, int]:
    """The adapter of `run` and its tokenizer in `folder`; returns the tokenizer, and bytes.

    shared: it leaves this machine, so that a base in a folder here is told by its name alone.
    Raises ModelError for weights that are not numbers, or that change nothing.
    """
    config = _read_config(run / CONFIG)
    weights = _plainly_scaled(load_file(run / WEIGHTS), config)
    _check(weights, run)
    name = recipe.model_name_or_path
    here = Path(model_path(name))
    if here.is_dir():
        config["base_model_name_or_path"] = here.name if shared else str(here.resolve())
    else:
        config["base_model_name_or_path"] = name
    config["inference_mode"] = True
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer = tokenizer_of(ModelKeys.of(recipe))
    save_beside_adapter(tokenizer, folder)
    make_plain(folder, tokenizer, [])
    return tokenizer, (folder / WEIGHTS).stat().st_size


def require_plain_lora(run: Path, use: str) -> None:
    """Raises UsageError for an adapter that is more than low-rank updates, which `use` cannot
    say."""
    config = _read_config(run / CONFIG)
    if config.get("use_dora") or config.get("bias", "none") != "none":
        raise UsageError(
            f"{use}: expected plain LoRA, found DoRA or LoRA with biases; leave --adapter out: the "
            "merged model holds it"
        )


def _read_config(file: Path) -> dict[str, Any]:
    try:
        return dict(read_json(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{file}: expected a JSON object, found {error}; export another checkpoint"
        ) from None


def _check(weights: Mapping[str, Tensor], run: Path) -> None:
    for name, tensor in weights.items():
        if not isfinite(tensor).all():
            raise ModelError(f"{run}: expected finite weights, found NaN or infinity in {name}")
    grown = [t for name, t in weights.items() if name.endswith(_B)]
    if grown and not any(t.any() for t in grown):
        raise ModelError(
            f"{run}: expected an adapter that changes something, found B of zeros; train it first"
        )


def _plainly_scaled(weights: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """The weights under `alpha / r` alone; takes what said otherwise out of `config`."""
    alphas: dict[str, float] = config.get("alpha_pattern") or {}
    ranks: dict[str, int] = config.get("rank_pattern") or {}
    rooted = bool(config.get("use_rslora"))
    if not rooted and not alphas:
        return weights
    alpha = float(config["lora_alpha"])
    config |= {"use_rslora": False, "alpha_pattern": {}}
    scaled = {}
    for name, tensor in weights.items():
        if name.endswith(_B):
            module = name.removesuffix(_B).removeprefix("base_model.model.")
            rank = _of_module(ranks, module, config["r"])
            own = _of_module(alphas, module, alpha)
            factor = own / alpha * (rank**0.5 if rooted else 1.0)
            tensor = (tensor.float() * factor).to(tensor.dtype)
        scaled[name] = tensor
    return scaled


def _of_module(pattern: Mapping[str, Any], module: str, usual: float) -> float:
    """As peft looks a module up: a key is a name's end, or a regular expression that it ends in."""
    found = (v for k, v in pattern.items() if re.match(rf"(.*\.)?({k})$", module))
    return float(next(found, usual))
