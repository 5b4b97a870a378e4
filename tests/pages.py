"""What README.md and icpo_lite/docs have from the code and from measured figures.

    python tests/pages.py            writes it anew, where it differs
    python tests/pages.py --check    says what differs, and ends with 1 if anything does

`keys.md` is made of the recipe's sections. In other pages a part between `<!-- name -->` and
`<!-- end -->` is made: the real model's table (tests/claims/real_model.json), those of objectives
and of small methods (objectives.json, reading_list.json beside it), the arena's (arena.json), the
shipped recipes with the memory and hours that `icpo-lite plan` says, the list of pages.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from claims import objectives

from icpo_lite.cli.docs import title, topics
from icpo_lite.cli.plan import _hours, _size
from icpo_lite.recipe import Recipe, load_recipe, shipped_recipes
from icpo_lite.recipe.strict_yaml import dump_yaml
from icpo_lite.tools.cards import CARDS
from icpo_lite.tools.known_shapes import known_config
from icpo_lite.tools.model_shape import shape_of
from icpo_lite.tools.planner import Fit, fit_on

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "icpo_lite" / "docs"
CLAIMS = ROOT / "tests" / "claims"


# ------------------------------------------------------------------------------------ recipe keys


def keys_page() -> str:
    """Every key of a recipe with its default and meaning, by section."""
    lines = [
        "# Recipe keys: each with its default and what it means",
        "",
        "Every key with its default. `icpo-lite docs KEY` shows one, `icpo-lite init my.yaml`",
        "writes them all. Keys have TRL's names where TRL has one; `reward.targeted=0.8` on a",
        "command line changes an option of a block. Made from the code: `python tests/pages.py`.",
    ]
    sections = [s for s in reversed(Recipe.__mro__) if "model_fields" in dir(s)]
    for section in sections:
        own = [k for k in getattr(section, "__annotations__", {}) if k in Recipe.model_fields]
        if not own or section is Recipe:
            continue
        lines += ["", f"## {_first_sentence(section.__doc__)}"]
        for key in own:
            lines += ["", *_entry(key)]
    lines += ["", *_blocks()]
    return "\n".join(lines) + "\n"


def _first_sentence(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")


def _entry(key: str) -> list[str]:
    field = Recipe.model_fields[key]
    default = "required" if field.is_required() else f"default `{_yaml(_default(field))}`"
    return [f"### `{key}`", "", f"{default}: {_plain(str(field.description))}"]


def _default(field: Any) -> Any:
    value = field.get_default(call_default_factory=True)
    return value.model_dump() if hasattr(value, "model_dump") else value


def _yaml(value: Any) -> str:
    given = list(value) if isinstance(value, tuple) else value
    if isinstance(given, float):
        return f"{given:g}"
    text = dump_yaml({"k": given}, blocks=not isinstance(given, list | dict))
    return " ".join(text.strip().removeprefix("k:").split()) or "null"


def _plain(text: str) -> str:
    """Signs that Markdown would act on, as themselves."""
    return re.sub(r"([*_<>|])", r"\\\1", text)


def _blocks() -> Iterator[str]:
    """The options of the blocks that have a model of their own."""
    from icpo_lite.core.endpoint import EndpointOptions
    from icpo_lite.data.augment_options import AugmentOptions
    from icpo_lite.recipe.run_sections import Evaluation
    from icpo_lite.rewards.icpo import REWARDS

    blocks = {
        "augment": AugmentOptions,
        "reward (guarded)": REWARDS["guarded"].options,
        "endpoint": EndpointOptions,
        "evaluation": Evaluation,
    }
    for name, model in blocks.items():
        yield from (
            f"## Options of `{name}`",
            "",
            "| option | default | meaning |",
            "|---|---|---|",
        )
        for option, field in model.model_fields.items():
            default = "required" if field.is_required() else f"`{_yaml(_default(field))}`"
            yield f"| `{option}` | {default} | {_plain(str(field.description))} |"
        yield ""


# ----------------------------------------------------------------------------------- parts of pages

#: Name of a column in README → the arm's name in real_model.json, without its seed.
ARMS = {
    "base": "base",
    "threshold": "base, threshold",
    "permitted to ask": "base, permitted to ask",
    "RLVR": "rlvr",
    "warm-up alone": "warm-up alone",
    "ICPO, warmed up": "icpo, warmed up",
}
#: A row's label → the problems that were judged on, and the figure.
FIGURES = {
    "FULL P": ("world", "FULL P"),
    "SHARDED P": ("world", "SHARDED P"),
    "asks on q*": ("world", "asks on q*"),
    "asks for what lacks": ("world", "targeted"),
    "over-asks on q": ("world", "over-asks"),
    "AUROC of q* against q": ("world", "AUROC of P(ask)"),
    "AUROC, maths not trained on": ("askmind_math500", "AUROC of P(ask)"),
}


def real_model_table() -> str:
    """One column an arm; a cell has each seed's figure, with its interval where there is one."""
    measured = json.loads((CLAIMS / "real_model.json").read_text(encoding="utf-8"))
    arms = {
        column: seeds
        for column, arm in ARMS.items()
        if (
            seeds := [
                v for k, v in measured["arms"].items() if re.sub(r", seed \d+$", "", k) == arm
            ]
        )
    }
    lines = ["| test | " + " | ".join(arms) + " |", "|---" * (len(arms) + 1) + "|"]
    for label, (where, key) in FIGURES.items():
        cells = [
            _cell([s[where][key] for s in seeds if s.get(where, {}).get(key)], key)
            for seeds in arms.values()
        ]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(seeds: list[list[float]], key: str) -> str:
    form = "{:.2f}" if "AUROC" in key else "{:.1f}"
    if len(seeds) == 1:
        value, low, high = seeds[0]
        bounds = "" if "AUROC" in key or low == high else f" [{int(low + 0.5)}, {int(high + 0.5)}]"
        return form.format(value) + bounds
    return ", ".join(form.format(value) for value, *_ in seeds) or "-"


#: Cards of the table of recipes, from a free Colab's up.
COLUMNS = ("T4", "3060", "3090", "4090")


def recipes_table() -> str:
    """The shipped recipes of a GPU, with the peak and the hours that `plan` says."""
    lines = [
        "| recipe | planned peak | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name in shipped_recipes():
        if known_config(load_recipe(name).model_name_or_path) is None:
            continue
        recipe, fits = _planned(name, COLUMNS)
        cells = [
            _hours(fit.step_seconds * recipe.max_steps)
            if fit.fits and fit.step_seconds
            else ("with changes" if fit.changes else "no")
            for fit in fits
        ]
        peak = next((fit.plan.peak for fit in fits if fit.fits), fits[-1].plan.peak)
        lines.append(f"| `{name}` | {_size(peak)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


#: What a reader of README may have: recipe and cards.
OWN_GPU = {"qwen1.5b": ("T4",), "qwen7b": ("3060", "4090"), "qwen32b": ("3090", "4090")}


def own_gpu_list() -> str:
    """A line for each of a few recipes: model, peak, hours by card."""
    lines = []
    for name, cards in OWN_GPU.items():
        recipe, fits = _planned(name, cards)
        hours = ", ".join(
            f"{_hours(fit.step_seconds * recipe.max_steps)} on a {fit.card.name}"
            for fit in fits
            if fit.step_seconds is not None
        )
        model = recipe.model_name_or_path
        lines.append(f"- `icpo-lite train {name}`: {model}, {_size(fits[0].plan.peak)}, {hours}")
    return "\n".join(lines)


def _planned(name: str, cards: Sequence[str]) -> tuple[Recipe, list[Fit]]:
    recipe = load_recipe(name)
    shape = shape_of(known_config(recipe.model_name_or_path) or {})
    return recipe, [fit_on(CARDS[card], shape, recipe) for card in cards]


def topics_list() -> str:
    """A line for each page of the guide, with what its heading says."""
    lines = []
    for name, file in topics().items():
        said = title(file.read_text(encoding="utf-8")) if file.exists() else name
        lines.append(f"- [{name}](icpo_lite/docs/{name}.md): {said.partition(': ')[2] or said}")
    return "\n".join(lines)


def objectives_table(name: str) -> str:
    """What tests/claims/objectives.py printed, from the figures that it kept."""
    kept = json.loads((CLAIMS / name).read_text(encoding="utf-8"))
    return objectives.table(kept["results"], kept["base"])


#: Columns of the arena's table.
ARENA_ROWS = ("FULL P", "SHARDED P", "SHARDED U", "asks on q*", "over-asks on q")


def arena_table() -> str:
    """What `reproduce tiny --arms all` measured: an arm a row, means ± deviations over seeds."""
    kept = json.loads((CLAIMS / "arena.json").read_text(encoding="utf-8"))
    measured, costs = kept["parts"]["test"]["table"], kept["costs"]
    lines = [
        "| arm | " + " | ".join(ARENA_ROWS) + " | sampled tokens | seconds of steps | GB |",
        "|---" * (len(ARENA_ROWS) + 4) + "|",
    ]
    for arm in kept["arms"]:
        cells = [_seeds(measured[row][arm]) for row in ARENA_ROWS]
        runs = costs.get(arm, ())
        took = [mean(run[key] for run in runs) for key in ("sampled", "seconds")] if runs else []
        cells += [f"{value:,.0f}" for value in took] or ["-", "-"]
        cells.append(f"{max(run['memory_gb'] for run in runs):.1f}" if runs else "-")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def conversations_table() -> str:
    """What tests/claims/conversations.py printed."""
    kept = json.loads((CLAIMS / "conversations.json").read_text(encoding="utf-8"))
    return "\n".join(kept["table"])


def _seeds(figure: dict[str, Any]) -> str:
    spread = figure["spread"]
    return f"{figure['value']:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


PARTS: dict[str, Callable[[], str]] = {
    "real-model": real_model_table,
    "objectives": partial(objectives_table, "objectives.json"),
    "arena": arena_table,
    "conversations": conversations_table,
    "small-methods": partial(objectives_table, "reading_list.json"),
    "recipes": recipes_table,
    "own-gpu": own_gpu_list,
    "topics": topics_list,
}


def with_parts(text: str) -> str:
    """A page with its made parts made anew."""
    for name, make in PARTS.items():
        mark = f"<!-- {name} -->"
        if mark in text:
            pattern = re.escape(mark) + r".*?<!-- end -->"
            made = f"{mark}\n{make()}\n<!-- end -->"
            text = re.sub(pattern, lambda _, made=made: made, text, flags=re.DOTALL)
    return text


def made_pages() -> dict[Path, str]:
    """File → what it should hold, of all that are made in whole or in part."""
    pages = {DOCS / "keys.md": keys_page()}
    for file in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))):
        if file.name != "keys.md":
            pages[file] = with_parts(file.read_text(encoding="utf-8"))
    return pages


def main(arguments: list[str]) -> int:
    stale = [f for f, t in made_pages().items() if not f.exists() or f.read_text("utf-8") != t]
    for file in stale:
        print(f"{'differs' if '--check' in arguments else 'written'}: {file.relative_to(ROOT)}")
        if "--check" not in arguments:
            file.write_text(made_pages()[file], encoding="utf-8")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
