"""Whether the data that a recipe names are there, said before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from icpo_lite.data.hub_rows import HUB_NAME
from icpo_lite.data.row_files import SUFFIXES, is_data_file
from icpo_lite.recipe.input_paths import not_found

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


def require_data(recipe: Recipe, key: str, name: str | None) -> None:
    """Raises RecipeError where `key` names a data file that lies nowhere it may be looked for."""
    if name is None or name.startswith("builtin:") or Path(name).exists():
        return
    if is_data_file(name) or not HUB_NAME.fullmatch(name):
        remedy = f"give a {', '.join(SUFFIXES)} file or a hub name such as openai/gsm8k"
        raise not_found(recipe, key, name, "a data file", remedy)
