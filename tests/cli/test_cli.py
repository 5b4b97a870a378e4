"""The command line: help, suggestions, errors as one line, exit codes, `init`."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from icpo_lite import __version__
from icpo_lite.cli import COMMANDS, LazyGroup, _require_linux, cli, run
from icpo_lite.cli.init import FIRST
from icpo_lite.core import errors
from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.policy.chat_template import chat_text
from icpo_lite.policy.load import tokenizer_of
from icpo_lite.recipe import Recipe, load_recipe
from icpo_lite.rewards.icpo import GuardedOptions


class Interrupted(errors.IcpoError):
    exit_code = 130


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.fixture
def boom(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command `boom` that raises what the test puts into the list."""
    what: list[BaseException] = []

    @click.command()
    @click.option("--colour", help="Unused.")
    def boom_command(colour: str | None) -> None:
        """Fail."""
        raise what[0]

    monkeypatch.setitem(sys.modules, "boom_module", SimpleNamespace(boom=boom_command))  # type: ignore[arg-type]
    monkeypatch.setitem(COMMANDS, "boom", ("boom_module:boom", "Fail."))
    return what


# ---------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help(name: str) -> None:
    found = command(name)
    assert found.help, f"{name} lacks help"
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts} lacks help"
        elif isinstance(parameter, click.Argument):
            metavar = parameter.make_metavar(click.Context(found)).strip("[].")
            assert metavar in found.help or "=" in metavar, (
                f"the help of {name} does not say what {metavar} is"
            )
    result = CliRunner().invoke(cli, [name, "--help"], prog_name="icpo-lite")
    assert result.exit_code == 0
    assert f"icpo-lite {name} " in result.output


def test_help_lists_every_command_and_loads_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a command was loaded to print its help")

    monkeypatch.setattr(LazyGroup, "get_command", never)
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0, result.output
    for name, (_, text) in COMMANDS.items():
        assert f"{name} " in result.output
        assert text in result.output


def test_no_arguments_show_help_and_version_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Usage: icpo-lite" in capsys.readouterr().err
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


# --------------------------------------------------------------------------------- suggestions


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trian"]) == 2
    assert "no command 'trian'; did you mean 'train'?" in capsys.readouterr().err
    assert run(["xyzzy"]) == 2
    assert "no command 'xyzzy'; expected init, " in capsys.readouterr().err


def test_unknown_option_names_the_nearest(
    boom: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["boom", "--color=1"]) == 2
    message = capsys.readouterr().err
    assert "--color" in message
    assert "--colour" in message
    assert run(["--versoin"]) == 2
    assert "--version" in capsys.readouterr().err


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.RecipeError("r.yaml:3: bad"), 2, "Error: r.yaml:3: bad\n"),
        (errors.DataError("two\nlines"), 2, "Error: two lines\n"),
        (errors.ModelError("no such model"), 1, "Error: no such model\n"),
        (errors.NumericsError("loss: nan"), 1, "Error: loss: nan\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x"),
            1,
            "Error: expected room to write at runs/x, found no space left; free some, "
            "then run it again\n",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "a.jsonl"),
            1,
            "Error: expected a file at a.jsonl, found none; check the path\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/locked/x"),
            1,
            "Error: expected to be allowed to use the file at /locked/x, found permission denied\n",
        ),
        (OSError(errno.EIO, "Input/output error"), 1, "Error: Input/output error\n"),
        (
            Interrupted("saved checkpoint-7; run it again"),
            130,
            "saved checkpoint-7; run it again\n",
        ),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
        (SystemExit(3), 3, ""),
    ],
)
def test_errors_become_one_line_and_a_code(
    boom: list[BaseException],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    boom.append(error)
    if isinstance(error, SystemExit):
        with pytest.raises(SystemExit) as stop:
            run(["boom"])
        assert stop.value.code == code
    else:
        assert run(["boom"]) == code
    assert capsys.readouterr() == ("", message)


def test_a_bug_keeps_its_traceback(boom: list[BaseException]) -> None:
    boom.append(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        run(["boom"])


def test_other_systems_are_refused_by_name(
    boom: list[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert run(["boom"]) == 1
    assert "expected Linux or WSL2, found Windows; install WSL2" in capsys.readouterr().err
    with pytest.raises(errors.DeviceError, match="found macOS"):
        _require_linux("darwin")
    with pytest.raises(errors.DeviceError, match="found freebsd14"):
        _require_linux("freebsd14")
    _require_linux("linux")


def test_as_a_program() -> None:
    """`python -m icpo_lite`: exit code and one line on stderr, nothing on stdout."""
    result = subprocess.run(
        [sys.executable, "-m", "icpo_lite", "init", "/nowhere/at/all.yaml"],
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "Error: expected a folder /nowhere/at, found none; create it\n"


def test_telemetry_is_off_before_anything_is_imported() -> None:
    names = ("HF_HUB_DISABLE_TELEMETRY", "UNSLOTH_DISABLE_STATISTICS", "TRANSFORMERS_VERBOSITY")
    code = f"import icpo_lite.cli, os; print([os.environ.get(n) for n in {names}])"
    environment = {k: v for k, v in os.environ.items() if k not in names}
    environment["TRANSFORMERS_VERBOSITY"] = "info"  # the user's choice stays
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert output.stdout == "['1', '1', 'info']\n"


# ---------------------------------------------------------------------------------------- init


def test_init_writes_every_key_with_its_meaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init", "mine.yaml"]) == 0
    text = (tmp_path / "mine.yaml").read_text()
    for name, field in Recipe.model_fields.items():
        if name != "gradient_accumulation_steps":
            assert f"\n{name}:" in text
            assert str(field.description)[:30] in text
    recipe, tiny = load_recipe("mine.yaml"), load_recipe("tiny")
    changed = {k for k, v in recipe.model_dump().items() if v != tiny.model_dump()[k]}
    assert changed == {"output_dir", "compare", "reward"}
    assert recipe.reward["name"] == tiny.reward["name"]
    for name, field in GuardedOptions.model_fields.items():
        assert recipe.reward[name] == field.default
        assert str(field.description)[:30] in text
    assert recipe.output_dir == "runs/mine"
    assert all(len(line) <= 100 for line in text.splitlines())


def test_init_for_another_model_and_data_set(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    assert run(["init", str(path), "--model", "org/model", "--dataset", "my data.jsonl"]) == 0
    recipe, base = load_recipe(path), load_recipe("qwen1.5b")
    assert (recipe.model_name_or_path, recipe.dataset_name) == ("org/model", "my data.jsonl")
    assert (recipe.dataset_config, recipe.columns) == (None, {})
    assert recipe.learning_rate == base.learning_rate
    assert run(["init", str(tmp_path / "hub.yaml"), "--model", "org/model"]) == 0
    assert load_recipe(tmp_path / "hub.yaml").dataset_name == "openai/gsm8k"


def test_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    assert run(["init", str(path)]) == 2
    assert path.read_text() == "precious"
    expected = f"Error: expected no file at {path}, found one; name another path\n"
    assert capsys.readouterr().err == expected


BARE = [
    {
        "frage": f"Ann has {n} boxes of pens. Each box holds {n + 9} pens. How many pens has she?",
        "nummer": n,
        "loesung": n * (n + 9),
    }
    for n in range(3, 63)
]


def test_init_looks_at_the_data_and_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, BARE)) + "\n")
    assert run(["init", "r.yaml", "--dataset", "rows.jsonl"]) == 0
    said = capsys.readouterr().out
    assert "columns question: frage, answer: loesung" in said
    recipe = load_recipe("r.yaml")
    assert recipe.columns == {"question": "frage", "answer": "loesung"}
    assert recipe.eval_holdout > 0
    assert recipe.max_prompt_length + recipe.max_completion_length <= 512
    prompts, _ = training_prompts(recipe)
    tokenizer = tokenizer_of(recipe)
    texts = [chat_text(tokenizer, p.messages) for p in prompts]
    lengths = [len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
    assert max(lengths) <= recipe.max_prompt_length <= max(lengths) + 32
    keys = re.findall(r"^(\w+):", (tmp_path / "r.yaml").read_text(), re.MULTILINE)
    assert tuple(keys[:8]) == FIRST
    assert len(keys) == len(set(keys))
    short = ["max_steps=1", "prompts_per_step=2", "num_generations=2", "num_mini_batches=1"]
    table = ["evaluation.problems=2", "evaluation.runs=1", "compare={}"]
    assert run(["train", "r.yaml", *short, *table]) == 0


def test_init_of_data_in_which_nothing_can_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is the square of {n}, please?", "answer": n * n} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert run(["init", "r.yaml", "--dataset", "rows.jsonl"]) == 0
    assert "worked solutions" in capsys.readouterr().out
    assert load_recipe("r.yaml").share_underspecified == 0
