"""`icpo-lite advise`: what a group's better replies do, as advice in a system prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icpo_lite.cli.common_options import (
    CONCURRENCY,
    concurrency_option,
    device_option,
    force_option,
    key_option,
    named_server,
    output_option,
)
from icpo_lite.core.visible_text import echo

if TYPE_CHECKING:
    from icpo_lite.core.types import Generator
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.tools.advice import Adviser

#: Step whose samples compare the system prompt with and without the advice.
_CHECK = 1_000_000


@click.command()
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--steps", type=click.IntRange(min=1), default=3, show_default=True, help="Steps.")
@click.option(
    "--most", type=click.IntRange(min=1), default=10, show_default=True, help="Lines of advice."
)
@click.option("--endpoint", "url", metavar="URL", help="Ask a server in the model's place.")
@click.option("--model", metavar="NAME", help="With --endpoint: the model's name there.")
@key_option()
@concurrency_option("With --endpoint: requests at once.")
@device_option()
@output_option("File for the system prompt.", required=True)
@force_option("advise")
def advise(
    recipe: str,
    overrides: tuple[str, ...],
    steps: int,
    most: int,
    url: str | None,
    model: str | None,
    api_key_env: str | None,
    concurrency: int,
    device: str,
    output: Path,
    force: bool,
) -> None:
    """Gather advice on the prompts of RECIPE; no weights change.

    Each step samples groups of replies under the advice so far, judges and rewards them as
    training does, and has the model say what the best reply of a group did and the worst did not.
    With --endpoint URL --model NAME all of it is a server's work (vLLM, llama.cpp with a GGUF file,
    Ollama). The file is a system prompt: `icpo-lite eval MODEL --system "$(cat advice.txt)"`.
    """
    from icpo_lite.core.outputs import Kind, check_output
    from icpo_lite.data.system_prompts import system_words
    from icpo_lite.recipe import load_recipe
    from icpo_lite.tools.advice import HEAD, system_text

    loaded = load_recipe(recipe, overrides)
    words = system_words(loaded.system_prompt, loaded.task) or ""
    kind = Kind("advice of an earlier `advise`", lambda file: _ours(file, HEAD, words))
    check_output(output, kind, inputs=(recipe,), force=force)
    if (url is None) != (model is None):
        raise click.UsageError("--endpoint URL and --model NAME go together")
    if url is None and (api_key_env is not None or concurrency != CONCURRENCY):
        raise click.UsageError("--api-key-env and --concurrency belong to --endpoint URL")
    server = named_server("--endpoint", url, model or "", api_key_env, concurrency) if url else None
    if server is not None:
        from icpo_lite.core.endpoint import Endpoint

        adviser = _adviser(loaded, Endpoint(server), device, most)
    else:
        adviser = _adviser(loaded, None, device, most)
    for done in adviser.steps(steps):
        echo(
            f"step {done.step} of {steps}: reward {done.reward:.3f}, {done.contrasts} groups "
            f"compared, {len(done.advice)} lines"
        )
        _write(output, system_text(adviser.words, done.advice) or "")
    _tell(adviser, loaded, output)


def _adviser(loaded: Recipe, server: Generator | None, device: str, most: int) -> Adviser:
    from icpo_lite.data.from_recipe import later_prompts, opened_prompt, prompt_pool, require_kinds
    from icpo_lite.data.system_prompts import system_words
    from icpo_lite.recipe.input_paths import require_model
    from icpo_lite.rewards.from_recipe import (
        bind_judge,
        bind_reward,
        bind_reward_change,
        judge_needs_policy,
    )
    from icpo_lite.tools.advice import Adviser

    rule, change = bind_reward(loaded), bind_reward_change(loaded)
    policy: Policy | None = None
    generator = server
    if generator is None or judge_needs_policy(loaded):
        from icpo_lite.policy.load import load_policy
        from icpo_lite.recipe.sections import ModelKeys
        from icpo_lite.rollout.sampler import PolicyGenerator

        require_model(loaded)
        policy = load_policy(ModelKeys.of(loaded).but(device=device, use_vllm=False))
        if generator is None:
            rows = loaded.prompts_per_step * loaded.num_generations
            generator = PolicyGenerator(policy, max_rows=rows)
    prompts = later_prompts(loaded, policy)
    require_kinds(loaded, prompts)
    pool, judge = prompt_pool(loaded, prompts), bind_judge(loaded, policy)
    words = system_words(loaded.system_prompt, loaded.task)
    return Adviser(
        loaded,
        generator,
        pool,
        judge,
        rule,
        change,
        most=most,
        words=words,
        opened=opened_prompt,
    )


def _ours(file: Path, head: str, words: str) -> bool:
    """Whether a file is what `advise` writes: words with advice, or the words alone."""
    text = file.read_text("utf-8", errors="replace")
    return head in text or text.strip() == words.strip()


def _write(output: Path, text: str) -> None:
    from icpo_lite.core.files import write_atomically

    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, (f"{text}\n" if text else "").encode(errors="replace"))


def _tell(adviser: Adviser, loaded: Recipe, output: Path) -> None:
    """What the advice is worth on prompts that it was not made of, and where it lies."""
    from icpo_lite.tools.advice import mean_reward

    if not adviser.advice:
        echo("no advice: no group's replies differed in a way that the model put into words")
        echo(f"written: {output}, without advice")
        return
    prompts = adviser.pool.draw(loaded.prompts_per_step, loaded.share_underspecified)
    with_it = mean_reward(adviser.sampled(prompts, _CHECK))
    advice, adviser.advice = adviser.advice, ()
    without = mean_reward(adviser.sampled(prompts, _CHECK))
    adviser.advice = advice
    for number, line in enumerate(advice, start=1):
        echo(f"  {number}. {line}")
    better = "" if with_it > without else "; it does not help this model"
    echo(
        f"reward on {len(prompts)} other prompts: {without:.3f} without it, {with_it:.3f} with it"
        f"{better}"
    )
    echo(f"written: {output}")
