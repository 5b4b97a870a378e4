"""Every loss, gradient and advantage against TRL's own code, in float64, to 1e-6.

TRL's `GRPOTrainer._compute_loss` runs unchanged on a stand-in for the trainer: settings come
from a real `GRPOConfig`, and in place of a model's forward pass the log-probs of the case are
returned. Micro-batches go through both in the same order.
"""

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("trl", reason="trl is not installed (it is in the test extra)")

from losses import correction_keys, loss_keys
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import nanstd

from icpo_lite.recipe.objective_sections import AdvantageKeys
from icpo_lite.training.advantages import group_advantages
from icpo_lite.training.loss import loss_normalizer, mean_metrics, policy_loss
from icpo_lite.training.token_weights import (
    high_entropy_tokens,
    off_policy_rows,
    sampling_correction,
)

F64 = torch.float64
ROWS, TOKENS = 6, 9
#: Tokens with loss in each row; all rows have some, since TRL logs NaN for a row without.
LENGTHS = torch.tensor([9, 3, 5, 1, 6, 8])


class Case(SimpleNamespace):
    """A step of 6 rows: log-probs far enough apart that every bound of every loss is crossed."""

    def __init__(self, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)

        def noise(scale: float) -> Tensor:
            return scale * torch.randn(ROWS, TOKENS, generator=random, dtype=F64)

        super().__init__()
        self.logps = -3 * torch.rand(ROWS, TOKENS, generator=random, dtype=F64) - 0.1
        self.old = self.logps + noise(0.5)
        self.ref = self.logps + noise(0.5)
        self.sampled = self.old + noise(0.3)
        self.entropy = torch.rand(ROWS, TOKENS, generator=random).double()
        self.mask = torch.arange(TOKENS) < LENGTHS.unsqueeze(1)
        self.advantages = torch.randn(ROWS, generator=random, dtype=F64)


class TrlStandIn:
    """What `_compute_loss` reads of a trainer; what is not set here is asked of its config."""

    get_high_entropy_mask = GRPOTrainer.get_high_entropy_mask
    get_off_policy_mask = staticmethod(GRPOTrainer.get_off_policy_mask)
    get_gamma_weights = staticmethod(GRPOTrainer.get_gamma_weights)
    _compute_loss = GRPOTrainer._compute_loss

    def __init__(self, micro_batches: int, tmp_path: Any, **settings: Any) -> None:
        settings.setdefault("use_bias_correction_kl", loss_keys().use_bias_correction_kl)
        self.args = GRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to="none",
            per_device_train_batch_size=ROWS,
            num_generations=2,
            gradient_accumulation_steps=micro_batches,
            steps_per_generation=micro_batches,
            **settings,
        )
        high = self.args.epsilon_high
        self.epsilon_low = self.args.epsilon
        self.epsilon_high = self.args.epsilon if high is None else high
        self.model = SimpleNamespace(training=True)
        self.accelerator = SimpleNamespace(
            num_processes=1,
            sync_gradients=True,
            reduce=lambda x, reduction: x,
            gather=lambda x: x,
            pad_across_processes=lambda x, dim, pad_index: x,
        )
        self.aux_loss_enabled = False
        self.current_gradient_accumulation_steps = micro_batches
        self._entropy_bonus_enabled = self.args.entropy_coef != 0
        self._metrics: dict[str, Any] = {"train": defaultdict(list)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.args, name)

    def _get_per_token_logps_and_entropies(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor, None]:
        return (*self.forward, None)

    def loss(
        self, rows: Tensor, logps: Tensor, entropy: Tensor, case: Case, **extra: Any
    ) -> Tensor:
        self.forward = (logps[rows], entropy[rows])
        ids = torch.zeros(len(rows), TOKENS, dtype=torch.long)
        inputs = {
            "prompt_ids": ids[:, :1],
            "prompt_mask": ids[:, :1],
            "completion_ids": ids,
            "completion_mask": case.mask[rows].long(),
            "advantages": case.advantages[rows],
            "old_per_token_logps": case.old[rows],
            "ref_per_token_logps": case.ref[rows],
            "sampling_per_token_logps": case.sampled[rows],
            "num_items_in_batch": case.mask.sum(),
            **{name: value[rows] for name, value in extra.items()},
        }
        loss: Tensor = self._compute_loss(None, inputs)
        return loss


def leaves(case: Case) -> tuple[Tensor, Tensor]:
    return case.logps.clone().requires_grad_(), case.entropy.clone().requires_grad_()


def gradients(loss: Tensor, leaves: tuple[Tensor, Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [torch.zeros(ROWS, TOKENS) if g is None else g for g in found]


#: Settings by TRL's names, which are this package's.
SETTINGS: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "grpo, KL": {"loss_type": "grpo", "beta": 0.04},
    "grpo, KL corrected": {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": True},
    "bnpo": {"loss_type": "bnpo", "beta": 0.04},
    "dr_grpo": {"loss_type": "dr_grpo", "beta": 0.04, "max_completion_length": 12},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "dapo, KL": {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.04},
    "dual clip": {"loss_type": "dapo", "epsilon_high": 0.28, "delta": 1.5},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.3, "beta": 0.04},
    "sapo": {"loss_type": "sapo", "beta": 0.04},
    "vespo": {"loss_type": "vespo", "beta": 0.04},
    "luspo": {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    "luspo, KL": {"loss_type": "luspo", "importance_sampling_level": "sequence", "beta": 0.04},
    "gspo": {
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
    },
    "gspo, KL": {"loss_type": "grpo", "importance_sampling_level": "sequence", "beta": 0.04},
    "gspo as dapo": {"loss_type": "dapo", "importance_sampling_level": "sequence", "epsilon": 0.1},
    "cispo by sequence": {
        "loss_type": "cispo",
        "importance_sampling_level": "sequence",
        "epsilon_high": 1.1,
    },
}
#: Tokens of the longest response where a case does not say; only dr_grpo reads it.
LENGTH = 256
SPLITS = {"one": [6], "three": [2, 2, 2]}


def both(
    case: Case, settings: dict[str, Any], sizes: list[int], tmp_path: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """Asserts equal loss and gradient; returns our metrics and TRL's."""
    length = settings.get("max_completion_length", LENGTH)
    config = loss_keys(**{k: v for k, v in settings.items() if k != "max_completion_length"})
    parts = torch.arange(ROWS).split(sizes)

    theirs = leaves(case)
    trl = TrlStandIn(len(parts), tmp_path, **settings)
    their_loss = torch.stack([trl.loss(rows, *theirs, case) for rows in parts]).sum()

    ours = leaves(case)
    normalizer = loss_normalizer(config, [case.mask[rows] for rows in parts], length)
    outs = [
        policy_loss(
            ours[0][rows],
            case.old[rows],
            case.advantages[rows],
            case.mask[rows],
            config,
            normalizer=normalizer,
            ref_logps=case.ref[rows],
            entropy=ours[1][rows],
        )
        for rows in parts
    ]
    our_loss = torch.stack([out.loss for out in outs]).sum()
    assert abs(our_loss.item() - their_loss.item()) < 1e-6
    our_gradients, their_gradients = gradients(our_loss, ours), gradients(their_loss, theirs)
    for mine, yours in zip(our_gradients, their_gradients, strict=True):
        assert (mine - yours).abs().max() < 1e-6
    assert our_gradients[0].abs().max() > 1e-4
    return mean_metrics(out.metrics for out in outs), {
        name: sum(values) / len(values) for name, values in trl._metrics["train"].items()
    }


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", SETTINGS)
def test_loss_and_gradient(name: str, split: str, tmp_path: Any) -> None:
    for seed in range(3):
        ours, theirs = both(Case(seed), SETTINGS[name], SPLITS[split], tmp_path)
        if split == "one":  # TRL averages over micro-batches, we over tokens
            shared = ours.keys() & theirs.keys()
            assert shared >= {"entropy"} | ({"kl"} if SETTINGS[name].get("beta") else set())
            for metric in shared:
                assert ours[metric] == pytest.approx(theirs[metric], abs=1e-6), metric


def test_the_cases_cross_the_bounds(tmp_path: Any) -> None:
    """Otherwise equality above would say little."""
    ours, _ = both(Case(0), SETTINGS["dapo"], [6], tmp_path)
    assert 0.05 < ours["clip_ratio/low_mean"] < 0.5
    assert 0.05 < ours["clip_ratio/high_mean"] < 0.5
    assert 0.05 < both(Case(0), SETTINGS["cispo"], [6], tmp_path)[0]["cispo_clip_ratio"] < 0.5


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_entropy_bonus(loss_type: str, tmp_path: Any) -> None:
    """In one micro-batch; over several, TRL's mean of means differs from the mean of all tokens."""
    both(Case(0), {"loss_type": loss_type, "entropy_coef": 0.01}, [6], tmp_path)


def with_weights(case: Case, weights: Tensor, tmp_path: Any, **settings: Any) -> None:
    """Asserts that `weights` do what TRL's own setting does."""
    theirs, ours = leaves(case), leaves(case)
    extra = {"importance_sampling_ratio": weights} if settings.get("use_vllm") else {}
    trl = TrlStandIn(1, tmp_path, loss_type="dapo", beta=0.04, **settings)
    their_loss = trl.loss(torch.arange(ROWS), *theirs, case, **extra)
    config = loss_keys("dapo", beta=0.04)
    out = policy_loss(
        ours[0],
        case.old,
        case.advantages,
        case.mask,
        config,
        normalizer=loss_normalizer(config, [case.mask], LENGTH),
        ref_logps=case.ref,
        weights=weights,
    )
    assert 0 < (weights == 0).sum() < weights.numel()
    assert abs(out.loss.item() - their_loss.item()) < 1e-6
    for mine, yours in zip(gradients(out.loss, ours), gradients(their_loss, theirs), strict=True):
        assert (mine - yours).abs().max() < 1e-6


def test_high_entropy_tokens(tmp_path: Any) -> None:
    case = Case(0)
    weights = high_entropy_tokens(case.entropy, case.mask, 0.3)
    with_weights(case, weights, tmp_path, top_entropy_quantile=0.3)


def test_off_policy_rows(tmp_path: Any) -> None:
    case = Case(0)
    case.sampled[1] = case.logps[1] + 0.4
    case.advantages[1] = -1.0
    weights = off_policy_rows(case.logps, case.sampled, case.advantages, case.mask, 0.2)
    with_weights(case, weights, tmp_path, off_policy_mask_threshold=0.2)


def test_sampling_correction(tmp_path: Any) -> None:
    case = Case(0)
    weights = sampling_correction(
        case.old, case.sampled, case.mask, correction_keys("token_mask", high=1.2)
    )
    with_weights(case, weights, tmp_path, use_vllm=True)


def test_the_first_update(tmp_path: Any) -> None:
    """No old log-probs in either."""
    case = Case(0)
    theirs, ours = leaves(case), leaves(case)
    case.old = [None]
    trl = TrlStandIn(1, tmp_path, loss_type="grpo")
    trl.forward = theirs
    ids = torch.zeros(ROWS, TOKENS, dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1],
        "completion_ids": ids,
        "completion_mask": case.mask.long(),
        "advantages": case.advantages,
    }
    config = loss_keys("grpo")
    out = policy_loss(
        ours[0],
        None,
        case.advantages,
        case.mask,
        config,
        normalizer=loss_normalizer(config, [case.mask], LENGTH),
    )
    their_loss = trl._compute_loss(None, inputs)
    assert abs(out.loss.item() - their_loss.item()) < 1e-6
    for mine, yours in zip(gradients(out.loss, ours), gradients(their_loss, theirs), strict=True):
        assert (mine - yours).abs().max() < 1e-6


def test_the_standard_deviation_is_trls() -> None:
    rewards = torch.rand(4, 8, generator=torch.Generator().manual_seed(0), dtype=F64)
    centred = rewards - rewards.mean(1, keepdim=True)
    by_group = centred / (nanstd(rewards, dim=1).unsqueeze(1) + 1e-4)
    by_batch = centred / (nanstd(rewards.flatten()) + 1e-4)
    batch = AdvantageKeys(scale_rewards="batch")
    torch.testing.assert_close(
        group_advantages(rewards, AdvantageKeys(min_reward_std=0)), by_group, rtol=0, atol=1e-6
    )
    torch.testing.assert_close(group_advantages(rewards, batch), by_batch, rtol=0, atol=1e-6)
    assert math.isclose(nanstd(torch.tensor([0.0, 1.0])).item(), 0.5**0.5, rel_tol=1e-6)
