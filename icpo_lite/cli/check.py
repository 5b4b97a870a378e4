"""`icpo-lite check`: try a recipe's reward on replies whose worth is known."""

from __future__ import annotations

import click

from icpo_lite.cli.ranges import COUNT
from icpo_lite.cli.recipe_command import RecipeCommand, recipe_arguments
from icpo_lite.core.next_step import next_line
from icpo_lite.core.visible_text import echo


@click.command(cls=RecipeCommand)
@recipe_arguments()
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Prompts to try it on.",
)
@click.option(
    "--guesses",
    type=COUNT,
    default=8,
    show_default=True,
    help="Prompts to try guesses beside a question on.",
)
@click.option("--device", default="cpu", show_default=True, help="For a judge that is a model.")
def check(recipe: str, overrides: tuple[str, ...], sample: int, guesses: int, device: str) -> None:
    """Try the reward of RECIPE on known replies and print what each earns.

    The right answer as a model says it ("The answer is 5.", boxed, in a sentence), a wrong one, a
    hedge, a question about what is missing, one about nothing, a refusal, silence: on complete and
    on underspecified prompts of the corpus. Then a number that the prompt does not hold, slipped in
    beside the right question in forty ways and at several lengths. Exit code 2 when the right
    answer fails, when all replies earn the same, when asking beats answering a complete prompt,
    when a guess earns more than the reward's rule leaves to it, or when the recipe asks for a kind
    of prompt that the corpus does not have.
    """

    from icpo_lite.data.from_recipe import (
        corpus_needs_model,
        require_corpus,
        require_kinds,
        training_prompts,
    )
    from icpo_lite.recipe import load_recipe
    from icpo_lite.recipe.input_paths import require_model
    from icpo_lite.recipe.sections import PolicyKeys
    from icpo_lite.rewards.from_recipe import (
        bind_judge,
        bind_reward,
        bind_reward_change,
        judge_needs_policy,
        reward_spec,
    )
    from icpo_lite.training.reward_check import check_reward

    loaded = load_recipe(recipe, overrides)
    require_model(loaded)
    if not loaded.pays:
        echo(
            f"reward none: no reply earns anything, {loaded.distill} alone teaches; nothing to try"
        )
        return
    reward, change = bind_reward(loaded), bind_reward_change(loaded)
    policy = None
    if judge_needs_policy(loaded) or corpus_needs_model(loaded):
        from icpo_lite.policy.load import load_policy

        require_corpus(loaded)
        policy = load_policy(PolicyKeys.of(loaded).but(device=device))
    prompts, described = training_prompts(loaded, policy)
    judge = bind_judge(loaded, policy)
    report = check_reward(
        prompts,
        judge,
        reward,
        change=change,
        sample=sample,
        guesses=guesses,
        guess_limit=reward_spec(loaded).guess_limit,
    )
    echo(f"reward {loaded.reward['name']} on {described}")
    for line in (*report.lines(), *report.guess_lines()):
        echo(line)
    for warning in report.warnings:
        echo(f"warning: {warning}")
    report.require_ok()
    require_kinds(loaded, prompts)
    echo("ok: gold is graded right, replies earn differently, asking does not beat answering")
    echo(next_line("preview", recipe, *overrides))
