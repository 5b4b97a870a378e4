"""A group's prompt computed once: the numbers of the plain way, gradients included."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from policies import model_keys
from transformers import AutoConfig, AutoModelForCausalLM

from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.types import Message
from icpo_lite.policy.load import ProvenOp, load_policy
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs
from icpo_lite.policy.prompt_packing import PREFIX, pack, why_not_shared
from icpo_lite.rollout.sampler import SamplingOptions, sample
from icpo_lite.training import prompt_sharing
from icpo_lite.training.prompt_sharing import choose_sharing

PLAIN, SHARED = LogprobOptions(), LogprobOptions(shared_prompts=True)
TEXTS = (
    "Ann has 3 apples. Ben has 4 apples. How many apples do Ann and Ben have together?",
    "How many figs does Kim have after shopping? Kim has 12 figs.",
)
SMALL = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
WINDOWS = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = {
    "llama": {},
    "qwen3": {},
    "phi3": {"sliding_window": 6},
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, **WINDOWS},
    "gemma2": WINDOWS,
    "gemma3_text": WINDOWS,
}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "checkpointed"])
def policy(request):
    spec = model_keys("builtin:tiny", device="cpu", lora_r=8, gradient_checkpointing=request.param)
    loaded = load_policy(spec)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02, generator=noise)
    return loaded


def rows_of(prompts, replies, pad=0):
    """ids, attention and loss mask of prompt + reply, filled up on the right."""
    rows = [[*p, *r] for p, r in zip(prompts, replies, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    starts = torch.tensor([len(p) for p in prompts])[:, None]
    mask = (torch.arange(1, width)[None] >= starts) & attention[:, 1:].bool()
    return ids, attention, mask


def sampled_batch(policy):
    prompts = [policy.encode_chat([Message("user", text)]) for text in TEXTS]
    groups = sample(policy, prompts, n=4, options=SamplingOptions(24), keys_P=[("a",), ("b",)])
    flat = [(p, c.token_ids) for p, group in zip(prompts, groups, strict=True) for c in group]
    return rows_of([p for p, _ in flat], [ids for _, ids in flat])


def outcome(policy, batch, options):
    policy.model.zero_grad()
    logps, entropy = completion_logprobs(policy, *batch, options)
    factors = torch.linspace(-1, 1, logps.numel()).view_as(logps)
    (logps * factors).sum().backward()
    gradients = {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.requires_grad}
    return logps.detach(), entropy.detach(), gradients


def assert_same(policy, batch):
    logps, entropy, gradients = outcome(policy, batch, PLAIN)
    shared_logps, shared_entropy, shared_gradients = outcome(policy, batch, SHARED)
    assert torch.allclose(shared_logps, logps, atol=1e-5)
    assert torch.allclose(shared_entropy, entropy, atol=1e-5)
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        assert torch.allclose(shared_gradients[name], gradient, atol=1e-5 * max(scale, 1.0)), name
    return logps


def test_log_probs_and_every_gradient_equal_the_plain_way(policy):
    batch = sampled_batch(policy)
    logps = assert_same(policy, batch)
    assert float(logps[batch[2]].std()) > 0.1


def test_a_part_of_a_group_rows_without_loss_and_user_turns(policy):
    ids, attention, mask = sampled_batch(policy)
    mask[2] = False  # a truncated row that is left out of the loss
    mask[4] = False
    mask[4, 40:42] = attention[4, 41:43].bool()  # a later turn only
    first = int(mask[1].int().argmax())
    mask[1, first + 2 : first + 4] = False  # what the user said in between
    chosen = torch.tensor([1, 2, 3, 4, 6])
    assert_same(policy, (ids[chosen], attention[chosen], mask[chosen]))
    nothing = torch.zeros_like(mask)
    logps, _ = completion_logprobs(policy, ids, attention, nothing, SHARED)
    assert not logps.any()


def test_a_decoder_that_runs_twice_is_no_other_model(policy, monkeypatch):
    """As `half` does where float16 overflows: the same input is computed once more."""
    decoder = policy.causal_lm.get_decoder()
    inner = decoder.forward

    def twice(*args, **kwargs):
        inner(*args, **kwargs)
        return inner(*args, **kwargs)

    batch = sampled_batch(policy)
    once, _ = completion_logprobs(policy, *batch, SHARED)
    monkeypatch.setattr(decoder, "forward", twice)
    again, _ = completion_logprobs(policy, *batch, SHARED)
    assert torch.equal(once, again)


def test_replies_of_one_token(policy):
    assert_same(policy, rows_of([[5, 6, 7]] * 3, [[8], [9], [10]]))


def test_the_packed_row_holds_each_prompt_once():
    ids, _, mask = rows_of([[3, 4]] * 2 + [[5, 6, 7]], [[8, 9, 1], [8, 1], [9, 9, 1]])
    layout = pack(ids, mask)
    # The last token of a reply predicts nothing, so it is left out.
    assert layout.input_ids.tolist() == [[3, 4, 5, 6, 7, 8, 9, 8, 9, 9]]
    assert layout.position_ids.tolist() == [[0, 1, 0, 1, 2, 2, 3, 2, 3, 4]]
    assert layout.owner.tolist() == [0, 0, 1]
    assert layout.kept.tolist() == [1, 5, 6, 1, 7, 4, 8, 9]


def test_sampling_and_plain_passes_use_the_loaded_attention(policy):
    config = policy.causal_lm.config
    batch = sampled_batch(policy)
    outcome(policy, batch, SHARED)
    assert config._attn_implementation == PREFIX + "sdpa"
    sampled_batch(policy)
    assert config._attn_implementation == "sdpa"
    outcome(policy, batch, SHARED)
    outcome(policy, batch, PLAIN)
    assert config._attn_implementation == "sdpa"


def small_policy(family, attention):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SMALL, **FAMILIES[family]})
    lm = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    lm.get_output_embeddings().weight.requires_grad_(False)
    if getattr(config, "tie_word_embeddings", False):
        lm.get_input_embeddings().weight.requires_grad_(False)
    return SimpleNamespace(
        causal_lm=lm,
        model=lm,
        backend=SimpleNamespace(name="transformers"),
        op=ProvenOp("torch"),
        set_training=lm.train,
    )


@pytest.mark.parametrize(
    ("family", "attention"),
    # transformers' Gemma 2 has no sdpa: its scores have a soft cap.
    [(f, a) for f in FAMILIES for a in ("sdpa", "eager") if (f, a) != ("gemma2", "sdpa")],
)
def test_families_windows_and_soft_caps(family, attention):
    """Windows are shorter than the prompts, so that they act inside and across them."""
    policy = small_policy(family, attention)
    assert why_not_shared(policy) is None
    noise = torch.Generator().manual_seed(1)
    long, short = torch.randint(3, 61, (9,), generator=noise).tolist(), [5, 9, 7]
    replies = [torch.randint(3, 61, (n,), generator=noise).tolist() for n in (7, 2, 5, 8, 1)]
    assert_same(policy, rows_of([long, long, long, short, short], replies))


def test_a_model_that_does_not_attend_through_the_interface_is_refused():
    policy = small_policy("llama", "eager")
    layer = policy.causal_lm.model.layers[0].self_attn
    layer.forward = lambda hidden_states, **_: (hidden_states, None)
    with pytest.raises(ModelError, match=r"expected 2 layers .* found 1; set share_prompts: false"):
        completion_logprobs(policy, *rows_of([[3, 4]] * 2, [[5, 6], [7, 8]]), SHARED)


def test_what_cannot_be_shared_says_why():
    policy = small_policy("llama", "eager")
    policy.causal_lm.config.layer_types = ["full_attention", "chunked_attention"]
    assert "chunked_attention" in why_not_shared(policy)
    policy = small_policy("gemma2", "eager")
    policy.causal_lm.config._attn_implementation = "flash_attention_2"
    assert "soft cap" in why_not_shared(policy)


# -- the choice ----------------------------------------------------------------------------------


def choice(policy, wanted, rows=4):
    prompt = policy.encode_chat([Message("user", TEXTS[0])])
    return choose_sharing(policy, wanted, prompt, rows=rows, length=12, options=PLAIN)


def test_auto_shares_where_it_was_faster_and_says_so(policy, monkeypatch):
    state = torch.get_rng_state()
    monkeypatch.setattr(prompt_sharing, "_gain", lambda *_: 3.0)
    assert choice(policy, "auto") == (True, "computed once for a group, 3.0 times as fast here")
    monkeypatch.setattr(prompt_sharing, "_gain", lambda *_: 0.5)
    share, why = choice(policy, "auto")
    assert not share
    assert why == "computed for each response: once for a group is 0.5 times as fast"
    assert choice(policy, True)[0]
    assert choice(policy, False) == (False, "computed for each response")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in policy.trainable())


def test_on_a_cpu_tokens_decide_so_that_a_resumed_run_chooses_alike(policy):
    prompt = len(policy.encode_chat([Message("user", TEXTS[0])]))
    gain = 4 * (prompt + 12) / (prompt + 4 * 11)
    assert choice(policy, "auto")[1] == f"computed once for a group, {gain:.1f} times as fast here"
    batch = sampled_batch(policy)
    assert all(seconds > 0 for seconds in prompt_sharing._seconds(policy, batch, PLAIN))


def test_auto_leaves_it_where_it_cannot_or_would_change_the_run(policy, monkeypatch):
    assert "a micro-batch holds one response" in choice(policy, "auto", rows=1)[1]
    dropping = replace(policy, keys=policy.keys.but(lora_dropout=0.1))
    assert "lora_dropout" in choice(dropping, "auto")[1]
    monkeypatch.setattr(prompt_sharing, "why_not_shared", lambda _: "no such attention")
    assert choice(policy, "auto") == (False, "computed for each response: no such attention")
    with pytest.raises(UsageError, match="share_prompts: this run cannot: no such attention"):
        choice(policy, True)


def test_log_probs_that_differ_are_not_trusted(policy, monkeypatch):
    monkeypatch.setitem(prompt_sharing.TOLERANCE, torch.float32, -1.0)
    share, why = choice(policy, "auto")
    assert not share
    assert "log-probs differ by" in why
