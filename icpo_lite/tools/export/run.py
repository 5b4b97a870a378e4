"""From a run directory to files that stand alone: merge, check, convert, describe, push."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from icpo_lite.core.errors import IcpoError, ModelError, UsageError
from icpo_lite.core.files import write_atomically
from icpo_lite.core.outputs import Kind, check_output, holds
from icpo_lite.data.system_prompts import opening_words
from icpo_lite.policy.end_tokens import stored_end_tokens
from icpo_lite.policy.from_recipe import find_model
from icpo_lite.policy.load import load_policy, model_path
from icpo_lite.recipe.sections import ModelKeys
from icpo_lite.runs.model_card import model_card
from icpo_lite.tools.export.adapter import require_plain_lora, write_adapter
from icpo_lite.tools.export.gguf import LlamaCpp, find_llama_cpp, make_gguf, unknown_tokenizer
from icpo_lite.tools.export.hub import check_name, push
from icpo_lite.tools.export.merged import base_files, write_merged
from icpo_lite.tools.export.ollama import detect_family, modelfile, require_import
from icpo_lite.tools.export.options import ExportOptions, check_options
from icpo_lite.tools.export.order import Order, Written, by_hand_lines, next_use
from icpo_lite.tools.export.parity import Parity, check_prompts, compare, logprobs, reference
from icpo_lite.tools.export.plain_tokenizer import make_plain

if TYPE_CHECKING:
    from icpo_lite.core.console import Display
    from icpo_lite.policy.from_recipe import FoundModel
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.tools.export.parity import Reference

#: Marks a folder as an export, which a later export may replace.
RECORD = "export.json"
EXPORTED = Kind("an earlier export", holds(RECORD), folder=True)


class NotTheSameError(IcpoError):
    """The written model is not the trained one."""


def export(
    run: Path, out: Path | None, options: ExportOptions, display: Display, *, device: str
) -> Path:
    """Write `run`'s merged model, or its adapter alone, and what the format asks for.

    Returns the folder. Everything is written aside and takes its name once it is whole. Raises
    NotTheSameError when a merged model is not what was trained, and ModelError when the GGUF could
    not be made: what it is made of is kept then, and the commands that make it are told.
    """
    check_options(options)
    out = out or run / ("export-adapter" if options.adapter else "export")
    found = find_model(str(run))
    recipe = found.recipe
    if recipe is None:
        raise UsageError(
            f"{run}: expected a run directory with an adapter, found a bare model; export merges "
            "what `icpo-lite train` has trained"
        )
    order = Order(run, recipe, options, _repository(options.repo, recipe), out, display)
    check_output(out, EXPORTED, inputs=(run, recipe.model_name_or_path))
    tools = find_llama_cpp(options.llama_cpp) if options.makes_gguf else None
    _check_format(order)
    shutil.rmtree(order.aside, ignore_errors=True)
    order.aside.mkdir(parents=True)
    try:
        with _told_when_full(out):
            written = _adapter(order) if options.adapter else _merged(order, found, device)
            not_made = _finish(order, written, tools)
        shutil.rmtree(out, ignore_errors=True)
        order.aside.rename(out)
    finally:
        shutil.rmtree(order.aside, ignore_errors=True)
    for line in written.contents:
        display.message(f"  {line}")
    if not_made:
        display.to_type("\n".join(by_hand_lines(order, tools)))
        unknown = unknown_tokenizer(out)
        make = f"; {unknown}" if unknown else ", and the commands above make it"
        raise ModelError(f"{not_made}; {out} holds the rest{make}")
    display.message(f"Done: {out}")
    if order.repo is not None:
        display.message(f"Pushed: {push(out, order.repo, private=options.private)}")
    display.to_type(next_use(order))
    return out


@contextlib.contextmanager
def _told_when_full(out: Path) -> Iterator[None]:
    """A full disk, which safetensors and tokenizers tell in errors of their own, as one line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, IcpoError) or os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise IcpoError(
            f"cannot write {out}: {os.strerror(errno.ENOSPC)}; free some space, or give -o a place "
            "on another disk"
        ) from None


def _repository(asked: str | None, recipe: Recipe) -> str | None:
    if asked is None:
        return None
    named = asked or recipe.hub_model_id
    if not named:
        raise UsageError("--push: expected a repository, or hub_model_id in the recipe; found none")
    return check_name(named)


def _check_format(order: Order) -> None:
    """Before the long work: what the format cannot say of this adapter or this model."""
    options, recipe = order.options, order.recipe
    if options.adapter and options.format != "safetensors":
        require_plain_lora(order.run, f"--adapter --format {options.format}")
    if options.format == "ollama-safetensors":
        files = base_files(recipe.model_name_or_path, code=recipe.trust_remote_code)
        note = require_import(files.config.get("architectures") or [], adapter=options.adapter)
        if unknown := unknown_tokenizer(files.folder):
            raise UsageError(f"--format {options.format}: {unknown}")
        order.display.message(f"note: {note}")


def _adapter(order: Order) -> Written:
    """The LoRA alone; no model is loaded for it."""
    from transformers import AutoConfig

    keys = ModelKeys.of(order.recipe)
    shared = order.repo is not None
    tokenizer, size = write_adapter(order.run, order.recipe, order.aside, shared=shared)
    order.display.message(f"The adapter alone: {size / 2**20:.1f} MiB")
    path = model_path(keys.model_name_or_path)
    config = AutoConfig.from_pretrained(path, trust_remote_code=keys.trust_remote_code)
    return Written(
        tokenizer,
        sorted(stored_end_tokens(keys, path, tokenizer)),
        int(config.get_text_config().max_position_embeddings),
        ["`adapter_model.safetensors`: the adapter, for peft and vLLM"],
        order.options,
    )


def _merged(order: Order, found: FoundModel, device: str) -> Written:
    """The merged model, read back and compared with the adapter."""
    policy = found.load(device)
    options = _fitting(order, policy)
    if options.for_ollama:
        detect_family(policy.tokenizer)  # before the long work
    aside, tokenizer = order.aside, policy.tokenizer
    ref = reference(policy, check_prompts(order.home, options.prompts))
    size = write_merged(policy, order.recipe, aside, options.base)
    kind = "16-bit" if options.base == "16bit" else "NF4-rounded"
    order.display.message(f"Merged into the {kind} base: {size / 2**30:.2f} GiB")
    make_plain(aside, tokenizer, [tokenizer.decode(ids) for ids in ref.prompts])
    ends, context, keys = sorted(policy.end_ids), policy.max_positions, ModelKeys.of(policy.keys)
    del policy
    _free()
    parity = _proved(keys, ref, aside, options, size, order.display)
    files = ", ".join(f"`{file.name}`" for file in sorted(aside.glob("*.safetensors")))
    contents = [f"{files}: the merged model, for transformers and vLLM"]
    return Written(tokenizer, ends, context, contents, options, parity)


def _fitting(order: Order, policy: Policy) -> ExportOptions:
    """The base that can be had: a checkpoint that holds 4 bits has no 16-bit weights."""
    options, recipe = order.options, order.recipe
    packed = base_files(recipe.model_name_or_path, code=recipe.trust_remote_code).packed
    if packed and options.base == "16bit":
        order.display.message(
            f"note: {recipe.model_name_or_path} holds 4-bit weights; LoRA is added to what they "
            "stand for (--base nf4)"
        )
        return replace(options, base="nf4")
    if recipe.init_lora_weights == "loftq" and options.base == "16bit":
        order.display.message(
            "note: LoftQ began at what 4 bits have rounded away, which the weights as published "
            "still hold; LoRA is added to the rounded ones, as it was trained (--base nf4)"
        )
        return replace(options, base="nf4")
    if options.base == "nf4" and not policy.keys.load_in_4bit:
        order.display.message(
            "note: this run was trained on 16-bit weights; --base nf4 changes nothing"
        )
    return options


def _finish(order: Order, written: Written, tools: LlamaCpp | None) -> str:
    """GGUF, Modelfile, model card and record; returns why the GGUF could not be made, or ""."""
    options, aside, contents = order.options, order.aside, written.contents
    name, not_made = options.gguf_name, ""
    if options.makes_gguf:
        try:
            make_gguf(order.conversion(aside), tools)
            contents.append(f"`{name}`: the same in GGUF, for llama.cpp")
        except ModelError as error:
            not_made = str(error)
    if options.for_ollama:
        (aside / "Modelfile").write_text(_modelfile(order, written), encoding="utf-8")
        once = f", once `{name}` is made" if not_made else ""
        contents.append(f"`Modelfile`: for Ollama{once}, `ollama create NAME -f Modelfile`")
    called = options.repo or order.recipe.hub_model_id or order.out.resolve().name
    parity = str(written.parity) if written.parity else ""
    card = model_card(order.recipe, order.home, name=called, contents=contents, parity=parity)
    (aside / "README.md").write_text(card, encoding="utf-8")
    record: dict[str, Any] = {"base": written.options.base, "run": order.run.name}
    record |= {"parity": asdict(written.parity)} if written.parity else {"adapter": True}
    write_atomically(aside / RECORD, json.dumps(record, indent=2).encode())
    return not_made


def _modelfile(order: Order, written: Written) -> str:
    options, recipe, tokenizer = order.options, order.recipe, written.tokenizer
    here = f"./{options.gguf_name}" if options.makes_gguf else "."
    return modelfile(
        tokenizer,
        str(options.ollama_base) if options.adapter else here,
        adapter=here if options.adapter else None,
        end_tokens=[str(tokenizer.convert_ids_to_tokens(i)) for i in written.ends],
        system=opening_words(recipe.served_system_prompt, recipe.task, recipe.served_ask_cost),
        context=min(written.context, 8192),
    )


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
            f"the merged model is not the trained one: {parity.problem}; nothing was kept; "
            + (
                "try --base nf4, which is what was trained"
                if options.base == "16bit" and keys.load_in_4bit
                else "--adapter exports the LoRA alone, which no rounding touches"
            )
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
