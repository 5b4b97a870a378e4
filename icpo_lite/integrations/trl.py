"""A recipe for TRL's GRPOTrainer: its prompts, its tokenizer and its reward.

    from icpo_lite.integrations.trl import dataset, reward_funcs, tokenizer
    GRPOTrainer(
        model="Qwen/Qwen2.5-7B-Instruct",
        args=GRPOConfig(shuffle_dataset=False, ...),
        train_dataset=dataset("qwen7b"),
        reward_funcs=reward_funcs("qwen7b"),
        processing_class=tokenizer("qwen7b"),
    )

`icpo-lite handover RECIPE --to trl` writes a whole folder. Read in TRL 1.16.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import UsageError
from icpo_lite.policy.chat_template import end_of_turn
from icpo_lite.tools.handover.handed_prompts import StoredTokenizer, handed_prompts, opened
from icpo_lite.tools.handover.reply_rewards import ReplyRewards
from icpo_lite.tools.handover.rows import ROW, trl_rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from icpo_lite.recipe import Recipe


def dataset(recipe: Recipe | str | Path) -> Dataset:
    """The prompts of the whole run with TRL's conversational column `prompt`, in their order.

    Set `shuffle_dataset=False`: the order holds the fraction of underspecified prompts. Raises
    what `icpo-lite train` would where they cannot be made.
    """
    from datasets import Dataset

    return Dataset.from_list(list(trl_rows(handed_prompts(opened(recipe)))))


def tokenizer(recipe: Recipe | str | Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer with the recipe's chat template options, for `processing_class`.

    TRL ends a reply at the tokenizer's end token: where the chat template ends turns with another
    one, that is made it.
    """
    reader = StoredTokenizer(opened(recipe))
    found: PreTrainedTokenizerBase = reader.tokenizer
    end = end_of_turn(found)
    if end is not None and end != found.eos_token_id:
        found.eos_token_id = end
    return found


def model(recipe: Recipe | str | Path) -> str:
    """What `GRPOTrainer(model=...)` takes: a hub name, or the folder that holds the model."""
    return StoredTokenizer(opened(recipe)).path


def reward_funcs(recipe: Recipe | str | Path) -> list[Callable[..., list[float]]]:
    """The recipe's whole reward as one function with TRL's signature, named as in the recipe.

    It judges each reply by the intent of its prompt, with the recipe's judge, graders, weights,
    own functions and length penalty, and gives what `icpo-lite train` would give. Rates of asking
    go into TRL's log. Each process makes its own; they share nothing.
    """
    rewards = ReplyRewards(opened(recipe))

    def reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        if columns.get(ROW) is None:
            raise UsageError(
                f"reward: expected the column {ROW!r} of icpo_lite.integrations.trl.dataset, found "
                f"{', '.join(sorted(columns)) or 'none'}; train on that data set, with "
                "remove_unused_columns=False"
            )
        ids: Sequence[Sequence[int] | None] = completion_ids or [None] * len(completions)
        replies = [
            rewards.reply(row, _said(completion, some, rewards.reader), some)
            for row, completion, some in zip(columns[ROW], completions, ids, strict=True)
        ]
        judged, rates = rewards.judged(replies)
        if log_metric is not None:
            for name, value in rates.items():
                log_metric(name, value)
        return [one.reward.total for one in judged]

    reward.__name__ = str(rewards.recipe.reward["name"])
    return [reward]


def _said(completion: Any, ids: Sequence[int] | None, reader: StoredTokenizer) -> str:
    """What a completion says: a text, or a list whose first message is the reply.

    TRL may have taken thoughts or calls out of the text: then the tokens tell.
    """
    if isinstance(completion, str):
        return completion
    message: Mapping[str, Any] = completion[0]
    content = message.get("content")
    taken_out = any(message.get(part) for part in ("reasoning_content", "thinking", "tool_calls"))
    if isinstance(content, str) and not (taken_out and ids):
        return content
    return str(reader.tokenizer.decode(list(ids or ()), skip_special_tokens=True))
