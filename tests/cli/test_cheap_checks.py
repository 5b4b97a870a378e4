"""What can be wrong without a model is told before one is loaded: here loading one is an error."""

import json
from pathlib import Path

import pytest
from report_cases import write_run

from icpo_lite import cli
from icpo_lite.policy import load as loading

ROW = {"question": "Ann has 3 apples and buys 4 more. How many has she?", "answer": "3+4=7 #### 7"}
SELF = ("--method", "self", "--model", "run")
MISTYPED = ("runs/icpoo", "./nothing", "/no/such/run", "run/checkpoint-7", "icpoo", "a/b/c")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Runs `run` and `runs/icpo`, a corpus, and a loader that must not be reached."""
    monkeypatch.chdir(tmp_path)
    for run in (Path("run"), Path("runs/icpo"), Path("icpo")):
        run.parent.mkdir(exist_ok=True)
        write_run(run)
        (run / "run.json").write_text("{}")
        (run / "adapter_config.json").write_text("{}")
        (run / "recipe.yaml").write_text("extends: tiny\n")
    Path("q.jsonl").write_text(json.dumps(ROW) + "\n")
    Path("replies.jsonl").write_text('{"assistant": "7", "task": "math"}\n')
    Path("bad.jsonl").write_text("{half\n")
    Path("empty").mkdir()
    Path("mine.txt").write_text("mine")

    def loaded(*arguments, **named):
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(loading, "load_tokenizer", loaded)
    monkeypatch.setattr(loading, "_text_config", loaded)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("httpx.Client.send", loaded)
    return tmp_path


def said(arguments, capsys):
    code = cli.run([*arguments])
    text = capsys.readouterr().err
    assert code in (1, 2), text
    assert "Traceback" not in text
    return text.splitlines()[-1]


def test_the_loader_would_be_seen(place):
    with pytest.raises(AssertionError, match="a model is loaded"):
        cli.run(["eval", "run", "--problems", "1", "--runs", "1"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "run", "-o", "mine.txt"], "expected a folder to write, found a file"),
        (["eval", "run", "--settings", "fulll"], "settings: expected some of"),
        (["eval", "run", "--split", "tst"], "tst"),
        (["eval", "run", "--data", "bad.jsonl"], "bad.jsonl"),
        (["eval", "run", "--data", "nothing.jsonl"], "nothing.jsonl"),
        (["eval", "run", "--user", "endpoint"], "expected a server"),
        (["eval", "run", "--compare", "other=runs/icpoo"], "expected a run directory, found none"),
        (["eval", "run", "--compare", "../x=runs/icpo"], "expected a plain name"),
        (["eval", "empty"], "found neither recipe.yaml nor config.json"),
        (["export", "run", "-o", "mine.txt"], "expected a folder to write, found a file"),
        (["export", "run", "--push", "no name"], "no name"),
        (["export", "builtin:tiny"], "found a bare model"),
        (["augment", "bad.jsonl", "-o", "o", *SELF], "bad.jsonl"),
        (["augment", "nothing.jsonl", "-o", "o", *SELF], "nothing.jsonl"),
        (["augment", "q.jsonl", "-o", "mine.txt", *SELF], "found another file"),
        (
            ["augment", "q.jsonl", "-o", "o", *SELF, "--removal", "spread", "--spread-from", "rn"],
            "expected a run directory, found none at rn",
        ),
        (["augment", "q.jsonl", "-o", "o", *SELF, "--column", "x"], "OURS=THEIRS"),
        (["classify", "bad.jsonl", "--judge", "self", "--model", "run"], "bad.jsonl"),
        (
            ["classify", "replies.jsonl", "--judge", "self", "--model", "run", "-o", "mine.txt"],
            "found another file",
        ),
        (["bench", "--peers", "lger"], "expected a peer out of"),
        (["bench", "--shapes", "smal"], "expected a shape out of"),
        (["bench", "--model", "./nothing"], "no folder"),
        (["bench", "-o", "mine.txt"], "found another file"),
        (["preview", "tiny", "dataset_name=bad.jsonl"], "bad.jsonl"),
        (["preview", "tiny", "dataset_train_split=trn"], "trn"),
        (["train", "tiny", "output_dir=mine.txt/x"], "found a file"),
        (["train", "tiny", "output_dir=t", "dataset_name=bad.jsonl"], "bad.jsonl"),
        (
            ["train", "tiny", "output_dir=t", "dataset_name=bad.jsonl", "augment={method: self}"],
            "bad.jsonl",
        ),
        (["train", "tiny", "output_dir=t", "dataset_train_split=trn"], "trn"),
        (["train", "tiny", "output_dir=t", "evaluation.split=tst"], "tst"),
        (["train", "tiny", "output_dir=t", "evaluation.settings=[fll]"], "fll"),
        (["train", "tiny", "output_dir=t", "evaluation.dataset_name=bad.jsonl"], "bad.jsonl"),
        (["train", "tiny", "output_dir=t", "eval_steps=1", "eval_split=tst"], "tst"),
        (["train", "tiny", "output_dir=t", "engine=fast"], "engine"),
        (["train", "tiny", "output_dir=t", "use_vllm=true", "device=cpu"], "vllm"),
        (["train", "tiny", "output_dir=t", "report_to=wndb"], "report_to"),
        (["train", "tiny", "output_dir=t", "reward.name=icp"], "reward"),
        (["train", "tiny", "output_dir=t", "model_name_or_path=runs/icpoo"], "runs/icpoo"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_is_told_first(arguments, words, place, capsys):
    assert words in said(arguments, capsys)
    assert not Path("t").exists()
    assert Path("mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", MISTYPED)
@pytest.mark.parametrize(
    "command",
    [
        *(["report", "NAME"], ["eval", "NAME"], ["chat", "NAME"], ["export", "NAME"]),
        ["eval", "run", "--compare", "x=NAME"],
        ["classify", "replies.jsonl", "--judge", "self", "--model", "NAME"],
        ["augment", "q.jsonl", "-o", "o", "--method", "self", "--model", "NAME"],
        ["augment", "q.jsonl", "-o", "o", "--removal", "spread", "--spread-from", "NAME"],
    ],
    ids=lambda words: " ".join(words),
)
def test_a_mistyped_run_is_told_alike_and_no_hub_is_asked(command, name, place, capsys):
    line = said([part.replace("NAME", name) for part in command], capsys)
    assert "expected a run directory, found none at " in line
    assert name.removeprefix("./") in line
    assert "give the folder that `icpo-lite train` wrote" in line
    if name in ("runs/icpoo", "icpoo"):
        assert line.endswith(f"did you mean {name[:-1]}?")


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B-Instruct", "org/model"])
def test_a_name_of_the_hub_is_one(name, place):
    from icpo_lite.policy.from_recipe import find_model

    assert find_model(name).name == name
