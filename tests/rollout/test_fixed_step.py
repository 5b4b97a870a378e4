"""A decode step whose tensors never move: native's samples, and a capture that is checked first."""

from functools import partial

import pytest
import torch
from policies import model_keys

from icpo_lite.core.errors import NumericsError
from icpo_lite.core.types import Message
from icpo_lite.policy.load import load_policy
from icpo_lite.rollout.engines import fixed_step, registry
from icpo_lite.rollout.engines.fixed_step import (
    FixedStep,
    choose_fixed_step,
    plain,
    sample_fixed,
)
from icpo_lite.rollout.noise import SamplingOptions
from icpo_lite.rollout.sampler import sample

TEXTS = ("Ann has 3 apples. How many apples does Ann have?", "How many figs does Kim have?")
OPTIONS = SamplingOptions(40, 1.7)
KEYS = [("fixed", p, g) for p in range(2) for g in range(4)]


@pytest.fixture(scope="module")
def policy():
    return load_policy(model_keys("builtin:tiny", device="cpu"))


@pytest.fixture(scope="module")
def prompts(policy):
    return [policy.encode_chat([Message("user", text)]) for text in TEXTS]


@pytest.fixture(scope="module")
def native(policy, prompts):
    names = [("fixed", p) for p in range(2)]
    return [c for g in sample(policy, prompts, n=4, options=OPTIONS, keys_P=names) for c in g]


@pytest.fixture
def plain_capture(monkeypatch):
    monkeypatch.setattr(registry, "sample_fixed", partial(sample_fixed, capture=plain))


def test_samples_are_the_native_ones(policy, prompts, native):
    found = sample_fixed(policy, prompts, KEYS, OPTIONS, plain)
    assert [(c.token_ids, c.stop_reason, c.text) for c in found] == [
        (c.token_ids, c.stop_reason, c.text) for c in native
    ]
    for a, b in zip(found, native, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=5e-5)
    assert len({len(c.token_ids) for c in native}) > 2


def test_the_engine_decodes_so_where_the_options_say(policy, prompts, native, plain_capture):
    options = OPTIONS.but(captured=True)
    names = [("fixed", p) for p in range(2)]
    found = [c for g in sample(policy, prompts, n=4, options=options, keys_P=names) for c in g]
    assert [c.token_ids for c in found] == [c.token_ids for c in native]
    few = sample(policy, prompts, n=4, options=options.but(max_rows=3), keys_P=names)
    assert [c.token_ids for g in few for c in g] == [c.token_ids for c in native]


def test_no_tensor_of_a_step_moves(policy, prompts):
    with torch.no_grad():
        step = FixedStep(policy, prompts, KEYS, OPTIONS)
        before = step.addresses()
        for _ in range(5):
            step.advance()
    assert step.addresses() == before
    assert len(before) == len(set(before))


def test_a_capture_may_run_the_step_before_it_counts(policy, prompts, native):
    def warming(step):
        step()
        step()
        return step

    found = sample_fixed(policy, prompts, KEYS, OPTIONS, warming)
    assert [c.token_ids for c in found] == [c.token_ids for c in native]


def test_a_capture_is_checked_and_passed_over_with_its_reason(policy, prompts):
    assert choose_fixed_step(policy, prompts, OPTIONS, plain) == (
        True,
        "decoding is captured as a CUDA graph",
    )

    def refusing(step):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    chosen, why = choose_fixed_step(policy, prompts, OPTIONS, refusing)
    assert (chosen, why) == (
        False,
        "decoding is not captured: operation not permitted when stream is capturing",
    )

    chosen, why = choose_fixed_step(policy, prompts, OPTIONS, lambda step: lambda: None)
    assert not chosen
    assert why == "decoding is not captured: token 1 of reply 0 was another than without"


def test_only_attention_to_all_tokens_is_captured(policy, prompts, monkeypatch):
    monkeypatch.setattr(policy.causal_lm.config, "_attn_implementation", "flash_attention_2")
    chosen, why = choose_fixed_step(policy, prompts, OPTIONS, plain)
    assert not chosen
    assert why == (
        "decoding is not captured: attention by flash_attention_2 takes no prepared mask"
    )


def test_the_device_is_asked_once_in_eight_tokens(policy, prompts, monkeypatch):
    asked = []
    whole = torch.Tensor.all
    monkeypatch.setattr(torch.Tensor, "all", lambda t, *a: asked.append(1) or whole(t, *a))
    monkeypatch.setattr(torch.Tensor, "item", lambda t: pytest.fail("a step waits for the device"))
    with torch.no_grad():
        FixedStep(policy, prompts, KEYS, OPTIONS.but(ignore_eos=True)).run(plain)
    assert len(asked) == -(-(OPTIONS.max_new_tokens - 1) // fixed_step.LOOK_EVERY)


def test_logits_that_are_no_numbers_are_refused(policy, prompts, monkeypatch):
    forward = policy.causal_lm.forward

    def broken(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits * float("nan")
        return out

    monkeypatch.setattr(policy.causal_lm, "forward", broken)
    with pytest.raises(NumericsError, match="logits are NaN"):
        sample_fixed(policy, prompts, KEYS, OPTIONS, plain)
