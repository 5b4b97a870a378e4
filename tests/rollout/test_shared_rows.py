"""Replies that have said the same so far are one row: native's samples, from fewer rows."""

from types import SimpleNamespace

import pytest
import torch
from policies import tiny_with_noise

from icpo_lite.core.errors import NumericsError
from icpo_lite.core.types import Message
from icpo_lite.rollout.engines.native import sample_native
from icpo_lite.rollout.engines.prefix_memory import PrefixMemory
from icpo_lite.rollout.engines.registry import ENGINES
from icpo_lite.rollout.engines.shared_rows import sample_shared, shares_rows
from icpo_lite.rollout.noise import SamplingOptions

TEXTS = ("Ann has 3 apples. How many apples does Ann have?", "How many figs does Kim have?")
KEYS = [("shared", p, g) for p in range(2) for g in range(8)]


@pytest.fixture(scope="module")
def policy():
    return tiny_with_noise()


@pytest.fixture(scope="module")
def prompts(policy):
    return [policy.encode_chat([Message("user", text)]) for text in TEXTS]


@pytest.fixture
def computed(policy, monkeypatch):
    """Rows of each decoding step."""
    lm, rows = policy.causal_lm, []
    forward = lm.forward

    def counted(*args, **kwargs):
        if kwargs["input_ids"].shape[1] == 1:
            rows.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(lm, "forward", counted)
    return rows


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_samples_are_the_native_ones(policy, prompts, temperature):
    options = SamplingOptions(40, temperature)
    native = sample_native(policy, prompts, KEYS, options)
    shared = sample_shared(policy, prompts, KEYS, options)
    for a, b in zip(native, shared, strict=True):
        assert (a.token_ids, a.stop_reason, a.text) == (b.token_ids, b.stop_reason, b.text)
        assert a.logprobs == pytest.approx(b.logprobs, abs=5e-5)


def test_what_is_the_same_is_computed_once(policy, prompts, computed):
    greedy = sample_shared(policy, prompts, KEYS, SamplingOptions(40, 0.0))
    assert max(computed) == 2
    assert len({c.token_ids for c in greedy}) == 2
    computed.clear()
    hot = sample_shared(policy, prompts, KEYS, SamplingOptions(40, 1.0))
    # Rows of a step are the texts so far that differ, until some have ended and wait to be cut.
    texts = [{(k[1], c.token_ids[:n]) for k, c in zip(KEYS, hot, strict=True)} for n in (1, 2, 3)]
    assert computed[:3] == [len(t) for t in texts]
    assert sum(computed) < sum(len(c.token_ids) - 1 for c in hot)


def test_splits_take_free_rows_before_all_are_copied(policy, prompts, monkeypatch):
    """Hot, so that rows split and end side by side."""
    from icpo_lite.rollout.engines import kv_cache

    moved = {"all": 0, "some": 0}
    take, copy = kv_cache.take_rows, kv_cache.copy_rows

    def taken(*args, **options):
        moved["all"] += 1
        take(*args, **options)

    def copied(*args):
        moved["some"] += 1
        copy(*args)

    monkeypatch.setattr(kv_cache, "take_rows", taken)
    monkeypatch.setattr(kv_cache, "copy_rows", copied)
    keys = [("free", p, g) for p in range(2) for g in range(64)]
    options = SamplingOptions(40, 0.9)
    shared = sample_shared(policy, prompts, keys, options)
    assert moved["some"] >= 3
    assert moved["all"] < 24
    native = sample_native(policy, prompts, keys, options)
    assert [c.token_ids for c in shared] == [c.token_ids for c in native]


def test_a_reply_that_is_cut_off_is_whole(policy, prompts):
    cut = sample_shared(policy, prompts, KEYS, SamplingOptions(5, ignore_eos=True))
    assert {(len(c.token_ids), len(c.logprobs)) for c in cut} == {(5, 5)}


def test_the_next_turn_is_known(policy, prompts):
    memory = PrefixMemory(1 << 30)
    replies = sample_shared(policy, prompts, KEYS, SamplingOptions(12, memory=memory))
    own = PrefixMemory(1 << 30)
    sample_native(policy, prompts, KEYS, SamplingOptions(12, memory=own))
    assert memory.held_bytes == own.held_bytes > 0
    for key, reply in zip(KEYS, replies, strict=True):
        text = (*prompts[key[1]], *reply.token_ids, 7)
        (count, states), (wanted, truth) = memory.longest(text), own.longest(text)
        # The last token was drawn and never computed.
        assert count == wanted == len(text) - 2
        assert torch.allclose(states[:, :, :count], truth[:, :, :count], atol=1e-4)


def test_the_engine_shares_rows_on_a_cpu_alone_and_all_at_once(policy, prompts, computed):
    ENGINES["native"].sample(policy, prompts, KEYS, SamplingOptions(8, 0.0))
    assert max(computed) == 2
    computed.clear()
    ENGINES["native"].sample(policy, prompts, KEYS, SamplingOptions(8, 0.0, max_rows=15))
    assert max(computed) == 15
    options = SamplingOptions(8)
    assert not shares_rows(policy, prompts, KEYS[:2], options)
    assert shares_rows(policy, [prompts[0]] * 2, KEYS[:2], options)
    gpu = SimpleNamespace(device=SimpleNamespace(torch_device=SimpleNamespace(type="cuda")))
    assert not shares_rows(gpu, prompts, KEYS, options)


def test_logits_that_are_no_numbers_are_refused(policy, prompts, monkeypatch):
    forward = policy.causal_lm.forward

    def broken(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits * float("nan")
        return out

    monkeypatch.setattr(policy.causal_lm, "forward", broken)
    with pytest.raises(NumericsError, match="logits are NaN"):
        sample_shared(policy, prompts, KEYS, SamplingOptions(4))
