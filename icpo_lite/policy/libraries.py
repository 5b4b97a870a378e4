"""What errors and headers say of a library: its version, the first line of what it raised."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", ""))


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def why_and_what(error: BaseException, name: str) -> str:
    """Why a model cannot be had; where the hub does not answer, also what to do about it."""
    told = first_line(error).rstrip(".")
    unreached = re.search(r"connect|huggingface\.co|[Oo]ffline|[Tt]imed? ?out", str(error))
    if Path(name).is_dir() or not unreached:
        return told
    offline = " (HF_HUB_OFFLINE forbids it here)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return f"{told}; check the name and the network{offline}, or give a folder that holds the model"


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Inside, cycles are not looked for: libraries make a million objects, and all of them stay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def import_uncompiled(name: str) -> None:
    """Import a library without torch's compiler, which takes longer to import than all of it.

    bitsandbytes asks for it as it is imported, for what it computes where it has no kernel.
    """
    switch = "TORCHDYNAMO_DISABLE"
    if name in sys.modules or switch in os.environ:
        return
    import torch

    os.environ[switch] = "1"
    compiled, torch.compile = torch.compile, _as_it_is
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # whoever needs it says so
    finally:
        torch.compile = compiled
        del os.environ[switch]


def _as_it_is(model: Any = None, **options: Any) -> Any:
    """What torch.compile gives where it is switched off, which it imports the compiler to say."""
    return model if model is not None else lambda function: function


def hide_loading_bar() -> None:
    """Keeps transformers' bar of weights being read out of our display; downloads keep theirs."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    downloads = not are_progress_bars_disabled()
    logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()
