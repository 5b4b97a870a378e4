"""The GPU suite without a GPU: it ends, says why, and its checkpoints are what they claim."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from policies import model_keys
from transformers import AutoModelForCausalLM

from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import hidden_states

SUITE = Path(__file__).parents[1] / "gpu"


def module(name):
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", SUITE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run tests/gpu/run.sh")
def test_without_a_gpu_every_part_is_skipped_with_its_reason(tmp_path):
    done = subprocess.run(
        ["bash", str(SUITE / "run.sh"), "-o", str(tmp_path / "gpu.json")],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    names = [part["name"] for part in report["parts"]]
    assert names == ["32b-23gb", "bench", "7b-11gb", "7b-time", "14b-15gb", "tests", "float16"]
    assert {part["status"] for part in report["parts"]} == {"skipped"}
    assert all("needs an NVIDIA GPU" in part["reason"] for part in report["parts"])
    assert report["versions"]["torch"] == torch.__version__


def test_a_part_that_breaks_leaves_the_others_and_time_that_is_short_skips(tmp_path):
    suite = module("suite")
    setup = suite.Setup("cuda", False, tmp_path, suite.time.monotonic() + 30)

    def breaks(setup):
        raise RuntimeError("exit code 1: out of memory")

    broken = suite.attempt(suite.Part("a", 1, breaks), setup)
    assert (broken["status"], broken["reason"]) == (
        "failed",
        "RuntimeError: exit code 1: out of memory",
    )
    late = suite.attempt(suite.Part("b", 60, breaks), setup)
    assert late["status"] == "skipped"
    assert "takes about 60 s" in late["reason"]


def test_the_bounds_of_the_parts_end_within_eight_minutes():
    assert sum(part.seconds for part in module("suite").PARTS) <= 8 * 60 - 15


def test_preflight_names_what_is_missing_before_anything_runs(monkeypatch, capsys):
    suite = module("suite")
    monkeypatch.setattr(suite, "NEEDED", ("json", "no_such_wheel", "nor_this"))
    monkeypatch.setattr(suite.sys, "argv", ["suite.py"])
    assert suite.main() == 2
    assert capsys.readouterr().out.startswith("missing: no_such_wheel nor_this; ")
    monkeypatch.setattr(suite, "NEEDED", ("json",))
    monkeypatch.setattr(suite.sys, "argv", ["suite.py", "--preflight"])
    assert suite.main() == 0


def test_the_json_is_there_after_every_part(tmp_path, monkeypatch):
    """The second part finds what the first left on the disk."""
    suite = module("suite")
    out = tmp_path / "gpu.json"
    parts = (
        suite.Part("one", 1, lambda setup: 1),
        suite.Part(
            "two", 1, lambda setup: [p["name"] for p in json.loads(out.read_text())["parts"]]
        ),
    )
    monkeypatch.setattr(suite, "PARTS", parts)
    monkeypatch.setattr(suite.sys, "argv", ["suite.py", "-o", str(out), "--device", "cpu"])
    assert suite.main() == 0
    assert json.loads(out.read_text())["parts"][1]["result"] == ["one"]


@pytest.mark.parametrize(("size", "billions"), [("7b", 7.616), ("14b", 14.770), ("32b", 32.764)])
def test_the_shapes_are_the_published_sizes(size, billions):
    """Qwen2.5's model cards: 7.61, 14.7 and 32.5 (32.8 with biases and both embeddings) billion."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(module("shapes").CONFIGS[size])
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.001)


def test_a_checkpoint_made_layer_by_layer_loads_as_quantised_already(tmp_path):
    module("shapes").save_shape(tmp_path, "tiny", torch.device("cpu"), torch.float32)
    policy = load_policy(model_keys(str(tmp_path), device="cpu", lora_r=4))
    assert any("quantised already (nf4)" in note for note in policy.notes)
    layer = policy.causal_lm.model.layers[1].mlp.down_proj.base_layer
    assert layer.weight.quant_state.nested
    assert 0.5 < float(policy.causal_lm.lm_head.weight.std()) / 0.02 < 2
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.isfinite(hidden_states(policy, ids, torch.ones_like(ids))).all()
