"""What a run tries before its first step: its own engine on two prompts, held against training."""

from dataclasses import replace

import pytest
import torch
from model_families import save_family
from policies import model_keys, tiny_with_noise
from test_engines import TEXTS
from test_run import quiet, recipe

from icpo_lite.core.errors import ModelError
from icpo_lite.core.types import Message
from icpo_lite.policy import logprobs as logprobs_module
from icpo_lite.policy import opening_logprobs as openings_module
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import LogprobOptions, PolicyScorer, check_impl
from icpo_lite.policy.opening_logprobs import opening_logprobs
from icpo_lite.policy.wide_logits import wide_logits
from icpo_lite.rollout.engines import generate, registry
from icpo_lite.rollout.engines.registry import ENGINES
from icpo_lite.rollout.noise import SamplingOptions
from icpo_lite.runs import train as run_module
from icpo_lite.training.from_recipe import tried
from icpo_lite.training.sampling_check import check_sampling
from icpo_lite.training.token_weights import corrects


@pytest.fixture(scope="module")
def policy():
    return tiny_with_noise()


@pytest.fixture(scope="module")
def prompts(policy):
    return [policy.encode_chat([Message("user", text)]) for text in TEXTS]


def check(policy, prompts, engine, temperature=1.0):
    options = LogprobOptions(temperature=temperature)
    return check_sampling(policy, prompts, SamplingOptions(32, temperature, engine=engine), options)


@pytest.mark.parametrize("engine", ["native", "generate", "continuous"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_engines_that_agree_say_by_how_much(policy, prompts, engine, temperature):
    said = check(policy, prompts, engine, temperature)
    assert said.startswith("log-probs within ")
    assert float(said.split()[2]) < 1e-4


def penalised(monkeypatch):
    """An engine that samples under a repetition penalty that training knows nothing of."""
    plain = generate.generation_config

    def with_penalty(**options):
        return plain(**options, repetition_penalty=1.3)

    monkeypatch.setattr(generate, "generation_config", with_penalty)


def test_an_engine_that_samples_from_something_else_is_refused(policy, prompts, monkeypatch):
    penalised(monkeypatch)
    with pytest.raises(ModelError, match=r"engine generate: .* found .* use engine: native") as one:
        check(policy, prompts, "generate")
    assert "\n" not in str(one.value)


def test_of_engines_tried_native_is_taken_in_its_place(policy, prompts, monkeypatch, tmp_path):
    penalised(monkeypatch)
    monkeypatch.setattr(
        "icpo_lite.training.from_recipe.choose_engine", lambda *_: ("generate", "the fastest")
    )
    ids = {str(i): p for i, p in enumerate(prompts)}
    chosen, sampled, _ = tried(recipe(tmp_path), policy, ids, "torch")
    assert chosen.sampling.engine == "native"
    assert sampled.startswith("the fastest; not taken: engine generate: expected")
    with pytest.raises(ModelError, match="engine generate"):
        tried(recipe(tmp_path, "engine=generate"), policy, ids, "torch")


@pytest.mark.parametrize("error", [AttributeError, IndexError, NotImplementedError, KeyError])
def test_a_model_that_cannot_be_sampled_from_is_one_line(policy, prompts, monkeypatch, error):
    def broken(*_):
        raise error("no such thing\nas this")

    monkeypatch.setitem(ENGINES, "native", replace(ENGINES["native"], sample=broken))
    with pytest.raises(ModelError, match="builtin:tiny: engine native cannot sample") as one:
        check(policy, prompts, "native")
    assert "\n" not in str(one.value)


def test_a_run_tries_its_engine_before_anything_is_written(tmp_path, monkeypatch):
    def broken(*_):
        raise AttributeError("'LinearAttentionLayer' has no rows")

    monkeypatch.setitem(ENGINES, "native", replace(ENGINES["native"], sample=broken))
    with pytest.raises(ModelError, match="cannot sample from this model"):
        run_module.train(recipe(tmp_path / "run", "max_steps=1"), quiet(tmp_path))
    assert not (tmp_path / "run").exists()


def test_a_runs_header_tells_the_difference(tmp_path):
    run_module.train(recipe(tmp_path / "run", "max_steps=1"), quiet(tmp_path))
    header = " ".join((tmp_path / "printed.txt").read_text().split())
    assert "nats a token of training's" in header


# ------------------------------------------------------------------------- one op for all that ask


def test_the_op_that_was_proved_is_the_one_that_judges(policy, prompts, monkeypatch):
    """A run whose fast kernel is wrong falls back, and so must `judge: self` and P(ask)."""
    seen = []
    plain = logprobs_module.token_logprobs

    def remember(*args, impl="auto", **options):
        seen.append(impl)
        return plain(*args, impl="torch", **options)

    monkeypatch.setattr(logprobs_module, "token_logprobs", remember)
    monkeypatch.setattr(openings_module, "token_logprobs", remember)
    policy.op.impl = None
    monkeypatch.setattr(logprobs_module, "choose_impl", lambda *_: ("triton", "as if on a GPU"))
    real = logprobs_module.check_against_reference

    def wrong_on_triton(*args, impl, **options):
        found = real(*args, impl="torch", **options)
        return found._replace(ok=impl != "triton", impl=impl, reason="off by 3")

    monkeypatch.setattr(logprobs_module, "check_against_reference", wrong_on_triton)
    impl, _ = check_impl(policy, prompts[0])
    assert impl == policy.op.impl == "torch"
    PolicyScorer(policy).score([[Message("user", TEXTS[0])]], [["How", "The answer"]])
    opening_logprobs(policy, prompts, [(5,), (6, 7)])
    assert len(seen) > 1
    assert set(seen) == {"torch"}
    policy.op.impl = None
    seen.clear()
    PolicyScorer(policy).score([[Message("user", TEXTS[0])]], [["How"]])  # nobody has asked before
    assert seen == ["torch"] == [policy.op.impl]
    assert replace(policy, notes=("a copy",)).op is policy.op


# ----------------------------------------------------------------------------------- 16 bit, TIS


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    folder = save_family(tmp_path_factory.mktemp("half"), "qwen2", scale=4.0)
    keys = model_keys(str(folder), device="cpu", load_in_4bit=False, lora_r=4, dtype="bfloat16")
    return load_policy(keys)


def test_16_bit_logits_are_those_of_training(half):
    """In bfloat16 a logit of 20 is an eighth off; hidden states are what rounding is left in."""
    ids = torch.tensor([half.encode_chat([Message("user", TEXTS[0])])])
    mask = torch.ones(1, ids.shape[1] - 1, dtype=torch.bool)
    trained, _ = logprobs_module.completion_logprobs(
        half, ids, torch.ones_like(ids), mask, LogprobOptions()
    )

    def apart():
        with torch.no_grad():
            logits = half.causal_lm(input_ids=ids).logits[0, :-1].float()
        own = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        return float((own - trained[0].detach()).abs().max())

    rounded = apart()
    with wide_logits(half), wide_logits(half):
        wide = apart()
    assert wide < 1e-5 < 1e-3 < rounded
    assert apart() == rounded
    assert "forward" not in half.causal_lm.get_output_embeddings().__dict__


@pytest.mark.parametrize("engine", ["native", "generate", "continuous"])
def test_16_bit_engines_sample_from_what_training_computes(half, engine):
    assert half.causal_lm.lm_head.weight.dtype is torch.bfloat16
    prompts = [half.encode_chat([Message("user", text)]) for text in TEXTS]
    seen = []
    plain = half.causal_lm.lm_head.forward
    assert plain
    hook = half.causal_lm.lm_head.register_forward_hook(lambda m, a, out: seen.append(out.dtype))
    try:
        said = check(half, prompts, engine)
    finally:
        hook.remove()
    assert set(seen) == {torch.float32}
    assert float(said.split()[2]) < 0.05


def test_foreign_engines_are_corrected_by_default(tmp_path):
    for engine in registry.ENGINES:
        assert corrects(recipe(tmp_path), engine) is (engine != "native")
        assert corrects(recipe(tmp_path, "importance_sampling_correction=true"), engine)
        assert not corrects(recipe(tmp_path, "importance_sampling_correction=false"), engine)


def test_a_run_with_another_engine_weighs_its_tokens(tmp_path):
    from icpo_lite.core.files import read_metrics

    for engine, weighed in (("generate", True), ("native", False)):
        run = tmp_path / engine
        changes = (
            "max_steps=1",
            "drop_zero_variance=false",
            "count_zero_variance=true",
            f"engine={engine}",
        )
        run_module.train(recipe(run, *changes), quiet(tmp_path))
        names = {name for row in read_metrics(run) for name in row}
        assert any("importance_sampling_ratio" in name for name in names) is weighed
