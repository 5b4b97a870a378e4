"""`icpo-lite export`: a run as a model that stands alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icpo_lite.cli.common_options import device_option, output_option
from icpo_lite.cli.completion import complete_run
from icpo_lite.cli.option_command import OptionCommand


@click.command(cls=OptionCommand)
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete_run)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["safetensors", "gguf", "ollama", "ollama-safetensors"]),
    default="safetensors",
    show_default=True,
    help="gguf adds a file for llama.cpp, ollama that and a Modelfile, ollama-safetensors a "
    "Modelfile alone: Ollama imports the safetensors itself.",
)
@click.option(
    "--adapter",
    is_flag=True,
    help="Leave the base out: the LoRA alone, for peft, vLLM, llama.cpp or Ollama beside the base.",
)
@output_option("Folder to write. [default: RUN/export, or RUN/export-adapter]")
@click.option(
    "--base",
    type=click.Choice(["16bit", "nf4"]),
    default="16bit",
    show_default=True,
    help="Weights that LoRA is added to: as published, or after NF4's rounding as in training.",
)
@click.option(
    "--quantization",
    type=click.Choice(["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k"]),
    default=None,
    help="Kind of the GGUF. [default: q4_k_m; f16 with --adapter]",
)
@click.option(
    "--llama-cpp",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of llama.cpp. [default: $LLAMA_CPP, the PATH, ~/llama.cpp]",
)
@click.option(
    "--ollama-base",
    default=None,
    metavar="MODEL",
    help="With --adapter and Ollama: what Ollama calls the base, or a GGUF file of it.",
)
@click.option(
    "--push",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[REPO]",
    help="Upload what was written to the hub: to REPO, or to the recipe's hub_model_id.",
)
@click.option("--public", is_flag=True, help="Create the repository public. [default: private]")
@click.option(
    "--prompts",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Prompts on which the merged model must equal the adapter.",
)
@device_option()
def export(run: Path, format_: Any, output: Path | None, push: str | None, **chosen: Any) -> None:
    """Merge RUN's adapter into a 16-bit model, with tokenizer, chat template and model card.

    The files are read back and compared with the adapter on a few prompts before it says done.
    With --adapter the LoRA is written alone. A GGUF needs llama.cpp; where there is none, what it
    is made of is kept, the commands are printed and the exit code is 1.
    """
    from icpo_lite.core.console import Display
    from icpo_lite.tools.export.options import ExportOptions
    from icpo_lite.tools.export.run import export as export_run

    options = ExportOptions(
        format=format_,
        adapter=chosen["adapter"],
        base=chosen["base"],
        quantisation=chosen["quantization"],
        llama_cpp=chosen["llama_cpp"],
        ollama_base=chosen["ollama_base"],
        repo=push,
        private=not chosen["public"],
        prompts=chosen["prompts"],
    )
    export_run(run, output, options, Display(total=0), device=chosen["device"])
