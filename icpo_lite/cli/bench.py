"""`icpo-lite bench`: the log-prob path on this machine, as a table and as JSON."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
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
    help="all, none, or a list of unsloth_zoo, liger, liger-scaled, cce, cce-nofilter, trl.",
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
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bench.json"),
    show_default=True,
    help="Where the JSON goes.",
)
def bench(
    shapes: str | None,
    tokens: str | None,
    peers: str,
    dtype: str | None,
    repeats: int,
    chunk_rows: int | None,
    cpu: bool,
    output: Path,
) -> None:
    """Measure the log-prob path against plain torch and every peer that is installed.

    Each method computes log-probs and the gradient for the hidden states under a frozen lm_head.
    "passes" is its time in units of one matmul of hidden states and lm_head, at the rate measured
    in the same run: 2 is the least.
    """
    import json

    import torch

    from icpo_lite.bench import (
        chosen_peers,
        chosen_shapes,
        default_setup,
        markdown,
        ours,
        run_bench,
    )

    device, default_dtype, default_shapes, default_tokens = default_setup(force_cpu=cpu)
    shapes, tokens = shapes or default_shapes, tokens or default_tokens
    chosen_dtype = getattr(torch, dtype) if dtype else default_dtype
    name = str(chosen_dtype).removeprefix("torch.")
    command = (
        f"icpo-lite bench --shapes {shapes} --tokens {tokens} --peers {peers} --dtype {name} "
        f"--repeats {repeats}{f' --chunk-rows {chunk_rows}' if chunk_rows else ''}"
        f"{' --cpu' if device.type == 'cpu' else ''}"
    )
    report = run_bench(
        chosen_shapes(shapes),
        _counts(tokens),
        (*ours(chunk_rows or "auto"), *chosen_peers(peers)),
        device=device,
        dtype=chosen_dtype,
        repeats=repeats,
        command=command,
        say=lambda line: click.echo(line, err=True),
    )
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    click.echo(markdown(report))
    click.echo(f"\nWritten to {output}.", err=True)


def _counts(text: str) -> list[int]:
    counts = text.split(",")
    if not all(count.strip().isdigit() and int(count) > 0 for count in counts):
        raise click.BadParameter(
            f"expected whole numbers above 0, found {text!r}", param_hint="--tokens"
        )
    return [int(count) for count in counts]
