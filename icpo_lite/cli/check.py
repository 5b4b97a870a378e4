"""`icpo-lite check`: try a recipe's reward on replies whose worth is known."""

from __future__ import annotations

import click


@click.command()
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--sample", default=64, show_default=True, help="Prompts to try it on.")
@click.option("--device", default="cpu", show_default=True, help="For a judge that is a model.")
def check(recipe: str, overrides: tuple[str, ...], sample: int, device: str) -> None:
    """Try the reward of RECIPE on known replies and print what each earns.

    Gold answer, wrong answer, hedge, a question about what is missing, one about nothing, a
    refusal, silence: on complete and on underspecified prompts of the corpus. Exit code 2 when
    gold fails, when all replies earn the same, or when asking beats answering a complete prompt.
    """

    from icpo_lite.data.from_recipe import corpus_needs_model, training_prompts
    from icpo_lite.recipe import load_recipe
    from icpo_lite.recipe.sections import PolicyKeys
    from icpo_lite.rewards.from_recipe import bind_judge, bind_reward, bind_reward_change
    from icpo_lite.training.reward_check import check_reward

    loaded = load_recipe(recipe, overrides)
    reward, change = bind_reward(loaded), bind_reward_change(loaded)
    policy = None
    if loaded.judge == "self" or corpus_needs_model(loaded):
        from icpo_lite.policy.load import load_policy

        policy = load_policy(PolicyKeys.of(loaded).but(device=device))
    prompts, described = training_prompts(loaded, policy)
    judge = bind_judge(loaded, policy)
    report = check_reward(prompts, judge, reward, change=change, sample=sample)
    click.echo(f"reward {loaded.reward['name']} on {described}")
    for line in report.lines():
        click.echo(line)
    for warning in report.warnings:
        click.echo(f"warning: {warning}")
    report.require_ok()
    click.echo("ok: gold is graded right, replies earn differently, asking does not beat answering")
