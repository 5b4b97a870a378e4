"""`icpo-lite eval`: judge a run or model as Lost in Conversation does."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.option(
    "--data",
    default=None,
    help="builtin:world or a file of problems. [default: the run's own, else builtin:world]",
)
@click.option("--split", default="test", show_default=True, help="Split of the data to judge on.")
@click.option("--settings", default="", help="Settings, by comma: full,sharded. [default: all]")
@click.option(
    "--problems",
    type=click.IntRange(min=1),
    default=140,
    show_default=True,
    help="Number of problems.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Conversations a problem and setting.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="0 is greedy.",
)
@click.option(
    "--max-new-tokens",
    default=None,
    type=click.IntRange(min=1),
    help="Longest reply. [default: the run's]",
)
@click.option("--compare", default="", help="More models side by side: base,rlvr=RUN,icpo=RUN.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--seed", default=0, show_default=True, help="Seed of problems and sampling.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=None, help="Folder for the results."
)
def eval_(
    model: str,
    data: str | None,
    split: str,
    settings: str,
    problems: int,
    runs: int,
    temperature: float,
    max_new_tokens: int | None,
    compare: str,
    device: str,
    seed: int,
    output: Path | None,
) -> None:
    """Judge MODEL (a run directory, a model folder, a hub name or builtin:tiny).

    Prints P, A90 and U of each setting with 95 % intervals over problems, how often it asks when
    something is missing, and how often when nothing is.
    """
    from icpo_lite import judging
    from icpo_lite.display import Display

    judging.judge_models(
        judging.named_models(model, compare),
        display=Display(total=0),
        data=data,
        split=split,
        settings=[name.strip() for name in settings.split(",") if name.strip()],
        problems=problems,
        runs=runs,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        device=device,
        seed=seed,
        output=output,
    )
