"""Real (tiny, random) models: their own logits against the op, what lm_head may be, the check."""

import types

import pytest
import torch

from icpo_lite.core.errors import ModelError, NumericsError, UsageError
from icpo_lite.policy.kernels import check as check_module
from icpo_lite.policy.kernels.check import check_against_reference
from icpo_lite.policy.kernels.lm_head import frozen_lm_head
from icpo_lite.policy.kernels.logits import logit_options
from icpo_lite.policy.kernels.logprob import token_logprobs

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 101,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODELS = {
    "qwen2, tied": ("Qwen2Config", {"tie_word_embeddings": True}),
    "gemma2, softcap": ("Gemma2Config", {"final_logit_softcapping": 0.05}),
    "cohere, multiplied": ("CohereConfig", {"logit_scale": 4.0}),
    "granite, divided": ("GraniteConfig", {"logits_scaling": 0.2}),
    "hyperclova, multiplied": ("HyperCLOVAXConfig", {"logits_scaling": 3.0}),
    "phi, bias": ("PhiConfig", {"num_key_value_heads": 2}),
}


def tiny_model(name):
    kind, changes = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**{**SMALL, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        head.bias.normal_()
    return model


def rows_of(model):
    """(hidden [N, D], the model's logits [N, V], targets [N]) of ten random tokens."""
    torch.manual_seed(1)
    ids = torch.randint(3, 101, (1, 10))
    with torch.no_grad():
        out = model(ids, output_hidden_states=True)
    return out.hidden_states[-1][0], out.logits[0], ids[0].roll(-1)


@pytest.mark.parametrize("impl", ["reference", "torch"])
@pytest.mark.parametrize("name", MODELS)
def test_the_op_gives_what_the_models_own_logits_give(name, impl):
    model = tiny_model(name)
    hidden, logits, targets = rows_of(model)
    weight, bias = frozen_lm_head(model.get_output_embeddings())
    options = logit_options(model.config)
    logp, entropy = token_logprobs(hidden, weight, targets, bias=bias, impl=impl, **options)
    theirs = logits.double().log_softmax(-1)
    picked = theirs.gather(1, targets[:, None]).squeeze(1)
    torch.testing.assert_close(logp.double(), picked, rtol=0, atol=2e-6)
    plain_entropy = -(theirs.exp() * theirs).sum(-1)
    torch.testing.assert_close(entropy.double(), plain_entropy, rtol=0, atol=5e-6)
    check = check_against_reference(
        hidden, weight, targets, impl=impl, bias=bias, logits=logits, **options
    )
    assert (check.ok, check.reason, check.impl) == (True, "", impl)
    assert check.max_abs_error < 1e-5


@pytest.mark.parametrize("name", ["gemma2, softcap", "cohere, multiplied", "granite, divided"])
def test_the_check_notices_logits_that_are_scaled_or_capped_elsewhere(name):
    model = tiny_model(name)
    hidden, logits, targets = rows_of(model)
    weight, _ = frozen_lm_head(model.get_output_embeddings())
    check = check_against_reference(hidden, weight, targets, logits=logits)
    assert not check.ok
    assert "scale or cap" in check.reason


def test_the_check_finds_a_wrong_kernel_and_reports_one_that_fails(monkeypatch):
    model = tiny_model("qwen2, tied")
    hidden, _, targets = rows_of(model)
    weight, _ = frozen_lm_head(model.get_output_embeddings())
    right = token_logprobs

    def wrong(hidden, *args, impl, **options):
        logp, entropy = right(hidden, *args, impl=impl, **options)
        return (logp + 1e-3 if impl == "torch" else logp), entropy

    monkeypatch.setattr(check_module, "token_logprobs", wrong)
    check = check_against_reference(hidden, weight, targets)
    assert not check.ok
    assert check.max_abs_error == pytest.approx(1e-3, rel=0.01)
    assert check.reason.startswith("logp is off by 1.00e-03")

    def failing(*args, impl, **options):
        if impl == "torch":
            raise RuntimeError("no compiler\nlong trace")
        return right(*args, impl=impl, **options)

    monkeypatch.setattr(check_module, "token_logprobs", failing)
    check = check_against_reference(hidden, weight, targets)
    assert not check.ok
    assert check.reason == "impl=torch failed here: RuntimeError: no compiler"


def test_the_check_raises_what_is_the_callers_fault():
    model = tiny_model("qwen2, tied")
    hidden, _, targets = rows_of(model)
    weight, _ = frozen_lm_head(model.get_output_embeddings())
    with pytest.raises(UsageError, match=r"0\.\.100"):
        check_against_reference(hidden, weight, targets + 101)
    with pytest.raises(NumericsError):
        check_against_reference(hidden * torch.nan, weight, targets)


def test_bf16_and_ignored_rows_pass_the_check():
    model = tiny_model("qwen2, tied").to(torch.bfloat16)
    hidden, logits, targets = rows_of(model)
    weight, _ = frozen_lm_head(model.get_output_embeddings())
    targets[:3] = -100
    assert check_against_reference(hidden, weight, targets, logits=logits).ok
    assert check_against_reference(hidden, weight, torch.full_like(targets, -100)).ok


def test_an_adapter_on_lm_head_is_refused():
    peft = pytest.importorskip("peft")
    model = tiny_model("qwen2, tied")
    for options, mark in (
        ({"target_modules": ["lm_head"]}, "lora_A"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "modules_to_save"),
    ):
        wrapped = peft.get_peft_model(tiny_model("phi, bias"), peft.LoraConfig(r=2, **options))
        with pytest.raises(ModelError, match=mark):
            frozen_lm_head(wrapped.get_base_model().get_output_embeddings())
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    weight, bias = frozen_lm_head(wrapped.get_base_model().get_output_embeddings())
    assert weight.shape == (101, 32)
    assert bias is None


def test_other_lm_heads_that_cannot_be_used_are_refused():
    def head(weight, **attributes):
        module = torch.nn.Module()
        module.weight = weight
        for name, value in attributes.items():
            setattr(module, name, value)
        return module

    frozen = {"requires_grad": False}
    refused = [
        (torch.nn.Linear(4, 9), "requires_grad=True"),
        (torch.nn.Identity(), "weight"),
        (head(torch.nn.Parameter(torch.zeros(9, 4).byte(), **frozen)), "torch.uint8"),
        (torch.nn.Linear(4, 9, device="meta").requires_grad_(False), "offloaded"),
    ]
    for module, message in refused:
        with pytest.raises(ModelError, match=message):
            frozen_lm_head(module)


def test_logit_options_of_a_plain_config_are_none():
    assert logit_options(types.SimpleNamespace()) == {"scale": None, "softcap": None}
    granite = types.SimpleNamespace(logits_scaling=8.0)
    assert logit_options(granite) == {"scale": 0.125, "softcap": None}
