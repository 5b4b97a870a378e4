"""What an export is asked for, and what of it cannot go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from icpo_lite.core.errors import UsageError
from icpo_lite.tools.export.gguf import DIRECT
from icpo_lite.tools.export.merged import Base

Format = Literal["safetensors", "gguf", "ollama", "ollama-safetensors"]


@dataclass(frozen=True)
class ExportOptions:
    """What is made of a run.

    adapter: the LoRA alone, without the base. base: the weights that LoRA is added to (`merged`).
    quantisation: of the GGUF, None for the usual one. ollama_base: what Ollama calls the model
    below an adapter. repo: where it is pushed, None for nowhere, "" for the recipe's hub_model_id.
    """

    format: Format = "safetensors"
    adapter: bool = False
    base: Base = "16bit"
    quantisation: str | None = None
    llama_cpp: Path | None = None
    ollama_base: str | None = None
    repo: str | None = None
    private: bool = True
    prompts: int = 8

    @property
    def kind(self) -> str:
        """Of the GGUF: a LoRA is small and is not quantised further than its converter does."""
        return self.quantisation or ("f16" if self.adapter else "q4_k_m")

    @property
    def makes_gguf(self) -> bool:
        return self.format in ("gguf", "ollama")

    @property
    def for_ollama(self) -> bool:
        return self.format in ("ollama", "ollama-safetensors")

    @property
    def gguf_name(self) -> str:
        return f"{'adapter' if self.adapter else 'model'}-{self.kind}.gguf"


def check_options(options: ExportOptions) -> None:
    """Before any work. Raises UsageError for what does not go together."""
    if options.quantisation and not options.makes_gguf:
        raise UsageError(
            f"--quantization is the kind of a GGUF; add --format gguf, or leave it out (found "
            f"--format {options.format})"
        )
    if not options.adapter and options.ollama_base:
        raise UsageError(
            "--ollama-base names the model below an adapter; add --adapter, or leave it out"
        )
    if options.adapter:
        _check_adapter(options)


def _check_adapter(options: ExportOptions) -> None:
    if options.base != "16bit":
        raise UsageError("--base is of a merged model; leave it out, or leave --adapter out")
    if options.kind not in DIRECT:
        raise UsageError(
            f"--quantization: expected one of {', '.join(DIRECT)} for an adapter, found "
            f"{options.kind}"
        )
    if options.for_ollama and not options.ollama_base:
        raise UsageError(
            "--ollama-base: expected what Ollama calls the adapter's base, such as llama3.2:1b, or "
            "a GGUF file of it; found none"
        )
    if options.ollama_base and not options.for_ollama:
        raise UsageError("--ollama-base stands in a Modelfile; add --format ollama")
    if options.ollama_base and not options.ollama_base.isprintable():
        raise UsageError(
            f"--ollama-base: expected a name on one line, found {options.ollama_base!r}"
        )
