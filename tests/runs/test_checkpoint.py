"""Checkpoints: bit-exact, whole or absent, whatever happens while they are written."""

import errno
import json
import os
import random
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from disk_faults import at_call
from torch import Tensor

from icpo_lite.core.errors import RunDirectoryError
from icpo_lite.policy.optimizer import make_optimizer, pack_optimizer, unpack_optimizer
from icpo_lite.recipe import Recipe
from icpo_lite.runs.checkpoint import (
    discard_later,
    latest_checkpoint,
    load_checkpoint,
    mirror_run,
    restore_run,
    rng_state,
    save_checkpoint,
    set_rng_state,
)


def content(step: int) -> dict[str, Any]:
    return {
        "tensors": {"adapter": {"a": torch.full((3,), float(step))}, "optimizer": {}},
        "state": {"step": step, "loss": 0.1 + 0.2},
    }


def save(run: Path, step: int, **options: Any) -> Path:
    return save_checkpoint(run, step, **(content(step) | options))


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = {
        "bf16": torch.randn(4, 3).bfloat16(),
        "fp16": torch.tensor([1e-7, 65504.0]).half(),
        "fp32": torch.tensor([float("nan"), -0.0, 1e-45]),
        "fp64": torch.randn(2, dtype=torch.float64),
        "uint8": torch.arange(256, dtype=torch.uint8),
        "scalar": torch.tensor(7.0),
        "transposed": torch.arange(6).reshape(2, 3).t(),
    }
    state = {"step": 3, "cursor": [1, 2], "best": {"reward": 0.1 + 0.2}, "none": None}
    path = save_checkpoint(tmp_path, 3, tensors={"all": tensors}, state=state)
    loaded, loaded_state = load_checkpoint(path)
    assert loaded_state == state
    assert loaded["all"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        found = loaded["all"][name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        as_bytes = [t.contiguous().reshape(-1).view(torch.uint8) for t in (found, tensor)]
        assert torch.equal(*as_bytes), name


def test_extra_files_are_kept_and_guarded(tmp_path: Path) -> None:
    def extra(folder: Path) -> None:
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "vocab.json").write_text("{}")

    path = save(tmp_path, 1, extra_writer=extra)
    assert (path / "tokenizer" / "vocab.json").read_text() == "{}"
    (path / "tokenizer" / "vocab.json").write_text("[]")
    assert latest_checkpoint(tmp_path) == (
        None,
        ["skipped checkpoint-1: tokenizer/vocab.json is not what was written (SHA-256 differs)"],
    )


def test_old_ones_go_and_the_best_stays(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step, keep=2, protect={10})
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-30", "checkpoint-40"]


def test_a_broken_newer_one_never_pushes_out_a_whole_one(tmp_path: Path) -> None:
    for step in (10, 60):
        save(tmp_path, step)
    (tmp_path / "checkpoint-60" / "state.json").unlink()
    save(tmp_path, 20, keep=2)
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-20"]
    for step in (30, 40):
        save(tmp_path, step, keep=3)
    (tmp_path / "checkpoint-40" / "state.json").write_text("")
    save(tmp_path, 50, keep=2)
    assert names(tmp_path) == ["checkpoint-30", "checkpoint-50"]


def test_keep_zero_still_keeps_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 1, keep=0)
    assert names(tmp_path) == ["checkpoint-1"]


def test_going_back_discards_the_old_future(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step, keep=5)
    discarded = discard_later(tmp_path, 10)
    assert [path.name for path in discarded] == ["checkpoint-30", "checkpoint-20"]
    assert names(tmp_path) == ["checkpoint-10"]


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 5, state={"again": True})
    assert load_checkpoint(tmp_path / "checkpoint-5").state == {"again": True}
    assert names(tmp_path) == ["checkpoint-5"]


def test_a_mirror_brings_a_vanished_run_back(tmp_path: Path) -> None:
    run, mirror, again = (tmp_path / name for name in ("run", "drive/mirror", "again"))
    run.mkdir()
    assert mirror_run(run, mirror) is None
    for step in (1, 2, 3):
        save(run, step, keep=3)
        (run / "metrics.jsonl").write_text('{"step": 1}\n' * step)
        assert mirror_run(run, mirror, keep=2) == mirror / f"checkpoint-{step}"
    assert names(mirror) == ["checkpoint-2", "checkpoint-3", "metrics.jsonl"]
    is_whole(mirror, {3})

    assert restore_run(mirror, again) == again / "checkpoint-3"
    is_whole(again, {3})
    assert load_checkpoint(again / "checkpoint-2").state["step"] == 2  # the best, it may be
    assert (again / "metrics.jsonl").read_text() == '{"step": 1}\n' * 3
    save(again, 4)
    assert restore_run(mirror, again) is None  # further than its mirror
    is_whole(again, {4})


def test_a_mirror_that_fails_keeps_its_older_copy(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    failed = 0
    for number in range(1, 16):
        run, mirror = tmp_path / f"run-{number}", tmp_path / f"mirror-{number}"
        run.mkdir()
        save(run, 1)
        mirror_run(run, mirror)
        save(run, 2)
        said = ""
        with at_call(number, full):
            try:
                mirror_run(run, mirror)
            except RunDirectoryError as error:
                said = str(error)
        # What did not fail (an mkdir of what is there, a deletion) has copied.
        failed += "No space left" in said
        is_whole(mirror, {1, 2} if said else {2})
        mirror_run(run, mirror)
        assert names(mirror) == ["checkpoint-2"]
    assert failed >= 6


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("cut", lambda p: os.truncate(p / "adapter.safetensors", 20), "has 20 bytes instead of"),
    ("gone", lambda p: (p / "state.json").unlink(), "state.json is missing"),
    ("no manifest", lambda p: (p / "manifest.json").unlink(), "manifest.json is missing"),
    ("bad manifest", lambda p: (p / "manifest.json").write_text("{"), "manifest.json is damaged"),
    ("list", lambda p: (p / "manifest.json").write_text("[]"), "manifest.json is damaged"),
    ("empty", lambda p: (p / "manifest.json").write_text('{"files": {}, "tensors": []}'), "list"),
]


@pytest.mark.parametrize(("damage", "why"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_a_damaged_one_is_skipped_and_said(
    tmp_path: Path, damage: Callable[[Path], object], why: str
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    damage(tmp_path / "checkpoint-2")
    path, skipped = latest_checkpoint(tmp_path)
    assert path == tmp_path / "checkpoint-1"
    assert len(skipped) == 1
    assert skipped[0].startswith("skipped checkpoint-2: ")
    assert why in skipped[0]
    with pytest.raises(RunDirectoryError, match="expected a whole checkpoint"):
        load_checkpoint(tmp_path / "checkpoint-2")


def test_one_flipped_bit_is_found_in_any_file(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    for name in ("adapter.safetensors", "optimizer.safetensors", "state.json"):
        data = bytearray((path / name).read_bytes())
        data[-1] ^= 1
        (path / name).write_bytes(data)
        assert name in latest_checkpoint(tmp_path).skipped[0]
        data[-1] ^= 1
        (path / name).write_bytes(data)
    assert latest_checkpoint(tmp_path).path == path


def test_no_checkpoints(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) == (None, [])
    assert latest_checkpoint(tmp_path / "absent") == (None, [])


# -- faults --------------------------------------------------------------------------------------


def calls_of_a_save(run: Path) -> int:
    with at_call(-1, lambda: None) as seen:
        save(run, 9, keep=2)
    assert set(seen) >= {"write", "fsync", "rename", "mkdir"}
    return len(seen)


def is_whole(run: Path, allowed: set[int]) -> None:
    """The newest checkpoint is one of `allowed`, with the content of its step."""
    path, skipped = latest_checkpoint(run)
    assert skipped == []
    assert path is not None
    tensors, state = load_checkpoint(path)
    assert state["step"] in allowed
    assert tensors["adapter"]["a"].tolist() == [float(state["step"])] * 3


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_at_every_call(tmp_path: Path, error: int) -> None:
    (tmp_path / "0").mkdir()
    for step in (1, 2):
        save(tmp_path / "0", step)
    total = calls_of_a_save(tmp_path / "0")

    def fail() -> None:
        raise OSError(error, os.strerror(error))

    failed = 0
    for number in range(1, total + 1):
        run = tmp_path / str(number)
        run.mkdir()
        for step in (1, 2):
            save(run, step)
        said = ""
        with at_call(number, fail):
            try:
                save(run, 3)
            except RunDirectoryError as error_:
                said = str(error_)
        if said:
            assert said.startswith(f"cannot save {run}/checkpoint-3: ")
            assert "\n" not in said
            failed += 1
        # Said nothing: only the deletion of old ones failed. Said so: 3 may stand nevertheless,
        # when it had its name and only the sync of the name failed.
        allowed = {2, 3} if said else {3}
        is_whole(run, allowed)
        save(run, 4)
        is_whole(run, {4})
        assert len(names(run)) == 2
    assert failed >= 10


def test_a_kill_at_every_call(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    for step in (1, 2):
        save(tmp_path / "0", step)
    total = calls_of_a_save(tmp_path / "0")
    for number in range(1, total + 1):
        run = tmp_path / str(number)
        run.mkdir()
        for step in (1, 2):
            save(run, step)
        pid = os.fork()
        if pid == 0:
            with at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                save(run, 3)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        is_whole(run, {2, 3})
        save(run, 4)
        is_whole(run, {4})
        assert len(names(run)) == 2


def test_a_kill_while_the_only_checkpoint_is_replaced(tmp_path: Path) -> None:
    """keep = 1 and the same step again: at no instant is there nothing to load."""
    number, code = 0, -signal.SIGKILL
    while code:
        number += 1
        run = tmp_path / str(number)
        run.mkdir()
        save(run, 3, keep=1)
        pid = os.fork()
        if pid == 0:
            with at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                save(run, 3, keep=1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, -signal.SIGKILL)
        is_whole(run, {3})
    assert number > 10


def test_a_file_size_limit_of_the_kernel(tmp_path: Path) -> None:
    """A real fault, not a simulated one: the kernel refuses to let files grow."""
    save(tmp_path, 1)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        code = 1
        try:
            save(tmp_path, 2, tensors={"adapter": {"a": torch.zeros(4096)}})
        except RunDirectoryError as error:
            code = 7 if "File too large" in str(error) else 8
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    is_whole(tmp_path, {1})
    assert names(tmp_path) == ["checkpoint-1"]


def test_an_extra_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save(tmp_path, 1)

    def full(folder: Path) -> None:
        save_file({"a": torch.zeros(2)}, folder / "absent" / "x.safetensors")

    def wrong(folder: Path) -> None:
        raise KeyError("an error of the program, not of the disk")

    with pytest.raises(RunDirectoryError, match="cannot save"):
        save(tmp_path, 2, extra_writer=full)
    with pytest.raises(KeyError):
        save(tmp_path, 2, extra_writer=wrong)
    with pytest.raises(TypeError, match="JSON"):
        save(tmp_path, 2, state={"x": object()})
    assert names(tmp_path) == ["checkpoint-1"]


# -- optimizer and random state ------------------------------------------------------------------


def trained(seed: int, steps: int, model: torch.nn.Module, optimizer: Any) -> None:
    random_ = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 4, generator=random_)).square().mean().backward()
        optimizer.step()


def fresh() -> tuple[torch.nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    groups = [
        {"params": list(model[0].parameters()), "weight_decay": 0.1},
        {"params": list(model[1].parameters()), "lr": 3e-3},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))


def test_an_optimizer_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = fresh()
    trained(1, 3, model, optimizer)
    tensors, state = pack_optimizer(optimizer)
    path = save_checkpoint(
        tmp_path,
        3,
        tensors={"model": dict(model.state_dict()), "optimizer": tensors},
        state={"optimizer": state},
    )
    trained(2, 3, model, optimizer)

    again, optimizer_again = fresh()
    loaded, loaded_state = load_checkpoint(path)
    again.load_state_dict(loaded["model"])
    unpack_optimizer(optimizer_again, loaded["optimizer"], loaded_state["optimizer"])
    assert optimizer_again.param_groups[0]["betas"] == (0.9, 0.95)
    trained(2, 3, again, optimizer_again)
    for before, after in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(before, after)


def of_the_recipe(optim: str, dtype: torch.dtype) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Two matrices large enough for bitsandbytes' 8 bits, and one that stays in 32."""
    torch.manual_seed(0)
    sizes = ((4, 1200), (1200, 5), (5, 2))
    model = torch.nn.Sequential(*(torch.nn.Linear(*size, bias=False) for size in sizes)).to(dtype)
    options = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    return model, make_optimizer(list(model.parameters()), optim, **options)


def steps_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    noise = torch.Generator().manual_seed(seed)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=noise).to(parameter.dtype)
        optimizer.step()


def saved(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    folder.mkdir()
    tensors, state = pack_optimizer(optimizer)
    named = {"model": dict(model.state_dict()), "optimizer": tensors}
    return save_checkpoint(folder, 3, tensors=named, state={"optimizer": state})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optim", get_args(Recipe.model_fields["optim"].annotation))
def test_every_optimizer_of_a_recipe_goes_on_bit_for_bit(
    optim: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model, optimizer = of_the_recipe(optim, dtype)
    steps_of(model, optimizer, 1)
    path = saved(tmp_path / "first", model, optimizer)
    steps_of(model, optimizer, 2)

    again, optimizer_again = of_the_recipe(optim, dtype)
    loaded, state = load_checkpoint(path)
    again.load_state_dict(loaded["model"])
    unpack_optimizer(optimizer_again, loaded["optimizer"], state["optimizer"])
    # What was read is what is written again, before and after more steps.
    path = saved(tmp_path / "second", again, optimizer_again)
    for stem, named in load_checkpoint(path).tensors.items():
        for name, tensor in named.items():
            assert torch.equal(tensor, loaded[stem][name]), name
    steps_of(again, optimizer_again, 2)
    for before, after in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(before, after)
    ends = [pack_optimizer(o) for o in (optimizer, optimizer_again)]
    assert ends[0][1] == ends[1][1]
    for name, tensor in ends[0][0].items():
        assert torch.equal(tensor, ends[1][0][name]), name


def test_the_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    for kept, taken, missing in (
        ("adamw_8bit", "adamw_torch", "exp_avg"),
        ("adamw_torch", "paged_adamw_8bit", "state1"),
    ):
        model, optimizer = of_the_recipe(kept, torch.float32)
        steps_of(model, optimizer, 1)
        tensors, state = pack_optimizer(optimizer)
        _, other = of_the_recipe(taken, torch.float32)
        with pytest.raises(RunDirectoryError, match=f"expected {missing} .* with its optim"):
            unpack_optimizer(other, tensors, state)


class Nested(torch.optim.SGD):
    """Keeps its state as some libraries do: in blocks, of which parts share a storage."""

    table = torch.arange(8.0)

    def step(self) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            block = self.state[parameter].setdefault("block", {"count": 0, "map": self.table[2:6]})
            block["count"] += 1
            parameter.data -= block["count"] * block["map"][0]


def test_state_in_blocks_with_shared_tensors_is_kept(tmp_path: Path) -> None:
    ends = []
    for resumes in (False, True):
        weights = [torch.nn.Parameter(torch.zeros(3)) for _ in range(2)]
        optimizer = Nested(weights, lr=0.1)
        optimizer.step()
        if resumes:
            tensors, state = pack_optimizer(optimizer)
            path = save_checkpoint(
                tmp_path, 1, tensors={"optimizer": tensors}, state={"optimizer": state}
            )
            checkpoint = load_checkpoint(path)
            optimizer = Nested(weights, lr=0.1)
            unpack_optimizer(
                optimizer, checkpoint.tensors["optimizer"], checkpoint.state["optimizer"]
            )
        optimizer.step()
        ends.append(torch.stack([w.detach() for w in weights]))
    assert torch.equal(ends[0], torch.full((2, 3), -6.0))
    assert torch.equal(*ends)


def test_state_that_no_file_can_hold_is_named() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.state[weight]["hook"] = object()
    with pytest.raises(RunDirectoryError, match=r"hook of parameter 0"):
        pack_optimizer(optimizer)


def test_an_optimizer_of_other_parameters_is_refused() -> None:
    model, optimizer = fresh()
    trained(1, 1, model, optimizer)
    tensors, state = pack_optimizer(optimizer)
    other = torch.optim.AdamW(model.parameters())
    with pytest.raises(RunDirectoryError, match=r"groups of \[2, 2\] parameters, found \[4\]"):
        unpack_optimizer(other, tensors, state)
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]} for _ in range(2)]
    with pytest.raises(RunDirectoryError, match=r"parameter 0 of shape \[3, 4\]"):
        unpack_optimizer(torch.optim.AdamW(groups), tensors, state)


def draws() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), float(torch.rand(()))]


def test_random_state_survives_json() -> None:
    random.gauss(0, 1)  # leaves a second value in store, which is state too
    np.random.randn()
    state = json.loads(json.dumps(rng_state()))
    first = draws()
    draws()
    set_rng_state(state)
    assert draws() == first
