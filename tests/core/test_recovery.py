"""Memory that runs out and numbers that are none: taken back, done again or skipped, and said."""

import pytest
import torch
from losses import loss_keys
from reliability.out_of_memory import Stage, difference, worst
from test_run import adapter, assert_equal_adapters, quiet, recipe

from icpo_lite.core import oom
from icpo_lite.core.errors import NumericsError, OutOfMemory
from icpo_lite.core.files import read_metrics
from icpo_lite.core.oom import RowLimit, Size, Snapshot, first_not_finite, is_out_of_memory
from icpo_lite.runs import train as run_module
from icpo_lite.training import updater
from icpo_lite.training.loss import (
    Normalizer,
    loss_normalizer,
    part_normalizer,
    token_mean,
)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
            ),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, is_one):
    assert is_out_of_memory(error) is is_one


def test_a_real_allocation_that_is_too_large_is_recognised():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60)
    assert is_out_of_memory(raised.value)


def fits(most_rows, most_chunk=10_000):
    tried = []

    def work(size):
        tried.append((size.rows, size.chunk_rows))
        if size.rows > most_rows or (size.chunk_rows or most_chunk + 1) > most_chunk:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return size.rows

    return work, tried


def test_rows_are_halved_then_chunks_and_what_fits_is_kept():
    said, undone = [], []
    limit = RowLimit("update", "per_device_train_batch_size", chunks=True, say=said.append)
    work, tried = fits(2, 20_000)
    limit.run(lambda s: work(Size(s.rows, 1)), 12, lambda: undone.append(1))
    assert [rows for rows, _ in tried] == [12, 6, 3, 1]
    assert (limit.times, len(undone), limit.found) == (3, 3, Size(1))
    assert "1 instead of 3 responses" in said[-1]
    assert "per_device_train_batch_size=1 starts with it" in said[-1]
    assert limit.run(lambda s: s.rows, 12) == 1
    again = RowLimit(chunks=True)
    again.restore(limit.state())
    work, tried = fits(1, 20)
    assert again.run(work, 12) == 1
    assert tried == [(1, None), (1, 64), (1, 16)]


def test_one_row_that_does_not_fit_names_the_override():
    limit = RowLimit("sampling", last_resort="max_completion_length=24")
    with pytest.raises(OutOfMemory) as raised:
        limit.run(fits(0)[0], 4)
    assert str(raised.value).endswith("'CUDA out of memory'; set max_completion_length=24")
    assert "\n" not in str(raised.value)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"):
        RowLimit().run(lambda size: (_ for _ in ()).throw(RuntimeError("shapes")), 4)


def test_a_snapshot_takes_back_a_half_done_optimizer_step():
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(3)) for _ in range(2)]
    optimizer = torch.optim.AdamW(weights, lr=0.1)

    def step():
        for weight in weights:
            weight.grad = torch.ones(3)
        optimizer.step()

    first = Snapshot(weights, optimizer)
    untouched = [w.detach().clone() for w in weights]
    step()
    once = [w.detach().clone() for w in weights]
    second, noise = Snapshot(weights, optimizer), torch.rand(2)
    step()
    twice = [w.detach().clone() for w in weights]
    second.restore()
    assert all(a.equal(b) for a, b in zip(weights, once, strict=True))
    assert torch.rand(2).equal(noise)
    step()
    assert all(a.equal(b) for a, b in zip(weights, twice, strict=True))
    first.restore()
    assert all(a.equal(b) for a, b in zip(weights, untouched, strict=True))
    assert not optimizer.state


def test_the_source_of_bad_gradients_is_the_last_of_the_forward_pass():
    good, bad = torch.zeros(2), torch.tensor([1.0, float("nan")])
    named = [("first", bad), ("second", bad), ("third", good), ("none", None)]
    assert first_not_finite(named).startswith("second (2 of 4")
    assert first_not_finite(named[2:]) == ""


def test_parts_of_a_micro_batch_of_bnpo_add_up():
    """Mean over the micro-batch's 5 tokens, 2 micro-batches: (1+2+3+4+5)/5/2 = 1.5."""
    mask = torch.tensor([[True, True, True], [True, True, False]])
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])
    config = loss_keys(loss_type="bnpo")
    whole = loss_normalizer(config, [mask, mask], 3)
    parts = [part_normalizer(whole, config, mask[i : i + 1], mask) for i in (0, 1)]
    total = sum(
        float(token_mean(values[i : i + 1], mask[i : i + 1]) / parts[i].loss) for i in (0, 1)
    )
    assert total == pytest.approx(1.5)
    same = Normalizer(7.0, 5)
    assert part_normalizer(same, loss_keys(loss_type="dapo"), mask[:1], mask) is same


@pytest.mark.parametrize("loss_type", ["dapo", "bnpo"])
def test_running_out_at_any_allocation_changes_neither_tokens_nor_gradient(loss_type):
    """A few of the places; `tests/reliability/out_of_memory.py` tries them all."""
    stage = Stage(f"loss_type={loss_type}")
    largest, tried, places = worst(stage, every=1000, first=170)
    assert tried >= 3
    assert places > 1000
    assert largest < 1e-6


def test_a_difference_would_be_seen():
    stage = Stage()
    one, other = stage.step(), stage.step()
    assert difference(one, other) == 0
    other.gradients[0] += 1e-3
    assert difference(one, other) > 5e-4
    other.tokens[0] = (1,)
    assert difference(one, other) == float("inf")


def test_a_run_goes_on_with_less_at_once_and_remembers_it(tmp_path, monkeypatch):
    """More than 5 rows 'do not fit': halved from 16 to 4, kept for later steps and a resume."""
    real, rows_seen = updater.completion_logprobs, []

    def small_card(policy, input_ids, *rest):
        rows_seen.append(len(input_ids))
        if len(input_ids) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        return real(policy, input_ids, *rest)

    whole, split = tmp_path / "whole", tmp_path / "split"
    keys = ("max_steps=2", "save_steps=1", "drop_zero_variance=false", "count_zero_variance=true")
    run_module.train(recipe(whole, *keys), quiet(tmp_path))
    monkeypatch.setattr(updater, "completion_logprobs", small_card)
    run_module.train(recipe(split, *keys), quiet(tmp_path))
    a, b = read_metrics(whole), read_metrics(split)
    assert [row["out_of_memory"] for row in b] == [2, 0]
    assert [row["out_of_memory"] for row in a] == [0, 0]
    assert [row["loss"] for row in a] == pytest.approx([row["loss"] for row in b], abs=1e-6)
    assert [row["grad_norm"] for row in a] == pytest.approx(
        [row["grad_norm"] for row in b], rel=1e-4
    )
    said = (tmp_path / "printed.txt").read_text()
    assert "with 4 instead of 8 responses at once, which changes no result" in said
    rows_seen.clear()
    run_module.train(recipe(split, "max_steps=3", *keys[1:]), quiet(tmp_path), extend=True)
    assert max(rows_seen) == 4


def test_nothing_fits_is_one_line(tmp_path, monkeypatch):
    def no_room(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")

    monkeypatch.setattr(updater, "completion_logprobs", no_room)
    keys = ("max_steps=1", "drop_zero_variance=false", "count_zero_variance=true")
    with pytest.raises(OutOfMemory, match=r"step 1: update: .*set gradient_checkpointing=true"):
        run_module.train(recipe(tmp_path / "run", *keys), quiet(tmp_path))


def poisoned(at, *, always=False):
    """policy_loss with a gradient of NaN in its `at`-th call, or in all from there on."""
    calls, real = [0], updater.policy_loss

    def loss(logps, *rest, **named):
        calls[0] += 1
        bad = calls[0] == at or (always and calls[0] > at)
        if bad:
            logps.register_hook(lambda grad: grad * float("nan"))
        return real(logps, *rest, **named)

    return loss


def test_a_bad_gradient_is_skipped_counted_and_named(tmp_path, monkeypatch):
    keys = ("max_steps=2", "drop_zero_variance=false", "count_zero_variance=true", "save_steps=1")
    monkeypatch.setattr(updater, "policy_loss", poisoned(2))
    run_module.train(recipe(tmp_path / "run", *keys), quiet(tmp_path))
    rows = read_metrics(tmp_path / "run")
    assert [row["skipped_updates"] for row in rows] == [0, 1]
    assert [row["updates"] for row in rows] == [1, 0]
    said = (tmp_path / "printed.txt").read_text()
    assert "step 2: update skipped: gradient: NaN or infinity first in base_model" in said
    assert "layers.2" in said  # the last layer, where backward begins
    monkeypatch.undo()
    run_module.train(recipe(tmp_path / "one", *keys[1:], "max_steps=1"), quiet(tmp_path))
    # The skipped update has changed nothing.
    assert_equal_adapters(tmp_path / "one", tmp_path / "run")


def test_many_in_a_row_stop_at_the_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(updater, "policy_loss", poisoned(2, always=True))
    keys = (
        "max_steps=9",
        "drop_zero_variance=false",
        "count_zero_variance=true",
        "save_steps=1",
        "max_skipped_updates=3",
    )
    with pytest.raises(NumericsError, match=r"step 4: 3 updates in a row .*checkpoint-3"):
        run_module.train(recipe(tmp_path / "run", *keys), quiet(tmp_path))
    assert all(t.isfinite().all() for t in adapter(tmp_path / "run/checkpoint-3").values())


def test_float16_overflow_lowers_the_scale_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(updater, "policy_loss", poisoned(1))
    keys = (
        "max_steps=2",
        "drop_zero_variance=false",
        "count_zero_variance=true",
        "dtype=float16",
        "max_skipped_updates=1",
    )
    run_module.train(recipe(tmp_path / "run", *keys), quiet(tmp_path))
    rows = read_metrics(tmp_path / "run")
    assert rows[0]["skipped_updates"] == 1
    state = run_module.latest_checkpoint(tmp_path / "run").path / "state.json"
    assert '"scale": 32768.0' in state.read_text()


def test_nothing_is_said_by_default():
    oom.quiet("anything")
