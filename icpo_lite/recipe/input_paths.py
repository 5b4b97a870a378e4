"""Paths that a recipe names: `~` is the home folder, relative ones start at the recipe.

A file or folder that is read is looked for from the folder of the file that names it, then from the
recipe's own, then from the working directory. What is written starts at the working directory.
Names of the hub and of the package stay as they are: a name is a path where something lies there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.paths import at_home, reads_as_path

if TYPE_CHECKING:
    from icpo_lite.recipe.keys import Recipe


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file()


def _is_adapter(path: Path) -> bool:
    return (path / "adapter_config.json").is_file()


#: Keys that name what is read → whether something at a place is that.
READ: dict[str, Callable[[Path], bool]] = {
    "model_name_or_path": _is_model,
    "adapter_name_or_path": _is_adapter,
    "dataset_name": Path.is_file,
    "eval_dataset_name": Path.is_file,
    "evaluation.dataset_name": Path.is_file,
    "augment.spread_from": Path.is_dir,
    "logged_completions": Path.is_dir,
    "resume_from_checkpoint": Path.is_dir,
}
#: Keys that name what is written.
WRITTEN = ("output_dir", "mirror_dir", "endpoint.cache_dir", "augment.endpoint.cache_dir")
#: Keys whose lists of blocks name what is read, and the entry that does.
LISTED = {"datasets": ("path", Path.is_file)}


class _Named(NamedTuple):
    key: str
    name: str
    fits: Callable[[Path], bool] | None


def with_found_paths(recipe: Recipe) -> Recipe:
    """The recipe, each path that it names made one that this process can open."""
    changed: dict[str, Any] = {}
    for named in _named(recipe):
        found = _found(recipe, named)
        if found != named.name:
            _put(changed, recipe, named.key.split("."), found)
    return recipe.model_copy(update=changed) if changed else recipe


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with every file and folder that it reads named from the root on, so that a copy
    of it finds them from another folder."""
    changed: dict[str, Any] = {}
    for named in _named(recipe):
        path = at_home(named.name)
        if named.fits is not None and not path.is_absolute() and named.fits(path):
            _put(changed, recipe, named.key.split("."), str(path.resolve()))
    return recipe.model_copy(update=changed) if changed else recipe


def folders_of(recipe: Recipe, key: str) -> list[Path]:
    """Where a file that `key` names is looked for, in order, each once."""
    file = Path(recipe.where(key).rpartition(":")[0] or recipe.path)
    folders = [file.parent] if file.is_file() else []
    folders += [recipe.folder, Path()]
    return list({folder.resolve(): folder for folder in folders}.values())


def not_found(recipe: Recipe, key: str, name: str, wanted: str, remedy: str) -> RecipeError:
    """The error of a file or folder that lies nowhere, with the places where it was looked for."""
    if at_home(name).is_absolute():
        places = "at that place"
    else:
        places = " or ".join(f"in {folder.resolve()}" for folder in folders_of(recipe, key))
    return RecipeError(
        f"{recipe.where(key)}: {key}: expected {wanted} {name}, found none {places}; {remedy}"
    )


def require_model(recipe: Recipe) -> None:
    """Raises RecipeError where the recipe names a folder with a model, and none is there."""
    name = recipe.model_name_or_path
    if not at_home(name).is_dir() and not name.startswith("builtin:") and reads_as_path(name):
        raise not_found(
            recipe,
            "model_name_or_path",
            name,
            "a model's folder",
            "give a folder with config.json, a hub name such as Qwen/Qwen2.5-1.5B-Instruct, or "
            "builtin:tiny",
        )


def _named(recipe: Recipe) -> Iterator[_Named]:
    for key in (*READ, *WRITTEN):
        value: Any = recipe
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
        if isinstance(value, str):
            yield _Named(key, value, READ.get(key))
    for key, (entry, fits) in LISTED.items():
        for number, block in enumerate(getattr(recipe, key, ())):
            yield _Named(f"{key}.{number}.{entry}", getattr(block, entry), fits)


def _found(recipe: Recipe, named: _Named) -> str:
    """The path that a name stands for: as it is where it can be opened from here."""
    path = at_home(named.name)
    if named.fits is None or path.is_absolute():
        return str(path) if named.name.startswith("~") else named.name
    for folder in folders_of(recipe, named.key.partition(".")[0]):
        if named.fits(folder / path):
            here = folder.resolve() == Path.cwd()
            return named.name if here else str((folder / path).resolve())
    return named.name


def _put(changed: dict[str, Any], recipe: Recipe, parts: list[str], found: str) -> None:
    """Enter a path into the changed keys, in its block where it has one."""
    key, *inner = parts
    changed[key] = _replaced(changed.get(key, getattr(recipe, key)), inner, found)


def _replaced(value: Any, inner: list[str], found: str) -> Any:
    if not inner:
        return found
    first, *rest = inner
    if isinstance(value, tuple | list):
        place = int(first)
        return (*value[:place], _replaced(value[place], rest, found), *value[place + 1 :])
    if isinstance(value, dict):
        return value | {first: _replaced(value[first], rest, found)}
    return value.model_copy(update={first: _replaced(getattr(value, first), rest, found)})
