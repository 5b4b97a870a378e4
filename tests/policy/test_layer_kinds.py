"""Mixtures of experts and recurrent layers: sampled and trained right, or refused before a run."""

import pytest
import torch
import transformers
from model_families import CONFIGS, OTHER_CONFIGS, RECURRENT, save_family, save_tokenizer
from packaging.version import Version
from peft import LoraConfig, get_peft_model
from policies import model_keys
from test_families import CHATS, load
from transformers import AutoModelForCausalLM, MambaConfig, RwkvConfig

from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.types import Message
from icpo_lite.policy.layer_kinds import check_mergeable, recurrent_layers
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs
from icpo_lite.policy.prompt_packing import why_not_shared
from icpo_lite.rollout.engines.registry import ENGINES
from icpo_lite.rollout.noise import SamplingOptions
from icpo_lite.rollout.sampler import sample


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(family):
        if family not in made:
            made[family] = save_family(tmp_path_factory.mktemp(family), family)
        return made[family]

    return folder


def drawn(policy, engine, prompts):
    keys = [("kinds", i) for i in range(len(prompts))]
    options = SamplingOptions(max_new_tokens=12, engine=engine)
    return sample(policy, prompts, n=4, options=options, keys_P=keys)


#: What transformers' pages cannot hold, by family; a window is known from 5.16 on.
_BEYOND_PAGES = {"gemma2": "soft cap", **dict.fromkeys(RECURRENT, "state")}
_WINDOWS = ("mistral", "gemma3", "gemma3-vision", "gpt-oss", "phi3")
if Version(transformers.__version__) < Version("5.16"):
    _BEYOND_PAGES |= dict.fromkeys(_WINDOWS, "sliding window")


@pytest.mark.parametrize("engine", ["native", "generate", "continuous"])
@pytest.mark.parametrize("family", [*CONFIGS, *OTHER_CONFIGS])
def test_what_is_sampled_is_what_training_computes(family, engine, folders):
    """Prompts of unequal length, ended rows cut out, and every row as if it were alone."""
    policy = load(folders(family))
    prompts = [policy.encode_chat([Message("user", text)]) for text in CHATS]
    why = ENGINES[engine].unfit(policy)
    if engine == "continuous" and family in _BEYOND_PAGES:
        assert why is not None
        assert _BEYOND_PAGES[family] in why
        return
    assert why is None
    for prompt, group in zip(prompts, drawn(policy, engine, prompts), strict=True):
        for reply in group:
            ids = torch.tensor([[*prompt, *reply.token_ids]])
            with torch.no_grad():
                logits = policy.causal_lm(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            own = logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])[:, 0]
            assert torch.allclose(own, torch.tensor(reply.logprobs), atol=1e-4)


@pytest.mark.parametrize("family", OTHER_CONFIGS)
def test_gradients_of_a_padded_batch_are_those_of_its_rows(family, folders):
    policy = load(folders(family))
    rows = [policy.encode_chat([Message("user", text)]) for text in CHATS]

    def gradients(chosen):
        policy.model.zero_grad()
        for some in chosen:
            width = max(map(len, some))
            ids = torch.tensor([[*r, *[policy.pad_id] * (width - len(r))] for r in some])
            mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in some])
            loss_mask = mask[:, 1:].bool()
            logps, _ = completion_logprobs(policy, ids, mask, loss_mask, LogprobOptions())
            logps[loss_mask].sum().backward()
        return {n: p.grad.clone() for n, p in policy.trainable_named()}

    together, apart = gradients([rows]), gradients([[row] for row in rows])
    for name, gradient in apart.items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(together[name], gradient, rtol=1e-3, atol=2e-4), name


@pytest.mark.parametrize("family", OTHER_CONFIGS)
def test_all_linear_adapts_what_can_be_merged(family, folders):
    policy = load(folders(family))
    names = {n.partition(".lora_")[0].rpartition(".")[2] for n, _ in policy.trainable_named()}
    assert names.isdisjoint({"gate", "router", "experts", "shared_expert_gate", "base_layer"})
    assert "q_proj" in names
    for module in policy.causal_lm.modules():
        if hasattr(module, "lora_A"):
            assert isinstance(module.get_base_layer(), torch.nn.Linear)


@pytest.mark.parametrize("family", RECURRENT)
def test_a_state_is_said_and_no_prompt_is_shared(family, folders):
    policy = load(folders(family))
    assert recurrent_layers(policy.causal_lm)
    assert any("carry a state" in note for note in policy.notes)
    assert "see the order" in why_not_shared(policy)


@pytest.mark.parametrize("family", CONFIGS)
def test_attention_alone_is_no_recurrence(family, folders):
    assert recurrent_layers(load(folders(family)).causal_lm) == []


def save(folder, config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


_SMALL = {"vocab_size": 268, "hidden_size": 48, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (MambaConfig(**_SMALL, state_size=8), "past_key_values"),
        (RwkvConfig(**_SMALL, attention_hidden_size=48, context_length=64), "recurrent layers"),
    ],
    ids=["mamba", "rwkv"],
)
def test_a_state_that_cannot_be_kept_is_refused_by_name(config, why, tmp_path):
    folder = save(tmp_path, config)
    with pytest.raises(ModelError, match=why) as error:
        load_policy(model_keys(str(folder), load_in_4bit=False, device="cpu"))
    assert "\n" not in str(error.value)
    assert "use a model whose layers are attention" in str(error.value)


def test_a_layer_that_padding_moves_is_refused(folders, monkeypatch, tmp_path):
    """As a kernel does that knows no mask: transformers' own ones zero padded states."""
    from transformers.models.lfm2 import modeling_lfm2

    model = AutoModelForCausalLM.from_pretrained(folders("lfm2"))
    torch.nn.init.normal_(model.get_input_embeddings().weight)  # the pad token's row is 0 at birth
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    load(tmp_path)
    monkeypatch.setattr(modeling_lfm2, "apply_mask_to_padding_states", lambda x, mask: x)
    with pytest.raises(ModelError, match=r"padding moves the log-probs of its conv layers by"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("qwen2", ("q_proj", "embed_tokens")),
        ("qwen2", ("q_proj", "lm_head")),
        ("qwen2-tied", ("embed_tokens",)),
        ("qwen2-tied", ("lm_head", "v_proj")),
        ("qwen3-moe", ("q_proj", "experts")),
        ("qwen3-moe", ("gate",)),
        ("qwen3-moe", ("gate_proj", "up_proj", "down_proj")),
        ("lfm2", ("q_proj", "conv.conv")),
    ],
)
def test_what_an_export_cannot_merge_is_refused_before_training(family, targets, folders):
    with pytest.raises((UsageError, ModelError)) as error:
        load(folders(family), lora_target_modules=targets)
    assert "\n" not in str(error.value)
    assert "lora_target_modules" in str(error.value)


def test_a_module_that_is_trained_whole_is_refused_too(folders):
    """unsloth trains embeddings among the targets so, without LoRA."""
    model = AutoModelForCausalLM.from_pretrained(folders("qwen2"))
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    wrapped = get_peft_model(model, config)
    with pytest.raises(UsageError, match=r"found model\.embed_tokens, whose training an export"):
        check_mergeable(wrapped.get_base_model())


def test_weights_beyond_4_bits_are_said(folders):
    moe = load(folders("qwen3-moe"), load_in_4bit=True)
    assert any("which NF4 does not reach: experts." in note for note in moe.notes)
    dense = load(folders("qwen2"), load_in_4bit=True)
    assert not any("NF4 does not reach" in note for note in dense.notes)
