"""From a batch to a gradient: what is left out for speed changes nothing."""

from dataclasses import replace

import pytest
import torch

from icpo_lite.core.errors import OutOfMemory
from icpo_lite.core.oom import RowLimit, quiet
from icpo_lite.core.types import Group, Prompt, Reward, Trajectory, Turn
from icpo_lite.policy.load import Policy, load_policy
from icpo_lite.policy.logprobs import LogprobOptions
from icpo_lite.recipe import Recipe, load_recipe
from icpo_lite.training.advantages import advantage_groups
from icpo_lite.training.batch import Batch, collate
from icpo_lite.training.step_plan import Schedules
from icpo_lite.training.updater import Updater

BASE = ("device=cpu", "prompts_per_step=6", "num_generations=4", "load_in_4bit=false")
#: Six groups; of these, three are flat and one holds an advantage of 0.
REWARDS = [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0.5, 0.5], [1, 0, 1, 1], [0.3] * 4]


@pytest.fixture(scope="module")
def policy() -> Policy:
    made = load_policy(load_recipe("tiny", BASE), threads=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.trainable():  # B is zero at first, and A's gradient with it
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return made


def groups() -> list[Group]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for number, rewards in enumerate(REWARDS):
        prompt = Prompt(str(number), str(number), "math", "complete", (), "1")  # type: ignore[arg-type]
        rows = []
        for i, reward in enumerate(rewards):
            ids = torch.randint(20, 90, (6 + (number + 2 * i) % 7,), generator=generator)
            turn = Turn("assistant", "", tuple(ids.tolist()), (-1.0,) * len(ids), "eos")
            given = Reward(float(reward))
            turn = replace(turn, reward=given)
            rows.append(Trajectory(prompt, (5, 6, 7 + number), (turn,), reward=given))
        made.append(Group(prompt, tuple(rows)))
    return made


def gradient(policy: Policy, *overrides: str) -> tuple[list[torch.Tensor], dict[str, float]]:
    recipe = load_recipe("tiny", [*BASE, "count_zero_variance=true", *overrides])
    updater = updater_of(policy, recipe)
    batch = batch_of(policy, recipe)
    undo = updater.undo()
    metrics = updater.update(batch, Schedules(recipe).at(0).loss, 1e-3)
    found = [p.grad.clone() for p in policy.trainable() if p.grad is not None]
    undo()
    return found, metrics


def updater_of(policy: Policy, recipe: Recipe) -> Updater:
    return Updater(policy, recipe, LogprobOptions(impl="torch"), RowLimit("update"), quiet)


def batch_of(policy: Policy, recipe: Recipe) -> Batch:
    return collate(advantage_groups(groups(), recipe), policy.pad_id)


LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("beta=0.1",),
        ("entropy_coef=0.1",),
        ("per_device_train_batch_size=5",),
        ("scale_rewards=batch", "top_entropy_quantile=0.5"),
        ("num_mini_batches=2",),
    ],
    ids=" ".join,
)
def test_rows_without_a_gradient_are_left_out_for_speed_alone(policy, loss, more) -> None:
    high = ("epsilon_high=5.0",) if loss == "cispo" else ("epsilon_high=0.28",)
    keys = (f"loss_type={loss}", *high, *more)
    kept, shown = gradient(policy, *keys, "drop_zero_variance=false")
    dropped, measured = gradient(policy, *keys, "drop_zero_variance=true")
    largest = max(float(g.abs().max()) for g in kept)
    assert largest > 1e-6
    for one, other in zip(kept, dropped, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5 * largest)
    assert shown.keys() == measured.keys()
    for name in ("loss", "entropy", "grad_norm", "sampling/sampling_logp_difference/mean"):
        if name in shown:
            assert measured[name] == pytest.approx(shown[name], rel=1e-4, abs=1e-6), name


def test_clip_cov_and_kl_cov_too(policy) -> None:
    for key in ("kl_cov=0.2", "clip_cov=0.2"):
        kept, _ = gradient(policy, key, "drop_zero_variance=false")
        dropped, _ = gradient(policy, key, "drop_zero_variance=true")
        for one, other in zip(kept, dropped, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_no_copy_of_weights_where_no_step_can_be_taken_back(policy, monkeypatch) -> None:
    """One optimizer step an update: the first alone, which makes the optimizer's state, copies."""
    recipe = load_recipe("tiny", BASE)
    updater, batch = updater_of(policy, recipe), batch_of(policy, recipe)
    asked: list[bool] = []
    undo = updater.undo
    monkeypatch.setattr(
        updater, "undo", lambda *, whole=True: (asked.append(whole), undo(whole=whole))[1]
    )
    loss, back = Schedules(recipe).at(0).loss, undo()
    updater.update(batch, loss, 0.0)
    updater.update(batch, loss, 0.0)
    assert asked == [True, False]
    back()


def test_memory_that_ends_within_a_later_step_ends_the_run(policy, monkeypatch) -> None:
    recipe = load_recipe("tiny", BASE)
    updater, batch = updater_of(policy, recipe), batch_of(policy, recipe)
    loss, back = Schedules(recipe).at(0).loss, updater.undo()
    updater.update(batch, loss, 0.0)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(updater.optimizer, "step", full)
    with pytest.raises(OutOfMemory, match="start again from the last checkpoint"):
        updater.update(batch, loss, 0.0)
    monkeypatch.undo()
    back()
