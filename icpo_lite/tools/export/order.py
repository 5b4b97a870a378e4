"""One export on its way: what is asked, where it is written, and what to type with it after."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icpo_lite.core.files import ASIDE
from icpo_lite.core.next_step import next_line
from icpo_lite.tools.export.gguf import Conversion, by_hand
from icpo_lite.tools.export.merged import base_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from icpo_lite.core.console import Display
    from icpo_lite.recipe import Recipe
    from icpo_lite.tools.export.gguf import LlamaCpp
    from icpo_lite.tools.export.options import ExportOptions
    from icpo_lite.tools.export.parity import Parity


@dataclass(frozen=True)
class Order:
    """What is exported, and where to.

    out: the folder's name once it is whole; aside: where it is written until then.
    """

    run: Path
    recipe: Recipe
    options: ExportOptions
    repo: str | None
    out: Path
    display: Display

    @property
    def aside(self) -> Path:
        return self.out.with_name(f".{self.out.name}{ASIDE}")

    @property
    def home(self) -> Path:
        """The run directory of a run or of one of its checkpoints."""
        return self.run if (self.run / "recipe.yaml").is_file() else self.run.parent

    def conversion(self, folder: Path) -> Conversion:
        """What becomes the GGUF, `folder` being that of the export."""
        base = self.recipe.model_name_or_path
        code = self.recipe.trust_remote_code
        below = base_files(base, code=code).folder.resolve() if self.options.adapter else None
        return Conversion(folder, folder / self.options.gguf_name, self.options.kind, below)


@dataclass(frozen=True)
class Written:
    """What lies in the folder so far. contents: a line for each kind of file.

    ends: the tokens that end a reply. context: the longest chat. parity: how a merged model
    compares with the adapter, None for the adapter itself.
    """

    tokenizer: PreTrainedTokenizerBase
    ends: list[int]
    context: int
    contents: list[str]
    options: ExportOptions
    parity: Parity | None = None


def by_hand_lines(order: Order, tools: LlamaCpp | None) -> list[str]:
    """The commands that make the GGUF where it could not be made, under a line that says so."""
    lines = by_hand(order.conversion(order.out), tools)
    if order.options.for_ollama:
        lines.append(_ollama_create(order))
    return [f"These commands make {order.options.gguf_name}:", *lines]


def next_use(order: Order) -> str:
    """What a whole export is tried with."""
    if order.options.for_ollama:
        return f"Next: {_ollama_create(order)}"
    if order.options.format == "gguf":
        file = shlex.quote(str(order.out / order.options.gguf_name))
        return f"Next: llama-cli -m {f'BASE.gguf --lora {file}' if order.options.adapter else file}"
    return next_line("chat", order.out)


def _ollama_create(order: Order) -> str:
    """Its names are lower case."""
    name = re.sub(r"[^a-z0-9._-]+", "-", order.home.resolve().name.lower()).strip("-._")
    return f"ollama create {name or 'icpo'} -f {shlex.quote(str(order.out / 'Modelfile'))}"
