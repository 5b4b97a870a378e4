"""The folders that `handover` writes: TRL trains from one, verl's names hold in the other."""

import ast
import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from icpo_lite import cli
from icpo_lite.cli.handover import handover
from icpo_lite.core.errors import UsageError
from icpo_lite.data import from_recipe
from icpo_lite.data.tiny_world import world_problems
from icpo_lite.integrations import verl
from icpo_lite.policy.from_recipe import find_model
from icpo_lite.policy.load import model_path
from icpo_lite.recipe import Recipe, load_recipe
from icpo_lite.tools.handover import left_behind, trl_keys, verl_keys
from icpo_lite.tools.handover.reply_rewards import ReplyRewards
from icpo_lite.tools.report.run_files import read_sources
from icpo_lite.training.schedules import lr_factor

trl = pytest.importorskip("trl", reason="trl is not installed (it is in the test extra)")

NAMES = json.loads(Path(__file__).with_name("verl_0_9_1.json").read_text())
SMALL = [
    *("max_steps=2", "prompts_per_step=4", "num_generations=4", "max_completion_length=24"),
    *("share_underspecified=0.5", "logging_steps=1", "learning_rate=0.01", "lora_r=4"),
]


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    """Each test makes a folder, and most of its time would go into prompts that nobody draws."""
    monkeypatch.setattr(from_recipe, "WORLD_PROBLEMS", 64)


def handed(tmp_path, side, *more, recipe="tiny"):
    out = tmp_path / side
    arguments = [recipe, *SMALL, *more, "--to", side, "-o", str(out)]
    result = CliRunner().invoke(handover, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out, result.output


# ---------------------------------------------------------------------------------- TRL, for real


@pytest.mark.timeout(600)
@pytest.mark.parametrize("processes", [1, 2])
def test_trl_trains_two_steps_from_a_folder(processes, tmp_path):
    """By its own command, and what comes back is judged and shown as a run of ours."""
    out, _ = handed(tmp_path, "trl")
    command = [sys.executable, str(out / "train.py")]
    if processes > 1:
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
        launch += ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
        command = [*launch, "--mixed_precision", "no", "--dynamo_backend", "no", command[-1]]
    package = str(Path(cli.__file__).parents[2])
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": package,
        "HF_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=540
    )
    assert done.returncode == 0, done.stderr[-3000:]
    adapter = out / "adapter"
    assert f"Next: icpo-lite eval {adapter}" in done.stdout
    weights = load_file(adapter / "adapter_model.safetensors")
    assert any(torch.count_nonzero(w) for name, w in weights.items() if "lora_B" in name)
    rows = [row for step in (1, 2) for row in completions(adapter, step)]
    assert len(rows) == 2 * 4 * 4
    check_rewards(out, rows)
    if processes == 1:
        check_judged(adapter)


def completions(adapter, step):
    return pq.read_table(adapter / "completions" / f"completions_{step:05d}.parquet").to_pylist()


def check_rewards(out, rows):
    """TRL's log of every completion, in groups of one prompt, with the reward that we give it."""
    written = pq.read_table(out / "train.parquet").to_pylist()
    rewards = ReplyRewards(load_recipe(out / "recipe.yaml"))
    assert [r["prompt"] for r in rows] == [w["prompt"] for w in written for _ in range(4)]
    replies = []
    for row, one in zip(rows, [w for w in written for _ in range(4)], strict=True):
        text = row["completion"][0]["content"]
        ids = rewards.reader.encode_text(text)
        ends = [min(rewards.reader.end_ids)] * (len(ids) < 24)
        replies.append(rewards.reply(one["prompt_row"], text, [*ids, *ends]))
    judged, _ = rewards.judged(replies)
    wanted = [one.reward.total for one in judged]
    assert len(set(wanted)) > 1
    assert [r["guarded"] for r in rows] == pytest.approx(wanted, abs=1e-6)  # TRL's are float32


def check_judged(adapter):
    """`eval` and `report` on the adapter, with the recipe that it was trained with."""
    assert find_model(str(adapter)).recipe.max_completion_length == 24
    arguments = ["--compare", "base", "--problems", "2", "--runs", "1", "--settings", "full"]
    assert cli.run(["eval", str(adapter), *arguments, "--device", "cpu"]) == 0
    assert cli.run(["report", str(adapter)]) == 0
    (run,) = read_sources([adapter]).runs
    assert [row["step"] for row in run.metrics] == [1, 2]
    assert {"reward", "rewards/guarded/mean", "learning_rate"} <= run.metrics[0].keys()
    assert set(run.metrics[0]) & {"accuracy", "clarification_rate"}
    assert read_sources([adapter]).judgements[0].compared == ["base"]


def config_of(recipe):
    """GRPOConfig as the script makes it, four completions at once."""
    rows = recipe.prompts_per_step * recipe.num_generations // recipe.num_mini_batches
    machine = {"use_cpu": True, "bf16": False, "per_device_train_batch_size": 4}
    return trl.GRPOConfig(
        "out",
        gradient_accumulation_steps=rows // 4,
        **machine,
        **trl_keys.config_arguments(recipe),
    )


CONFIGS = {
    "tiny": [],
    "qwen7b": [],
    "qwen14b": [],
    "qwen32b": [],
    "paper-1.5b": [],
    "cispo": ["loss_type=cispo", "epsilon_high=5.0"],
    "vespo": ["loss_type=vespo", "vespo_k_pos=1.5"],
    "gspo": ["importance_sampling_level=sequence", "epsilon=3e-4", "epsilon_high=4e-4"],
    "entropy": ["entropy_target=0.3", "entropy_coef=0.01"],
    "iterated": ["num_iterations=2", "num_mini_batches=2", "optim=adamw_8bit", "delta=4.0"],
    "vllm": ["use_vllm=true", "importance_sampling_mode=sequence_mask"],
}


@pytest.mark.parametrize("name", CONFIGS)
def test_trl_takes_every_argument(name, monkeypatch):
    more = [] if name in ("qwen7b", "qwen14b", "qwen32b", "paper-1.5b") else SMALL
    recipe = load_recipe(name if not more else "tiny", [*more, *CONFIGS[name]])
    monkeypatch.setattr(trl_keys, "_run_arguments", lambda r: {"report_to": "none"})
    arguments = trl_keys.config_arguments(recipe)
    fields = {f.name for f in dataclasses.fields(trl.GRPOConfig)}
    assert set(arguments) <= fields
    updates = recipe.num_iterations * recipe.num_mini_batches
    assert arguments["max_steps"] == recipe.max_steps * updates
    if more:
        made = config_of(recipe)
        assert made.loss_type == recipe.loss_type
        assert made.generation_batch_size == recipe.prompts_per_step * recipe.num_generations
        updates_there = made.steps_per_generation // made.gradient_accumulation_steps
        assert updates_there * made.num_iterations == updates


def test_what_is_left_out_is_trls_own_default():
    """A key that is not written must mean the same there."""
    fields = {f.name: f for f in dataclasses.fields(trl.GRPOConfig)}
    for key in trl_keys.WHERE_SET:
        ours = Recipe.model_fields[key].get_default(call_default_factory=True)
        assert fields[key].default == ours, key


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize("warmup", [0, 5])
def test_the_learning_rate_takes_our_course(kind, floor, warmup):
    from transformers import get_scheduler

    recipe = load_recipe(
        "tiny",
        [f"lr_scheduler_type={kind}", f"min_lr_ratio={floor}", f"warmup_steps={warmup}",
         "max_steps=20", "learning_rate=1.0"],
    )  # fmt: skip
    given = trl_keys.schedule_arguments(recipe)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(
        given["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=given.get("warmup_steps", 0),
        num_training_steps=given["max_steps"],
        scheduler_specific_kwargs=given.get("lr_scheduler_kwargs"),
    )
    there = []
    for _ in range(20):
        there.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    ours = [lr_factor(step, 20, kind, warmup, floor) for step in range(20)]
    assert there[warmup:] == pytest.approx(ours[warmup:], abs=1e-12)


@pytest.mark.parametrize("side", ["trl", "verl"])
def test_what_only_this_trainer_does_is_said(side, tmp_path):
    keys = ("warm_up_steps=auto", "system_prompt=ask", "system_prompt_steps=0.5")
    out, _ = handed(tmp_path, side, *keys, "importance_sampling_level=turn")
    readme = " ".join((out / "README.md").read_text().split())
    for said in ("a model that hardly asks is not shown", "every row keeps the words of system"):
        assert said in readme
    if side == "trl":
        assert "'sequence'" in (out / "train.py").read_text().replace('"', "'")


def test_the_script_is_plain_and_says_what_does_not_fit(tmp_path):
    out, said = handed(tmp_path, "trl", "load_in_4bit=true", "dtype=bfloat16")
    text = (out / "train.py").read_text()
    names = {
        k.arg for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) for k in n.keywords
    }
    assert {
        "peft_config",
        "quantization_config",
        "loss_type",
        "lora_alpha",
        "epsilon_high",
    } <= names
    assert 'bnb_4bit_quant_type="nf4"' in text
    assert "bf16 = True" in text
    assert max(map(len, text.splitlines())) <= 100
    assert max(map(len, said.splitlines())) <= max(80, len(f"Next: {out}") + 70)
    environment = os.environ | {"WORLD_SIZE": "7", "PYTHONPATH": str(tmp_path / "stubs")}
    (tmp_path / "stubs").mkdir()
    for stub in ("trl", "peft", "datasets"):
        names_of = "GRPOConfig = GRPOTrainer = LoraConfig = Dataset = None\n"
        (tmp_path / "stubs" / f"{stub}.py").write_text(names_of)
    (tmp_path / "stubs" / "transformers").mkdir()
    (tmp_path / "stubs/transformers/__init__.py").write_text("BitsAndBytesConfig = None\n")
    (tmp_path / "stubs/transformers/trainer_utils.py").write_text("get_last_checkpoint = None\n")
    (tmp_path / "stubs/icpo_lite/integrations").mkdir(parents=True)
    for place in ("icpo_lite/__init__.py", "icpo_lite/integrations/__init__.py"):
        (tmp_path / "stubs" / place).write_text("")
    (tmp_path / "stubs/icpo_lite/integrations/trl.py").write_text(
        "model = reward_funcs = tokenizer = None\n"
    )
    done = subprocess.run(
        [sys.executable, str(out / "train.py")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert "expected 16 completions to be a multiple of 7 processes x AT_ONCE 2" in done.stderr


# -------------------------------------------------------------- verl, by its release's names


def leaves(block, path=""):
    for key, value in block.items():
        name = f"{path}.{key}" if path else key
        yield from leaves(value, name) if isinstance(value, dict) and value else [(name, value)]


VERL = {
    "tiny": [],
    "dr_grpo": ["loss_type=dr_grpo", "scale_rewards=none", "beta=0.02"],
    "cispo": ["loss_type=cispo", "epsilon_high=5.0"],
    "gspo": ["importance_sampling_level=sequence", "loss_type=grpo"],
    "clip_cov": ["clip_cov=2e-4", "optim=adamw_8bit", "adam_epsilon=1e-6"],
    "kl_cov": ["kl_cov=2e-3", "dynamic_sampling=true"],
    "sapo": ["loss_type=sapo", "delta=null"],
}


@pytest.mark.parametrize("name", VERL)
def test_every_key_is_one_of_verls(name):
    recipe = load_recipe("tiny", [*SMALL, *VERL[name]])
    made = verl_keys.config(recipe, "some/model")
    assert made.pop("hydra") == {"searchpath": ["pkg://verl.trainer.config"]}
    assert made.pop("defaults") == ["ppo_trainer", "_self_"]
    found = dict(leaves(made))
    unknown = {n for n in found if n not in NAMES["config"]}
    # A mapping that is null by default has no keys in the list.
    assert unknown <= {"actor_rollout_ref.actor.optim.override_optimizer_config.eps"}
    actor = "actor_rollout_ref.actor"
    assert found[f"{actor}.policy_loss.loss_mode"] in NAMES["policy_losses"]
    assert found[f"{actor}.loss_agg_mode"] in NAMES["averages"]
    assert found[f"{actor}.optim.lr_scheduler_type"] in NAMES["lr_scheduler_types"]
    assert found[f"{actor}.clip_ratio_c"] > 1
    assert found["data.shuffle"] is False
    assert set(verl_keys.AVERAGES.values()) <= set(NAMES["averages"])


def test_a_loss_that_verl_lacks_is_refused(tmp_path):
    arguments = ["tiny", *SMALL, "loss_type=vespo", "--to", "verl", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(handover, arguments)
    assert "expected one that verl has" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_loss_that_trl_lacks_is_refused(tmp_path):
    arguments = ["tiny", *SMALL, "loss_type=rec", "--to", "trl", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(handover, arguments)
    assert "expected one that TRL has" in str(result.exception)


def test_small_methods_that_stay_behind_are_said():
    keys = ["advantage_shaping=aspo", "token_weights=d3s", "group_rewards=win_rate"]
    recipe = load_recipe("tiny", [*keys, "advantage=rae", "logged_completions=x"])
    said = " ".join(left_behind._small_methods(recipe, "TRL"))
    for key in ("advantage: rae", "advantage_shaping", "token_weights", "group_rewards", "logged_"):
        assert key in said
    assert not list(left_behind._small_methods(load_recipe("tiny"), "TRL"))


def test_a_teacher_and_a_budget_of_tokens_that_stay_behind_are_said():
    """A reward that pays nothing leaves nothing to learn there, and that is said too."""
    said = "\n".join(left_behind._objective(load_recipe("tiny-icpo-maigo"), "trl"))
    assert "distill: maigo" in said
    assert "rewards are all 0" not in said
    alone = load_recipe("tiny-maigo", ["max_sampled_tokens=500"])
    said = "\n".join(left_behind._objective(alone, "verl"))
    assert "rewards are all 0" in said
    assert f"max_sampled_tokens: the run ends with its {alone.max_steps} steps alone" in said


def test_verls_files_are_what_it_reads(tmp_path):
    out, _ = handed(tmp_path, "verl", "chat_template_kwargs={}")
    rows = pq.read_table(out / "train.parquet").to_pylist()
    assert list(rows[0]) == NAMES["columns"]
    assert rows[0]["prompt"][-1].keys() == {"role", "content"}
    assert rows[0]["reward_model"]["style"] == "rule"
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (Path(config["actor_rollout_ref"]["model"]["path"]) / "config.json").is_file()
    run = (out / "run.sh").read_text()
    overrides = set(re.findall(r"([a-z_.]+)=\"\$here", run))
    assert overrides <= set(NAMES["config"])
    assert len(overrides) == 4
    assert "-m verl.trainer.main_ppo --config-path" in run
    assert subprocess.run(["bash", "-n", str(out / "run.sh")]).returncode == 0


def test_the_reward_file_has_verls_signature(tmp_path):
    """Loaded from its path, under no name, as verl does, in a process of its own."""
    out, _ = handed(tmp_path, "verl")
    code = (
        "import importlib.util, inspect, json, sys\n"
        "import pyarrow.parquet as pq\n"
        f"place = {str(out / 'reward.py')!r}\n"
        "spec = importlib.util.spec_from_file_location('custom_module_1', place)\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "score = module.compute_score\n"
        "assert not inspect.iscoroutinefunction(score)\n"
        f"rows = pq.read_table({str(out / 'train.parquet')!r}).to_pylist()\n"
        "row = next(r for r in rows if r['extra_info']['intent'] == 'complete')\n"
        "row['extra_info'] |= {'num_turns': 2, 'rollout_reward_scores': {}}\n"
        "text = f\"The answer is {row['reward_model']['ground_truth']}.\"\n"
        "found = score(data_source=row['data_source'], solution_str=text,\n"
        "    ground_truth=row['reward_model']['ground_truth'], extra_info=row['extra_info'])\n"
        "print(json.dumps([list(inspect.signature(score).parameters), found]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parameters, found = json.loads(done.stdout.splitlines()[-1])
    assert parameters[:4] == NAMES["compute_score"]
    assert found == {"score": 1.0, "acc": 1.0, "asks": 0.0, "underspecified": 0.0}
    assert list(inspect.signature(verl.compute_score).parameters)[:4] == NAMES["compute_score"]


def test_what_verls_merger_makes_is_judged_with_the_recipe(tmp_path):
    """Its adapter names no base and lies deep in the folder (base_model_merger.py)."""
    out, _ = handed(tmp_path, "verl")
    adapter = out / "merged" / "lora_adapter"
    adapter.mkdir(parents=True)
    config = {"r": 4, "lora_alpha": 16, "peft_type": "LORA", "base_model_name_or_path": None}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    found = find_model(str(adapter))
    assert found.recipe is not None
    assert found.recipe.model_name_or_path == "builtin:tiny"
    assert found.base is None


def test_an_adapter_that_knows_no_recipe_is_judged_on_the_base_it_names(tmp_path, capsys):
    """peft's own folder, such as somebody else's script has written."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = model_path("builtin:tiny")
    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM")).save_pretrained(tmp_path / "lora")
    found = find_model(str(tmp_path / "lora"))
    assert (found.recipe, found.base) == (None, base)
    arguments = ["--problems", "1", "--runs", "1", "--settings", "full", "--device", "cpu"]
    assert cli.run(["eval", str(tmp_path / "lora"), "--compare", "base", *arguments]) == 0
    said = capsys.readouterr().out
    assert "FULL lora - base: +0.0" in said
    assert said.endswith(f"Next: icpo-lite report {tmp_path / 'lora'}\n")
    assert cli.run(["report", str(tmp_path / "lora")]) == 0
    config = tmp_path / "lora" / "adapter_config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": None})
    )
    with pytest.raises(UsageError, match="expected base_model_name_or_path"):
        find_model(str(tmp_path / "lora"))


# ----------------------------------------------------------------------------- what a folder says


def test_what_the_other_side_lacks_is_said_of_what_the_recipe_uses(tmp_path):
    _, plain = handed(
        tmp_path / "a", "trl", "augment.mid_conversation=0", "count_zero_variance=true"
    )
    for absent in ("mid-conversation", "dynamic_sampling", "count_zero_variance", "min_reward_std"):
        assert absent not in plain
    assert "no multi-turn training" in " ".join(plain.split())
    _, full = handed(
        *(tmp_path / "b", "verl", "min_reward_std=0.25", "eval_steps=1", "reward.max_tokens=9"),
        *("mask_truncated_completions=true", "underspecified_weight=2.0", "stop_on=always_asks"),
    )
    said = " ".join(full.split())
    for words in (
        *("min_reward_std: 0.25", "eval_steps", "takes from a reply's tokens", "mid-conversation"),
        *("mask_truncated_completions", "underspecified_weight", "stop_on", "load_in_4bit"),
        "lr_scheduler_type: linear",
    ):
        assert words in said, words
    readme = (tmp_path / "b" / "verl" / "README.md").read_text()
    assert "ray start --head" in readme
    assert max(map(len, readme.splitlines())) <= 80
    assert all(f"- {line}" in " ".join(readme.split()) for line in ("min_reward_std: 0.25",))


def test_a_second_time_writes_over_the_first_and_over_nothing_else(tmp_path):
    handed(tmp_path, "trl")
    again, _ = handed(tmp_path, "trl", "seed=7")
    assert "seed=7" in (again / "train.py").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    result = CliRunner().invoke(
        handover, ["tiny", *SMALL, "--to", "trl", "-o", str(tmp_path / "other")]
    )
    assert "expected a new folder or an earlier handover" in str(result.exception)


def test_a_file_of_problems_is_found_from_the_folder(tmp_path, monkeypatch):
    """The recipe in the folder is read from elsewhere, and its evaluation reads the same file."""
    rows = [
        {"question": p.question, "answer": f"{p.solution}\n#### {p.answer}"}
        for p in world_problems("train", 40, seed=1)
    ]
    monkeypatch.chdir(tmp_path)
    Path("q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    Path("r.yaml").write_text("extends: tiny\ndataset_name: q.jsonl\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out, _ = handed(tmp_path, "trl", recipe="r.yaml")
    monkeypatch.chdir("/")
    assert load_recipe(out / "recipe.yaml").dataset_name == str((tmp_path / "q.jsonl").resolve())


def test_no_secret_goes_into_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "sk-very-secret-0123456789")
    block = "endpoint={base_url: 'http://localhost:1/v1', model: m, api_key_env: MY_API_KEY, "
    block += "extra_body: {api_key: sk-very-secret-0123456789}}"
    out, _ = handed(tmp_path, "trl", block)
    texts = "".join(f.read_text() for f in out.iterdir() if f.suffix in (".py", ".yaml", ".md"))
    assert "very-secret" not in texts
    assert "Not the key in MY_API_KEY" in texts


def test_kinds_of_lora_go_along_or_are_named():
    keys = ["use_rslora=true", "use_dora=true", "init_lora_weights=gaussian", "lora_r=4"]
    recipe = load_recipe("tiny", [*keys, "lora_alpha=8"])
    told = trl_keys.lora_arguments(recipe)
    assert (told["use_rslora"], told["use_dora"], told["init_lora_weights"]) == (
        *(True, True, "gaussian"),
    )
    assert (
        verl_keys._model(recipe, "model")["lora_alpha"] == 16
    )  # 8·√4, of which it makes alpha / r
    assert "use_dora: plain LoRA." in list(left_behind._only_verl(recipe))
    begun = load_recipe("tiny", ["init_lora_weights=pissa"])
    for name in ("TRL", "verl"):
        (said,) = left_behind._lora(begun, name)
        assert said.startswith("init_lora_weights: pissa: LoRA begins as peft's own")
    assert not list(left_behind._lora(load_recipe("tiny"), "TRL"))
