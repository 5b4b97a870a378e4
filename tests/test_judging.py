"""`eval` and `chat` as a user calls them, on the embedded model."""

import json

import pytest
from click.testing import CliRunner

from icpo_lite.binding import load_model
from icpo_lite.cli.chat import chat
from icpo_lite.cli.eval import eval_
from icpo_lite.errors import ModelError, UsageError
from icpo_lite.judging import named_models
from icpo_lite.recipe import load_recipe, resolved_yaml

ARGUMENTS = ["builtin:tiny", "--problems", "3", "--runs", "2", "--device", "cpu"]


def run_eval(tmp_path, *more):
    out = tmp_path / "out"
    result = CliRunner().invoke(eval_, [*ARGUMENTS, "-o", str(out), *more], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, out


def test_eval_prints_the_table_and_keeps_every_conversation(tmp_path):
    output, out = run_eval(tmp_path)
    for words in ("FULL P", "CONCAT P", "SHARDED P", "SHARDED A90", "SHARDED U", "over-asks on q"):
        assert words in output
    rows = [json.loads(line) for line in (out / "builtin:tiny" / "conversations.jsonl").open()]
    assert len(rows) == 5 * 3 * 2
    assert {r["setting"] for r in rows} == {
        *("full", "concat", "sharded", "clean_history", "underspecified")
    }
    figures = json.loads((out / "comparison.json").read_text())
    scores = [r["score"] for r in rows if r["setting"] == "full"]
    mean = 100 * sum(scores) / len(scores)
    assert figures["builtin:tiny"]["settings"]["full"]["P"]["value"] == pytest.approx(mean)


def test_eval_is_deterministic_from_the_seed(tmp_path):
    (one, _), (two, _) = (run_eval(tmp_path / name, "--settings", "sharded") for name in "ab")
    assert one.partition("Figures and")[0] == two.partition("Figures and")[0]


def test_eval_reads_a_file_of_problems(tmp_path):
    data = tmp_path / "problems.jsonl"
    rows = [
        {
            "question": f"Ann has {n} apples. Ben gives her 4. How many does Ann have now?",
            "answer": f"{n}+4=<<{n}+4={n + 4}>>{n + 4}\n#### {n + 4}",
        }
        for n in (2, 3, 5)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output, _ = run_eval(tmp_path, "--data", str(data), "--settings", "full,sharded")
    assert "3 problems" in output


def test_names_of_compared_models():
    assert named_models("runs/a", "base,rlvr=runs/b") == {
        "a": "runs/a",
        "base": "",
        "rlvr": "runs/b",
    }
    with pytest.raises(UsageError, match="base or NAME=RUN"):
        named_models("runs/a", "runs/b")
    with pytest.raises(UsageError, match="two models"):
        named_models("runs/a", "a=runs/b")


def test_chat_talks_switches_the_adapter_and_leaves():
    typed = "How many apples does Ann have after shopping?\n/base\n/new\n/quit\n"
    arguments = ["builtin:tiny", "--device", "cpu", "--max-new-tokens", "24"]
    result = CliRunner().invoke(chat, arguments, input=typed, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    said = result.output.splitlines()
    assert any("?" in line or "answer is" in line for line in said[2:4])
    assert "it is the base" in result.output


@pytest.mark.parametrize("option", ["--runs", "--problems", "--max-new-tokens"])
def test_nothing_is_no_number_of_anything(option):
    result = CliRunner().invoke(eval_, ["builtin:tiny", option, "0"])
    assert result.exit_code == 2
    assert "0 is not in the range" in result.output


def test_a_broken_adapter_is_refused_in_one_line(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(resolved_yaml(load_recipe("tiny")))
    config = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (run / "adapter_config.json").write_text(json.dumps(config))
    for content, words in ((None, "adapter_model.safetensors, found none"), (b"garbage", "header")):
        if content:
            (run / "adapter_model.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match=words) as error:
            load_model(str(run), device="cpu")
        assert "\n" not in str(error.value)
