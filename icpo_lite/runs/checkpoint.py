"""Checkpoints that are whole or absent: safetensors and JSON, no pickle.

    checkpoint-40/
        <stem>.safetensors   the tensors handed in, one file a stem
        state.json           everything that is not a tensor
        manifest.json        size and SHA-256 of every other file; written last
        ...                  what `extra_writer` put there (adapter files, tokenizer)

A checkpoint is written under another name, synced file by file, and renamed. A kill at any
instant leaves the earlier checkpoints untouched and the new one whole or absent.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from icpo_lite.core.errors import RunDirectoryError, UsageError
from icpo_lite.core.files import (
    ASIDE,
    disk_errors,
    read_json,
    remove_asides,
    sync_directory,
    write_atomically,
    write_synced,
)

MANIFEST = "manifest.json"
#: Files of a run directory that a mirror must not hold once the run does not.
_WITHDRAWN = ("finished",)
STATE = "state.json"
_NAME = re.compile(r"checkpoint-(\d+)")
#: A checkpoint that is being replaced by one of the same step; it still counts until that is there.
_REPLACED = re.compile(r"\.checkpoint-(\d+)\.replaced")

Tensors = dict[str, dict[str, Tensor]]


class Latest(NamedTuple):
    """path: the newest whole checkpoint, None if there is none. skipped: why newer ones are not."""

    path: Path | None
    skipped: list[str]


class Checkpoint(NamedTuple):
    """What `save_checkpoint` was given; tensors lie on the CPU."""

    tensors: Tensors
    state: dict[str, Any]


def step_of(path: Path) -> int:
    """The step of a checkpoint folder by its name. Raises RunDirectoryError on another name."""
    match = _NAME.fullmatch(path.name) or _REPLACED.fullmatch(path.name)
    if match is None:
        raise RunDirectoryError(f"expected a folder named checkpoint-N, found {path}")
    return int(match[1])


def save_checkpoint(
    run_dir: Path,
    step: int,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    extra_writer: Callable[[Path], None] | None = None,
    keep: int = 2,
    protect: Collection[int] = (),
) -> Path:
    """Writes `checkpoint-<step>` whole, then deletes old ones; returns its path.

    tensors: file stem -> named tensors, of any device and dtype. state: JSON-able.
    extra_writer: writes more files into the folder that it is given (peft's save_pretrained).
    keep: how many whole checkpoints stay, this one included (at least 1). protect: steps that
    stay besides (the best so far). Checkpoints of a later step are deleted: the run went back
    behind them, and a resume must not find them.

    Raises RunDirectoryError when the disk does not take it; what was there before stays.
    """
    final = run_dir / f"checkpoint-{step}"
    aside = run_dir / f".checkpoint-{step}{ASIDE}"
    with disk_errors("save", final):
        remove_asides(run_dir)
        try:
            aside.mkdir()
            _write_files(aside, step, tensors, state, extra_writer)
            _install(aside, final)
        except SafetensorError as error:  # an extra_writer's full disk, in safetensors' words
            raise RunDirectoryError(f"cannot save {final}: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    _prune(run_dir, step, keep, protect)
    return final


def _write_files(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    extra_writer: Callable[[Path], None] | None,
) -> None:
    if extra_writer is not None:
        extra_writer(folder)
        _sync_tree(folder)
    for stem, named in tensors.items():
        write_synced(folder / f"{stem}.safetensors", to_safetensors(_apart(named)))
    write_synced(folder / STATE, json.dumps(state).encode())
    files = {str(file.relative_to(folder)): _fingerprint(file) for file in _files(folder)}
    manifest = {"step": step, "tensors": list(tensors), "files": files}
    write_synced(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    sync_directory(folder)


def _apart(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in a storage of its own: safetensors refuses shared ones."""
    taken: set[int] = set()
    out = {}
    for name, tensor in named.items():
        on_cpu = tensor.detach().cpu().contiguous()
        place = on_cpu.untyped_storage().data_ptr()
        out[name] = on_cpu.clone() if place in taken else on_cpu
        taken.add(place)
    return out


def _install(aside: Path, final: Path) -> None:
    """Renames; a checkpoint of the same step stays findable until the new one has its name."""
    replaced = final.with_name(f".{final.name}.replaced")
    if final.exists():
        if replaced.exists():
            shutil.rmtree(replaced)
        final.rename(replaced)
    aside.rename(final)
    sync_directory(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _prune(run_dir: Path, newest: int, keep: int, protect: Collection[int]) -> None:
    """Deletes all but the newest `keep` whole checkpoints. What cannot be deleted stays."""
    older = [path for path in _candidates(run_dir) if step_of(path) < newest]
    # Sizes alone: with many checkpoints kept, hashing them all at every save would cost minutes.
    whole = [path for path in older if _why_broken(path, hashes=False) is None]
    kept = set(whole[: max(keep, 1) - 1])
    kept.update(path for path in whole if step_of(path) in protect)
    for path in _candidates(run_dir):
        if path not in kept and path.name != f"checkpoint-{newest}":
            # Renamed first, so that a kill while deleting leaves no half of a checkpoint.
            dead = run_dir / f".{path.name.lstrip('.')}.dead{ASIDE}"
            with contextlib.suppress(OSError):
                path.rename(dead)
                shutil.rmtree(dead)


def latest_checkpoint(run_dir: Path) -> Latest:
    """The newest whole checkpoint of a run; changes nothing, so anybody may ask.

    Every file is compared with the manifest, size and SHA-256. `skipped` has one sentence for
    each newer checkpoint that is not whole.
    """
    skipped: list[str] = []
    for path in _candidates(run_dir):
        why = _why_broken(path)
        if why is None:
            return Latest(path, skipped)
        skipped.append(f"skipped {path.name}: {why}")
    return Latest(None, skipped)


def require_named(path: Path) -> None:
    """Raises UsageError where there is no folder at a checkpoint's name."""
    if not path.is_dir():
        raise UsageError(
            f"resume_from_checkpoint: expected a checkpoint's folder, found none at {path}; give "
            "one such as RUN/checkpoint-40, or leave the key out to go on from the newest"
        )


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a whole checkpoint. Raises RunDirectoryError when it is not, saying why."""
    require_named(path)
    why = _why_broken(path)
    if why is not None:
        raise RunDirectoryError(
            f"expected a whole checkpoint in {path}, found {why}; resume from an earlier one"
        )
    with disk_errors("read", path):
        stems = read_json((path / MANIFEST).read_bytes())["tensors"]
        state = read_json((path / STATE).read_bytes())
        return Checkpoint({stem: load_file(path / f"{stem}.safetensors") for stem in stems}, state)


def discard_later(run_dir: Path, step: int) -> list[Path]:
    """Deletes the checkpoints after `step`, from which the user resumes; returns them.

    Without it a second interruption, before the next save, would resume from the old future.
    """
    later = [path for path in _candidates(run_dir) if step_of(path) > step]
    with disk_errors("discard later checkpoints in", run_dir):
        for path in later:
            shutil.rmtree(path)
    return later


def mirror_run(
    run_dir: Path, mirror: Path, *, keep: int = 1, protect: Collection[int] = ()
) -> Path | None:
    """Copies the newest whole checkpoint and the run's own files to a second directory.

    For machines that vanish (mirror: a mounted Drive). The copy is whole or absent, like what it
    is made from; `keep` and `protect` as in `save_checkpoint`. Returns the checkpoint there, None
    where the run has none yet. Raises RunDirectoryError, which need not stop the training.
    """
    newest = latest_checkpoint(run_dir).path
    with disk_errors("copy the run to", mirror):
        mirror.mkdir(parents=True, exist_ok=True)
        remove_asides(mirror)
        _copy_files(run_dir, mirror)
        for name in _WITHDRAWN:
            if not (run_dir / name).exists():
                (mirror / name).unlink(missing_ok=True)
    if newest is None:
        return None
    step = step_of(newest)
    final = mirror / f"checkpoint-{step}"
    if not final.exists() or _why_broken(final, hashes=False):
        _copy(newest, final)
    _prune(mirror, step, keep, protect)
    return final


def restore_run(mirror: Path, run_dir: Path) -> Path | None:
    """Brings a run back from its mirror when the mirror has gone further than `run_dir`.

    All whole checkpoints come back, since an older one may be the best. Returns the newest, None
    where there was nothing newer to copy.
    """
    newest, here = latest_checkpoint(mirror).path, latest_checkpoint(run_dir).path
    if newest is None or (here is not None and step_of(here) >= step_of(newest)):
        return None
    with disk_errors("copy the run to", run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        _copy_files(mirror, run_dir)
    for path in reversed(_candidates(mirror)):  # the newest last: until then this is not done
        final = run_dir / f"checkpoint-{step_of(path)}"
        if path == newest or not (final.exists() or _why_broken(path)):
            _copy(path, final)
    return run_dir / f"checkpoint-{step_of(newest)}"


def _copy_files(source: Path, target: Path) -> None:
    """The run's own files and its evaluations, those that differ; each whole or as it was."""
    files = [f for f in source.iterdir() if f.is_file() and f.name != "lock"]
    files += [f for folder in source.glob("eval*") for f in folder.iterdir() if f.is_file()]
    for file in files:
        there = target / file.relative_to(source)
        if file.name.startswith(".") or (there.exists() and not _newer(file, there)):
            continue
        if there.parent != target:
            there.parent.mkdir(exist_ok=True)
        write_atomically(there, file.read_bytes())


def _newer(file: Path, copy: Path) -> bool:
    own, its = file.stat(), copy.stat()
    return own.st_size != its.st_size or own.st_mtime_ns > its.st_mtime_ns


def write_together(folder: Path, writer: Callable[[Path], None]) -> None:
    """What `writer` writes into a folder, put into `folder` file by file once all of it is there.

    A kill or a full disk leaves each file old or new, never half. Raises RunDirectoryError.
    """
    aside = folder / f".written{ASIDE}"
    with disk_errors("write the adapter to", folder):
        try:
            aside.mkdir()
            writer(aside)
            _sync_tree(aside)
            for file in aside.iterdir():
                file.replace(folder / file.name)
            sync_directory(folder)
        except SafetensorError as error:
            raise RunDirectoryError(f"cannot write the adapter to {folder}: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _copy(source: Path, final: Path) -> None:
    aside = final.with_name(f".{final.name}{ASIDE}")
    with disk_errors("save", final):
        try:
            for file in _files(source):
                target = aside / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            _sync_tree(aside)
            sync_directory(aside)
            why = _why_broken(aside)
            if why is not None:
                raise RunDirectoryError(f"cannot save {final}: after copying, {why}")
            _install(aside, final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _candidates(run_dir: Path) -> list[Path]:
    """All checkpoint folders, newest first; one being replaced comes after its successor."""
    if not run_dir.is_dir():
        return []
    found = [
        path
        for path in run_dir.iterdir()
        if path.is_dir() and (_NAME.fullmatch(path.name) or _REPLACED.fullmatch(path.name))
    ]
    return sorted(found, key=lambda path: (-step_of(path), path.name.startswith(".")))


def _why_broken(path: Path, *, hashes: bool = True) -> str | None:
    """What keeps a checkpoint from being used, None when it is whole."""
    try:
        manifest = read_json((path / MANIFEST).read_bytes())
        files = manifest["files"]
        for name, expected in files.items():
            file = path / name
            size = file.stat().st_size
            if size != expected["size"]:
                return f"{name} has {size} bytes instead of {expected['size']}"
            if hashes and _fingerprint(file) != expected:
                return f"{name} is not what was written (SHA-256 differs)"
        needed = {STATE, *(f"{stem}.safetensors" for stem in manifest["tensors"])}
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"{Path(error.filename or path).name} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"
    return None if needed <= files.keys() else f"{MANIFEST} does not list all files"


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"size": file.stat().st_size, "sha256": digest}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _sync_tree(folder: Path) -> None:
    """Syncs what another library wrote without doing so."""
    for path in _files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_directory(path)


# -- what goes into a checkpoint ----------------------------------------------------------------


def rng_state() -> dict[str, Any]:
    """The state of Python's, numpy's and torch's generators (each GPU's too), as JSON."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": _to_text(torch.get_rng_state()),
        "cuda": [_to_text(state) for state in cuda],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Puts back what `rng_state` gave; GPUs that are no longer there are left out."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_from_text(state["torch"]))
    if torch.cuda.is_available():
        for device, text in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(_from_text(text), device)


def _to_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _from_text(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
