"""A recipe's prompts as another trainer takes them: rows in the order in which `train` draws them.

Such a trainer goes through its rows one after the other. So what `prompt_pool` draws step by step
is written down for the whole run: the fraction of underspecified prompts of each step, the weights
of several data sets and the seed's order go along without the other side knowing of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import Message, Prompt
from icpo_lite.data.from_recipe import corpus_needs_model, require_kinds, training_prompts
from icpo_lite.data.mixture import weights
from icpo_lite.data.prompt_file import to_row
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.policy.chat_template import chat_text, with_template_roles
from icpo_lite.policy.end_tokens import stored_end_tokens
from icpo_lite.policy.load import model_path, tokenizer_of
from icpo_lite.policy.template_options import opened_thought
from icpo_lite.recipe import Recipe, load_recipe
from icpo_lite.recipe.input_paths import require_model
from icpo_lite.rollout.from_recipe import recipe_ids
from icpo_lite.training.step_plan import Schedules

if TYPE_CHECKING:
    from icpo_lite.recipe.sections import ModelKeys


def opened(recipe: Recipe | str | Path) -> Recipe:
    """The recipe itself, or the one that is read from a file or goes by a shipped name."""
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe)


@dataclass(frozen=True)
class StoredTokenizer:
    """A model's tokenizer and what its config says, without weights (`rollout.groups.Reader`)."""

    keys: ModelKeys

    @cached_property
    def tokenizer(self) -> Any:
        return tokenizer_of(self.keys)

    @property
    def path(self) -> str:
        return model_path(self.keys.model_name_or_path)

    @cached_property
    def end_ids(self) -> frozenset[int]:
        return stored_end_tokens(self.keys, self.path, self.tokenizer)

    @cached_property
    def opened_thought(self) -> str:
        """The mark by which prompts end inside a thought, or "" (`Policy.opened_thought`)."""
        return opened_thought(self.tokenizer)

    @cached_property
    def max_positions(self) -> int:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(
            self.path, trust_remote_code=self.keys.trust_remote_code
        )
        return int(config.get_text_config().max_position_embeddings)

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self.encode_text(chat_text(self.tokenizer, messages))

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def turns(self, prompt: Prompt) -> list[dict[str, str]]:
        """The prompt's chat as any trainer hands it to this tokenizer's own template."""
        return with_template_roles(self.tokenizer, prompt.messages)

    def reads_alike(self, prompt: Prompt) -> bool:
        """Whether that gives the text that `icpo-lite train` trains on, functions included."""
        text = self.tokenizer.apply_chat_template(
            self.turns(prompt), tokenize=False, add_generation_prompt=True
        )
        return bool(text == chat_text(self.tokenizer, prompt.messages))


@dataclass(frozen=True)
class HandedPrompts:
    """A recipe's prompts, fit for its lengths. described: one line that says what they are."""

    recipe: Recipe
    prompts: tuple[Prompt, ...]
    described: str
    reader: StoredTokenizer

    def drawn(self) -> Iterator[Prompt]:
        """The prompts of all `max_steps` steps, step by step, as `train` draws them.

        A schedule that goes by what is measured stays at its start.
        """
        recipe = self.recipe
        pool = PromptPool(self.prompts, seed=recipe.seed, weights=weights(recipe))
        schedules = Schedules(recipe)
        for step in range(recipe.max_steps):
            share = schedules.at(step).share_underspecified
            yield from pool.draw(recipe.prompts_per_step, share)


def handed_prompts(recipe: Recipe) -> HandedPrompts:
    """The prompts that `train` would train on. Raises what it would raise on the way there.

    Also RecipeError where making them takes the model itself.
    """
    require_model(recipe)
    if corpus_needs_model(recipe):
        raise RecipeError(
            f"{recipe.where('augment')}: augment: expected prompts that need no model, found "
            "method: self or verify, which ask it; run `icpo-lite augment` and name its output as "
            "dataset_name"
        )
    found, described = training_prompts(recipe)
    require_kinds(recipe, found)
    reader = StoredTokenizer(recipe)
    fit = recipe_ids(recipe, reader, found)
    kept = tuple(prompt for prompt in found if prompt.prompt_id in fit)
    require_kinds(recipe, kept)
    dropped = len(found) - len(kept)
    described += f"; {dropped} too long and left out" if dropped else ""
    return HandedPrompts(recipe, kept, described, reader)


def packed(prompt: Prompt) -> str:
    """A prompt as one string, with all that a reward needs of it; `prompt_file.from_row` reads
    it."""
    return json.dumps(to_row(prompt), ensure_ascii=False)
