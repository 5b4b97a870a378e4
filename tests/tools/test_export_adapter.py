"""The adapter alone, for peft, llama.cpp, Ollama and the hub; a merged folder as vLLM reads it."""

import base64
import json
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from policies import model_keys
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from test_export import CONVERTER, exported, make_run, plainly_said, said
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from icpo_lite.core.errors import IcpoError, ModelError, UsageError
from icpo_lite.policy.load import load_policy, load_tokenizer, model_path
from icpo_lite.policy.lora_merge import lora_updates
from icpo_lite.recipe import load_recipe
from icpo_lite.tools.export import gguf, hub
from icpo_lite.tools.export import run as export_run
from icpo_lite.tools.export.adapter import CONFIG, WEIGHTS, write_adapter
from icpo_lite.tools.export.options import ExportOptions, check_options

TINY = Path(model_path("builtin:tiny"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setattr(gguf, "_HOMES", (str(tmp_path / "nowhere"),))


@pytest.fixture
def llama_cpp(tmp_path):
    home = tmp_path / "llama.cpp"
    home.mkdir()
    for name in ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py"):
        (home / name).write_text(CONVERTER)
    return home


def changed(run, folder, **config):
    """The run with other words in adapter_config.json."""
    other = shutil.copytree(run, folder)
    said = json.loads((other / CONFIG).read_text()) | config
    (other / CONFIG).write_text(json.dumps(said))
    return other


# -------------------------------------------------------------------------------------- for peft

_PEFT = """
import json, sys
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
folder, text = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
chat = [{"role": "user", "content": text}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
with torch.no_grad():
    logps = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
assert not [name for name in sys.modules if name.startswith("icpo_lite")]
print(json.dumps([ids, logps.tolist()]))
"""


def test_plain_peft_says_what_the_policy_says(run, tmp_path):
    """In a process without this package, which is given nothing but the folder."""
    out = exported(run, tmp_path / "out", adapter=True)
    assert not (out / "model.safetensors").exists(), "no base is in it"
    assert "Merged" not in said(out)
    assert "library_name: peft" in (out / "README.md").read_text()
    text = "Ann has 12 apples. Ann buys 3 apples. How many apples does Ann have?"
    done = subprocess.run(
        [sys.executable, "-c", _PEFT, str(out), text], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    ids, found = json.loads(done.stdout.splitlines()[-1])
    keys = model_keys("builtin:tiny", device="cpu", lora_r=4, load_in_4bit=False)
    policy = load_policy(keys, adapter=run, trainable=False)
    with torch.no_grad():
        own = policy.causal_lm(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    assert (torch.tensor(found) - own).abs().max() < 1e-4


def merged_updates(folder):
    keys = model_keys("builtin:tiny", device="cpu", lora_r=4, load_in_4bit=False)
    updates = lora_updates(load_policy(keys, adapter=folder, trainable=False))
    return {name: u.scale * (u.B.float() @ u.A.float()) for name, u in updates.items()}


def test_every_rule_of_scaling_becomes_alpha_by_r(run, tmp_path):
    """llama.cpp and Ollama know no other: by hand, r 4, alpha 16, a module's own alpha 2."""
    given = changed(
        run, tmp_path / "given", use_rslora=True, alpha_pattern={"layers.1.mlp.up_proj": 2}
    )
    folder = tmp_path / "out"
    folder.mkdir()
    write_adapter(given, load_recipe(run / "recipe.yaml"), folder, shared=False)
    config = json.loads((folder / CONFIG).read_text())
    assert (config["use_rslora"], config["alpha_pattern"]) == (False, {})
    before, after = load_file(given / WEIGHTS), load_file(folder / WEIGHTS)
    one = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    other = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    assert torch.allclose(after[one], before[one] * (2 / 16 * 2))
    assert torch.allclose(after[other], before[other] * 2)
    assert torch.equal(after[one.replace("_B", "_A")], before[one.replace("_B", "_A")])
    wanted, found = merged_updates(given), merged_updates(folder)
    assert all(torch.allclose(found[name], update, atol=1e-6) for name, update in wanted.items())


def test_weights_that_are_none_or_change_nothing_are_refused(run, tmp_path):
    for value, words in ((0.0, "B of zeros; train it first"), (float("nan"), "found NaN")):
        other = shutil.copytree(run, tmp_path / str(value))
        weights = load_file(other / WEIGHTS)
        filled = {k: torch.full_like(t, value) if "lora_B" in k else t for k, t in weights.items()}
        save_file(filled, other / WEIGHTS)
        with pytest.raises(ModelError, match=words):
            exported(other, tmp_path / "out", adapter=True)
        assert not (tmp_path / "out").exists()


def test_the_base_is_told_by_a_path_only_on_this_machine(run, tmp_path):
    recipe = load_recipe(run / "recipe.yaml")
    for shared, wanted in ((False, str(TINY)), (True, TINY.name)):
        folder = tmp_path / str(shared)
        folder.mkdir()
        write_adapter(run, recipe, folder, shared=shared)
        config = json.loads((folder / CONFIG).read_text())
        assert config["base_model_name_or_path"] == wanted


def test_a_full_disk_is_one_line_whoever_tells_it(run, tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr("icpo_lite.tools.export.adapter.save_file", full)
    with pytest.raises(IcpoError, match=r"^cannot write .*out: No space left on device; free some"):
        exported(run, tmp_path / "out", adapter=True)
    assert [p.name for p in tmp_path.iterdir()] == ["said.txt"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantisation": "q8_0"}, "--quantization is the kind of a GGUF; add --format gguf"),
        ({"ollama_base": "llama3.2"}, "--ollama-base .*; add --adapter"),
        ({"adapter": True, "base": "nf4"}, "--base is of a merged model"),
        ({"adapter": True, "format": "gguf", "quantisation": "q4_k_m"}, "expected one of f32, f16"),
        ({"adapter": True, "format": "ollama"}, "expected what Ollama calls the adapter's base"),
        ({"adapter": True, "ollama_base": "llama3.2"}, "add --format ollama"),
        (
            {"adapter": True, "format": "ollama", "ollama_base": "a\nSYSTEM b"},
            "expected a name on one line",
        ),
    ],
)
def test_what_does_not_go_together_is_told_before_any_work(options, words):
    with pytest.raises(UsageError, match=words):
        check_options(ExportOptions(**options))


# -------------------------------------------------------------------------------- for llama.cpp


def test_the_lora_alone_becomes_a_gguf(run, tmp_path, llama_cpp):
    out = exported(run, tmp_path / "out", adapter=True, format="gguf", llama_cpp=llama_cpp)
    asked = (out / "adapter-f16.gguf").read_text().split()
    assert asked[1:] == [
        *("--outfile", str(tmp_path / ".out.aside" / "adapter-f16.gguf")),
        *("--outtype", "f16", "--base", str(TINY.resolve())),
    ]
    assert f"llama-cli -m BASE.gguf --lora {out}/adapter-f16.gguf" in said(out).splitlines()[-1]


def test_without_its_converter_no_lora_is_made(run, tmp_path, llama_cpp):
    (llama_cpp / "convert_lora_to_gguf.py").unlink()
    out = tmp_path / "out"
    with pytest.raises(ModelError, match=r"expected .*convert_lora_to_gguf.py, found none"):
        exported(run, out, adapter=True, format="gguf", llama_cpp=llama_cpp)
    assert (out / WEIGHTS).is_file()
    with pytest.raises(ModelError, match=r"expected llama.cpp's convert_lora_to_gguf.py in"):
        exported(run, out, adapter=True, format="gguf")
    assert "convert_lora_to_gguf.py" in said(out)
    assert "llama-quantize" not in said(out)


def test_dora_is_no_lora_that_llama_cpp_reads(run, tmp_path):
    other = changed(run, tmp_path / "dora", use_dora=True)
    with pytest.raises(UsageError, match=r"expected plain LoRA, found DoRA .* leave --adapter out"):
        exported(other, tmp_path / "out", adapter=True, format="gguf")


# ----------------------------------------------------------------------------------- for Ollama

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: The instructions of a Modelfile and the parameters of PARAMETER (Ollama's docs/modelfile.mdx).
INSTRUCTIONS = {"FROM", "ADAPTER", "TEMPLATE", "SYSTEM", "PARAMETER"}
PARAMETERS = {
    *("num_ctx", "repeat_last_n", "repeat_penalty", "temperature", "seed", "stop", "num_predict"),
    *("draft_num_predict", "top_k", "top_p", "min_p"),
}


def read_modelfile(text):
    """Instruction → its values, of the documented form; anything else fails."""
    found = {}
    pattern = r'([A-Z]+) ("""(?:.|\n)*?"""|[^\n]*)\n'
    position = 0
    while position < len(text):
        match = re.compile(pattern).match(text, position)
        assert match, text[position:]
        name, value = match.groups()
        assert name in INSTRUCTIONS
        if name == "PARAMETER":
            assert value.split()[0] in PARAMETERS
        found.setdefault(name, []).append(value.removeprefix('"""').removesuffix('"""'))
        position = match.end()
    assert len(found["FROM"]) == 1
    return found


def byte_tokenizer():
    """Byte-level BPE without merges, a kind that llama.cpp and Ollama have a form for."""
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = [*marks, *pre_tokenizers.ByteLevel.alphabet()]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    made.chat_template = CHATML
    return made


@pytest.fixture(scope="module")
def llama_run(tmp_path_factory):
    """A run on a small Llama, in two files, with a tokenizer of bytes."""
    base = tmp_path_factory.mktemp("bases") / "small-llama"
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(base, max_shard_size="100KB")
    byte_tokenizer().save_pretrained(base)
    folder = tmp_path_factory.mktemp("runs") / "Small Llama"
    return make_run(folder, model_keys(str(base), device="cpu", lora_r=4, load_in_4bit=False))


def test_ollama_imports_an_adapter_beside_its_base(llama_run, tmp_path):
    out = exported(
        llama_run,
        tmp_path / "out",
        adapter=True,
        format="ollama-safetensors",
        ollama_base="llama3.2:1b",
    )
    found = read_modelfile((out / "Modelfile").read_text())
    assert (found["FROM"], found["ADAPTER"]) == (["llama3.2:1b"], ["."])
    assert 'stop "<|im_end|>"' in found["PARAMETER"]
    assert "num_ctx 512" in found["PARAMETER"]
    assert (out / WEIGHTS).is_file()
    assert said(out).splitlines()[-1] == f"Next: ollama create small-llama -f {out}/Modelfile"
    assert "later ones read GGUF in their place" in said(out).replace("\n", " ")


def test_ollama_takes_the_lora_as_gguf_too(llama_run, tmp_path, llama_cpp):
    out = exported(
        llama_run,
        tmp_path / "out",
        adapter=True,
        format="ollama",
        ollama_base="./base.gguf",
        llama_cpp=llama_cpp,
    )
    found = read_modelfile((out / "Modelfile").read_text())
    assert (found["FROM"], found["ADAPTER"]) == (["./base.gguf"], ["./adapter-f16.gguf"])


def test_ollama_imports_only_what_it_knows(run, tmp_path):
    with pytest.raises(UsageError, match=r"expected one of LlamaForCausalLM, .*, found Qwen2"):
        exported(
            run,
            tmp_path / "out",
            adapter=True,
            format="ollama-safetensors",
            ollama_base="qwen2.5:0.5b",
        )
    with pytest.raises(UsageError, match=r"ollama-safetensors: .* this model's is WordLevel"):
        exported(run, tmp_path / "out", format="ollama-safetensors")


# ------------------------------------------------------------------------------ merged, for vLLM


def test_a_merged_folder_is_whole_for_those_who_load_it(llama_run, tmp_path, monkeypatch):
    """What vLLM's loader reads of a folder, and Ollama's `FROM .`: every file that another names,
    each weight once, and nothing else that looks like weights; transformers alone loads it."""
    out = exported(llama_run, tmp_path / "out", format="ollama-safetensors")
    assert read_modelfile((out / "Modelfile").read_text())["FROM"] == ["."]
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["dtype"], "quantization_config" in config) == ("bfloat16", False)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(file.name for file in out.glob("*.safetensors"))
    assert files == sorted({*index["weight_map"].values()})
    assert len(files) > 1
    held = {name: load_file(out / name) for name in files}
    assert {key: name for name, tensors in held.items() for key in tensors} == index["weight_map"]
    size = sum(t.numel() * t.element_size() for ts in held.values() for t in ts.values())
    assert index["metadata"]["total_size"] == size
    assert all((out / name).stat().st_mode & 0o044 == 0o044 for name in files), "others read them"
    ends = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [2]
    assert (out / "chat_template.jinja").read_text() == CHATML
    assert {"tokenizer.json", "tokenizer_config.json"} <= {file.name for file in out.iterdir()}
    (text,) = plainly_said(out, [[{"role": "user", "content": "Ann has 3 apples."}]])
    assert isinstance(text, str)


# -------------------------------------------------------------------------------------- the hub


class Hub(BaseHTTPRequestHandler):
    """The hub as an upload meets it, behind huggingface_hub's own client."""

    calls: list[tuple[str, object]]
    refuses: bool

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        rows = [json.loads(line) for line in body.splitlines() if line.strip()]
        type(self).calls.append((self.path, rows))
        if self.refuses:
            return self.answer(403, {"error": "no rights for token hf_thisisasecrettoken"})
        if self.path == "/api/repos/create":
            return self.answer(200, {"url": f"{self.home}/me/{rows[0]['name']}"})
        if "/preupload/" in self.path:
            listed = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in rows[0]["files"]
            ]
            return self.answer(200, {"files": listed})
        if "/commit/" in self.path:
            made = f"{self.home}/me/r/commit/abc"
            return self.answer(200, {"commitUrl": made, "commitOid": "abc", "success": True})
        return self.answer(200, {"warnings": [], "errors": []})

    def do_GET(self):
        type(self).calls.append((self.path, None))
        self.answer(404, {"error": "nothing is here"})

    @property
    def home(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, status, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub_server(monkeypatch):
    handler = type("OneHub", (Hub,), {"calls": [], "refuses": False})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_thisisasecrettoken")
        yield handler
        server.shutdown()
        thread.join()


def test_a_run_directory_is_read_by_plain_transformers(run):
    """As its own model card says; the map that a merged model needs fails beside an adapter."""
    own = load_tokenizer("builtin:tiny")
    read = AutoTokenizer.from_pretrained(run)
    for text in ("Ann has 12 apples.", "3.5 + x = 7"):
        assert read(text)["input_ids"] == own(text)["input_ids"]


def test_the_adapter_alone_is_pushed_by_the_hubs_own_client(run, tmp_path, hub_server):
    out = exported(run, tmp_path / "out", adapter=True, repo="mine")
    asked = dict(hub_server.calls)
    created = asked["/api/repos/create"][0]
    assert created["name"] == "mine"
    assert created.get("visibility") == "private" or created.get("private") is True
    (commit,) = [rows for path, rows in hub_server.calls if "/commit/" in path]
    files = {row["value"]["path"]: row["value"] for row in commit if row["key"] == "file"}
    assert {*files} >= {WEIGHTS, CONFIG, "README.md", "tokenizer.json", "chat_template.jinja"}
    assert not [name for name in files if name.startswith("model")], "no base is uploaded"
    sent = base64.b64decode(files[WEIGHTS]["content"])
    assert sent == (out / WEIGHTS).read_bytes()
    config = json.loads(base64.b64decode(files[CONFIG]["content"]))
    assert config["base_model_name_or_path"] == "tiny", "no folder of this machine"
    everything = b"".join(base64.b64decode(file["content"]) for file in files.values())
    assert b"hf_thisisasecrettoken" not in everything
    assert str(tmp_path).encode() not in everything
    assert "Pushed: https://huggingface.co/me/mine" in said(out)


def test_a_refusal_of_the_real_client_is_one_line(tmp_path, hub_server):
    hub_server.refuses = True
    with pytest.raises(IcpoError, match=r"^--push: the hub refused a/b: ") as error:
        hub.push(tmp_path, "a/b")
    assert "\n" not in str(error.value)
    assert "no rights for" in str(error.value)
    assert "hf_thisisasecrettoken" not in str(error.value)


def test_export_takes_no_other_way_to_the_hub():
    assert export_run.push is hub.push
