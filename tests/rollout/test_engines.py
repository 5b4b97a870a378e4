"""Sampling engines: same keys, same samples; what cannot run says why; seams of unsloth and vLLM.

unsloth and vLLM need a GPU: here stand models and modules with the signatures of theirs (unsloth
2026.10: `model.generate` replaced by `unsloth_fast_generate`, `fast_generate` = `LLM.generate`,
`load_lora(name, load_tensors=True)`).
"""

import contextlib
import gc
import math
import sys
import weakref
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from policies import model_keys, tiny_with_noise

from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.types import Message
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.policy.load import Policy, load_policy
from icpo_lite.rollout.engines import kv_cache, registry
from icpo_lite.rollout.engines.kv_cache import BLOCK, BufferedLayer, buffered_cache
from icpo_lite.rollout.engines.native import moves_forward
from icpo_lite.rollout.engines.prefix_memory import PrefixMemory
from icpo_lite.rollout.engines.registry import ENGINES, choose_engine
from icpo_lite.rollout.noise import SamplingOptions
from icpo_lite.rollout.sampler import sample

TEXTS = (
    "Ann has 3 apples. Ben has 4 apples. How many apples do Ann and Ben have together?",
    "How many figs does Kim have after shopping?",
)


@pytest.fixture(scope="module")
def policy():
    return tiny_with_noise()


@pytest.fixture(scope="module")
def prompts(policy):
    return [policy.encode_chat([Message("user", text)]) for text in TEXTS]


def drawn(policy, prompts, engine, *, keys=None, **options):
    keys = keys or [("engine", p) for p in range(len(prompts))]
    chosen = SamplingOptions(16, engine=engine, **options)
    return [c for g in sample(policy, prompts, n=3, options=chosen, keys_P=keys) for c in g]


def ids_of(completions):
    return [c.token_ids for c in completions]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_p": 0.9, "top_k": 20}])
def test_generate_gives_the_native_samples_and_log_probs(policy, prompts, options):
    native = drawn(policy, prompts, "native", **options)
    other = drawn(policy, prompts, "generate", **options)
    assert ids_of(other) == ids_of(native)
    assert [c.stop_reason for c in other] == [c.stop_reason for c in native]
    for a, b in zip(native, other, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
    assert ids_of(drawn(policy, prompts, "generate", max_rows=2, **options)) == ids_of(native)
    assert len(set(ids_of(native))) > 2


def test_generate_of_prompts_of_one_token(policy):
    prompt = [[5], [7]]
    native, other = drawn(policy, prompt, "native"), drawn(policy, prompt, "generate")
    assert ids_of(other) == ids_of(native)


def test_continuous_repeats_itself_and_leaves_torchs_generator_alone(policy, prompts):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    once = drawn(policy, prompts, "continuous")
    assert torch.equal(torch.get_rng_state(), before)
    assert ids_of(drawn(policy, prompts, "continuous")) == ids_of(once)
    other = drawn(policy, prompts, "continuous", keys=[("x", 0), ("x", 1)])
    assert ids_of(other) != ids_of(once)
    assert policy.causal_lm.config._attn_implementation == "sdpa"
    assert_log_probs_are_the_models(policy, prompts, once)


def assert_log_probs_are_the_models(policy, prompts, replies):
    for i, reply in enumerate(replies):
        prompt = prompts[i // 3]
        with torch.no_grad():
            ids = torch.tensor([[*prompt, *reply.token_ids]])
            logps = policy.causal_lm(input_ids=ids).logits[0].log_softmax(-1)
        truth = logps[len(prompt) - 1 : -1].gather(1, torch.tensor(reply.token_ids)[:, None])
        assert reply.logprobs == pytest.approx(truth.squeeze(1).tolist(), abs=1e-4)


def test_continuous_is_greedy_at_temperature_0_and_knows_no_cut_log_probs(policy, prompts):
    greedy = drawn(policy, prompts, "continuous", temperature=0.0)
    assert ids_of(greedy) == ids_of(drawn(policy, prompts, "native", temperature=0.0))
    cut = drawn(policy, prompts, "continuous", top_k=5)
    assert all(math.isnan(logp) for c in cut for logp in c.logprobs)


def test_continuous_goes_on_with_fewer_pages_than_replies(policy, prompts, monkeypatch):
    from icpo_lite.rollout.engines import continuous

    token = continuous.token_bytes(policy)
    assert token == 2 * 3 * 2 * 32 * 4
    few = 8 * continuous.PAGE_CPU * token / continuous.POOL_SHARE + 1
    monkeypatch.setattr(continuous, "free_bytes", lambda device: few)
    replies = drawn(policy, prompts, "continuous")
    assert len(replies) == 6
    assert all(c.token_ids for c in replies)


def test_continuous_says_that_it_stopped(policy, prompts, monkeypatch):
    # Pages of the wrong shape: its thread dies.
    monkeypatch.setattr(policy.causal_lm.config, "num_key_value_heads", 3)
    with pytest.raises(ModelError, match=r"engine continuous: .*use engine: native"):
        drawn(policy, prompts, "continuous")


def test_adapter_off_reaches_every_engine(policy, prompts):
    for engine in ("native", "generate", "continuous"):
        on = drawn(policy, prompts, engine)
        with policy.adapter_off():
            off = drawn(policy, prompts, engine)
        assert [c.logprobs for c in off] != [c.logprobs for c in on], engine


def test_dense_layers_compute_what_they_stand_for(policy, prompts):
    ids = torch.tensor([prompts[0]])
    with torch.no_grad():
        policy.causal_lm.eval()
        truth = policy.causal_lm(input_ids=ids).logits
        with dense_layers(policy):
            dense = policy.causal_lm(input_ids=ids).logits
            assert "forward" in policy.causal_lm.model.layers[0].mlp.up_proj.__dict__
        with policy.adapter_off():
            base = policy.causal_lm(input_ids=ids).logits
            with dense_layers(policy):
                dense_base = policy.causal_lm(input_ids=ids).logits
    assert torch.allclose(dense, truth, atol=2e-4)
    assert torch.allclose(dense_base, base, atol=2e-4)
    assert not torch.allclose(dense, dense_base, atol=1e-2)
    assert not any("forward" in m.__dict__ for m in policy.causal_lm.modules())


def test_dense_layers_are_for_float32_alone(policy):
    """In 16 bit LoRA stays beside its base: nothing is merged, nothing but LoRA is replaced."""
    half = replace(policy, device=replace(policy.device, dtype=torch.bfloat16))
    with dense_layers(half):
        replaced = [m for m in policy.causal_lm.modules() if "forward" in m.__dict__]
        assert replaced
        assert all(hasattr(m, "lora_A") for m in replaced)
        assert not any(isinstance(m.__dict__["forward"], partial) for m in replaced)
    assert not any("forward" in m.__dict__ for m in policy.causal_lm.modules())


def test_lora_samples_in_16_bit_without_casts_and_follows_each_update():
    """bfloat16 against the same weights in fp32: a half more than the error of fp32 LoRA at most.

    The 16-bit copy rounds more than fp32 LoRA does: over four updates mean errors were 1.05 to 1.11
    times as large, and the bound was set after that. Over LoRA's own effect both are small.
    """
    policy = load_policy(
        model_keys("builtin:tiny", device="cpu", dtype="bfloat16", load_in_4bit=False, lora_r=4)
    )
    policy.set_training(False)
    lora = [p for n, p in policy.model.named_parameters() if "lora_" in n]
    assert {p.dtype for p in lora} == {torch.float32}
    ids = torch.arange(5, 25)[None]
    noise = torch.Generator().manual_seed(0)

    def logps(model=policy.causal_lm):
        return model(input_ids=ids).logits.float().log_softmax(-1)

    with torch.no_grad():
        for _update in range(2):
            for parameter in lora:
                parameter += 0.05 * torch.randn(parameter.shape, generator=noise)
            truth, wide = logps(deepcopy(policy.causal_lm).float()), logps()
            with dense_layers(policy):
                narrow = logps()
            with policy.adapter_off():
                base = logps()
                with dense_layers(policy):
                    assert torch.equal(logps(), base)
            assert not torch.equal(narrow, wide)
            assert (narrow - truth).abs().mean() < 1.5 * (wide - truth).abs().mean()
            assert (narrow - truth).abs().mean() < 0.2 * (base - truth).abs().mean()
    assert {p.dtype for p in lora} == {torch.float32}


def test_buffers_hold_what_concatenation_holds():
    layer, plain = BufferedLayer(), torch.zeros(2, 1, 0, 4)
    noise = torch.Generator().manual_seed(0)
    moves = set()
    for t in range(2 * BLOCK + 3):
        new = torch.randn(plain.shape[0], 1, 5 if t == 0 else 1, 4, generator=noise)
        plain = torch.cat([plain, new], dim=2)
        keys, values = layer.update(new, 2 * new)
        assert torch.equal(keys, plain)
        assert torch.equal(values, 2 * plain)
        moves.add(keys.data_ptr())
        if t == 3:
            layer.batch_repeat_interleave(3)
            plain = plain.repeat_interleave(3, 0)
        if t == 70:
            kept = torch.tensor([0, 4])
            layer.batch_select_indices(kept)
            plain = plain[kept]
    assert len(moves) < 9
    assert layer.get_seq_length() == 2 * BLOCK + 7


def test_rows_are_copied_into_room_that_was_kept():
    noise = torch.Generator().manual_seed(0)
    layer = BufferedLayer()
    for _ in range(2):  # buffers are made with the second token
        layer.update(*torch.randn(2, 5, 2, 3, 4, generator=noise))
    layer.reorder_cache(torch.tensor([4, 0, 2]), spare=2)
    before = layer.keys.clone(), layer.values.clone()
    assert layer.spare_rows() == 2
    place = layer.keys.data_ptr()
    layer.copy_rows(torch.tensor([0, 2]), torch.tensor([1, 3]), 4)
    assert (layer.spare_rows(), layer.keys.data_ptr()) == (1, place)
    for held, was in zip((layer.keys, layer.values), before, strict=True):
        assert torch.equal(held, was[[0, 0, 2, 2]])
    new = torch.randn(2, 4, 2, 1, 4, generator=noise)
    keys, values = layer.update(*new)
    assert torch.equal(keys[:, :, -1:], new[0])
    assert torch.equal(values[:, :, :-1], before[1][[0, 0, 2, 2]])


def test_sliding_layers_keep_transformers_own(policy):
    config = policy.causal_lm.config.__class__(
        num_hidden_layers=2,
        use_sliding_window=True,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
    )
    kinds = [type(layer).__name__ for layer in buffered_cache(config).layers]
    assert kinds == ["DynamicSlidingWindowLayer", "BufferedLayer"]


def test_keys_and_values_are_freed_before_the_backward_pass(policy, prompts, monkeypatch):
    made = []

    def remember(config):
        made.append(weakref.ref(cache := buffered_cache(config)))
        return cache

    monkeypatch.setattr("icpo_lite.rollout.engines.kv_cache.buffered_cache", remember)
    for engine in ("native", "generate"):
        drawn(policy, prompts, engine)
    assert len(made) == 2
    assert [cache() for cache in made] == [None, None]


def live_bytes():
    """Of all storages that a tensor still holds, each counted once."""
    gc.collect()
    storages = [o.untyped_storage() for o in gc.get_objects() if type(o) is torch.Tensor]
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


@pytest.mark.parametrize("length", [40, BLOCK - 2, 2 * BLOCK])
def test_a_cut_frees_what_it_cuts_at_once(policy, length):
    config = policy.causal_lm.config
    cache, noise = buffered_cache(config), torch.Generator().manual_seed(0)
    shape = (12, config.num_key_value_heads, 1, 32)
    for _ in range(length):
        for index in range(config.num_hidden_layers):
            cache.update(*(torch.randn(shape, generator=noise) for _ in "kv"), index)
    for left in (9, 6, 2):
        kept = torch.arange(left)
        rows = [layer.keys[:left].clone() for layer in cache.layers]
        held = sum(2 * layer._buffers[0].nbytes for layer in cache.layers)
        live = [live_bytes()]
        for layer in cache.layers:
            layer.reorder_cache(kept)
            live.append(live_bytes())
        assert live == sorted(live, reverse=True)
        # What was freed are the rows that were cut out, and all of it before the next token.
        after = sum(2 * layer._buffers[0].nbytes for layer in cache.layers)
        assert live[0] - live[-1] == held - after > 0
        for row, layer in zip(rows, cache.layers, strict=True):
            assert torch.equal(layer.keys, row)


def test_live_memory_of_sampling_never_rises_at_a_cut(policy, prompts, monkeypatch):
    seen, taken = [], kv_cache.take_rows

    def measured(cache, rows, **room):
        before, cut = live_bytes(), len(rows) < len(cache.layers[0].keys)
        taken(cache, rows, **room)
        if cut:
            seen.append((before, live_bytes()))

    monkeypatch.setattr(kv_cache, "take_rows", measured)
    keys = [("cut", p) for p in range(len(prompts))]
    sample(policy, prompts, n=16, options=SamplingOptions(48), keys_P=keys)
    assert seen
    assert all(after < before for before, after in seen)


def test_the_longest_prompt_comes_first(policy, prompts, monkeypatch):
    lengths, native = [], ENGINES["native"]

    def seen(policy, prompts, keys, options):
        lengths.extend(map(len, prompts))
        return native.sample(policy, prompts, keys, options)

    monkeypatch.setitem(ENGINES, "native", replace(native, sample=seen))
    drawn(policy, list(reversed(prompts)), "native", max_rows=3)
    assert lengths == sorted(map(len, prompts), reverse=True)


@pytest.mark.parametrize("rows", [1, 2, 5, 7, 16])
def test_ended_rows_are_replaced_and_no_sample_changes(policy, rows):
    """Many prompts of several lengths, an uneven number of replies a row."""
    texts = [f"Ann has {n} apples. {'How many? ' * (n % 4)}" for n in range(9)]
    prompts = [policy.encode_chat([Message("user", text)]) for text in [*texts, texts[2]]]
    keys = [("refill", p) for p in range(len(prompts))]
    # Hot, so that lengths are uneven.
    whole = sample(policy, prompts, n=3, options=SamplingOptions(40, 1.7), keys_P=keys)
    few = SamplingOptions(40, 1.7, max_rows=rows)
    split = sample(policy, prompts, n=3, options=few, keys_P=keys)
    for a, b in zip((c for g in whole for c in g), (c for g in split for c in g), strict=True):
        assert (a.token_ids, a.stop_reason) == (b.token_ids, b.stop_reason)
        assert a.logprobs == pytest.approx(b.logprobs, abs=5e-5)
    assert len({len(c.token_ids) for g in whole for c in g}) > 4


def test_rows_never_stand_idle_while_replies_wait(policy, prompts, monkeypatch):
    lm, passes = policy.causal_lm, []
    forward = lm.forward

    def counted(*args, **kwargs):
        passes.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(lm, "forward", counted)
    keys = [("idle", p) for p in range(2)]
    options = SamplingOptions(48, max_rows=4)
    groups = sample(policy, prompts, n=32, options=options, keys_P=keys)
    tokens = sum(len(c.token_ids) for g in groups for c in g)
    decoded = [rows for rows, width in passes if width == 1]
    # All but each reply's first token; the last replies find nobody to take a free place.
    assert sum(decoded) < 1.1 * (tokens - 64)
    assert sum(width > 1 for _, width in passes) == 2


def test_the_oldest_rows_stand_in_front():
    """In quarters of two: a free place takes the oldest row of the quarters behind its own."""
    assert moves_forward([None, 5, 3, None, 1, 0, 9, 2]) == [(5, 0), (4, 3)]
    assert moves_forward([4, None, 3, 2]) == [(3, 1)]
    assert moves_forward([0, 1, 2, None]) == []
    assert moves_forward([None] * 5) == []


def test_columns_that_no_row_needs_are_dropped(policy, prompts, monkeypatch):
    widths = []
    dropped = kv_cache.drop_columns
    monkeypatch.setattr(
        kv_cache, "drop_columns", lambda cache, n: (widths.append(n), dropped(cache, n))
    )
    options = SamplingOptions(48, max_rows=3)
    keys = [("wide", p) for p in range(2)]
    groups = sample(policy, prompts, n=24, options=options, keys_P=keys)
    whole = sample(policy, prompts, n=24, options=options.but(max_rows=None), keys_P=keys)
    assert widths
    assert [ids_of(g) for g in groups] == [ids_of(g) for g in whole]


@pytest.mark.parametrize("rows", [None, 2])
def test_a_next_turn_is_computed_from_what_was_said(policy, prompts, monkeypatch, rows):
    """Keys and values of a prompt and its reply serve every prompt that begins with them."""
    memory, lm, computed = PrefixMemory(1 << 30), policy.causal_lm, []
    options = SamplingOptions(16, max_rows=rows, memory=memory)
    first = sample(policy, prompts, n=3, options=options, keys_P=[("t0", p) for p in range(2)])
    more = policy.encode_text("Ben gives Ann 2 apples.")
    nexts = [(*prompts[p], *c.token_ids, *more) for p, g in enumerate(first) for c in g]
    keys = [("t1", i) for i in range(len(nexts))]
    plain = sample(policy, nexts, n=2, options=SamplingOptions(16), keys_P=keys)
    forward = lm.forward
    monkeypatch.setattr(
        lm,
        "forward",
        lambda *args, **kw: computed.append(kw["input_ids"].shape[1]) or forward(*args, **kw),
    )
    known = sample(policy, nexts, n=2, options=options, keys_P=keys)
    assert [ids_of(g) for g in known] == [ids_of(g) for g in plain]
    for a, b in zip((c for g in known for c in g), (c for g in plain for c in g), strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=5e-5)
    # What is new and the reply's last token, which was drawn and never computed.
    assert max(computed) == len(more) + 1


def test_a_memory_forgets_the_oldest_and_knows_the_longest_beginning():
    memory, states = PrefixMemory(3 * 4 * 10), torch.zeros(1, 1, 10, 1)
    memory.add((1, 2), (3, 4), states)
    memory.add((1, 2), (3, 5), states)
    assert memory.longest((1, 2, 3, 5, 9))[0] == 4
    assert memory.longest((1, 2, 3, 6, 9))[0] == 3
    assert memory.longest((1, 2))[0] == 0  # a prompt's last token is always computed
    assert memory.longest((1, 2, 3))[0] == 2
    assert memory.longest((2, 2, 3)) == (0, None)
    memory.add((1, 2), (3, 5), states)  # known already
    memory.add((7,), (8,), states)
    assert memory.longest((7, 8, 9))[0] == 2
    memory.add((9,), (8,), states)
    assert memory.longest((1, 2, 3, 5, 9)) == (0, None)
    assert memory.longest((7, 8, 9))[0] == 2


# -- the choice ----------------------------------------------------------------------------------


def test_auto_on_a_cpu_is_native(policy, prompts):
    chosen, why = choose_engine(policy, "auto", prompts, SamplingOptions(8))
    assert (chosen, why) == ("native", "native, the only one that suits this machine")


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({"native": 100.0, "generate": 60.0, "continuous": 350.0}, "continuous"),
        ({"native": 100.0, "generate": 110.0, "continuous": 115.0}, "native"),
        ({"native": 100.0, "generate": 130.0, "continuous": "does not fit"}, "generate"),
    ],
)
def test_auto_takes_the_fastest_by_a_margin(policy, prompts, monkeypatch, speeds, chosen):
    on_gpu = SimpleNamespace(torch_device=SimpleNamespace(type="cuda"))
    monkeypatch.setattr(registry, "_rate", lambda p, name, *_: speeds[name])
    gpu = SimpleNamespace(
        device=on_gpu, causal_lm=policy.causal_lm, model=policy.model, backend=policy.backend
    )
    name, why = choose_engine(gpu, "auto", prompts, SamplingOptions(8))
    assert name == chosen
    assert why.startswith(f"{chosen} (tokens a second of 256 replies of 8 tokens: {chosen} ")
    assert "\n" not in why
    assert all(other in why for other in speeds)


class Clock:
    """A clock that engines move; nothing else takes time."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(registry.time, "perf_counter", lambda: self.now)

    def engine(self, start, a_token):
        """An engine whose call takes `start` seconds and `a_token` for a token of all its rows."""

        def sample(policy, prompts, keys, options):
            assert options.ignore_eos
            self.calls.append((len(keys), options.max_new_tokens))
            self.now += start + a_token * options.max_new_tokens
            return []

        return registry.Engine(sample, lambda policy: None)


def test_a_slow_start_is_no_reason_against_three_times_the_speed(policy, prompts, monkeypatch):
    clock = Clock(monkeypatch)
    engines = {"native": clock.engine(0.1, 0.06), "continuous": clock.engine(2.0, 0.02)}
    monkeypatch.setattr(registry, "ENGINES", engines)
    gpu = SimpleNamespace(device=SimpleNamespace(torch_device=SimpleNamespace(type="cuda")))
    monkeypatch.setattr(registry, "wide_logits", lambda policy: contextlib.nullcontext())
    long = SamplingOptions(512, max_rows=64)
    name, why = choose_engine(gpu, "auto", prompts, long)
    assert name == "continuous"
    # 64 x 512 tokens in 2 + 10.24 seconds and in 0.1 + 30.72.
    assert why == (
        "continuous (tokens a second of 64 replies of 512 tokens: continuous 2,677, native 1,063)"
    )
    assert {rows for rows, _ in clock.calls} == {64}
    # Where replies are short the start decides.
    assert choose_engine(gpu, "auto", prompts, long.but(max_new_tokens=20))[0] == "native"


def test_a_job_is_on_the_line_through_two_calls():
    assert registry.job_seconds((8, 40), (1.0, 1.8), 512) == pytest.approx(0.8 + 0.025 * 512)
    # The shorter call was the slower one: noise, not free tokens.
    assert registry.job_seconds((8, 40), (2.0, 1.8), 512) == pytest.approx(1.62 + 0.0045 * 512)
    assert registry.job_seconds((4, 4), (1.0, 1.0), 4) == 1.0


def test_an_engine_that_fails_is_said_and_passed_over(policy, prompts, monkeypatch):
    def broken(*_):
        raise RuntimeError("no kernel image\nfor this device")

    monkeypatch.setitem(ENGINES, "generate", replace(ENGINES["generate"], sample=broken))
    said = registry._rate(policy, "generate", prompts, SamplingOptions(4))
    assert said == "failed: no kernel image"
    monkeypatch.setitem(ENGINES, "native", replace(ENGINES["native"], sample=broken))
    with pytest.raises(RuntimeError, match="no kernel"):
        registry._rate(policy, "native", prompts, SamplingOptions(4))
    speed = registry._rate(policy, "continuous", prompts, SamplingOptions(4))
    assert speed > 0


@pytest.mark.parametrize(("name", "why"), [("unsloth", "unsloth"), ("vllm", "use_vllm")])
def test_an_engine_that_cannot_run_is_refused(policy, prompts, name, why):
    with pytest.raises(UsageError, match=f"engine: {name} cannot run here: .*{why}") as error:
        choose_engine(policy, name, prompts, SamplingOptions(8))
    assert "\n" not in str(error.value)


# -- the seams of unsloth and vLLM ---------------------------------------------------------------


def test_unsloth_generates_in_training_mode_with_keyed_noise(policy, prompts, monkeypatch):
    """It restores gradient checkpointing only in a model that was training."""
    lm, seen = policy.causal_lm, []
    plain = lm.generate

    def unsloth_fast_generate(*args, **kwargs):
        seen.append(lm.training)
        lm.eval()
        try:
            return plain(*args, **kwargs)
        finally:
            lm.train(seen[-1])

    monkeypatch.setattr(lm, "generate", unsloth_fast_generate)
    assert ENGINES["unsloth"].unfit(policy) is None
    assert ids_of(drawn(policy, prompts, "unsloth")) == ids_of(drawn(policy, prompts, "native"))
    assert seen == [True]


@dataclass
class SamplingParams:
    """vLLM's, as far as it is used; an unknown field is an error, as there."""

    n: int = 1
    seed: int | None = None
    max_tokens: int | None = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    logprobs: int | None = None
    stop_token_ids: list[int] | None = field(default_factory=list)
    detokenize: bool = True
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_p: float = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False


class FakeVllm:
    """`unsloth`'s model with an engine, replies made of the seed."""

    def __init__(self, policy, mode="processed_logprobs", **config):
        config = SimpleNamespace(logprobs_mode=mode, **config)
        engine = SimpleNamespace(vllm_config=SimpleNamespace(model_config=config))
        self.slept = []
        self.vllm_engine = SimpleNamespace(
            llm_engine=engine, sleep=lambda level=1: self.slept.append((level, len(self.calls)))
        )
        self.policy, self.calls, self.loras = policy, [], []

    def modules(self):
        return self.policy.model.modules()

    def load_lora(self, save_directory, load_tensors=False, lora_request_id=None):
        assert load_tensors
        self.loras.append(save_directory)
        return f"lora {len(self.loras)}"

    def fast_generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        assert not use_tqdm
        self.calls.append((prompts, sampling_params, lora_request))
        end = min(self.policy.end_ids)
        outputs = []
        for prompt, params in zip(prompts, sampling_params, strict=True):
            ids = [10 + params.seed % 50, 10 + len(prompt["prompt_token_ids"]), end]
            ids = ids[: 2 + params.seed % 2]
            logprobs = [{i: SimpleNamespace(logprob=-0.25)} for i in ids]
            one = SimpleNamespace(token_ids=tuple(ids), logprobs=logprobs, finish_reason="stop")
            outputs.append(SimpleNamespace(outputs=[one]))
        return outputs


@pytest.fixture
def vllm(policy, monkeypatch):
    module = ModuleType("vllm")
    module.SamplingParams = SamplingParams
    module.__spec__ = SimpleNamespace(name="vllm")
    monkeypatch.setitem(sys.modules, "vllm", module)

    class WithVllm(Policy):
        causal_lm = property(lambda self: policy.causal_lm)

    def make(**options):
        values = {f.name: getattr(policy, f.name) for f in fields(policy)}
        return WithVllm(**{**values, "model": FakeVllm(policy, **options)})

    return make


def test_vllm_gets_a_seed_for_each_reply_and_the_live_adapter(policy, prompts, vllm):
    served = vllm()
    assert ENGINES["vllm"].unfit(served) is None
    replies = drawn(served, prompts, "vllm", temperature=0.7)
    requests, params, lora = served.model.calls[0]
    order = sorted(prompts, key=len, reverse=True)
    assert [r["prompt_token_ids"] for r in requests] == [list(p) for p in order for _ in range(3)]
    assert len({p.seed for p in params}) == 6
    assert {(p.max_tokens, p.temperature, p.logprobs) for p in params} == {(16, 0.7, 0)}
    assert params[0].stop_token_ids == sorted(policy.end_ids)
    assert lora == "lora 1"
    assert {c.stop_reason for c in replies} <= {"eos", "length"}
    for c in replies:
        assert c.logprobs == (-0.25,) * len(c.token_ids)
        assert (c.stop_reason == "eos") == (c.token_ids[-1] in policy.end_ids)
    # A prompt on its own gets the replies that it got beside others.
    again = drawn(served, prompts[:1], "vllm", temperature=0.7)
    assert ids_of(again) == ids_of(replies)[:3]
    # What unsloth writes for it lies in no folder of the user's.
    assert all(Path(place).is_absolute() for place in served.model.loras)
    assert not any(Path.cwd() in Path(place).parents for place in served.model.loras)
    with policy.adapter_off():
        drawn(served, prompts, "vllm")
    assert served.model.calls[-1][2] is None


def test_vllm_gives_its_memory_to_the_update_where_the_recipe_asks(prompts, vllm):
    """Awake it keeps its keys and values; asleep after each call, unsloth wakes it at the next."""
    awake, asleep = vllm(), vllm(enable_sleep_mode=True)
    for served in (awake, asleep):
        drawn(served, prompts, "vllm")
        drawn(served, prompts, "vllm")
    assert awake.model.slept == []
    assert asleep.model.slept == [(1, 1), (1, 2)]


def test_vllm_with_room_for_fewer_tokens_shortens_what_may_be_asked(policy, vllm):
    assert vllm(max_model_len=100).max_positions == 100
    assert vllm().max_positions == policy.max_positions > 100


@pytest.mark.parametrize(
    ("mode", "options", "known"),
    [
        ("processed_logprobs", {"temperature": 0.7}, True),
        ("processed_logprobs", {"top_p": 0.9}, False),
        ("raw_logprobs", {}, True),
        ("raw_logprobs", {"top_p": 0.9}, True),
        ("raw_logprobs", {"temperature": 0.7}, False),
        ("raw_logits", {}, False),
    ],
)
def test_log_probs_of_vllm_that_are_not_those_of_training_are_unknown(
    prompts, vllm, mode, options, known
):
    replies = drawn(vllm(mode=mode), prompts, "vllm", **options)
    assert all(math.isnan(x) != known for c in replies for x in c.logprobs)
