"""`icpo-lite preview`: each prompt beside its underspecified twin, as the model will see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from icpo_lite.cli.recipe_command import RecipeCommand, recipe_arguments
from icpo_lite.core.next_step import next_line
from icpo_lite.core.visible_text import echo

if TYPE_CHECKING:
    from icpo_lite.core.types import Prompt, Reward, Turn, Verdict

    RewardRule = Callable[[Prompt, Verdict, Turn], Reward]


@click.command(cls=RecipeCommand)
@recipe_arguments()
@click.option(
    "-n",
    "--pairs",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many problems to show.",
)
@click.option("--plain", is_flag=True, help="Show the turns without the chat template.")
def preview(recipe: str, overrides: tuple[str, ...], pairs: int, plain: bool) -> None:
    """Show prompts of RECIPE beside their underspecified twins.

    Each is shown in the model's own chat template, with its number of tokens and the rewards that
    its replies can earn. Loads the tokenizer alone and needs no GPU. KEY=VALUE changes keys of
    the recipe.
    """
    from icpo_lite.core.diagnostics import tokenizer_warning
    from icpo_lite.data.from_recipe import corpus_needs_model, require_kinds, training_prompts
    from icpo_lite.policy.load import tokenizer_of
    from icpo_lite.recipe import load_recipe
    from icpo_lite.recipe.input_paths import require_model
    from icpo_lite.rewards.from_recipe import bind_reward
    from icpo_lite.training.asking_demonstrations import asking_demonstration

    loaded = load_recipe(recipe, overrides)
    require_model(loaded)
    if corpus_needs_model(loaded):
        raise click.UsageError(
            f"{loaded.where('augment')}: making these prompts takes the model; run `icpo-lite "
            "augment` and name its output as dataset_name"
        )
    name = loaded.model_name_or_path
    rule = bind_reward(loaded)
    prompts, described = training_prompts(loaded)
    tokenizer = tokenizer_of(loaded)
    ids = {prompt.prompt_id: _ids(tokenizer, prompt) for prompt in prompts}
    length_of = {prompt_id: len(found) for prompt_id, found in ids.items()}
    echo(f"{name}: {described}")
    echo(_length_line(list(length_of.values()), loaded.max_prompt_length))
    if unknown := tokenizer_warning(ids, tokenizer.unk_token_id):
        echo(f"note: {unknown}")
    for group in _problems(prompts, pairs):
        echo(f"\n━━ {group[0].problem_id}  ({_gold(group[0])})")
        for prompt in group:
            tokens = length_of[prompt.prompt_id]
            over = "  LONGER THAN max_prompt_length" if tokens > loaded.max_prompt_length else ""
            echo(f"\n── {prompt.intent}, {tokens} tokens{over}")
            echo(_turns(prompt) if plain else _templated(tokenizer, prompt))
            for shard in prompt.removed:
                echo(f"   removed: {shard.text}")
            if question := asking_demonstration(prompt):
                echo(f"   question: {question}")
            certificate = prompt.certificate
            if certificate.out_of_reach:
                echo(f"   {certificate.level}: {certificate.out_of_reach}")
            if certificate.incomplete:
                echo(f"   gap: {certificate.incomplete}")
            echo(f"   reward ({loaded.reward['name']}): {_branch(rule, prompt)}")
    require_kinds(loaded, prompts)
    echo()
    echo(next_line("train", recipe, *overrides))


def _problems(prompts: Sequence[Prompt], count: int) -> Iterator[list[Prompt]]:
    """The first `count` problems that have both prompts, each with all of its prompts."""
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.problem_id, []).append(prompt)
    whole = [group for group in groups.values() if len({p.intent for p in group}) > 1]
    yield from (whole or list(groups.values()))[:count]


def _templated(tokenizer: Any, prompt: Prompt) -> str:
    from icpo_lite.policy.chat_template import chat_text

    return chat_text(tokenizer, prompt.messages)


def _ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    ids: list[int] = tokenizer(_templated(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    return ids


def _turns(prompt: Prompt) -> str:
    return "\n".join(f"{m.role}: {m.text}" for m in prompt.messages)


def _length_line(lengths: Sequence[int], limit: int) -> str:
    """The lengths, and a warning where prompts are longer than the recipe allows."""
    ordered = sorted(lengths)
    middle, longest = ordered[len(ordered) // 2], ordered[-1]
    line = f"prompt tokens: median {middle}, longest {longest}, max_prompt_length {limit}"
    over = sum(length > limit for length in lengths)
    if not over:
        return line
    return f"{line}\nWARNING: {over} prompts are longer; set max_prompt_length={longest}"


def _branch(rule: RewardRule, prompt: Prompt) -> str:
    """What each kind of reply earns on this prompt, from the reward itself."""
    from icpo_lite.core.types import Intent, ResponseType, Turn, Verdict

    answer, ask = ResponseType.ANSWER_ATTEMPT, ResponseType.CLARIFICATION
    if prompt.intent is Intent.COMPLETE:
        cases = {
            "right": (Verdict(answer, correct=True), "The answer is 1."),
            "wrong": (Verdict(answer, correct=False), "The answer is 1."),
            "asks": (Verdict(ask, targeted=None), "What is the price?"),
        }
    else:
        cases = {
            "asks for it": (Verdict(ask, targeted=True), "What is the price?"),
            "asks for something else": (Verdict(ask, targeted=False), "What is the price?"),
            "hedges": (Verdict(ResponseType.HEDGING), "If it is 1, then 2."),
            "refuses": (Verdict(ResponseType.REFUSAL), "I cannot tell."),
            "answers": (Verdict(answer, correct=False), "The answer is 1."),
        }
    earned = {
        name: rule(prompt, verdict, Turn("assistant", text, stop_reason="eos")).total
        for name, (verdict, text) in cases.items()
    }
    return ", ".join(f"{name} {total:+.2f}" for name, total in earned.items())


def _gold(prompt: Prompt) -> str:
    return "no gold answer" if prompt.answer is None else f"answer: {_short(prompt.answer)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
