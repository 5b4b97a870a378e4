"""Which tokens end a reply, of a model that is loaded and of one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icpo_lite.policy.chat_template import end_of_turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from icpo_lite.recipe.sections import ModelKeys


def end_tokens(
    tokenizer: PreTrainedTokenizerBase, listed: int | list[int] | None
) -> frozenset[int]:
    """The tokenizer's, the model's own list and what the chat template writes after a reply.

    listed: `eos_token_id` of the model's generation config.
    """
    ids = listed if isinstance(listed, list) else [listed]
    ids = [*ids, tokenizer.eos_token_id, end_of_turn(tokenizer)]
    return frozenset(i for i in ids if i is not None)


def stored_end_tokens(
    keys: ModelKeys, path: str, tokenizer: PreTrainedTokenizerBase
) -> frozenset[int]:
    """As `end_tokens`, from the files at `path`, no weights read."""
    from transformers import AutoConfig, GenerationConfig

    config: Any
    try:
        config = GenerationConfig.from_pretrained(path)
    except OSError:  # the model has none, and takes what its own config says
        config = AutoConfig.from_pretrained(path, trust_remote_code=keys.trust_remote_code)
        config = config.get_text_config()
    return end_tokens(tokenizer, getattr(config, "eos_token_id", None))
