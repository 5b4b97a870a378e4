"""What `init` finds out about the model and the data, as values of keys and lines to say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import IcpoError
from icpo_lite.core.types import Intent, Prompt

if TYPE_CHECKING:
    from icpo_lite.data.first_look import Look
    from icpo_lite.recipe import Recipe

#: How a line begins that says why the data say nothing.
UNSEEN = "The data could not be looked at"
#: Lengths are rounded up to a multiple of this.
STEP = 32
#: All prompts are let in, unless the longest is so many times as long as this share of them: what
#: is longer than that is then left out and counted.
OUTLIER, LET_IN = 1.5, 0.99
#: A model writes more than the person who worked the answers out.
MORE_WORDS = 2.0
#: Below this many prompts a hold-out takes a fifth, so that something is judged.
FEW = 200


def data_values(source: str, base: Recipe) -> tuple[dict[str, Any], Look | None, list[str]]:
    """Keys for a data set, what was seen of it, and what to say."""
    from icpo_lite.data.augment import AugmentOptions
    from icpo_lite.data.first_look import look_at

    try:
        look = look_at(source, base.bind("augment", AugmentOptions))
    except (IcpoError, OSError) as error:
        return {}, None, [f"{UNSEEN}: {error}"]
    values: dict[str, Any] = {"columns": dict(look.columns), "task": look.task}
    said = [f"{source}: {look.line()}."]
    if look.bad:
        values["augment"] = {"on_bad_row": "skip"}
    if look.task == "code":
        values["allow_code_execution"] = True
        said.append("Grading code runs it, in a sandbox: allow_code_execution is true.")
    if not look.kinds[Intent.UNDERSPECIFIED]:
        from icpo_lite.data.bare_answers import NONE_LACKS

        values["share_underspecified"] = 0.0
        said.append(f"share_underspecified is 0: {NONE_LACKS}.")
    elif not look.kinds[Intent.COMPLETE]:
        values["share_underspecified"] = 1.0
        said.append("share_underspecified is 1: every prompt lacks something.")
    values["on_long_prompt"] = "drop"
    if Path(source).is_file():  # a file has no splits
        values["eval_holdout"] = 0.2 if len(look.prompts) < FEW else 0.1
    return values, look, said


def length_values(model: str, look: Look | None, base: Recipe) -> tuple[dict[str, Any], list[str]]:
    """Lengths in the model's own tokens, and within what it has room for."""
    from icpo_lite.policy.load import load_tokenizer

    try:
        name = _at_hand(model)
        tokenizer = load_tokenizer(name)
        room = _room(name)
    except (IcpoError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[:1]
        return {}, [f"The model could not be looked at: {' '.join(first)}"]
    if look is None:
        return {}, []
    from icpo_lite.core.diagnostics import tokenizer_warning
    from icpo_lite.core.turns import with_opening
    from icpo_lite.data.system_prompts import opening_turn
    from icpo_lite.policy.chat_template import chat_text

    def ids(prompt: Prompt) -> list[int]:
        opening = opening_turn(base.system_prompt, prompt)
        text = chat_text(tokenizer, with_opening(prompt.messages, opening))
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    read = {p.prompt_id: ids(p) for p in look.prompts}
    prompts = sorted(map(len, read.values()))
    replies = sorted(
        len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in look.replies
    )
    prompt = _rounded(_let_in(prompts))
    reply = max(_rounded(MORE_WORDS * _let_in(replies)), base.max_completion_length)
    if prompt + reply > room:
        reply = max(min(reply, room // 2), 1)
        prompt = min(prompt, room - reply)
    fitting = sum(n <= prompt for n in prompts)
    said = [
        f"{model}: {fitting} of {len(prompts)} prompts have at most {prompt} tokens (the longest "
        f"{prompts[-1]}); replies get {reply} of the {room} that the model has room for."
    ]
    if unknown := tokenizer_warning(read, tokenizer.unk_token_id):
        said.append(f"{unknown[:1].upper()}{unknown[1:]}.")
    return {"max_prompt_length": prompt, "max_completion_length": reply}, said


def _let_in(lengths: Sequence[int]) -> int:
    """The longest of these lengths, in order, or that of most where there are outliers."""
    most = lengths[math.ceil(LET_IN * len(lengths)) - 1]
    return lengths[-1] if lengths[-1] <= OUTLIER * most else most


def _rounded(tokens: float) -> int:
    return STEP * max(math.ceil(tokens / STEP), 1)


def _at_hand(model: str) -> str:
    """A model whose tokenizer can be had now. Raises OSError soon where the hub does not answer."""
    from icpo_lite.policy.load import model_path

    path = model_path(model)
    if not Path(path).is_dir():
        from huggingface_hub import try_to_load_from_cache

        if not isinstance(try_to_load_from_cache(path, "tokenizer_config.json"), str):
            _require_hub()
    return model


def _require_hub() -> None:
    """Raises OSError where the hub does not answer: its own client would go on trying."""
    import httpx
    from huggingface_hub.constants import ENDPOINT

    try:
        httpx.head(ENDPOINT, timeout=5)
    except httpx.HTTPError:
        raise OSError(f"{ENDPOINT} does not answer; its lengths are those of qwen1.5b") from None


def _room(model: str) -> int:
    from transformers import AutoConfig

    from icpo_lite.policy.load import model_path

    config = AutoConfig.from_pretrained(model_path(model)).get_text_config()
    return int(config.max_position_embeddings)
