"""The optimizer of the LoRA weights, and its state as flat tensors and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from icpo_lite.core.errors import RunDirectoryError


def make_optimizer(
    parameters: Sequence[Tensor],
    optim: str,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """AdamW by TRL's name for it: adamw_torch, or bitsandbytes' adamw_8bit and paged_adamw_8bit.

    Paged state may move to the CPU's memory when the GPU's runs short.
    """
    options: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    if optim == "adamw_torch":
        return torch.optim.AdamW(parameters, **options)
    import bitsandbytes

    kinds = {
        "adamw_8bit": bitsandbytes.optim.AdamW8bit,
        "paged_adamw_8bit": bitsandbytes.optim.PagedAdamW8bit,
    }
    chosen: torch.optim.Optimizer = kinds[optim](parameters, **options)
    return chosen


# ------------------------------------------------------------------------------ what is kept of it


def pack_optimizer(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as flat tensors ("3.exp_avg" of parameter 3) and JSON, bit for bit.

    The state is read where it lies: a library's own `state_dict` may wrap it (bitsandbytes 0.50
    does). Blocks inside it are walked, "3.block/count". Raises RunDirectoryError at a value that
    is neither.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        for name, value in _flat(optimizer.state.get(parameter, {})):
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            elif value is None or isinstance(value, (bool, int, float, str)):
                numbers[f"{index}.{name}"] = value
            else:
                raise RunDirectoryError(
                    "optimizer: expected tensors and numbers as its state, found a "
                    f"{type(value).__name__} in {name} of parameter {index}; use optim: adamw_torch"
                )
    groups = optimizer.state_dict()["param_groups"]
    return tensors, {"numbers": numbers, "param_groups": groups}


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Puts back what `pack_optimizer` gave.

    Raises RunDirectoryError when the parameters, or the kind of optimizer, are not those that it
    was packed from.
    """
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    saved_sizes = [len(group["params"]) for group in state["param_groups"]]
    if sizes != saved_sizes:
        raise RunDirectoryError(
            f"expected the optimizer's saved groups of {saved_sizes} parameters, found {sizes}; "
            "resume with the recipe of the run"
        )
    entries: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *state["numbers"].items()]:
        index, _, path = key.partition(".")
        *blocks, name = path.split("/")
        place = entries.setdefault(int(index), {})
        for block in blocks:
            place = place.setdefault(block, {})
        place[name] = value
    _check_fits(optimizer, entries)
    groups = [
        # JSON has no tuples; betas come back as what the optimizer itself uses.
        {k: tuple(v) if isinstance(now.get(k), tuple) else v for k, v in saved.items()}
        for saved, now in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
    _page_again(optimizer)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _flat(entries: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{inner}", v) for inner, v in _flat(value))
        else:
            yield name, value


#: Where an optimizer keeps the running mean of the gradients: torch's, bitsandbytes'.
_MEANS = {"AdamW": "exp_avg", "AdamW8bit": "state1", "PagedAdamW8bit": "state1"}


def _check_fits(optimizer: torch.optim.Optimizer, entries: Mapping[int, Mapping[str, Any]]) -> None:
    """Raises RunDirectoryError where saved state is not this optimizer's or these parameters'."""
    mean = _MEANS.get(type(optimizer).__name__)
    parameters = _parameters(optimizer)
    for index, entry in entries.items():
        if mean is None or not entry:
            continue
        average, parameter = entry.get(mean), parameters[index]
        if not isinstance(average, Tensor):
            raise RunDirectoryError(
                f"expected {mean} in the optimizer's saved state, found {', '.join(sorted(entry))}:"
                " another optimizer wrote it; resume the run with its optim"
            )
        if average.shape != parameter.shape:
            raise RunDirectoryError(
                f"expected parameter {index} of shape {list(average.shape)} as in the checkpoint, "
                f"found {list(parameter.shape)}; resume with the recipe of the run"
            )


def _page_again(optimizer: Any) -> None:
    """bitsandbytes loads paged state as plain GPU memory; put it back into pages."""
    if not getattr(optimizer, "is_paged", False):
        return
    for parameter, entry in optimizer.state.items():
        if parameter.device.type != "cuda":
            continue
        for name in ("state1", "state2"):
            buffer = optimizer.get_state_buffer(parameter, dtype=entry[name].dtype)
            entry[name] = buffer.copy_(entry[name])
