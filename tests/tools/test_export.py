"""A run as a model that stands alone: equal to its adapter, or nothing is kept."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from click.testing import CliRunner
from huggingface_hub.errors import LocalTokenNotFoundError
from jinja2 import Environment
from policies import model_keys
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from icpo_lite.cli import run as run_cli
from icpo_lite.cli.export import export as export_command
from icpo_lite.core.console import Display
from icpo_lite.core.errors import IcpoError, ModelError, UsageError
from icpo_lite.core.types import Message
from icpo_lite.policy.base_files import found_name
from icpo_lite.policy.from_recipe import load_model
from icpo_lite.policy.load import load_policy, load_tokenizer, model_path
from icpo_lite.policy.lora_merge import LowRank, lora_updates
from icpo_lite.recipe import load_recipe, resolved_yaml
from icpo_lite.runs.model_card import fence, inline, model_card
from icpo_lite.tools.export import gguf, hub, merged, parity
from icpo_lite.tools.export import run as export_run
from icpo_lite.tools.export.ollama import detect_family, modelfile
from icpo_lite.tools.export.options import ExportOptions
from icpo_lite.tools.export.run import NotTheSameError, export

TINY = Path(model_path("builtin:tiny"))
SPEC = model_keys("builtin:tiny", device="cpu", lora_r=4)


def make_run(folder, spec=SPEC, strength=0.3):
    """A run directory whose adapter does something, without training it."""
    policy = load_policy(spec)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, strength)
    policy.save_adapter(folder)
    chosen = load_recipe(
        "tiny", [f"model_name_or_path={spec.model_name_or_path}", "compare={}", "lora_r=4"]
    )
    (folder / "recipe.yaml").write_text(resolved_yaml(chosen))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs") / "tiny")
    (folder / "completions").mkdir()
    rows = [
        {"prompt_id": f"{intent}{i}", "intent": intent, "prompt": [{"role": "user", "content": t}]}
        for i in range(3)
        for intent, t in (
            (
                "complete",
                f"Ann has {i + 2} apples. Ann buys 4 apples. How many apples does Ann have?",
            ),
            ("underspecified", "How many nuts does Leo have after losing some?"),
        )
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "completions" / "step-000001.jsonl").write_text(text)
    return folder


def exported(run, out, said=None, **options):
    display = Display(total=0, live=False, file=(out.parent / "said.txt").open("w"))
    try:
        return export(run, out, ExportOptions(prompts=4, **options), display, device="cpu")
    finally:
        display.console.file.close()


def said(out):
    return (out.parent / "said.txt").read_text()


# ------------------------------------------------------------------------------------ merging


@pytest.mark.parametrize("base", ["16bit", "nf4"])
def test_merged_model_says_what_the_adapter_says(run, tmp_path, base):
    out = exported(run, tmp_path / "out", base=base)
    record = json.loads((out / "export.json").read_text())["parity"]
    assert record["effect"] > 0.1, "the adapter changes nothing, so nothing is shown"
    assert record["difference"] < (0.005 if base == "nf4" else 2 * record["noise"] + 1e-9)
    assert record["kept"] > record["effect"] / 2
    if base == "nf4":
        assert record["same"] == record["count"] == 4
    # It loads as any other model, and ends where the chat template says.
    model = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    assert model.dtype == torch.bfloat16
    assert not hasattr(model.config, "quantization_config")
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]
    assert tokenizer.chat_template == load_tokenizer("builtin:tiny").chat_template
    assert (out / "README.md").is_file()
    assert not list(tmp_path.glob(".*")), "something was left aside"


_PLAIN = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, chats = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
said = []
for chat in chats:
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**ids, max_new_tokens=40, do_sample=False)
    said.append(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
assert not [name for name in sys.modules if name.startswith("icpo_lite")]
print(json.dumps(said))
"""


def plainly_said(folder, chats):
    """Greedy replies through AutoModel and AutoTokenizer, in a process without this package."""
    done = subprocess.run(
        [sys.executable, "-c", _PLAIN, str(folder), json.dumps(chats)],
        capture_output=True,
        text=True,
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("declared", [True, False])
def test_plain_transformers_says_what_the_policy_says(run, tmp_path, declared, monkeypatch):
    """Also where the base's files do not say how its vocabulary is to be read."""
    if not declared:
        load = export_run.load_policy
        monkeypatch.setattr(export_run, "load_policy", lambda *a, **k: _undeclared(load(*a, **k)))
    out = exported(run, tmp_path / "merged", base="16bit")
    policy = load_policy(model_keys(str(out), device="cpu", load_in_4bit=False))
    chats = [
        [Message("user", "Ann has 12 apples. Ann buys 3 apples. How many apples does Ann have?")],
        [Message("user", "How many dates does Ben have after shopping? Ben has 4 dates.")],
    ]
    own = [policy.decode(parity.greedy(policy, policy.encode_chat(chat))) for chat in chats]
    plain = [[{"role": m.role, "content": m.content} for m in chat] for chat in chats]
    assert [text.strip() for text in plainly_said(out, plain)] == own


def _undeclared(policy):
    policy.tokenizer.init_kwargs.pop("auto_map", None)
    return policy


def test_weights_are_the_base_plus_the_scaled_product(run, tmp_path):
    """W + (alpha / r) B A, in fp32, rounded once; everything else is the base's, bit for bit."""
    out = exported(run, tmp_path / "out")
    base, written = load_file(TINY / "model.safetensors"), load_file(out / "model.safetensors")
    adapter = load_file(run / "adapter_model.safetensors")
    scale = 16 / 4
    assert base.keys() == written.keys()
    changed = 0
    for key, weight in base.items():
        name = f"base_model.model.{key.removesuffix('.weight')}"
        if f"{name}.lora_A.weight" in adapter:
            product = adapter[f"{name}.lora_B.weight"] @ adapter[f"{name}.lora_A.weight"]
            weight = (weight.float() + scale * product).bfloat16()
            changed += 1
        assert torch.equal(written[key], weight), key
    assert changed == 3 * 7


def test_low_rank_update_by_hand():
    """scale 2, B [[1], [3]], A [[10, 20]]: [[1 + 20, 1 + 40], [1 + 60, 1 + 120]]."""
    update = LowRank(torch.tensor([[10.0, 20.0]]), torch.tensor([[1.0], [3.0]]), 2.0)
    got = update.added_to(torch.ones(2, 2, dtype=torch.bfloat16), torch.float32)
    assert got.tolist() == [[21.0, 41.0], [61.0, 121.0]]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda self, w, dtype: w.to(dtype), "log-probs differ by"),
        (
            lambda self, w, dtype: (w.float() - 3 * self.scale * self.B @ self.A).to(dtype),
            "log-probs differ by",
        ),
    ],
    ids=["lost", "wrong"],
)
@pytest.mark.parametrize("base", ["16bit", "nf4"])
def test_a_wrong_merge_is_not_kept(run, tmp_path, monkeypatch, break_it, words, base):
    monkeypatch.setattr(LowRank, "added_to", break_it)
    with pytest.raises(NotTheSameError, match="the merged model is not the trained one") as error:
        exported(run, tmp_path / "out", base=base)
    assert error.value.exit_code == 1
    assert "\n" not in str(error.value)
    assert words in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["said.txt"]


def test_an_adapter_too_weak_for_the_log_probs_is_still_missed(tmp_path, monkeypatch):
    """Its effect is below what rounding explains; that nothing of it is left is seen even so."""
    run = make_run(tmp_path / "weak", strength=0.03)
    exported(run, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "export.json").read_text())["parity"]
    assert 0 < record["effect"] < parity.ROUNDING
    monkeypatch.setattr(LowRank, "added_to", lambda self, w, dtype: w.to(dtype))
    with pytest.raises(NotTheSameError, match="it behaves like the base"):
        exported(run, tmp_path / "other")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_what_rounding_changes_is_measured(dtype):
    """Weights that are rounded change what comes out by as much as those that are moved."""
    random = torch.Generator().manual_seed(3)
    layers = [torch.randn(200, 200, generator=random) / 14 for _ in range(5)]
    inputs = torch.randn(64, 200, generator=random)

    def outputs(weights):
        found = inputs
        for weight in weights:
            found = torch.tanh(found @ weight)
        return found

    rounded = [weight.to(dtype).float() for weight in layers]
    moved = [weight.clone() for weight in rounded]
    parity.move_by_rounding(moved)
    by_rounding = (outputs(rounded) - outputs(layers)).abs().mean()
    by_moving = (outputs(moved) - outputs(rounded)).abs().mean()
    assert 0.8 < by_moving / by_rounding < 1.25
    narrow = [weight.to(dtype) for weight in rounded]
    parity.move_by_rounding(narrow)
    assert all(torch.equal(a.float(), b) for a, b in zip(narrow, moved, strict=True))


def test_what_rounding_does_not_touch_is_not_moved():
    kept = [torch.randn(9, 9), torch.ones(9), torch.zeros(9, 9), torch.ones(3, 3).to(torch.uint8)]
    before = [weight.clone() for weight in kept]
    parity.move_by_rounding(kept)
    assert all(torch.equal(a, b) for a, b in zip(kept, before, strict=True))


def test_a_model_that_rounding_moves_far_is_kept_and_a_wrong_one_is_not():
    """Thirty layers of bfloat16 moved SmolLM2 by 0.04 nats a token, right as the merge was."""
    right = parity.Parity(0.042, 0.3, 0.0, 0.04, 1.7, 1.7, 8, 8, 8, 8)
    assert right.problem is None
    wrong = parity.Parity(0.09, 0.3, 0.0, 0.04, 1.7, 1.7, 8, 8, 8, 8)
    assert "expected at most 0.080" in wrong.problem


def test_a_wrong_end_is_not_kept(run, tmp_path, monkeypatch):
    def without_end(policy, recipe, folder):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0]}))

    monkeypatch.setattr(merged, "_write_generation_config", without_end)
    with pytest.raises(NotTheSameError, match="do not end, though the trained ones do"):
        exported(run, tmp_path / "out", base="nf4")


def test_a_base_in_several_files_gives_the_same(run, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype="auto")
    model.save_pretrained(tmp_path / "base", max_shard_size="400KB")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY / name, tmp_path / "base")
    assert len(list((tmp_path / "base").glob("model-*.safetensors"))) > 1
    other = shutil.copytree(run, tmp_path / "run")
    text = (run / "recipe.yaml").read_text().replace("builtin:tiny", str(tmp_path / "base"))
    (other / "recipe.yaml").write_text(text)
    out, single = tmp_path / "out", tmp_path / "single"
    for chosen, place in ((other, out), (run, single)):
        place.mkdir()
        merged.write_merged(*load_model(str(chosen), device="cpu"), place, "16bit")
    index = json.loads((out / merged.INDEX).read_text())
    written = {k: load_file(out / f)[k] for k, f in index["weight_map"].items()}
    for key, weight in load_file(single / "model.safetensors").items():
        assert torch.equal(written[key], weight), key


def test_a_pre_quantised_base_is_unpacked(tmp_path):
    """A checkpoint in 4 bits, as the hub has them: LoRA is added to what they stand for."""
    base = tmp_path / "base-bnb-4bit"
    policy = load_policy(model_keys("builtin:tiny", device="cpu", dtype="bfloat16"))
    policy.model.save_pretrained(base)
    policy.tokenizer.save_pretrained(base)
    run = make_run(tmp_path / "run", model_keys(str(base), device="cpu", lora_r=4))
    out = exported(run, tmp_path / "out")
    assert "holds 4-bit weights" in said(out)
    record = json.loads((out / "export.json").read_text())
    assert record["base"] == "nf4"
    # This checkpoint says itself that it computes in bfloat16.
    assert record["parity"]["difference"] < 0.03
    assert record["parity"]["effect"] > 0.1
    keys = load_file(out / "model.safetensors").keys()
    assert keys == load_file(TINY / "model.safetensors").keys()


SMALL = {
    "vocab_size": 265,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
}


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(**SMALL),
        Qwen3Config(**SMALL, head_dim=16),
        LlamaConfig(**SMALL),
        MistralConfig(**SMALL),
        Phi3Config(**SMALL),
        Gemma2Config(**SMALL, head_dim=16),
        Gemma3TextConfig(**SMALL, head_dim=16),
    ],
    ids=lambda c: c.model_type,
)
def test_every_family_merges(tmp_path, config):
    """Random weights: the written model's log-probs are those of base and adapter."""
    base = tmp_path / "base"
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(base)
    load_tokenizer("builtin:tiny").save_pretrained(base)
    run = make_run(tmp_path / "run", model_keys(str(base), device="cpu", lora_r=4), strength=0.2)
    policy, recipe = load_model(str(run), device="cpu")
    ref = parity.reference(policy, parity.check_prompts(run, 2))
    out = tmp_path / "out"
    out.mkdir()
    merged.write_merged(policy, recipe, out, "nf4")
    written = load_policy(model_keys(str(out), load_in_4bit=False, device="cpu"))
    found = parity.compare(ref, written, None)
    assert found.effect > 0.2
    assert found.difference < 0.03
    assert found.problem is None


def test_an_update_without_its_weight_is_refused():
    with pytest.raises(ModelError, match=r"expected one weight of this name in the base, found 0"):
        found_name("model.layers.0.self_attn.q_proj", ["model.embed_tokens", "lm_head"])
    names = ["language_model.model.layers.0.mlp.up_proj", "vision_tower.layers.0.mlp.up_proj"]
    assert found_name("model.language_model.layers.0.mlp.up_proj", names) == names[0]
    weight = torch.zeros(3, 2)
    update = LowRank(torch.zeros(1, 2), torch.zeros(4, 1), 1.0)
    with pytest.raises(ModelError, match=r"expected the adapter's shape \[4, 2\], found \[3, 2\]"):
        merged._updated(weight, update, torch.bfloat16, "w")


def test_lora_with_biases_is_refused():
    policy = load_policy(SPEC)
    module = next(m for m in policy.causal_lm.modules() if hasattr(m, "lora_A"))
    (matrix,) = module.lora_B.values()
    matrix.bias = torch.nn.Parameter(torch.zeros(matrix.out_features))
    with pytest.raises(ModelError, match="expected LoRA or DoRA without biases"):
        lora_updates(policy)


def test_room_decides_how_it_is_read_back(monkeypatch):
    pages = {"SC_PAGE_SIZE": 1, "SC_AVPHYS_PAGES": 27}
    monkeypatch.setattr(export_run.os, "sysconf", pages.__getitem__)
    spec = model_keys("x", device="cpu")
    assert export_run.room_for(10, spec)["dtype"] == "float32"
    assert export_run.room_for(20, spec)["dtype"] == "bfloat16"
    assert export_run.room_for(30, spec) == {"load_in_4bit": True}


def test_read_back_in_4_bits_where_memory_is_short(run, tmp_path, monkeypatch):
    monkeypatch.setattr(export_run, "room_for", lambda size, spec: {"load_in_4bit": True})
    out = exported(run, tmp_path / "out")
    assert "it is checked as 4 bits hold it" in said(out)


# --------------------------------------------------------------------------------- where to


@pytest.fixture
def unproved(monkeypatch):
    """For tests of what comes after the proof."""
    same = parity.Parity(0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1, 1, 1, 1)
    monkeypatch.setattr(export_run, "_proved", lambda *_: same)


def test_nothing_of_the_users_is_overwritten(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="expected a new folder or an earlier export"):
        exported(run, out)
    assert (out / "thesis.txt").read_text() == "precious"


def test_an_earlier_export_is_replaced(run, tmp_path, unproved):
    out = exported(run, tmp_path / "out", base="nf4")
    (out / "stale").write_text("")
    exported(run, out, base="nf4")
    assert not (out / "stale").exists()


def test_command_line(run, tmp_path):
    arguments = [str(run), "--device", "cpu", "--prompts", "2", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(export_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "Read back and checked on 2 prompts" in result.output
    out = tmp_path / "out"
    assert result.output.endswith(f"Done: {out}\nNext: icpo-lite chat {out}\n")
    assert run_cli(["export", "builtin:tiny", "--device", "cpu"]) == 2
    assert run_cli(["export", str(run), "--push", "a/b/c", "--device", "cpu"]) == 2
    assert run_cli(["export", str(run), "--push", "--device", "cpu"]) == 2  # no hub_model_id


# -------------------------------------------------------------------------------------- GGUF

CONVERTER = """import sys
from pathlib import Path
Path(sys.argv[sys.argv.index("--outfile") + 1]).write_text(" ".join(sys.argv[1:]))
"""


@pytest.fixture
def llama_cpp(tmp_path):
    """A llama.cpp that writes down what it was asked."""
    home = tmp_path / "llama.cpp"
    (home / "build" / "bin").mkdir(parents=True)
    (home / "convert_hf_to_gguf.py").write_text(CONVERTER)
    quantizer = home / "build" / "bin" / "llama-quantize"
    quantizer.write_text('#!/bin/sh\n{ cat "$1"; echo " then $3"; } > "$2"\n')
    quantizer.chmod(0o755)
    return home


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setattr(gguf, "_HOMES", (str(tmp_path / "nowhere"),))


def test_gguf_is_converted_and_quantised(run, tmp_path, llama_cpp, unproved):
    out = exported(run, tmp_path / "out", format="gguf", llama_cpp=llama_cpp)
    made = (out / "model-q4_k_m.gguf").read_text()
    assert re.fullmatch(r"\S+ --outfile \S+model-bf16\.gguf --outtype bf16 then Q4_K_M\n", made)
    assert not (out / "model-bf16.gguf").exists()
    assert "`model-q4_k_m.gguf`" in (out / "README.md").read_text()


def made_by(home, source, target, kind="bf16", base=None):
    gguf.make_gguf(gguf.Conversion(source, target, kind, base), gguf.find_llama_cpp(home))


def test_gguf_kinds_of_the_converter_need_no_quantiser(tmp_path, llama_cpp, monkeypatch):
    shutil.rmtree(llama_cpp / "build")
    monkeypatch.setenv("LLAMA_CPP", str(llama_cpp))
    target = tmp_path / "model.gguf"
    made_by(None, tmp_path, target, "q8_0")
    assert target.read_text().endswith("--outtype q8_0")
    with pytest.raises(ModelError, match=r"expected llama-quantize of .*, found it not built"):
        made_by(None, tmp_path, tmp_path / "other.gguf", "q4_k_m")
    assert not (tmp_path / "other.gguf").exists()
    wanted = gguf.Conversion(tmp_path, tmp_path / "other.gguf", "q4_k_m")
    lines = gguf.by_hand(wanted, gguf.find_llama_cpp(None))
    assert not [line for line in lines if "git clone" in line], "it is there already"
    build = llama_cpp / "build"
    assert f"cmake --build {build} --target llama-quantize -j" in lines
    assert lines[-1].startswith(f"{build / 'bin' / 'llama-quantize'} ")


@pytest.mark.parametrize("format_", ["gguf", "ollama"])
def test_without_llama_cpp_no_gguf_is_made_and_the_commands_are_printed(
    run, tmp_path, unproved, format_, api
):
    out = tmp_path / "my out"
    with pytest.raises(ModelError) as error:
        exported(run, out, format=format_, repo="a/b")
    assert error.value.exit_code == 1
    assert "model-q4_k_m.gguf was not made: expected llama.cpp's convert_hf_to_gguf.py" in str(
        error.value
    )
    # The tiny model's words are no kind of tokenizer that GGUF has a form for.
    assert "this model's is WordLevel" in str(error.value)
    assert not list(out.glob("*.gguf"))
    assert (out / "model.safetensors").is_file(), "what it is made of is kept"
    assert "Done" not in said(out)
    assert "Pushed" not in said(out)
    assert not api.calls
    # Each command is one line, however narrow the terminal, so that it can be copied.
    clone, *_, convert, quantise = said(out).partition("q4_k_m.gguf:\n")[2].splitlines()[:6]
    assert clone == "git clone --depth 1 https://github.com/ggml-org/llama.cpp"
    assert shlex.split(convert)[1:] == [
        *("llama.cpp/convert_hf_to_gguf.py", str(out)),
        *("--outfile", f"{out}/model-bf16.gguf", "--outtype", "bf16"),
    ]
    assert shlex.split(quantise)[1:] == [
        *(f"{out}/model-bf16.gguf", f"{out}/model-q4_k_m.gguf", "Q4_K_M"),
    ]
    written = (out / "README.md").read_text()
    assert "`model-q4_k_m.gguf`: the same in GGUF" not in written
    if format_ == "ollama":
        assert said(out).splitlines()[-1] == f"ollama create tiny -f '{out}/Modelfile'"
        assert "`Modelfile`: for Ollama, once `model-q4_k_m.gguf` is made" in written


def test_a_converter_that_fails_is_one_line_and_the_merged_model_is_kept(
    run, tmp_path, llama_cpp, unproved
):
    script = llama_cpp / "convert_hf_to_gguf.py"
    half = "import sys\nopen(sys.argv[3], 'w').write('half')\n"
    script.write_text(half + "raise SystemExit('unknown tokenizer')")
    with pytest.raises(ModelError, match=r"^convert_hf_to_gguf.py failed: unknown tokenizer$"):
        made_by(llama_cpp, tmp_path, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()
    out = tmp_path / "out"
    with pytest.raises(ModelError, match=f"failed: unknown tokenizer; .*{out} holds the rest"):
        exported(run, out, format="gguf", quantisation="bf16", llama_cpp=llama_cpp)
    assert (out / "model.safetensors").is_file()
    assert not list(out.glob("*.gguf"))
    script.write_text("import module_that_nobody_has")
    with pytest.raises(ModelError, match=r"-m pip install gguf sentencepiece protobuf$"):
        made_by(llama_cpp, tmp_path, tmp_path / "m.gguf")
    script.write_text("")
    with pytest.raises(ModelError, match=r"expected m\.gguf, found none"):
        made_by(llama_cpp, tmp_path, tmp_path / "m.gguf")


def test_a_wrong_folder_of_llama_cpp_is_told_before_the_work(run, tmp_path):
    with pytest.raises(ModelError, match=r"--llama-cpp: expected convert_hf_to_gguf.py"):
        exported(run, tmp_path / "out", format="gguf", llama_cpp=tmp_path / "elsewhere")
    assert "Merged" not in said(tmp_path / "out")


def test_unsloth_converts_where_there_is_no_llama_cpp(tmp_path, monkeypatch):
    package = tmp_path / "packages"
    package.mkdir()
    (package / "unsloth.py").write_text(
        "from pathlib import Path\n"
        "class Model:\n"
        "    def save_pretrained_gguf(self, folder, tokenizer, quantization_method):\n"
        "        Path(folder + '_gguf').mkdir()\n"
        "        for kind in ('BF16', quantization_method.upper()):\n"
        "            Path(folder + '_gguf', f'm.{kind}.gguf').write_text(f'{self.name} {kind}')\n"
        "class FastLanguageModel:\n"
        "    @staticmethod\n"
        "    def from_pretrained(name, load_in_4bit):\n"
        "        assert load_in_4bit is False\n"
        "        model = Model(); model.name = name\n"
        "        return model, None\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package))
    monkeypatch.setattr(gguf, "_unsloth_works", lambda: True)
    target = tmp_path / "model-q4_k_m.gguf"
    gguf.make_gguf(gguf.Conversion(tmp_path / "merged", target, "q4_k_m"), None)
    assert target.read_text() == f"{tmp_path / 'merged'} Q4_K_M"


# ------------------------------------------------------------------------------------ Ollama

HEADERS = (
    "{{% for m in messages %}}{before}{{{{ m.content | trim }}}}{after}{{% endfor %}}{opening}"
)


def tagged(before, after, opening):
    asked = f"{{% if add_generation_prompt %}}{opening}{{% endif %}}"
    return HEADERS.format(before=before, after=after, opening=asked)


ROLE = "{{ m.role }}"
TEMPLATES = {
    "chatml": tagged(f"<|im_start|>{ROLE}\n", "<|im_end|>\n", "<|im_start|>assistant\n"),
    "llama3": "<|begin_of_text|>"
    + tagged(
        f"<|start_header_id|>{ROLE}<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "phi3": tagged(f"<|{ROLE}|>\n", "<|end|>\n", "<|assistant|>\n"),
    "phi4-mini": tagged(f"<|{ROLE}|>", "<|end|>", "<|assistant|>"),
    "phi4": tagged(
        f"<|im_start|>{ROLE}<|im_sep|>", "<|im_end|>", "<|im_start|>assistant<|im_sep|>"
    ),
    "gemma": "<bos>{% if messages[0].role == 'system' %}{% set s = messages[0].content ~ '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ s if loop.first else '' }}{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    "mistral-v3": "<s>{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('no system') }}{% elif m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    "mistral-v7": "<s>{% for m in messages %}{% if m.role == 'system' %}[SYSTEM_PROMPT]"
    "{{ m.content }}[/SYSTEM_PROMPT]{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]"
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
}


def with_template(text):
    tokenizer = load_tokenizer("builtin:tiny")
    tokenizer.chat_template = text
    return tokenizer


def go(template, messages):
    """The part of Go's text/template that a Modelfile uses, as Ollama fills it."""
    blocks, out = [], []
    for piece in re.split(r"(\{\{ .*? \}\})", template):
        action = piece.removeprefix("{{ ").removesuffix(" }}")
        if action == piece:
            out.append(piece)
        elif action.startswith("range $i, $_ := .Messages"):
            blocks.append("for")
            out.append("{% for m in messages %}")
        elif match := re.fullmatch(r'if eq \.Role "(\w+)"', action):
            blocks.append("if")
            out.append(f"{{% if m.role == '{match[1]}' %}}")
        elif action == "if and $.System (le $i 1)":
            blocks.append("if")
            out.append("{% if system and loop.index0 <= 1 %}")
        elif action == "end":
            out.append(f"{{% end{blocks.pop()} %}}")
        else:
            out.append({".Content": "{{ m.content }}", "$.System": "{{ system }}"}[action])
    assert not blocks
    system = "".join(m["content"] for m in messages if m["role"] == "system")
    made = Environment(keep_trailing_newline=True).from_string("".join(out))
    return made.render(messages=messages, system=system)


CHAT = [
    {"role": "user", "content": "How many apples?"},
    {"role": "assistant", "content": "How many does Ann buy?"},
    {"role": "user", "content": "4."},
]


@pytest.mark.parametrize("name", TEMPLATES)
def test_modelfile_renders_what_the_tokenizer_renders(name):
    tokenizer = with_template(TEMPLATES[name])
    assert detect_family(tokenizer).name == name
    text = modelfile(tokenizer, "./m.gguf", end_tokens=["<e>"], system=None, context=512)
    template = text.partition('TEMPLATE """')[2].partition('"""')[0]
    for chat in (CHAT[:1], CHAT, [{"role": "system", "content": "Be brief."}, *CHAT]):
        if chat[0]["role"] == "system" and name == "mistral-v3":
            continue
        wanted = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        # llama.cpp writes the first token of a text by itself.
        wanted = re.sub(r"^(<\|begin_of_text\|>|<bos>|<s>)", "", wanted)
        assert go(template, chat) == wanted


def test_modelfile_says_where_when_to_stop_and_who_it_is():
    tokenizer = with_template(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Q.<|im_end|>\n{% endif %}"
        + TEMPLATES["chatml"]
    )
    made = modelfile(
        tokenizer, "./m.gguf", end_tokens=["<|im_end|>", "<|e|>"], system=None, context=512
    )
    lines = made.splitlines()
    assert lines[0] == "FROM ./m.gguf"
    assert 'SYSTEM """You are Q."""' in lines  # what the template says by itself
    assert [x for x in lines if " stop " in x] == [
        'PARAMETER stop "<|im_end|>"',
        'PARAMETER stop "<|e|>"',
    ]
    own = modelfile(tokenizer, "./m.gguf", end_tokens=[], system="Ask first.", context=512)
    assert "You are Q." not in own
    assert 'SYSTEM """Ask first."""' in own
    dated = with_template(
        TEMPLATES["llama3"].replace(
            "{{ m.content", "{{ 'Today: 1.\n\n' if m.role == 'system' }}{{ m.content"
        )
    )
    own = modelfile(dated, "./m.gguf", end_tokens=[], system="Ask first.", context=512)
    assert 'SYSTEM """Today: 1.\n\nAsk first."""' in own
    with pytest.raises(ModelError, match="cannot quote"):
        modelfile(tokenizer, "./m", end_tokens=[], system='"""\nPARAMETER x', context=1)


def test_an_unknown_template_is_refused_before_the_work():
    with pytest.raises(ModelError, match="renders none of chatml, llama3, phi3"):
        detect_family(with_template("{% for m in messages %}### {{ m.content }}{% endfor %}"))


# ---------------------------------------------------------------------------------- the card


def figure(value):
    return {"value": value, "low": value - 5, "high": value + 5}


def write_eval(place, value):
    place.mkdir(parents=True)
    summary = {
        "settings": {"full": {"P": figure(value)}},
        "rates": {"clarification_rate": figure(value)},
        "judged_with": {"problems": 70, "runs": 8, "split": "test", "temperature": 1.0},
    }
    (place / "eval.json").write_text(json.dumps(summary))


def card(run, **changes):
    recipe = load_recipe(run / "recipe.yaml").model_copy(update=changes)
    return model_card(recipe, run, name="me/tiny", contents=["`a`: b"], parity="4 prompts")


def test_card_holds_recipe_shares_and_figures(run, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    write_eval(run / "eval", 91.25)
    write_eval(run / "eval-base", 83.0)
    text = card(run, dataset_name="openai/gsm8k", model_name_or_path="Qwen/Qwen2.5-1.5B-Instruct")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["base_model"] == "Qwen/Qwen2.5-1.5B-Instruct"
    assert front["datasets"] == ["openai/gsm8k"]
    assert "| underspecified | 30 % | 50.0 % | 3 |" in text
    assert "|  | base | this model |\n|---|---|---|\n" in text
    assert "| FULL P | 83.0 \\[78, 88\\] | 91.2 \\[86, 96\\] |\n" in text
    assert "70 problems of the test split" in text
    written = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert written["learning_rate"] == 0.002
    assert "output_dir" not in written


def test_card_of_a_run_that_was_not_judged(run):
    assert "Not evaluated." in card(run)
    assert "base_model" not in card(run)


def test_nothing_in_the_data_becomes_markup(run):
    """Names and prompts are whatever a corpus holds."""
    text = card(
        run,
        dataset_name="a|b <script>alert(1)</script>\n# Head `x`",
        system_prompt="```\n# Escaped?\n```\nhf_abcdefghijklmnop",
    )
    assert "<script>" not in text.partition("## Recipe")[0]
    assert "\n# Head" not in text.partition("## Recipe")[0]
    fences = re.findall(r"^`{4,}\w*$", text, re.MULTILINE)
    assert fences == ["````yaml", "````"]
    assert "hf_abcdefghijklmnop" not in text
    assert inline("a|b\n*c*<d>") == r"a\|b \*c\*&lt;d&gt;"
    assert fence("a ```` b") == "`````"


def test_card_does_not_say_where_things_lie(run):
    text = card(run, dataset_name="/home/ann/secret/problems.jsonl")
    assert "/home/ann" not in text
    assert "problems.jsonl" in text


# ----------------------------------------------------------------------------------- the hub


@pytest.fixture
def api(monkeypatch):
    """huggingface_hub's HfApi, as far as an upload goes."""
    calls = []

    class Api:
        error = None

        def create_repo(self, repo_id, *, private=None, exist_ok=False):
            calls.append(("create", repo_id, private, exist_ok))
            if Api.error:
                raise Api.error
            return SimpleNamespace(repo_id=f"me/{repo_id}" if "/" not in repo_id else repo_id)

        def upload_folder(self, *, repo_id, folder_path, commit_message=None):
            names = sorted(p.name for p in Path(folder_path).iterdir())
            calls.append(("upload", repo_id, names))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    return SimpleNamespace(calls=calls, Api=Api)


def test_push_is_private_and_whole(run, tmp_path, api, unproved, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_thisisasecrettoken")
    out = exported(run, tmp_path / "out", repo="tiny-icpo", base="nf4")
    create, upload = api.calls
    assert create == ("create", "tiny-icpo", True, True)
    assert upload[1] == "me/tiny-icpo"
    assert {"model.safetensors", "README.md", "tokenizer.json", "config.json"} <= {*upload[2]}
    assert "https://huggingface.co/me/tiny-icpo" in said(out)
    texts = [f.read_bytes() for f in out.rglob("*") if f.is_file()] + [said(out).encode()]
    assert not any(b"hf_thisisasecrettoken" in text for text in texts)
    assert "# tiny-icpo" in (out / "README.md").read_text()


def test_public_and_the_recipes_repository(run, tmp_path, api, unproved):
    other = shutil.copytree(run, tmp_path / "run")
    text = (other / "recipe.yaml").read_text().replace("hub_model_id: null", "hub_model_id: me/r")
    (other / "recipe.yaml").write_text(text)
    exported(other, tmp_path / "out", repo="", private=False, base="nf4")
    assert api.calls[0] == ("create", "me/r", False, True)


def test_a_refusal_of_the_hub_is_one_line_without_the_token(tmp_path, api):
    api.Api.error = OSError("401 for token hf_thisisasecrettoken\nRequest ID: 1")
    with pytest.raises(IcpoError, match=r"^--push: the hub refused a/b: 401 for token \*\*\*$"):
        hub.push(tmp_path, "a/b")
    api.Api.error = LocalTokenNotFoundError("no token")
    with pytest.raises(IcpoError, match="hf auth login"):
        hub.push(tmp_path, "a/b")


def test_export_imports_no_unsloth(run):
    assert "unsloth" not in sys.modules
