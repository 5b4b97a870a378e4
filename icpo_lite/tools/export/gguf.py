"""GGUF through the llama.cpp or unsloth that is on this machine, else the commands to type."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from icpo_lite.core.errors import ModelError

#: What convert_hf_to_gguf.py writes by itself; anything else is llama-quantize's work.
DIRECT = ("f32", "f16", "bf16", "q8_0")
QUANTISATIONS = (*DIRECT, "q4_0", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k")
_CONVERTER, _QUANTIZER = "convert_hf_to_gguf.py", "llama-quantize"
_HOMES = ("~/llama.cpp", "~/.unsloth/llama.cpp")
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


def commands(tools: LlamaCpp, merged: Path, target: Path, quantisation: str) -> list[Command]:
    """What makes `target` of the merged model."""
    direct = quantisation in DIRECT
    first = target if direct else target.with_name("model-bf16.gguf")
    convert = [sys.executable, str(tools.converter), str(merged), "--outfile", str(first)]
    made = [[*convert, "--outtype", quantisation if direct else "bf16"]]
    if not direct:
        made.append([str(tools.quantizer), str(first), str(target), quantisation.upper()])
    return made


def advice(merged: Path, target: Path, quantisation: str) -> str:
    """The commands that a person types on a machine without any of it."""
    home = Path("llama.cpp")
    tools = LlamaCpp(home / _CONVERTER, home / "build" / "bin" / _QUANTIZER)
    lines = [
        "git clone --depth 1 https://github.com/ggml-org/llama.cpp",
        "pip install gguf sentencepiece",
    ]
    if quantisation not in DIRECT:
        lines += [
            "cmake -S llama.cpp -B llama.cpp/build -DCMAKE_BUILD_TYPE=Release",
            f"cmake --build llama.cpp/build --target {_QUANTIZER} -j",
        ]
    made = commands(tools, merged, target, quantisation)
    made[0][0] = "python"
    return "\n".join([*lines, *map(shlex.join, made)])


def make_gguf(merged: Path, target: Path, quantisation: str, llama_cpp: Path | None) -> str | None:
    """Writes `target` and returns None, or returns `advice` where no tool is installed.

    Raises ModelError with the tool's last line when it fails.
    """
    tools = find_llama_cpp(llama_cpp)
    if tools and (quantisation in DIRECT or tools.quantizer):
        for command in (made := commands(tools, merged, target, quantisation)):
            _run(command)
        if len(made) > 1:
            Path(made[1][1]).unlink(missing_ok=True)
    elif tools is None and _unsloth_works():
        _by_unsloth(merged, target, quantisation)
    else:
        return advice(merged, target, quantisation)
    if not target.is_file():
        raise ModelError(f"expected {target}, found none: the converter wrote no file")
    return None


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
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        said = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        last = said[-1].strip() if said else f"exit code {done.returncode}"
        raise ModelError(f"{'unsloth' if name == '-c' else name} failed: {last}")
