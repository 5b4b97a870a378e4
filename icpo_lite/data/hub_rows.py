"""Data sets of the Hugging Face hub → rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from icpo_lite.core.errors import DataError
from icpo_lite.data.row_files import Found, parquet_rows

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def hub_rows(name: str, split: str, config: str | None) -> Iterator[Found]:
    """A hub data set through `datasets` where installed, else through its Parquet files."""
    try:
        import datasets
    except ImportError:
        for path, label in hub_parquet_files(name, split, config):
            yield from parquet_rows(path, label)
        return
    try:
        stream = datasets.load_dataset(name, config, split=split, streaming=True)
    except Exception as error:  # `datasets` raises many kinds; all mean that it is not readable
        raise _not_on_hub(name, error) from error
    for number, row in enumerate(stream, start=1):
        yield Found(f"{name}/{split}:{number}", row)


def hub_parquet_files(name: str, split: str, config: str | None) -> Iterator[tuple[Path, str]]:
    """Downloaded Parquet files of one split, and what to call them in messages.

    The data set's own files first, else those that the hub converts it to. Raises DataError when
    the data set cannot be reached or has no such split.
    """
    import httpx
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    choices: list[str] = []
    try:
        for revision in ("main", "refs/convert/parquet"):
            try:
                files = HfApi().list_repo_files(name, repo_type="dataset", revision=revision)
            except RevisionNotFoundError:
                continue
            parquet = sorted(f for f in files if f.endswith(".parquet"))
            choices += parquet
            chosen = [f for f in parquet if _is_split(f, split, config)]
            for file in chosen:
                local = hf_hub_download(name, file, repo_type="dataset", revision=revision)
                yield Path(local), f"{name}/{file}"
            if chosen:
                return
    except (HfHubHTTPError, OSError, httpx.HTTPError) as error:
        raise _not_on_hub(name, error) from error
    wanted = f"split {split!r}" + (f" of {config!r}" if config else "")
    raise DataError(
        f"expected Parquet files of {wanted} in {name}, found "
        f"{', '.join(choices[:6]) or 'none'}; name the split, or the configuration"
    )


def _is_split(file: str, split: str, config: str | None) -> bool:
    """ "main/train-00000-of-00001.parquet" is split train of configuration main."""
    parts = re.split(r"[/.]", file)
    in_split = any(re.match(rf"{re.escape(split)}(?:-\d|$)", part) for part in parts)
    return in_split and (config is None or config in parts)


def _not_on_hub(name: str, error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DataError(
        f"expected the data set {name} on the Hugging Face hub, found: {reason}; check the name "
        "and the network, or give a local file"
    )
