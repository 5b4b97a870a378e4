"""unsloth or transformers: which is taken and why, in what order they are imported."""

import ast
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from policies import model_keys

from icpo_lite.core.device import Device, choose_device
from icpo_lite.core.errors import DeviceError, ModelError, UsageError
from icpo_lite.policy import backends, libraries, unsloth_backend
from icpo_lite.policy.backends import Backend, choose_backend
from icpo_lite.policy.unsloth_backend import UnslothLoader, check_causal, guard_decoder

ROOT = Path(__file__).parents[2]
CPU = Device(torch.device("cpu"), torch.float32, "CPU")
GPU = Device(torch.device("cuda", 0), torch.bfloat16, "RTX 3060 (12 GiB)")
#: The parameters that the calls in `unsloth_backend` rely on, as unsloth 2026.10.4 and 2026.10.9
#: have them.
RELIED_ON = {
    "from_pretrained": {
        *("model_name", "max_seq_length", "dtype", "load_in_4bit", "device_map"),
        *("trust_remote_code", "use_gradient_checkpointing", "use_exact_model_name"),
        *("fix_tokenizer", "random_state", "fast_inference", "max_lora_rank"),
        "gpu_memory_utilization",
    },
    "get_peft_model": {
        *("model", "r", "target_modules", "lora_alpha", "lora_dropout", "bias"),
        *("use_gradient_checkpointing", "random_state", "use_rslora", "init_lora_weights"),
        # And `use_dora`, by way of **kwargs: a test reads where these go.
    },
    "for_training": {"model"},
    "for_inference": {"model"},
}


def unsloth_here(monkeypatch, *, imported=True, capability=(8, 6)):
    spec = importlib.machinery.ModuleSpec("unsloth", None)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: spec if name == "unsloth" else found(name)
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    if imported:
        monkeypatch.setitem(sys.modules, "unsloth", type(sys)("unsloth"))
    else:
        monkeypatch.delitem(sys.modules, "unsloth", raising=False)


def test_auto_takes_unsloth_where_it_is_installed_and_can_run(monkeypatch):
    unsloth_here(monkeypatch)
    chosen = choose_backend(model_keys("m"), GPU)
    assert chosen.name == "unsloth"
    assert "RTX 3060" in chosen.reason
    assert isinstance(chosen.loader, UnslothLoader)


@pytest.mark.parametrize(
    ("spec", "device", "capability", "reason"),
    [
        (model_keys("m"), CPU, (8, 6), "needs an NVIDIA GPU"),
        (model_keys("m"), GPU, (6, 0), "compute capability 7.0"),
        (model_keys("m"), Device(GPU.torch_device, torch.float32, "x"), (8, 6), "float32"),
        (model_keys("m", attn_implementation="eager"), GPU, (8, 6), "attn_implementation"),
        (model_keys("m", backend="transformers"), GPU, (8, 6), "as the recipe asks"),
    ],
)
def test_auto_says_why_it_leaves_unsloth_aside(spec, device, capability, reason, monkeypatch):
    unsloth_here(monkeypatch, capability=capability)
    chosen = choose_backend(spec, device)
    assert chosen.name == "transformers"
    assert reason in chosen.reason


def test_unsloth_that_comes_too_late_is_not_imported(monkeypatch):
    unsloth_here(monkeypatch, imported=False)
    monkeypatch.setitem(sys.modules, "transformers", type(sys)("transformers"))
    chosen = choose_backend(model_keys("m"), GPU)
    assert (chosen.name, "unsloth" in sys.modules) == ("transformers", False)
    assert "imported before" in chosen.reason
    with pytest.raises(ModelError, match=r"asked for, but transformers was imported before"):
        choose_backend(model_keys("m", backend="unsloth"), GPU)


def test_unsloth_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert choose_backend(model_keys("m"), GPU) == Backend(
        "transformers", "unsloth is not installed"
    )
    with pytest.raises(ModelError, match=r"not installed; use backend: auto"):
        choose_backend(model_keys("m", backend="unsloth"), GPU)


def test_unsloth_that_breaks_at_import_leaves_a_run_with_transformers(tmp_path):
    """In a process of its own: what is imported cannot be taken back."""
    (tmp_path / "unsloth.py").write_text("raise RuntimeError('no driver\\nlong trace')")
    code = (
        "import torch\nfrom icpo_lite.core.device import Device\n"
        "from icpo_lite.policy.backends import choose_backend\n"
        "from icpo_lite.recipe.sections import ModelKeys\n"
        "torch.cuda.get_device_capability = lambda *_: (8, 6)\n"
        "gpu = Device(torch.device('cuda', 0), torch.bfloat16, 'GPU')\n"
        "print(choose_backend(ModelKeys(model_name_or_path='m'), gpu))"
    )
    done = run_python(["-c", code], tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert "unsloth cannot be imported (no driver)" in done.stdout
    assert "long trace" not in done.stdout


def run_python(arguments, folder, **environment):
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
            **environment,
        },
    )
    assert done.returncode == 0, done.stderr
    return done


def test_train_imports_unsloth_before_transformers_and_peft(tmp_path):
    """`icpo-lite train` itself, with a user's reward that imports transformers."""
    rewards = (
        "import transformers\n\ndef zero(prompts, completions, **rest):\n"
        "    return [0.0] * len(prompts)\n"
    )
    recipe = tmp_path / "r.yaml"
    (tmp_path / "mine.py").write_text(rewards)
    recipe.write_text("extends: tiny\nreward_funcs: [mine.py:zero]\n")
    log = tmp_path / "log"
    done = run_python(
        [
            *("-m", "icpo_lite", "train", "r.yaml", "backend=unsloth", "device=cpu", "max_steps=1"),
            *("prompts_per_step=2", "num_generations=2", "max_completion_length=8"),
            *("evaluation.enabled=false", "output_dir=run", "gradient_checkpointing=true"),
            *("compare={}", "use_rslora=true", "use_dora=true", "init_lora_weights=gaussian"),
            r"lora_target_modules='.*\.(q|v)_proj'",
        ],
        tmp_path,
        PYTHONPATH=os.pathsep.join([str(ROOT / "tests" / "fake_unsloth"), str(ROOT)]),
        FAKE_UNSLOTH_LOG=str(log),
        HF_HUB_OFFLINE="1",
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (first,) = (line for line in lines if "early" in line)
    assert first["early"] == []
    assert first["quiet"] == ["1", "1"]
    calls = {line["call"]: line for line in lines if "call" in line}
    assert calls["from_pretrained"]["four"] is True
    assert calls["from_pretrained"]["length"] == 512
    assert calls["get_peft_model"]["gc"] == "unsloth"
    # Its 2026.10.4 takes a regular expression for a list of letters: names are handed over.
    assert calls["get_peft_model"]["targets"] == ["q_proj", "v_proj"]
    assert calls["get_peft_model"]["kind"] == [True, "gaussian", {"use_dora": True}]
    assert "for_training" in calls
    assert "unsloth 2026.10.9, as the recipe asks" in done.stdout + done.stderr
    config = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "builtin:tiny"


def test_a_run_can_be_imported_without_transformers(tmp_path):
    """Runs that are compared begin by importing `run`, in processes of their own."""
    code = (
        "import icpo_lite.runs.train, icpo_lite.evaluation.compare, icpo_lite.policy.load, sys\n"
        "assert not {'transformers', 'peft', 'unsloth'} & set(sys.modules)"
    )
    run_python(["-c", code], tmp_path, PYTHONPATH=str(ROOT))


#: Parameters that reach a function further in through `**kwargs`: (file, function) -> names. The
#: second reads the rest of the first's by name.
HANDED_ON = {
    ("unsloth/models/llama.py", "FastLlamaModel.from_pretrained"): {"unsloth_vllm_standby"},
    ("unsloth/models/vision.py", "FastBaseModel.from_pretrained"): {"unsloth_vllm_standby"},
    ("unsloth_zoo/vllm_utils.py", "load_vllm"): {"max_num_seqs", "gpu_memory_utilization"},
    ("unsloth_zoo/vllm_utils.py", "load_lora"): {"model", "save_directory", "load_tensors"},
}
#: What unsloth reads of the environment before it loads vLLM.
READ = ("UNSLOTH_VLLM_STANDBY", "UNSLOTH_VLLM_STANDBY_UTIL_OVERRIDE")


def functions_of(source):
    """Parameters by name, methods as Class.method, without importing anything."""
    tree = ast.parse(source)
    found = {}
    for outer in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))):
        prefix = f"{outer.name}." if isinstance(outer, ast.ClassDef) else ""
        for node in outer.body:
            if isinstance(node, ast.FunctionDef):
                arguments = (*node.args.args, *node.args.kwonlyargs)
                found[f"{prefix}{node.name}"] = {a.arg for a in arguments}
    return found


@pytest.mark.skipif(not importlib.util.find_spec("unsloth"), reason="unsloth is not installed")
def test_the_sources_of_unsloth_have_what_is_relied_on():
    """Read, not imported: that needs a GPU."""
    unsloth = Path(importlib.util.find_spec("unsloth").origin).parents[1]
    zoo = Path(importlib.util.find_spec("unsloth_zoo").origin).parents[1]
    read = {
        file: (folder / file).read_text(encoding="utf-8")
        for folder in (unsloth, zoo)
        for file in ("unsloth/models/loader.py", *(file for file, _ in HANDED_ON))
        if (folder / file).is_file()
    }
    loader = functions_of(read["unsloth/models/loader.py"])
    assert RELIED_ON["from_pretrained"] <= loader["FastLanguageModel.from_pretrained"]
    llama = functions_of(read["unsloth/models/llama.py"])
    for name in ("get_peft_model", "for_training", "for_inference"):
        assert RELIED_ON[name] <= llama[f"FastLlamaModel.{name}"], name
    # What it does not name reaches peft's LoraConfig.
    maker = read["unsloth/models/llama.py"]
    maker = maker[maker.index("def get_peft_model(") :]
    made = maker[maker.index("arguments = dict(") : maker.index("LoraConfig(**arguments)")]
    assert "**kwargs," in made
    for (file, function), wanted in HANDED_ON.items():
        assert wanted <= functions_of(read[file])[function], function
    for variable in READ:
        assert f'"{variable}"' in read["unsloth_zoo/vllm_utils.py"], variable


PARAMETERS = """
import unsloth, inspect, json
f = unsloth.FastLanguageModel
names = ("from_pretrained", "get_peft_model", "for_training", "for_inference")
print(json.dumps({n: list(inspect.signature(getattr(f, n)).parameters) for n in names}))
"""


@pytest.mark.gpu
@pytest.mark.skipif(not importlib.util.find_spec("unsloth"), reason="unsloth is not installed")
def test_what_is_relied_on_of_unsloth_is_there(tmp_path):
    """In a process of its own: its patches would reach the tests that come after."""
    done = run_python(["-c", PARAMETERS], tmp_path)
    found = json.loads(done.stdout.splitlines()[-1])
    for name, wanted in RELIED_ON.items():
        assert wanted <= set(found[name]), name


def test_the_fake_has_the_parameters_that_are_relied_on_and_no_others():
    place = ROOT / "tests" / "fake_unsloth" / "unsloth" / "__init__.py"
    nodes = ast.walk(ast.parse(place.read_text()))
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    for name, wanted in RELIED_ON.items():
        taken = {argument.arg for argument in functions[name].args.args}
        assert taken | {"use_gradient_checkpointing"} == wanted | {"use_gradient_checkpointing"}


# ------------------------------------------------------------------------- the decoder on its own


class Decoder(torch.nn.Module):
    """As unsloth's: in training the padding mask is dropped, and without `causal_mask` nothing
    tells attention to be causal (releases before 2026.10, with xformers)."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(32, 8)

    def forward(self, input_ids, causal_mask=None, attention_mask=None, use_cache=None):
        x = self.embed(input_ids)
        count = torch.arange(1, x.shape[1] + 1)[None, :, None]
        mixed = x.cumsum(1) / count if causal_mask is not None else x.mean(1, keepdim=True) + x
        return type("Out", (), {"last_hidden_state": mixed.double()})()


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder, self.lm_head = Decoder(), torch.nn.Linear(8, 32, bias=False)

    def get_decoder(self):
        return self.decoder

    def get_input_embeddings(self):
        return self.decoder.embed

    def get_output_embeddings(self):
        return self.lm_head


def test_hidden_states_that_see_later_tokens_are_refused(monkeypatch):
    monkeypatch.setattr(unsloth_backend, "_xformers_mask", lambda: None)
    model = Model()
    guard_decoder(model, CPU)
    with pytest.raises(ModelError, match="see later ones"):
        check_causal(model)


def test_the_decoder_alone_gets_the_causal_mask_and_lm_heads_dtype(monkeypatch):
    monkeypatch.setattr(unsloth_backend, "_xformers_mask", lambda: "lower triangle")
    model = Model()
    guard_decoder(model, CPU)
    check_causal(model)
    out = model.get_decoder()(input_ids=torch.arange(4)[None])
    assert out.last_hidden_state.dtype is torch.float32


# --------------------------------------------------------------------------------------- one GPU


def gpus(monkeypatch, *capabilities, built=("sm_75", "sm_80", "sm_86", "sm_90")):
    names = {(6, 0): "Tesla P100", (7, 5): "Tesla T4", (8, 6): "RTX 3060"}

    def index(device):
        return device if isinstance(device, int) else (device.index or 0)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(built))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda d: capabilities[index(d)])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: names[capabilities[index(d)]])
    properties = type("Properties", (), {"total_memory": 16 * 2**30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda d: properties)


def test_kaggles_p100_without_kernels_leaves_the_cpu(monkeypatch):
    gpus(monkeypatch, (6, 0))
    chosen = choose_device()
    assert chosen.torch_device.type == "cpu"
    assert "no kernels for Tesla P100 (compute capability 6.0)" in chosen.reasons[0]
    with pytest.raises(DeviceError, match="no kernels for Tesla P100"):
        choose_device("cuda")


def test_of_two_t4_one_is_used_in_float16(monkeypatch):
    gpus(monkeypatch, (7, 5), (7, 5))
    chosen = choose_device()
    assert (chosen.torch_device, chosen.dtype) == (torch.device("cuda", 0), torch.float16)
    assert chosen.name == "Tesla T4 (16 GiB)"
    assert any("one GPU is used" in reason for reason in chosen.reasons)
    assert any("no bfloat16 units" in reason for reason in chosen.reasons)


def test_the_gpu_that_can_run_is_picked_and_the_best_of_several(monkeypatch):
    gpus(monkeypatch, (6, 0), (7, 5), (8, 6))
    chosen = choose_device()
    assert chosen.torch_device == torch.device("cuda", 2)
    assert chosen.dtype is torch.bfloat16
    assert any("cuda:0 left aside" in reason for reason in chosen.reasons)


def test_bfloat16_by_hand_on_a_gpu_that_emulates_it_is_said(monkeypatch):
    gpus(monkeypatch, (7, 5))
    chosen = choose_device("cuda", "bfloat16")
    assert chosen.dtype is torch.bfloat16
    assert any("emulated" in reason for reason in chosen.reasons)


# ------------------------------------------------------------------------------- vLLM beside it


def beside(**keys):
    return unsloth_backend._beside(model_keys("builtin:tiny", lora_r=8, **keys))


def test_vllms_memory_is_the_recipes():
    """unsloth's own half of the GPU leaves no keys and values on a 12 GB card."""
    assert "fast_inference" not in beside(vllm_gpu_memory_utilization=0.4)
    asked = beside(
        use_vllm=True,
        vllm_gpu_memory_utilization=0.8,
        vllm_max_num_seqs=64,
        vllm_enable_sleep_mode=True,
    )
    assert asked == {
        "random_state": 0,
        "fast_inference": True,
        "max_lora_rank": 8,
        "gpu_memory_utilization": 0.8,
        "unsloth_vllm_standby": True,
        "max_num_seqs": 64,
    }
    plain = beside(use_vllm=True)
    assert plain["gpu_memory_utilization"] == 0.7
    assert "max_num_seqs" not in plain


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (RuntimeError("DoRA has no fast path"), UsageError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
    ],
)
def test_a_card_that_is_full_is_not_told_to_take_another_backend(raised, told, monkeypatch):
    class Full:
        def get_peft_model(self, *args, **kwargs):
            raise raised

    monkeypatch.setattr(unsloth_backend, "_fast_language_model", Full)
    monkeypatch.setattr(unsloth_backend, "lora_targets", lambda *_: ["q_proj"])
    keys = model_keys("any", lora_r=2, lora_target_modules=["q_proj"])
    with pytest.raises(told):
        UnslothLoader().new_adapter(SimpleNamespace(named_modules=list), keys)


@pytest.mark.parametrize("standby", [False, True])
def test_standby_is_asked_for_before_unsloth_patches_vllm(standby, monkeypatch):
    for variable in READ:
        monkeypatch.setenv(variable, "")  # put back to what it was afterwards
        monkeypatch.delenv(variable)
    for name in ("unsloth", "transformers", "peft"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    seen = []
    monkeypatch.setattr(
        importlib, "import_module", lambda name: seen.append([os.environ.get(v) for v in READ])
    )
    assert backends._import_unsloth(standby) == ""
    # The second keeps it from taking another share of the card than the recipe's.
    assert seen == [["1", "1"] if standby else [None, None]]


def test_a_library_is_imported_without_torchs_compiler(tmp_path, monkeypatch):
    (tmp_path / "asks_torch.py").write_text(
        "import os\nSAID = os.environ.get('TORCHDYNAMO_DISABLE')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    libraries.import_uncompiled("asks_torch")
    assert sys.modules.pop("asks_torch").SAID == "1"
    assert "TORCHDYNAMO_DISABLE" not in os.environ
    libraries.import_uncompiled("no_such_library")  # whoever needs it says so
    # What somebody has chosen stays.
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "0")
    libraries.import_uncompiled("asks_torch")
    assert "asks_torch" not in sys.modules
    assert os.environ["TORCHDYNAMO_DISABLE"] == "0"


def test_cycles_are_looked_for_again_after_loading():
    with libraries.without_collecting():
        assert not gc.isenabled()
        with libraries.without_collecting():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
