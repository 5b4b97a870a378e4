"""The policy room on the embedded model: 4-bit, LoRA, sampling, log-probs, their gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from policies import model_keys

from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.types import Message
from icpo_lite.policy.load import load_policy, load_tokenizer
from icpo_lite.policy.logprobs import LogprobOptions, PolicyScorer, completion_logprobs
from icpo_lite.rollout.engines.registry import ENGINES
from icpo_lite.rollout.sampler import PolicyGenerator, SamplingOptions, draw, sample, uniforms

TEXTS = (
    "Ann has 3 apples. Ben has 4 apples. How many apples do Ann and Ben have together?",
    "How many figs does Kim have after shopping? Kim has 12 figs.",
    "How many nuts does Leo have after losing some?",
)


@pytest.fixture(scope="module")
def policy():
    return load_policy(model_keys("builtin:tiny", device="cpu", lora_r=8))


@pytest.fixture(scope="module")
def prompts(policy):
    return [policy.encode_chat([Message("user", text)]) for text in TEXTS]


def draw_all(policy, prompts, **options):
    keys = [("test", i) for i in range(len(prompts))]
    return sample(policy, prompts, n=4, options=SamplingOptions(24, **options), keys_P=keys)


def padded(policy, prompts, replies):
    rows = [[*p, *r.token_ids] for p, r in zip(prompts, replies, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([r + [policy.pad_id] * (width - len(r)) for r in rows])
    attention = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
    starts = torch.tensor([len(p) for p in prompts])[:, None]
    places = torch.arange(1, width)[None]
    mask = (places >= starts) & attention[:, 1:].bool()
    return ids, attention, mask


def test_base_is_nf4_with_double_quantisation_and_only_lora_learns(policy):
    linear = policy.causal_lm.model.layers[0].mlp.up_proj.base_layer
    assert linear.weight.quant_state.quant_type == "nf4"
    assert linear.weight.quant_state.nested
    names = [n for n, p in policy.model.named_parameters() if p.requires_grad]
    assert len(names) == 3 * 7 * 2
    assert all("lora_" in n for n in names)


def test_tokenizer_is_the_one_that_was_saved_and_not_qwens():
    tokenizer = load_tokenizer("builtin:tiny")
    ids = tokenizer("Ann has 12 apples.", add_special_tokens=False)["input_ids"]
    assert len(ids) == 5
    assert tokenizer.decode(ids) == "Ann has 12 apples."


def test_same_keys_same_samples_however_the_batch_is_split(policy, prompts):
    whole = draw_all(policy, prompts)
    for rows in (1, 3, 5):
        split = draw_all(policy, prompts, max_rows=rows)
        assert [[c.token_ids for c in g] for g in split] == [
            [c.token_ids for c in g] for g in whole
        ]
    assert len({c.token_ids for g in whole for c in g}) > 3


def test_uniform_noise_depends_on_the_key_alone():
    assert np.array_equal(uniforms((0, 1, "a"), 5), uniforms((0, 1, "a"), 5))
    assert not np.array_equal(uniforms((0, 1), 5), uniforms((1, 0), 5))
    assert 0.45 < uniforms((7,), 10_000).mean() < 0.55


def test_draw_follows_the_distribution():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).expand(20_000, 3)
    noise = torch.from_numpy(uniforms(("draw",), 20_000))
    token, logp = draw(logits, noise, SamplingOptions())
    counts = torch.bincount(token, minlength=3) / 20_000
    assert torch.allclose(counts.float(), torch.tensor([0.5, 0.3, 0.2]), atol=0.015)
    assert torch.allclose(logp.exp(), torch.tensor([0.5, 0.3, 0.2])[token], atol=1e-6)


def test_draws_from_a_line_are_those_from_its_logits():
    noise = torch.from_numpy(uniforms(("line",), 60))
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)) * 3
    line = torch.arange(60) % 7
    for options in (
        SamplingOptions(),
        SamplingOptions(temperature=0.7, top_k=4, top_p=0.8),
        SamplingOptions(temperature=0),
    ):
        own, by_line = draw(logits[line], noise, options), draw(logits, noise, options, line)
        assert torch.equal(own[0], by_line[0])
        assert torch.equal(own[1], by_line[1])


def test_top_k_and_top_p_leave_out_the_tail():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).expand(2_000, 3)
    noise = torch.from_numpy(uniforms(("tail",), 2_000))
    assert set(draw(logits, noise, SamplingOptions(top_k=1))[0].tolist()) == {0}
    assert set(draw(logits, noise, SamplingOptions(top_p=0.6))[0].tolist()) == {0, 1}
    assert set(draw(logits, noise, SamplingOptions(temperature=0))[0].tolist()) == {0}


def test_replies_end_with_the_end_token_or_are_cut(policy, prompts):
    replies = [c for g in draw_all(policy, prompts) for c in g]
    assert any(c.stop_reason == "eos" for c in replies)
    for c in replies:
        assert (c.token_ids[-1] in policy.end_ids) == (c.stop_reason == "eos")
        assert not set(c.token_ids[:-1]) & policy.end_ids
        assert len(c.logprobs) == len(c.token_ids)
    short = draw_all(policy, prompts, temperature=1.0)[0][0]
    cut = sample(policy, prompts[:1], n=1, options=SamplingOptions(2), keys_P=[("test", 0)])[0][0]
    assert cut.token_ids == short.token_ids[:2]
    assert cut.stop_reason == "length"


def test_training_log_probs_equal_those_of_sampling(policy, prompts):
    replies = [g[0] for g in draw_all(policy, prompts)]
    ids, attention, mask = padded(policy, prompts, replies)
    with torch.no_grad():
        logps, entropy = completion_logprobs(policy, ids, attention, mask, LogprobOptions())
    for row, kept, reply in zip(logps, mask, replies, strict=True):
        assert torch.allclose(row[kept], torch.tensor(reply.logprobs), atol=2e-5)
    assert (logps[~mask] == 0).all()
    assert (entropy[mask] > 0).all()


def test_log_probs_equal_the_models_own_full_logits(policy, prompts):
    replies = [g[1] for g in draw_all(policy, prompts)]
    ids, attention, mask = padded(policy, prompts, replies)
    with torch.no_grad():
        logps, _ = completion_logprobs(
            policy, ids, attention, mask, LogprobOptions(temperature=0.7)
        )
        logits = policy.causal_lm(input_ids=ids, attention_mask=attention).logits[:, :-1]
    truth = (logits.double() / 0.7).log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    assert torch.allclose(logps[mask].double(), truth[mask], atol=1e-5)


def gradients(policy, ids, attention, mask):
    policy.model.zero_grad()
    logps, _ = completion_logprobs(policy, ids, attention, mask, LogprobOptions())
    logps.sum().backward()
    return {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.requires_grad}


def test_sampling_leaves_gradients_as_they_were(prompts):
    """bitsandbytes repacks 4-bit weights at the first no-grad forward on some CPUs."""
    fresh = load_policy(model_keys("builtin:tiny", device="cpu", lora_r=8))
    with torch.no_grad():
        for name, parameter in fresh.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([prompts[0]])
    attention, mask = torch.ones_like(ids), torch.ones(1, ids.shape[1] - 1, dtype=torch.bool)
    before = gradients(fresh, ids, attention, mask)
    sample(fresh, prompts, n=2, options=SamplingOptions(8), keys_P=[(0,), (1,), (2,)])
    after = gradients(fresh, ids, attention, mask)
    for name, gradient in before.items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(gradient, after[name], rtol=1e-4, atol=1e-6), name


def test_gradient_checkpointing_changes_no_gradient(prompts):
    ids = torch.tensor([prompts[0]])
    attention, mask = torch.ones_like(ids), torch.ones(1, ids.shape[1] - 1, dtype=torch.bool)
    spec = model_keys("builtin:tiny", device="cpu", lora_r=4, lora_dropout=0.0)
    plain = gradients(load_policy(spec), ids, attention, mask)
    saved = model_keys("builtin:tiny", device="cpu", lora_r=4, gradient_checkpointing=True)
    checkpointed = load_policy(saved)
    assert checkpointed.causal_lm.is_gradient_checkpointing
    for name, gradient in gradients(checkpointed, ids, attention, mask).items():
        assert torch.allclose(gradient, plain[name], atol=1e-5), name


def test_adapter_off_is_the_base(prompts):
    spec = model_keys("builtin:tiny", device="cpu", lora_r=8)
    changed = load_policy(spec)
    with torch.no_grad():
        for name, parameter in changed.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    base = load_policy(model_keys("builtin:tiny", device="cpu"))
    ids = torch.tensor([prompts[0]])
    attention, mask = torch.ones_like(ids), torch.ones(1, ids.shape[1] - 1, dtype=torch.bool)
    with torch.no_grad():
        on = completion_logprobs(changed, ids, attention, mask, LogprobOptions())[0]
        with changed.adapter_off():
            off = completion_logprobs(changed, ids, attention, mask, LogprobOptions())[0]
        truth = completion_logprobs(base, ids, attention, mask, LogprobOptions())[0]
    assert torch.equal(off, truth)
    assert not torch.allclose(on, truth, atol=1e-2)


def test_generator_and_scorer(policy):
    chats = [[Message("user", text)] for text in TEXTS]
    generator = PolicyGenerator(policy)
    texts = generator.generate(chats, n=2, max_new_tokens=24, seed=5)
    assert texts == generator.generate(chats, n=2, max_new_tokens=24, seed=5)
    assert [len(t) for t in texts] == [2, 2, 2]
    scores = PolicyScorer(policy, rows=2).score(
        chats, [["3 + 4 = 7. The answer is 7.", "the the the"]] * 3
    )
    assert scores[0][0] > scores[0][1]


@pytest.mark.parametrize("name", ["./no/such/folder", "builtin:small"])
def test_unknown_models_are_refused_in_one_line(name):
    with pytest.raises((ModelError, UsageError)) as error:
        load_policy(model_keys(name, device="cpu"))
    assert "\n" not in str(error.value)


def test_unknown_lora_targets_are_refused():
    spec = model_keys("builtin:tiny", device="cpu", lora_r=4, lora_target_modules=("query",))
    with pytest.raises(UsageError, match="lora_target_modules"):
        load_policy(spec)


def test_memory_that_runs_out_while_sampling_splits_the_batch(policy, prompts, monkeypatch):
    whole, tried = draw_all(policy, prompts), []
    native = ENGINES["native"]

    def short_of_memory(policy, prompts, keys, options):
        tried.append(options.max_rows)
        if options.max_rows > 3:
            raise torch.OutOfMemoryError("out of memory")
        return native.sample(policy, prompts, keys, options)

    monkeypatch.setitem(ENGINES, "native", replace(native, sample=short_of_memory))
    split = draw_all(policy, prompts)
    assert tried == [12, 6, 3]
    assert [[c.token_ids for c in g] for g in split] == [[c.token_ids for c in g] for g in whole]
