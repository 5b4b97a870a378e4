"""From a batch to a gradient: what is left out for speed changes nothing."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

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
from icpo_lite.training.trainer import Trainer
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
            given = Reward(float(reward), {"right": float(reward)})
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


def plain_logprobs(policy, input_ids, attention_mask, loss_mask, options):
    """Log-probs and entropies from the model's own logits, in the weights' precision."""
    policy.set_training(torch.is_grad_enabled())
    logits = policy.causal_lm(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1]
    logps = (logits / options.temperature).log_softmax(-1)
    own = logps.gather(-1, input_ids[:, 1:, None])[..., 0]
    entropy = -(logps.exp() * logps).sum(-1)
    entropy = entropy if options.entropy_grad else entropy.detach()
    return tuple(values.masked_fill(~loss_mask, 0.0) for values in (own, entropy))


@pytest.fixture(scope="module")
def exact(policy) -> Iterator[Policy]:
    """The same weights in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    policy.model.double()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("updater", "without_gradient"):
            patch.setattr(f"icpo_lite.training.{module}.completion_logprobs", plain_logprobs)
        yield policy
    policy.model.float()
    torch.set_default_dtype(before)


#: Every loss with keys that change from loss to loss: all values of each key, all pairs of some.
GRID = [
    (
        f"loss_type={loss}",
        f"scale_rewards={('group', 'batch', 'none')[(i + j) % 3]}",
        f"num_mini_batches={1 + (i + j) % 2}",
        f"importance_sampling_level={'sequence' if j and loss != 'cispo' else 'token'}",
        *(("multi_objective_aggregation=normalize_then_sum",) if i % 4 == 3 else ()),
        *(("epsilon_high=5.0",) if loss == "cispo" else ()),
    )
    for i, loss in enumerate(LOSSES)
    for j in range(2)
]


@pytest.mark.parametrize("keys", GRID, ids=" ".join)
def test_in_float64_the_gradient_is_the_same_to_the_last_digits(exact, keys) -> None:
    kept, shown = gradient(exact, *keys, "drop_zero_variance=false")
    dropped, measured = gradient(exact, *keys, "drop_zero_variance=true")
    largest = max(float(g.abs().max()) for g in kept)
    assert largest > 1e-6
    for one, other in zip(kept, dropped, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11 * largest)
    assert measured == pytest.approx(shown, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("key", "counted"),
    [
        ("count_zero_variance=true", 6),
        ("count_zero_variance=false", 3),
        # Terms that need no advantage would be lost with the groups.
        ("beta=0.1", 6),
        ("entropy_coef=0.1", 6),
        ("entropy_target=0.5", 6),
        ("kl_cov=0.2", 6),
    ],
)
def test_groups_that_are_not_counted_leave_the_others_advantages(key, counted) -> None:
    """A batch's std is of all its groups, whichever of them losses are averaged over."""
    keys = [*BASE, "scale_rewards=batch", "count_zero_variance=false", key]
    recipe = load_recipe("tiny", keys)
    trainer = SimpleNamespace(recipe=recipe)
    weighed = advantage_groups(Trainer.select(trainer, groups())[1], recipe)  # type: ignore[arg-type]
    learned = Trainer.counted(trainer, weighed)  # type: ignore[arg-type]
    assert len(learned) == counted
    std = torch.tensor(REWARDS, dtype=torch.float64).std()
    assert learned[0].advantages is not None
    assert learned[0].advantages[0] == pytest.approx(0.5 / (float(std) + 1e-4))


def test_a_demonstration_of_hpt_teaches_whatever_its_advantage_is(policy) -> None:
    """`underspecified_weight: 0` makes that of a question 0; SFT never reads it."""
    recipe = load_recipe("tiny", [*BASE, "demonstrations=hpt"])
    batch = batch_of(policy, recipe)
    shown = torch.zeros(len(batch), dtype=torch.bool)
    shown[4:6] = True  # rows of a group whose advantages are 0
    batch = replace(batch, advantages=torch.zeros_like(batch.advantages), demonstrations=shown)
    norms = []
    for drop in (True, False):
        updater = updater_of(policy, recipe.but(drop_zero_variance=drop))
        undo = updater.undo()
        norms.append(updater.update(batch, Schedules(recipe).at(0).loss, 1e-3)["grad_norm"])
        undo()
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert norms[0] > 1e-4


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


@pytest.mark.parametrize(
    "keys",
    [
        ("loss_type=reg_grpo",),
        ("loss_type=refuel", "scale_rewards=none"),
        ("loss_type=copg", "scale_rewards=none", "beta=0.2"),
        ("loss_type=opmd",),
        ("token_weights=hapo",),
        ("token_weights=d3s",),
    ],
    ids=" ".join,
)
def test_parts_of_any_size_give_the_same_gradient(exact, keys) -> None:
    """Groups are split between micro-batches of five; in the second pass their sums have moved."""
    whole, shown = gradient(exact, *keys, "num_iterations=2")
    parted, measured = gradient(exact, *keys, "num_iterations=2", "per_device_train_batch_size=5")
    largest = max(float(g.abs().max()) for g in whole)
    assert largest > 1e-6
    for one, other in zip(whole, parted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9 * largest)
    assert measured["loss"] == pytest.approx(shown["loss"], rel=1e-6, abs=1e-9)


def test_a_group_loss_has_the_gradient_of_its_formula(exact) -> None:
    """REFUEL of two groups, by autograd through the log-probs themselves, after a first update."""
    recipe = load_recipe("tiny", [*BASE, "loss_type=refuel", "scale_rewards=none"])
    updater, batch = updater_of(exact, recipe), batch_of(exact, recipe)
    undo = updater.undo()
    loss = Schedules(recipe).at(0).loss
    learned = updater._learned(batch, loss, SimpleNamespace(rows=99, chunk_rows=None))
    learned = replace(learned, old=updater._without_grad(batch, learned.size)[0] - 0.05)
    rows = torch.arange(len(batch))
    updater.optimizer.zero_grad()
    total, _ = updater._gradient(learned, rows, 1)
    found = [p.grad.clone() for p in exact.trainable()]
    updater.optimizer.zero_grad()
    logps, _ = plain_logprobs(
        exact, batch.input_ids, batch.attention_mask, batch.loss_mask, learned.logprobs
    )
    sums = ((logps - learned.old) * batch.loss_mask).sum(-1).view(len(REWARDS), -1)
    rewards = torch.tensor(REWARDS, dtype=torch.float64)
    i, j = torch.triu_indices(4, 4, offset=1)
    gaps = (sums[:, i] - sums[:, j]) - (rewards[:, i] - rewards[:, j])
    wanted = gaps.square().mean()
    wanted.backward()
    assert total == pytest.approx(float(wanted.detach()), rel=1e-6)
    for one, parameter in zip(found, exact.trainable(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-5, atol=1e-9)
    undo()
