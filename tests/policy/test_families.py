"""Text decoders of transformers: our log-probs are the model's own, and chats are written right."""

import pytest
import torch
from model_families import (
    CONFIGS,
    DROPS_SYSTEM,
    END,
    EOS,
    NO_SYSTEM,
    PAD,
    save_family,
    save_tokenizer,
)
from policies import model_keys
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from icpo_lite.core.errors import ModelError
from icpo_lite.core.types import Completion, Group, Intent, Message, Prompt, Trajectory, Turn
from icpo_lite.policy.chat_template import with_template_roles
from icpo_lite.policy.load import load_policy, load_tokenizer
from icpo_lite.policy.logprobs import LogprobOptions, check_impl, completion_logprobs
from icpo_lite.rollout.sampler import SamplingOptions, sample
from icpo_lite.training.batch import collate

CHATS = ("How many?", "Ann has 3 apples and Ben has 4 more.")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(family):
        if family not in made:
            made[family] = save_family(tmp_path_factory.mktemp(family), family)
        return made[family]

    return folder


def load(folder, **changes):
    options = {"load_in_4bit": False, "lora_r": 4, "device": "cpu"} | changes
    policy = load_policy(model_keys(str(folder), **options))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=generator)
    return policy


def draw(policy, n=2, length=12):
    prompts = [policy.encode_chat([Message("user", text)]) for text in CHATS]
    keys = [("family", i) for i in range(len(prompts))]
    options = SamplingOptions(max_new_tokens=length)
    return prompts, sample(policy, prompts, n=n, options=options, keys_P=keys)


def group_of(prompt_ids, replies):
    prompt = Prompt("p", "p", "math", Intent.COMPLETE, (Message("user", "Hi"),), "1")
    turns = [Turn("assistant", r.text, r.token_ids, r.logprobs, r.stop_reason) for r in replies]
    rows = tuple(Trajectory(prompt, prompt_ids, (turn,)) for turn in turns)
    return Group(prompt, rows, (0.0,) * len(rows))


@pytest.mark.parametrize("family", CONFIGS)
def test_log_probs_and_lora_gradients_are_those_of_the_models_own_logits(family, folders):
    policy = load(folders(family))
    prompts, replies = draw(policy)
    rows = [[*p, *r.token_ids] for p, g in zip(prompts, replies, strict=True) for r in g]
    starts = [len(p) for p, g in zip(prompts, replies, strict=True) for _ in g]
    width = max(map(len, rows))
    ids = torch.tensor([row + [policy.pad_id] * (width - len(row)) for row in rows])
    attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    places = torch.arange(1, width)
    mask = (places >= torch.tensor(starts)[:, None]) & attention[:, 1:].bool()

    def gradients(logps):
        policy.model.zero_grad()
        weights = torch.linspace(-1, 1, int(mask.sum()))
        (logps[mask] * weights).sum().backward()
        return {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.requires_grad}

    ours, entropy = completion_logprobs(policy, ids, attention, mask, LogprobOptions(0.9))
    own = gradients(ours)
    # The model's own forward, in evaluation mode: some wrappers want more inputs in training.
    policy.model.eval()
    logits = policy.causal_lm(input_ids=ids, attention_mask=attention).logits[:, :-1]
    spread = (logits.float() / 0.9).log_softmax(-1)
    truth = spread.gather(-1, ids[:, 1:, None]).squeeze(-1)
    assert torch.allclose(ours[mask], truth[mask], atol=2e-5)
    assert torch.allclose(entropy[mask], -(spread.exp() * spread).sum(-1)[mask], atol=1e-4)
    wanted = gradients(truth)
    assert any("lora_A" in n for n in wanted)
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(own[name], gradient, rtol=1e-3, atol=1e-5), name

    # What sampling saw, with a KV cache, is what training sees.
    with torch.no_grad():
        ours, _ = completion_logprobs(policy, ids, attention, mask, LogprobOptions())
    seen = [r.logprobs for g in replies for r in g]
    for row, kept, logprobs in zip(ours, mask, seen, strict=True):
        assert torch.allclose(row[kept], torch.tensor(logprobs), atol=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "gemma3-vision", "phi"])
def test_the_check_at_the_start_of_a_run_passes(family, folders):
    policy = load(folders(family))
    impl, _ = check_impl(policy, policy.encode_chat([Message("user", CHATS[1])]))
    assert impl in ("torch", "triton")


def test_of_a_model_that_also_sees_the_text_decoder_alone_learns(folders):
    policy = load(folders("gemma3-vision"))
    names = [n for n, p in policy.model.named_parameters() if p.requires_grad]
    assert len(names) == 2 * 7 * 2
    assert all(".language_model." in n and "lora_" in n for n in names)
    assert any("text decoder alone" in note for note in policy.notes)
    assert policy.max_positions == 1024


# -------------------------------------------------------------------------------------- chats


def chat(folder, template, **special):
    save_tokenizer(folder, template, **special)
    tokenizer = load_tokenizer(str(folder))
    turns = with_template_roles(tokenizer, [Message("system", "Be brief."), Message("user", "Hi")])
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def test_a_template_without_a_system_turn_gets_its_text_in_the_users(tmp_path):
    wanted = "<|user|>Be brief.\n\nHi<end>\n<|assistant|>"
    assert chat(tmp_path, NO_SYSTEM) == wanted
    assert chat(tmp_path, DROPS_SYSTEM) == wanted


def test_a_template_with_a_system_turn_keeps_it(tmp_path):
    from model_families import CHATML

    assert chat(tmp_path, CHATML) == "<|system|>Be brief.<end>\n<|user|>Hi<end>\n<|assistant|>"


def test_a_reply_ends_where_the_template_says_too(folders, tmp_path):
    """Phi's and Gemma's tokenizers name another token as their end of sequence."""
    policy = load(folders("phi3"))
    assert policy.end_ids == {EOS, END}
    assert policy.pad_id == PAD


def test_padding_with_the_end_token_masks_no_end_away(tmp_path):
    save_family(tmp_path, "llama")
    save_tokenizer(tmp_path, eos_token="<end>", pad_token="<end>")
    policy = load(tmp_path)
    assert policy.pad_id == END
    assert END in policy.end_ids
    short = Completion("a", (65, END), (-1.0, -1.0), "eos")
    long = Completion("b", (65, 66, 67, END), (-1.0,) * 4, "eos")
    group = group_of(policy.encode_chat([Message("user", "Hi")]), [short, long])
    batch = collate([group], policy.pad_id)
    sampled = [batch.input_ids[i, 1:][batch.loss_mask[i]].tolist() for i in range(2)]
    assert sampled == [[65, END], [65, 66, 67, END]]
    logps, _ = completion_logprobs(
        policy, batch.input_ids, batch.attention_mask, batch.loss_mask, LogprobOptions()
    )
    logps.sum().backward()
    assert (logps[batch.loss_mask] != 0).all()


# ---------------------------------------------------------------------------- stored as 4 bit


def test_a_checkpoint_that_is_quantised_already_is_taken_as_it_is(folders, tmp_path):
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    stored = AutoModelForCausalLM.from_pretrained(
        folders("qwen2"), dtype=torch.float32, quantization_config=nf4, device_map={"": "cpu"}
    )
    stored.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    packed = stored.model.layers[0].mlp.up_proj.weight
    for asked in (True, False):
        policy = load(tmp_path, load_in_4bit=asked)
        layer = policy.causal_lm.model.layers[0].mlp.up_proj.base_layer
        assert torch.equal(layer.weight.data, packed.data)
        assert layer.compute_dtype is policy.device.dtype is torch.float32
        assert any("quantised already (nf4)" in note for note in policy.notes)
    ids = torch.tensor([policy.encode_chat([Message("user", CHATS[0])])])
    mask = torch.ones(1, ids.shape[1] - 1, dtype=torch.bool)
    logps, _ = completion_logprobs(policy, ids, torch.ones_like(ids), mask, LogprobOptions())
    logps.sum().backward()
    assert all(p.grad.abs().max() > 0 for p in policy.trainable())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_recipes_attention_is_taken(attention, folders):
    policy = load(folders("llama"), attn_implementation=attention)
    assert policy.causal_lm.config._attn_implementation == attention


def test_attention_that_is_not_installed_is_refused_in_one_line(folders):
    with pytest.raises(ModelError) as error:
        load(folders("llama"), attn_implementation="flash_attention_2")
    assert "\n" not in str(error.value)
    assert "flash" in str(error.value).lower()


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_lora_in_the_dtype_of_the_recipe(name, folders):
    policy = load(folders("qwen2"), lora_dtype=name)
    assert {p.dtype for p in policy.trainable()} == {getattr(torch, name)}
    ids = torch.tensor([policy.encode_chat([Message("user", CHATS[0])])])
    mask = torch.ones(1, ids.shape[1] - 1, dtype=torch.bool)
    logps, _ = completion_logprobs(policy, ids, torch.ones_like(ids), mask, LogprobOptions())
    logps.sum().backward()
    assert all(p.grad.dtype is p.dtype and p.grad.abs().max() > 0 for p in policy.trainable())


@pytest.mark.parametrize("family", CONFIGS)
def test_ended_rows_are_replaced_in_layers_of_every_kind(folders, family, monkeypatch):
    """Keys and values, windows, recurrent states: a new row sees nothing of the one before it."""
    policy = load(folders(family))
    # A third of the tokens ends a reply: lengths are uneven.
    for engine in ("native", "shared_rows"):
        monkeypatch.setattr(f"icpo_lite.rollout.engines.{engine}.end_ids", lambda *_: range(90))
    prompts = [policy.encode_chat([Message("user", t * n)]) for n in (1, 3) for t in CHATS]
    keys = [("rows", p) for p in range(len(prompts))]
    whole = sample(policy, prompts, n=4, options=SamplingOptions(14), keys_P=keys)
    options = SamplingOptions(14, max_rows=3)
    refilled = sample(policy, prompts, n=4, options=options, keys_P=keys)
    for a, b in zip((c for g in whole for c in g), (c for g in refilled for c in g), strict=True):
        assert a.token_ids == b.token_ids
        assert a.logprobs == pytest.approx(b.logprobs, abs=2e-4)
    assert len({len(c.token_ids) for g in whole for c in g}) > 4
