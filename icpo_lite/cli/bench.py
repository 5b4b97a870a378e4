"""`icpo-lite bench`: log-probs, sampling and training on this machine, as tables and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icpo_lite.cli.common_options import force_option, output_option
from icpo_lite.cli.option_command import OptionCommand
from icpo_lite.core.next_step import next_line


@click.command(cls=OptionCommand)
@click.option(
    "--part",
    type=click.Choice(["all", "logprob", "rollout"]),
    default="all",
    show_default=True,
    help="logprob: the log-prob path; rollout: sampling a group and training on it.",
)
@click.option(
    "--shapes",
    help="Comma-separated: qwen2.5-1.5b, qwen2.5-7b, llama-3.1-8b, gemma-2-2b, cpu, small. "
    "Default: the three large ones on a GPU, small on a CPU.",
)
@click.option("--tokens", help="Rows N, comma-separated. Default: 4096,16384 on a GPU, else 512.")
@click.option(
    "--peers",
    default="all",
    show_default=True,
    help="all, none, or a list of unsloth_zoo, liger, liger-grpo, liger-scaled, torch-lce, cce, "
    "cce-nofilter, trl.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of hidden states and lm_head. Default: bfloat16, float16 on Turing, float32 on a CPU.",
)
@click.option(
    "--repeats", type=click.IntRange(1), default=7, show_default=True, help="Timed turns of each."
)
@click.option(
    "--chunk-rows",
    type=click.IntRange(1),
    help="Rows of logits alive at once in ours. Default: from free memory.",
)
@click.option("--cpu", is_flag=True, help="Measure the CPU even where there is a GPU.")
@click.option(
    "--model", default="builtin:tiny", show_default=True, help="Model of the rollout part."
)
@click.option(
    "--prompts", type=click.IntRange(1), default=1, show_default=True, help="Prompts of a batch."
)
@click.option(
    "--generations", type=click.IntRange(2), default=8, show_default=True, help="Replies of each."
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(2),
    default=200,
    show_default=True,
    help="Tokens of a prompt.",
)
@click.option(
    "--reply-tokens",
    type=click.IntRange(2),
    default=50,
    show_default=True,
    help="Tokens of a reply.",
)
@output_option("Where the JSON goes.", dir_okay=False, default=Path("bench.json"))
@force_option("bench")
def bench(
    part: str,
    shapes: str | None,
    tokens: str | None,
    peers: str,
    dtype: str | None,
    repeats: int,
    chunk_rows: int | None,
    cpu: bool,
    model: str,
    prompts: int,
    generations: int,
    prompt_tokens: int,
    reply_tokens: int,
    output: Path,
    force: bool,
) -> None:
    """Measure the log-prob path, sampling and training beside the plain way and the peers.

    Log-probs: each method computes them and the gradient for the hidden states under a frozen
    lm_head. "passes" is its time in units of one matmul of hidden states and lm_head, at the rate
    measured in the same run: 2 is the least.

    Rollout: a group is sampled by every engine that runs here, and trained on with its prompt
    computed once; "times plain" is against transformers' generate of the repeated prompt, and
    against a prompt computed for each response.
    """
    import json

    from icpo_lite.core.files import write_atomically
    from icpo_lite.core.outputs import Kind, begins_with, check_output

    kind = Kind("figures of an earlier `bench`", begins_with("icpo-lite bench", within=1 << 16))
    check_output(output, kind, inputs=(model,), force=force)
    counts = _counts(tokens) if tokens else None
    _require_known(shapes, peers, model)
    report: dict[str, Any] = {}
    tables: list[str] = []
    if part != "rollout":
        report, table = _logprob(shapes, counts, peers, dtype, repeats, chunk_rows, cpu)
        tables.append(table)
    if part != "logprob":
        sizes = (prompts, generations, prompt_tokens, reply_tokens)
        rollout, table = _rollout(model, sizes, repeats, cpu)
        report = {**report, "rollout": rollout} if report else rollout
        tables.append(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, f"{json.dumps(report, indent=1)}\n".encode())
    click.echo("\n\n".join(tables))
    click.echo(f"\nWritten to {output}.", err=True)
    click.echo(next_line("docs", "results"), err=True)


def _require_known(shapes: str | None, peers: str, model: str) -> None:
    """Names are looked at before anything is measured."""
    from icpo_lite.policy.load import model_path
    from icpo_lite.tools.bench.logprob_methods import chosen_peers, chosen_shapes

    if shapes:
        chosen_shapes(shapes)
    chosen_peers(peers)
    model_path(model)


def _logprob(
    shapes: str | None,
    counts: list[int] | None,
    peers: str,
    dtype: str | None,
    repeats: int,
    chunk_rows: int | None,
    cpu: bool,
) -> tuple[dict[str, Any], str]:
    import torch

    from icpo_lite.tools.bench.logprob_methods import chosen_peers, chosen_shapes, ours
    from icpo_lite.tools.bench.logprob_path import default_setup, markdown, run_bench

    device, default_dtype, default_shapes, default_tokens = default_setup(force_cpu=cpu)
    shapes, counts = shapes or default_shapes, counts or _counts(default_tokens)
    chosen_dtype = getattr(torch, dtype) if dtype else default_dtype
    name = str(chosen_dtype).removeprefix("torch.")
    command = (
        f"icpo-lite bench --part logprob --shapes {shapes} --tokens {','.join(map(str, counts))} "
        f"--peers {peers} --dtype {name} --repeats {repeats}"
        f"{f' --chunk-rows {chunk_rows}' if chunk_rows else ''}"
        f"{' --cpu' if device.type == 'cpu' else ''}"
    )
    report = run_bench(
        chosen_shapes(shapes),
        counts,
        (*ours(chunk_rows or "auto"), *chosen_peers(peers)),
        device=device,
        dtype=chosen_dtype,
        repeats=repeats,
        command=command,
        say=lambda line: click.echo(line, err=True),
    )
    return report, markdown(report)


def _rollout(
    model: str, sizes: tuple[int, int, int, int], repeats: int, cpu: bool
) -> tuple[dict[str, Any], str]:
    from icpo_lite.recipe.sections import PolicyKeys
    from icpo_lite.tools.bench.rollout_speed import (
        GroupShape,
        bench_policy,
        markdown,
        run_rollout_bench,
    )

    names = ("prompts", "generations", "prompt-tokens", "reply-tokens")
    given = " ".join(f"--{name} {size}" for name, size in zip(names, sizes, strict=True))
    report = run_rollout_bench(
        bench_policy(
            PolicyKeys(model_name_or_path=model, device="cpu" if cpu else "auto", lora_r=8)
        ),
        GroupShape(*sizes),
        repeats=repeats,
        command=f"icpo-lite bench --part rollout --model {model} {given} --repeats {repeats}"
        f"{' --cpu' if cpu else ''}",
        say=lambda line: click.echo(line, err=True),
    )
    return report, markdown(report)


def _counts(text: str) -> list[int]:
    counts = text.split(",")
    if not all(count.strip().isdigit() and int(count) > 0 for count in counts):
        raise click.BadParameter(
            f"expected whole numbers above 0, found {text!r}", param_hint="--tokens"
        )
    return [int(count) for count in counts]
