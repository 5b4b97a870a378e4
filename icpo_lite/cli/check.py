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
    from icpo_lite.binding import bind_judge, bind_reward, training_prompts
    from icpo_lite.recipe import load_recipe
    from icpo_lite.selfcheck import check_reward

    loaded = load_recipe(recipe, overrides)
    policy = None
    if loaded.judge == "self":
        from icpo_lite.binding import load_model

        policy, _ = load_model(loaded.model_name_or_path, device=device)
    prompts, described = training_prompts(loaded)
    judge = bind_judge(loaded, policy)  # type: ignore[arg-type,unused-ignore]
    report = check_reward(prompts, judge, bind_reward(loaded), sample=sample)
    click.echo(f"reward {loaded.reward['name']} on {described}")
    for line in report.lines():
        click.echo(line)
    for warning in report.warnings:
        click.echo(f"warning: {warning}")
    report.require_ok()
    click.echo("ok: gold is graded right, replies earn differently, asking does not beat answering")
