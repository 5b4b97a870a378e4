"""The exported tokenizer as plain transformers reads it, in whose hands it will be.

AutoTokenizer goes by config.json's `model_type`: beside some of them, qwen2 among them, it builds
that model's own tokenizer from the vocabulary, whatever tokenizer.json says, and a vocabulary of
another kind gets other ids. An `auto_map` entry in tokenizer_config.json, though it names no code,
makes it read tokenizer.json as it stands (transformers 5.15 to 5.23).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from icpo_lite.core.errors import ModelError
from icpo_lite.policy.tokenizer_files import AS_IT_STANDS, write_tokenizer_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What is compared beside the chats of the parity check.
TEXTS = ("Ann has 12 apples, and buys 3.5 more: how many?", "¿Cuántas? 你好\n\tx_1 = f(y)  # z")


def make_plain(folder: Path, tokenizer: PreTrainedTokenizerBase, chats: Sequence[str]) -> None:
    """See that AutoTokenizer reads in `folder` what `tokenizer` was when it was saved there.

    chats: rendered prompts, compared too. Raises ModelError where it cannot be made so.
    """
    texts = [*TEXTS, *chats]
    if _ids(folder, texts) == _own(tokenizer, texts):
        return
    write_tokenizer_config(folder, AS_IT_STANDS)
    if _ids(folder, texts) != _own(tokenizer, texts):
        raise ModelError(
            f"{folder.name}: AutoTokenizer reads other token ids than the run was trained with, "
            "so that nobody else could use the export; serve the adapter with icpo-lite chat"
        )


def _own(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


def _ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    from transformers import AutoTokenizer

    try:
        read = AutoTokenizer.from_pretrained(folder)
    except (ValueError, OSError, ImportError, KeyError, TypeError):
        return []
    return _own(read, texts)
