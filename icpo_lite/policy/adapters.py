"""LoRA on a loaded base: made anew, gone on with or read from a folder, and saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.policy.backends import load_adapter
from icpo_lite.policy.base_files import files_at
from icpo_lite.policy.lora_starts import as_plain_lora, begin
from icpo_lite.policy.lora_targets import ALL, matching
from icpo_lite.policy.start_adapter import load_weights

if TYPE_CHECKING:
    from icpo_lite.policy.backends import Loader
    from icpo_lite.recipe.sections import PolicyKeys

Named = Sequence[tuple[str, nn.Parameter]]


@dataclass(frozen=True)
class Lora:
    """The model inside peft's wrapper. start: copies, by name, of weights that training begins from
    where these are another policy than the base."""

    model: Any
    start: dict[str, Tensor]


def check_before_loading(keys: PolicyKeys, path: str) -> None:
    """Raises UsageError for targets that no layer has, and for a rank that a start does not have.

    Asked of the model's empty shape, so that no weight is fetched for a misspelled name.
    """
    if keys.lora_target_modules == ALL and not keys.starts_in_base:
        return
    model = empty_model(path, trust_remote_code=keys.trust_remote_code)
    named = [(n, m) for n, m in model.named_modules() if n]
    if keys.lora_target_modules != ALL:
        hits = {*matching(named, keys.lora_target_modules)}
        named = [(n, m) for n, m in named if n in hits]
    head = model.get_output_embeddings()
    sizes = {n: min(m.weight.shape) for n, m in named if isinstance(m, nn.Linear) and m is not head}
    least = min(sizes, key=lambda n: sizes[n], default=None)
    if keys.starts_in_base and least is not None and keys.lora_r > sizes[least]:
        raise UsageError(
            f"lora_r: {keys.init_lora_weights} begins at as many directions as the rank, expected "
            f"at most {sizes[least]} for {least}, found {keys.lora_r}"
        )


def empty_model(path: str, *, trust_remote_code: bool) -> Any:
    """The causal LM without weights, by its configuration."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    with torch.device("meta"), no_init_weights():
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def new_lora(model: Any, keys: PolicyKeys, loader: Loader, path: str) -> Lora:
    """LoRA as the keys say: fresh, or with the weights of `adapter_name_or_path`."""
    wrapped = loader.new_adapter(model, keys)
    if keys.adapter_name_or_path is not None:
        load_weights(wrapped, keys.adapter_name_or_path)
    else:
        name, code = keys.model_name_or_path, keys.trust_remote_code
        begin(wrapped, keys, lambda: files_at(name, path, code=code))
    set_dtype(wrapped, getattr(torch, keys.lora_dtype))
    kept: dict[str, Tensor] = {}
    if keys.keeps_start and not keys.starts_in_base:
        named = wrapped.named_parameters()
        kept = {n: p.detach().clone() for n, p in named if p.requires_grad}
    return Lora(wrapped, kept)


def read_lora(model: Any, folder: Path, *, trainable: bool) -> Any:
    """The model inside peft's wrapper, with the adapter of a folder."""
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"{folder}: expected adapter_model.safetensors, found {_unsafe(folder)}; give a run "
            "that has finished, or one of its checkpoint folders"
        )
    return load_adapter(model, folder, trainable=trainable)


def _unsafe(folder: Path) -> str:
    """A pickled adapter is named and never read: reading one can run any code."""
    pickled = folder / "adapter_model.bin"
    return "only adapter_model.bin, a pickle that is not read" if pickled.is_file() else "none"


def set_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    for named in (model.named_parameters(), model.named_buffers()):
        for name, tensor in named:
            if "lora_" in name:
                tensor.data = tensor.data.to(dtype)


def save_lora(model: Any, folder: Path) -> None:
    """Adapter files that peft and transformers load on the unchanged base."""
    own_readme = (folder / "README.md").exists()
    with as_plain_lora(model) as weights:
        model.save_pretrained(folder, **({} if weights is None else {"state_dict": weights}))
    if not own_readme:  # peft's is an empty form
        (folder / "README.md").unlink(missing_ok=True)


@contextlib.contextmanager
def exchanged(named: Named, other: dict[str, Tensor]) -> Iterator[None]:
    """Inside, parameters have the values of `other`, which holds theirs meanwhile."""
    _exchange(named, other)
    try:
        yield
    finally:
        _exchange(named, other)


def _exchange(named: Named, other: dict[str, Tensor]) -> None:
    for name, parameter in named if other else ():
        own = parameter.data
        parameter.data, other[name] = other[name], own
