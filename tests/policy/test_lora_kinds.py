"""Every kind of LoRA: sampled as trained, saved as peft reads it, merged as peft merges it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from model_families import save_family
from policies import model_keys
from safetensors.torch import load_file

from icpo_lite.core.errors import IcpoError
from icpo_lite.core.types import Message
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs
from icpo_lite.policy.lora_merge import lora_updates, unpacked_weight
from icpo_lite.policy.lora_starts import FromStart
from icpo_lite.recipe import load_recipe
from icpo_lite.rollout.engines.registry import ENGINES
from icpo_lite.rollout.noise import SamplingOptions
from icpo_lite.rollout.sampler import sample
from icpo_lite.tools.export.merged import write_merged

KINDS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora-rslora": {"use_dora": True, "use_rslora": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "olora": {"init_lora_weights": "olora"},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa-rslora": {"init_lora_weights": "pissa_niter_4", "use_rslora": True},
    "regex": {"lora_target_modules": r".*\.layers\.1\..*(q|o|up)_proj", "use_rslora": True},
}
#: In 16 bits whole, and in 4.
FOUR = ("dora-rslora", "orthogonal", "olora", "pissa-rslora", "loftq")
CASES = [*((kind, False) for kind in KINDS), *((kind, True) for kind in FOUR)]
LOFTQ = {"init_lora_weights": "loftq"}
CHATS = ("How many?", "Ann has 3 apples and Ben has 4 more.")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Untied, with biases on queries, keys and values."""
    return save_family(tmp_path_factory.mktemp("base"), "qwen2")


def load(base, kind, four_bits=False, *, moved=True, **changes):
    options = {"load_in_4bit": four_bits, "lora_r": 4, "device": "cpu", **changes}
    policy = load_policy(model_keys(str(base), **options, **({**KINDS, "loftq": LOFTQ}[kind])))
    if moved:
        move(policy)
    return policy


@torch.no_grad()
def move(policy):
    """As training would: every weight that learns, lengths of DoRA too."""
    noise = torch.Generator().manual_seed(1)
    for _, parameter in policy.trainable_named():
        step = torch.randn(parameter.shape, generator=noise) * 0.1
        parameter += step.to(parameter.dtype)


def logps(policy, chat=CHATS[1]):
    ids = torch.tensor([policy.encode_chat([Message("user", chat)])])
    with torch.no_grad():
        return policy.causal_lm(input_ids=ids).logits[0].float().log_softmax(-1)


# -------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{4 if c[1] else 16}")
def test_every_engine_samples_what_training_computes(case, base):
    policy = load(base, *case)
    prompts = [policy.encode_chat([Message("user", text)]) for text in CHATS]
    keys = [("kinds", i) for i in range(len(prompts))]
    for engine in ("native", "generate", "continuous"):
        assert ENGINES[engine].unfit(policy) is None
        options = SamplingOptions(max_new_tokens=8, engine=engine)
        drawn = sample(policy, prompts, n=2, options=options, keys_P=keys)
        policy.set_training(True)
        for prompt, group in zip(prompts, drawn, strict=True):
            for reply in group:
                ids = torch.tensor([[*prompt, *reply.token_ids]])
                mask = torch.arange(1, ids.shape[1])[None] >= len(prompt)
                with torch.no_grad():
                    trained, _ = completion_logprobs(
                        policy, ids, torch.ones_like(ids), mask, LogprobOptions()
                    )
                assert torch.allclose(trained[mask], torch.tensor(reply.logprobs), atol=1e-4)
        policy.set_training(False)


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora-rslora", "pissa"])
def test_in_16_bits_the_copy_for_sampling_is_the_layer_up_to_its_rounding(kind, base):
    policy = load(base, kind, dtype="bfloat16")
    with policy.adapter_off():
        off = logps(policy)
        with dense_layers(policy):
            assert torch.equal(logps(policy), off)
    trained = logps(policy)
    effect = (trained - off).abs().mean()
    with dense_layers(policy):
        apart = (logps(policy) - trained).abs().mean()
    assert apart < effect / 8


def test_in_16_bits_a_small_move_from_a_large_start_is_not_rounded_away(base):
    """PiSSA's matrices are as large as the weight: a copy in 16 bits would lose a step's move."""
    policy = load(base, "pissa", moved=False, dtype="bfloat16")
    start = logps(policy)
    with torch.no_grad():
        for module in policy.causal_lm.modules():
            if isinstance(module, FromStart):
                module.learned *= 1.001
    with dense_layers(policy):
        assert not torch.equal(logps(policy), start)
        sampled = logps(policy)
    assert torch.equal(sampled, logps(policy))


# ------------------------------------------------------------------- the base, and where it starts


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{4 if c[1] else 16}")
def test_training_begins_at_the_base_and_without_the_adapter_is_the_base(case, base):
    bare = load_policy(model_keys(str(base), load_in_4bit=case[1], device="cpu"))
    policy = load(base, *case, moved=False)
    began = logps(policy)
    if case[0] != "loftq":
        assert torch.allclose(began, logps(bare), atol=5e-5)
    move(policy)
    assert not torch.allclose(logps(policy), began, atol=1e-2)
    with policy.adapter_off():
        assert torch.equal(logps(policy), logps(bare))
    with policy.reference():
        assert torch.allclose(logps(policy), began, atol=5e-5)


def test_loftq_begins_nearer_to_the_weights_as_published(base):
    whole = logps(load_policy(model_keys(str(base), load_in_4bit=False, device="cpu")))
    rounded = logps(load_policy(model_keys(str(base), load_in_4bit=True, device="cpu")))
    apart = (rounded - whole).abs().mean()
    ranks = {r: load(base, "loftq", True, moved=False, lora_r=r) for r in (4, 16, 48)}
    found = {r: float((logps(p) - whole).abs().mean()) for r, p in ranks.items()}
    assert found[48] < found[16] < found[4] < apart
    assert found[48] < 1e-3  # of full rank: the whole weight again, whatever alpha / r is


@pytest.mark.parametrize("kind", ["pissa", "olora"])
def test_the_start_is_pefts_own_and_so_are_its_gradients(kind, base):
    """peft's takes the start out of the weight: the same function, and the same way down."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    policy = load(base, kind, moved=False)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    theirs = get_peft_model(
        plain,
        LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=kind),
    )
    ids = torch.tensor([policy.encode_chat([Message("user", CHATS[1])])])

    def after(model, parameters):
        logits = model(input_ids=ids).logits
        logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None]).sum().backward()
        return [(p.detach(), p.grad) for p in parameters]

    own = after(policy.causal_lm, policy.trainable())
    other = after(theirs, [p for p in theirs.parameters() if p.requires_grad])
    assert len(own) == len(other)
    for (weight, gradient), (their_weight, their_gradient) in zip(own, other, strict=True):
        assert torch.allclose(weight.abs(), their_weight.abs(), atol=1e-4)
        assert gradient.norm().item() == pytest.approx(their_gradient.norm().item(), rel=1e-3)


# -------------------------------------------------------------------------------- saved and merged

#: The outsider: peft and transformers alone, one process for all adapters.
READ = """
import json, sys
from pathlib import Path
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from safetensors.torch import load_file

def told(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)

nf4 = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)
found = {}
for folder in map(Path, sys.argv[1:]):
    asked = json.loads((folder / "asked.json").read_text())
    four = {"quantization_config": nf4, "device_map": {"": "cpu"}} if asked["four"] else {}
    model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **four)
    for module in model.modules():  # bitsandbytes' packing for AVX512 takes no matrix this small
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    ours = torch.tensor(asked["trained"])
    seen = {"adapter": float((told(model, asked["ids"]) - ours).abs().max())}
    if not asked["four"]:
        merged = model.merge_and_unload().state_dict()
        exported = load_file(folder / "merged" / "model.safetensors")
        seen["weights"] = max(
            float((merged[k] - v.float()).abs().max() / merged[k].abs().max())
            for k, v in exported.items()
        )
        alone = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32)
        peft_merged = AutoModelForCausalLM.from_pretrained(asked["base"], dtype=torch.float32)
        peft_merged.load_state_dict({k: v.bfloat16() for k, v in merged.items()})
        theirs = told(peft_merged, asked["ids"])
        seen["merged"] = float((told(alone, asked["ids"]) - theirs).abs().mean())
        seen["rounding"] = float((theirs - ours).abs().mean())
    found[folder.name] = seen
assert "icpo_lite" not in sys.modules
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def told_elsewhere(base, tmp_path_factory):
    """What plain peft and transformers say of every kind, saved here."""
    home = tmp_path_factory.mktemp("kinds")
    recipe = load_recipe("tiny", [f"model_name_or_path={base}"])
    for kind, four in CASES:
        policy = load(base, kind, four)
        folder = home / f"{kind}-{four}"
        policy.save_adapter(folder)
        ids = list(policy.encode_chat([Message("user", CHATS[1])]))
        trained = logps(policy).tolist()
        asked = {"four": four, "base": str(base), "ids": ids, "trained": trained}
        (folder / "asked.json").write_text(json.dumps(asked))
        if not four:
            (folder / "merged").mkdir()
            write_merged(policy, recipe, folder / "merged", "16bit")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment["OMP_NUM_THREADS"] = "1"
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", READ, *(str(home / f"{kind}-{four}") for kind, four in CASES)],
        capture_output=True,
        text=True,
        cwd=home,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{4 if c[1] else 16}")
def test_plain_peft_on_the_unchanged_base_says_the_same(case, told_elsewhere):
    assert told_elsewhere[f"{case[0]}-{case[1]}"]["adapter"] < 5e-5


@pytest.mark.parametrize("kind", KINDS)
def test_merged_it_is_what_peft_merges(kind, told_elsewhere):
    seen = told_elsewhere[f"{kind}-False"]
    assert seen["weights"] < 2**-8  # rounded once, to bfloat16
    assert seen["merged"] <= 1e-5 + seen["rounding"] / 20


@pytest.mark.parametrize("kind", FOUR)
def test_merged_into_the_rounded_base_it_is_what_was_trained(kind, base):
    """Each layer's update on what 4 bits hold, in fp32."""
    policy = load(base, kind, True)
    updates = lora_updates(policy)
    trained, modules = logps(policy), dict(policy.causal_lm.named_modules())
    with policy.adapter_off(), torch.no_grad():
        for name, update in updates.items():
            layer = modules[name].get_base_layer()
            whole = torch.nn.Linear(*reversed(update.shape), bias=layer.bias is not None)
            whole.weight.copy_(update.added_to(unpacked_weight(layer), torch.float32))
            if layer.bias is not None:
                whole.bias.copy_(layer.bias)
            modules[name].base_layer = whole
        assert torch.allclose(logps(policy), trained, atol=5e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{4 if c[1] else 16}")
def test_read_back_it_is_what_was_saved(case, base, tmp_path):
    policy = load(base, *case)
    policy.save_adapter(tmp_path)
    again = load_policy(policy.keys, adapter=tmp_path, trainable=False)
    assert torch.allclose(logps(again), logps(policy), atol=5e-5)
    policy.save_adapter(tmp_path / "twice")
    a, b = (load_file(f / "adapter_model.safetensors") for f in (tmp_path, tmp_path / "twice"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (r".*\.(q|v)_proj", 4),
        (r".*layers\.0\..*", 7),
        ("q_proj, v_proj", 4),
        ("self_attn.q_proj", 2),
        (r"model\.layers\.\d+\.mlp\.(gate|up)_proj", 4),
        ("all-linear", 14),
        ("all", 14),
    ],
)
def test_targets_by_expression_or_name(wanted, count, base):
    policy = load(base, "plain", moved=False, lora_target_modules=wanted)
    assert len(lora_updates(policy)) == count


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (r".*\.(qq|vv)_proj", "is none; it has q_proj, k_proj, v_proj, o_proj, gate_proj"),
        ("q_proj,w_proj", "found 'w_proj', which is none; it has q_proj"),
        (r"layers\.0\..*", "in names such as model.layers."),
        (r".*lm_head", "expected linear layers between embedding and lm_head, found lm_head"),
        (r".*(embed_tokens|q_proj)", "lora_target_modules"),
        (r".*(q_proj", "which is none: missing ), unterminated subpattern"),
        ([], "expected all-linear or names of layers, found none"),
        ("", "expected all-linear or names of layers, found none"),
    ],
)
def test_targets_that_cannot_be_are_refused_in_one_line(wanted, said, base):
    with pytest.raises(IcpoError) as error:
        load(base, "plain", lora_target_modules=wanted)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"init_lora_weights": False}, "false starts at noise"),
        ({"init_lora_weights": "eva"}, "eva looks at activations"),
        ({"init_lora_weights": "pisa"}, "found 'pisa'"),
        ({"init_lora_weights": "pissa_niter_x"}, "found 'pissa_niter_x'"),
        ({"init_lora_weights": "orthogonal", "lora_r": 3}, "lora_r: orthogonal needs an even rank"),
        ({"init_lora_weights": "orthogonal", "lora_dtype": "bfloat16"}, "lora_dtype: float32"),
        ({"init_lora_weights": "pissa", "use_dora": True}, "use_dora: DoRA's lengths"),
        ({"init_lora_weights": "loftq", "use_dora": True}, "take one of the two"),
        ({"init_lora_weights": "loftq", "load_in_4bit": False}, "set load_in_4bit: true"),
        ({"init_lora_weights": "olora", "backend": "unsloth"}, "set backend: auto"),
        ({"init_lora_weights": "pissa", "use_vllm": True}, "set use_vllm: false"),
        ({"use_dora": True, "use_vllm": True}, "vLLM serves plain LoRA alone, not DoRA"),
    ],
)
def test_what_cannot_be_together_is_refused_before_a_model_is_looked_for(keys, said):
    with pytest.raises(IcpoError) as error:
        model_keys("no/such-model", **{"lora_r": 4, **keys})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["olora", "pissa", "pissa_niter_2"])
def test_a_rank_that_a_start_does_not_have_is_refused_before_weights_are_read(kind, base):
    with pytest.raises(IcpoError, match=r"lora_r: .* at most 24 for model\.layers\.0\.self_attn"):
        load(base, "plain", init_lora_weights=kind, lora_r=25)


@pytest.mark.parametrize("name", ["default", "true", "True", True])
def test_pefts_own_start_has_several_names(name):
    assert model_keys("m", init_lora_weights=name).init_lora_weights is True
    assert model_keys("m", init_lora_weights="PiSSA_niter_16").init_lora_weights == "pissa_niter_16"


def test_loftq_without_4_bits_is_refused_where_auto_takes_none(base):
    with pytest.raises(IcpoError, match="load_in_4bit: auto holds whole here"):
        load(base, "plain", "auto", init_lora_weights="loftq")
