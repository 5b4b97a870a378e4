"""What a new user types that is not quite right, and what the answer is."""

import fcntl
import json
import os
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from report_cases import write_run

from icpo_lite import cli
from icpo_lite.cli import COMMANDS, GROUPS
from icpo_lite.cli.chat import _slashes_told, chat
from icpo_lite.cli.option_command import OptionCommand
from icpo_lite.core import console
from icpo_lite.core.errors import DataError, RunDirectoryError, UsageError
from icpo_lite.core.fitted import fitted
from icpo_lite.data.logged_rows import logged_rows
from icpo_lite.recipe import Recipe, load_recipe
from icpo_lite.runs.going_on import check_length
from icpo_lite.runs.run_directory import RunDirectory
from icpo_lite.tools.cards import CARDS, card_named, known_card

GIB = 1 << 30


def said(arguments, capsys, code=2):
    assert cli.run([*arguments]) == code
    return capsys.readouterr().err.splitlines()[-1]


def command(name):
    found = cli.cli.get_command(click.Context(cli.cli), name)
    assert found is not None
    return found


# ------------------------------------------------------------------------------- keys and options


@pytest.mark.parametrize("name", ["train", "plan", "preview", "check", "handover", "reproduce"])
@pytest.mark.parametrize(
    ("given", "written"),
    [
        (["--learning_rate", "3"], "learning_rate=3"),
        (["--learning-rate=1e-5"], "learning_rate=1e-5"),
        (["--lr", "1e-5", "max_steps=2"], "learning_rate=1e-5"),
        (["--evaluation.problems", "3"], "evaluation.problems=3"),
        (["--dataset_name=my file.csv"], "dataset_name='my file.csv'"),
        (["--max_steps"], "max_steps=VALUE"),
        (["--use_vllm"], "use_vllm=true"),
    ],
)
def test_a_key_written_as_an_option_is_told_how_to_be_written(name, given, written, capsys):
    line = said([name, "tiny", *given], capsys)
    assert line.endswith(f"keys of the recipe are written without dashes; write {written}")


def test_other_programs_options_are_told_what_stands_for_them_here(capsys):
    assert "use max_steps" in said(["train", "tiny", "--num_train_epochs", "3"], capsys)
    assert "write output_dir=x" in said(["train", "tiny", "-o", "x"], capsys)
    assert "No such option '--nonsense'" in said(["train", "tiny", "--nonsense"], capsys)
    assert "write max_steps=VALUE" in said(["plan", "tiny", "max_steps:", "3"], capsys)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_number_among_the_options_has_a_range(name):
    for option in command(name).params:
        if isinstance(option, click.Option) and isinstance(
            option.type, click.types.IntParamType | click.types.FloatParamType
        ):
            assert isinstance(option.type, click.IntRange | click.FloatRange), option.opts
            assert option.type.min is not None, option.opts


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_no_number_of_an_option_is_infinite(value, capsys):
    assert "--temperature" in said(["chat", "builtin:tiny", "--temperature", value], capsys)
    assert "--ask-cost" in said(["eval", "x", "--ask-cost", value], capsys)


@pytest.mark.parametrize(
    "override",
    [
        *("seed=99999999999", "max_steps=99999999999999999999", "learning_rate=300"),
        *("warm_up_learning_rate=500", "entropy_coef_min=2", "clip_cov_low=9"),
        "evaluation.problems=99999999999",
    ],
)
def test_numbers_of_a_recipe_have_a_range(override, capsys):
    assert override.partition("=")[0] in said(["plan", "tiny", override], capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "builtin:tiny", "--settings", "fll"], "--settings: expected some of full,"),
        (["eval", "builtin:tiny", "--split", "tst"], "--split: expected one of"),
        (["eval", "builtin:tiny", "--device", "tpu"], "--device: expected auto, cpu"),
        (["augment", "odd.csv", "-o", "o"], "--column OURS=THEIRS or set --on-bad-row skip"),
        (["bench", "--model", "./nothing"], "--model: no folder './nothing'"),
        (["bench", "--shapes", "smal"], "--shapes: expected a shape out of"),
        (["bench", "--peers", "lger"], "--peers: expected a peer out of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_names_the_option_that_was_typed(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("odd.csv").write_text("question,number\nHow many?,3\n")
    assert words in said(arguments, capsys)


def test_of_two_servers_the_one_that_was_asked_for_is_named():
    judging = command("eval")
    assert isinstance(judging, OptionCommand)
    told = "found nothing; check endpoint.base_url, endpoint.model and endpoint.api_key_env"
    served = judging.in_options(told, {"endpoint_url": "http://a/v1", "user": "deterministic"})
    assert served.endswith("check --endpoint, --model and --api-key-env")
    user = judging.in_options(told, {"endpoint_url": None, "user": "endpoint"})
    assert user.endswith("check --user-base-url, --user-model and --user-api-key-env")


# ----------------------------------------------------------------------- one thing for another


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("q.jsonl", "q.jsonl is data, no recipe; `icpo-lite init my.yaml --dataset q.jsonl`"),
        ("q.csv", "q.csv is data, no recipe"),
        ("run", "run is a run, no recipe; name its recipe: run/recipe.yaml"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "is a model, no recipe; `icpo-lite init my.yaml --model"),
    ],
)
def test_what_is_no_recipe_is_told_by_what_it_is(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("q.jsonl").write_text('{"question": "a", "answer": 1}\n')
    Path("q.csv").write_text("question,answer\na,1\n")
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text("extends: tiny\n")
    assert words in said(["train", name], capsys)


@pytest.mark.parametrize("given", ["evaluation=false", "evaluation=none", "evaluation=null"])
def test_no_evaluation_is_asked_for_as_it_reads(given):
    assert not load_recipe("tiny", [given]).evaluation.enabled


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("max_steps: 5", "write max_steps=5, without a space"),
        ("evaluation=3", "evaluation: expected a block of options, such as evaluation.NAME=VALUE"),
        ("augment=3", "augment: expected a block of options"),
    ],
)
def test_a_value_of_another_kind_is_told_without_words_of_python(given, words, capsys):
    assert words in said(["plan", "tiny", given], capsys)


@pytest.mark.parametrize("name", ["my.yaml", "rows.jsonl", "report.html"])
def test_a_file_in_a_models_place_is_no_name_of_the_hub(name, capsys):
    assert "expected a run directory, found none at" in said(["chat", name], capsys)


def test_a_folder_of_runs_names_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    write_run(Path("runs/icpo"))
    assert said(["chat", "runs"], capsys).endswith("; it holds runs/icpo")


def test_what_is_no_command_is_told_by_what_it_is(capsys):
    assert "did you mean `icpo-lite train tiny`?" in said(["tiny"], capsys)
    assert "did you mean `icpo-lite train my.yaml`?" in said(["my.yaml"], capsys)
    assert "write icpo-lite train --help" in said(["help", "train"], capsys)


def test_data_that_cannot_be_looked_at_come_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["init", "my.yaml", "--dataset", "none.csv"]) == 0
    told = capsys.readouterr().out
    assert "Next: icpo-lite docs data\n      icpo-lite preview my.yaml\n" in told


# ----------------------------------------------------------------------------- help, completion


def test_every_command_stands_in_one_group():
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) <= set(COMMANDS)
    shown = CliRunner().invoke(cli.cli, ["--help"]).output
    assert re.findall(r"^(\w+):$", shown, re.MULTILINE)[1:5] == [*GROUPS][:4]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_a_shell(shell, capsys):
    assert cli.run(["--completion", shell]) == 0
    assert "_ICPO_LITE_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("icpo-lite tr", "train"),
        ("icpo-lite train ti", "tiny"),
        ("icpo-lite train tiny learning", "learning_rate="),
        ("icpo-lite chat runs/", "runs/icpo"),
        ("icpo-lite docs tr", "troubleshooting"),
        ("icpo-lite train --ext", "--extend"),
    ],
)
def test_commands_recipes_keys_and_runs_are_completed(words, completed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    write_run(Path("runs/icpo"))
    asked = {"_ICPO_LITE_COMPLETE": "bash_complete", "COMP_WORDS": words}
    asked["COMP_CWORD"] = str(words.count(" "))
    result = CliRunner().invoke(cli.cli, [], prog_name="icpo-lite", env=asked)
    assert f"plain,{completed}" in result.output.split()


# ------------------------------------------------------------------------------------------ chat


def test_chat_lists_its_slashes_and_refuses_others():
    assert "/reset" in _slashes_told("/help")
    assert "did you mean /base?" in _slashes_told("/bse")
    assert "/help lists what there is" in _slashes_told("/zzzzzz 3")


def test_a_slash_is_no_turn_unless_it_is_doubled():
    typed = "/help\n/resett\n//reset\n/exit\n"
    arguments = ["builtin:tiny", "--device", "cpu", "--max-new-tokens", "2"]
    result = CliRunner().invoke(chat, arguments, input=typed)
    assert result.exit_code == 0, result.output
    assert "begin a new conversation" in result.output
    assert "no command '/resett'; did you mean /reset?" in result.output
    assert "no command '/reset'" not in result.output


# ------------------------------------------------------------------------------------------ plan


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        *(("T4", 15), ("L4", 24), ("3060", 12), ("3070", 8), ("3080", 10), ("3090", 24)),
        *(("4060 Ti", 16), ("4070", 12), ("4080", 16), ("4090", 24), ("5090", 32)),
        *(("A100", 40), ("H100", 80), ("H200", 141)),
    ],
)
def test_the_cards_that_people_have_are_known(name, gib):
    for spelled in (name, name.lower(), f"RTX {name}", name.replace(" ", "")):
        card = card_named(spelled)
        assert card is CARDS[name]
    assert 0.88 * gib * GIB < card.usable < gib * GIB
    assert card.bandwidth
    assert card.tflops
    assert known_card(f"NVIDIA GeForce RTX {name}", card.usable) is card


@pytest.mark.parametrize("size", ["16.5GB", "0", "16TB", "3095", ""])
def test_what_is_no_card_is_refused(size, capsys):
    assert "--card: expected one of T4," in said(["plan", "tiny", "--card", size or " "], capsys)


def test_plan_describes_this_machine_first(capsys):
    assert cli.run(["plan", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("This machine: ")
    assert " GiB  fits (" in lines[1]
    assert lines[-1] == "Next: icpo-lite train tiny"
    at = [next(i for i, line in enumerate(lines) if line.startswith(card)) for card in CARDS]
    assert min(at) > 1


def test_hours_grow_with_the_model_and_shrink_with_the_card(capsys):
    def seconds(recipe, card):
        assert cli.run(["plan", recipe, "--card", card, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["this_machine"]["estimated_step_seconds"]

    assert seconds("qwen1.5b", "T4") > seconds("qwen1.5b", "3090") > seconds("qwen1.5b", "4090")
    assert seconds("qwen14b", "4090") > seconds("qwen7b", "4090")
    assert seconds("qwen1.5b", "16GB") is None


# ----------------------------------------------------------------------- a run that never began


def test_a_run_that_never_began_leaves_nothing(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="before"), RunDirectory(tmp_path):
        raise ValueError("before it began")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_run_that_has_begun_keeps_its_lock(tmp_path):
    def begin_and_fail():
        with RunDirectory(tmp_path) as run:
            run.write_recipe({"seed": 0})
            raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        begin_and_fail()
    assert (tmp_path / "lock").exists()
    with RunDirectory(tmp_path), pytest.raises(RunDirectoryError, match="found process"):
        RunDirectory(tmp_path)


def test_a_lock_that_its_owner_took_back_is_no_lock(tmp_path):
    """One that was opened before it was deleted, and locked after: the folder has another now."""
    first = RunDirectory(tmp_path)
    opened = os.open(tmp_path / "lock", os.O_RDWR)
    first.__exit__(ValueError, None, None)
    fcntl.flock(opened, fcntl.LOCK_EX)
    with RunDirectory(tmp_path):
        assert (tmp_path / "lock").stat().st_ino != os.fstat(opened).st_ino
    os.close(opened)


@pytest.mark.parametrize("own", ["README.md", "recipe.yaml"])
def test_a_folder_of_the_users_own_is_no_place_for_a_run(own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path(own).write_text("mine")
    line = said(["train", "tiny", "output_dir=."], capsys, code=2)
    assert f"found {own}" in line
    assert [file.name for file in tmp_path.iterdir()] == [own]


def test_a_recipe_that_init_writes_keeps_its_twin(tmp_path):
    assert cli.run(["init", str(tmp_path / "r.yaml")]) == 0
    assert load_recipe(tmp_path / "r.yaml").compare == {"rlvr": "twin"}
    assert Recipe.model_fields["compare"].annotation == dict[str, str]


# --------------------------------------------------------------------------------------- displays


def test_a_notebooks_commands_print_lines(monkeypatch):
    """Its terminal can only add them."""
    monkeypatch.setattr(console.SteadyStream, "isatty", lambda self: True)
    monkeypatch.setenv("TERM", "xterm-color")
    for name in ("CI", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    assert console.on_terminal()
    monkeypatch.setenv("JPY_PARENT_PID", "7")
    assert not console.on_terminal()


def test_the_bar_of_weights_that_are_read_is_hidden_and_that_of_downloads_is_not(monkeypatch):
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging

    from icpo_lite.policy.libraries import hide_loading_bar

    before = are_progress_bars_disabled()
    hide_loading_bar()
    assert not logging.is_progress_bar_enabled()
    assert are_progress_bars_disabled() == before


@pytest.mark.parametrize(
    ("said_by_the_library", "told"),
    [
        ("We couldn't connect to 'https://huggingface.co'.", "; check the name and the network"),
        ("Unrecognized model in x.", ""),
    ],
)
def test_a_hub_that_does_not_answer_comes_with_what_to_do(said_by_the_library, told):
    from icpo_lite.policy.libraries import why_and_what

    line = why_and_what(OSError(said_by_the_library), "org/model")
    assert (told in line) if told else (line == "Unrecognized model in x")


def test_prose_fits_the_terminal_and_is_whole_elsewhere(monkeypatch):
    text = "a word " * 40
    assert fitted(text) == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, fitted(text).splitlines())) <= 80


# ------------------------------------------------------------------------------ what is no text


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "odd.jsonl"],
        ["augment", "odd.jsonl", "-o", "out"],
        ["train", "odd.yaml"],
        ["train", "tiny", "dataset_name=odd.jsonl"],
        ["train", "tiny", "dataset_name=odd.csv"],
        ["export", "odd"],
        ["chat", "odd"],
    ],
    ids=" ".join,
)
def test_bytes_that_are_no_text_are_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    odd = bytes(range(256)) * 4
    Path("odd").mkdir()
    for name in (*("odd.jsonl", "odd.csv", "odd.yaml"), "odd/recipe.yaml", "odd/eval.json"):
        Path(name).write_bytes(odd)
    Path("odd/adapter_config.json").write_bytes(odd)
    line = said(arguments, capsys)
    assert line.startswith("Error: ")
    assert "odd" in line


def test_replies_that_are_no_text_are_told_with_their_place(tmp_path):
    (tmp_path / "completions").mkdir()
    file = tmp_path / "completions" / "step-000001.jsonl"
    file.write_bytes('{"a": "one\u2028line"}\n\n'.encode() + bytes(range(256)))
    rows = logged_rows(tmp_path, ["a"])
    assert next(rows) == (file.name, {"a": "one\u2028line"})
    with pytest.raises(DataError, match=r"step-000001.jsonl:3: expected a completion"):
        next(rows)


def test_a_checkpoint_that_is_not_there_is_told_before_the_model_is_loaded(tmp_path):
    recipe = load_recipe("tiny", ["resume_from_checkpoint=nowhere", f"output_dir={tmp_path}"])
    with pytest.raises(UsageError, match="expected a checkpoint's folder, found none at nowhere"):
        check_length(tmp_path, recipe, extend=False)


def test_data_in_words_that_the_model_cannot_read_is_told_before_training(tmp_path, monkeypatch):
    """The tiny model reads its own world's words alone; `train` said so, after a minute."""
    monkeypatch.chdir(tmp_path)
    question = "Mia harvests {} artichokes before breakfast. How many artichokes has Mia harvested?"
    rows = [f'"{question.format(n)}",{n}' for n in range(3, 9)]
    Path("problems.csv").write_text("question,answer\n" + "\n".join(rows) + "\n")
    for arguments in (["init", "my.yaml", "--dataset", "problems.csv"], ["preview", "my.yaml"]):
        done = CliRunner().invoke(cli.cli, arguments)
        assert done.exit_code == 0, done.output
        assert "of the prompts' tokens are unknown to this model's tokenizer" in done.output
    done = CliRunner().invoke(cli.cli, ["preview", "tiny", "-n", "1"])
    assert "unknown to this model" not in done.output
