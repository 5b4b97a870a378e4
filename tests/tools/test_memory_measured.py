"""`plan` beside the live tensors of real steps of the trainer; more in tests/reliability."""

import sys
from pathlib import Path

import pytest

RELIABILITY = Path(__file__).parents[1] / "reliability"


@pytest.fixture(scope="module")
def measuring():
    sys.path.insert(0, str(RELIABILITY))
    try:
        import measure_memory

        yield measure_memory
    finally:
        sys.path.remove(str(RELIABILITY))


@pytest.fixture(scope="module")
def model(measuring, tmp_path_factory):
    return measuring.random_model(tmp_path_factory.mktemp("model"))


SHORT = ("load_in_4bit=false", "max_completion_length=3", "max_prompt_length=61")


@pytest.mark.parametrize(
    "overrides",
    [
        ("per_device_train_batch_size=2",),
        ("dtype=bfloat16", "gradient_checkpointing=true"),
        ("dtype=bfloat16", "per_device_train_batch_size=2", "use_dora=true"),
        ("per_device_train_batch_size=2", "init_lora_weights=pissa_niter_1", "lora_r=64"),
    ],
    ids=" ".join,
)
def test_the_plan_is_within_a_tenth_of_the_measured_peak(measuring, model, overrides) -> None:
    live, plan = measuring.compared(model, [*SHORT, *overrides])
    assert plan.tensors == pytest.approx(max(live.peaks.values()), rel=0.10)
    assert plan.at("backward") == pytest.approx(live.peaks["backward"], rel=0.10)


def test_a_tensor_that_is_dropped_is_no_longer_counted(measuring) -> None:
    import torch

    with measuring.LiveTensors() as live:
        kept = torch.ones(1000)
        for _ in range(5):
            torch.ones(250)
    assert live.now == kept.untyped_storage().nbytes() == 4000
    assert live.peaks["start"] == 5000
