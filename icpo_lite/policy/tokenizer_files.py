"""What a tokenizer's saved files say to AutoTokenizer, beside a model and beside an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from icpo_lite.core.files import write_atomically

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Names no code, and makes AutoTokenizer read tokenizer.json as it stands, whatever config.json's
#: `model_type` would have it build (transformers 5.15 to 5.23).
AS_IT_STANDS = {"AutoTokenizer": [None, None]}


def write_tokenizer_config(folder: Path, auto_map: dict[str, list[None]] | None) -> None:
    """Put this `auto_map` into the folder's tokenizer_config.json; None takes it out."""
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config.pop("auto_map", None)
    if auto_map is not None:
        config["auto_map"] = auto_map
    write_atomically(file, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())


def save_beside_adapter(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """In a folder without config.json AutoTokenizer reads tokenizer.json by itself, and fails at a
    map that names no code."""
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    if json.loads(file.read_text(encoding="utf-8")).get("auto_map") == AS_IT_STANDS:
        write_tokenizer_config(folder, None)
