"""A small model's forward pass by fewer calls: its own logits, or its own forward."""

import pytest
import torch
from model_families import CONFIGS, OTHER_CONFIGS
from policies import tiny_with_noise
from transformers import AutoModelForCausalLM, DynamicCache

from icpo_lite.policy import dense_copies, lean_forward
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.policy.lean_forward import LeanForward, why_not_lean

LEAN = ("qwen2", "qwen2-tied", "qwen3", "llama")


@pytest.fixture(scope="module")
def policy():
    return tiny_with_noise()


@pytest.fixture(autouse=True)
def unproved():
    lean_forward._PROVED.clear()


def bare(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases that say something
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


def asked(model, ids, mask, start=0, cache=None, **more):
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    return {
        "input_ids": ids[:, start:],
        "attention_mask": mask,
        "position_ids": position[:, start:],
        "past_key_values": DynamicCache(config=model.config) if cache is None else cache,
        "use_cache": True,
        **more,
    }


def rows(count, width, vocabulary):
    """Left-padded rows of falling length."""
    noise = torch.Generator().manual_seed(1)
    ids = torch.randint(vocabulary, (count, width), generator=noise)
    mask = torch.ones_like(ids)
    for row in range(count):
        mask[row, : row * (width - 4) // count] = 0
    return ids, mask


@torch.no_grad()
@pytest.mark.parametrize("family", LEAN)
def test_families_of_llamas_kind_have_their_own_logits(family):
    model = bare(CONFIGS[family]())
    assert why_not_lean(model) is None
    lean = LeanForward(model, dense_copies._side_by_side(()))
    ids, mask = rows(40, 60, model.config.vocab_size)  # enough rows to be computed in pieces
    caches = [DynamicCache(config=model.config) for _ in range(2)]
    start = 0
    for end in (50, 51, 52, 60):
        given = [asked(model, ids[:, :end], mask[:, :end], start, cache) for cache in caches]
        truth = model(**given[0]).logits
        found = lean(*(v for k, v in given[1].items() if k != "use_cache"), last=False)
        real = mask[:, start:end].bool()
        assert torch.allclose(found[real], truth[real], atol=2e-4)
        start = end
    assert len(lean_forward._pieces(lean_forward._seen(mask, 1))) == lean_forward._PIECES


@pytest.mark.parametrize("family", sorted({*CONFIGS, *OTHER_CONFIGS} - {*LEAN}))
def test_other_families_keep_their_forward_with_a_reason(family):
    config = (CONFIGS | OTHER_CONFIGS)[family]()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    reason = why_not_lean(model)
    assert reason is not None or not lean_forward_agrees(config)


def lean_forward_agrees(config):
    model = bare(config)
    lean = LeanForward(model, dense_copies._side_by_side(()))
    ids, mask = rows(3, 20, model.config.vocab_size)
    with torch.no_grad():
        given = asked(model, ids, mask)
        found = lean(*(v for k, v in given.items() if k != "use_cache"), last=True)
        truth = model(**asked(model, ids, mask)).logits[:, -1:]
    return bool((found - truth).abs().max() < 1e-4)


@torch.no_grad()
def test_it_stands_in_while_a_model_samples(policy):
    lm = policy.causal_lm
    lm.eval()
    ids, mask = rows(3, 20, 200)
    truth = lm(**asked(lm, ids, mask)).logits
    with dense_layers(policy):
        assert "forward" in lm.__dict__
        found = lm(**asked(lm, ids, mask)).logits
        last = lm(**asked(lm, ids, mask, logits_to_keep=1)).logits
        # What it does not know goes to the model's own forward.
        plain = lm(input_ids=ids).logits
        out = lm(**asked(lm, ids, mask, output_hidden_states=True))
    assert "forward" not in lm.__dict__
    real = mask.bool()
    assert torch.allclose(found[real], truth[real], atol=3e-4)
    assert torch.allclose(last, found[:, -1:], atol=1e-4)
    assert torch.allclose(plain[0], truth[0], atol=3e-4)
    assert len(out.hidden_states) == lm.config.num_hidden_layers + 1


def test_each_weight_lies_there_once(policy):
    with dense_layers(policy):
        layer = policy.causal_lm.model.layers[0]
        gate, up = (
            m.__dict__["forward"].keywords["weight"]
            for m in (layer.mlp.gate_proj, layer.mlp.up_proj)
        )
        assert gate.untyped_storage().data_ptr() == up.untyped_storage().data_ptr()


def test_one_that_computes_otherwise_is_not_used(policy, monkeypatch):
    wrong = LeanForward._normed
    monkeypatch.setattr(LeanForward, "_normed", lambda self, x, w: wrong(self, x, w) * 1.001)
    with dense_layers(policy):
        assert "forward" not in policy.causal_lm.__dict__
    monkeypatch.undo()
    with dense_layers(policy):  # what was found holds for the model
        assert "forward" not in policy.causal_lm.__dict__


def test_somebody_elses_forward_is_left_alone(policy, monkeypatch):
    lm = policy.causal_lm
    monkeypatch.setattr(lm, "forward", lambda **kwargs: "theirs")
    with dense_layers(policy):
        assert lm.forward() == "theirs"
    assert lm.forward() == "theirs"


def test_who_looks_on_sees_what_is_computed(policy):
    hook = policy.causal_lm.model.layers[1].register_forward_hook(lambda *_: None)
    with dense_layers(policy):
        assert "forward" not in policy.causal_lm.__dict__
    hook.remove()
    with dense_layers(policy):
        assert "forward" in policy.causal_lm.__dict__


def test_without_the_adapter_it_is_the_base(policy):
    lm = policy.causal_lm
    ids, mask = rows(2, 12, 200)
    found = {}
    with torch.no_grad():
        for name in ("on", "off"):
            with (
                policy.adapter_off() if name == "off" else dense_layers(policy),
                dense_layers(policy),
            ):
                found[name] = lm(**asked(lm, ids, mask)).logits[:, -1]
        with policy.adapter_off():
            base = lm(**asked(lm, ids, mask)).logits[:, -1]
    assert torch.allclose(found["off"], base, atol=3e-4)
    assert not torch.allclose(found["on"], base, atol=1e-2)


def test_a_layer_that_is_more_than_its_matrix_is_not_read_as_one(policy, monkeypatch):
    """LoRA or packed weights without a dense copy, as where there are too many of them."""
    monkeypatch.setattr(dense_copies, "_layers", lambda policy: [])
    with dense_layers(policy):
        assert "forward" not in policy.causal_lm.__dict__
