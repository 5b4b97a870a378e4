"""Tokens of a tokenizer that the model has no row for.

A word added to a tokenizer whose model was not resized has an id beyond the embedding: an
IndexError on a CPU, a device-side assert on a GPU that takes the whole process with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_REMEDY = (
    "call resize_token_embeddings on the model and save it with this tokenizer, or use the "
    "tokenizer that belongs to it"
)


def rows_of(model: Any) -> int:
    """Tokens that a model can read and write: the rows of its embedding and of its head."""
    outer = (model.get_input_embeddings(), model.get_output_embeddings())
    return min(int(part.weight.shape[0]) for part in outer if part is not None)


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, rows: int) -> str:
    """Raises ModelError where a word of the tokenizer has no row; returns a note, or "".

    Special tokens that no chat of text holds (an image's, of a model that also sees) may lie
    beyond: `check_ids` refuses them where one comes up after all. So may the pad token, in whose
    place an end token fills up rows.
    """
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    beyond = {i: token for token, i in tokenizer.get_vocab().items() if i >= rows}
    words = sorted(set(beyond) - special)
    if words:
        raise ModelError(
            f"{name}: expected token ids below the {rows} rows of its embedding, found "
            f"{beyond[words[0]]!r} with id {words[0]} and {len(words) - 1} more; {_REMEDY}"
        )
    pad = tokenizer.pad_token_id
    if pad is not None and pad >= rows:
        return (
            f"the pad token {tokenizer.pad_token!r} has id {pad}, beyond the embedding's {rows} "
            "rows; an end token fills up rows in its place, behind the mask"
        )
    return ""


def check_ids(name: str, ids: Sequence[int], rows: int) -> None:
    """Raises ModelError where a text holds a token that the model has no row for."""
    largest = max(ids, default=0)
    if largest >= rows:
        raise ModelError(
            f"{name}: expected token ids below the {rows} rows of its embedding, found {largest} "
            f"in a chat; {_REMEDY}"
        )
