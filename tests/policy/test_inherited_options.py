"""A checkpoint's own options: whatever its files hold, replies are drawn as training computes."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from model_families import BOS, END, EOS, PAD, save_family
from policies import model_keys
from test_engines import SamplingParams
from transformers import GenerationConfig

from icpo_lite.core.types import Message
from icpo_lite.policy.inherited_options import generation_config
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs
from icpo_lite.rollout.engines.registry import ENGINES
from icpo_lite.rollout.noise import SamplingOptions
from icpo_lite.rollout.sampler import sample
from icpo_lite.rollout.streaming import stream_reply
from icpo_lite.tools.export.parity import greedy

#: What instruct models ship (repetition_penalty, top_k, top_p, temperature), and worse.
HOSTILE = {
    "do_sample": True,
    "temperature": 0.3,
    "top_k": 3,
    "top_p": 0.5,
    "min_p": 0.2,
    "typical_p": 0.5,
    "epsilon_cutoff": 0.01,
    "repetition_penalty": 1.5,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 9,
    "suppress_tokens": list(range(40, 120)),
    "begin_suppress_tokens": list(range(120, 200)),
    "bad_words_ids": [[65], [66]],
    "sequence_bias": [[[67], -20.0]],
    "forced_bos_token_id": 20,
    "forced_eos_token_id": 21,
    "exponential_decay_length_penalty": [2, 1.5],
    "renormalize_logits": True,
    "num_return_sequences": 2,
    "max_time": 1e-9,
    "bos_token_id": BOS,
    "eos_token_id": [EOS, END],
    "pad_token_id": PAD,
}
TEXTS = ("How many?", "Ann has 3 apples and Ben has 4 more.")
#: Each engine's own name; unsloth's stands on the `generate` that it puts into a model.
LOCAL = ("native", "generate", "continuous", "unsloth")


def loaded(folder):
    policy = load_policy(model_keys(str(folder), device="cpu", load_in_4bit=False, lora_r=4))
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=noise)
    return policy


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    plain, hostile = (
        save_family(tmp_path_factory.mktemp(name), "qwen2", scale=2.0)
        for name in ("plain", "hostile")
    )
    (hostile / "generation_config.json").write_text(json.dumps(HOSTILE))
    return plain, hostile


@pytest.fixture(scope="module")
def plain(folders):
    return loaded(folders[0])


@pytest.fixture(params=["on disk", "in memory"])
def hostile(request, folders):
    """Options that lie in the folder, or that somebody gives to the loaded model."""
    if request.param == "on disk":
        return loaded(folders[1])
    policy = loaded(folders[0])
    policy.causal_lm.generation_config = GenerationConfig(**HOSTILE)
    return policy


def patch_generate(policy, monkeypatch):
    lm = policy.causal_lm
    own = lm.generate

    def unsloth_fast_generate(*args, **kwargs):
        return own(*args, **kwargs)

    monkeypatch.setattr(lm, "generate", unsloth_fast_generate)


def drawn(policy, engine, **options):
    prompts = [policy.encode_chat([Message("user", text)]) for text in TEXTS]
    chosen = SamplingOptions(12, engine=engine, **options)
    keys = [("hostile", p) for p in range(len(prompts))]
    replies = sample(policy, prompts, n=3, options=chosen, keys_P=keys)
    return [(p, c) for p, group in zip(prompts, replies, strict=True) for c in group]


def trained_logprobs(policy, prompt, reply, temperature):
    ids = torch.tensor([[*prompt, *reply.token_ids]])
    mask = torch.zeros(1, ids.shape[1] - 1, dtype=torch.bool)
    mask[:, len(prompt) - 1 :] = True
    options = LogprobOptions(temperature)
    with torch.no_grad():
        logps, _ = completion_logprobs(policy, ids, torch.ones_like(ids), mask, options)
    return logps[mask]


@pytest.mark.parametrize("engine", LOCAL)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_of_sampling_are_those_of_training(
    engine, temperature, hostile, plain, monkeypatch
):
    if engine == "unsloth":
        patch_generate(hostile, monkeypatch)
    assert ENGINES[engine].unfit(hostile) is None
    replies = drawn(hostile, engine, temperature=temperature)
    for prompt, reply in replies:
        wanted = trained_logprobs(hostile, prompt, reply, temperature)
        assert torch.allclose(torch.tensor(reply.logprobs), wanted, atol=1e-4)
    # And the samples are those that the same weights give without such a file.
    other = "native" if engine == "unsloth" else engine
    assert [c.token_ids for _, c in replies] == [
        c.token_ids for _, c in drawn(plain, other, temperature=temperature)
    ]


@pytest.mark.parametrize("engine", LOCAL)
def test_greedy_is_the_likeliest_token_each_time(engine, hostile, monkeypatch):
    if engine == "unsloth":
        patch_generate(hostile, monkeypatch)
    for prompt, reply in drawn(hostile, engine, temperature=0.0)[::3]:
        ids = torch.tensor([[*prompt, *reply.token_ids]])
        logits = hostile.causal_lm(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        assert logits.argmax(-1).tolist() == list(reply.token_ids)


def test_parity_and_chat_take_none_of_them(hostile, plain):
    chat = [Message("user", TEXTS[1])]
    prompt = plain.encode_chat(chat)
    assert greedy(hostile, prompt) == greedy(plain, prompt)
    for temperature in (0.0, 1.0):
        options = SamplingOptions(12, temperature)
        said = [
            stream_reply(p, chat, options, ("a",), lambda piece: None) for p in (hostile, plain)
        ]
        assert said[0] == said[1]


def test_vllm_is_told_everything(plain, monkeypatch):
    """It would take the checkpoint's defaults only for what a request leaves open."""
    seen = []
    module = ModuleType("vllm")
    module.SamplingParams = SamplingParams
    module.__spec__ = SimpleNamespace(name="vllm")
    monkeypatch.setitem(sys.modules, "vllm", module)

    def fast_generate(prompts, sampling_params, **kwargs):
        seen.extend(sampling_params)
        one = SimpleNamespace(token_ids=(EOS,), logprobs=[{EOS: SimpleNamespace(logprob=-1.0)}])
        return [SimpleNamespace(outputs=[one]) for _ in prompts]

    model = plain.model
    monkeypatch.setattr(model, "vllm_engine", SimpleNamespace(), raising=False)
    monkeypatch.setattr(model, "fast_generate", fast_generate, raising=False)
    monkeypatch.setattr(model, "load_lora", lambda *a, **k: None, raising=False)
    drawn(plain, "vllm", temperature=0.7)
    neutral = {
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "min_p": 0.0,
        "min_tokens": 0,
        "top_p": 1.0,
        "top_k": -1,
        "temperature": 0.7,
    }
    assert {tuple(getattr(p, name) for name in neutral) for p in seen} == {tuple(neutral.values())}


def test_a_complete_configuration_is_filled_from_nowhere():
    chosen = generation_config(max_new_tokens=5, eos_token_id=[1], pad_token_id=0)
    before = chosen.to_dict()
    chosen.update(**HOSTILE, defaults_only=True, allow_custom_entries=True)
    assert chosen.to_dict() == before


def test_the_bases_own_dropout_and_router_noise_are_off(tmp_path):
    """With them, training would compute log-probs of other models than the one that sampled."""
    folder = save_family(tmp_path, "phi")
    config = json.loads((folder / "config.json").read_text())
    config |= {"attention_dropout": 0.3, "resid_pdrop": 0.3, "embd_pdrop": 0.3}
    (folder / "config.json").write_text(json.dumps(config))
    policy = loaded(folder)
    assert any("dropout" in note for note in policy.notes)
    prompt = policy.encode_chat([Message("user", TEXTS[0])])
    ids = torch.tensor([prompt])
    mask = torch.ones(1, len(prompt) - 1, dtype=torch.bool)
    rows = [
        completion_logprobs(policy, ids, torch.ones_like(ids), mask, LogprobOptions())[0]
        for _ in range(2)
    ]
    assert torch.equal(*rows)
    with torch.no_grad():
        evaluated, _ = completion_logprobs(
            policy, ids, torch.ones_like(ids), mask, LogprobOptions()
        )
    assert torch.allclose(rows[0], evaluated, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen2", "qwen3-moe", "gemma3-vision"])
def test_what_somebody_looked_into_is_not_kept_of_every_pass(family, tmp_path):
    """Hidden states, router logits and bare tuples, asked for in config.json."""
    save_family(tmp_path, family)
    file = tmp_path / "config.json"
    asked = {"output_hidden_states": True, "output_router_logits": True, "return_dict": False}
    config = json.loads(file.read_text())
    config |= asked
    if "text_config" in config:
        config["text_config"] |= asked
    file.write_text(json.dumps(config))
    policy = loaded(tmp_path)
    ids = torch.tensor([policy.encode_chat([Message("user", TEXTS[0])])])
    out = policy.causal_lm(input_ids=ids)
    assert out.hidden_states is None
    assert getattr(out, "router_logits", None) is None
    logps, _ = completion_logprobs(
        policy, ids, torch.ones_like(ids), torch.ones_like(ids[:, 1:]).bool(), LogprobOptions()
    )
    own = out.logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    assert torch.allclose(logps, own, atol=1e-4)
