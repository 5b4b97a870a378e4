"""Vectors of English words, so that "muddy" is near "dirt" and a "price tag" near a "cost".

`tools/shrink_vectors.py` makes the asset from published vectors: one row a stem, in whole numbers.
Its card (words.json) tells whose they are. They are read when the first question needs them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from icpo_lite.core.errors import ModelError

ASSET = Path(__file__).parents[1] / "assets" / "judge" / "words.safetensors"
#: Version of the asset's form.
FORM = 1
#: What the commonest words weigh, and in how many steps of e they become as heavy as rare ones.
_COMMON, _STEPS = 0.35, 12.0


class WordVectors:
    """Rows of length 1 by stem, the commonest stems first.

    stems: N of them, rarity: the place of each among the words it was made of. table [N, D].
    """

    def __init__(self, stems: Sequence[str], rarity: np.ndarray, table: np.ndarray) -> None:
        self._place = {stem: i for i, stem in enumerate(stems)}
        self._rarity, self._table = rarity, table

    def __len__(self) -> int:
        return len(self._place)

    def rows(self, stems: Sequence[str]) -> np.ndarray:
        """[n, D] float32, each of length 1; zeros for a stem that nobody knows."""
        rows = np.zeros((len(stems), self._table.shape[1]), dtype=np.float32)
        known = [(i, self._place[stem]) for i, stem in enumerate(stems) if stem in self._place]
        if known:
            at, places = map(list, zip(*known, strict=True))
            found = self._table[places].astype(np.float32)
            rows[at] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return rows

    def weight(self, stem: str) -> float:
        """How much a word tells, in [0.35, 1]: the more the rarer it is."""
        place = self._place.get(stem)
        if place is None:
            return 1.0
        return min(1.0, _COMMON + math.log1p(int(self._rarity[place])) / _STEPS)


def load(file: Path = ASSET) -> WordVectors:
    """The vectors of a file. Raises ModelError where it holds none, or those of another form."""
    try:
        card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        stored = load_file(file)
        if card["form"] != FORM:
            raise ModelError(
                f"{file.name}: expected word vectors of form {FORM}, found {card['form']}; make "
                "them again with python -m icpo_lite.tools.shrink_vectors"
            )
        stems = stored["stems"].tobytes().decode().split("\n")
        return WordVectors(stems, stored["rarity"], stored["table"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ModelError(f"expected word vectors at {file}, found {error}") from error


@lru_cache(maxsize=1)
def shipped() -> WordVectors:
    """The vectors that come with the package."""
    return load()
