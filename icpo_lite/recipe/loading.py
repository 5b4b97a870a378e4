"""From a file's name and overrides to a `Recipe`, and back to YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.files import plain
from icpo_lite.recipe.input_paths import with_found_paths
from icpo_lite.recipe.keys import Recipe
from icpo_lite.recipe.messages import BLOCKS, first_error, nearest, place_of, unknown_key
from icpo_lite.recipe.names import ALIASES, EXPLAINED
from icpo_lite.recipe.section import DEFAULT_REWARD, TWIN
from icpo_lite.recipe.strict_yaml import dump_yaml, read_yaml

#: Files that are taken for a recipe now and then.
_DATA = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq", ".gz", ".bz2", ".xz")
COMMAND_LINE, CALL = "command line", "load_recipe"


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = (), **keys: Any) -> Recipe:
    """Read a recipe file, or a shipped recipe by name (`tiny`), and change some of its keys.

        load_recipe("tiny", max_steps=20, evaluation={"problems": 20})

    overrides: `key=value` or `block.option=value`, as on a command line. keys: the same as
    Python values; of a block those options change that are given.

    Raises RecipeError, one line with file and line number, on anything that is not understood.
    """
    path = _find(str(path_or_name), Path())
    layer = _read_with_parents(path, ())
    given = [f"{key}={json.dumps(plain(value))}" for key, value in keys.items()]
    for override in overrides:
        layer = _overridden(layer, override)
    for override in given:
        layer = _overridden(layer, override, place=CALL)
    layer.values.setdefault("output_dir", f"runs/{path.stem}")
    recipe = _validated(layer, path)
    recipe._overrides = (*overrides, *given)
    return recipe


def compared_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes that `compare` names, ready to be trained beside this one.

    Overrides given for this recipe hold for them too, but not for a key that their own file
    sets: that key is what they differ in. Each writes to `<output_dir>-<name>`, and
    resumes what it finds there unless this one begins anew.
    """
    return {name: _compared(recipe, name, file) for name, file in recipe.compare.items()}


def resolved_yaml(recipe: Recipe) -> str:
    """The recipe with every default filled in, as YAML that `load_recipe` reads back equal."""
    return dump_yaml(recipe.model_dump(exclude={"gradient_accumulation_steps"}))


def shipped_recipes() -> dict[str, Path]:
    """Name → file of the recipes that come with the package."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "recipes"  # a wheel; a checkout keeps them beside the package
    folder = inside if inside.is_dir() else package.parent / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


@dataclass(frozen=True)
class _Layer:
    """Keys of one file or override, and `file:line` of each key by dotted name."""

    values: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)


def _find(name: str, folder: Path) -> Path:
    """A file by path from `folder`, then from the working directory, else a shipped recipe."""
    folders = list({place.resolve(): place for place in (folder, Path())}.values())
    for place in folders:
        if (path := place / Path(name).expanduser()).is_file():
            return path
    shipped = shipped_recipes()
    stem = name.removesuffix(".yaml")
    if stem in shipped:
        return shipped[stem]
    looked = " or ".join(str(place.resolve()) for place in folders)
    where = f" in {looked}" if name.endswith((".yaml", ".yml")) else ""
    if hint := _meant_by(name):
        raise RecipeError(hint)
    raise RecipeError(
        f"expected a recipe file or a shipped recipe ({', '.join(shipped)}), found neither for "
        f"{name!r}{where}{nearest(stem, shipped)}"
    )


def _meant_by(name: str) -> str:
    """What to type where a run, a model or data stand in a recipe's place; "" for other names."""
    path = Path(name).expanduser()
    if (path / "recipe.yaml").is_file():
        return f"{name} is a run, no recipe; name its recipe: {path / 'recipe.yaml'}"
    of_hub = re.fullmatch(r"[\w-]+/[\w.-]+", name) and not name.endswith((".yaml", ".yml"))
    if of_hub or (path / "config.json").is_file():
        return (
            f"{name} is a model, no recipe; `icpo-lite init my.yaml --model {name}` writes one "
            "for it"
        )
    return ""


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> _Layer:
    """A file's keys over those of the recipe it extends."""
    chain = (*children, path.resolve())
    if path.resolve() in children:
        raise RecipeError(f"extends runs in a circle: {' -> '.join(p.name for p in chain)}")
    layer = _canonical(_read_file(path))
    parent = layer.values.pop("extends", None)
    if parent is None:
        return layer
    if not isinstance(parent, str):
        raise RecipeError(
            f"{layer.places['extends']}: expected extends: other.yaml, found {parent!r}"
        )
    try:
        parent_path = _find(parent, path.parent)
    except RecipeError as error:
        raise RecipeError(f"{layer.places['extends']}: extends: {error}") from None
    return _merged(_read_with_parents(parent_path, chain), layer)


def _read_file(path: Path) -> _Layer:
    if path.name.endswith(_DATA):
        raise RecipeError(
            f"{path} is data, no recipe; `icpo-lite init my.yaml --dataset {path}` writes one for "
            "it"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: expected a UTF-8 text file, found other bytes") from None
    values, places = read_yaml(text, str(path))
    if values is None:
        return _Layer({})
    if not isinstance(values, dict):
        raise RecipeError(f"{path}:1: expected `key: value` lines, found {text[:40]!r}")
    return _Layer(values, places)


def _overridden(layer: _Layer, override: str, place: str = COMMAND_LINE) -> _Layer:
    """The layer with `key=value` or `block.option=value` on top; the value is read as YAML."""
    dotted, separator, text = override.partition("=")
    parts = dotted.strip().split(".")
    if not separator or not all(parts):
        named, _, said = (part.strip() for part in dotted.partition(":"))
        known = named.partition(".")[0] in {*Recipe.model_fields, *ALIASES}
        hint = f"; write {named}={said or 'VALUE'}, without a space" if known else ""
        raise RecipeError(
            f"{place}: expected key=value, such as max_steps=20, found {override!r}{hint}"
        )
    if parts[0] == "extends":
        raise RecipeError(f"{place}: extends stands in a recipe file, not in an override")
    try:
        value, _ = read_yaml(text, place)
    except RecipeError:
        raise RecipeError(
            f"{place}: expected a YAML value in {override!r}; put text in quotes: {dotted}='\"…\"'"
        ) from None
    for part in reversed(parts[1:]):
        value = {part: value}
    top = _canonical(_Layer({parts[0]: value}, {".".join(parts): place}))
    return _merged(layer, top, deep=len(parts) > 1)


def _canonical(layer: _Layer) -> _Layer:
    """The layer under our own names; unknown and doubly named keys are refused."""
    known = {*Recipe.model_fields, "extends"}
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for key, value in layer.values.items():
        name = key if key in known else ALIASES.get(key)
        place = layer.places.get(key, COMMAND_LINE)
        if name is None:
            if key in EXPLAINED:
                raise RecipeError(f"{place}: {key} is not a key of icpo-lite; {EXPLAINED[key]}")
            raise RecipeError(unknown_key(key, [*known, *ALIASES], place))
        if name in values:
            raise RecipeError(f"{place}: {key} and {name} name the same key; keep one")
        values[name] = value
        for dotted, where in layer.places.items():
            if dotted == key or dotted.startswith(f"{key}."):
                places[name + dotted[len(key) :]] = where
    return _Layer(values, places)


def _merged(base: _Layer, top: _Layer, *, deep: bool = False) -> _Layer:
    """`top` over `base`: blocks option by option, every other key as a whole.

    deep: mappings inside blocks are merged too, as `endpoint.extra_body.top_k=1` means it.
    """
    values, places = dict(base.values), dict(base.places)
    for key, value in top.values.items():
        old, new = _as_block(key, values.get(key)), _as_block(key, value)
        mappings = isinstance(old, dict) and isinstance(new, dict)
        if mappings and (deep or key in BLOCKS) and not _renamed(key, old, new):
            values[key] = _deeply(old, new) if deep else {**old, **new}
        else:
            values[key] = value
            places = {k: v for k, v in places.items() if not k.startswith(f"{key}.")}
    return _Layer(values, {**places, **top.places})


def _as_block(key: str, value: Any) -> Any:
    return {"name": value} if key == "reward" and isinstance(value, str) else value


def _renamed(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether `new` begins a block of its own, to which the options of `old` do not belong."""
    return key in BLOCKS and "name" in new and new["name"] != old.get("name", DEFAULT_REWARD)


def _deeply(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: _deeply(old.get(key), value) for key, value in new.items()}}


def _validated(layer: _Layer, path: Path) -> Recipe:
    try:
        recipe = Recipe(**layer.values)
    except RecipeError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        where = partial(place_of, layer.places, otherwise=path)
        raise RecipeError(first_error(error.__cause__, where, blocks=Recipe.blocks)) from None
    recipe._path = path
    recipe._places = layer.places
    return with_found_paths(recipe)


def _compared(recipe: Recipe, name: str, file: str) -> Recipe:
    # A checkpoint's folder, or that there is one, is said of the judged run alone.
    anew = False if recipe.resume_from_checkpoint is False else None
    own_place: dict[str, Any] = {
        "output_dir": f"{recipe.output_dir.rstrip('/')}-{name}",
        "compare": {},
        "resume_from_checkpoint": anew,
    }
    if file == TWIN:
        if name != "rlvr":
            raise RecipeError(
                f"{recipe.where('compare')}: only rlvr can be compared without a recipe of its "
                f"own; name one: --compare {name}=FILE.yaml, or compare: {{{name}: FILE.yaml}}"
            )
        twin = recipe.model_dump(exclude={"gradient_accumulation_steps"}) | {
            "reward": "accuracy",
            "share_underspecified": 0.0,
            "share_schedule": "constant",
            **own_place,
        }
        return _validated(_Layer(twin, recipe._places), recipe.path)
    try:
        path = _find(file, recipe.folder)
    except RecipeError as error:
        raise RecipeError(f"{recipe.where(f'compare.{name}')}: {error}") from None
    own = _canonical(_read_file(path)).values
    kept = [o for o in recipe._overrides if _override_key(o) not in {*own, "compare"}]
    other = load_recipe(path, kept)
    return other.model_copy(update=own_place)


def _override_key(override: str) -> str:
    key = override.partition("=")[0].partition(".")[0].strip()
    return ALIASES.get(key, key)
