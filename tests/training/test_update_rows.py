"""On a CPU an update takes as many rows at once as memory holds: nothing raises when it is full."""

import pytest
import torch

from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import hidden_states
from icpo_lite.recipe import load_recipe
from icpo_lite.training import update_rows
from icpo_lite.training.update_rows import fitting_update_rows, kept_bytes_a_token


@pytest.fixture(scope="module")
def policy():
    return load_policy(load_recipe("tiny", ["device=cpu"]))


def test_what_a_token_keeps_is_what_a_longer_pass_keeps(policy):
    a_token, kept = kept_bytes_a_token(policy), {}
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(4, 100, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        hidden = hidden_states(policy, ids, torch.ones_like(ids))
        total = sum(kept.values())
    del hidden
    assert total == pytest.approx(400 * a_token, rel=0.1)
    # Three layers of residuals alone are more.
    assert a_token > 3 * 4 * policy.causal_lm.config.hidden_size


def test_rows_follow_from_free_memory_and_a_key_has_the_last_word(policy, monkeypatch):
    recipe = load_recipe("tiny", ["device=cpu", "max_completion_length=20"])
    assert fitting_update_rows(policy, recipe, 80) is None  # all 128 fit
    row = 100 * kept_bytes_a_token(policy)
    monkeypatch.setattr(update_rows, "free_bytes", lambda device: 10.5 * row / update_rows.SHARE)
    assert fitting_update_rows(policy, recipe, 80) == 10
    said = load_recipe("tiny", ["device=cpu", "per_device_train_batch_size=64"])
    assert fitting_update_rows(policy, said, 80) is None
    monkeypatch.setattr(update_rows, "free_bytes", lambda device: 0)
    assert fitting_update_rows(policy, recipe, 80) == 1
