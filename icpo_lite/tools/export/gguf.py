"""GGUF through the llama.cpp or unsloth that is on this machine, else the commands to type."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from icpo_lite.core.errors import ModelError

#: What llama.cpp's converters write by themselves; anything else is llama-quantize's work.
DIRECT = ("f32", "f16", "bf16", "q8_0")
QUANTISATIONS = (*DIRECT, "q4_0", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k")
_CONVERTER, _QUANTIZER = "convert_hf_to_gguf.py", "llama-quantize"
_LORA_CONVERTER = "convert_lora_to_gguf.py"
_HOMES = ("~/llama.cpp", "~/.unsloth/llama.cpp")
#: What the converters import beside torch and transformers.
_IMPORTS = ("gguf", "sentencepiece", "protobuf")
#: Models of tokenizers that GGUF has a form for.
_KNOWN_TOKENIZERS = ("BPE", "Unigram", "WordPiece")
#: unsloth patches transformers at import, so it gets a process of its own.
_UNSLOTH = (
    "import sys; from unsloth import FastLanguageModel as F; "
    "model, tokenizer = F.from_pretrained(sys.argv[1], load_in_4bit=False); "
    "model.save_pretrained_gguf(sys.argv[2], tokenizer, quantization_method=sys.argv[3])"
)

Command = list[str]


@dataclass(frozen=True)
class LlamaCpp:
    """A llama.cpp: its converter and, where it was built, its quantiser."""

    converter: Path
    quantizer: Path | None

    @property
    def lora_converter(self) -> Path:
        return self.converter.with_name(_LORA_CONVERTER)


@dataclass(frozen=True)
class Conversion:
    """What becomes a GGUF: the merged model in `source`, or the adapter there.

    base: the folder of an adapter's base, of which the configuration is read; None for a model.
    """

    source: Path
    target: Path
    quantisation: str
    base: Path | None = None

    def commands(self, tools: LlamaCpp) -> list[Command]:
        """What makes the file with these tools."""
        direct = self.quantisation in DIRECT
        first = self.target if direct else self.target.with_name("model-bf16.gguf")
        script = tools.lora_converter if self.base else tools.converter
        convert = [sys.executable, str(script), str(self.source), "--outfile", str(first)]
        convert += ["--outtype", self.quantisation if direct else "bf16"]
        if self.base:
            convert += ["--base", str(self.base)]
        if direct:
            return [convert]
        quantise = [str(tools.quantizer), str(first), str(self.target), self.quantisation.upper()]
        return [convert, quantise]

    def suits(self, tools: LlamaCpp) -> bool:
        """Whether these tools are all that it needs."""
        if self.base:
            return tools.lora_converter.is_file()
        return self.quantisation in DIRECT or tools.quantizer is not None


def find_llama_cpp(folder: Path | None) -> LlamaCpp | None:
    """The llama.cpp in `folder`, else in $LLAMA_CPP, on the PATH or in the usual places.

    Raises ModelError when `folder` is given and holds none.
    """
    named = [folder] if folder else [Path(p) for p in (os.environ.get("LLAMA_CPP"), *_HOMES) if p]
    for home in (f.expanduser() for f in named):
        if (home / _CONVERTER).is_file():
            built = [home / place / _QUANTIZER for place in (".", "build/bin", "bin")]
            found = next((b for b in built if b.is_file()), None)
            return LlamaCpp(home / _CONVERTER, found or _on_path(_QUANTIZER))
    if folder:
        raise ModelError(f"--llama-cpp: expected {_CONVERTER} in {folder}, found none")
    converter = _on_path(_CONVERTER)
    return LlamaCpp(converter, _on_path(_QUANTIZER)) if converter else None


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def by_hand(wanted: Conversion, tools: LlamaCpp | None) -> list[str]:
    """The commands that a person types where these tools do not suit, a line each."""
    home = tools.converter.parent if tools else Path("llama.cpp")
    lines = [] if tools else ["git clone --depth 1 https://github.com/ggml-org/llama.cpp"]
    lines.append(shlex.join([_python(), "-m", "pip", "install", *_IMPORTS]))
    direct = wanted.base is not None or wanted.quantisation in DIRECT
    if not direct and (tools is None or tools.quantizer is None):
        build = home / "build"
        lines += [
            shlex.join(["cmake", "-S", str(home), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release"]),
            shlex.join(["cmake", "--build", str(build), "--target", _QUANTIZER, "-j"]),
        ]
    quantizer = tools.quantizer if tools else None
    used = LlamaCpp(home / _CONVERTER, quantizer or home / "build" / "bin" / _QUANTIZER)
    made = wanted.commands(used)
    made[0][0] = _python()
    return [*lines, *map(shlex.join, made)]


def _python() -> str:
    """This interpreter, by the short name where a shell finds it by that."""
    found = shutil.which("python")
    same = found is not None and Path(found).absolute() == Path(sys.executable).absolute()
    return "python" if same else sys.executable


def make_gguf(wanted: Conversion, tools: LlamaCpp | None) -> None:
    """Writes the file by llama.cpp, or by unsloth where there is none.

    Raises ModelError where neither is installed, and with the tool's last line when it fails;
    nothing is left of a file then.
    """
    try:
        if tools and wanted.suits(tools):
            _by_llama_cpp(wanted, tools)
        elif tools is None and wanted.base is None and _unsloth_works():
            _by_unsloth(wanted.source, wanted.target, wanted.quantisation)
        else:
            raise ModelError(f"{wanted.target.name} was not made: {_lacking(wanted, tools)}")
        if not wanted.target.is_file():
            raise ModelError(f"expected {wanted.target.name}, found none: nothing was written")
    except BaseException:
        wanted.target.unlink(missing_ok=True)
        raise


def _lacking(wanted: Conversion, tools: LlamaCpp | None) -> str:
    if tools is None:
        return (
            f"expected llama.cpp's {_LORA_CONVERTER if wanted.base else _CONVERTER} in "
            "--llama-cpp, $LLAMA_CPP, the PATH or ~/llama.cpp, found none"
        )
    if wanted.base:
        return f"expected {tools.lora_converter}, found none"
    return f"expected {_QUANTIZER} of {tools.converter.parent}, found it not built"


def _by_llama_cpp(wanted: Conversion, tools: LlamaCpp) -> None:
    made = wanted.commands(tools)
    try:
        for command in made:
            _run(command)
    finally:
        if len(made) > 1:
            Path(made[1][1]).unlink(missing_ok=True)


def _unsloth_works() -> bool:
    import torch

    return importlib.util.find_spec("unsloth") is not None and torch.cuda.is_available()


def _by_unsloth(merged: Path, target: Path, quantisation: str) -> None:
    """Its releases differ in where they write, so it gets a folder that is searched afterwards."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        script = [sys.executable, "-c", _UNSLOTH, str(merged.resolve()), "model", quantisation]
        _run(script, Path(scratch))
        found = sorted(Path(scratch).rglob("*.gguf"))
        named = [f for f in found if quantisation in f.name.lower()] or found
        if named:
            named[0].rename(target)


def _run(command: Command, folder: Path | None = None) -> None:
    name = Path(command[1] if command[0] == sys.executable else command[0]).name
    name = "unsloth" if name == "-c" else name
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=folder)
    except OSError as error:
        raise ModelError(f"{name} cannot be started: {error.strerror or error}") from None
    if done.returncode:
        said = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        last = said[-1].strip() if said else f"exit code {done.returncode}"
        missing = re.search(r"No module named '(\w+)'", last)
        advice = f"; {_python()} -m pip install {' '.join(_IMPORTS)}" if missing else ""
        raise ModelError(f"{name} failed: {last}{advice}")


def unknown_tokenizer(folder: Path) -> str:
    """Why GGUF has no form for the tokenizer in `folder`, "" where nothing speaks against it."""
    try:
        kind = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["type"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    if kind in _KNOWN_TOKENIZERS:
        return ""
    return (
        f"llama.cpp and Ollama read tokenizers of the kinds {', '.join(_KNOWN_TOKENIZERS)}, and "
        f"this model's is {kind}, as the built-in model's: use the safetensors, or another base"
    )
