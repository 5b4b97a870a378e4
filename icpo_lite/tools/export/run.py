"""From a run directory to files that stand alone: merge, check, convert, describe, push."""

from __future__ import annotations

import gc
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from icpo_lite.core.errors import IcpoError, UsageError
from icpo_lite.core.files import ASIDE, write_atomically
from icpo_lite.core.outputs import Kind, check_output, holds
from icpo_lite.data.system_prompts import opening_words
from icpo_lite.policy.from_recipe import find_model
from icpo_lite.policy.load import load_policy
from icpo_lite.recipe.sections import ModelKeys
from icpo_lite.runs.model_card import model_card
from icpo_lite.tools.export.gguf import make_gguf
from icpo_lite.tools.export.hub import check_name, push
from icpo_lite.tools.export.merged import Base, base_files, write_merged
from icpo_lite.tools.export.ollama import detect_family, modelfile
from icpo_lite.tools.export.parity import Parity, check_prompts, compare, logprobs, reference
from icpo_lite.tools.export.plain_tokenizer import make_plain

if TYPE_CHECKING:
    from icpo_lite.core.console import Display
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.tools.export.parity import Reference

Format = Literal["safetensors", "gguf", "ollama"]
#: Marks a folder as an export, which a later export may replace.
RECORD = "export.json"
EXPORTED = Kind("an earlier export", holds(RECORD), folder=True)


@dataclass(frozen=True)
class ExportOptions:
    """What is made of a run.

    base: the weights that LoRA is added to (`merged`). quantisation: of the GGUF.
    repo: where it is pushed, None for nowhere, "" for the recipe's hub_model_id.
    """

    format: Format = "safetensors"
    base: Base = "16bit"
    quantisation: str = "q4_k_m"
    llama_cpp: Path | None = None
    repo: str | None = None
    private: bool = True
    prompts: int = 8


class NotTheSameError(IcpoError):
    """The written model is not the trained one."""


def export(
    run: Path, out: Path | None, options: ExportOptions, display: Display, *, device: str
) -> Path:
    """Write `run`'s merged model and what the format asks for; returns the folder.

    Everything is written aside and takes its name once it has proved equal to the adapter, so a
    folder by that name is a whole export. Raises NotTheSameError when it is not equal.
    """
    out = out or run / "export"
    found = find_model(str(run))
    recipe = found.recipe
    if recipe is None:
        raise UsageError(
            f"{run}: expected a run directory with an adapter, found a bare model; export merges "
            "what `icpo-lite train` has trained"
        )
    repo = _repository(options.repo, recipe)
    check_output(out, EXPORTED, inputs=(run, recipe.model_name_or_path))
    policy = found.load(device)
    options = _fitting(options, policy, recipe, display)
    if options.format == "ollama":
        detect_family(policy.tokenizer)  # before the long work
    aside = out.with_name(f".{out.name}{ASIDE}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        contents = _write(policy, recipe, run, aside, out, options, display)
        shutil.rmtree(out, ignore_errors=True)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for line in contents:
        display.message(f"  {line}")
    display.message(f"Done: {out}")
    if repo is not None:
        display.message(f"Pushed: {push(out, repo, private=options.private)}")
    return out


def _repository(asked: str | None, recipe: Recipe) -> str | None:
    if asked is None:
        return None
    named = asked or recipe.hub_model_id
    if not named:
        raise UsageError("--push: expected a repository, or hub_model_id in the recipe; found none")
    return check_name(named)


def _fitting(
    options: ExportOptions, policy: Policy, recipe: Recipe, display: Display
) -> ExportOptions:
    """The base that can be had: a checkpoint that holds 4 bits has no 16-bit weights."""
    packed = base_files(recipe.model_name_or_path, code=recipe.trust_remote_code).packed
    if packed and options.base == "16bit":
        display.message(
            f"note: {recipe.model_name_or_path} holds 4-bit weights; LoRA is added to what they "
            "stand for (--base nf4)"
        )
        return replace(options, base="nf4")
    if recipe.init_lora_weights == "loftq" and options.base == "16bit":
        display.message(
            "note: LoftQ began at what 4 bits have rounded away, which the weights as published "
            "still hold; LoRA is added to the rounded ones, as it was trained (--base nf4)"
        )
        return replace(options, base="nf4")
    if options.base == "nf4" and not recipe.load_in_4bit:
        display.message("note: this run was trained on 16-bit weights; --base nf4 changes nothing")
    return options


def _write(
    policy: Policy,
    recipe: Recipe,
    run: Path,
    aside: Path,
    out: Path,
    options: ExportOptions,
    display: Display,
) -> list[str]:
    """All files of the export in `aside`, checked; returns a line for each kind of file."""
    ref = reference(policy, check_prompts(_home(run), options.prompts))
    size = write_merged(policy, recipe, aside, options.base)
    kind = "16-bit" if options.base == "16bit" else "NF4-rounded"
    display.message(f"Merged into the {kind} base: {size / 2**30:.2f} GiB")
    tokenizer, ends, context = policy.tokenizer, sorted(policy.end_ids), policy.max_positions
    make_plain(aside, tokenizer, [tokenizer.decode(ids) for ids in ref.prompts])
    keys = ModelKeys.of(policy.keys)
    del policy
    _free()
    parity = _proved(keys, ref, aside, options, size, display)
    contents = [f"`{file.name}`" for file in sorted(aside.glob("*.safetensors"))]
    contents = [f"{', '.join(contents)}: the merged model, for transformers and vLLM"]
    target = aside / f"model-{options.quantisation}.gguf"
    if options.format != "safetensors":
        how = make_gguf(aside, target, options.quantisation, options.llama_cpp)
        if how is None:
            contents.append(f"`{target.name}`: the same in GGUF, for llama.cpp")
        else:
            how = how.replace(str(aside), str(out))
            display.message(f"No llama.cpp or unsloth here; these commands make the GGUF:\n{how}")
    if options.format == "ollama":
        text = modelfile(
            tokenizer,
            f"./{target.name}",
            end_tokens=[str(tokenizer.convert_ids_to_tokens(i)) for i in ends],
            system=opening_words(recipe.served_system_prompt, recipe.task, recipe.served_ask_cost),
            context=min(context, 8192),
        )
        (aside / "Modelfile").write_text(text, encoding="utf-8")
        contents.append("`Modelfile`: for Ollama, `ollama create NAME -f Modelfile`")
    name = options.repo or recipe.hub_model_id or out.resolve().name
    card = model_card(recipe, _home(run), name=name, contents=contents, parity=str(parity))
    (aside / "README.md").write_text(card, encoding="utf-8")
    record = {"base": options.base, "parity": asdict(parity), "run": run.name}
    write_atomically(aside / RECORD, json.dumps(record, indent=2).encode())
    return contents


def _home(run: Path) -> Path:
    """The run directory of a run or of one of its checkpoints."""
    return run if (run / "recipe.yaml").is_file() else run.parent


def _proved(
    keys: ModelKeys,
    ref: Reference,
    written: Path,
    options: ExportOptions,
    size: int,
    display: Display,
) -> Parity:
    """What was written, read back and compared. Raises NotTheSameError when it is not the same."""
    how = room_for(size, keys)
    in_4bit = bool(how["load_in_4bit"])
    base_logprobs = None
    if options.base == "16bit" and not in_4bit:
        base = load_policy(keys.but(**how))
        base_logprobs = logprobs(base, ref.prompts, ref.replies)
        del base
        _free()
    if in_4bit:
        display.message(
            "note: too little memory to load it in 16 bits: it is checked as 4 bits hold it"
        )
    model = load_policy(keys.but(model_name_or_path=str(written.resolve()), **how))
    parity = compare(ref, model, base_logprobs, in_4bit=in_4bit)
    del model
    _free()
    if parity.problem:
        raise NotTheSameError(
            f"the merged model is not the trained one: {parity.problem}; nothing was kept"
            + ("" if options.base == "nf4" else "; try --base nf4, which is what was trained")
        )
    display.message(f"Read back and checked on {parity}")
    return parity


def room_for(size: int, keys: ModelKeys) -> dict[str, Any]:
    """How a model of `size` bytes in 16 bits can be loaded here, as changes of its keys."""
    on_gpu = keys.device != "cpu" and torch.cuda.is_available()
    if on_gpu and torch.cuda.mem_get_info()[0] > 1.3 * size:
        return {"load_in_4bit": False}
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    if free > 2.6 * size:
        return {"load_in_4bit": False, "device": "cpu", "dtype": "float32"}
    if free > 1.3 * size:
        return {"load_in_4bit": False, "device": "cpu", "dtype": "bfloat16"}
    return {"load_in_4bit": True}


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
