"""A run from recipe to result: it learns, it resumes bit for bit, it says when it is done."""

import json
import math
import signal
import threading

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from icpo_lite.cli.train import train as train_command
from icpo_lite.core.console import Display
from icpo_lite.core.errors import DataError, NumericsError, RecipeError, RunDirectoryError
from icpo_lite.core.files import read_metrics
from icpo_lite.recipe import load_recipe
from icpo_lite.rollout.engines.registry import ENGINES, Engine
from icpo_lite.runs import train as run_module
from icpo_lite.runs.checkpoint import latest_checkpoint, load_checkpoint
from icpo_lite.runs.session import prepare_session
from icpo_lite.training.batch import mini_batches
from icpo_lite.training.loss_scale import growth_interval
from icpo_lite.training.trainer import Trainer
from icpo_lite.training.updater import Updater

SMALL = (
    *("prompts_per_step=4", "num_generations=4", "compare={}", "evaluation.enabled=false"),
    *("device=cpu", "logging_steps=1", "log_completions_steps=2", "max_completion_length=24"),
)


def recipe(folder, *overrides):
    return load_recipe("tiny", [f"output_dir={folder}", *SMALL, *overrides])


def quiet(tmp_path):
    return Display(total=1, live=False, file=(tmp_path / "printed.txt").open("a"))


def adapter(folder):
    return load_file(folder / "adapter_model.safetensors")


def assert_equal_adapters(one, other):
    a, b = adapter(one), adapter(other)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_interrupted_run_ends_bit_for_bit_where_the_uninterrupted_one_ends(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_module.train(recipe(whole, "max_steps=4", "save_steps=2"), quiet(tmp_path))

    chosen = recipe(cut, "max_steps=4", "save_steps=3", "completions_total_limit=3")
    with pytest.raises(run_module.Interrupted, match="interrupted after step") as stopped:
        _train_with_signal_in_step(2, chosen, tmp_path)
    assert stopped.value.exit_code == 130
    assert latest_checkpoint(cut).path.name == "checkpoint-2"
    run_module.train(chosen, quiet(tmp_path))

    assert_equal_adapters(whole, cut)
    replies = {file.name: file.read_bytes() for file in (whole / "completions").iterdir()}
    newest = {f"step-00000{step}.jsonl": replies[f"step-00000{step}.jsonl"] for step in (2, 3, 4)}
    assert len(replies) == 4
    assert {file.name: file.read_bytes() for file in (cut / "completions").iterdir()} == newest
    for file in (whole, cut):
        assert [row["step"] for row in read_metrics(file)] == [1, 2, 3, 4]
    # Sampling and training compute the same log-probs, up to rounding.
    gaps = [row.get("sampling/sampling_logp_difference/mean", 0.0) for row in read_metrics(whole)]
    assert 0 < max(gaps) < 1e-4
    same = ("loss", "reward", "entropy", "grad_norm", "learning_rate")
    for a, b in zip(read_metrics(whole), read_metrics(cut), strict=True):
        assert {k: a.get(k) for k in same} == {k: b.get(k) for k in same}


def _train_with_signal_in_step(step, chosen, tmp_path):
    """SIGINT reaches the process while the given step is being computed."""
    before = Trainer.step

    def signalling(self):
        if self.done_steps == step - 1:
            signal.raise_signal(signal.SIGINT)
        return before(self)

    assert threading.current_thread() is threading.main_thread()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", signalling)
        run_module.train(chosen, quiet(tmp_path))


def test_a_resume_finds_the_newest_replies_that_its_checkpoint_had(tmp_path, monkeypatch):
    """Killed two steps after a checkpoint, of whose steps one may keep its replies."""
    folder, step = tmp_path / "run", Trainer.step
    chosen = recipe(folder, "max_steps=5", "save_steps=2", "completions_total_limit=1")

    class Killed(BaseException):
        pass

    def killed_in_step_4(self):
        if self.done_steps == 3:
            raise Killed
        return step(self)

    def replies():
        return {file.name: file.read_bytes() for file in (folder / "completions").iterdir()}

    monkeypatch.setattr(Trainer, "step", killed_in_step_4)
    with pytest.raises(Killed):
        run_module.train(chosen, quiet(tmp_path))
    before = replies()
    assert sorted(before) == ["step-000002.jsonl", "step-000003.jsonl"]

    def same_replies_as_before(self):
        kept = replies()
        if self.done_steps == 2:
            assert kept == {"step-000002.jsonl": before["step-000002.jsonl"]}
        if self.done_steps == 3:
            assert kept == before
        return step(self)

    monkeypatch.setattr(Trainer, "step", same_replies_as_before)
    run_module.train(chosen, quiet(tmp_path))
    assert list(replies()) == ["step-000005.jsonl"]


def test_run_directory_holds_what_is_promised(tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from icpo_lite.policy.load import model_path

    folder = tmp_path / "run"
    run_module.train(recipe(folder, "max_steps=2", "save_steps=1"), quiet(tmp_path))
    names = {p.name for p in folder.iterdir()}
    assert names >= {
        *("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "recipe.yaml"),
        *("metrics.jsonl", "completions", "run.json", "checkpoint-2"),
    }
    info = json.loads((folder / "run.json").read_text())
    assert info["seed"] == 0
    assert "torch" in json.dumps(info["versions"])
    kept = load_recipe(folder / "recipe.yaml")
    day = f"chat_template_date='{kept.chat_template_date}'"  # the day on which it began
    assert kept.chat_template_date
    assert kept == recipe(folder, "max_steps=2", "save_steps=1", day)
    rows = [json.loads(x) for x in (folder / "completions/step-000002.jsonl").open()]
    assert len(rows) == 16
    assert {"completion", "response_type", "reward", "advantage"} <= rows[0].keys()
    base = AutoModelForCausalLM.from_pretrained(model_path("builtin:tiny"))
    loaded = PeftModel.from_pretrained(base, folder)
    weights = [p for n, p in loaded.named_parameters() if "lora_B" in n]
    assert any(w.abs().max() > 0 for w in weights)


def test_finished_run_only_shows_its_result(tmp_path):
    folder = tmp_path / "run"
    run_module.train(recipe(folder, "max_steps=1"), quiet(tmp_path))
    before = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    run_module.train(recipe(folder, "max_steps=1"), quiet(tmp_path))
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == before
    assert "This run is done" in (tmp_path / "printed.txt").read_text()


def test_more_steps_or_another_evaluation_are_judged_anew(tmp_path):
    folder = tmp_path / "run"
    judged = ["evaluation.enabled=true", "evaluation.problems=2", "evaluation.runs=1"]

    def made_with(*overrides):
        run_module.train(recipe(folder, *judged, *overrides), quiet(tmp_path), extend=True)
        return json.loads((folder / "eval/eval.json").read_text())["judged_with"]

    assert made_with("max_steps=1")["steps"] == 1
    assert made_with("max_steps=2")["steps"] == 2
    assert made_with("max_steps=2", "evaluation.runs=2")["runs"] == 2
    (folder / "eval/eval.json").write_text('{"settings": ')  # half of a file
    assert made_with("max_steps=2", "evaluation.runs=2")["runs"] == 2
    assert len(read_metrics(folder)) == 2


def test_a_recipe_that_learns_something_else_is_not_resumed(tmp_path):
    folder = tmp_path / "run"
    run_module.train(recipe(folder, "max_steps=1"), quiet(tmp_path))
    with pytest.raises(RunDirectoryError, match="learning_rate"):
        run_module.train(recipe(folder, "max_steps=2", "learning_rate=1e-4"), quiet(tmp_path))
    run_module.train(recipe(folder, "max_steps=2"), quiet(tmp_path), extend=True)
    assert [row["step"] for row in read_metrics(folder)] == [1, 2]


def test_micro_batches_never_change_the_result(tmp_path):
    """Per-device batches of 3 split groups of 4; the update is the same up to rounding."""
    one, many = tmp_path / "one", tmp_path / "many"
    run_module.train(recipe(one, "max_steps=2"), quiet(tmp_path))
    run_module.train(recipe(many, "max_steps=2", "per_device_train_batch_size=3"), quiet(tmp_path))
    for a, b in zip(read_metrics(one), read_metrics(many), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)


def test_several_updates_with_kl_run(tmp_path):
    folder = tmp_path / "run"
    chosen = recipe(
        folder,
        "max_steps=2",
        "num_iterations=2",
        "num_mini_batches=2",
        "beta=0.05",
        "loss_type=grpo",
    )
    run_module.train(chosen, quiet(tmp_path))
    rows = read_metrics(folder)
    assert rows[0]["updates"] == 4
    # The very first update starts at the reference, where the KL is 0; all others have left it.
    assert all(0 < row["kl"] < 1 for row in rows)
    # With several updates a batch the ratio leaves 1 and the clip acts on some tokens.
    assert any(row["clip_ratio/region_mean"] > 0 for row in rows)


def test_not_a_number_names_the_last_good_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run_module.train(recipe(folder, "max_steps=2", "save_steps=1"), quiet(tmp_path))
    broken = Updater._optimizer_step

    def nan_in_the_weights(self, *args):
        with torch.no_grad():
            self.policy.trainable()[0].fill_(float("nan"))
        return broken(self, *args)

    monkeypatch.setattr(Updater, "_optimizer_step", nan_in_the_weights)
    with pytest.raises(NumericsError, match=r"step 3: .*checkpoint-2"):
        run_module.train(
            recipe(folder, "max_steps=3", "save_steps=1"), quiet(tmp_path), extend=True
        )


def test_long_prompts_are_named_before_anything_is_written(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(DataError, match=r"max_prompt_length: 20 .* raise max_prompt_length to \d+"):
        run_module.train(
            recipe(folder, "max_prompt_length=20", "on_long_prompt=error"), quiet(tmp_path)
        )
    assert not folder.exists()


def test_a_kind_of_prompt_that_is_too_long_throughout_is_told_as_such(tmp_path):
    with pytest.raises(DataError, match=r"max_prompt_length: 20 .* raise max_prompt_length to \d+"):
        run_module.train(recipe(tmp_path / "run", "max_prompt_length=20"), quiet(tmp_path))


def test_replies_that_cannot_fit_the_model_are_refused(tmp_path):
    with pytest.raises(DataError, match="positions, this model has 512; lower max_completion"):
        run_module.train(recipe(tmp_path / "run", "max_completion_length=500"), quiet(tmp_path))


def test_short_run_learns_to_ask(tmp_path):
    """Thirty small steps at the shipped learning rate: asking on q* rises from about 15 %."""
    folder = tmp_path / "run"
    chosen = load_recipe(
        "tiny",
        [
            *(f"output_dir={folder}", "compare={}", "max_steps=30", "prompts_per_step=12"),
            *("device=cpu", "evaluation.enabled=false", "lr_scheduler_type=constant"),
        ],
    )
    run_module.train(chosen, quiet(tmp_path))
    asks = [row["clarification_rate"] for row in read_metrics(folder)]
    right = [row["accuracy"] for row in read_metrics(folder)]
    assert sum(asks[:3]) / 3 < 0.35
    assert sum(asks[-4:]) / 4 > 0.5
    assert sum(right[-4:]) / 4 > 0.7


def test_float16_trains_with_a_loss_scale_that_a_checkpoint_keeps(tmp_path):
    folder = tmp_path / "run"
    run_module.train(recipe(folder, "max_steps=2", "dtype=float16"), quiet(tmp_path))
    state = load_checkpoint(latest_checkpoint(folder).path).state["trainer"]
    assert state["scaler"]["scale"] > 1
    assert any(row["grad_norm"] > 0 for row in read_metrics(folder))
    for name, tensor in adapter(folder).items():
        assert torch.isfinite(tensor).all(), name


@pytest.mark.parametrize(
    ("changes", "interval"),
    [
        (["max_steps=40"], 10),
        (["max_steps=400"], 20),
        (["max_steps=400", "num_mini_batches=2", "num_iterations=2"], 80),
        (["max_steps=100000"], 2000),
    ],
)
def test_a_loss_scale_grows_within_a_run(changes, interval, tmp_path):
    """torch's own 2,000 updates are more than most runs have."""
    assert growth_interval(recipe(tmp_path, *changes)) == interval


def test_a_run_in_float16_has_that_interval(tmp_path):
    folder = tmp_path / "run"
    run_module.train(recipe(folder, "max_steps=2", "dtype=float16"), quiet(tmp_path))
    state = load_checkpoint(latest_checkpoint(folder).path).state["trainer"]["scaler"]
    assert state["growth_interval"] == 10


def test_a_finished_run_does_not_answer_for_another_recipe(tmp_path):
    folder = tmp_path / "run"
    run_module.train(recipe(folder, "max_steps=1"), quiet(tmp_path))
    with pytest.raises(RunDirectoryError, match="learning_rate"):
        run_module.train(recipe(folder, "max_steps=1", "learning_rate=1e-4"), quiet(tmp_path))
    anew = recipe(folder, "max_steps=1", "learning_rate=1e-4", "resume_from_checkpoint=false")
    before = adapter(folder)
    run_module.train(anew, quiet(tmp_path))
    assert any(not torch.equal(before[name], now) for name, now in adapter(folder).items())


def test_checkpointing_recomputes_with_the_same_dropout(tmp_path):
    """Training mode must hold until backward, where checkpointed layers run again."""
    one, other = tmp_path / "plain", tmp_path / "checkpointed"
    run_module.train(recipe(one, "max_steps=1", "lora_dropout=0.1"), quiet(tmp_path))
    run_module.train(
        recipe(other, "max_steps=1", "lora_dropout=0.1", "gradient_checkpointing=true"),
        quiet(tmp_path),
    )
    a, b = read_metrics(one)[0], read_metrics(other)[0]
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_another_dtype_resumes(tmp_path):
    folder = tmp_path / "run"
    run_module.train(recipe(folder, "max_steps=1"), quiet(tmp_path))
    run_module.train(recipe(folder, "max_steps=2", "dtype=float16"), quiet(tmp_path), extend=True)
    assert [row["step"] for row in read_metrics(folder)] == [1, 2]


UPDATES = ("max_steps=2", "num_iterations=2", "num_mini_batches=2", "save_steps=1")
OBJECTIVES = {
    "grpo": ("loss_type=grpo", "beta=0.02", "use_bias_correction_kl=true"),
    "bnpo": ("loss_type=bnpo",),
    "dr_grpo": ("loss_type=dr_grpo", "scale_rewards=none"),
    "cispo": ("loss_type=cispo", "epsilon_high=5.0"),
    "gspo": ("importance_sampling_level=sequence", "epsilon=3e-4", "epsilon_high=4e-4"),
    "sapo": ("loss_type=sapo",),
    "luspo": ("loss_type=luspo", "importance_sampling_level=sequence"),
    "vespo": ("loss_type=vespo",),
    "overlong": ("soft_punish_cache=8",),
    "either kind": ("dynamic_sampling=true", "keep_share=false", "max_refills=1"),
    "entropy bonus": ("entropy_coef=0.01",),
    "clip-cov": ("clip_cov=0.01", "clip_cov_low=0.0"),
    "kl-cov": ("kl_cov=0.01",),
    "top entropy": ("top_entropy_quantile=0.2", "off_policy_mask_threshold=0.1"),
    "hpt": ("demonstrations=hpt", "hpt_gate=0.3"),
    "linear": ("share_schedule.name=linear", "share_schedule.last=0.0"),
    "spo": ("segments={name: spo, samples: 2}",),
}
#: Objectives that remember something from step to step, or draw more than once in one.
STATEFUL = {
    "dynamic": ("dynamic_sampling=true",),
    "steered entropy": ("entropy_target=0.5",),
    "rl-plus": ("demonstrations=rl_plus",),
    "adaptive": (
        *("share_schedule={name: adaptive, low: 0.1, high: 0.6}", "underspecified_weight=0.5"),
        "weight_schedule={name: linear, last: 1.0}",
    ),
    "rae": ("advantage=rae", "prompt_curriculum=eva"),
    "hapo": ("token_weights=hapo",),
    # Rank 32 makes matrices that bitsandbytes holds in 8 bits; smaller ones stay in 32.
    "8 bit": ("optim=adamw_8bit", "lora_r=32"),
    "paged 8 bit": ("optim=paged_adamw_8bit", "lora_r=32"),
}


def assert_learned(folder):
    rows = read_metrics(folder)
    assert any(row["grad_norm"] > 0 for row in rows)
    assert all(math.isfinite(value) for row in rows for value in row.values())


@pytest.mark.parametrize("overrides", OBJECTIVES.values(), ids=OBJECTIVES)
def test_every_objective_trains(overrides, tmp_path):
    run_module.train(recipe(tmp_path / "run", *UPDATES, *overrides), quiet(tmp_path))
    assert_learned(tmp_path / "run")


@pytest.mark.parametrize("overrides", STATEFUL.values(), ids=STATEFUL)
def test_every_state_is_resumed_bit_for_bit(overrides, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    changes = (*UPDATES, "per_device_train_batch_size=7", *overrides)
    run_module.train(recipe(whole, *changes), quiet(tmp_path))
    with pytest.raises(run_module.Interrupted):
        _train_with_signal_in_step(1, recipe(cut, *changes), tmp_path)
    run_module.train(recipe(cut, *changes), quiet(tmp_path))
    assert_equal_adapters(whole, cut)
    assert_learned(whole)


def test_dynamic_sampling_fills_the_step_and_keeps_the_share(tmp_path):
    changes = ("dynamic_sampling=true", "max_refills=6", "share_underspecified=0.5")
    run_module.train(recipe(tmp_path / "run", "max_steps=2", *changes), quiet(tmp_path))
    for row in read_metrics(tmp_path / "run"):
        assert row["refills"] > 0
        assert row["share_underspecified_kept"] == 0.5
        step = (tmp_path / "run/completions" / f"step-{int(row['step']):06d}.jsonl").read_text()
        replies = [json.loads(line) for line in step.splitlines()]
        learned = {r["prompt_id"] for r in replies if r["advantage"]}
        assert len(replies) > 4 * 4  # some were sampled for nothing,
        assert len(learned) == 4  # and the step is whole all the same


def test_a_contradiction_of_the_objective_names_its_line(tmp_path):
    file = tmp_path / "odd.yaml"
    file.write_text("extends: tiny\nclip_cov: 0.1\nkl_cov: 0.1\n")
    with pytest.raises(RecipeError, match=r"odd.yaml:3: kl_cov: expected at most one"):
        run_module.train(load_recipe(file, [*SMALL]), quiet(tmp_path))
    for change, words in {
        "share_schedule.name=cosine": "expected a name among constant, linear, adaptive",
        "share_schedule={name: adaptive, low: 0.5, high: 0.9}": "low <= initial <= high",
        "soft_punish_cache=25": "at most max_completion_length, 24 tokens, found 25",
    }.items():
        with pytest.raises(RecipeError, match=words):
            run_module.train(recipe(tmp_path / "run", change), quiet(tmp_path))


def test_stop_on_ends_the_run_with_its_work_saved(tmp_path):
    made = recipe(tmp_path / "run", "max_steps=4", "max_completion_length=2", "stop_on=cut_off")
    with pytest.raises(run_module.Halted, match=r"after step 1 of 4.*max_completion_length"):
        run_module.train(made, quiet(tmp_path))
    assert latest_checkpoint(tmp_path / "run").path.name == "checkpoint-1"


def test_mini_batches_hold_whole_groups_of_both_kinds():
    group = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3])
    # Four groups, of 3, 1, 2 and 3 rows: dealt out as 0, 2 and 1, 3.
    assert [part.tolist() for part in mini_batches(group, 2)] == [[0, 1, 2, 4, 5], [3, 6, 7, 8]]
    assert len(mini_batches(group[:3], 2)) == 1


def test_compare_on_the_command_line_trains_the_rival_beside_it(tmp_path):
    folder = tmp_path / "run"
    arguments = ["tiny", *SMALL, f"output_dir={folder}", "max_steps=1", "evaluation.enabled=true"]
    arguments.remove("compare={}")
    arguments += ["evaluation.problems=2", "evaluation.runs=1", "evaluation.split=dev"]
    arguments += ["--compare", "rlvr"]
    result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rival = load_recipe(tmp_path / "run-rlvr" / "recipe.yaml")
    assert (rival.share_underspecified, rival.reward["name"]) == (0.0, "accuracy")
    judged = [
        json.loads((place / "eval.json").read_text())
        for place in (folder / "eval", folder / "eval-base", tmp_path / "run-rlvr" / "eval")
    ]
    keys = [set(j["settings"]["full"]["scores"]) for j in judged]
    assert keys[0] == keys[1] == keys[2]
    assert "SHARDED icpo - rlvr" in result.output


def test_mismatch_of_sampling_is_told_and_corrected_off_policy_too(tmp_path):
    folder = tmp_path / "run"
    keys = ["max_steps=1", "num_iterations=2", "importance_sampling_correction=true"]
    run_module.train(recipe(folder, *keys, "share_prompts=true"), quiet(tmp_path))
    row = read_metrics(folder)[0]
    assert row["updates"] == 2
    gap = row["sampling/sampling_logp_difference/max"]
    # The second update's weights are others; the gap is still that of the two programs.
    assert 0 < row["sampling/sampling_logp_difference/mean"] <= gap < 1e-3
    assert row["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-3)


def test_what_was_chosen_by_timing_is_kept_on_resume_where_it_can_run(tmp_path, monkeypatch):
    chosen = recipe(tmp_path / "run", "max_steps=1", "share_prompts=auto")
    run_module.train(chosen, quiet(tmp_path))
    state = load_checkpoint(latest_checkpoint(tmp_path / "run").path).state["trainer"]
    other = {"engine": "generate", "share_prompts": not state["tried"]["share_prompts"]}

    def restored(*overrides):
        made = recipe(tmp_path / "other", *overrides)
        trainer = prepare_session(made, quiet(tmp_path), 1).trainer
        trainer.restore({**state, "tried": other})
        return trainer

    kept = restored("share_prompts=auto", "engine=auto")
    assert kept.sampling.engine == "generate"
    assert kept.updater.logprobs.shared_prompts is other["share_prompts"]
    named = restored("share_prompts=false", "engine=native")
    assert named.sampling.engine == "native"
    assert named.updater.logprobs.shared_prompts is False

    other["share_prompts"] = True
    monkeypatch.setitem(ENGINES, "generate", Engine(None, lambda policy: "another backend"))
    for place in ("training.trainer", "training.prompt_sharing"):
        monkeypatch.setattr(f"icpo_lite.{place}.why_not_shared", lambda policy: "another backend")
    elsewhere = restored("share_prompts=auto", "engine=auto")
    assert elsewhere.sampling.engine == "native"
    assert elsewhere.updater.logprobs.shared_prompts is False
