"""ICPO (arXiv 2601.15330) on one consumer GPU: train a language model to ask before it guesses.

    from icpo_lite import load_recipe, train
    train(load_recipe("tiny", max_steps=20))

What may be imported from here is listed in `icpo_lite.api`, which has the documentation; it is
loaded when a name is first used, so that importing the package itself costs nothing.
"""

import os

#: As in `typing`, whose import takes ten times as long as this module's.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from icpo_lite.api import *  # noqa: F403

__version__ = "0.1.0"

_PUBLIC = (
    *("load_recipe", "train", "Trainer", "load_policy", "evaluate", "augment", "classify"),
    *("grade", "token_logprobs", "Recipe", "Prompt", "Grade", "ResponseType"),
    *("IcpoError", "UsageError", "RecipeError", "DataError", "ModelError", "DeviceError"),
    *("GraderError", "NumericsError", "OutOfMemory", "RunDirectoryError"),
    *("Interrupted", "Halted"),
)
__all__ = ["__version__", *_PUBLIC]

# Read by torch and the hub's libraries when they are first used; what the user has set stays.
for _name, _value in {
    # There is no telemetry here; upstream pings are switched off.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    # Segments that grow leave no gaps between sequences of many lengths, which a full GPU lacks.
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)


def __getattr__(name: str) -> "Any":
    if name not in _PUBLIC:
        raise AttributeError(f"module 'icpo_lite' has no attribute {name!r}")
    from icpo_lite import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
