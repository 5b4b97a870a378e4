"""Every kind of model, trained, merged and loaded by somebody who does not know this package."""

import json
import os
import subprocess
import sys

import pytest
import torch
from model_families import OTHER_CONFIGS, save_family
from test_run import quiet
from test_template_families import saved

from icpo_lite.core.types import Message
from icpo_lite.policy.from_recipe import load_model
from icpo_lite.recipe import load_recipe
from icpo_lite.runs import train as run_module
from icpo_lite.tools.export.options import ExportOptions
from icpo_lite.tools.export.run import export

#: The recipe of a family, and the manner of its chat template; others are trained as `tiny`.
RECIPES = {
    ("qwen3", False): ("qwen3-4b", "qwen3"),
    ("qwen3", True): ("qwen3-4b-thinking", "qwen3"),
    ("llama", False): ("llama3.2-3b", "llama3"),
    ("gemma3", False): ("gemma3-1b", "gemma3"),
    ("gemma3-vision", False): ("gemma3-4b", "gemma3"),
    ("phi3", False): ("phi4-mini", "phi4-mini"),
    ("smollm3", False): ("smollm3-3b", "smollm3"),
}
#: Families, in 16 bits and held in 4: experts, states, both, a tied head, a decoder that sees.
KINDS = [*RECIPES, *((family, False) for family in OTHER_CONFIGS)]
KINDS += [("qwen2-tied", True), ("qwen3-next", True)]
TIED = ("qwen2-tied", "gemma3-vision", "lfm2", *(family for family, _ in RECIPES))
CHAT = [Message("user", "Ann has 3 apples and Ben has 4 more. How many?")]
#: What a random model is told apart by: no reply of it is ever right.
REWARDS = """
def vary(prompts, completions, **rest):
    return [float(sum(map(ord, str(c))) % 7) for c in completions]
"""
#: The outsider: nothing but transformers, one process for all exports.
LOAD = """
import json, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

found = {}
for folder in map(Path, sys.argv[1:]):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = json.loads((folder / "asked.json").read_text())
    text = tokenizer.apply_chat_template(asked["chat"], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logps = model(input_ids=torch.tensor([asked["ids"]])).logits[0].log_softmax(-1)
    trained, base = (torch.tensor(asked[name]) for name in ("trained", "base"))
    found[folder.name] = {
        "same_ids": ids == asked["ids"],
        "apart": float((logps - trained).abs().mean()),
        "effect": float((base - trained).abs().mean()),
        "ends": model.generation_config.eos_token_id,
        "tied": model.get_input_embeddings().weight is model.get_output_embeddings().weight,
        "quantised": hasattr(model.config, "quantization_config"),
    }
assert "icpo_lite" not in sys.modules and "peft" not in sys.modules
print(json.dumps(found))
"""


@torch.no_grad()
def logps(policy, ids):
    policy.set_training(False)
    return policy.causal_lm(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1).tolist()


def made(folder, family, four_bits):
    """A run of two steps and its export, with what the trained policy says beside it."""
    (folder / "mine.py").write_text(REWARDS)
    rows = [
        {"question": f"Ann has {i} apples and buys 2. How many?", "answer": str(i + 2)}
        for i in range(8)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe, template = RECIPES.get((family, four_bits), ("tiny", ""))
    head = f"extends: {recipe}\nreward_funcs: [mine.py:vary]\ncompare: {{}}\n"
    (folder / "r.yaml").write_text(head)
    base = save_family(folder / "base", family)
    if template:
        saved(base, template)
    keys = [
        f"model_name_or_path={base}",
        *("judge=rules", "dataset_config=null", "per_device_train_batch_size=null"),
        *("num_mini_batches=1", "warm_up_steps=0", "gradient_checkpointing=false"),
        "mask_truncated_completions=false",  # six tokens end no reply of theirs
        *(f"dataset_name={folder / 'data.jsonl'}", "share_underspecified=0", "augment={}"),
        *(f"load_in_4bit={str(four_bits).lower()}", "lora_r=4", "device=cpu", "learning_rate=0.02"),
        *("max_steps=2", "warmup_steps=0", "prompts_per_step=2", "num_generations=3"),
        *("max_completion_length=6", "max_prompt_length=512", "evaluation.enabled=false"),
        *("share_prompts=false", "engine=native"),
        f"output_dir={folder / 'run'}",
    ]
    run_module.train(load_recipe(folder / "r.yaml", keys), quiet(folder))
    out = folder / name_of((family, four_bits))
    base = "nf4" if four_bits else "16bit"
    options = ExportOptions(prompts=1, base=base)
    export(folder / "run", out, options, quiet(folder), device="cpu")
    policy, _ = load_model(str(folder / "run"), device="cpu")
    ids = list(policy.encode_chat(CHAT))
    asked = {"chat": [{"role": "user", "content": CHAT[0].content}], "ids": ids}
    asked["trained"] = logps(policy, ids)
    with policy.adapter_off():
        asked["base"] = logps(policy, ids)
    (out / "asked.json").write_text(json.dumps(asked))
    return out, sorted(policy.end_ids)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """kind -> (folder of its export, the tokens that end a reply), made when first asked for."""
    done = {}

    def export(kind):
        if kind not in done:
            done[kind] = made(tmp_path_factory.mktemp("family"), *kind)
        return done[kind]

    return export


def name_of(kind):
    return f"{kind[0]}-{'nf4' if kind[1] else '16bit'}"


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_every_kind_of_model_is_trained_and_merged(kind, exports):
    out, _ = exports(kind)
    assert (out / "model.safetensors").stat().st_size > 0
    assert "quantization_config" not in json.loads((out / "config.json").read_text())


def test_they_say_the_same_to_whoever_loads_them(exports, tmp_path):
    """In a process that knows transformers alone. Weights are rounded to bfloat16, once."""
    folders = [str(exports(kind)[0]) for kind in KINDS]
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *folders],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for kind in KINDS:
        name, found = name_of(kind), told[name_of(kind)]
        assert found["same_ids"], name
        assert found["effect"] > 0.02, f"{name}: two steps changed nothing, so nothing is shown"
        assert found["apart"] < max(0.004, found["effect"] / 10), name
        assert sorted(found["ends"]) == exports(kind)[1], name
        assert found["tied"] == (kind[0] in TIED), name
        assert not found["quantised"], name
