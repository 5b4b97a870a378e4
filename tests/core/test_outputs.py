"""No output destroys an input, a run or a stranger's file: all commands that have an output."""

import json
import os
from pathlib import Path

import click
import pytest
from report_cases import write_run

from icpo_lite import cli
from icpo_lite.core.errors import UsageError
from icpo_lite.core.outputs import Kind, check_output, rows_with

PROBLEM = {
    "question": "A box holds 6 rows of 8 eggs. Ann buys 3 boxes. How many eggs has Ann bought?",
    "answer": "A box holds 6*8=<<6*8=48>>48 eggs.\nAnn has 3*48=<<3*48=144>>144.\n#### 144",
}
REPLY = {"assistant": "The answer is 3.", "task": "math"}
BENCH = [
    "bench",
    "--part",
    "logprob",
    "--cpu",
    "--shapes",
    "small",
    "--tokens",
    "4",
    "--peers",
    "none",
    "--repeats",
    "1",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("q.jsonl").write_text(json.dumps(PROBLEM) + "\n")
    Path("replies.jsonl").write_text(json.dumps(REPLY) + "\n")
    write_run(Path("run"))
    Path("run/run.json").write_text("{}")
    Path("run/adapter_config.json").write_text("{}")
    Path("mine.txt").write_text("what a person wrote\n")
    Path("folder").mkdir()
    Path("folder/mine.txt").write_text("what a person wrote\n")
    return tmp_path


ADVISE = (
    *("advise", "run/recipe.yaml", "dataset_name=builtin:world", "prompts_per_step=2"),
    *("num_generations=2", "max_completion_length=4", "--steps", "1", "--device", "cpu"),
)
#: Command → its arguments before -o, and an input that it reads.
FILES = {
    "augment": (["augment", "q.jsonl"], "q.jsonl"),
    "classify": (["classify", "replies.jsonl"], "replies.jsonl"),
    "report": (["report", "run"], "run/metrics.jsonl"),
    "bench": (BENCH, "run/recipe.yaml"),
    "advise": (list(ADVISE), "run/recipe.yaml"),
}
FOLDERS = {
    "eval": (["eval", "run", "--data", "q.jsonl"], "run"),
    "export": (["export", "run"], "run"),
    "reproduce": (["reproduce", "run/recipe.yaml"], "run"),
    "handover": (["handover", "run/recipe.yaml", "--to", "trl"], "run"),
}
#: Options that name what is looked at or made anew, and where the command proves that it writes
#: over nothing: doctor looks at --output-dir, init writes only where there is no file.
NO_OUTPUT = {"doctor", "init"}


def snapshot(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(arguments, capsys):
    """The one line that a command ends with."""
    code = cli.run(arguments)
    said = capsys.readouterr()
    assert code == 2, said
    *usage, line = said.err.splitlines()
    assert line.startswith("Error: ")
    assert not usage or usage[0].startswith("Usage: ")
    return line


def test_every_command_with_an_output_is_walked():
    found = set()
    for name in cli.COMMANDS:
        command = cli.cli.get_command(click.Context(cli.cli), name)
        options = {o for p in command.params for o in p.opts}
        paths = [p for p in command.params if isinstance(p, click.Argument) and p.name == "path"]
        if options & {"-o", "--output", "--out", "--output-dir"} or paths:
            found.add(name)
    assert found == FILES.keys() | FOLDERS.keys() | NO_OUTPUT


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize("target", ["input", "link", "hard link", "./input", "stranger", "folder"])
def test_a_file_that_is_not_the_commands_own_stays(command, target, place, capsys):
    arguments, read = FILES[command]
    Path("link").symlink_to(read)
    os.link(read, "hard")
    output = {
        "input": read,
        "link": "link",
        "hard link": "hard",
        "./input": f"./folder/../{read}",
        "stranger": "mine.txt",
        "folder": "folder",
    }[target]
    before = snapshot(place)
    refused([*arguments, "-o", output], capsys)
    assert snapshot(place) == before


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize(
    "target",
    [
        *("run/metrics.jsonl", "run/recipe.yaml", "run/run.json", "run/lock", "run/finished"),
        *("run/completions/step-000001.jsonl", "run/checkpoint-1/state.json", "run"),
        *("run/eval/eval.json", "run/adapter_model.safetensors"),
    ],
)
def test_no_file_of_a_run_is_written_even_by_force(command, target, place, capsys):
    before = snapshot(place)
    refused([*FILES[command][0], "-o", target, "--force"], capsys)
    assert snapshot(place) == before


@pytest.mark.parametrize("command", FILES)
def test_its_own_file_is_replaced_and_a_strangers_by_force_alone(command, place, capsys):
    arguments, read = FILES[command]
    for output, extra in (("out", []), ("out", []), ("mine.txt", ["--force"])):
        assert cli.run([*arguments, "-o", output, *extra]) == 0, capsys.readouterr()
    assert Path("mine.txt").read_text() != "what a person wrote\n"
    before = Path(read).read_bytes()
    assert cli.run([*arguments, "-o", read, "--force"]) == 2
    assert Path(read).read_bytes() == before
    Path("empty").touch()  # as mktemp leaves it
    assert cli.run([*arguments, "-o", "empty"]) == 0


@pytest.mark.parametrize("command", FOLDERS)
@pytest.mark.parametrize(
    "target", ["folder", ".", "run", "mine.txt", "run/completions", "run/eval"]
)
def test_a_folder_that_is_not_the_commands_own_stays(command, target, place, capsys):
    before = snapshot(place)
    refused([*FOLDERS[command][0], "-o", target], capsys)
    assert snapshot(place) == before


def test_an_export_is_not_written_over_the_model_that_it_stands_on(place, capsys):
    """The base of a run may itself be an export, which a later export may else replace."""
    Path("base").mkdir()
    Path("base/export.json").write_text("{}")
    Path("base/config.json").write_text("{}")
    Path("run/recipe.yaml").write_text("extends: tiny\nmodel_name_or_path: ./base\n")
    assert "than what is read" in refused(["export", "run", "-o", "base"], capsys)
    assert Path("base/config.json").is_file()


def test_figures_of_a_person_are_not_drawn_over(place, capsys):
    Path("r-figures").mkdir()
    Path("r-figures/reward.png").write_bytes(b"a photograph")
    refused(["report", "run", "-o", "r.html", "--png"], capsys)
    assert Path("r-figures/reward.png").read_bytes() == b"a photograph"


def test_init_never_writes_over_a_file(place, capsys):
    refused(["init", "mine.txt"], capsys)
    assert Path("mine.txt").read_text() == "what a person wrote\n"


KIND = Kind("rows of mine", rows_with("mine"))


def test_a_device_is_no_place_for_a_file():
    with pytest.raises(UsageError, match="found a device"):
        check_output("/dev/null", KIND)


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"expected a folder at .*file, found a file"):
        check_output(tmp_path / "file/deep/out", KIND)
    if os.geteuid():
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(UsageError, match="can be written"):
            check_output(tmp_path / "shut/out", KIND)


def test_a_new_file_beside_a_runs_own_is_fine(place):
    for name in ("run/report.html", "run/notes/rows.jsonl", "new/rows.jsonl"):
        assert check_output(name, KIND) == Path(name)
