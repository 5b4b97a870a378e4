"""Runs with LoRA of every kind: resumed bit for bit, begun from an adapter, exported."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_run import _train_with_signal_in_step, assert_equal_adapters, quiet, recipe

from icpo_lite.cli import run as run_cli
from icpo_lite.core.errors import IcpoError, UsageError
from icpo_lite.policy.from_recipe import load_model
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.start_adapter import with_own_keys
from icpo_lite.recipe import load_recipe
from icpo_lite.runs import train as run_module
from icpo_lite.runs.checkpoint import latest_checkpoint, load_checkpoint
from icpo_lite.tools.export.run import ExportOptions, export

FEW = ("prompts_per_step=2", "max_completion_length=8", "max_steps=2", "warmup_steps=0")
KINDS = {
    "dora": ("use_dora=true", "use_rslora=true", "beta=0.1"),
    "pissa": ("init_lora_weights=pissa", "beta=0.1", "load_in_4bit=false"),
    "loftq": ("init_lora_weights=loftq", "beta=0.1"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_resumed_bit_for_bit(kind, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    changes = (*FEW, "max_steps=3", *KINDS[kind])  # the first step may teach nothing
    run_module.train(recipe(whole, *changes), quiet(tmp_path))
    with pytest.raises(run_module.Interrupted):
        _train_with_signal_in_step(1, recipe(cut, *changes), tmp_path)
    if kind != "dora":  # what it began from is the checkpoint's: another machine rounds otherwise
        torch_svd = torch.linalg.svd

        def elsewhere(*arguments, **options):
            u, s, vt = torch_svd(*arguments, **options)
            return u, s * (1 + 1e-5), vt

        monkeypatch.setattr(torch.linalg, "svd", elsewhere)
    run_module.train(recipe(cut, *changes), quiet(tmp_path))
    assert_equal_adapters(whole, cut)
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").open()]
    assert any(row["grad_norm"] > 0 for row in rows)
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)  # the reference is where training began
    assert abs(rows[-1]["kl"]) > 1e-7


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps whose adapter others begin from: rank 4, alpha 12, rsLoRA, two targets."""
    home = tmp_path_factory.mktemp("first")
    folder = home / "run"
    keys = ("lora_r=4", "lora_alpha=12", "use_rslora=true", "lora_target_modules=q_proj,v_proj")
    run_module.train(recipe(folder, *FEW, *keys), quiet(home))
    return folder


#: Of `tiny`, which sets rank and alpha itself.
OWN = ("lora_r=4", "lora_alpha=12")


def test_a_run_begins_where_another_ended(trained, tmp_path):
    folder = tmp_path / "second"
    changes = (*FEW, *OWN, "beta=0.1", f"adapter_name_or_path={trained}")
    chosen = recipe(folder, *changes)
    policy = load_policy(with_own_keys(chosen))
    before, _ = load_model(str(trained), device="cpu")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        began = policy.causal_lm(input_ids=ids).logits
        assert torch.equal(began, before.causal_lm(input_ids=ids).logits)
        for parameter in policy.trainable():
            parameter += 0.05
        with policy.reference():
            assert torch.equal(began, policy.causal_lm(input_ids=ids).logits)
    run_module.train(chosen, quiet(tmp_path))
    kept = load_recipe(folder / "recipe.yaml")
    assert (kept.lora_r, kept.lora_alpha, kept.use_rslora) == (4, 12, True)
    assert kept.lora_target_modules == ("q_proj", "v_proj")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)
    one, two = (load_file(f / "adapter_model.safetensors") for f in (trained, folder))
    assert one.keys() == two.keys()
    assert any(not torch.equal(one[name], two[name]) for name in one)
    # Resumed bit for bit, also where the adapter has changed since.
    cut = tmp_path / "cut"
    with pytest.raises(run_module.Interrupted):
        _train_with_signal_in_step(1, recipe(cut, *changes), tmp_path)
    assert "start" in load_checkpoint(latest_checkpoint(cut).path).tensors
    run_module.train(recipe(cut, *changes), quiet(tmp_path))
    assert_equal_adapters(folder, cut)


def test_its_own_rank_and_kind_are_taken_where_nobody_says_otherwise(trained):
    keys = {"model_name_or_path": "builtin:tiny", "dataset_name": "builtin:world"}
    recipe = with_own_keys(
        load_recipe("qwen0.5b", **keys, adapter_name_or_path=str(trained), lora_r=4, lora_alpha=12)
    )
    assert recipe.lora_target_modules == ("q_proj", "v_proj")
    assert recipe.use_rslora


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("lora_r=8",), "lora_r: expected 4, which"),
        (("lora_r=4", "lora_alpha=16"), "lora_alpha: expected 12, which"),
        ((*OWN, "use_rslora=false"), "use_rslora: expected true"),
        ((*OWN, "use_dora=true"), "use_dora: expected false"),
        ((*OWN, "lora_target_modules=q_proj"), "expected [q_proj, v_proj], which"),
        ((*OWN, "init_lora_weights=pissa"), "brings weights of its own"),
        ((*OWN, "model_name_or_path=Qwen/Qwen3-4B"), "was trained on builtin:tiny, found"),
    ],
)
def test_what_the_recipe_says_otherwise_is_refused(changes, said, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("icpo_lite.policy.load.load_tokenizer", None)  # no model is looked for
    with pytest.raises(UsageError) as error:
        run_module.train(
            recipe(tmp_path / "run", f"adapter_name_or_path={trained}", *changes), quiet(tmp_path)
        )
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def broken(folder, trained, **config):
    folder.mkdir()
    own = json.loads((trained / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**own, **config}))
    weights = load_file(trained / "adapter_model.safetensors")
    save_file(weights, folder / "adapter_model.safetensors")
    return weights


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "IA3"}, "expected an adapter of LoRA, found IA3"),
        ({"modules_to_save": ["lm_head"]}, "found modules_to_save"),
        ({"bias": "all"}, "found bias"),
        ({"rank_pattern": {"q_proj": 2}}, "found rank_pattern"),
        ({"init_lora_weights": "pissa"}, "path_initial_model_for_weight_conversion"),
        ({"base_model_name_or_path": "Qwen/Qwen3-4B"}, "set model_name_or_path to its own model"),
        ({"target_modules": ["q_proj", "o_proj"]}, "does not fit this model"),
    ],
)
def test_an_adapter_that_is_something_else_is_refused(config, said, trained, tmp_path):
    broken(tmp_path / "odd", trained, **config)
    changes = (*OWN, f"adapter_name_or_path={tmp_path / 'odd'}")
    with pytest.raises(IcpoError) as error:
        load_policy(recipe(tmp_path / "run", *changes))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_adapter_of_other_shapes_or_without_weights_is_refused(trained, tmp_path):
    weights = broken(tmp_path / "odd", trained)
    name = next(iter(weights))
    file = tmp_path / "odd" / "adapter_model.safetensors"
    save_file({**weights, name: torch.zeros(4, 3)}, file)
    changes = (*OWN, f"adapter_name_or_path={tmp_path / 'odd'}")
    with pytest.raises(IcpoError, match=r"has the shape \[4, 3\], expected \[4, "):
        load_policy(recipe(tmp_path / "run", *changes))
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(IcpoError, match="a pickle that is not read"):
        load_policy(recipe(tmp_path / "run", *changes))
    changes = (f"adapter_name_or_path={tmp_path / 'none'}",)
    with pytest.raises(IcpoError, match="adapter_name_or_path: no folder"):
        load_policy(recipe(tmp_path / "run", *changes))
    (tmp_path / "none").mkdir()
    with pytest.raises(IcpoError, match=r"expected adapter_config\.json in .*, found none"):
        load_policy(recipe(tmp_path / "run", *changes))


def test_an_adapter_of_a_copy_or_a_quantised_copy_of_the_model_fits(trained, tmp_path):
    broken(tmp_path / "odd", trained, base_model_name_or_path="unsloth/Qwen3-4B-unsloth-bnb-4bit")
    keys = ("model_name_or_path=Qwen/Qwen3-4B", f"adapter_name_or_path={tmp_path / 'odd'}")
    assert with_own_keys(recipe(tmp_path / "run", *OWN, *keys)).lora_r == 4


@pytest.mark.parametrize("kind", ["dora", "pissa"])
def test_a_run_of_every_kind_is_exported(kind, tmp_path):
    folder = tmp_path / "run"
    run_module.train(recipe(folder, *FEW, *KINDS[kind], "learning_rate=0.02"), quiet(tmp_path))
    options = ExportOptions(prompts=1, base="nf4" if kind == "dora" else "16bit")
    export(folder, tmp_path / "out", options, quiet(tmp_path), device="cpu")
    assert (tmp_path / "out" / "export.json").is_file()


def test_loftq_is_exported_on_what_it_was_trained_on(tmp_path):
    """The weights as published hold what LoftQ begins at already: it would count twice."""
    folder = tmp_path / "run"
    run_module.train(recipe(folder, *FEW, *KINDS["loftq"]), quiet(tmp_path))
    export(folder, tmp_path / "out", ExportOptions(prompts=1), quiet(tmp_path), device="cpu")
    assert json.loads((tmp_path / "out" / "export.json").read_text())["base"] == "nf4"
    assert "loftq" in (tmp_path / "printed.txt").read_text().lower()


# ------------------------------------------------------------------- what is not done here, by name


def test_one_of_several_processes_is_declined(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"one of 2 that torchrun or accelerate started"):
        run_module.train(recipe(tmp_path / "run"), quiet(tmp_path))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("device=mps", "a Mac's GPU is not used"),
        ("device=mps:0", "a Mac's GPU is not used"),
        ("device=cuda:0,1", "a run trains on one device"),
        ("device='0,1'", "a run trains on one device"),
        ("deepspeed=ds.json", "icpo-lite trains on one device"),
        ("num_processes=4", "icpo-lite trains on one device"),
        ("use_mps_device=true", "a Mac's GPU (mps) is not used"),
        ("freeze_vision_tower=true", "the text decoder alone learns"),
    ],
)
def test_several_gpus_macs_and_images_are_declined_by_name(override, said, capsys):
    assert run_cli(["train", "tiny", override]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_a_model_that_sees_and_has_no_text_model_is_declined(tmp_path):
    config = {"model_type": "qwen2_5_vl", "vision_config": {}, "text_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="found qwen2_5_vl, which also sees") as error:
        load_policy(recipe(tmp_path / "run", f"model_name_or_path={tmp_path}"))
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
