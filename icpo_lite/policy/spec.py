"""What to load."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
if TYPE_CHECKING:
    pass


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", ""))


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@dataclass(frozen=True)
class ModelSpec:
    """What to load; the fields are the recipe's keys of the same names.

    lora_r: None loads the bare model, for evaluation. threads: at most so many on a CPU, None for
    all cores. use_vllm: vLLM beside it, through unsloth.
    """

    model_name_or_path: str
    backend: str = "auto"
    load_in_4bit: bool = True
    device: str = "auto"
    dtype: str = "auto"
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    gradient_checkpointing: bool = False
    lora_r: int | None = None
    lora_alpha: float = 16
    lora_dropout: float = 0.0
    lora_target_modules: str | tuple[str, ...] = "all-linear"
    lora_dtype: str = "float32"
    seed: int = 0
    threads: int | None = None
    use_vllm: bool = False
