"""The model card: what was trained, the data's shares, the figures, the recipe.

A run's own README.md is one; an export's says beside it how faithful the merged files are.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.console import clock
from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.core.files import json_rows, read_json, read_metrics, redact
from icpo_lite.core.types import Intent
from icpo_lite.evaluation.table import comparison_rows, judged_problems
from icpo_lite.recipe.strict_yaml import dump_yaml

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

#: What Markdown reads as more than text.
_SPECIAL = re.compile(r"([\\`*_\[\]|~#$])")

_OWN_PLACES = ("output_dir", "resume_from_checkpoint", "device")


def inline(text: object) -> str:
    """Any text as itself within a line of Markdown: no markup, no HTML, no new line."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def fence(text: str) -> str:
    """A code fence that `text` cannot close."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)


def run_card(recipe: Recipe, run: Path) -> str:
    """The README of a run directory, whose model is an adapter.

    It stands in place of peft's, an empty form.
    """
    contents = [
        "`adapter_config.json`, `adapter_model.safetensors`: the adapter, which peft loads",
        "`recipe.yaml`, `run.json`: every key as it was used; versions, commit, machine, command",
        "`metrics.jsonl`, `completions/`: figures and sampled replies of each step",
    ]
    if (run / "eval").is_dir():
        contents.append("`eval/`, `eval-base/`: figures and every conversation they come from")
    return model_card(recipe, run, name=run.name, contents=contents, parity="")


def model_card(
    recipe: Recipe, run: Path, *, name: str, contents: Sequence[str], parity: str
) -> str:
    """The card's text. name: of the model, contents: a line for each kind of file, with its use.

    parity: how a merged model compares with the adapter; "" for the adapter itself.
    """
    from jinja2 import Environment, StrictUndefined

    # Autoescape is for HTML; here each place says what it is: a line, a cell, YAML, code.
    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inline"] = inline
    template = (resources.files("icpo_lite") / "assets" / "model_card.md.j2").read_text("utf-8")
    text = _recipe_text(recipe)
    info = _json(run / "run.json") or {}
    finished = _json(run / "finished") or {}
    rendered = environment.from_string(template).render(
        front_matter=_front_matter(recipe, "transformers" if parity else "peft"),
        name=name,
        base=_without_folders(recipe.model_name_or_path),
        dataset=_without_folders(recipe.dataset_name),
        recipe=recipe,
        recipe_text=text,
        recipe_fence=fence(text),
        steps=finished.get("stopped_early", finished.get("steps", recipe.max_steps)),
        shares=shares(recipe, run),
        evaluation=_evaluation(run, recipe),
        contents="\n".join(f"- {line}" for line in contents),
        parity=parity,
        cost=_cost(run, info),
        versions={"icpo-lite": "", **info.get("versions", {})},
        commit=info.get("commit"),
    )
    return str(redact(rendered))


def _cost(run: Path, info: Mapping[str, Any]) -> str:
    """What training took, as far as the run has kept it; "" where it has kept nothing."""
    rows = read_metrics(run)
    timed = [
        (float(r.get("step_seconds") or 0), float(r.get("tokens_per_second") or 0)) for r in rows
    ]
    seconds = sum(second for second, _ in timed)
    tokens = sum(second * rate for second, rate in timed)
    parts = [
        f"{tokens:,.0f} tokens sampled" if tokens else "",
        f"{clock(seconds)} of steps" if seconds else "",
        f"on {info['device']}" if info.get("device") else "",
    ]
    return ", ".join(filter(None, parts)) if seconds else ""


def _recipe_text(recipe: Recipe) -> str:
    """The resolved recipe without secrets, and without where things lie on the trainer's disk."""
    values = recipe.model_dump(mode="json", exclude={"gradient_accumulation_steps", *_OWN_PLACES})
    return dump_yaml(redact(_without_folders(values))).strip()


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_folders(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_folders(v) for v in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def _front_matter(recipe: Recipe, library: str) -> str:
    from huggingface_hub import ModelCardData

    local = (
        recipe.model_name_or_path.startswith("builtin:")
        or Path(recipe.model_name_or_path).expanduser().is_dir()
    )
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", recipe.dataset_name)
    data = ModelCardData(
        base_model=None if local else recipe.model_name_or_path,
        datasets=[recipe.dataset_name]
        if on_hub and not Path(recipe.dataset_name).exists()
        else None,
        library_name=library,
        pipeline_tag="text-generation",
        tags=["icpo", "icpo-lite", "grpo", "lora"],
    )
    return str(data.to_yaml()).strip()


def shares(recipe: Recipe, run: Path) -> list[dict[str, Any]]:
    """For each kind of prompt: the share asked for, the share of sampled prompts, and how many."""
    sampled = {str(intent): 0 for intent in Intent}
    distinct: dict[str, set[str]] = {str(intent): set() for intent in Intent}
    for file in (run / "completions").glob("step-*.jsonl"):
        for row in json_rows(file, "intent", "prompt_id"):
            if row["intent"] in sampled:
                sampled[row["intent"]] += 1
                distinct[row["intent"]].add(row["prompt_id"])
    total = sum(sampled.values())
    asked = {
        str(Intent.COMPLETE): 1 - recipe.share_underspecified,
        str(Intent.UNDERSPECIFIED): recipe.share_underspecified,
    }
    return [
        {
            "intent": intent,
            "asked": asked[intent],
            "share": count / total if total else None,
            "distinct": len(distinct[intent]) if total else None,
        }
        for intent, count in sampled.items()
    ]


def _evaluation(run: Path, recipe: Recipe) -> dict[str, Any] | None:
    """The comparison table of the run, its base and the runs trained beside it."""
    places = {"base": run / "eval-base"}
    places |= {n: run.with_name(f"{run.name}-{n}") / "eval" for n in recipe.compare}
    places["this model"] = run / "eval"
    found = {name: _json(place / "eval.json") for name, place in places.items()}
    summaries: dict[str, Mapping[str, Any]] = {n: s for n, s in found.items() if s is not None}
    if "this model" not in summaries:
        return None
    header, rows = comparison_rows(summaries)
    options = summaries["this model"].get("judged_with") or {}
    return {
        "header": header,
        "rows": rows,
        "problems": judged_problems(summaries["this model"]),
        "split": options.get("split", "?"),
        "runs": options.get("runs", "?"),
        "temperature": options.get("temperature", "?"),
        "data": _without_folders(options.get("dataset_name") or recipe.dataset_name),
    }


def _json(file: Path) -> dict[str, Any] | None:
    """A JSON object, None where there is no file."""
    try:
        return dict(read_json(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise RunDirectoryError(
            f"{file}: expected a JSON object, found {error}; delete the file and run this again"
        ) from None
